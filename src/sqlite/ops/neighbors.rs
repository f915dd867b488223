use rusqlite::{Connection, params};

use crate::error::Result;
use crate::model::{Chunk, check_id};
use crate::request::Neighbors;
use crate::sqlite::sql;
use crate::sqlite::tables::{chunks, collections};

pub fn run(conn: &Connection, request: &Neighbors) -> Result<Vec<Chunk>> {
    check_id("chunk id", &request.chunk_id)?;
    let collection = collections::require(conn, &request.collection)?;
    let found: Option<(i64, i64)> = sql::query_optional(
        conn,
        "SELECT document_id, chunk_index FROM chunks WHERE collection_id = ?1 AND uid = ?2",
        params![collection.id, request.chunk_id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let Some((document, index)) = found else { return Ok(Vec::new()) };
    let select = format!(
        "SELECT {} FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.document_id = ?1 AND c.chunk_index",
        chunks::COLUMNS
    );
    let limit = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut before = sql::query_all(
        conn,
        &format!("{select} < ?2 ORDER BY c.chunk_index DESC LIMIT ?3"),
        params![document, index, limit(request.before)],
        chunks::read,
    )?;
    before.reverse();
    let after = sql::query_all(
        conn,
        &format!("{select} >= ?2 ORDER BY c.chunk_index LIMIT ?3"),
        params![document, index, limit(request.after).saturating_add(1)],
        chunks::read,
    )?;
    before.extend(after);
    Ok(before)
}
