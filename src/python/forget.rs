//! `Collection.forget`.

use std::ffi::OsStr;

use pyo3::prelude::*;

use super::convert;
use super::errors::guarded;
use super::events::{self, settle};
use super::store::Store;
use super::watch::Watcher;
use crate::model::ForgetReport;
use crate::request::Forget;

/// `ForgetRow` of the stub.
type Row =
    ((u64, u64, u64, u64, u64), (u64, u64, u64, u64), Vec<(String, &'static str, u64)>, Vec<String>, Vec<String>, f64);

fn name(path: &OsStr) -> String {
    path.to_string_lossy().into_owned()
}

fn row(report: ForgetReport) -> Row {
    let ForgetReport { documents, chunks, embeddings, relations, cached_embeddings, .. } = report;
    let ForgetReport { traces, shared, searched_files, searched_bytes, .. } = report;
    (
        (documents, chunks, embeddings, relations, cached_embeddings),
        (traces, shared, searched_files, searched_bytes),
        report.remains.into_iter().map(|left| (name(left.file.as_os_str()), left.kind, left.count)).collect(),
        report.missing,
        report.kept.iter().map(|path| name(path.as_os_str())).collect(),
        report.took.as_secs_f64(),
    )
}

#[pyfunction]
pub(super) fn forget(
    py: Python<'_>,
    store: &Bound<'_, Store>,
    collection: String,
    document_ids: Option<Vec<String>>,
    r#where: &Bound<'_, PyAny>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<Row> {
    guarded(|| {
        let request = Forget { collection, document_ids, filter: convert::filter(r#where)? };
        let mut watcher = Watcher::new(progress, 0);
        let core = store.get().core();
        let outcome = py.detach(|| events::timed("forget", || core.forget(request, &mut watcher)));
        Ok(row(settle(py, watcher.finish(py, outcome))?))
    })
}
