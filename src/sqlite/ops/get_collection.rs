use rusqlite::Connection;

use crate::error::Result;
use crate::model::CollectionInfo;
use crate::sqlite::tables::collections;

/// One collection.
pub fn run(conn: &Connection, name: &str) -> Result<CollectionInfo> {
    let row = collections::require(conn, name)?;
    collections::info(conn, row)
}

/// All of them, by name.
pub fn list(conn: &Connection) -> Result<Vec<CollectionInfo>> {
    collections::list(conn)?.into_iter().map(|row| collections::info(conn, row)).collect()
}
