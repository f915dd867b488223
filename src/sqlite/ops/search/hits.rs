//! Candidates into hits.

use rusqlite::{Connection, params};

use super::Ranked;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Hit, Metadata};
use crate::sqlite::sql;

pub(super) fn read(conn: &Connection, ranked: Ranked) -> Result<Hit> {
    let Ranked { chunk_id, score, distance, vector, keyword } = ranked;
    let mut statement = sql::prepare(
        conn,
        "SELECT c.uid, c.content, d.uid, d.source_uri, c.chunk_index, c.char_start, c.char_end, c.metadata, d.metadata
         FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.id = ?1",
    )?;
    let mut rows = statement.query(params![chunk_id])?;
    let row = rows.next()?.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, format!("an index names chunk row {chunk_id}, which is not there; run repair()"))
    })?;
    Ok(Hit {
        id: row.get(0)?,
        text: row.get(1)?,
        score,
        distance,
        document_id: row.get(2)?,
        uri: row.get(3)?,
        index: row.get(4)?,
        chars: sql::range(row, 5)?,
        metadata: merged(row.get(8)?, row.get(7)?)?,
        vector,
        keyword,
    })
}

/// A chunk's metadata over its document's, as filters see them.
fn merged(document: String, chunk: String) -> Result<Metadata> {
    match (document.as_str(), chunk.as_str()) {
        (_, "{}") => Ok(Metadata::from_stored(document)),
        ("{}", _) => Ok(Metadata::from_stored(chunk)),
        _ => Metadata::from_stored(document).merged(&Metadata::from_stored(chunk)),
    }
}
