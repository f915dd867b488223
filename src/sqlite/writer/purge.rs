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

/// Merges of one text index.
const MERGES: u32 = 3;
/// Leaves of FTS5 written in one transaction.
const LEAVES: u32 = 1_000;
/// How long readers are waited for at a time.
const TURN: Duration = Duration::from_millis(50);

impl Worker {
    /// Writes the text index of a collection, those in which something is left that no row has, and then the whole file
    /// anew, and empties the log. Between two steps other writers have their turns. The process may end at any of them:
    /// the next purge begins anew.
    pub(super) fn purge(&mut self, collection_id: i64, progress: &Progress) -> Result<()> {
        let cancelled = || progress.cancelled.load(Ordering::Relaxed);
        let all = self.purging(progress, |txn| collections::list(txn.conn))?;
        for id in all.into_iter().map(|row| row.id) {
            // Another collection may have had the same words before.
            if id == collection_id || !self.purging(progress, |txn| all_live(txn, id))? {
                self.purge_terms(id, progress)?;
            }
        }
        self.renew()?;
        self.make_room(&cancelled)?;
        vacuum::run(self.desk(progress), &self.config.path)?;
        self.empty_log(&cancelled)
    }

    fn purging<T>(&mut self, progress: &Progress, run: impl FnOnce(&mut Txn<'_>) -> Result<T>) -> Result<T> {
        let Desk { conn, guard, timeout, .. } = self.desk(progress);
        txn::transact(conn, guard, timeout, progress, run)
    }

    /// Merges until no page has a term of which every row is gone. Others delete meanwhile, and leave some.
    fn purge_terms(&mut self, collection_id: i64, progress: &Progress) -> Result<()> {
        let cancelled = || progress.cancelled.load(Ordering::Relaxed);
        for turns_left in (0..MERGES).rev() {
            let mut first = true;
            loop {
                self.renew()?;
                self.make_room(&cancelled)?;
                let begins = std::mem::take(&mut first);
                if !self.purging(progress, |txn| merge(txn, collection_id, begins))? {
                    break;
                }
                self.tend_log();
                self.serve()?;
            }
            if self.purging(progress, |txn| settle(txn, collection_id, turns_left == 0, progress))? {
                break;
            }
        }
        Ok(())
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

/// The text index of a collection, which may be gone by now.
fn text_index(txn: &Txn<'_>, collection_id: i64) -> Result<Option<(String, FtsTable)>> {
    let row = collections::list(txn.conn)?.into_iter().find(|row| row.id == collection_id);
    Ok(row.map(|row| (row.name, FtsTable { collection_id, generation: row.fts_generation })))
}

fn all_live(txn: &Txn<'_>, collection_id: i64) -> Result<bool> {
    text_index(txn, collection_id)?.map_or(Ok(true), |(_, table)| fts_terms::all_live(txn.conn, table))
}

/// Merges some of the segments, in which rows that are gone have no postings then, and says whether there is more to
/// do.
fn merge(txn: &Txn<'_>, collection_id: i64, first: bool) -> Result<bool> {
    let Some((_, table)) = text_index(txn, collection_id)? else { return Ok(false) };
    if first && fts::structure(txn.conn, table)?.segments < 2 {
        return Ok(false);
    }
    fts::merge(txn.conn, table, first, LEAVES)
}

/// Says whether every term has a row now. A merge may leave one that has none where FTS5 does not know that nothing
/// older has it; the next generation takes the place of the text index then.
fn settle(txn: &mut Txn<'_>, collection_id: i64, last: bool, progress: &Progress) -> Result<bool> {
    let Some((name, table)) = text_index(txn, collection_id)? else { return Ok(true) };
    if fts_terms::all_live(txn.conn, table)? {
        return Ok(true);
    }
    if !last && fts::structure(txn.conn, table)?.segments > 1 {
        return Ok(false);
    }
    let target = Target::find(txn.conn, &name)?;
    set_tokenizer::reindex(txn, &target, &target.collection.spec()?, progress)?;
    Ok(true)
}
