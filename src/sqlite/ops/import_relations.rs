use rusqlite::Connection;

use super::relate::check;
use super::shared::{is_there, on_other_content};
use crate::error::Result;
use crate::model::{Imported, NewRelation, OnConflict, Relation, Timestamp};
use crate::request::ImportRelations;
use crate::sqlite::tables::{collections, relations};
use crate::sqlite::txn::{Progress, Txn};

/// What became of each.
pub fn run(txn: &mut Txn<'_>, request: &ImportRelations, progress: &Progress) -> Result<Vec<Imported>> {
    let id = collections::require(txn.conn, &request.collection)?.id;
    let stamp = txn.stamp();
    let one = |(index, new): (usize, &NewRelation)| {
        txn.check(progress)?;
        let outcome = outcome(txn.conn, id, new, request.on_conflict, txn.now)
            .map_err(|error| error.context(format!("relation {index}")))?;
        if outcome == Imported::Stored {
            relations::put(txn.conn, stamp, id, &Relation::new(new, txn.now))?;
        }
        Ok(outcome)
    };
    request.relations.iter().enumerate().map(one).collect()
}

/// What is to become of a relation, before it is stored.
fn outcome(
    conn: &Connection,
    collection_id: i64,
    new: &NewRelation,
    on_conflict: OnConflict,
    now: Timestamp,
) -> Result<Imported> {
    check(new)?;
    let NewRelation { source, target, kind, strength, metadata } = new;
    if !is_there(conn, collection_id, source, now)? || !is_there(conn, collection_id, target, now)? {
        return Ok(Imported::Gone);
    }
    let Some(old) = relations::get(conn, collection_id, source, kind, target)? else { return Ok(Imported::Stored) };
    if old.strength == *strength && old.metadata.same(metadata)? {
        return Ok(Imported::Unchanged);
    }
    on_other_content(on_conflict, || {
        format!("there is a relation {kind:?} from {source:?} to {target:?} of another strength or with other metadata")
    })
}
