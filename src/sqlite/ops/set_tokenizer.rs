use std::sync::atomic::Ordering;

use super::shared::{Target, collection_changed};
use crate::error::Result;
use crate::request::SetTokenizer;
use crate::sqlite::sql;
use crate::sqlite::tables::changes::Op;
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::{chunks, collections};
use crate::sqlite::tokenizer::TokenizerSpec;
use crate::sqlite::txn::{Progress, Txn};

pub fn run(txn: &mut Txn<'_>, request: &SetTokenizer, progress: &Progress) -> Result<()> {
    let target = Target::find(txn.conn, &request.collection)?;
    let tokenizer = TokenizerSpec::parse(&request.tokenizer)?;
    if target.collection.spec()? == tokenizer {
        return Ok(());
    }
    let stamp = txn.stamp();
    reindex(txn, &target, &tokenizer, progress)?;
    collections::touch(txn.conn, stamp, target.id())?;
    collection_changed(txn, stamp, &target, &request.collection, Op::Put)
}

/// The next generation of the text index takes the place of the old one, which is dropped whole.
pub fn reindex(txn: &Txn<'_>, target: &Target, tokenizer: &TokenizerSpec, progress: &Progress) -> Result<()> {
    /// Rows between two looks at the caller and the lock.
    const STEP: usize = 64;
    let conn = txn.conn;
    let old = target.fts();
    let new = FtsTable { generation: sql::next_generation(old.generation)?, ..old };
    fts::create(conn, new, tokenizer)?;
    let rows = chunks::rows_of_collection(conn, target.id())?;
    progress.done.store(0, Ordering::Relaxed);
    progress.total.store(rows.len() as u64, Ordering::Relaxed);
    for step in rows.chunks(STEP) {
        txn.check(progress)?;
        for &row in step {
            fts::copy(conn, new, row)?;
        }
        progress.done.fetch_add(step.len() as u64, Ordering::Relaxed);
    }
    fts::drop_table(conn, old)?;
    collections::set_tokenizer(conn, target.id(), &tokenizer.as_text(), new.generation)
}
