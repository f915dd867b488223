//! Searches leave the interpreter, and come back in turns.

use std::sync::LazyLock;
use std::thread;
use std::time::Instant;

use pyo3::prelude::*;

use crate::turns::Turns;

static SEARCHES: Turns = Turns::new();
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Runs a search without the interpreter's lock.
pub(super) fn detached<T: Send>(py: Python<'_>, search: impl FnOnce() -> T + Send) -> T {
    SEARCHES.leave();
    py.detach(|| {
        let outcome = search();
        let now = || u64::try_from(BEGINNING.elapsed().as_nanos()).unwrap_or(u64::MAX);
        SEARCHES.come_back(now, thread::yield_now);
        outcome
    })
}
