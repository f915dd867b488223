//! Long reads on a thread of their own, while the caller looks at their progress and at signals on its own thread.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::failpoints::{Site, reach};
use super::txn::Progress;
use crate::error::{Error, Result};
use crate::store::{Interrupt, Watch};

/// How often a waiting caller looks.
const TICK: Duration = Duration::from_millis(50);

impl Interrupt for Progress {
    fn keep_going(&self) -> bool {
        !self.cancelled.load(Ordering::Relaxed)
    }
}

/// Runs `work`, which asks the progress it is given whether to go on.
pub fn watched<T: Send>(watch: &mut dyn Watch, work: impl FnOnce(&Arc<Progress>) -> Result<T> + Send) -> Result<T> {
    let progress = Arc::new(Progress::default());
    thread::scope(|scope| {
        let (reply, outcome) = bounded(1);
        let shared = Arc::clone(&progress);
        let worker = thread::Builder::new().name("ragstore check".to_owned()).spawn_scoped(scope, move || {
            reach(Site::Watched);
            let _ = reply.send(work(&shared));
        })?;
        loop {
            match outcome.recv_timeout(TICK) {
                Ok(result) => {
                    if result.is_ok() {
                        let total = progress.total.load(Ordering::Relaxed);
                        // The wish to stop comes too late, and is the caller's to see.
                        let _ = watch.keep_going(total, total);
                    }
                    return result;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let (done, total) = (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
                    if !progress.cancelled.load(Ordering::Relaxed)
                        && !watch.keep_going(done.min(total.saturating_sub(1)), total)
                    {
                        progress.cancelled.store(true, Ordering::Relaxed);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return match worker.join() {
                        Err(panic) => resume_unwind(panic),
                        Ok(()) => Err(Error::internal("a read ended without an outcome")),
                    };
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::store::Unwatched;

    struct Stop(Vec<(u64, u64)>);

    impl Watch for Stop {
        fn keep_going(&mut self, done: u64, total: u64) -> bool {
            self.0.push((done, total));
            false
        }
    }

    #[test]
    fn the_caller_sees_progress_and_may_stop() {
        let mut stop = Stop(Vec::new());
        let outcome = watched(&mut stop, |progress| {
            progress.total.store(7, Ordering::Relaxed);
            progress.done.store(3, Ordering::Relaxed);
            while progress.keep_going() {
                thread::yield_now();
            }
            Err::<(), _>(Error::new(ErrorKind::Cancelled, "stopped"))
        });
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(stop.0, [(3, 7)]);
        assert_eq!(watched(&mut Unwatched, |_| Ok(5)).unwrap(), 5);
    }

    #[test]
    fn a_panic_goes_on_in_the_caller() {
        let caught = std::panic::catch_unwind(|| watched::<()>(&mut Unwatched, |_| panic!("broken")));
        assert_eq!(*caught.unwrap_err().downcast_ref::<&str>().unwrap(), "broken");
    }
}
