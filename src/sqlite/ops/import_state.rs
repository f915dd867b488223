use rusqlite::Connection;

use super::shared::on_other_content;
use crate::error::Result;
use crate::model::{Imported, NewStateEntry, OnConflict, StateEntry, Timestamp, check_key, check_name};
use crate::request::ImportState;
use crate::sqlite::tables::state;
use crate::sqlite::txn::{Progress, Txn};

/// What became of each.
pub fn run(txn: &mut Txn<'_>, request: &ImportState, progress: &Progress) -> Result<Vec<Imported>> {
    let stamp = txn.stamp();
    let one = |(index, new): (usize, &NewStateEntry)| {
        txn.check(progress)?;
        let outcome = outcome(txn.conn, new, request.on_conflict, txn.now)
            .map_err(|error| error.context(format!("state {index}")))?;
        if outcome == Imported::Stored {
            state::put(txn.conn, stamp, &new.namespace, &StateEntry::new(new, txn.now))?;
        }
        Ok(outcome)
    };
    request.entries.iter().enumerate().map(one).collect()
}

/// What is to become of a value, before it is stored.
fn outcome(conn: &Connection, new: &NewStateEntry, on_conflict: OnConflict, now: Timestamp) -> Result<Imported> {
    let NewStateEntry { namespace, key, value, expires_at } = new;
    check_name("namespace", &namespace.name)?;
    check_key("key", key)?;
    if expires_at.is_some_and(|at| at <= now) {
        return Ok(Imported::Gone);
    }
    let Some(old) = state::get(conn, namespace, now, key)? else { return Ok(Imported::Stored) };
    if old.value.same(value)? {
        return Ok(Imported::Unchanged);
    }
    on_other_content(on_conflict, || {
        let local = if namespace.local { "local " } else { "" };
        format!("the {local}namespace {:?} has the key {key:?} with another value", namespace.name)
    })
}
