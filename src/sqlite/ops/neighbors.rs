use rusqlite::{Connection, params};

use crate::error::Result;
use crate::model::{Chunk, Timestamp, check_id};
use crate::request::Neighbors;
use crate::sqlite::sql;
use crate::sqlite::tables::expiry::alive;
use crate::sqlite::tables::{chunks, collections};

pub fn run(conn: &Connection, request: &Neighbors) -> Result<Vec<Chunk>> {
    check_id("chunk id", &request.chunk_id)?;
    let collection = collections::require(conn, &request.collection)?;
    let now = Timestamp::now().0;
    let found: Option<(i64, i64)> = sql::query_optional(
        conn,
        &format!(
            "SELECT c.document_id, c.chunk_index FROM chunks c JOIN documents d ON d.id = c.document_id
             WHERE c.collection_id = ?1 AND c.uid = ?2 AND {}",
            alive(3)
        ),
        params![collection.id, request.chunk_id, now],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let Some((document, index)) = found else { return Ok(Vec::new()) };
    let select = format!(
        "SELECT {} FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.document_id = ?1 AND {}
         AND c.chunk_index",
        chunks::COLUMNS,
        alive(4)
    );
    let limit = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut before = sql::query_all(
        conn,
        &format!("{select} < ?2 ORDER BY c.chunk_index DESC LIMIT ?3"),
        params![document, index, limit(request.before), now],
        chunks::read,
    )?;
    before.reverse();
    let after = sql::query_all(
        conn,
        &format!("{select} >= ?2 ORDER BY c.chunk_index LIMIT ?3"),
        params![document, index, limit(request.after).saturating_add(1), now],
        chunks::read,
    )?;
    before.extend(after);
    Ok(before)
}
