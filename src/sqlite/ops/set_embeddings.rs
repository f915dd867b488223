use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::shared::{self, Incoming, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::request::SetEmbeddings;
use crate::sqlite::tables::changes::{self, Change, Entity, Op};
use crate::sqlite::tables::vectors::{self, Reader};
use crate::sqlite::txn::{Progress, Txn};

/// A vector that is replaced moves its chunk to a new rowid; a chunk's first vector in the space does not.
pub fn run(txn: &mut Txn<'_>, request: &SetEmbeddings, progress: &Progress) -> Result<()> {
    let conn = txn.conn;
    let mut target = Target::find(conn, &request.collection)?;
    let chunks = shared::require_chunks(conn, &target, &request.chunk_ids, txn.now)?;
    let mut distinct = BTreeSet::new();
    if let Some(twice) = chunks.iter().find(|chunk| !distinct.insert(chunk.id)) {
        return Err(Error::new(
            ErrorKind::Argument,
            format!("chunk_ids names {:?} twice; give each chunk one embedding", twice.uid),
        ));
    }
    let mut incoming = Incoming::new(conn, &mut target, &request.space, &request.embeddings, chunks.len())?;
    let table = incoming.table;
    let stamp = txn.stamp();
    progress.done.store(0, Ordering::Relaxed);
    progress.total.store(chunks.len() as u64, Ordering::Relaxed);
    let mut touched = BTreeSet::new();
    let mut old = vec![0.0; table.dimension];
    for (index, chunk) in chunks.iter().enumerate() {
        txn.check(progress)?;
        let Some(new) = incoming.staging.row(index)? else { continue };
        let had = Reader::new(conn, table).read(chunk.id, &mut old)?;
        if had && old == new {
            continue;
        }
        let row = if had { shared::renumber_chunk(txn, stamp, &target, chunk, table)?.id } else { chunk.id };
        vectors::insert(conn, table, row, new)?;
        changes::append(
            conn,
            stamp,
            Change {
                collection_id: Some(target.id()),
                space_id: Some(table.space_id),
                entity: Entity::Embedding,
                uid: Some(&chunk.uid),
                row_id: Some(row),
                op: Op::Put,
            },
        )?;
        touched.insert(chunk.document_id);
        progress.done.store(index as u64 + 1, Ordering::Relaxed);
    }
    touched.into_iter().try_for_each(|id| shared::document_touched(txn, stamp, &target, id))
}
