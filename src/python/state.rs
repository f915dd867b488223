//! `State`: the values of one namespace, as JSON.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::convert::{self, Taken};
use super::errors::guarded;
use super::store::Store;
use crate::model::{Expected, Namespace, StateEntry, StateValue, check_name};
use crate::request::ScanState;
use crate::store;

/// Times are microseconds since the epoch; values are JSON.
#[pyclass(frozen, module = "ragstore._ragstore")]
pub(super) struct State {
    store: Arc<dyn store::Store>,
    namespace: Namespace,
}

/// Key, value, and when it expires.
type Entry = (String, String, Option<i64>);

fn row(entry: StateEntry) -> Entry {
    (entry.key, entry.value.as_json().to_owned(), entry.expires_at.map(|at| at.0))
}

/// `None` is anything, an empty tuple is nothing, and a tuple of one is that value.
pub(super) fn expected(given: Option<Vec<Bound<'_, PyAny>>>) -> PyResult<Expected> {
    Ok(match given.as_deref() {
        None => Expected::Anything,
        Some([]) => Expected::Nothing,
        Some([given, ..]) => Expected::Value(value(given).map_err(|refused| refused.raise("expected"))?),
    })
}

pub(super) fn value(given: &Bound<'_, PyAny>) -> Taken<StateValue> {
    Ok(StateValue::from_value(&convert::value(given)?)?)
}

/// A namespace, or a key.
pub(super) fn name(what: &str, given: &Bound<'_, PyString>) -> PyResult<String> {
    convert::text(given).map_err(|refused| refused.raise(what))
}

#[pymethods]
impl State {
    #[new]
    fn new(store: &Bound<'_, Store>, namespace: &Bound<'_, PyString>, local: bool) -> PyResult<Self> {
        guarded(|| {
            let name = name("namespace", namespace)?;
            check_name("namespace", &name)?;
            Ok(Self { store: store.get().core(), namespace: Namespace { name, local } })
        })
    }

    fn get(&self, py: Python<'_>, key: &Bound<'_, PyString>) -> PyResult<Option<Entry>> {
        guarded(|| {
            let key = name("key", key)?;
            Ok(py.detach(|| self.store.get_state(&self.namespace, &key))?.map(row))
        })
    }

    fn scan(
        &self,
        py: Python<'_>,
        prefix: &Bound<'_, PyString>,
        after: Option<String>,
        limit: usize,
    ) -> PyResult<Vec<Entry>> {
        guarded(|| {
            let prefix = name("prefix", prefix)?;
            let request = ScanState { namespace: self.namespace.clone(), prefix, after, limit };
            Ok(py.detach(|| self.store.scan_state(&request))?.into_iter().map(row).collect())
        })
    }

    fn count(&self, py: Python<'_>) -> PyResult<u64> {
        guarded(|| Ok(py.detach(|| self.store.count_state(&self.namespace))?))
    }
}
