//! The chunks. A rowid never changes its meaning: text or vectors that are replaced get a new one.

use rusqlite::{Connection, Row, params};

use super::changes::Stamp;
use crate::error::Result;
use crate::limits;
use crate::model::{Chunk, ContentHash, Metadata, Span, Timestamp};
use crate::request::PreparedChunk;
use crate::sqlite::sql;

/// What a write needs to know of a stored chunk.
#[derive(Debug, Clone)]
pub struct ChunkRow {
    pub id: i64,
    pub document_id: i64,
    pub uid: String,
    /// The earlier of its own end and its document's.
    pub expires_at: Option<Timestamp>,
}

impl ChunkRow {
    /// Whether it is not there any more for anyone who reads.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Columns of [`read_row`] with their tables.
const ROW: &str = "SELECT c.id, c.document_id, c.uid, c.expires_at, d.expires_at
                   FROM chunks c JOIN documents d ON d.id = c.document_id";

fn read_row(row: &Row<'_>) -> rusqlite::Result<ChunkRow> {
    let ends: [Option<i64>; 2] = [row.get(3)?, row.get(4)?];
    let expires_at = ends.into_iter().flatten().min().map(Timestamp);
    Ok(ChunkRow { id: row.get(0)?, document_id: row.get(1)?, uid: row.get(2)?, expires_at })
}

/// The chunk of that rowid.
pub fn by_row(conn: &Connection, id: i64) -> Result<ChunkRow> {
    sql::query_one(conn, &format!("{ROW} WHERE c.id = ?1"), params![id], read_row)
}

/// The chunk of that id, expired or not.
pub fn by_uid(conn: &Connection, collection_id: i64, uid: &str) -> Result<Option<ChunkRow>> {
    sql::query_optional(
        conn,
        &format!("{ROW} WHERE c.collection_id = ?1 AND c.uid = ?2"),
        params![collection_id, uid],
        read_row,
    )
}

/// The chunks of a document, expired or not, by index.
pub fn of_document(conn: &Connection, document_id: i64) -> Result<Vec<ChunkRow>> {
    sql::query_all(
        conn,
        &format!("{ROW} WHERE c.document_id = ?1 ORDER BY c.chunk_index"),
        params![document_id],
        read_row,
    )
}

/// How many tokens each of them has, where that is known.
pub fn token_counts(conn: &Connection, document_id: i64) -> Result<Vec<Option<u64>>> {
    let text = "SELECT token_count FROM chunks WHERE document_id = ?1 ORDER BY chunk_index";
    sql::query_all(conn, text, params![document_id], |row| row.get(0))
}

/// The greatest rowid of any chunk; 0 without one.
pub fn last_row(conn: &Connection) -> Result<i64> {
    sql::query_one(conn, "SELECT coalesce(max(id), 0) FROM chunks", [], |row| row.get(0))
}

/// The texts of chunks of a collection with rowids in a range, ascending, at most so many and until one is told
/// to be the last. A chunk without text has an entry too.
pub fn texts(
    conn: &Connection,
    collection_id: i64,
    (after, through): (i64, i64),
    most: usize,
    each: &mut dyn FnMut(i64, &str) -> Result<bool>,
) -> Result<()> {
    let text = "SELECT id, content FROM chunks WHERE id > ?1 AND id <= ?2 AND +collection_id = ?3 ORDER BY id LIMIT ?4";
    let mut statement = sql::prepare(conn, text)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![after, through, collection_id, most])?;
    while let Some(row) = rows.next()? {
        let content = row.get_ref(1)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        if !each(row.get(0)?, content.unwrap_or_default())? {
            break;
        }
    }
    Ok(())
}

/// How many chunks of a collection have rowids after one, counted up to so many.
pub fn count_after(conn: &Connection, collection_id: i64, after: i64, most: usize) -> Result<usize> {
    let text = "SELECT count(*) FROM (SELECT 1 FROM chunks WHERE id > ?1 AND +collection_id = ?2 LIMIT ?3)";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    sql::query_one(conn, text, params![after, collection_id, most], |row| row.get(0))
}

/// Whether a document has a chunk left.
pub fn any(conn: &Connection, document_id: i64) -> Result<bool> {
    sql::query_one(conn, "SELECT EXISTS (SELECT 1 FROM chunks WHERE document_id = ?1)", params![document_id], |row| {
        row.get(0)
    })
}

/// The index after the last of a document.
pub fn next_index(conn: &Connection, document_id: i64) -> Result<u64> {
    sql::query_one(
        conn,
        "SELECT coalesce(max(chunk_index) + 1, 0) FROM chunks WHERE document_id = ?1",
        params![document_id],
        |row| row.get(0),
    )
}

/// Where a new chunk belongs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub document_id: i64,
    pub collection_id: i64,
    pub uid: &'a str,
    pub index: u64,
}

/// Adds a chunk and returns its rowid.
pub fn insert(conn: &Connection, stamp: Stamp, place: Place<'_>, new: &PreparedChunk<'_>) -> Result<i64> {
    let chars = new.span.map(|span| span.chars);
    let bytes = new.span.and_then(|span| span.bytes);
    let lines = new.span.and_then(|span| span.lines);
    let first = |range: Option<(u64, u64)>| range.map(|(start, _)| start);
    let last = |range: Option<(u64, u64)>| range.map(|(_, end)| end);
    sql::execute(
        conn,
        "INSERT INTO chunks (document_id, collection_id, uid, chunk_index, content, content_hash, token_count, char_start,
                             char_end, byte_start, byte_end, line_start, line_end, metadata, expires_at, hlc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        params![
            place.document_id,
            place.collection_id,
            place.uid,
            place.index,
            new.text,
            new.text_hash.map(|hash| hash.0),
            new.token_count,
            first(chars),
            last(chars),
            first(bytes),
            last(bytes),
            first(lines),
            last(lines),
            new.metadata.as_json(),
            sql::time(new.expires_at),
            stamp.hlc.to_bytes(),
        ],
    )?;
    Ok(conn.last_insert_rowid())
}

/// Gives a chunk a new rowid, the last of all, and returns it. What refers to the old one is the caller's to move.
pub fn renumber(conn: &Connection, stamp: Stamp, id: i64) -> Result<i64> {
    let next: i64 =
        sql::query_one(conn, "SELECT seq + 1 FROM sqlite_sequence WHERE name = 'chunks'", [], |row| row.get(0))?;
    sql::execute(conn, "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'chunks'", params![next])?;
    sql::execute(conn, "UPDATE chunks SET id = ?2, hlc = ?3 WHERE id = ?1", params![id, next, stamp.hlc.to_bytes()])?;
    sql::execute(conn, "UPDATE field_values SET chunk_id = ?2 WHERE chunk_id = ?1", params![id, next])?;
    sql::execute(conn, "UPDATE chunk_claims SET chunk_id = ?2 WHERE chunk_id = ?1", params![id, next])?;
    Ok(next)
}

/// The metadata of a chunk.
pub fn metadata(conn: &Connection, id: i64) -> Result<Metadata> {
    sql::query_one(conn, "SELECT metadata FROM chunks WHERE id = ?1", params![id], |row| {
        Ok(Metadata::from_stored(row.get(0)?))
    })
}

/// Sets the metadata of a chunk.
pub fn set_metadata(conn: &Connection, stamp: Stamp, id: i64, metadata: &Metadata) -> Result<()> {
    sql::execute(
        conn,
        "UPDATE chunks SET metadata = ?2, hlc = ?3 WHERE id = ?1",
        params![id, metadata.as_json(), stamp.hlc.to_bytes()],
    )
    .map(drop)
}

/// The text of a chunk.
pub fn content(conn: &Connection, id: i64) -> Result<Option<String>> {
    sql::query_one(conn, "SELECT content FROM chunks WHERE id = ?1", params![id], |row| row.get(0))
}

/// Removes a chunk with its field values. Its FTS5 row and its vectors must be gone.
pub fn delete(conn: &Connection, id: i64) -> Result<()> {
    sql::execute(conn, "DELETE FROM field_values WHERE chunk_id = ?1", params![id])?;
    sql::execute(conn, "DELETE FROM chunk_claims WHERE chunk_id = ?1", params![id])?;
    sql::execute(conn, "DELETE FROM chunks WHERE id = ?1", params![id]).map(drop)
}

/// How many there are, in every collection.
pub fn count_all(conn: &Connection) -> Result<u64> {
    sql::query_one(conn, "SELECT count(*) FROM chunks", [], |row| row.get(0))
}

/// The rowids of every chunk of a collection, ascending.
pub fn rows_of_collection(conn: &Connection, collection_id: i64) -> Result<Vec<i64>> {
    let text = "SELECT id FROM chunks WHERE collection_id = ?1 ORDER BY id";
    sql::query_all(conn, text, params![collection_id], |row| row.get(0))
}

/// Removes every chunk of a collection with its field values. Its FTS5 table and its vectors must be gone.
pub fn delete_all(conn: &Connection, collection_id: i64) -> Result<()> {
    sql::execute(
        conn,
        "DELETE FROM field_values WHERE field_id IN (SELECT id FROM fields WHERE collection_id = ?1)",
        params![collection_id],
    )?;
    sql::execute(conn, "DELETE FROM chunk_claims WHERE collection_id = ?1", params![collection_id])?;
    sql::execute(conn, "DELETE FROM chunks WHERE collection_id = ?1", params![collection_id]).map(drop)
}

/// Whether any chunk waits for the id that it came with.
pub fn any_claims(conn: &Connection) -> Result<bool> {
    sql::query_one(conn, "SELECT EXISTS (SELECT 1 FROM chunk_claims)", [], |row| row.get(0))
}

/// The id of a chunk while a chunk of another document has the one that it came with: no two documents make the same.
pub fn stand_in(uid: &str, document: &str) -> String {
    let hash = ContentHash::of_text(document).to_string();
    let mut end = uid.len().min(limits::ID_BYTES - 17);
    while !uid.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{}", &uid[..end], &hash[..16])
}

/// Notes the id that a chunk came with.
pub fn claim(conn: &Connection, id: i64, collection_id: i64, uid: &str) -> Result<()> {
    let text = "INSERT OR REPLACE INTO chunk_claims (chunk_id, collection_id, uid) VALUES (?1, ?2, ?3)";
    sql::execute(conn, text, params![id, collection_id, uid]).map(drop)
}

/// Of the documents with a chunk that came with an id, the one with the least id has it: so every replica gives it to the
/// same, whatever came first. Returns the id that it had until then, which is no chunk's any more.
pub fn settle_name(conn: &Connection, collection_id: i64, uid: &str) -> Result<Option<String>> {
    let text = "SELECT d.uid, c.id, c.uid = ?2 FROM chunks c JOIN documents d ON d.id = c.document_id
                WHERE c.collection_id = ?1 AND c.uid = ?2
                UNION ALL
                SELECT d.uid, c.id, c.uid = ?2 FROM chunk_claims k JOIN chunks c ON c.id = k.chunk_id
                JOIN documents d ON d.id = c.document_id WHERE k.collection_id = ?1 AND k.uid = ?2
                ORDER BY 1";
    let wanting: Vec<(String, i64, bool)> =
        sql::query_all(conn, text, params![collection_id, uid], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let Some((owner, first, false)) = wanting.first() else { return Ok(None) };
    let rename = "UPDATE chunks SET uid = ?2 WHERE id = ?1";
    if let Some((document, id, _)) = wanting.iter().find(|(_, _, has)| *has) {
        sql::execute(conn, rename, params![id, stand_in(uid, document)])?;
        claim(conn, *id, collection_id, uid)?;
    }
    sql::execute(conn, rename, params![first, uid])?;
    sql::execute(conn, "DELETE FROM chunk_claims WHERE chunk_id = ?1", params![first])?;
    Ok(Some(stand_in(uid, owner)))
}

/// Columns of a whole chunk, for [`read`]; the tables are called `c` and `d`.
pub const COLUMNS: &str = "c.uid, c.content, c.metadata, d.uid, d.source_uri, c.chunk_index, c.char_start, c.char_end, \
                           c.byte_start, c.byte_end, c.line_start, c.line_end, c.token_count, c.expires_at";

/// A whole chunk from [`COLUMNS`].
pub fn read(row: &Row<'_>) -> rusqlite::Result<Chunk> {
    let chars = sql::range(row, 6)?;
    let bytes = sql::range(row, 8)?;
    let lines = sql::range(row, 10)?;
    Ok(Chunk {
        id: row.get(0)?,
        text: row.get(1)?,
        metadata: Metadata::from_stored(row.get(2)?),
        document_id: row.get(3)?,
        uri: row.get(4)?,
        index: row.get(5)?,
        span: chars.map(|chars| Span { chars, bytes, lines }),
        token_count: row.get(12)?,
        expires_at: row.get::<_, Option<i64>>(13)?.map(Timestamp),
    })
}
