//! What may end a search before it is done: its timeout, and its caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::store::Interrupt;

/// The least time between two looks at the caller's wish, in milliseconds.
const INTERVAL: u64 = 50;

const GOING: u8 = 0;
const LATE: u8 = 1;
const CANCELLED: u8 = 2;

/// Shared by the threads of one search. A loop that may be long asks [`Pulse::beats`]; so does SQLite, every so many
/// steps.
pub struct Pulse {
    began: Instant,
    timeout: Option<Duration>,
    /// What goes on is short, and is not cut.
    spared: AtomicBool,
    state: AtomicU8,
    interrupt: Arc<dyn Interrupt>,
    /// The only thread on which the caller's wish is asked for.
    caller: ThreadId,
    /// When it was last asked for, in milliseconds.
    asked: AtomicU64,
}

impl Pulse {
    /// Begins now.
    pub fn new(timeout: Option<Duration>, interrupt: Arc<dyn Interrupt>) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            timeout,
            spared: AtomicBool::new(false),
            state: AtomicU8::new(GOING),
            interrupt,
            caller: thread::current().id(),
            asked: AtomicU64::new(0),
        })
    }

    /// How long it has been.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether to go on.
    pub fn beats(&self) -> bool {
        if self.state.load(Ordering::Relaxed) != GOING {
            // What is late may still read what it ranked.
            return self.late() && self.spared.load(Ordering::Relaxed);
        }
        let elapsed = self.elapsed();
        if self.timeout.is_some_and(|timeout| elapsed >= timeout) && !self.spared.load(Ordering::Relaxed) {
            self.state.store(LATE, Ordering::Relaxed);
            return false;
        }
        let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if now.saturating_sub(self.asked.load(Ordering::Relaxed)) >= INTERVAL && thread::current().id() == self.caller {
            self.asked.store(now, Ordering::Relaxed);
            if !self.interrupt.keep_going() {
                self.state.store(CANCELLED, Ordering::Relaxed);
                return false;
            }
        }
        true
    }

    /// Runs what the timeout does not cut, as the reading of what is ranked.
    pub fn spare<T>(&self, run: impl FnOnce() -> T) -> T {
        self.spared.store(true, Ordering::Relaxed);
        let result = run();
        self.spared.store(false, Ordering::Relaxed);
        result
    }

    /// Whether the timeout cut something.
    pub fn late(&self) -> bool {
        self.state.load(Ordering::Relaxed) == LATE
    }

    /// Fails if the caller cancelled.
    pub fn check(&self) -> Result<()> {
        if self.state.load(Ordering::Relaxed) == CANCELLED { Err(cancelled()) } else { Ok(()) }
    }

    /// What SQLite calls an interruption is a timeout or the caller's wish.
    pub fn name(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Cancelled {
            return error;
        }
        match self.timeout {
            Some(timeout) if self.late() => Error::new(
                ErrorKind::QueryTimeout,
                format!("nothing was ranked within {timeout:?}; give a longer timeout or a narrower filter"),
            ),
            _ => cancelled(),
        }
    }
}

/// What a read, or a long operation between its steps, ends with when its caller does not want it any more.
pub fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "cancelled by the caller")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Uninterrupted;

    struct Never;

    impl Interrupt for Never {
        fn keep_going(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_timeout_ends_the_ranking_and_spares_the_reading() {
        let pulse = Pulse::new(Some(Duration::ZERO), Arc::new(Uninterrupted));
        assert!(!pulse.beats() && !pulse.beats() && pulse.late());
        assert_eq!(pulse.name(Error::new(ErrorKind::Cancelled, "")).kind(), ErrorKind::QueryTimeout);
        pulse.check().unwrap();
        assert!(pulse.spare(|| pulse.beats()) && !pulse.beats());
        assert!(Pulse::new(None, Arc::new(Uninterrupted)).beats());
    }

    #[test]
    fn only_the_callers_thread_asks_for_its_wish() {
        let pulse = Pulse::new(None, Arc::new(Never));
        while pulse.elapsed() < Duration::from_millis(INTERVAL) {
            std::hint::spin_loop();
        }
        assert!(thread::scope(|scope| scope.spawn(|| pulse.beats()).join().unwrap()));
        assert!(!pulse.beats() && !pulse.late());
        assert_eq!(pulse.check().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(!pulse.spare(|| pulse.beats()));
    }
}
