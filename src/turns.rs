//! The way of searches back to an interpreter that one thread has at a time, one after the other.
//!
//! A thread that finds the interpreter's lock taken is put to sleep, and waking it takes longer than what another search
//! has to do there. So a search that ends soon after another gives way to it for as long as that mostly takes, and only
//! then asks for the lock (`docs/adr/0024`). Nothing depends on it but time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds: what a thread mostly needs from the end of a search to the beginning of its next one, and some more.
const LONGEST: u64 = 160_000;

/// Which thread is presumed to be in the interpreter: the one that came back last.
pub struct Turns {
    /// Until when it is; 0 once it has left.
    until: AtomicU64,
}

impl Turns {
    /// Nobody is there.
    pub const fn new() -> Self {
        Self { until: AtomicU64::new(0) }
    }

    /// To be called with the interpreter's lock: then nobody else is there.
    pub fn leave(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Waits for its turn, but no longer than `LONGEST`, by a clock of nanoseconds.
    pub fn come_back(&self, now: impl Fn() -> u64, mut pause: impl FnMut()) {
        let begun = now();
        let mut time = begun;
        while time.saturating_sub(begun) < LONGEST {
            let until = self.until.load(Ordering::Acquire);
            let next = time.saturating_add(LONGEST);
            if until <= time && self.until.compare_exchange(until, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
            pause();
            time = now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// When a thread that comes at a time has its turn, by a clock that goes on by 10,000 with each pause.
    fn comes_back(turns: &Turns, at: u64, mut pause: impl FnMut(u64)) -> u64 {
        let time = Cell::new(at);
        turns.come_back(
            || time.get(),
            || {
                time.set(time.get() + 10_000);
                pause(time.get());
            },
        );
        time.get()
    }

    #[test]
    fn who_comes_alone_does_not_wait() {
        let turns = Turns::new();
        for at in [5, 1_000, 1_000_000] {
            assert_eq!(comes_back(&turns, at, |_| {}), at);
            turns.leave();
        }
    }

    #[test]
    fn who_comes_second_waits_until_the_first_has_left() {
        let turns = Turns::new();
        comes_back(&turns, 1_000, |_| {});
        let came = comes_back(&turns, 2_000, |time| {
            if time > 50_000 {
                turns.leave();
            }
        });
        assert_eq!(came, 52_000);
        assert_eq!(comes_back(&turns, 52_000 + LONGEST, |_| {}), 52_000 + LONGEST);
    }

    #[test]
    fn nobody_waits_for_long() {
        let turns = Turns::new();
        comes_back(&turns, 1_000, |_| {});
        // The first never leaves, and others come before the second.
        let came = comes_back(&turns, 2_000, |time| turns.until.store(time + LONGEST, Ordering::Release));
        assert_eq!(came, 2_000 + LONGEST);
        assert_eq!(comes_back(&turns, 3 * LONGEST, |_| {}), 3 * LONGEST);
    }
}
