use crate::error::Result;
use crate::model::ContentHash;
use crate::request::ClearEmbeddingCache;
use crate::sqlite::tables::embedding_cache;
use crate::sqlite::txn::{Progress, Txn};

pub fn run(txn: &Txn<'_>, request: &ClearEmbeddingCache, progress: &Progress) -> Result<u64> {
    let model = request.model.as_deref();
    let Some(texts) = &request.texts else {
        return embedding_cache::clear(txn.conn, model);
    };
    texts.iter().try_fold(0, |removed, text| {
        txn.check(progress)?;
        Ok(removed + embedding_cache::forget(txn.conn, model, ContentHash::of_text(text))?)
    })
}
