//! Work on several threads that give way to those who search and write.

use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::error::{Error, Result};

/// Nodes that a thread takes at a time, and after which it says how far it is.
const PORTION: usize = 64;

/// On Linux a thread has a priority of its own.
const GIVES_WAY: bool = cfg!(target_os = "linux");

/// As many as there are cores; where threads do not give way, one core stays with those who search and write.
pub fn threads() -> NonZero<usize> {
    let cores = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    if GIVES_WAY { cores } else { NonZero::new(cores.get() - 1).unwrap_or(NonZero::<usize>::MIN) }
}

/// Takes a low priority for this thread, for good: beside another on the same core it has a tenth of the time.
fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}

/// Gives portions of a range to this thread and others until it is done or one of them fails.
pub(super) fn portions<W>(
    range: Range<usize>,
    threads: NonZero<usize>,
    worker: impl Fn() -> W + Sync,
    task: &(impl Fn(usize, usize, &mut W) -> Result<()> + Sync),
) -> Result<()> {
    let (next, failed) = (AtomicUsize::new(range.start), AtomicBool::new(false));
    let work = || -> Result<()> {
        let mut worker = worker();
        while !failed.load(Ordering::Relaxed) {
            let from = next.fetch_add(PORTION, Ordering::Relaxed);
            if from >= range.end {
                break;
            }
            task(from, range.end.min(from + PORTION), &mut worker)
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let more = range.len().div_ceil(PORTION).min(threads.get()).saturating_sub(1);
        let others: Vec<_> = (0..more)
            .map_while(|_| {
                // Where no thread can be had, fewer do it.
                let work = || {
                    give_way();
                    work()
                };
                thread::Builder::new().name("ragstore-graph".into()).spawn_scoped(scope, work).ok()
            })
            .collect();
        let own = work();
        let others = others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(Error::internal("a thread that builds a vector index panicked")))
        });
        others.fold(own, |outcome, other| outcome.and(other))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn threads_give_way_and_the_caller_does_not() {
        let (caller, priority) = (thread::current().id(), || rustix::process::nice(0).unwrap());
        let (before, seen) = (priority(), Mutex::new(Vec::new()));
        // Nobody takes a second portion until there was a first for each.
        let all = std::sync::Barrier::new(3);
        let task = |from: usize, to: usize, _: &mut ()| {
            all.wait();
            seen.lock().push((thread::current().id() == caller, priority(), to - from));
            Ok(())
        };
        portions(0..3 * PORTION, NonZero::new(3).unwrap(), || (), &task).unwrap();
        let seen = seen.into_inner();
        assert_eq!(seen.iter().filter(|(own, ..)| *own).count(), 1);
        assert!(seen.iter().all(|&(own, priority, nodes)| {
            nodes == PORTION && priority == if own { before } else { (before + 10).min(19) }
        }));
        assert_eq!((seen.len(), priority()), (3, before));
    }
}
