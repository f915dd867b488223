//! Files: opened as stores, and looked at where they do not open.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::convert;
use super::errors::guarded;
use super::events::settle;
use super::rows;
use super::store::Store;
use super::watch::Watcher;
use crate::connect;
use crate::request::{Check, Derived, Durability, IndexAt, Open};

pub(super) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("{name} is {value}; it is a number of seconds, 0 or more")))
}

#[pyfunction]
#[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
pub(super) fn open(
    py: Python<'_>,
    path: Option<PathBuf>,
    key: Option<&Bound<'_, PyAny>>,
    create: bool,
    read_only: bool,
    durability: &str,
    timeout: f64,
    readers: Option<usize>,
    derived: &str,
    memory_limit: Option<usize>,
    network_filesystem: bool,
    index_at: Option<(u64, usize, bool)>,
) -> PyResult<Store> {
    guarded(|| {
        let mut request = path.map_or_else(Open::ephemeral, Open::file);
        request.create = create;
        request.read_only = read_only;
        request.durability = match durability {
            "full" => Durability::Full,
            "relaxed" => Durability::Relaxed,
            other => {
                return Err(PyValueError::new_err(format!(
                    "durability is {other:?}; it is one of \"full\", \"relaxed\""
                )));
            }
        };
        request.timeout = seconds("timeout", timeout)?;
        if let Some(readers) = readers {
            request.readers = readers;
        }
        request.derived = match derived {
            "auto" => Derived::Auto,
            "memory" => Derived::Memory,
            "off" => Derived::Off,
            other => {
                return Err(PyValueError::new_err(format!(
                    "derived is {other:?}; it is one of \"auto\", \"memory\", \"off\""
                )));
            }
        };
        request.memory_limit = memory_limit;
        request.network_filesystem = network_filesystem;
        request.index_at = index_at.map(|(rows, tail, wait)| IndexAt { rows, tail, wait });
        request.key = key.map(convert::key).transpose()?;
        settle(py, Ok(Store(py.detach(|| connect::open(&request))?)))
    })
}

#[pyfunction]
pub(super) fn check<'py>(
    py: Python<'py>,
    path: PathBuf,
    key: Option<&Bound<'py, PyAny>>,
    quick: bool,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    guarded(|| {
        let mut watcher = Watcher::new(progress, 0);
        let key = key.map(convert::key).transpose()?;
        let outcome = py.detach(|| connect::check(&path, key.as_ref(), &Check { quick }, &mut watcher));
        rows::problems(py, &settle(py, watcher.finish_read(py, outcome))?.problems)
    })
}

#[pyfunction]
pub(super) fn repair<'py>(
    py: Python<'py>,
    path: PathBuf,
    key: Option<&Bound<'py, PyAny>>,
    to: PathBuf,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    guarded(|| {
        let mut watcher = Watcher::new(progress, 0);
        let key = key.map(convert::key).transpose()?;
        let outcome = py.detach(|| connect::repair(&path, key.as_ref(), &to, &mut watcher));
        rows::repair(py, &settle(py, watcher.finish_read(py, outcome))?)
    })
}
