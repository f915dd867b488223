use rusqlite::{Connection, params};

use crate::error::Result;
use crate::model::{Chunk, Timestamp, check_id};
use crate::sqlite::sql;
use crate::sqlite::tables::expiry::alive;
use crate::sqlite::tables::{chunks, collections};

pub fn run(conn: &Connection, collection: &str, chunk_ids: &[String]) -> Result<Vec<Option<Chunk>>> {
    let collection = collections::require(conn, collection)?;
    let text = format!(
        "SELECT {} FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.collection_id = ?1 AND c.uid = ?2 AND {}",
        chunks::COLUMNS,
        alive(3)
    );
    let now = Timestamp::now().0;
    let one = |uid: &String| {
        check_id("chunk id", uid)?;
        sql::query_optional(conn, &text, params![collection.id, uid, now], chunks::read)
    };
    chunk_ids.iter().map(one).collect()
}
