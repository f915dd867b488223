use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::shared::{self, Target};
use crate::error::Result;
use crate::request::Expire;
use crate::sqlite::sql;
use crate::sqlite::tables::{chunks, documents, expiry};
use crate::sqlite::txn::{Progress, Txn};

/// How many documents, and how many chunks of documents that stay, were removed. A document goes with its own end, not with
/// that of its last chunk.
pub fn run(txn: &mut Txn<'_>, request: &Expire, progress: &Progress) -> Result<u64> {
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    let text = "SELECT id FROM documents WHERE expires_at <= ?2 AND +collection_id = ?1";
    let gone: Vec<i64> = sql::query_all(conn, text, [target.id(), txn.now.0], |row| row.get(0))?;
    let stamp = txn.stamp();
    for id in &gone {
        txn.check(progress)?;
        let document = documents::by_row(conn, *id)?;
        shared::delete_document(txn, stamp, &target, *id, &document.uid)?;
    }
    let mut touched = BTreeSet::new();
    let mut removed = gone.len() as u64;
    if let Some(rows) = expiry::chunks(conn, target.id(), txn.now)? {
        for row in rows.iter() {
            txn.check(progress)?;
            let chunk = chunks::by_row(conn, row)?;
            shared::delete_chunk(txn, stamp, &target, &chunk)?;
            touched.insert(chunk.document_id);
        }
        removed += rows.len();
    }
    progress.done.store(removed, Ordering::Relaxed);
    touched.into_iter().try_for_each(|id| shared::document_touched(txn, stamp, &target, id))?;
    Ok(removed)
}
