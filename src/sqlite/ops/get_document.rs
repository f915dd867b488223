use rusqlite::types::Value;
use rusqlite::{Connection, params};

use crate::error::Result;
use crate::model::{Document, Timestamp, check_id, check_name};
use crate::request::{DocumentKey, GetDocument};
use crate::sqlite::sql;
use crate::sqlite::tables::expiry::document_alive;
use crate::sqlite::tables::{collections, documents, tombstones};

pub fn run(conn: &Connection, request: &GetDocument) -> Result<Option<Document>> {
    let collection = collections::require(conn, &request.collection)?;
    let (column, value) = match &request.key {
        DocumentKey::Id(id) => {
            check_id("document id", id)?;
            let Some(document) = tombstones::document_of(conn, collection.id, id)? else { return Ok(None) };
            ("id", Value::Integer(document.id))
        }
        DocumentKey::Uri(uri) => {
            check_name("uri", uri)?;
            ("source_uri", Value::Text(uri.clone()))
        }
        DocumentKey::ContentHash(hash) => ("content_hash", Value::Blob(hash.0.to_vec())),
    };
    let text = format!(
        "SELECT {} FROM documents d WHERE d.collection_id = ?1 AND d.{column} = ?2 AND {} ORDER BY d.id LIMIT 1",
        documents::COLUMNS,
        document_alive(3)
    );
    let now = Timestamp::now().0;
    sql::query_optional(conn, &text, params![collection.id, value, now], documents::read)
}
