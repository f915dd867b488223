use crate::error::{Error, ErrorKind, Result};
use crate::model::check_name;
use crate::request::AddPeer;
use crate::sqlite::tables::sync_peers;
use crate::sqlite::txn::Txn;

pub fn run(txn: &Txn<'_>, request: &AddPeer) -> Result<()> {
    check_name("name", &request.name)?;
    check_name("endpoint", &request.endpoint)?;
    if sync_peers::insert(txn.conn, txn.now, &request.name, &request.endpoint)? {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!("there is a peer {:?} already; remove_peer it first, or give another name", request.name),
    ))
}
