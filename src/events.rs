//! What happens inside that no answer tells: kept for whoever listens, who takes it when it suits.
//!
//! Nothing is called back: whoever tells may hold locks, write or be inside SQLite. Events wait in a queue of a bounded
//! length, and where there is no room, or for a moment no way in, the event is dropped and counted. They hold counts and
//! durations, and nothing of what users store: no texts, metadata, ids, names or paths.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use crate::model::Timestamp;

/// Events that wait; later ones are dropped.
const QUEUE: usize = 1024;
/// How often the queue is tried. It is held for the time of one push; a child forked in that moment finds it held for
/// ever, and goes on without it.
const TRIES: usize = 1000;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A store was opened.
    Opened { read_only: bool, ephemeral: bool, took: Duration },
    /// A store was closed.
    Closed { took: Duration },
    /// A file of an older format was brought to this one's.
    Migrated { from: usize, to: usize, took: Duration },
    /// SQLite found a log that nobody closed, and took up what was committed in it.
    Recovered { frames: u64 },
    /// Pages of the log were moved into the file; `busy` where a reader or a writer kept some from it.
    Checkpoint { mode: &'static str, pages: u64, moved: u64, busy: bool, took: Duration },
    /// The log passed a size at which it should have been moved: these processes read what it must keep.
    LogGrown { bytes: u64, limit: u64, readers: Vec<u32> },
    /// The writer panicked and takes no more writes.
    WriterPanicked,
    /// SQLite met damage or an error of the operating system, by its extended code.
    Damaged { code: i32 },
    /// A call took longer than its caller wished to know of.
    Slow { operation: &'static str, took: Duration },
    /// An operation of maintenance ended well.
    Maintained { operation: &'static str, took: Duration },
    /// The queue had no room for so many.
    Dropped { events: u64 },
}

/// An event, with when and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub at: Timestamp,
    /// Which store of this process, counted from 1; `None` where it is not known.
    pub store: Option<u64>,
    pub event: Event,
}

/// A store that tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(u64);

impl Source {
    /// The next store of this process.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Tells of this store.
    pub fn tell(self, event: Event) {
        push(Some(self.0), event);
    }
}

static LISTENING: AtomicBool = AtomicBool::new(false);
static WAITING: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static RECORDS: Mutex<VecDeque<Record>> = Mutex::new(VecDeque::new());

/// From now on events are kept.
pub fn listen() {
    LISTENING.store(true, Ordering::Relaxed);
}

/// Tells of no store in particular.
pub fn tell(event: Event) {
    push(None, event);
}

/// Whether there is something to take. Costs next to nothing.
pub fn waiting() -> bool {
    WAITING.load(Ordering::Relaxed) > 0
}

/// Takes what waits, oldest first.
pub fn take() -> Vec<Record> {
    let Some(mut records) = records() else { return Vec::new() };
    let mut taken: Vec<Record> = records.drain(..).collect();
    WAITING.store(0, Ordering::Relaxed);
    drop(records);
    let events = DROPPED.swap(0, Ordering::Relaxed);
    if events > 0 {
        taken.push(Record { at: Timestamp::now(), store: None, event: Event::Dropped { events } });
    }
    taken
}

fn push(store: Option<u64>, event: Event) {
    if !LISTENING.load(Ordering::Relaxed) {
        return;
    }
    let record = Record { at: Timestamp::now(), store, event };
    match records() {
        Some(mut records) if records.len() < QUEUE => {
            records.push_back(record);
            WAITING.store(records.len(), Ordering::Relaxed);
        }
        _ => {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Never waits for long.
fn records() -> Option<MutexGuard<'static, VecDeque<Record>>> {
    for _ in 0..TRIES {
        match RECORDS.try_lock() {
            Ok(records) => return Some(records),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => thread::yield_now(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since the queue is one of the process; stores of other tests tell too.
    #[test]
    fn what_is_told_is_taken_once_in_order_and_within_bounds() {
        let mine = |records: &[Record]| -> Vec<u64> {
            let frames = |record: &Record| match record.event {
                Event::Recovered { frames } if frames >= 1_000_000 => Some(frames),
                _ => None,
            };
            records.iter().filter_map(frames).collect()
        };
        tell(Event::Recovered { frames: 1_000_000 });
        assert!(mine(&take()).is_empty(), "nobody listened");
        listen();
        let source = Source::new();
        for frames in 1_000_001..=1_000_003 {
            source.tell(Event::Recovered { frames });
        }
        assert!(waiting());
        let taken = take();
        assert_eq!(mine(&taken), [1_000_001, 1_000_002, 1_000_003]);
        assert!(taken.iter().any(|record| record.store == Some(source.0)));
        assert!(mine(&take()).is_empty());
        for frames in 0..2 * QUEUE as u64 {
            tell(Event::Recovered { frames: 1_000_000 + frames });
        }
        let taken = take();
        assert!(taken.len() <= QUEUE + 1);
        assert!(
            matches!(taken.last(), Some(Record { event: Event::Dropped { events }, .. }) if *events >= QUEUE as u64)
        );
    }
}
