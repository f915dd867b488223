//! The pool of connections that read. Opened when first needed, so that opening a store costs one connection.

use std::cell::Cell;
use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::authentic;
use super::cipher::Cipher;
use super::derived::Derived;
use super::fork;
use super::open::{self, Caches};
use super::page_cache::PageCache;
use super::pulse::Pulse;
use super::row_sets::RowSets;
use super::tables::changes;
use crate::error::{Error, ErrorKind, Result};

/// Steps of SQLite's machine between two questions whether to go on: some 100 us.
const STEPS: c_int = 4096;

/// At most so many connections, each used by one thread at a time.
pub struct Readers {
    path: PathBuf,
    cipher: Option<Arc<Cipher>>,
    timeout: Duration,
    most: usize,
    caches: Caches,
    state: Mutex<State>,
    changed: Condvar,
    /// What the filters of searches let through.
    pub row_sets: Arc<RowSets>,
    /// What answers searches sooner.
    pub derived: Derived,
    /// Of all connections, as of the last time each was given back.
    pub cache: PageCache,
    /// How often a read had to wait for a connection.
    waits: AtomicU64,
}

/// How the pool fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    pub open: usize,
    pub limit: usize,
    pub waits: u64,
}

/// A connection whose long statements ask a pulse, where it has one, whether to go on.
pub struct Reader {
    conn: Connection,
    pulse: Arc<Mutex<Option<Arc<Pulse>>>>,
}

impl Reader {
    /// Takes a connection.
    pub fn new(mut conn: Connection) -> Result<Self> {
        let pulse: Arc<Mutex<Option<Arc<Pulse>>>> = Arc::default();
        let asked = Arc::clone(&pulse);
        conn.progress_handler(STEPS, Some(move || asked.lock().as_ref().is_some_and(|pulse| !pulse.beats())))?;
        Ok(Self { conn, pulse })
    }

    /// Runs `read` on one snapshot, while `pulse` beats.
    pub fn read_while<T>(&self, pulse: &Arc<Pulse>, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        *self.pulse.lock() = Some(Arc::clone(pulse));
        let snapshot = self.conn.unchecked_transaction()?;
        let result = read(&snapshot).map_err(|error| pulse.name(error));
        // Nothing was written; ending the snapshot cannot lose anything.
        drop(snapshot);
        *self.pulse.lock() = None;
        result
    }
}

struct State {
    idle: Vec<Reader>,
    /// Idle and lent.
    open: usize,
    /// Connections beside the pool.
    apart: usize,
    closed: bool,
}

impl Readers {
    /// A pool with the connections that are already there.
    pub fn new(
        path: PathBuf,
        cipher: Option<Arc<Cipher>>,
        timeout: Duration,
        most: usize,
        caches: Caches,
        idle: Option<Connection>,
        derived: Derived,
    ) -> Result<Self> {
        let idle: Vec<Reader> = idle.map(Reader::new).transpose()?.into_iter().collect();
        let state = Mutex::new(State { open: idle.len(), idle, apart: 0, closed: false });
        let row_sets = Arc::clone(&derived.row_sets);
        let (changed, cache, waits) = (Condvar::new(), PageCache::default(), AtomicU64::new(0));
        Ok(Self { path, cipher, timeout, most: most.max(1), caches, state, changed, row_sets, derived, cache, waits })
    }

    /// Runs `read` on one snapshot of the database.
    pub fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let lease = self.lease()?;
        lease.read(read)
    }

    /// Runs `read` on one snapshot of the database, while `pulse` beats.
    pub fn read_while<T>(&self, pulse: &Arc<Pulse>, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let lease = self.lease()?;
        lease.set(Some(Arc::clone(pulse)));
        let result = lease.read(read);
        result.map_err(|error| pulse.name(error))
    }

    /// Runs `read` on a connection of its own, on one snapshot: what takes long takes none from the pool. Closing waits
    /// for it.
    pub fn apart<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let _apart = self.leave()?;
        let _activity = fork::enter();
        let conn = self.connect()?;
        let snapshot = conn.unchecked_transaction()?;
        let result = read(&snapshot);
        snapshot.finish()?;
        self.cache.count(&conn);
        result
    }

    /// The same, while `pulse` beats.
    pub fn apart_while<T>(&self, pulse: &Arc<Pulse>, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let _apart = self.leave()?;
        let _activity = fork::enter();
        let reader = Reader::new(self.connect()?)?;
        let result = reader.read_while(pulse, read);
        self.cache.count(&reader.conn);
        result
    }

    fn leave(&self) -> Result<Apart<'_>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(closed());
        }
        state.apart += 1;
        Ok(Apart(self))
    }

    fn connect(&self) -> Result<Connection> {
        open::reader(&self.path, self.cipher.as_deref(), self.timeout, self.caches)
    }

    /// How it fares.
    pub fn pool(&self) -> Pool {
        Pool { open: self.state.lock().open, limit: self.most, waits: self.waits.load(Ordering::Relaxed) }
    }

    /// A second connection on the snapshot that `conn` has; `None` when all are lent, or when a commit came between.
    /// Only one thread may use it, for no longer than the snapshot lasts, and that one keeps forks waiting for both.
    pub fn beside(&self, conn: &Connection, pulse: &Arc<Pulse>) -> Result<Option<Beside<'_>>> {
        let Some(lease) = self.try_lease()? else { return Ok(None) };
        lease.set(Some(Arc::clone(pulse)));
        lease.conn()?.execute_batch("BEGIN")?;
        let beside = Beside(lease);
        Ok(if changes::head(conn)? == changes::head(beside.conn()?)? { Some(beside) } else { None })
    }

    fn lease(&self) -> Result<Lease<'_>> {
        let deadline = Instant::now() + self.timeout;
        let mut state = self.state.lock();
        let mut waited = false;
        loop {
            if state.closed {
                return Err(closed());
            }
            if let Some(reader) = state.idle.pop() {
                return Ok(Lease { readers: self, broken: Cell::new(false), reader: Some(reader) });
            }
            if state.open < self.most {
                state.open += 1;
                break;
            }
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::Locked,
                    format!(
                        "all {} read connections stayed busy for {:?}; open with more readers=",
                        self.most, self.timeout
                    ),
                ));
            }
            if !std::mem::replace(&mut waited, true) {
                self.waits.fetch_add(1, Ordering::Relaxed);
            }
            self.changed.wait_until(&mut state, deadline);
        }
        drop(state);
        self.opened()
    }

    /// A connection that is not of the pool: closing the pool does not wait for it. The caller has begun an activity.
    pub fn separate(&self) -> Result<Connection> {
        self.connect()
    }

    /// A connection that nobody has to be waited for.
    fn try_lease(&self) -> Result<Option<Lease<'_>>> {
        let mut state = self.state.lock();
        if let Some(reader) = state.idle.pop() {
            return Ok(Some(Lease { readers: self, broken: Cell::new(false), reader: Some(reader) }));
        }
        if state.open >= self.most || state.closed {
            return Ok(None);
        }
        state.open += 1;
        drop(state);
        self.opened().map(Some)
    }

    /// A new connection, counted already.
    fn opened(&self) -> Result<Lease<'_>> {
        let mut lease = Lease { readers: self, broken: Cell::new(false), reader: None };
        let _activity = fork::enter();
        lease.reader = Some(Reader::new(self.connect()?)?);
        Ok(lease)
    }

    /// Waits for reads under way and closes every connection.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.changed.notify_all();
        while state.open > state.idle.len() || state.apart > 0 {
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
    /// Not to be lent again.
    broken: Cell<bool>,
    /// `None` only until it is opened, or if that failed.
    reader: Option<Reader>,
}

impl Lease<'_> {
    fn conn(&self) -> Result<&Connection> {
        let reader = self.reader.as_ref().ok_or_else(|| Error::internal("a read connection was not opened"))?;
        Ok(&reader.conn)
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let _activity = fork::enter();
        let snapshot = self.conn()?.unchecked_transaction()?;
        let result = read(&snapshot);
        // Nothing was written; ending the snapshot cannot lose anything.
        let finished = snapshot.finish();
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt) {
            // SQLCipher reads nothing more on a connection that met a damaged page.
            self.broken.set(true);
        }
        finished?;
        result
    }

    fn set(&self, pulse: Option<Arc<Pulse>>) {
        if let Some(reader) = &self.reader {
            *reader.pulse.lock() = pulse;
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.set(None);
        let mut reader = self.reader.take();
        if let Some(reader) = &reader {
            self.readers.cache.count(&reader.conn);
        }
        if self.broken.get() {
            let _activity = fork::enter();
            drop(reader.take());
        }
        let mut state = self.readers.state.lock();
        match reader {
            Some(reader) => state.idle.push(reader),
            None => state.open -= 1,
        }
        drop(state);
        self.readers.changed.notify_all();
    }
}

/// Counts a connection beside the pool; it is dropped after that connection.
struct Apart<'r>(&'r Readers);

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        self.0.state.lock().apart -= 1;
        self.0.changed.notify_all();
    }
}

/// A connection on the same snapshot as another.
pub struct Beside<'r>(Lease<'r>);

impl Beside<'_> {
    /// The connection.
    pub fn conn(&self) -> Result<&Connection> {
        self.0.conn()
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        if let Ok(conn) = self.0.conn() {
            // Nothing was written; a snapshot that cannot be ended ends with the next one.
            let _ = conn.execute_batch("ROLLBACK");
            if self.0.readers.cipher.is_some() {
                self.0.broken.set(authentic::spent(conn));
            }
        }
    }
}
