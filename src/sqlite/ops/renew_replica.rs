use crate::error::Result;
use crate::sqlite::file_system;
use crate::sqlite::tables::{meta, replicas};
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>) -> Result<()> {
    replicas::renew(txn.conn)?;
    replicas::note_file(txn.conn, file_system::number_of(txn.conn))?;
    // Of the new replica, and later than all that is stamped.
    let clock = meta::clock(txn.conn)?;
    txn.set_clock(clock.tick(txn.now.millis()));
    Ok(())
}
