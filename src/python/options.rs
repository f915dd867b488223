//! `Options`: what a search may ask for beyond the k best.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::errors::guarded;
use super::open::seconds;
use super::watch::Signals;
use crate::error::Error;
use crate::request::{Expand, Fusion, Include, Mode, Rerank, Search, Syntax};

#[pyclass(frozen, module = "ragstore._ragstore")]
pub(super) struct Options {
    pub(super) syntax: Syntax,
    pub(super) fusion: Fusion,
    pub(super) candidates: Option<usize>,
    pub(super) timeout: Option<Duration>,
    pub(super) recall: f64,
    include: Include,
    min_score: Option<f64>,
    fetch_k: Option<usize>,
    rerank: Option<Arc<Py<PyAny>>>,
    mmr: Option<f64>,
    group_size: Option<usize>,
    expand: Option<Expand>,
    window: Option<(u64, u64)>,
    explain: bool,
}

/// `depth`, `weight`, `types`, `direction`, `min_strength` and `limit` of `expand`.
type ExpandRow = (usize, f64, Option<Vec<String>>, String, f64, Option<usize>);

#[pymethods]
impl Options {
    #[new]
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (
        *, syntax = "natural", fusion = "rrf", weights = None, rrf_k = 60, candidates = None, timeout = None,
        recall = 0.99, include = None, min_score = None, fetch_k = None, rerank = None, mmr = None, group_size = None, expand = None,
        window = None, explain = false
    ))]
    fn new(
        syntax: &str,
        fusion: &str,
        weights: Option<(f64, f64)>,
        rrf_k: u32,
        candidates: Option<usize>,
        timeout: Option<f64>,
        recall: f64,
        include: Option<(bool, bool)>,
        min_score: Option<f64>,
        fetch_k: Option<usize>,
        rerank: Option<Py<PyAny>>,
        mmr: Option<f64>,
        group_size: Option<usize>,
        expand: Option<ExpandRow>,
        window: Option<(u64, u64)>,
        explain: bool,
    ) -> PyResult<Self> {
        guarded(|| {
            let weights = weights.map(|(vector, keyword)| [vector, keyword]);
            let fusion = match fusion {
                "rrf" => Fusion::ReciprocalRank { k: rrf_k, weights: weights.unwrap_or([1.0; 2]) },
                "weighted" => Fusion::Weighted { weights: weights.unwrap_or([0.5; 2]) },
                other => {
                    return Err(PyValueError::new_err(format!(
                        "fusion is {other:?}; it is one of \"rrf\", \"weighted\""
                    )));
                }
            };
            Ok(Self {
                syntax: syntax.parse::<Syntax>()?,
                fusion,
                candidates,
                timeout: timeout.map(|value| seconds("timeout", value)).transpose()?,
                recall,
                include: include.map_or_else(Include::default, |(text, metadata)| Include { text, metadata }),
                min_score,
                fetch_k,
                rerank: rerank.map(Arc::new),
                mmr,
                group_size,
                expand: expand.map(expansion).transpose()?,
                window,
                explain,
            })
        })
    }
}

impl Options {
    /// What they make of a search; what `rerank` raises is left with `signals`.
    pub(super) fn request(&self, collection: String, mode: Mode, k: usize, signals: &Arc<Signals>) -> Search {
        Search {
            include: self.include,
            min_score: self.min_score,
            timeout: self.timeout,
            fetch_k: self.fetch_k,
            rerank: self.rerank.as_ref().map(|rerank| reranking(rerank, signals)),
            mmr: self.mmr,
            group_size: self.group_size,
            expand: self.expand.clone(),
            window: self.window,
            explain: self.explain,
            ..Search::new(collection, mode, k)
        }
    }
}

fn expansion(row: ExpandRow) -> Result<Expand, Error> {
    let (depth, weight, kinds, direction, min_strength, limit) = row;
    let direction = direction.parse().map_err(|e: Error| e.context("expand"))?;
    Ok(Expand { depth, weight, kinds, direction, min_strength, limit })
}

/// Calls back into Python, which returns a list of float.
fn reranking(rerank: &Arc<Py<PyAny>>, signals: &Arc<Signals>) -> Rerank {
    let (rerank, signals) = (Arc::clone(rerank), Arc::clone(signals));
    Rerank::new(move |query, texts| {
        let scored = Python::try_attach(|py| -> PyResult<Vec<f64>> {
            rerank.bind(py).call1((query, PyList::new(py, texts)?))?.extract()
        });
        match scored {
            Some(Ok(scores)) => Ok(scores),
            Some(Err(raised)) => Err(signals.raise(raised)),
            None => Err(Error::internal("the interpreter is shutting down")),
        }
    })
}
