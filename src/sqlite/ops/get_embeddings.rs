use rusqlite::Connection;

use super::shared::{self, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;
use crate::sqlite::tables::spaces;
use crate::sqlite::tables::vectors::Reader;
use crate::store::Vectors;

pub fn run(conn: &Connection, collection: &str, chunk_ids: &[String], space: &str) -> Result<Vectors> {
    let target = Target::find(conn, collection)?;
    let table = spaces::require(conn, target.id(), space)?.table();
    let chunks = shared::require_chunks(conn, &target, chunk_ids, Timestamp::now())?;
    let Some(table) = table else {
        return match chunk_ids {
            [] => Ok(Vectors { values: Vec::new(), dimension: 0 }),
            ids => Err(without_embedding(&ids.iter().collect::<Vec<_>>(), space)),
        };
    };
    let mut values = vec![0.0; chunks.len() * table.dimension];
    let mut reader = Reader::new(conn, table);
    let mut missing = Vec::new();
    for ((chunk, uid), out) in chunks.iter().zip(chunk_ids).zip(values.chunks_exact_mut(table.dimension)) {
        if !reader.read(chunk.id, out)? {
            missing.push(uid);
        }
    }
    if missing.is_empty() {
        Ok(Vectors { values, dimension: table.dimension })
    } else {
        Err(without_embedding(&missing, space))
    }
}

fn without_embedding(missing: &[&String], space: &str) -> Error {
    let first = missing.first().map(|uid| uid.as_str()).unwrap_or_default();
    Error::new(
        ErrorKind::NotFound,
        format!(
            "{} of the chunks have no embedding in space {space:?}, the first is {first:?}; set_embeddings gives them one",
            missing.len()
        ),
    )
}
