//! Reading the rows of a snapshot, a slice at a time.
//!
//! A rowid never changes its meaning, so a snapshot need not be read in one transaction, which would keep the log from
//! being moved and a fork from being quiet for as long. It is read between two changes, *begun* and *ended*. What happened
//! in between it may have or not; whoever follows it begins at *begun* and meets each of those changes once more, which
//! does no harm, and nobody reads it as of a state before *ended*.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::Connection;

use super::file::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::fork;
use crate::sqlite::tables::{changes, chunks};

/// What a kind says of a snapshot that it wrote.
#[derive(Debug, Clone, Copy, Default)]
pub struct Built {
    pub rows: u64,
    pub notes: [u64; 8],
}

/// How far a build has come, and whether it is still wanted.
#[derive(Debug, Default)]
pub struct Progress {
    /// In rows, a graph counted as its rows once more.
    pub done: AtomicU64,
    pub total: AtomicU64,
    pub cancelled: AtomicBool,
}

impl Progress {
    /// Fails when nobody wants it any more.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(cancelled()) } else { Ok(()) }
    }
}

/// Fails where an index takes more of the heap than there is for it.
pub fn check_room(bytes: u64, room: usize) -> Result<()> {
    if bytes <= room as u64 {
        return Ok(());
    }
    let message = format!("it takes {} MiB, and the memory limit leaves it {}", bytes.div_ceil(1 << 20), room >> 20);
    Err(Error::new(ErrorKind::Limit, message))
}

/// What a build ends with that nobody wants any more.
pub fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the build of an index was cancelled")
}

/// The rows of one table while others write.
pub struct Reading<'c> {
    conn: &'c Connection,
    lives: &'c dyn Fn(&Connection) -> Result<bool>,
    pub progress: &'c Progress,
    begun: Moment,
    ended: Moment,
    /// The greatest rowid to read.
    pub last_row: i64,
    /// About so many rows there are.
    pub stored: u64,
    /// Bytes of the heap that a build may take.
    pub room: usize,
}

impl<'c> Reading<'c> {
    /// Begins at the last change; `None` where there is nothing to read.
    pub fn begin(
        conn: &'c Connection,
        lives: &'c dyn Fn(&Connection) -> Result<bool>,
        stored: &dyn Fn(&Connection) -> Result<u64>,
        progress: &'c Progress,
        room: usize,
    ) -> Result<Option<Self>> {
        let begun = snapshot(conn, |conn| {
            let Some(head) = changes::head(conn)? else { return Ok(None) };
            if !lives(conn)? {
                return Ok(None);
            }
            Ok(Some((head, chunks::last_row(conn)?, stored(conn)?)))
        })?;
        let Some((begun, last_row, stored)) = begun else { return Ok(None) };
        Ok(Some(Self { conn, lives, progress, begun, ended: begun, last_row, stored, room }))
    }

    /// Reads a slice in a snapshot of its own.
    ///
    /// # Errors
    /// `Cancelled` where nobody wants it any more, or the table was replaced meanwhile.
    pub fn slice<T>(&mut self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.progress.check()?;
        let (begun, lives) = (self.begun, self.lives);
        let (ended, result) = snapshot(self.conn, |conn| {
            let head = changes::head(conn)?;
            let same = changes::has(conn, begun)?;
            match head {
                Some(head) if same && lives(conn)? => Ok((head, read(conn)?)),
                _ => Err(cancelled()),
            }
        })?;
        self.ended = ended;
        Ok(result)
    }

    /// Between which changes it was read.
    pub fn moments(&self) -> (Moment, Moment) {
        (self.begun, self.ended)
    }
}

/// Runs `read` on one snapshot of the database.
pub fn snapshot<T>(conn: &Connection, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let _activity = fork::enter();
    let snapshot = conn.unchecked_transaction()?;
    let result = read(&snapshot);
    // Nothing was written; ending the snapshot cannot lose anything.
    snapshot.finish()?;
    result
}
