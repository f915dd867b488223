//! Giving space back and putting in order, in small transactions. Between two of them every writer has its turn, and
//! the process may end: each leaves the file as good as it was. No answer changes, and no rowid.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;

use super::guard::Guard;
use super::sql;
use super::tables::fts::{self, FtsTable};
use super::tables::vectors::{self, VectorTable};
use super::tables::{changes, chunks, collections, relations, replicas, spaces, tombstones};
use super::txn::{self, Progress, Txn};
use crate::error::{Error, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::Timestamp;

/// Changes forgotten in one step.
const CHANGES: i64 = 10_000;
/// Bytes of vectors moved in one step, or the vectors of one block.
const VECTOR_BYTES: u64 = 4 << 20;
/// Leaves of FTS5 written in one step.
const LEAVES: u32 = 1_000;
/// Free pages given back in one step.
const PAGES: u64 = 1_000;
/// Rows of an index that are looked at for the planner's statistics. With a limit SQLite keeps no samples: none of what
/// a user stored ends in them, and plans follow the sizes of tables alone.
const ANALYSIS: u32 = 1_000;

enum Stage {
    /// Changes older than what a follower would rather read anew.
    Feed {
        keep: i64,
    },
    /// Deletions that no peer is told of any more, and relations whose end did not come in all that time.
    Tombstones {
        before: Hlc,
    },
    Vectors {
        table: VectorTable,
        blocks: VecDeque<(i64, u32)>,
    },
    Text {
        table: FtsTable,
        begun: bool,
    },
    FreePages {
        counted: bool,
    },
    Statistics,
}

/// What is left to do.
pub struct Optimize {
    stages: VecDeque<Stage>,
}

/// What the steps run with.
#[derive(Clone, Copy)]
pub struct Desk<'w> {
    pub conn: &'w Connection,
    pub guard: Option<&'w Guard>,
    pub timeout: Duration,
    pub progress: &'w Progress,
}

impl Optimize {
    /// Looks at what there is to do; `conn` is on one snapshot.
    pub fn plan(conn: &Connection, progress: &Progress) -> Result<Self> {
        let mut stages = VecDeque::new();
        let mut total = free_pages(conn)?;
        if let Some((first, last)) = changes::ends(conn)? {
            let most = chunks::count_all(conn)?.max(limits::FEED_ROWS);
            let keep = last.saturating_sub(i64::try_from(most).unwrap_or(i64::MAX)).saturating_add(1);
            if keep > first {
                total += keep.abs_diff(first);
                stages.push_back(Stage::Feed { keep });
            }
        }
        let before = Timestamp::now().millis().saturating_sub(limits::TOMBSTONE_MILLIS);
        let before = Hlc { millis: before, counter: 0, replica: [0; 16] };
        let forgotten = tombstones::count_before(conn, before)? + relations::count_waiting_before(conn, before)?;
        if forgotten > 0 {
            total += forgotten;
            stages.push_back(Stage::Tombstones { before });
        }
        for collection in collections::list(conn)? {
            for table in spaces::list(conn, collection.id)?.iter().filter_map(spaces::SpaceRow::table) {
                let blocks: VecDeque<_> = vectors::sparse_blocks(conn, table)?.into();
                if !blocks.is_empty() {
                    total += blocks.iter().map(|(_, vectors)| u64::from(*vectors)).sum::<u64>();
                    stages.push_back(Stage::Vectors { table, blocks });
                }
            }
            let table = FtsTable { collection_id: collection.id, generation: collection.fts_generation };
            let structure = fts::structure(conn, table)?;
            if structure.segments > 1 {
                total += structure.leaves;
                stages.push_back(Stage::Text { table, begun: false });
            }
        }
        stages.push_back(Stage::FreePages { counted: false });
        stages.push_back(Stage::Statistics);
        progress.total.store(total, Ordering::Relaxed);
        Ok(Self { stages })
    }

    /// One transaction; false when there is nothing left.
    pub fn step(&mut self, desk: Desk<'_>) -> Result<bool> {
        let Some(stage) = self.stages.front_mut() else { return Ok(false) };
        let Desk { conn, guard, timeout, progress } = desk;
        let done = match stage {
            Stage::Feed { keep } => {
                let keep = *keep;
                let forgotten = txn::transact(conn, guard, timeout, progress, |txn| feed(txn, keep))?;
                advance(progress, forgotten);
                forgotten == 0
            }
            Stage::Tombstones { before } => {
                let before = *before;
                let forgotten = txn::transact(conn, guard, timeout, progress, |txn| forget(txn.conn, before))?;
                advance(progress, forgotten);
                forgotten == 0
            }
            Stage::Vectors { table, blocks } => {
                let table = *table;
                let most = VECTOR_BYTES / (4 * table.dimension as u64).max(1);
                let mut taken = 0;
                let mut step = Vec::new();
                while let Some((block, vectors)) = blocks.front().copied()
                    && (step.is_empty() || taken + u64::from(vectors) <= most)
                {
                    blocks.pop_front();
                    taken += u64::from(vectors);
                    step.push(block);
                }
                let lives = txn::transact(conn, guard, timeout, progress, |txn| move_vectors(txn, table, &step))?;
                advance(progress, taken);
                !lives || blocks.is_empty()
            }
            Stage::Text { table, begun } => {
                let (table, first) = (*table, !std::mem::replace(begun, true));
                let more = txn::transact(conn, guard, timeout, progress, |txn| {
                    Ok(fts::lives(txn.conn, table)? && fts::merge(txn.conn, table, first, LEAVES)?)
                })?;
                advance(progress, if more { u64::from(LEAVES) } else { 0 });
                !more
            }
            Stage::FreePages { counted } => {
                let (before, left) = txn::transact(conn, guard, timeout, progress, |txn| give_back(txn.conn))?;
                if !std::mem::replace(counted, true) {
                    // What came before freed some of them.
                    let done = progress.done.load(Ordering::Relaxed);
                    progress.total.fetch_max(done + before, Ordering::Relaxed);
                }
                advance(progress, before.saturating_sub(left));
                left == 0 || left >= before
            }
            Stage::Statistics => {
                txn::transact(conn, guard, timeout, progress, |txn| statistics(txn.conn))?;
                true
            }
        };
        if done {
            self.stages.pop_front();
        }
        Ok(true)
    }
}

fn advance(progress: &Progress, by: u64) {
    let total = progress.total.load(Ordering::Relaxed);
    let done = progress.done.load(Ordering::Relaxed);
    progress.done.store(done.saturating_add(by).min(total), Ordering::Relaxed);
}

fn feed(txn: &Txn<'_>, keep: i64) -> Result<u64> {
    let Some((first, _)) = changes::ends(txn.conn)? else { return Ok(0) };
    Ok(changes::forget_before(txn.conn, keep.min(first.saturating_add(CHANGES)))? as u64)
}

/// Who does not know of these deletions must not merge any more.
fn forget(conn: &Connection, before: Hlc) -> Result<u64> {
    let (forgotten, latest) = tombstones::forget_before(conn, before, CHANGES.unsigned_abs())?;
    replicas::forget(conn, &latest)?;
    Ok(forgotten + relations::forget_waiting_before(conn, before, CHANGES)?)
}

/// False where the table is gone since the plan was made.
fn move_vectors(txn: &Txn<'_>, table: VectorTable, blocks: &[i64]) -> Result<bool> {
    if !vectors::lives(txn.conn, table)? {
        return Ok(false);
    }
    for block in blocks {
        vectors::empty_block(txn.conn, table, *block)?;
    }
    Ok(true)
}

fn free_pages(conn: &Connection) -> Result<u64> {
    Ok(conn.query_row("PRAGMA freelist_count", [], |row| row.get(0))?)
}

/// Free pages before and after.
fn give_back(conn: &Connection) -> Result<(u64, u64)> {
    let before = free_pages(conn)?;
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = statement.query([])?;
    // A row for each page.
    while rows.next()?.is_some() {}
    drop(rows);
    Ok((before, free_pages(conn)?))
}

fn statistics(conn: &Connection) -> Result<()> {
    conn.pragma_update(None, "analysis_limit", ANALYSIS).or_else(returned)?;
    // Of all tables, also those that this connection did not ask.
    sql::query_all(conn, "PRAGMA optimize(0x10002)", [], |_| Ok(())).map(drop)
}

/// A pragma that answers with its value.
fn returned(error: rusqlite::Error) -> Result<()> {
    match error {
        rusqlite::Error::ExecuteReturnedResults => Ok(()),
        other => Err(Error::from(other)),
    }
}
