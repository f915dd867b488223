use crate::error::Result;
use crate::request::LogSync;
use crate::sqlite::tables::sync_peers;
use crate::sqlite::txn::Txn;

pub fn run(txn: &Txn<'_>, request: &LogSync) -> Result<()> {
    sync_peers::log(txn.conn, txn.now, request)
}
