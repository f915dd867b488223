//! The module itself.

use pyo3::ffi;
use pyo3::prelude::*;

/// The number of this interpreter; that of the main one is 0. PyO3 asks it where a module has one phase of its making alone.
#[allow(unsafe_code)]
fn interpreter() -> i64 {
    // SAFETY: importing holds the GIL, and with it there is an interpreter.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) }
}

/// What the package `ragstore` is built on. Private: names and parameters change without notice.
// The GIL stands between the check of an array and the references that pin it, so free-threaded builds take it back.
#[pymodule(gil_used = true)]
mod _ragstore {
    use pyo3::exceptions::{PyImportError, PyValueError};
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    #[pymodule_export]
    use super::super::forget::forget;
    #[pymodule_export]
    use super::super::hit::Hit;
    #[pymodule_export]
    use super::super::open::{check, open, repair};
    #[pymodule_export]
    use super::super::options::Options;
    #[pymodule_export]
    use super::super::state::State;
    #[pymodule_export]
    use super::super::store::Store;
    #[pymodule_export]
    use super::super::sync::{Sync, batch_frames, batch_of, shift_clock};
    #[pymodule_export]
    use super::super::write::Write;

    use super::super::errors::{class, guarded};
    use super::super::events;
    use crate::connect;
    use crate::error::ErrorKind;
    use crate::split::Syntax;

    /// Before anything of SQLite is used.
    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        // What the extension keeps for the process, classes and exceptions among it, is of one interpreter.
        if super::interpreter() != 0 {
            return Err(PyImportError::new_err(
                "ragstore does not work in a sub-interpreter; import it in the main one, or use another process",
            ));
        }
        guarded(|| {
            connect::listen();
            Ok(())
        })
    }

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// The first and the end character of each piece.
    #[pyfunction]
    fn split(py: Python<'_>, text: &str, size: usize, overlap: usize, syntax: &str) -> PyResult<Vec<(usize, usize)>> {
        guarded(|| {
            let syntax = match syntax {
                "text" => Syntax::Text,
                "markdown" => Syntax::Markdown,
                other => {
                    return Err(PyValueError::new_err(format!(
                        "syntax is {other:?}; it is one of \"text\", \"markdown\""
                    )));
                }
            };
            let pieces = py.detach(|| crate::split::split(text, size, overlap, syntax))?;
            Ok(pieces.into_iter().map(|piece| (piece.start, piece.end)).collect())
        })
    }

    /// From how many microseconds on a call is told of.
    #[pyfunction]
    fn set_slow(micros: u64) {
        events::set_slow(micros);
    }

    /// A ULID.
    #[pyfunction]
    fn new_id() -> String {
        crate::model::new_id()
    }

    /// Before the process forks: every store rests.
    #[pyfunction]
    fn before_fork() -> PyResult<()> {
        // Attached throughout: a thread that waited for the fork with the interpreter in its hands would stop both.
        guarded(|| {
            connect::before_fork();
            Ok(())
        })
    }

    /// After the process forked, in the one that goes on.
    #[pyfunction]
    fn after_fork_in_parent() -> PyResult<()> {
        guarded(|| {
            connect::after_fork_in_parent();
            Ok(())
        })
    }

    /// After the process forked, in the new one.
    #[pyfunction]
    fn after_fork_in_child() -> PyResult<()> {
        guarded(|| {
            connect::after_fork_in_child();
            // They are the parent's to tell of.
            drop(crate::events::take());
            Ok(())
        })
    }

    /// Every kind of error with the class it is raised as.
    #[pyfunction]
    fn error_classes(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let classes = PyDict::new(py);
        for kind in ErrorKind::ALL {
            classes.set_item(format!("{kind:?}"), class(py, kind)?)?;
        }
        Ok(classes)
    }

    /// Panics, so that a test can hold the promise that none passes an entry point.
    #[pyfunction]
    #[pyo3(name = "_panic")]
    #[allow(clippy::panic)]
    fn panic_for_a_test() -> PyResult<()> {
        guarded(|| panic!("asked for"))
    }
}
