use rusqlite::{Connection, params};

use crate::error::Result;
use crate::model::{Chunk, Timestamp, check_id};
use crate::sqlite::sql;
use crate::sqlite::tables::expiry::alive;
use crate::sqlite::tables::{chunks, collections, tombstones};

/// Every chunk of a document, by index.
pub fn run(conn: &Connection, collection: &str, document_id: &str) -> Result<Vec<Chunk>> {
    check_id("document id", document_id)?;
    let collection = collections::require(conn, collection)?;
    let Some(document) = tombstones::document_of(conn, collection.id, document_id)? else { return Ok(Vec::new()) };
    let text = format!("{} ORDER BY c.chunk_index", select());
    sql::query_all(conn, &text, params![document.id, Timestamp::now().0], chunks::read)
}

/// One of them.
pub fn by_index(conn: &Connection, collection: &str, document_id: &str, index: u64) -> Result<Option<Chunk>> {
    check_id("document id", document_id)?;
    let collection = collections::require(conn, collection)?;
    let Some(document) = tombstones::document_of(conn, collection.id, document_id)? else { return Ok(None) };
    let text = format!("{} AND c.chunk_index = ?3", select());
    // No stored index is over that of a signed integer.
    let index = i64::try_from(index).unwrap_or(i64::MAX);
    sql::query_optional(conn, &text, params![document.id, Timestamp::now().0, index], chunks::read)
}

fn select() -> String {
    format!(
        "SELECT {} FROM documents d JOIN chunks c ON c.document_id = d.id WHERE d.id = ?1 AND {}",
        chunks::COLUMNS,
        alive(2)
    )
}
