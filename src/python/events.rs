//! What happens inside the core, handed to `ragstore.logs` on the threads of callers.
//!
//! After each call the thread that made it takes what waits. No thread of our own ever attaches to the interpreter for
//! it: such a one could be caught by the interpreter's end with a lock in its hands. Nothing is held here while Python
//! runs, and a handler that uses a store does not come back here.

use std::any::type_name;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

use crate::error::Result;
use crate::events::{self, Event, Record};

/// Microseconds from which on a call is slow.
static SLOW: AtomicU64 = AtomicU64::new(1_000_000);

thread_local! {
    static FORWARDING: Cell<bool> = const { Cell::new(false) };
}

/// From how many microseconds on a call is told of.
pub(super) fn set_slow(micros: u64) {
    SLOW.store(micros, Ordering::Relaxed);
}

/// Runs `body`, and tells of it if it is slow.
pub(super) fn timed<T>(operation: &'static str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let outcome = body();
    let took = began.elapsed();
    if took >= Duration::from_micros(SLOW.load(Ordering::Relaxed)) {
        events::tell(Event::Slow { operation, took });
    }
    outcome
}

/// The method that a closure stands in. For people who read logs: nothing depends on it.
pub(super) fn operation<F>() -> &'static str {
    let name = type_name::<F>();
    let method = name.split("::{{closure}}").next().unwrap_or(name);
    method.rsplit("::").next().unwrap_or(method)
}

/// Hands over what waits. What a handler raises does not undo the call: an exception is reported as one that nobody can
/// catch, and only the end of the process or a Ctrl-C goes before the outcome.
pub(super) fn settle<T>(py: Python<'_>, outcome: PyResult<T>) -> PyResult<T> {
    if !events::waiting() || FORWARDING.get() {
        return outcome;
    }
    FORWARDING.set(true);
    let forwarded = forward(py, &events::take());
    FORWARDING.set(false);
    match forwarded {
        Err(raised) if !raised.is_instance_of::<pyo3::exceptions::PyException>(py) => {
            if outcome.is_ok() {
                let _ = raised.add_note(py, "ragstore: the call was done before this was raised");
            }
            Err(raised)
        }
        Err(raised) => {
            raised.write_unraisable(py, None);
            outcome
        }
        Ok(()) => outcome,
    }
}

fn forward(py: Python<'_>, records: &[Record]) -> PyResult<()> {
    static FORWARD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let forward = FORWARD.get_or_try_init(py, || py.import("ragstore.logs")?.getattr("forward").map(Bound::unbind))?;
    let rows: Vec<_> = records.iter().map(|record| row(py, record)).collect::<PyResult<_>>()?;
    forward.call1(py, (PyList::new(py, rows)?,)).map(drop)
}

/// Its name, when in microseconds since the epoch, and what else is known.
fn row<'py>(py: Python<'py>, record: &Record) -> PyResult<Bound<'py, PyAny>> {
    let Record { at, store, event } = record;
    let fields = PyDict::new(py);
    if let Some(store) = store {
        fields.set_item("store", store)?;
    }
    let ms = |took: &Duration| fields.set_item("ms", took.as_secs_f64() * 1e3);
    let name = match event {
        Event::Opened { read_only, ephemeral, took } => {
            fields.set_item("read_only", read_only)?;
            fields.set_item("ephemeral", ephemeral)?;
            ms(took)?;
            "opened"
        }
        Event::Closed { took } => {
            ms(took)?;
            "closed"
        }
        Event::Migrated { from, to, took } => {
            fields.set_item("from_format", from)?;
            fields.set_item("to_format", to)?;
            ms(took)?;
            "migrated"
        }
        Event::Recovered { frames } => {
            fields.set_item("frames", frames)?;
            "recovered"
        }
        Event::Checkpoint { mode, pages, moved, busy, took } => {
            fields.set_item("mode", mode)?;
            fields.set_item("pages", pages)?;
            fields.set_item("moved", moved)?;
            fields.set_item("busy", busy)?;
            ms(took)?;
            "checkpoint"
        }
        Event::LogGrown { bytes, limit, readers } => {
            fields.set_item("bytes", bytes)?;
            fields.set_item("limit", limit)?;
            fields.set_item("readers", readers.clone())?;
            "log_grown"
        }
        Event::WriterPanicked => "writer_panicked",
        Event::Damaged { code } => {
            fields.set_item("code", code)?;
            "damaged"
        }
        Event::Slow { operation, took } => {
            fields.set_item("operation", operation)?;
            ms(took)?;
            "slow"
        }
        Event::Maintained { operation, took } => {
            fields.set_item("operation", operation)?;
            ms(took)?;
            "maintained"
        }
        Event::Dropped { events } => {
            fields.set_item("events", events)?;
            "dropped"
        }
    };
    Ok((name, at.0, fields).into_pyobject(py)?.into_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Caller;

    impl Caller {
        fn counting() -> &'static str {
            fn name<F: FnOnce()>(_: F) -> &'static str {
                operation::<F>()
            }
            let inner = || name(|| ());
            inner()
        }
    }

    #[test]
    fn a_closure_knows_its_method() {
        assert_eq!(Caller::counting(), "counting");
    }
}
