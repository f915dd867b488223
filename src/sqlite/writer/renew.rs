//! What the writer does about an I/O error: it trusts its connection no more, and opens another before it goes on.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, ffi};

use super::{Config, Failure, Worker};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::failpoints::{Site, reach};
use crate::sqlite::fork;
use crate::sqlite::lock;
use crate::sqlite::log;
use crate::sqlite::open::{self, Synchronous};
use crate::sqlite::sql;
use crate::sqlite::txn::Txn;

/// SQLite's codes for a sync that failed, of a file and of its folder.
const SYNC_FAILED: [c_int; 2] = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC];
const UNSYNCED: &str = "the disk did not confirm the commit, so it does not count as made";

impl Worker {
    /// Nothing that a connection knows is trusted after an I/O error: neither what SQLite keeps of the file in memory,
    /// nor that what it wrote to the log can still reach the disk. Reads go on meanwhile, on connections of their own.
    pub(super) fn renew(&mut self) -> Result<()> {
        if !self.distrusted.get() {
            return Ok(());
        }
        let _activity = fork::enter();
        // Before the old one closes: the last to close would have the log read anew, with what was not acknowledged.
        let mut conn = self.config.open()?;
        count_log(&mut conn, &self.log)?;
        self.conn = conn;
        if self.config.synchronous != Synchronous::Off {
            let deadline = Instant::now() + self.config.timeout;
            let guard = self.guard.as_deref();
            let _turn = guard.map(|guard| guard.lock_writer(deadline, &|| false)).transpose()?;
            let begun = lock::begin_immediate(&self.conn, deadline, &|| false);
            let _activity = begun.map_err(|error| self.examine(error))?;
            let rewritten = log::rewrite(&self.config.path);
            lock::rollback(&self.conn);
            rewritten?;
        }
        self.distrusted.set(false);
        Ok(())
    }

    /// Looks at an error of the connection before anything else is asked of it.
    pub(super) fn examine(&self, error: Error) -> Error {
        // What is unexpected may be an I/O error that vec0 passed on.
        if matches!(error.kind(), ErrorKind::Io | ErrorKind::Corrupt | ErrorKind::ReadOnly | ErrorKind::Internal) {
            self.distrusted.set(true);
        }
        sql::with_system_error(&self.conn, error)
    }

    pub(super) fn finish(&self, txn: Txn<'_>) -> std::result::Result<(), Failure> {
        txn.finish().map_err(|error| Failure::Own(self.examine(error)))?;
        if self.conn.is_autocommit() {
            let undone = "SQLite met damage that undid the transaction; check() says what is damaged";
            return Err(Failure::Own(self.examine(Error::new(ErrorKind::Corrupt, undone))));
        }
        reach(Site::BeforeCommit);
        self.committing.set(true);
        self.conn.execute_batch("COMMIT").map_err(|error| {
            let unsynced = error.sqlite_error().is_some_and(|error| SYNC_FAILED.contains(&error.extended_code));
            let error = self.examine(error.into());
            // Nobody's fault, and not to be tried again in the hope of a better answer.
            if unsynced { Failure::Shared(error.context(UNSYNCED)) } else { Failure::Own(error) }
        })?;
        reach(Site::AfterCommit);
        Ok(())
    }
}

impl Config {
    pub(super) fn open(&self) -> Result<Connection> {
        let Self { path, cipher, synchronous, timeout, caches, source: _ } = self;
        open::writer(path, cipher.as_deref(), *synchronous, *caches, Instant::now() + *timeout)
    }
}

/// Takes the place of SQLite's own checkpoint, for which the caller would wait.
pub(super) fn count_log(conn: &mut Connection, pages: &Arc<AtomicUsize>) -> Result<()> {
    let pages = Arc::clone(pages);
    Ok(conn.wal_hook(Some(move |_: &mut Wal, now: c_int| {
        pages.store(usize::try_from(now).unwrap_or_default(), Ordering::Relaxed);
        Ok(())
    }))?)
}
