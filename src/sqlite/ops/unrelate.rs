use super::shared::Target;
use crate::error::Result;
use crate::request::Unrelate;
use crate::sqlite::tables::relations;
use crate::sqlite::txn::Txn;

/// How many there were.
pub fn run(txn: &mut Txn<'_>, request: &Unrelate) -> Result<u64> {
    let Unrelate { collection, source, target: to, kind } = request;
    let target = Target::find(txn.conn, collection)?;
    let stamp = txn.stamp();
    relations::delete(txn.conn, stamp, target.id(), source, to, kind.as_deref())
}
