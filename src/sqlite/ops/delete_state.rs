use crate::error::Result;
use crate::model::check_name;
use crate::request::DeleteState;
use crate::sqlite::tables::state;
use crate::sqlite::txn::{Progress, Txn};

/// Keys that are read at a time.
const PAGE: usize = 1000;

/// How many were there.
pub fn run(txn: &mut Txn<'_>, request: &DeleteState, progress: &Progress) -> Result<u64> {
    let DeleteState { namespace, keys, expected } = request;
    check_name("namespace", &namespace.name)?;
    let stamp = txn.stamp();
    let mut deleted = 0;
    let mut delete = |key: &str| -> Result<()> {
        txn.check(progress)?;
        if state::get(txn.conn, namespace, txn.now, key)?.is_some()
            && state::as_expected(txn.conn, namespace, txn.now, key, expected)?
        {
            state::delete(txn.conn, stamp, namespace, key)?;
            deleted += 1;
        }
        Ok(())
    };
    if let Some(keys) = keys {
        keys.iter().try_for_each(|key| delete(key))?;
        return Ok(deleted);
    }
    let mut from = String::new();
    loop {
        let entries = state::from(txn.conn, namespace, txn.now, &from, PAGE)?;
        entries.iter().try_for_each(|entry| delete(&entry.key))?;
        match entries.into_iter().last() {
            // What stays is not what is expected; the next page begins with it.
            Some(last) if last.key != from => from = last.key,
            _ => return Ok(deleted),
        }
    }
}
