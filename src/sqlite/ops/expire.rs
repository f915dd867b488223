use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use rusqlite::params;

use super::shared::{self, Target};
use crate::error::Result;
use crate::request::Expire;
use crate::sqlite::sql;
use crate::sqlite::tables::changes::Stamp;
use crate::sqlite::tables::{chunks, collections, expiry, state};
use crate::sqlite::txn::{Progress, Txn};

/// How many documents, and how many chunks of documents that stay, were removed. A document goes with its own end, not
/// with that of its last chunk.
pub fn run(txn: &mut Txn<'_>, request: &Expire, progress: &Progress) -> Result<u64> {
    let target = Target::find(txn.conn, &request.collection)?;
    let stamp = txn.stamp();
    let removed = remove(txn, stamp, &target, u64::MAX, &mut || txn.check(progress))?;
    progress.done.store(removed, Ordering::Relaxed);
    Ok(removed)
}

/// Of all collections and namespaces, about so many.
pub fn some(txn: &mut Txn<'_>, most: u64) -> Result<u64> {
    if !expiry::any(txn.conn, txn.now)? && !state::any_expired(txn.conn, txn.now)? {
        return Ok(0);
    }
    let stamp = txn.stamp();
    let mut removed = state::delete_expired(txn.conn, stamp, txn.now, most)?;
    for row in collections::list(txn.conn)? {
        if removed < most {
            let target = Target::find(txn.conn, &row.name)?;
            removed += remove(txn, stamp, &target, most - removed, &mut || Ok(()))?;
        }
    }
    shared::cut_relations(txn)?;
    Ok(removed)
}

fn remove(
    txn: &Txn<'_>,
    stamp: Stamp,
    target: &Target,
    most: u64,
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<u64> {
    let conn = txn.conn;
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let text = "SELECT id FROM documents WHERE expires_at <= ?2 AND +collection_id = ?1 LIMIT ?3";
    let gone: Vec<i64> = sql::query_all(conn, text, params![target.id(), txn.now.0, limit], |row| row.get(0))?;
    for id in &gone {
        go_on()?;
        shared::empty_document(txn, stamp, target, *id)?;
    }
    for id in &gone {
        go_on()?;
        shared::expire_document(txn, stamp, target, *id)?;
    }
    let mut removed = gone.len() as u64;
    let mut touched = BTreeSet::new();
    if removed < most {
        let text = "SELECT id FROM chunks WHERE expires_at <= ?2 AND +collection_id = ?1 LIMIT ?3";
        let rows: Vec<i64> = sql::query_all(conn, text, params![target.id(), txn.now.0, limit], |row| row.get(0))?;
        for row in &rows {
            go_on()?;
            let chunk = chunks::by_row(conn, *row)?;
            shared::delete_chunk(txn, stamp, target, &chunk)?;
            touched.insert(chunk.document_id);
        }
        removed += rows.len() as u64;
    }
    touched.into_iter().try_for_each(|id| shared::document_touched(txn, stamp, target, id))?;
    Ok(removed)
}
