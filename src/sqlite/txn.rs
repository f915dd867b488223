//! What every write works with inside its transaction.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::fork::Activity;
use super::guard::{Guard, WriterLock};
use super::lock;
use super::tables::changes::Stamp;
use super::tables::meta;
use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::model::Timestamp;

/// How far a write has come, and whether its caller still wants it.
#[derive(Debug, Default)]
pub struct Progress {
    pub done: AtomicU64,
    pub total: AtomicU64,
    pub cancelled: AtomicBool,
}

/// An open write transaction. It does not commit: the writer does, for all writes that share it.
pub struct Txn<'c> {
    pub conn: &'c Connection,
    pub now: Timestamp,
    guard: Option<&'c Guard>,
    commit_tag: i64,
    clock: Hlc,
    /// A moment was given since the clock was read.
    ticked: bool,
    /// Collections and ids of chunks and documents that one write deleted; it may have made some of them anew.
    gone: RefCell<Vec<(i64, String)>>,
}

impl<'c> Txn<'c> {
    /// Reads the clock; the write lock is held.
    pub fn new(conn: &'c Connection, guard: Option<&'c Guard>) -> Result<Self> {
        let commit_tag = i64::from_le_bytes(meta::random()?);
        let gone = RefCell::default();
        Ok(Self { conn, now: Timestamp::now(), guard, commit_tag, clock: meta::clock(conn)?, ticked: false, gone })
    }

    /// The next moment, shared by all that one write changes.
    pub fn stamp(&mut self) -> Stamp {
        self.clock = self.clock.tick(self.now.millis());
        self.ticked = true;
        Stamp { commit_tag: self.commit_tag, hlc: self.clock }
    }

    /// Notes that a chunk or a document was deleted.
    pub fn deleted(&self, collection_id: i64, uid: &str) {
        self.gone.borrow_mut().push((collection_id, uid.to_owned()));
    }

    /// What was deleted since this was last asked.
    pub fn take_deleted(&self) -> Vec<(i64, String)> {
        self.gone.take()
    }

    /// The last moment that was given.
    pub fn clock(&self) -> Hlc {
        self.clock
    }

    /// Moves the clock up to a moment that was given before.
    pub fn raise_clock(&mut self, clock: Hlc) {
        self.clock = self.clock.max(Hlc { replica: self.clock.replica, ..clock }.tick(0));
        self.ticked = true;
    }

    /// To be called between rows: stops a write whose caller does not want it any more, and one whose lock was lost,
    /// before it writes further into a log that another process may be writing too.
    pub fn check(&self, progress: &Progress) -> Result<()> {
        if progress.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller; nothing was stored"));
        }
        if self.lock_stands()? { Ok(()) } else { Err(lost_lock()) }
    }

    /// Whether SQLite's write lock is still ours.
    pub fn lock_stands(&self) -> Result<bool> {
        self.guard.map_or(Ok(true), Guard::write_lock_stands)
    }

    /// Stores the clock, if it was moved. The last thing before the commit.
    pub fn finish(self) -> Result<()> {
        if self.ticked { meta::set_clock(self.conn, self.clock) } else { Ok(()) }
    }
}

/// How often a transaction that lost its lock runs again before its caller is told.
pub const ATTEMPTS: usize = 5;

/// SQLite's write lock and the writers' turn.
pub struct Locked<'g> {
    _activity: Activity,
    _turn: Option<WriterLock<'g>>,
}

/// Waits for the writers' turn and begins a transaction. Without a guard nobody else knows the file.
pub fn begin<'g>(
    conn: &Connection,
    guard: Option<&'g Guard>,
    deadline: Instant,
    cancelled: &dyn Fn() -> bool,
) -> Result<Locked<'g>> {
    let turn = guard.map(|guard| guard.lock_writer(deadline, cancelled)).transpose()?;
    if let Some(guard) = guard {
        guard.wait_for_other_libraries(deadline, cancelled)?;
    }
    Ok(Locked { _activity: lock::begin_immediate(conn, deadline, cancelled)?, _turn: turn })
}

/// One transaction that no caller waits for and that changes no answer: it leaves the clock and the feed alone.
pub fn transact<T>(
    conn: &Connection,
    guard: Option<&Guard>,
    timeout: Duration,
    progress: &Progress,
    mut body: impl FnMut(&mut Txn<'_>) -> Result<T>,
) -> Result<T> {
    let cancelled = || progress.cancelled.load(Ordering::Relaxed);
    let mut attempt = || -> Result<Option<T>> {
        let _locked = begin(conn, guard, Instant::now() + timeout, &cancelled)?;
        let mut run = || -> Result<Option<T>> {
            let mut txn = Txn::new(conn, guard)?;
            txn.check(progress)?;
            let outcome = body(&mut txn);
            if !txn.lock_stands()? {
                return Ok(None);
            }
            let outcome = outcome?;
            txn.finish()?;
            conn.execute_batch("COMMIT")?;
            Ok(Some(outcome))
        };
        let result = run();
        lock::rollback(conn);
        result
    };
    for _ in 0..ATTEMPTS {
        if let Some(outcome) = attempt()? {
            return Ok(outcome);
        }
    }
    Err(lost_lock().context(format!("{ATTEMPTS} times in a row")))
}

/// Internal to the writer, which runs the transaction again.
pub fn lost_lock() -> Error {
    Error::new(
        ErrorKind::Locked,
        "the write lock was lost: something in this process opened and closed the store's file",
    )
}
