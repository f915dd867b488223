//! What every write works with inside its transaction.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::failpoints::{Site, reach};
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
    commit_tag: i64,
    clock: Hlc,
    /// A moment was given since the clock was read.
    ticked: bool,
    /// Collections and ids of chunks and documents that one write deleted; it may have made some of them anew.
    gone: RefCell<Vec<(i64, String)>>,
}

impl<'c> Txn<'c> {
    /// Reads the clock; the write lock is held.
    pub fn new(conn: &'c Connection) -> Result<Self> {
        let commit_tag = i64::from_le_bytes(meta::random()?);
        let gone = RefCell::default();
        Ok(Self { conn, now: Timestamp::now(), commit_tag, clock: meta::clock(conn)?, ticked: false, gone })
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

    /// To be called between rows: stops a write whose caller does not want it any more.
    pub fn check(&self, progress: &Progress) -> Result<()> {
        reach(Site::Rows);
        if progress.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller; nothing was stored"));
        }
        Ok(())
    }

    /// Stores the clock, if it was moved. The last thing before the commit.
    pub fn finish(self) -> Result<()> {
        if self.ticked { meta::set_clock(self.conn, self.clock) } else { Ok(()) }
    }
}

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
    Ok(Locked { _activity: lock::begin_immediate(conn, deadline, cancelled)?, _turn: turn })
}

/// One transaction that no caller waits for and that changes no answer: it leaves the clock and the feed alone.
pub fn transact<T>(
    conn: &Connection,
    guard: Option<&Guard>,
    timeout: Duration,
    progress: &Progress,
    body: impl FnOnce(&mut Txn<'_>) -> Result<T>,
) -> Result<T> {
    let cancelled = || progress.cancelled.load(Ordering::Relaxed);
    let _locked = begin(conn, guard, Instant::now() + timeout, &cancelled)?;
    let run = || -> Result<T> {
        let mut txn = Txn::new(conn)?;
        txn.check(progress)?;
        let outcome = body(&mut txn)?;
        txn.finish()?;
        conn.execute_batch("COMMIT")?;
        Ok(outcome)
    };
    let result = run();
    lock::rollback(conn);
    result
}
