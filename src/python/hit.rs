//! `Hit`: one answer of a search.

use std::ops::Range;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::errors::guarded;
use super::rows;
use crate::highlight;
use crate::model::{self, Marker};

/// One chunk that a search found.
///
/// Attributes
/// ----------
/// collection : str
///     Its name.
/// id : str
///     The chunk.
/// text : str or None
///     Its text.
/// score : float
///     Higher is better; comparable within one search only.
/// rank : int or None
///     Its place in the ranking, from 1, before rerank, mmr or group_by moved it; None where the graph led to it.
/// distance : float or None
///     Of its vector, by the metric of the space, where the search had a vector.
/// document_id : str
/// uri : str or None
///     Of its document.
/// index : int
///     Its place among the chunks of its document, from 0.
/// start, end : int or None
///     Characters of the document's text.
/// metadata : dict
///     Its own and its document's, as they were when it was searched.
/// vector_rank, keyword_rank : int or None
///     Its place in either ranking, from 1.
/// vector_score, keyword_score : float or None
///     Its score in either ranking.
/// path : tuple of str or None
///     Where the graph led to it, with `expand`: the ids on the way, from a hit or its document to this one or its
///     document.
#[pyclass(frozen, module = "ragstore")]
pub(super) struct Hit {
    hit: model::Hit,
    marker: Option<Arc<dyn Marker>>,
    /// Read from JSON when someone asks.
    metadata: PyOnceLock<Py<PyDict>>,
}

impl Hit {
    pub(super) fn new(hit: model::Hit, marker: Option<Arc<dyn Marker>>) -> Self {
        Self { hit, marker, metadata: PyOnceLock::new() }
    }

    fn marks(&self, py: Python<'_>, text: &str) -> PyResult<Vec<Range<usize>>> {
        match &self.marker {
            Some(marker) => Ok(py.detach(|| marker.marks(text))?),
            None => Ok(Vec::new()),
        }
    }
}

#[pymethods]
impl Hit {
    #[getter]
    fn collection(&self) -> &str {
        &self.hit.collection
    }

    #[getter]
    fn rank(&self) -> Option<u32> {
        self.hit.rank
    }

    #[getter]
    fn id(&self) -> &str {
        &self.hit.id
    }

    #[getter]
    fn text(&self) -> Option<&str> {
        self.hit.text.as_deref()
    }

    #[getter]
    fn score(&self) -> f64 {
        self.hit.score
    }

    #[getter]
    fn distance(&self) -> Option<f64> {
        self.hit.distance
    }

    #[getter]
    fn document_id(&self) -> &str {
        &self.hit.document_id
    }

    #[getter]
    fn uri(&self) -> Option<&str> {
        self.hit.uri.as_deref()
    }

    #[getter]
    fn index(&self) -> u64 {
        self.hit.index
    }

    #[getter]
    fn start(&self) -> Option<u64> {
        self.hit.chars.map(|chars| chars.0)
    }

    #[getter]
    fn end(&self) -> Option<u64> {
        self.hit.chars.map(|chars| chars.1)
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(|| {
            let dict =
                self.metadata.get_or_try_init(py, || rows::dict(py, self.hit.metadata.as_json()).map(Bound::unbind))?;
            Ok(dict.bind(py).clone())
        })
    }

    #[getter]
    fn vector_rank(&self) -> Option<u32> {
        self.hit.vector.map(|leg| leg.rank)
    }

    #[getter]
    fn vector_score(&self) -> Option<f64> {
        self.hit.vector.map(|leg| leg.score)
    }

    #[getter]
    fn keyword_rank(&self) -> Option<u32> {
        self.hit.keyword.map(|leg| leg.rank)
    }

    #[getter]
    fn keyword_score(&self) -> Option<f64> {
        self.hit.keyword.map(|leg| leg.score)
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.hit.path.as_ref().map(|path| PyTuple::new(py, path)).transpose()
    }

    /// The text with the words of the query marked; "" without text.
    ///
    /// A search without text marks nothing. The text itself is not escaped.
    ///
    /// Parameters
    /// ----------
    /// before, after : str
    ///     What stands around each word.
    ///
    /// Returns
    /// -------
    /// str
    #[pyo3(signature = (before = "<b>", after = "</b>"))]
    fn highlight(&self, py: Python<'_>, before: &str, after: &str) -> PyResult<String> {
        guarded(|| {
            let Some(text) = self.text() else { return Ok(String::new()) };
            Ok(highlight::highlight(text, &self.marks(py, text)?, before, after))
        })
    }

    /// The part of the text with most words of the query, marked; its beginning without any.
    ///
    /// Parameters
    /// ----------
    /// words : int
    ///     Words of the part; an ellipsis stands where it was cut out.
    /// before, after : str
    ///     What stands around each word of the query.
    ///
    /// Returns
    /// -------
    /// str
    #[pyo3(signature = (words = 32, before = "<b>", after = "</b>"))]
    fn snippet(&self, py: Python<'_>, words: usize, before: &str, after: &str) -> PyResult<String> {
        guarded(|| {
            let Some(text) = self.text() else { return Ok(String::new()) };
            Ok(highlight::snippet(text, &self.marks(py, text)?, words, before, after))
        })
    }

    fn __repr__(&self) -> String {
        let text = self.text().map_or_else(
            || "None".to_owned(),
            |text| {
                let mut start: String = text.chars().take(60).collect();
                if start.len() < text.len() {
                    start.push('…');
                }
                format!("{start:?}")
            },
        );
        let ids = |path: &Vec<String>| path.iter().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(", ");
        let path = self.hit.path.as_ref().map(|path| format!(", path=({})", ids(path))).unwrap_or_default();
        format!("Hit(id={:?}, score={:.4}, text={text}{path})", self.hit.id, self.hit.score)
    }
}

/// What a search found: the hits, whether they are exact, whether they are complete, milliseconds, and the plan.
pub(super) fn hits(py: Python<'_>, found: model::Hits) -> PyResult<Bound<'_, PyTuple>> {
    let model::Hits { hits, exact, complete, took, keyword: _, plan, markers } = found;
    let hits = hits
        .into_iter()
        .map(|hit| {
            let marker = markers.get(&hit.collection).cloned();
            Bound::new(py, Hit::new(hit, marker))
        })
        .collect::<PyResult<Vec<_>>>()?;
    let plan = plan.map(|plan| rows::object(py, &plan)).transpose()?;
    (PyList::new(py, hits)?, exact, complete, took.as_secs_f64() * 1e3, plan).into_pyobject(py)
}
