use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, params};
use serde_json::Value;

use super::shared::{self, Target};
use crate::error::Result;
use crate::model::{ContentHash, Timestamp, check_id};
use crate::request::{Forget, Forgotten};
use crate::sqlite::matching;
use crate::sqlite::sql;
use crate::sqlite::tables::documents::{self, DocumentRow};
use crate::sqlite::tables::vectors::Reader;
use crate::sqlite::tables::{chunks, embedding_cache, relations, sync_peers, tombstones};
use crate::sqlite::txn::{Progress, Txn};
use crate::traces::{self, Kind, Traces};
use crate::vector_index::CodesBuilder;

/// Traces of one call, about: 2^20 of them, or two for each content where there are more of those.
const TRACES: usize = 1 << 20;
/// A moment at which nothing had expired: what nobody sees any more is on the disk all the same.
const EVER: Timestamp = Timestamp(i64::MIN);

/// Deletes documents as [`super::delete`] does, with more of what belongs to them. Pieces of all of it are taken in the
/// same transaction, of exactly what goes.
pub fn run(txn: &mut Txn<'_>, request: &Forget, progress: &Progress) -> Result<Forgotten> {
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    let (found, missing) = find(conn, &target, request)?;
    progress.total.store(found.len() as u64, Ordering::Relaxed);
    let mut taker = Taker::new(conn, &target, &found)?;
    // Relations that wait for an end of these names go, too. A filter says nothing of what is not there.
    let mut ids = if request.filter.is_none() { request.document_ids.clone().unwrap_or_default() } else { Vec::new() };
    let related = relations::count_all(conn)?;
    let stamp = txn.stamp();
    let mut aliases = Vec::new();
    for (id, document) in &found {
        txn.check(progress)?;
        ids.push(document.uid.clone());
        if let Some(uri) = &document.uri {
            aliases.extend(tombstones::aliases(conn, target.id(), uri)?);
        }
        taker.document(*id, document)?;
        for chunk in chunks::of_document(conn, *id)? {
            taker.chunk(chunk.id)?;
            ids.push(chunk.uid);
        }
    }
    let named = serde_json::json!(ids).to_string();
    aliases.extend_from_slice(&ids);
    sync_peers::forget_conflicts(conn, &request.collection, &serde_json::json!(aliases).to_string())?;
    for metadata in relations::metadata_of(conn, target.id(), &named)? {
        taker.metadata(metadata.as_json());
    }
    for id in found.keys() {
        txn.check(progress)?;
        shared::empty_document(txn, stamp, &target, *id)?;
    }
    for (id, document) in &found {
        txn.check(progress)?;
        shared::delete_document(txn, stamp, &target, *id, &document.uid)?;
        progress.done.fetch_add(1, Ordering::Relaxed);
    }
    shared::cut_relations(txn)?;
    let mut gone = Vec::new();
    for id in ids {
        if !shared::is_there(conn, target.id(), &id, EVER)? {
            gone.push(id);
        }
    }
    relations::delete_waiting(conn, stamp, target.id(), &serde_json::json!(gone).to_string())?;
    let cached_embeddings = taker.cached(txn, progress)?;
    Ok(Forgotten {
        collection_id: target.id(),
        documents: found.len() as u64,
        chunks: taker.chunks,
        embeddings: taker.embeddings,
        relations: related.saturating_sub(relations::count_all(conn)?),
        cached_embeddings,
        traces: taker.traces,
        missing,
    })
}

/// The documents, and the ids that name none.
fn find(conn: &Connection, target: &Target, request: &Forget) -> Result<(BTreeMap<i64, DocumentRow>, Vec<String>)> {
    let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
    for uid in request.document_ids.iter().flatten() {
        check_id("document id", uid)?;
        match tombstones::document_of(conn, target.id(), uid)? {
            Some(document) => drop(found.insert(document.id, document)),
            None => missing.push(uid.clone()),
        }
    }
    let Some(filter) = &request.filter else { return Ok((found, missing)) };
    if request.document_ids.is_some() {
        let mut kept = BTreeMap::new();
        for (id, document) in found {
            if shared::document_matches(conn, id, filter, EVER)? {
                kept.insert(id, document);
            }
        }
        return Ok((kept, missing));
    }
    for row in matching::chunks(conn, target.id(), filter)?.iter() {
        let id = chunks::by_row(conn, row)?.document_id;
        if let Entry::Vacant(entry) = found.entry(id) {
            entry.insert(documents::by_row(conn, id)?);
        }
    }
    let text = "SELECT id FROM documents d WHERE collection_id = ?1
                AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.document_id = d.id)";
    for id in sql::query_all(conn, text, [target.id()], |row| row.get(0))? {
        if shared::document_matches(conn, id, filter, EVER)? {
            found.insert(id, documents::by_row(conn, id)?);
        }
    }
    Ok((found, missing))
}

/// Takes pieces of what is deleted.
struct Taker<'t> {
    conn: &'t Connection,
    target: &'t Target,
    stride: usize,
    traces: Traces,
    chunks: u64,
    embeddings: u64,
}

impl<'t> Taker<'t> {
    fn new(conn: &'t Connection, target: &'t Target, found: &BTreeMap<i64, DocumentRow>) -> Result<Self> {
        const OF_DOCUMENT: &str =
            "SELECT ifnull(octet_length(raw_content), 0) + octet_length(metadata) FROM documents WHERE id = ?1";
        const OF_CHUNKS: &str =
            "SELECT count(*), ifnull(sum(ifnull(octet_length(content), 0) + octet_length(metadata)), 0)
                                 FROM chunks WHERE document_id = ?1";
        // Of float32, and of the code.
        let vectors: u64 = target.vector_tables().map(|table| 5 * table.dimension as u64).sum();
        let mut bytes = 0u64;
        for id in found.keys() {
            let own: u64 = sql::query_one(conn, OF_DOCUMENT, [id], |row| row.get(0))?;
            let (chunks, texts): (u64, u64) =
                sql::query_one(conn, OF_CHUNKS, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            bytes = bytes.saturating_add(own).saturating_add(texts).saturating_add(chunks.saturating_mul(vectors));
        }
        let stride = traces::stride(bytes, TRACES);
        Ok(Self { conn, target, stride, traces: Traces::default(), chunks: 0, embeddings: 0 })
    }

    fn take(&mut self, kind: Kind, bytes: &[u8]) {
        self.traces.add(kind, bytes, self.stride);
    }

    fn document(&mut self, id: i64, document: &DocumentRow) -> Result<()> {
        self.take(Kind::Hash, &document.content_hash.0);
        if let Some(text) = documents::text(self.conn, id)? {
            self.take(Kind::Text, text.as_bytes());
        }
        let metadata = documents::metadata(self.conn, id)?;
        self.metadata(metadata.as_json());
        Ok(())
    }

    fn chunk(&mut self, row: i64) -> Result<()> {
        self.chunks += 1;
        let read = "SELECT content, metadata, content_hash FROM chunks WHERE id = ?1";
        let (text, metadata, hash): (Option<String>, String, Option<[u8; 32]>) =
            sql::query_one(self.conn, read, params![row], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        self.metadata(&metadata);
        if let Some(hash) = hash {
            self.take(Kind::Hash, &hash);
        }
        if let Some(text) = text {
            self.take(Kind::Text, text.as_bytes());
            let tokenizer = self.target.collection.spec()?.instance()?;
            let (traces, stride) = (&mut self.traces, self.stride);
            tokenizer.tokenize(&text, &mut |term, _, _| traces.add(Kind::Term, term, stride))?;
        }
        for table in self.target.vector_tables() {
            let mut vector = vec![0.0; table.dimension];
            if Reader::new(self.conn, table).read(row, &mut vector)? {
                self.embeddings += 1;
                self.take(Kind::Vector, bytemuck::cast_slice(&vector));
                let mut codes = CodesBuilder::new(table.dimension, table.metric, 1);
                codes.push(&vector)?;
                self.take(Kind::Code, &codes.finish()?.components()[..table.dimension]);
            }
        }
        Ok(())
    }

    /// The object as it is stored, and the strings in it: an index of a field has them by themselves, as they are.
    fn metadata(&mut self, json: &str) {
        if json == "{}" {
            return;
        }
        self.take(Kind::Metadata, json.as_bytes());
        if let Ok(value) = serde_json::from_str(json) {
            self.strings(&value);
        }
    }

    fn strings(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.take(Kind::Metadata, text.as_bytes()),
            Value::Array(all) => all.iter().for_each(|value| self.strings(value)),
            Value::Object(all) => all.values().for_each(|value| self.strings(value)),
            _ => {}
        }
    }

    /// Removes what embedders made of texts that no chunk has, also of those that earlier calls replaced or deleted, and
    /// says how many there were.
    fn cached(&mut self, txn: &Txn<'_>, progress: &Progress) -> Result<u64> {
        let mut gone = embedding_cache::texts(self.conn)?;
        if gone.is_empty() {
            return Ok(0);
        }
        // No index has the hashes of chunks, since nothing else looks for them.
        let mut statement = sql::prepare(self.conn, "SELECT content_hash FROM chunks WHERE content_hash IS NOT NULL")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()?
            && !gone.is_empty()
        {
            txn.check(progress)?;
            gone.remove(&ContentHash(row.get(0)?));
        }
        drop(rows);
        let mut removed = 0;
        for hash in gone {
            txn.check(progress)?;
            self.take(Kind::Hash, &hash.0);
            for vector in embedding_cache::of_text(self.conn, hash)? {
                self.take(Kind::Vector, &vector);
            }
            removed += embedding_cache::forget(self.conn, None, hash)?;
        }
        Ok(removed)
    }
}
