//! Removing what was deleted from the pages and from the log: SQLite leaves it in free pages and in free places of
//! pages, FTS5 in segments that are not merged yet, and the log until it begins anew.
//!
//! vec0 overwrites a vector with zeros as it deletes it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Worker;
use crate::error::{ErrorKind, Result};
use crate::request::Checkpoint;
use crate::sqlite::ops::set_tokenizer;
use crate::sqlite::ops::shared::Target;
use crate::sqlite::optimize::Desk;
use crate::sqlite::tables::collections;
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::fts_terms;
use crate::sqlite::txn::{self, Progress, Txn};
use crate::sqlite::vacuum;

/// Leaves of FTS5 written in one transaction.
const LEAVES: u32 = 1_000;
/// How long readers are waited for at a time.
const TURN: Duration = Duration::from_millis(50);

impl Worker {
    /// Writes the text index of a collection and then the whole file anew, and empties the log. Between two steps other
    /// writers have their turns. The process may end at any of them: the next purge begins anew.
    pub(super) fn purge(&mut self, collection_id: i64, progress: &Progress) -> Result<()> {
        let cancelled = || progress.cancelled.load(Ordering::Relaxed);
        let mut first = true;
        loop {
            self.renew()?;
            self.make_room(&cancelled)?;
            let begins = std::mem::take(&mut first);
            let Desk { conn, guard, timeout, .. } = self.desk(progress);
            if !txn::transact(conn, guard, timeout, progress, |txn| merge(txn, collection_id, begins))? {
                break;
            }
            self.tend_log();
            self.serve()?;
        }
        let Desk { conn, guard, timeout, .. } = self.desk(progress);
        txn::transact(conn, guard, timeout, progress, |txn| rebuild(txn, collection_id, progress))?;
        self.renew()?;
        self.make_room(&cancelled)?;
        vacuum::run(self.desk(progress), &self.config.path)?;
        self.empty_log(&cancelled)
    }

    /// Waits for readers of older states, and lets other writes have their turns meanwhile.
    fn empty_log(&mut self, cancelled: &dyn Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + self.config.timeout;
        loop {
            self.renew()?;
            match self.wait_for_log(Checkpoint::Truncate, deadline.min(Instant::now() + TURN), cancelled) {
                Err(error) if error.kind() == ErrorKind::Locked && Instant::now() < deadline => self.serve()?,
                outcome => return outcome,
            }
        }
    }
}

/// Merges some of the segments, in which rows that are gone have no postings then, and says whether there is more to
/// do.
fn merge(txn: &Txn<'_>, collection_id: i64, first: bool) -> Result<bool> {
    // A collection may be gone by now.
    let Some(row) = collections::list(txn.conn)?.into_iter().find(|row| row.id == collection_id) else {
        return Ok(false);
    };
    let table = FtsTable { collection_id, generation: row.fts_generation };
    if first && fts::structure(txn.conn, table)?.segments < 2 {
        return Ok(false);
    }
    fts::merge(txn.conn, table, first, LEAVES)
}

/// Where a merge left a term that no row has, which FTS5 may do when it does not know that nothing older has it, the
/// next generation takes the place of the text index.
fn rebuild(txn: &Txn<'_>, collection_id: i64, progress: &Progress) -> Result<()> {
    let Some(row) = collections::list(txn.conn)?.into_iter().find(|row| row.id == collection_id) else {
        return Ok(());
    };
    let target = Target::find(txn.conn, &row.name)?;
    if fts_terms::all_live(txn.conn, target.fts())? {
        return Ok(());
    }
    set_tokenizer::reindex(txn, &target, &target.collection.spec()?, progress)
}
