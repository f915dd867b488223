//! The pool of connections that read. Opened when first needed, so that opening a store costs one connection.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::fork;
use super::open::{self, Caches};
use crate::error::{Error, ErrorKind, Result};

/// At most so many connections, each used by one thread at a time.
pub struct Readers {
    path: PathBuf,
    timeout: Duration,
    most: usize,
    caches: Caches,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    idle: Vec<Connection>,
    /// Idle and lent.
    open: usize,
    closed: bool,
}

impl Readers {
    /// A pool with the connections that are already there.
    pub fn new(path: PathBuf, timeout: Duration, most: usize, caches: Caches, idle: Vec<Connection>) -> Self {
        let state = State { open: idle.len(), idle, closed: false };
        Self { path, timeout, most: most.max(1), caches, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Runs `read` on one snapshot of the database.
    pub fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let lease = self.lease()?;
        let _activity = fork::enter();
        let snapshot = lease.conn()?.unchecked_transaction()?;
        let result = read(&snapshot);
        // Nothing was written; ending the snapshot cannot lose anything.
        snapshot.finish()?;
        result
    }

    fn lease(&self) -> Result<Lease<'_>> {
        let deadline = Instant::now() + self.timeout;
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Err(closed());
            }
            if let Some(conn) = state.idle.pop() {
                return Ok(Lease { readers: self, conn: Some(conn) });
            }
            if state.open < self.most {
                state.open += 1;
                break;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return Err(Error::new(
                    ErrorKind::Locked,
                    format!(
                        "all {} read connections stayed busy for {:?}; open with more readers=",
                        self.most, self.timeout
                    ),
                ));
            }
        }
        drop(state);
        let mut lease = Lease { readers: self, conn: None };
        let _activity = fork::enter();
        lease.conn = Some(open::reader(&self.path, self.timeout, self.caches)?);
        Ok(lease)
    }

    /// Waits for reads under way and closes every connection.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.changed.notify_all();
        while state.open > state.idle.len() {
            self.changed.wait(&mut state);
        }
        let _activity = fork::enter();
        state.idle.clear();
        state.open = 0;
    }

    /// Lets go of every connection without closing it: after a fork they are the parent's.
    pub fn forget(&self) {
        if let Some(mut state) = self.state.try_lock() {
            state.closed = true;
            std::mem::take(&mut state.idle).into_iter().for_each(std::mem::forget);
        }
    }
}

/// What every call of a closed store answers.
pub fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed; open the path again")
}

struct Lease<'r> {
    readers: &'r Readers,
    /// `None` only until it is opened, or if that failed.
    conn: Option<Connection>,
}

impl Lease<'_> {
    fn conn(&self) -> Result<&Connection> {
        self.conn.as_ref().ok_or_else(|| Error::internal("a read connection was not opened"))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock();
        match self.conn.take() {
            Some(conn) => state.idle.push(conn),
            None => state.open -= 1,
        }
        drop(state);
        self.readers.changed.notify_all();
    }
}
