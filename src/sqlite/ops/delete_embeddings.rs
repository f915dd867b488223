use std::collections::{BTreeMap, BTreeSet};

use super::shared::{self, Target};
use crate::error::Result;
use crate::request::DeleteEmbeddings;
use crate::sqlite::tables::spaces;
use crate::sqlite::tables::vectors::Reader;
use crate::sqlite::txn::{Progress, Txn};

/// The chunk moves to a new rowid, so that its old one never comes to mean another vector.
pub fn run(txn: &mut Txn<'_>, request: &DeleteEmbeddings, progress: &Progress) -> Result<u64> {
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    let space = spaces::require(conn, target.id(), &request.space)?;
    let Some(table) = space.table() else { return Ok(0) };
    let named = shared::find_chunks(conn, &target, &request.chunk_ids, txn.now)?.into_iter().flatten();
    let chunks: BTreeMap<i64, _> = named.map(|chunk| (chunk.id, chunk)).collect();
    let stamp = txn.stamp();
    let mut vector = vec![0.0; table.dimension];
    let mut found = 0;
    let mut touched = BTreeSet::new();
    for chunk in chunks.values() {
        txn.check(progress)?;
        if Reader::new(conn, table).read(chunk.id, &mut vector)? {
            shared::renumber_chunk(txn, stamp, &target, chunk, table)?;
            touched.insert(chunk.document_id);
            found += 1;
        }
    }
    touched.into_iter().try_for_each(|id| shared::document_touched(txn, stamp, &target, id))?;
    Ok(found)
}
