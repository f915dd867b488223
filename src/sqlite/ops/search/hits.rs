//! Candidates into hits.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, params};

use super::Ranked;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Hit, Metadata};
use crate::request::Include;
use crate::sqlite::sql;

/// Reads the rows of candidates, with what is to be included and no more.
pub struct Reading<'c>(CachedStatement<'c>);

impl<'c> Reading<'c> {
    /// Prepares for any number of candidates.
    pub fn new(conn: &'c Connection, include: Include) -> Result<Self> {
        let text = if include.text { "c.content" } else { "NULL" };
        let metadata = if include.metadata { "c.metadata, d.metadata" } else { "'{}', '{}'" };
        let statement = sql::prepare(
            conn,
            &format!(
                "SELECT c.uid, {text}, d.uid, d.source_uri, c.chunk_index, c.char_start, c.char_end, {metadata}
                 FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.id = ?1"
            ),
        )?;
        Ok(Self(statement))
    }

    /// The row of one.
    pub fn read(&mut self, ranked: Ranked, collection: &Arc<str>) -> Result<Hit> {
        let Ranked { chunk_id, rank, score, distance, vector, keyword } = ranked;
        let mut rows = self.0.query(params![chunk_id])?;
        let row = rows.next()?.ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                format!("an index names chunk row {chunk_id}, which is not there; run repair()"),
            )
        })?;
        Ok(Hit {
            collection: Arc::clone(collection),
            id: row.get(0)?,
            text: row.get(1)?,
            score,
            rank: Some(rank),
            distance,
            document_id: row.get(2)?,
            uri: row.get(3)?,
            index: row.get(4)?,
            chars: sql::range(row, 5)?,
            metadata: merged(row.get(8)?, row.get(7)?)?,
            vector,
            keyword,
            path: None,
        })
    }
}

/// A chunk's metadata over its document's, as filters see them.
fn merged(document: String, chunk: String) -> Result<Metadata> {
    match (document.as_str(), chunk.as_str()) {
        (_, "{}") => Ok(Metadata::from_stored(document)),
        ("{}", _) => Ok(Metadata::from_stored(chunk)),
        _ => Metadata::from_stored_map(&Metadata::from_stored(document).merged(&Metadata::from_stored(chunk))?),
    }
}
