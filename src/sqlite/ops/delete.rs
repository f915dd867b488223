use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::shared::{self, Target};
use crate::error::Result;
use crate::model::{Timestamp, check_id, check_name};
use crate::request::Delete;
use crate::sqlite::matching;
use crate::sqlite::tables::documents::{self, DocumentRow};
use crate::sqlite::tables::{chunks, tombstones};
use crate::sqlite::txn::{Progress, Txn};

pub fn run(txn: &mut Txn<'_>, request: &Delete, progress: &Progress) -> Result<u64> {
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    let named = request.chunk_ids.is_some() || request.document_ids.is_some() || request.uris.is_some();
    let mut chunks = BTreeMap::new();
    let ids = request.chunk_ids.as_deref().unwrap_or_default();
    for chunk in shared::find_chunks(conn, &target, ids, txn.now)?.into_iter().flatten() {
        chunks.insert(chunk.id, chunk);
    }
    let mut documents = find_documents(conn, &target, request, txn.now)?;
    if let Some(filter) = &request.filter {
        let matching = matching::living(conn, target.id(), filter, txn.now)?;
        if named {
            chunks.retain(|id, _| matching.contains(*id));
            let mut kept = BTreeMap::new();
            for (id, document) in documents {
                if shared::document_matches(conn, id, filter, txn.now)? {
                    kept.insert(id, document);
                }
            }
            documents = kept;
        } else {
            for id in matching.iter() {
                chunks.insert(id, chunks::by_row(conn, id)?);
            }
        }
    }
    let found = (chunks.len() + documents.len()) as u64;
    if found == 0 {
        return Ok(0);
    }
    let stamp = txn.stamp();
    for id in documents.keys() {
        txn.check(progress)?;
        shared::empty_document(txn, stamp, &target, *id)?;
    }
    for (id, document) in &documents {
        txn.check(progress)?;
        shared::delete_document(txn, stamp, &target, *id, &document.uid)?;
    }
    let mut touched = BTreeSet::new();
    for chunk in chunks.values().filter(|chunk| !documents.contains_key(&chunk.document_id)) {
        txn.check(progress)?;
        shared::delete_chunk(txn, stamp, &target, chunk)?;
        touched.insert(chunk.document_id);
    }
    for id in touched {
        if chunks::any(conn, id)? {
            shared::document_touched(txn, stamp, &target, id)?;
        } else {
            let document = documents::by_row(conn, id)?;
            shared::delete_document(txn, stamp, &target, id, &document.uid)?;
        }
    }
    Ok(found)
}

fn find_documents(
    conn: &Connection,
    target: &Target,
    request: &Delete,
    now: Timestamp,
) -> Result<BTreeMap<i64, DocumentRow>> {
    let mut found = BTreeMap::new();
    for uid in request.document_ids.iter().flatten() {
        check_id("document id", uid)?;
        if let Some(document) = tombstones::document_of(conn, target.id(), uid)? {
            found.insert(document.id, document);
        }
    }
    for uri in request.uris.iter().flatten() {
        check_name("uri", uri)?;
        if let Some(document) = documents::by_uri(conn, target.id(), uri)? {
            found.insert(document.id, document);
        }
    }
    found.retain(|_, document: &mut DocumentRow| !document.expired(now));
    Ok(found)
}
