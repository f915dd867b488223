//! What the writer does about its log: it moves it when others do not wait, and sees to it that it does not grow for
//! ever where a reader keeps it from being moved.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::Worker;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::limits;
use crate::request::Checkpoint;
use crate::sqlite::failpoints::{Site, reach};
use crate::sqlite::fork;
use crate::sqlite::guard::Guard;
use crate::sqlite::log;

/// Pages of the log from which on the writer moves them into the file, after the callers have their answers.
const LOG_PAGES: usize = 1000;
/// How long closing waits for its turn to truncate the log.
const PATIENCE: Duration = Duration::from_millis(200);
const SHORTEST: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(20);

impl Worker {
    /// After a write, when its callers have their answers.
    pub(super) fn tend_log(&mut self) {
        reach(Site::TendLog);
        // The next write opens another connection first.
        if self.distrusted.get() {
            return;
        }
        if self.log.load(Ordering::Relaxed) >= LOG_PAGES {
            // Not moving it loses nothing: the next commit, closing or opening comes to it.
            let _ = self.move_log(Checkpoint::Passive, Instant::now());
            self.log.store(0, Ordering::Relaxed);
        }
        let mut bytes = log::length(&self.config.path);
        if bytes > limits::LOG_WARNING_BYTES && !self.distrusted.get() {
            // Moved or not: what is moved whole is given back.
            let _ = self.move_log(Checkpoint::Truncate, Instant::now());
            bytes = log::length(&self.config.path);
        }
        let large = bytes > limits::LOG_WARNING_BYTES;
        if large && !self.warned {
            let readers = self.readers();
            self.tell(Event::LogGrown { bytes, limit: limits::LOG_WARNING_BYTES, readers });
        }
        self.warned = large;
    }

    /// Before a write: where the log is as long as it may be, waits until it can be moved.
    pub(super) fn make_room(&self, cancelled: &dyn Fn() -> bool) -> Result<()> {
        if log::length(&self.config.path) < limits::LOG_BYTES {
            self.stuck.set(false);
            return Ok(());
        }
        let now = Instant::now();
        // Who waited in vain does not make the next one wait as long.
        let deadline = if self.stuck.get() { now } else { now + self.config.timeout };
        let moved = self.wait_for_log(Checkpoint::Truncate, deadline, cancelled);
        let bytes = log::length(&self.config.path);
        match moved {
            _ if bytes < limits::LOG_BYTES => {
                self.stuck.set(false);
                Ok(())
            }
            Err(error) if error.kind() != ErrorKind::Locked => Err(error),
            _ => {
                self.stuck.set(true);
                Err(log::full(bytes, &self.readers()))
            }
        }
    }

    /// Moves the log, trying until `deadline`. Between two attempts other writers have their turns.
    pub(super) fn wait_for_log(&self, mode: Checkpoint, deadline: Instant, cancelled: &dyn Fn() -> bool) -> Result<()> {
        let mut pause = SHORTEST;
        loop {
            match self.move_log(mode, deadline) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::Locked => {}
                Err(error) => return Err(error),
            }
            if cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller; the log was not moved whole"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Locked,
                    format!(
                        "the write-ahead log was not moved whole within the timeout: {} reads a snapshot from before, \
                         or another process writes without pause; end that read, or open with a longer timeout=",
                        log::named(&self.readers())
                    ),
                ));
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Moves the log once and says whether all of it was moved. Only a passive one goes on beside writers; the others wait
    /// for their turn until `deadline`.
    pub(super) fn move_log(&self, mode: Checkpoint, deadline: Instant) -> Result<bool> {
        let guard = self.guard.as_deref();
        let _turn = match guard {
            Some(guard) if mode != Checkpoint::Passive => Some(guard.lock_writer(deadline, &|| false)?),
            _ => None,
        };
        let _activity = fork::enter();
        reach(Site::MoveLog);
        let began = Instant::now();
        let moved = log::checkpoint(&self.conn, mode).map_err(|error| self.examine(error));
        if let Ok(moved) = &moved {
            self.tell_moved(mode, moved, began.elapsed());
        }
        let moved = moved.map(|moved| moved.whole());
        let mut failure = self.status.checkpoint_failure.lock();
        match &moved {
            Ok(_) => {
                *failure = None;
                self.status.checkpoints.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Locked => {}
            Err(error) => *failure = Some(error.message().to_owned()),
        }
        moved
    }

    fn tell_moved(&self, mode: Checkpoint, moved: &log::Moved, took: Duration) {
        let before = self.log.load(Ordering::Relaxed) as u64;
        // SQLite says nothing of what it truncated.
        let (pages, done) = match mode {
            Checkpoint::Truncate if moved.whole() => (before, before),
            _ => (moved.pages, moved.moved),
        };
        let busy = !moved.whole();
        self.tell(Event::Checkpoint { mode: mode.as_str(), pages, moved: done, busy, took });
    }

    /// At the end: moves the whole log and truncates it, so that the file alone is the store.
    pub(super) fn truncate_log(&self) {
        // Others write, or read: the last of them moves the log.
        let _ = self.move_log(Checkpoint::Truncate, Instant::now() + PATIENCE);
    }

    fn readers(&self) -> Vec<u32> {
        self.guard.as_deref().and_then(|guard| Guard::readers(guard).ok()).unwrap_or_default()
    }
}
