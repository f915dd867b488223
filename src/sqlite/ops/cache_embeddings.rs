use super::staging::Staging;
use crate::error::Result;
use crate::model::{ContentHash, Metric, check_name};
use crate::request::CacheEmbeddings;
use crate::sqlite::tables::embedding_cache;
use crate::sqlite::txn::{Progress, Txn};

/// Nothing that the change feed follows changes: the cache is of this file alone.
pub fn run(txn: &Txn<'_>, request: &CacheEmbeddings, progress: &Progress) -> Result<()> {
    check_name("model", &request.model)?;
    // No space says how they will be compared; l2 takes every finite vector.
    let mut staging = Staging::new(&request.embeddings, Metric::L2, request.texts.len())?;
    for (index, text) in request.texts.iter().enumerate() {
        txn.check(progress)?;
        let Some(vector) = staging.row(index)? else { continue };
        embedding_cache::insert(txn.conn, txn.now, &request.model, ContentHash::of_text(text), vector)?;
    }
    embedding_cache::evict(txn.conn, request.limit)
}
