//! Signals and progress while the core works.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{Interrupt, Watch};

/// The least time between two looks at the interpreter.
const INTERVAL: Duration = Duration::from_millis(100);

/// Attaches to the interpreter every so often, on the thread that called, to let signal handlers run and to report.
pub(super) struct Watcher {
    callback: Option<Py<PyAny>>,
    last: Instant,
    total: u64,
    reported: Option<(u64, u64)>,
    /// What the callback or a signal handler raised; it cancels the write.
    raised: Option<PyErr>,
}

impl Watcher {
    /// `total` is what the last report says where the write was too quick to be looked at.
    pub(super) fn new(callback: Option<Bound<'_, PyAny>>, total: u64) -> Self {
        Self { callback: callback.map(Bound::unbind), last: Instant::now(), total, reported: None, raised: None }
    }

    fn report(&mut self, py: Python<'_>, done: u64, total: u64) -> PyResult<()> {
        // Of 0 while the write waits for its turn.
        if let Some(callback) = &self.callback
            && total > 0
            && self.reported != Some((done, total))
        {
            self.reported = Some((done, total));
            callback.call1(py, (done, total))?;
        }
        Ok(())
    }

    /// The outcome of a watched read, as that of a write; nothing was committed.
    pub(super) fn finish_read<T>(mut self, py: Python<'_>, outcome: Result<T>) -> PyResult<T> {
        if let Some(raised) = self.raised.take() {
            return Err(raised);
        }
        let value = outcome?;
        self.report(py, self.total, self.total)?;
        Ok(value)
    }

    /// The outcome of the watched write: what was raised goes before an error of the core, and the last report is made.
    pub(super) fn finish<T>(mut self, py: Python<'_>, outcome: Result<T>) -> PyResult<T> {
        match (outcome, self.raised.take()) {
            (Ok(value), None) => {
                self.report(py, self.total, self.total).inspect_err(|raised| committed(py, raised))?;
                Ok(value)
            }
            (Ok(_), Some(raised)) => {
                committed(py, &raised);
                Err(raised)
            }
            (Err(_), Some(raised)) => Err(raised),
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// Lets signal handlers run while a search does, and keeps what Python raised meanwhile.
pub(super) struct Signals(Mutex<Option<PyErr>>);

impl Signals {
    /// Nothing was raised yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(None)))
    }

    /// Keeps what was raised, and gives the error that ends the search.
    pub(super) fn raise(&self, raised: PyErr) -> Error {
        *self.0.lock() = Some(raised);
        Error::new(ErrorKind::Cancelled, "Python raised")
    }

    /// The outcome of the search: what was raised goes before an error of the core.
    pub(super) fn finish<T>(&self, outcome: Result<T>) -> PyResult<T> {
        match (outcome, self.0.lock().take()) {
            (Ok(value), None) => Ok(value),
            (_, Some(raised)) => Err(raised),
            (Err(error), None) => Err(error.into()),
        }
    }
}

impl Interrupt for Signals {
    fn keep_going(&self) -> bool {
        match Python::try_attach(|py| py.check_signals()) {
            Some(Ok(())) => true,
            Some(Err(raised)) => {
                let _ = self.raise(raised);
                false
            }
            // The interpreter is shutting down: nobody waits for the outcome.
            None => false,
        }
    }
}

/// Says what a traceback cannot show: it was too late to cancel.
fn committed(py: Python<'_>, raised: &PyErr) {
    let _ = raised.add_note(py, "ragstore: the write was committed before this was raised");
}

impl Watch for Watcher {
    fn keep_going(&mut self, done: u64, total: u64) -> bool {
        if self.raised.is_some() {
            return false;
        }
        if total > 0 {
            self.total = total;
        }
        if self.last.elapsed() < INTERVAL {
            return true;
        }
        let outcome = Python::try_attach(|py| {
            py.check_signals()?;
            self.report(py, done, total)
        });
        self.last = Instant::now();
        match outcome {
            Some(Ok(())) => true,
            Some(Err(raised)) => {
                self.raised = Some(raised);
                false
            }
            // The interpreter is shutting down: nobody waits for the outcome.
            None => {
                self.raised = Some(Error::internal("the interpreter is shutting down").into());
                false
            }
        }
    }
}
