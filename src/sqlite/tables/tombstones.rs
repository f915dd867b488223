//! The latest moments of names that are of nothing any more, and the ids that became aliases.
//!
//! A document that is not there has a tombstone by its id and one by its uri. A collection's tombstone stays when a
//! collection of that name is made again: nothing in it from before that moment comes back. The same goes for spaces.

use rusqlite::{Connection, params};

use super::changes::Entity;
use super::documents::{self, DocumentRow};
use crate::error::Result;
use crate::hlc::Hlc;
use crate::sqlite::sql;
use crate::sync::Watermark;
use crate::sync::merge::Known;

/// What is known of a document's id or uri.
#[derive(Debug, Clone)]
pub struct DocumentName {
    pub known: Known,
    /// Of the living document: rowid, id, uri and content hash.
    pub row: Option<(i64, String, Option<String>, [u8; 32])>,
}

impl DocumentName {
    fn gone(stamp: Hlc) -> Self {
        Self { known: Known { stamp, living: false }, row: None }
    }
}

fn living(conn: &Connection, column: &str, collection_id: i64, value: &str) -> Result<Option<DocumentName>> {
    let text = format!(
        "SELECT hlc, id, uid, source_uri, content_hash FROM documents WHERE collection_id = ?1 AND {column} = ?2"
    );
    sql::query_optional(conn, &text, params![collection_id, value], |row| {
        let known = Known { stamp: sql::hlc(row, 0)?, living: true };
        Ok(DocumentName { known, row: Some((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)) })
    })
}

/// By id.
pub fn document(conn: &Connection, collection_id: i64, uid: &str) -> Result<Option<DocumentName>> {
    if let Some(found) = living(conn, "uid", collection_id, uid)? {
        return Ok(Some(found));
    }
    Ok(get(conn, collection_id, Entity::Document, uid)?.map(DocumentName::gone))
}

/// By uri.
pub fn uri(conn: &Connection, collection_id: i64, uri: &str) -> Result<Option<DocumentName>> {
    if let Some(found) = living(conn, "source_uri", collection_id, uri)? {
        return Ok(Some(found));
    }
    let text = "SELECT hlc FROM uri_tombstones WHERE collection_id = ?1 AND uri = ?2";
    Ok(sql::query_optional(conn, text, params![collection_id, uri], |row| sql::hlc(row, 0))?.map(DocumentName::gone))
}

/// When something of that name was last deleted.
pub fn get(conn: &Connection, collection_id: i64, entity: Entity, uid: &str) -> Result<Option<Hlc>> {
    let text = "SELECT hlc FROM tombstones WHERE collection_id = ?1 AND entity = ?2 AND uid = ?3";
    sql::query_optional(conn, text, params![collection_id, entity.as_str(), uid], |row| sql::hlc(row, 0))
}

/// When a collection of that name was last deleted.
pub fn collection(conn: &Connection, name: &str) -> Result<Option<Hlc>> {
    get(conn, 0, Entity::Collection, name)
}

/// When a space of that name was last deleted.
pub fn space(conn: &Connection, collection_id: i64, name: &str) -> Result<Option<Hlc>> {
    let text = "SELECT hlc FROM space_tombstones WHERE collection_id = ?1 AND name = ?2";
    sql::query_optional(conn, text, params![collection_id, name], |row| sql::hlc(row, 0))
}

/// Remembers that a uri is of no document since then, unless it is known from later.
pub fn end_uri(conn: &Connection, hlc: Hlc, collection_id: i64, uri: &str) -> Result<()> {
    sql::execute(
        conn,
        "INSERT INTO uri_tombstones (collection_id, uri, hlc) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET hlc = max(hlc, excluded.hlc)",
        params![collection_id, uri, hlc.to_bytes()],
    )
    .map(drop)
}

/// Remembers that a space was deleted.
pub fn end_space(conn: &Connection, hlc: Hlc, collection_id: i64, name: &str) -> Result<()> {
    sql::execute(
        conn,
        "INSERT INTO space_tombstones (collection_id, name, hlc) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET hlc = max(hlc, excluded.hlc)",
        params![collection_id, name, hlc.to_bytes()],
    )
    .map(drop)
}

/// Whether any uri is remembered as of no document: most stores have none, and then no add needs to look.
pub fn any_uri(conn: &Connection) -> Result<bool> {
    sql::query_one(conn, "SELECT EXISTS (SELECT 1 FROM uri_tombstones)", [], |row| row.get(0))
}

/// A uri is of a document again.
pub fn begin_uri(conn: &Connection, collection_id: i64, uri: &str) -> Result<()> {
    let text = "DELETE FROM uri_tombstones WHERE collection_id = ?1 AND uri = ?2";
    sql::execute(conn, text, params![collection_id, uri]).map(drop)
}

/// The same for every document of a collection, before they go.
pub fn end_uris(conn: &Connection, hlc: Hlc, collection_id: i64) -> Result<()> {
    sql::execute(
        conn,
        "INSERT OR REPLACE INTO uri_tombstones (collection_id, uri, hlc)
         SELECT collection_id, source_uri, ?2 FROM documents WHERE collection_id = ?1 AND source_uri IS NOT NULL",
        params![collection_id, hlc.to_bytes()],
    )
    .map(drop)
}

/// An id leads to the document of a uri from now on.
pub fn set_alias(conn: &Connection, collection_id: i64, uid: &str, uri: &str) -> Result<()> {
    let text = "INSERT OR REPLACE INTO aliases (collection_id, uid, uri) VALUES (?1, ?2, ?3)";
    sql::execute(conn, text, params![collection_id, uid, uri]).map(drop)
}

/// An id is no alias any more.
pub fn forget_alias(conn: &Connection, collection_id: i64, uid: &str) -> Result<()> {
    let text = "DELETE FROM aliases WHERE collection_id = ?1 AND uid = ?2";
    sql::execute(conn, text, params![collection_id, uid]).map(drop)
}

/// The uri whose document an id leads to.
fn alias(conn: &Connection, collection_id: i64, uid: &str) -> Result<Option<String>> {
    let text = "SELECT uri FROM aliases WHERE collection_id = ?1 AND uid = ?2";
    sql::query_optional(conn, text, params![collection_id, uid], |row| row.get(0))
}

/// The ids that lead to the document of a uri.
pub fn aliases(conn: &Connection, collection_id: i64, uri: &str) -> Result<Vec<String>> {
    let text = "SELECT uid FROM aliases WHERE collection_id = ?1 AND uri = ?2";
    sql::query_all(conn, text, params![collection_id, uri], |row| row.get(0))
}

/// The document of an id, or of the uri by which a document of that id merged into it; expired or not.
pub fn document_of(conn: &Connection, collection_id: i64, uid: &str) -> Result<Option<DocumentRow>> {
    match documents::by_uid(conn, collection_id, uid)? {
        None => match alias(conn, collection_id, uid)? {
            Some(uri) => documents::by_uri(conn, collection_id, &uri),
            None => Ok(None),
        },
        found => Ok(found),
    }
}

/// Tables whose rows are of a collection by its number, and stay when it goes.
const KEPT: [&str; 5] = ["tombstones", "uri_tombstones", "space_tombstones", "aliases", "waiting_relations"];

/// The number under which later deletions of a collection that is gone are remembered.
pub fn past(conn: &Connection, name: &str) -> Result<Option<i64>> {
    let text = "SELECT collection_id FROM past_collections WHERE name = ?1";
    sql::query_optional(conn, text, [name], |row| row.get(0))
}

/// The same, which is given to it where there is none: one that no collection ever has.
pub fn make_past(conn: &Connection, name: &str) -> Result<i64> {
    if let Some(id) = past(conn, name)? {
        return Ok(id);
    }
    let text = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'collections'), 0) + 1";
    let id: i64 = sql::query_one(conn, text, [], |row| row.get(0))?;
    let known = sql::execute(conn, "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'collections'", [id])?;
    if known == 0 {
        sql::execute(conn, "INSERT INTO sqlite_sequence (name, seq) VALUES ('collections', ?1)", [id])?;
    }
    set_past(conn, name, id)?;
    Ok(id)
}

fn set_past(conn: &Connection, name: &str, id: i64) -> Result<()> {
    sql::execute(conn, "INSERT INTO past_collections (name, collection_id) VALUES (?1, ?2)", params![name, id])
        .map(drop)
}

/// A collection goes. What its own tombstone, at that moment, does not cover stays under its number.
pub fn leave(conn: &Connection, name: &str, collection_id: i64, floor: Hlc) -> Result<()> {
    forget_upto(conn, collection_id, floor)?;
    for table in KEPT {
        let text = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE collection_id = ?1)");
        if sql::query_one(conn, &text, [collection_id], |row| row.get(0))? {
            return set_past(conn, name, collection_id);
        }
    }
    Ok(())
}

/// A collection of that name is there again, by another number.
pub fn come_back(conn: &Connection, name: &str, collection_id: i64) -> Result<()> {
    let Some(past) = past(conn, name)? else { return Ok(()) };
    for table in KEPT {
        let text = format!("UPDATE {table} SET collection_id = ?2 WHERE collection_id = ?1");
        sql::execute(conn, &text, [past, collection_id])?;
    }
    sql::execute(conn, "DELETE FROM past_collections WHERE name = ?1", [name]).map(drop)
}

/// Every collection that is gone and has a number, by name.
pub fn all_past(conn: &Connection) -> Result<Vec<(String, i64)>> {
    let text = "SELECT name, collection_id FROM past_collections ORDER BY name";
    sql::query_all(conn, text, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Forgets what a collection's own tombstone covers.
pub fn forget_upto(conn: &Connection, collection_id: i64, floor: Hlc) -> Result<()> {
    sql::execute(
        conn,
        "DELETE FROM aliases WHERE collection_id = ?1 AND uid IN (
             SELECT uid FROM tombstones WHERE collection_id = ?1 AND entity = 'document' AND hlc <= ?2)",
        params![collection_id, floor.to_bytes()],
    )?;
    for table in ["tombstones", "uri_tombstones", "space_tombstones", "waiting_relations"] {
        let text = format!("DELETE FROM {table} WHERE collection_id = ?1 AND hlc <= ?2");
        sql::execute(conn, &text, params![collection_id, floor.to_bytes()])?;
    }
    Ok(())
}

/// Forgets at most so many deletions from before a moment: how many, and the latest of them by each replica.
pub fn forget_before(conn: &Connection, moment: Hlc, most: u64) -> Result<(u64, Watermark)> {
    let before = moment.to_bytes();
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let (mut forgotten, mut latest) = (0, Watermark::default());
    for (table, key) in [
        ("tombstones", "collection_id, entity, uid"),
        ("uri_tombstones", "collection_id, uri"),
        ("space_tombstones", "collection_id, name"),
    ] {
        // Also those of names that live again: who does not know of them does not merge.
        let text = format!(
            "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE hlc < ?1 LIMIT ?2) RETURNING hlc"
        );
        let gone = sql::query_all(conn, &text, params![before, limit], |row| sql::hlc(row, 0))?;
        forgotten += gone.len() as u64;
        gone.into_iter().for_each(|stamp| latest.raise(stamp));
    }
    if forgotten > 0 {
        let text = "DELETE FROM aliases WHERE NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.entity = 'document'
                    AND t.collection_id = aliases.collection_id AND t.uid = aliases.uid)";
        sql::execute(conn, text, [])?;
    }
    Ok((forgotten, latest))
}

/// How many deletions from before a moment are remembered.
pub fn count_before(conn: &Connection, moment: Hlc) -> Result<u64> {
    let text = "SELECT (SELECT count(*) FROM tombstones WHERE hlc < ?1)
                     + (SELECT count(*) FROM uri_tombstones WHERE hlc < ?1)
                     + (SELECT count(*) FROM space_tombstones WHERE hlc < ?1)";
    sql::query_one(conn, text, params![moment.to_bytes()], |row| row.get(0))
}
