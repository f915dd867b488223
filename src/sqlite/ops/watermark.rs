use rusqlite::Connection;

use crate::error::Result;
use crate::sqlite::tables::replicas;
use crate::sync::{ReplicaId, Watermark};

/// Who this store is, and how much of each replica it has.
pub fn run(conn: &Connection) -> Result<(ReplicaId, Watermark)> {
    Ok((replicas::own(conn)?, replicas::watermark(conn)?))
}
