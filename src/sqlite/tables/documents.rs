//! The documents.

use rusqlite::{Connection, Row, params};

use super::changes::Stamp;
use crate::error::Result;
use crate::hlc::Hlc;
use crate::model::{ContentHash, Document, Metadata, Timestamp};
use crate::request::PreparedDocument;
use crate::sqlite::sql;

/// What a write needs to know of a stored document.
#[derive(Debug, Clone)]
pub struct DocumentRow {
    pub id: i64,
    pub uid: String,
    pub uri: Option<String>,
    pub content_hash: ContentHash,
    pub expires_at: Option<Timestamp>,
}

impl DocumentRow {
    /// Whether it is not there any more for anyone who reads.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Columns of [`read_row`] with their table.
const ROW: &str = "SELECT id, uid, source_uri, content_hash, expires_at FROM documents";

fn read_row(row: &Row<'_>) -> rusqlite::Result<DocumentRow> {
    Ok(DocumentRow {
        id: row.get(0)?,
        uid: row.get(1)?,
        uri: row.get(2)?,
        content_hash: ContentHash(row.get(3)?),
        expires_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
    })
}

/// The document of that id, expired or not.
pub fn by_uid(conn: &Connection, collection_id: i64, uid: &str) -> Result<Option<DocumentRow>> {
    sql::query_optional(
        conn,
        &format!("{ROW} WHERE collection_id = ?1 AND uid = ?2"),
        params![collection_id, uid],
        read_row,
    )
}

/// The document of that uri, expired or not.
pub fn by_uri(conn: &Connection, collection_id: i64, uri: &str) -> Result<Option<DocumentRow>> {
    sql::query_optional(
        conn,
        &format!("{ROW} WHERE collection_id = ?1 AND source_uri = ?2"),
        params![collection_id, uri],
        read_row,
    )
}

/// The document of that rowid.
pub fn by_row(conn: &Connection, id: i64) -> Result<DocumentRow> {
    sql::query_one(conn, &format!("{ROW} WHERE id = ?1"), params![id], read_row)
}

/// The text of a document.
pub fn text(conn: &Connection, id: i64) -> Result<Option<String>> {
    sql::query_one(conn, "SELECT raw_content FROM documents WHERE id = ?1", params![id], |row| row.get(0))
}

/// The metadata of a document.
pub fn metadata(conn: &Connection, id: i64) -> Result<Metadata> {
    sql::query_one(conn, "SELECT metadata FROM documents WHERE id = ?1", params![id], |row| {
        Ok(Metadata::from_stored(row.get(0)?))
    })
}

/// Columns of a whole document, for [`read`]; the table is called `d`.
pub const COLUMNS: &str = "d.uid, d.source_uri, d.raw_content, d.content_type, d.metadata, d.content_hash, d.created_at, \
                           d.updated_at, d.expires_at";

/// A whole document from [`COLUMNS`].
pub fn read(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        id: row.get(0)?,
        uri: row.get(1)?,
        text: row.get(2)?,
        content_type: row.get(3)?,
        metadata: Metadata::from_stored(row.get(4)?),
        content_hash: ContentHash(row.get(5)?),
        created_at: Timestamp(row.get(6)?),
        updated_at: Timestamp(row.get(7)?),
        expires_at: row.get::<_, Option<i64>>(8)?.map(Timestamp),
    })
}

/// Adds a document and returns its rowid.
pub fn insert(
    conn: &Connection,
    stamp: Stamp,
    now: Timestamp,
    collection_id: i64,
    uid: &str,
    new: &PreparedDocument<'_>,
) -> Result<i64> {
    sql::execute(
        conn,
        "INSERT INTO documents (collection_id, uid, source_uri, content_hash, content_type, raw_content, metadata,
                                created_at, updated_at, expires_at, hlc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10)",
        params![
            collection_id,
            uid,
            new.uri,
            new.content_hash.0,
            new.content_type,
            new.text,
            new.metadata.as_json(),
            now.0,
            sql::time(new.expires_at),
            stamp.hlc.to_bytes(),
        ],
    )?;
    Ok(conn.last_insert_rowid())
}

/// Swaps all of a document but its rowid and the time it was created.
pub fn replace(
    conn: &Connection,
    stamp: Stamp,
    now: Timestamp,
    id: i64,
    uid: &str,
    new: &PreparedDocument<'_>,
) -> Result<()> {
    sql::execute(
        conn,
        "UPDATE documents SET uid = ?2, source_uri = ?3, content_hash = ?4, content_type = ?5, raw_content = ?6,
                              metadata = ?7, updated_at = ?8, expires_at = ?9, hlc = ?10
         WHERE id = ?1",
        params![
            id,
            uid,
            new.uri,
            new.content_hash.0,
            new.content_type,
            new.text,
            new.metadata.as_json(),
            now.0,
            sql::time(new.expires_at),
            stamp.hlc.to_bytes(),
        ],
    )
    .map(drop)
}

/// A document that came of another replica.
pub struct Received<'a> {
    pub collection_id: i64,
    pub uid: &'a str,
    pub uri: Option<&'a str>,
    pub content_hash: ContentHash,
    pub content_type: &'a str,
    pub text: Option<&'a str>,
    pub metadata: &'a Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// Puts one, in the place of a row where there is one, and returns its rowid. Neither statement may need a savepoint of
/// its own, as an upsert or RETURNING would: at each savepoint FTS5 writes out what it holds in memory.
pub fn receive(conn: &Connection, stamp: Stamp, row: Option<i64>, new: &Received<'_>) -> Result<i64> {
    let text = match row {
        None => {
            "INSERT INTO documents (id, collection_id, uid, source_uri, content_hash, content_type, raw_content, metadata,
                                    created_at, updated_at, expires_at, hlc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
        }
        Some(_) => {
            "UPDATE documents SET collection_id = ?2, uid = ?3, source_uri = ?4, content_hash = ?5, content_type = ?6,
                                  raw_content = ?7, metadata = ?8, created_at = ?9, updated_at = ?10, expires_at = ?11,
                                  hlc = ?12
             WHERE id = ?1"
        }
    };
    sql::execute(
        conn,
        text,
        params![
            row,
            new.collection_id,
            new.uid,
            new.uri,
            new.content_hash.0,
            new.content_type,
            new.text,
            new.metadata.as_json(),
            new.created_at.0,
            new.updated_at.0,
            sql::time(new.expires_at),
            stamp.hlc.to_bytes(),
        ],
    )?;
    Ok(row.unwrap_or_else(|| conn.last_insert_rowid()))
}

/// When a document last changed.
pub fn stamp(conn: &Connection, id: i64) -> Result<Hlc> {
    sql::query_one(conn, "SELECT hlc FROM documents WHERE id = ?1", [id], |row| sql::hlc(row, 0))
}

/// Sets the metadata of a document.
pub fn set_metadata(conn: &Connection, id: i64, metadata: &Metadata) -> Result<()> {
    sql::execute(conn, "UPDATE documents SET metadata = ?2 WHERE id = ?1", params![id, metadata.as_json()]).map(drop)
}

/// Stamps a document whose content, chunks or embeddings changed.
pub fn touch(conn: &Connection, stamp: Stamp, now: Timestamp, id: i64, hash: ContentHash) -> Result<()> {
    sql::execute(
        conn,
        "UPDATE documents SET content_hash = ?2, updated_at = ?3, hlc = ?4 WHERE id = ?1",
        params![id, hash.0, now.0, stamp.hlc.to_bytes()],
    )
    .map(drop)
}

/// How many there are, in every collection.
pub fn count_all(conn: &Connection) -> Result<u64> {
    sql::query_one(conn, "SELECT count(*) FROM documents", [], |row| row.get(0))
}

/// Removes a document whose chunks are gone.
pub fn delete(conn: &Connection, id: i64) -> Result<()> {
    sql::execute(conn, "DELETE FROM documents WHERE id = ?1", params![id]).map(drop)
}

/// Removes every document of a collection whose chunks are gone.
pub fn delete_all(conn: &Connection, collection_id: i64) -> Result<()> {
    sql::execute(conn, "DELETE FROM documents WHERE collection_id = ?1", params![collection_id]).map(drop)
}
