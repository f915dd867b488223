//! Documents and chunks that are not as they must be. What cannot be kept is said.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::lose;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContentHash, Metadata, RepairReport, Span, new_id};
use crate::request::PreparedDocument;
use crate::sqlite::ops::check::Places;
use crate::sqlite::ops::shared::{self, Target};
use crate::sqlite::sql;
use crate::sqlite::tables::changes::Op;
use crate::sqlite::tables::{chunks, collections, documents, field_values};
use crate::sqlite::txn::Txn;

fn target(conn: &Connection, collection_id: i64) -> Result<Target> {
    Target::find(conn, &collections::by_row(conn, collection_id)?.name)
}

/// Hashes a document anew, with the index of its metadata. Its times stay: nobody changed it, and a peer that has what was
/// lost must win.
pub fn touch(txn: &mut Txn<'_>, document_id: i64) -> Result<()> {
    let text = "SELECT collection_id FROM documents WHERE id = ?1";
    let collection: i64 = sql::query_one(txn.conn, text, [document_id], |row| row.get(0))?;
    let target = target(txn.conn, collection)?;
    if !target.fields.is_empty() {
        field_values::refresh(txn.conn, &target.fields, document_id)?;
    }
    rehash(txn.conn, document_id)?;
    let stamp = txn.stamp();
    let uid = documents::by_row(txn.conn, document_id)?.uid;
    shared::document_changed(txn, stamp, &target, document_id, &uid, Op::Put)
}

/// Puts an object in the place of a document's metadata.
pub fn document_metadata(
    txn: &mut Txn<'_>,
    id: i64,
    report: &mut RepairReport,
    touched: &mut BTreeSet<i64>,
) -> Result<()> {
    documents::set_metadata(txn.conn, id, &Metadata::empty())?;
    touched.insert(id);
    let uid = documents::by_row(txn.conn, id)?.uid;
    lose(report, "the metadata of document", &[uid]);
    Ok(())
}

/// Puts an object in the place of a chunk's metadata.
pub fn chunk_metadata(
    txn: &mut Txn<'_>,
    id: i64,
    report: &mut RepairReport,
    touched: &mut BTreeSet<i64>,
) -> Result<()> {
    let stamp = txn.stamp();
    chunks::set_metadata(txn.conn, stamp, id, &Metadata::empty())?;
    let (document, uid) = of(txn.conn, id)?;
    touched.insert(document);
    lose(report, "the metadata of chunk", &[uid]);
    Ok(())
}

fn of(conn: &Connection, chunk: i64) -> Result<(i64, String)> {
    let text = "SELECT document_id, uid FROM chunks WHERE id = ?1";
    sql::query_one(conn, text, [chunk], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Computes the bytes and lines of a chunk from its characters, or forgets where it was.
pub fn places(txn: &mut Txn<'_>, id: i64, report: &mut RepairReport, touched: &mut BTreeSet<i64>) -> Result<()> {
    let conn = txn.conn;
    let (document, uid) = of(conn, id)?;
    let text = documents::text(conn, document)?;
    let columns = "SELECT char_start, char_end FROM chunks WHERE id = ?1";
    let chars = sql::query_one(conn, columns, [id], |row| {
        Ok(row.get::<_, Option<u64>>(0).ok().flatten().zip(row.get::<_, Option<u64>>(1).ok().flatten()))
    })?;
    let place = chars.and_then(|chars| match &text {
        Some(text) => Places::new(text).span(chars),
        None => (chars.0 <= chars.1).then_some(Span { chars, bytes: None, lines: None }),
    });
    let start = |range: Option<(u64, u64)>| range.map(|range| range.0);
    let end = |range: Option<(u64, u64)>| range.map(|range| range.1);
    let (chars, bytes) = (place.map(|place| place.chars), place.and_then(|place| place.bytes));
    let lines = place.and_then(|place| place.lines);
    sql::execute(
        conn,
        "UPDATE chunks SET char_start = ?2, char_end = ?3, byte_start = ?4, byte_end = ?5, line_start = ?6, line_end = ?7
         WHERE id = ?1",
        params![id, start(chars), end(chars), start(bytes), end(bytes), start(lines), end(lines)],
    )?;
    touched.insert(document);
    if place.is_some() {
        report.rebuilt.push(format!("the place of chunk {uid:?} in its document"));
    } else {
        lose(report, "the place in its document of chunk", &[uid]);
    }
    Ok(())
}

/// A document for chunks that have none in their collection.
pub fn orphans(txn: &mut Txn<'_>, report: &mut RepairReport, touched: &mut BTreeSet<i64>) -> Result<()> {
    let conn = txn.conn;
    let mut homeless: BTreeMap<(i64, i64), Vec<(i64, String)>> = BTreeMap::new();
    let text =
        "SELECT c.document_id, c.collection_id, c.id, c.uid FROM chunks c LEFT JOIN documents d ON d.id = c.document_id
                WHERE d.id IS NULL OR d.collection_id IS NOT c.collection_id";
    let rows: Vec<(i64, i64, i64, String)> =
        sql::query_all(conn, text, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    for (document, collection, id, uid) in rows {
        homeless.entry((document, collection)).or_default().push((id, uid));
    }
    // A new document must not have the number that chunks of a lost one give.
    let last = "SELECT coalesce(max(document_id), 0) FROM chunks WHERE document_id < ?1";
    let last: i64 = sql::query_one(conn, last, [i64::MAX / 2], |row| row.get(0))?;
    if sql::execute(conn, "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'documents'", [last])? == 0 {
        sql::execute(conn, "INSERT INTO sqlite_sequence (name, seq) VALUES ('documents', ?1)", [last])?;
    }
    let empty = Metadata::empty();
    for ((old, collection), chunks) in homeless {
        let target = target(conn, collection)?;
        let new = PreparedDocument {
            id: None,
            uri: None,
            text: None,
            content_type: "text/plain",
            metadata: &empty,
            // Computed below, from the chunks.
            content_hash: ContentHash([0; 32]),
            chunks: Vec::new(),
            expires_at: None,
        };
        let stamp = txn.stamp();
        let id = documents::insert(conn, stamp, txn.now, target.id(), &new_id(), &new)?;
        for (chunk, _) in &chunks {
            // Without a text there are no bytes and lines of it.
            sql::execute(
                conn,
                "UPDATE chunks SET document_id = ?2, byte_start = NULL, byte_end = NULL, line_start = NULL, line_end = NULL
                 WHERE id = ?1",
                params![chunk, id],
            )?;
        }
        touched.insert(id);
        let still = "SELECT EXISTS (SELECT 1 FROM documents WHERE id = ?1)";
        if sql::query_one(conn, still, [old], |row| row.get(0))? {
            touched.insert(old);
        }
        let names: Vec<String> = chunks.into_iter().map(|(_, uid)| uid).collect();
        lose(report, "the document of chunks, which now have an empty one", &names);
    }
    Ok(())
}

/// What a row that is read cannot be.
pub fn unreadable(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{what} cannot be read"))
}

/// Hashes a document; its name where the hash was another.
pub fn rehash(conn: &Connection, id: i64) -> Result<Option<String>> {
    let document = documents::by_row(conn, id)?;
    let hash = shared::hash_of(conn, id)?;
    if hash == document.content_hash {
        return Ok(None);
    }
    sql::execute(conn, "UPDATE documents SET content_hash = ?2 WHERE id = ?1", params![id, hash.0])?;
    Ok(Some(document.uid))
}
