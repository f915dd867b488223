//! One mapping from the kinds of error to Python's exceptions.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::error::{Error, ErrorKind};

/// The module and the name of the class that a kind is raised as.
fn class_name(kind: ErrorKind) -> (&'static str, &'static str) {
    const OURS: &str = "ragstore.exceptions";
    const BUILTIN: &str = "builtins";
    match kind {
        ErrorKind::Argument => (BUILTIN, "ValueError"),
        ErrorKind::Io => (BUILTIN, "OSError"),
        ErrorKind::Cancelled => (BUILTIN, "KeyboardInterrupt"),
        ErrorKind::NotFound => (OURS, "NotFoundError"),
        ErrorKind::CollectionNotFound => (OURS, "CollectionNotFoundError"),
        ErrorKind::DocumentNotFound => (OURS, "DocumentNotFoundError"),
        ErrorKind::Conflict => (OURS, "ConflictError"),
        ErrorKind::CollectionExists => (OURS, "CollectionExistsError"),
        ErrorKind::DimensionMismatch => (OURS, "DimensionMismatchError"),
        ErrorKind::InvalidVector => (OURS, "InvalidVectorError"),
        ErrorKind::Filter => (OURS, "FilterError"),
        ErrorKind::QuerySyntax => (OURS, "QuerySyntaxError"),
        ErrorKind::Limit => (OURS, "LimitError"),
        ErrorKind::Corrupt => (OURS, "CorruptError"),
        ErrorKind::SchemaTooNew => (OURS, "SchemaTooNewError"),
        ErrorKind::WrongKey => (OURS, "WrongKeyError"),
        ErrorKind::Locked => (OURS, "LockedError"),
        ErrorKind::QueryTimeout => (OURS, "QueryTimeoutError"),
        ErrorKind::StoreFull => (OURS, "StoreFullError"),
        ErrorKind::NetworkFilesystem => (OURS, "NetworkFilesystemError"),
        ErrorKind::WalFull => (OURS, "WalFullError"),
        ErrorKind::ClockSkew => (OURS, "ClockSkewError"),
        ErrorKind::Sync => (OURS, "SyncError"),
        ErrorKind::Fork => (OURS, "ForkError"),
        ErrorKind::Closed => (OURS, "ClosedError"),
        ErrorKind::ReadOnly => (OURS, "ReadOnlyError"),
        ErrorKind::Internal => (OURS, "InternalError"),
    }
}

/// The class that a kind is raised as. The import is late: the package imports this module first.
pub(super) fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<Bound<'_, PyType>> {
    static CLASSES: [PyOnceLock<Py<PyType>>; ErrorKind::ALL.len()] =
        [const { PyOnceLock::new() }; ErrorKind::ALL.len()];
    let (module, name) = class_name(kind);
    Ok(CLASSES[kind as usize].import(py, module, name)?.clone())
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        Python::attach(|py| match class(py, error.kind()) {
            Ok(class) => PyErr::from_type(class, error.message().to_owned()),
            Err(other) => other,
        })
    }
}

/// Runs the body of an entry point. A panic becomes `InternalError`: it says what to report, and can be caught.
pub(super) fn guarded<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // Nothing that a body can leave half done outlives it: the core has its own guards, and the rest is per call.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(panicked(payload.as_ref()).into()))
}

fn panicked(payload: &(dyn Any + Send)) -> Error {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::internal(format!("a defect of ragstore: {message}; please report it with the traceback"))
}
