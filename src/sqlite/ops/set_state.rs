use crate::error::Result;
use crate::model::{StateEntry, check_key, check_name};
use crate::request::SetState;
use crate::sqlite::tables::state;
use crate::sqlite::txn::{Progress, Txn};

/// Whether they were set: not where one is not what is expected.
pub fn run(txn: &mut Txn<'_>, request: &SetState, progress: &Progress) -> Result<bool> {
    let SetState { namespace, entries, expires_at, expected } = request;
    check_name("namespace", &namespace.name)?;
    for (key, _) in entries {
        check_key("key", key)?;
        if !state::as_expected(txn.conn, namespace, txn.now, key, expected)? {
            return Ok(false);
        }
    }
    let stamp = txn.stamp();
    for (key, value) in entries {
        txn.check(progress)?;
        let (key, value) = (key.clone(), value.clone());
        let entry = StateEntry { key, value, expires_at: *expires_at, updated_at: txn.now };
        state::put(txn.conn, stamp, namespace, &entry)?;
    }
    Ok(true)
}
