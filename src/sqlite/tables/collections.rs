//! The collections, each the owner of a view and an FTS5 table.

use rusqlite::{Connection, Row, params};
use serde_json::{Map, Value};

use super::changes::Stamp;
use super::spaces;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CollectionInfo, Timestamp};
use crate::sqlite::sql;
use crate::sqlite::tokenizer::TokenizerSpec;

/// A collection as its row has it.
#[derive(Debug, Clone)]
pub struct CollectionRow {
    pub id: i64,
    pub name: String,
    pub description: Option<String>,
    pub settings: String,
    pub tokenizer: String,
    pub created_at: Timestamp,
    pub fts_generation: i64,
}

impl CollectionRow {
    /// Its tokenizer, which was read when it was stored.
    pub fn spec(&self) -> Result<TokenizerSpec> {
        TokenizerSpec::parse(&self.tokenizer).map_err(|error| {
            let what = format!("collection {:?}: {}; run repair(to=...)", self.name, error.message());
            Error::new(ErrorKind::Corrupt, what)
        })
    }
}

const COLUMNS: &str = "id, name, description, settings, tokenizer, created_at, fts_generation";

fn read(row: &Row<'_>) -> rusqlite::Result<CollectionRow> {
    Ok(CollectionRow {
        id: sql::part_of_name(row, 0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        settings: row.get(3)?,
        tokenizer: row.get(4)?,
        created_at: Timestamp(row.get(5)?),
        fts_generation: sql::part_of_name(row, 6)?,
    })
}

/// The collection of that name.
pub fn find(conn: &Connection, name: &str) -> Result<Option<CollectionRow>> {
    sql::query_optional(conn, &format!("SELECT {COLUMNS} FROM collections WHERE name = ?1"), params![name], read)
}

/// The collection of that name, or `CollectionNotFound`.
pub fn require(conn: &Connection, name: &str) -> Result<CollectionRow> {
    find(conn, name)?.ok_or_else(|| {
        Error::new(
            ErrorKind::CollectionNotFound,
            format!("there is no collection {name:?}; create_collection makes one, list_collections names them"),
        )
    })
}

/// The collection of that rowid.
pub fn by_row(conn: &Connection, id: i64) -> Result<CollectionRow> {
    sql::query_one(conn, &format!("SELECT {COLUMNS} FROM collections WHERE id = ?1"), params![id], read)
}

/// All of them, by name.
pub fn list(conn: &Connection) -> Result<Vec<CollectionRow>> {
    sql::query_all(conn, &format!("SELECT {COLUMNS} FROM collections ORDER BY name"), [], read)
}

/// A new row; its tables are the caller's to make.
pub struct NewCollection<'a> {
    pub name: &'a str,
    pub description: Option<&'a str>,
    pub settings: &'a Map<String, Value>,
    pub tokenizer: &'a str,
    pub created_at: Timestamp,
}

/// Adds a row and returns its id.
pub fn insert(conn: &Connection, stamp: Stamp, new: &NewCollection<'_>) -> Result<i64> {
    let settings = serde_json::to_string(new.settings).map_err(|e| Error::internal(format!("settings: {e}")))?;
    sql::execute(
        conn,
        "INSERT INTO collections (name, description, settings, tokenizer, created_at, hlc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![new.name, new.description, settings, new.tokenizer, new.created_at.0, stamp.hlc.to_bytes()],
    )?;
    Ok(conn.last_insert_rowid())
}

/// Stamps a collection that changed.
pub fn touch(conn: &Connection, stamp: Stamp, id: i64) -> Result<()> {
    sql::execute(conn, "UPDATE collections SET hlc = ?2 WHERE id = ?1", params![id, stamp.hlc.to_bytes()]).map(drop)
}

/// Records which FTS5 table is the living one.
pub fn set_fts_generation(conn: &Connection, id: i64, generation: i64) -> Result<()> {
    sql::execute(conn, "UPDATE collections SET fts_generation = ?2 WHERE id = ?1", params![id, generation]).map(drop)
}

/// Records another tokenizer, and which FTS5 table it made.
pub fn set_tokenizer(conn: &Connection, id: i64, tokenizer: &str, generation: i64) -> Result<()> {
    sql::execute(
        conn,
        "UPDATE collections SET tokenizer = ?2, fts_generation = ?3 WHERE id = ?1",
        params![id, tokenizer, generation],
    )
    .map(drop)
}

/// Removes the row. Whatever refers to it must be gone.
pub fn delete(conn: &Connection, id: i64) -> Result<()> {
    sql::execute(conn, "DELETE FROM collections WHERE id = ?1", params![id]).map(drop)
}

/// The row with its spaces, as callers see it.
pub fn info(conn: &Connection, row: CollectionRow) -> Result<CollectionInfo> {
    let settings = serde_json::from_str(&row.settings)
        .map_err(|e| Error::new(ErrorKind::Corrupt, format!("settings of collection {:?}: {e}", row.name)))?;
    let spaces = spaces::list(conn, row.id)?.into_iter().map(spaces::SpaceRow::info).collect();
    Ok(CollectionInfo {
        name: row.name,
        description: row.description,
        settings,
        tokenizer: row.tokenizer,
        created_at: row.created_at,
        spaces,
    })
}
