//! What every write works with inside its transaction.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::Connection;

use super::guard::Guard;
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
}

impl<'c> Txn<'c> {
    /// Reads the clock; the write lock is held.
    pub fn new(conn: &'c Connection, guard: Option<&'c Guard>) -> Result<Self> {
        let commit_tag = i64::from_le_bytes(meta::random()?);
        Ok(Self { conn, now: Timestamp::now(), guard, commit_tag, clock: meta::clock(conn)? })
    }

    /// The next moment, shared by all that one write changes.
    pub fn stamp(&mut self) -> Stamp {
        self.clock = self.clock.tick(self.now.millis());
        Stamp { commit_tag: self.commit_tag, hlc: self.clock }
    }

    /// The last moment that was given.
    pub fn clock(&self) -> Hlc {
        self.clock
    }

    /// Moves the clock up to a moment that was given before.
    pub fn raise_clock(&mut self, clock: Hlc) {
        self.clock = self.clock.max(Hlc { replica: self.clock.replica, ..clock }.tick(0));
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

    /// Stores the clock. The last thing before the commit.
    pub fn finish(self) -> Result<()> {
        meta::set_clock(self.conn, self.clock)
    }
}

/// Internal to the writer, which runs the transaction again.
pub fn lost_lock() -> Error {
    Error::new(
        ErrorKind::Locked,
        "the write lock was lost: something in this process opened and closed the store's file",
    )
}
