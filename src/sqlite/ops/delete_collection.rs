use super::shared::{self, Target};
use crate::error::Result;
use crate::request::DeleteCollection;
use crate::sqlite::tables::changes::{self, Entity};
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &DeleteCollection) -> Result<()> {
    let target = Target::find(txn.conn, &request.name)?;
    let stamp = txn.stamp();
    // The collection's own tombstone covers all that was in it.
    changes::bury(txn.conn, stamp, 0, Entity::Collection, &request.name)?;
    shared::drop_collection(txn, stamp, &target)
}
