use std::collections::BTreeSet;

use super::shared::{self, Target};
use crate::error::Result;
use crate::model::{Metadata, check_id};
use crate::request::{MetadataMode, UpdateMetadata};
use crate::sqlite::matching;
use crate::sqlite::sql;
use crate::sqlite::tables::{chunks, documents, field_values, tombstones};
use crate::sqlite::txn::{Progress, Txn};

pub fn run(txn: &mut Txn<'_>, request: &UpdateMetadata, progress: &Progress) -> Result<u64> {
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    let mut rows = BTreeSet::new();
    if let Some(ids) = &request.chunk_ids {
        rows.extend(shared::require_chunks(conn, &target, ids, txn.now)?.into_iter().map(|chunk| chunk.id));
    }
    if let Some(filter) = &request.filter {
        let matching = matching::living(conn, target.id(), filter, txn.now)?;
        if request.chunk_ids.is_some() {
            rows.retain(|&row| matching.contains(row));
        } else if request.document_ids.is_none() {
            rows.extend(matching.iter());
        }
    }
    let mut named = BTreeSet::new();
    let mut missing = Vec::new();
    for uid in request.document_ids.iter().flatten() {
        check_id("document id", uid)?;
        match tombstones::document_of(conn, target.id(), uid)?.filter(|document| !document.expired(txn.now)) {
            Some(document) => {
                let keep = |filter| shared::document_matches(conn, document.id, filter, txn.now);
                if request.filter.as_ref().map_or(Ok(true), keep)? {
                    named.insert(document.id);
                }
            }
            None => missing.push(uid),
        }
    }
    if !missing.is_empty() {
        return Err(shared::no_such("document", &missing));
    }
    let stamp = txn.stamp();
    let mut touched = BTreeSet::new();
    for &row in &rows {
        txn.check(progress)?;
        let old = chunks::metadata(conn, row)?;
        if let Some(new) = changed(&old, request)? {
            chunks::set_metadata(conn, stamp, row, &new)?;
            let document: i64 =
                sql::query_one(conn, "SELECT document_id FROM chunks WHERE id = ?1", [row], |row| row.get(0))?;
            touched.insert(document);
        }
    }
    for &id in &named {
        txn.check(progress)?;
        let old = documents::metadata(conn, id)?;
        if let Some(new) = changed(&old, request)? {
            documents::set_metadata(conn, id, &new)?;
            touched.insert(id);
        }
    }
    for id in touched {
        if !target.fields.is_empty() {
            field_values::refresh(conn, &target.fields, id)?;
        }
        shared::document_touched(txn, stamp, &target, id)?;
    }
    Ok((rows.len() + named.len()) as u64)
}

/// The new metadata, or `None` where nothing changes.
fn changed(old: &Metadata, request: &UpdateMetadata) -> Result<Option<Metadata>> {
    let new = match request.mode {
        MetadataMode::Merge => Metadata::from_map(&old.merged(&request.metadata)?)?,
        MetadataMode::Replace => request.metadata.clone(),
    };
    Ok((new != *old).then_some(new))
}
