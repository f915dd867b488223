use crate::error::{Error, ErrorKind, Result};
use crate::request::RemovePeer;
use crate::sqlite::tables::sync_peers;
use crate::sqlite::txn::Txn;

pub fn run(txn: &Txn<'_>, request: &RemovePeer) -> Result<()> {
    if sync_peers::delete(txn.conn, &request.name)? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotFound, format!("there is no peer {:?}; peers() names them", request.name)))
}
