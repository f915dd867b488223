//! The change feed and the tombstones.
//!
//! A document is one entity with its chunks and embeddings. Followers find new chunks by rowid, which only grows; what
//! they cannot find that way has a row of its own: a chunk's end, and an embedding that comes to or goes from a chunk
//! that keeps its rowid.

use rusqlite::{Connection, params};

use super::tombstones;
use crate::error::Result;
use crate::hlc::Hlc;
use crate::model;
use crate::sqlite::sql;

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entity {
    Collection,
    Document,
    Chunk,
    Embedding,
    Relation,
    State,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Put,
    Delete,
    Clear,
}

impl Entity {
    /// Its name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Entity::Collection => "collection",
            Entity::Document => "document",
            Entity::Chunk => "chunk",
            Entity::Embedding => "embedding",
            Entity::Relation => "relation",
            Entity::State => "state",
        }
    }
}

impl Op {
    fn as_str(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Delete => "delete",
            Op::Clear => "clear",
        }
    }
}

/// The stamp that all changes of one write share.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub commit_tag: i64,
    pub hlc: Hlc,
}

/// One row of the feed.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// `None`: it belongs to none.
    pub collection_id: Option<i64>,
    pub space_id: Option<i64>,
    pub entity: Entity,
    pub uid: Option<&'a str>,
    pub row_id: Option<i64>,
    pub op: Op,
}

/// Appends to the feed.
pub fn append(conn: &Connection, stamp: Stamp, change: Change<'_>) -> Result<()> {
    let Change { collection_id, space_id, entity, uid, row_id, op } = change;
    sql::execute(
        conn,
        "INSERT INTO changes (commit_tag, hlc, collection_id, space_id, entity, uid, row_id, op)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            stamp.commit_tag,
            stamp.hlc.to_bytes(),
            collection_id,
            space_id,
            entity.as_str(),
            uid,
            row_id,
            op.as_str()
        ],
    )
    .map(drop)
}

/// The last row of the feed and the tag of its commit: two snapshots with the same head are the same.
pub fn head(conn: &Connection) -> Result<Option<(i64, i64)>> {
    let text = "SELECT seq, commit_tag FROM changes ORDER BY seq DESC LIMIT 1";
    sql::query_optional(conn, text, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The tag of the commit that a row of the feed came with; `None` where the row is not there.
fn tag_at(conn: &Connection, seq: i64) -> Result<Option<i64>> {
    sql::query_optional(conn, "SELECT commit_tag FROM changes WHERE seq = ?1", params![seq], |row| row.get(0))
}

/// Whether a row of the feed is there and came with that commit.
pub fn has(conn: &Connection, (seq, tag): (i64, i64)) -> Result<bool> {
    Ok(tag_at(conn, seq)? == Some(tag))
}

/// What became of rows of a collection that a follower knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowChange {
    /// The chunk is gone, or has another rowid.
    Gone(i64),
    /// The chunk has an embedding in this space.
    Embedded { space_id: i64, row_id: i64 },
}

/// What became of rows of a collection after a row of the feed, in order.
pub fn rows_since(conn: &Connection, seq: i64, collection_id: i64) -> Result<Vec<RowChange>> {
    let text = "SELECT entity, space_id, row_id FROM changes
                WHERE seq > ?1 AND +collection_id = ?2 AND row_id IS NOT NULL
                AND ((entity = 'chunk' AND op = 'delete') OR (entity = 'embedding' AND op = 'put')) ORDER BY seq";
    sql::query_all(conn, text, params![seq, collection_id], |row| {
        let row_id = row.get(2)?;
        Ok(match row.get_ref(0)?.as_str()? {
            "chunk" => RowChange::Gone(row_id),
            _ => RowChange::Embedded { space_id: row.get(1)?, row_id },
        })
    })
}

/// The first and the last row of the feed.
pub fn ends(conn: &Connection) -> Result<Option<(i64, i64)>> {
    let text = "SELECT (SELECT min(seq) FROM changes), (SELECT max(seq) FROM changes)";
    sql::query_one(conn, text, [], |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get(1)?)))
}

/// Forgets what came before a row of the feed, and says how many rows. A follower that has not come so far begins anew.
pub fn forget_before(conn: &Connection, seq: i64) -> Result<usize> {
    sql::execute(conn, "DELETE FROM changes WHERE seq < ?1", params![seq])
}

/// The changes of whole entities after one of the feed, in order, at most so many.
pub fn after(conn: &Connection, since: i64, limit: usize) -> Result<Vec<model::Change>> {
    let text =
        "SELECT s.seq, s.entity, s.op, coalesce(c.name, CASE s.entity WHEN 'collection' THEN s.uid END), s.uid, s.hlc
                FROM changes s LEFT JOIN collections c ON c.id = s.collection_id
                WHERE s.seq > ?1 AND s.entity IN ('collection', 'document', 'relation', 'state')
                ORDER BY s.seq LIMIT ?2";
    sql::query_all(conn, text, params![since, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(model::Change {
            seq: row.get(0)?,
            entity: row.get(1)?,
            op: row.get(2)?,
            collection: row.get(3)?,
            id: row.get(4)?,
            stamp: sql::hlc(row, 5)?,
        })
    })
}

/// The number of the last change that was ever made.
pub fn last(conn: &Connection) -> Result<i64> {
    let text = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)";
    sql::query_one(conn, text, [], |row| row.get(0))
}

/// Remembers that a document was deleted, or what belongs to no collection (`collection_id` 0).
pub fn bury(conn: &Connection, stamp: Stamp, collection_id: i64, entity: Entity, uid: &str) -> Result<()> {
    sql::execute(
        conn,
        "INSERT OR REPLACE INTO tombstones (collection_id, entity, uid, hlc) VALUES (?1, ?2, ?3, ?4)",
        params![collection_id, entity.as_str(), uid, stamp.hlc.to_bytes()],
    )
    .map(drop)
}

/// Forgets a tombstone whose name lives again.
pub fn unbury(conn: &Connection, collection_id: i64, entity: Entity, uid: &str) -> Result<()> {
    sql::execute(
        conn,
        "DELETE FROM tombstones WHERE collection_id = ?1 AND entity = ?2 AND uid = ?3",
        params![collection_id, entity.as_str(), uid],
    )
    .map(drop)
}

/// Tombstones and feed rows for every document of a collection, before they go.
pub fn bury_all(conn: &Connection, stamp: Stamp, collection_id: i64) -> Result<()> {
    let hlc = stamp.hlc.to_bytes();
    sql::execute(
        conn,
        "INSERT OR REPLACE INTO tombstones (collection_id, entity, uid, hlc)
         SELECT collection_id, 'document', uid, ?2 FROM documents WHERE collection_id = ?1",
        params![collection_id, hlc],
    )?;
    sql::execute(
        conn,
        "INSERT INTO changes (commit_tag, hlc, collection_id, entity, uid, row_id, op)
         SELECT ?3, ?2, collection_id, 'document', uid, id, 'delete' FROM documents WHERE collection_id = ?1",
        params![collection_id, hlc, stamp.commit_tag],
    )?;
    tombstones::end_uris(conn, stamp.hlc, collection_id)
}

/// Gives every row of the feed the tag of this commit, so that nothing that was derived before it holds any more.
pub fn renew_tags(conn: &Connection, stamp: Stamp) -> Result<()> {
    sql::execute(conn, "UPDATE changes SET commit_tag = ?1", params![stamp.commit_tag]).map(drop)
}
