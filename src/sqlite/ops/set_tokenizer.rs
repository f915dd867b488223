use std::sync::atomic::Ordering;

use super::shared::Target;
use crate::error::Result;
use crate::request::SetTokenizer;
use crate::sqlite::tables::changes::{self, Change, Entity, Op};
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::{chunks, collections};
use crate::sqlite::tokenizer::TokenizerSpec;
use crate::sqlite::txn::{Progress, Txn};

/// The next generation of the text index takes the place of the old one, which is dropped whole.
pub fn run(txn: &mut Txn<'_>, request: &SetTokenizer, progress: &Progress) -> Result<()> {
    /// Rows between two looks at the caller and the lock.
    const STEP: usize = 64;
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    let tokenizer = TokenizerSpec::parse(&request.tokenizer)?;
    if target.collection.spec()? == tokenizer {
        return Ok(());
    }
    let stamp = txn.stamp();
    let old = target.fts();
    let new = FtsTable { generation: old.generation + 1, ..old };
    fts::create(conn, new, &tokenizer)?;
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
    collections::set_tokenizer(conn, target.id(), &tokenizer.as_text(), new.generation)?;
    collections::touch(conn, stamp, target.id())?;
    changes::append(
        conn,
        stamp,
        Change {
            collection_id: Some(target.id()),
            space_id: None,
            entity: Entity::Collection,
            uid: Some(&request.collection),
            row_id: Some(target.id()),
            op: Op::Put,
        },
    )
}
