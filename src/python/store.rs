//! `Store`: the core's store, with Python's values in and out.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::array;
use super::convert;
use super::documents;
use super::errors::guarded;
use super::events::{self, settle};
use super::export::Callbacks;
use super::hit::hits;
use super::options::Options;
use super::rows;
use super::turns;
use super::watch::{Signals, Watcher};
use super::write::{self, Write};
use crate::error::{Error, Result};
use crate::model::{self, ContentHash};
use crate::request::{
    Accuracy, Backup, CachedEmbeddings, Check, CheckRecall, DEFAULT_SPACE, DocumentKey, Export, GetDocument,
    ListDocuments, Mode, Neighbors, Operation, Rekey, RelatedTo, Relations, Repair, Search, SearchBatch, SearchStore,
};
use crate::store;

/// Id, path, strength and depth.
type RelatedRow = (String, Vec<String>, f64, usize);

#[pyclass(frozen, module = "ragstore._ragstore")]
pub(super) struct Store(pub(super) Arc<dyn store::Store>);

impl Store {
    /// The store of the core.
    pub(super) fn core(&self) -> Arc<dyn store::Store> {
        Arc::clone(&self.0)
    }

    /// Runs `body` on the core, detached from the interpreter.
    fn detached<T: Send, F: FnOnce(&dyn store::Store) -> Result<T> + Send>(
        &self,
        py: Python<'_>,
        body: F,
    ) -> PyResult<T> {
        let store = &*self.0;
        let operation = events::operation::<F>();
        settle(py, guarded(|| Ok(py.detach(|| events::timed(operation, || body(store)))?)))
    }
}

#[pymethods]
impl Store {
    #[getter]
    fn path(&self) -> Option<&OsStr> {
        self.0.path().map(Path::as_os_str)
    }

    #[getter]
    fn read_only(&self) -> bool {
        self.0.read_only()
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.closed()
    }

    #[getter]
    fn encrypted(&self) -> bool {
        self.0.encrypted()
    }

    fn rekey(&self, py: Python<'_>, key: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let key = key.map(convert::key).transpose()?;
        self.detached(py, |store| store.rekey(Rekey { key }))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.detached(py, |store| store.close())
    }

    /// Commits the changes as one and returns what each did.
    #[pyo3(signature = (writes, progress = None))]
    fn write<'py>(
        &self,
        py: Python<'py>,
        writes: &Bound<'py, PyList>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            let (mut changes, mut pins, mut units) = (Vec::with_capacity(writes.len()), Vec::new(), 0);
            for write in writes.iter() {
                let prepared = write.cast::<Write>()?.get().take()?;
                changes.push(prepared.write);
                pins.extend(prepared.pins);
                units += prepared.units;
            }
            let mut watcher = Watcher::new(progress, units);
            let store = &*self.0;
            let operation = match changes.as_slice() {
                [change] => change.name(),
                _ => "transaction",
            };
            let outcome = py.detach(|| events::timed(operation, || store.write(changes, &mut watcher)));
            // The core is done: only now may the arrays move.
            drop(pins);
            let written = settle(py, watcher.finish(py, outcome))?;
            PyList::new(py, written.into_iter().map(|w| rows::written(py, w)).collect::<PyResult<Vec<_>>>()?)
        })
    }

    /// `operation` is "checkpoint" with its mode, "optimize" or "vacuum".
    fn operate(
        &self,
        py: Python<'_>,
        operation: &str,
        mode: Option<&str>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        guarded(|| {
            let operation = match (operation, mode) {
                ("checkpoint", Some(mode)) => Operation::Checkpoint(mode.parse()?),
                ("optimize", None) => Operation::Optimize,
                ("vacuum", None) => Operation::Vacuum,
                other => return Err(Error::internal(format!("there is no operation {other:?}")).into()),
            };
            let mut watcher = Watcher::new(progress, 0);
            let store = &*self.0;
            let outcome = py.detach(|| store.operate(operation, &mut watcher));
            settle(py, watcher.finish(py, outcome))
        })
    }

    fn backup(&self, py: Python<'_>, path: PathBuf, progress: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        guarded(|| {
            let mut watcher = Watcher::new(progress, 0);
            let store = &*self.0;
            let outcome = py.detach(|| store.backup(&Backup { path }, &mut watcher));
            settle(py, watcher.finish(py, outcome))
        })
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        rows::stats(py, &self.detached(py, |store| store.stats())?)
    }

    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let health = self.detached(py, |store| store.health())?;
        let reasons: Vec<_> = health.reasons.into_iter().map(|reason| (reason.what, reason.what_to_do)).collect();
        (health.status.as_str(), reasons).into_pyobject(py)
    }

    fn check<'py>(
        &self,
        py: Python<'py>,
        quick: bool,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            let mut watcher = Watcher::new(progress, 0);
            let store = &*self.0;
            let outcome = py.detach(|| store.check(&Check { quick }, &mut watcher));
            rows::problems(py, &settle(py, watcher.finish_read(py, outcome))?.problems)
        })
    }

    fn repair<'py>(
        &self,
        py: Python<'py>,
        to: Option<PathBuf>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        guarded(|| {
            let mut watcher = Watcher::new(progress, 0);
            let store = &*self.0;
            let outcome = py.detach(|| store.repair(&Repair { to }, &mut watcher));
            rows::repair(py, &settle(py, watcher.finish(py, outcome))?)
        })
    }

    fn get_collection<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyTuple>> {
        let info = self.detached(py, |store| store.get_collection(name))?;
        rows::collection(py, &info)
    }

    fn list_collections<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let infos = self.detached(py, |store| store.list_collections())?;
        PyList::new(py, infos.iter().map(|info| rows::collection(py, info)).collect::<PyResult<Vec<_>>>()?)
    }

    fn get<'py>(&self, py: Python<'py>, collection: &str, chunk_ids: Vec<String>) -> PyResult<Bound<'py, PyList>> {
        let found = self.detached(py, |store| store.get(collection, &chunk_ids))?;
        let rows: Vec<_> =
            found.iter().map(|c| c.as_ref().map(|c| rows::chunk(py, c)).transpose()).collect::<PyResult<_>>()?;
        PyList::new(py, rows)
    }

    /// `kind` is "id", "uri" or "content_hash".
    fn get_document<'py>(
        &self,
        py: Python<'py>,
        collection: String,
        kind: &str,
        key: String,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        guarded(|| {
            let key = match kind {
                "id" => DocumentKey::Id(key),
                "uri" => DocumentKey::Uri(key),
                _ => DocumentKey::ContentHash(ContentHash::parse(&key)?),
            };
            let request = GetDocument { collection, key };
            let found = self.detached(py, |store| store.get_document(&request))?;
            found.map(|document| rows::document(py, &document)).transpose()
        })
    }

    fn list_documents<'py>(
        &self,
        py: Python<'py>,
        collection: String,
        r#where: &Bound<'py, PyAny>,
        limit: usize,
        after: Option<String>,
        offset: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            let request = ListDocuments { collection, filter: convert::filter(r#where)?, limit, after, offset };
            let found = self.detached(py, |store| store.list_documents(&request))?;
            PyList::new(py, found.iter().map(|d| rows::document(py, d)).collect::<PyResult<Vec<_>>>()?)
        })
    }

    fn get_chunks<'py>(&self, py: Python<'py>, collection: &str, document_id: &str) -> PyResult<Bound<'py, PyList>> {
        rows::chunks(py, &self.detached(py, |store| store.get_chunks(collection, document_id))?)
    }

    fn get_chunk_by_index<'py>(
        &self,
        py: Python<'py>,
        collection: &str,
        document_id: &str,
        index: u64,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let found = self.detached(py, |store| store.get_chunk_by_index(collection, document_id, index))?;
        found.map(|chunk| rows::chunk(py, &chunk)).transpose()
    }

    fn neighbors<'py>(
        &self,
        py: Python<'py>,
        collection: String,
        chunk_id: String,
        before: usize,
        after: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let request = Neighbors { collection, chunk_id, before, after };
        rows::chunks(py, &self.detached(py, |store| store.neighbors(&request))?)
    }

    fn relations<'py>(
        &self,
        py: Python<'py>,
        collection: String,
        id: Option<String>,
        direction: &str,
        kind: Option<String>,
    ) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            let request = Relations { collection, id, direction: direction.parse()?, kind };
            let found = self.detached(py, |store| store.relations(&request))?;
            PyList::new(py, found.iter().map(|relation| rows::relation(py, relation)).collect::<PyResult<Vec<_>>>()?)
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn related(
        &self,
        py: Python<'_>,
        collection: String,
        ids: Vec<String>,
        depth: usize,
        kinds: Option<Vec<String>>,
        min_strength: f64,
        direction: &str,
        limit: usize,
    ) -> PyResult<Vec<RelatedRow>> {
        guarded(|| {
            let direction = direction.parse()?;
            let request = RelatedTo { collection, ids, depth, kinds, min_strength, direction, limit };
            let found = self.detached(py, |store| store.related(&request))?;
            Ok(found.into_iter().map(|related| (related.id, related.path, related.strength, related.depth)).collect())
        })
    }

    fn get_embeddings<'py>(
        &self,
        py: Python<'py>,
        collection: &str,
        chunk_ids: Vec<String>,
        space: &str,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        guarded(|| {
            let vectors = self.detached(py, |store| store.get_embeddings(collection, &chunk_ids, space))?;
            PyArray1::from_vec(py, vectors.values).reshape([chunk_ids.len(), vectors.dimension])
        })
    }

    fn count(&self, py: Python<'_>, collection: &str, r#where: &Bound<'_, PyAny>) -> PyResult<u64> {
        guarded(|| {
            let filter = convert::filter(r#where)?;
            self.detached(py, |store| store.count(collection, filter.as_ref()))
        })
    }

    fn count_documents(&self, py: Python<'_>, collection: &str, r#where: &Bound<'_, PyAny>) -> PyResult<u64> {
        guarded(|| {
            let filter = convert::filter(r#where)?;
            self.detached(py, |store| store.count_documents(collection, filter.as_ref()))
        })
    }

    fn kept(
        &self,
        py: Python<'_>,
        collection: &str,
        documents: &Bound<'_, PyList>,
        on_conflict: &str,
    ) -> PyResult<Vec<bool>> {
        guarded(|| {
            let documents = documents::documents(documents)?;
            let on_conflict = write::on_conflict(on_conflict)?;
            self.detached(py, |store| store.kept(collection, &documents, on_conflict))
        })
    }

    /// The model of the embedder, the space, which texts were found, and a row for each of those.
    fn cached_embeddings<'py>(
        &self,
        py: Python<'py>,
        collection: String,
        space: String,
        model: Option<String>,
        texts: Vec<String>,
        dimension: Option<usize>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        guarded(|| {
            let request = CachedEmbeddings { collection, space, model, texts, dimension };
            let cached = self.detached(py, |store| store.cached_embeddings(&request))?;
            let rows = [cached.found.len(), cached.vectors.dimension];
            let vectors = PyArray1::from_vec(py, cached.vectors.values).reshape(rows)?;
            (cached.model, rows::space(py, &cached.space)?, cached.found, vectors).into_pyobject(py)
        })
    }

    fn unchanged(&self, py: Python<'_>, collection: &str, documents: &Bound<'_, PyList>) -> PyResult<Vec<bool>> {
        guarded(|| {
            let documents = documents::documents(documents)?;
            self.detached(py, |store| store.unchanged(collection, &documents))
        })
    }

    /// Calls `collection`, `page`, `relations` and `state` with what there is, in one snapshot. What they raise ends it.
    fn export(
        &self,
        py: Python<'_>,
        collections: Option<Vec<String>>,
        collection: Bound<'_, PyAny>,
        page: Bound<'_, PyAny>,
        relations: Bound<'_, PyAny>,
        state: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        guarded(|| {
            let request = Export { collections };
            let mut callbacks = Callbacks::new([collection, page, relations, state]);
            let store = &*self.0;
            let outcome = py.detach(|| store.export(&request, &mut callbacks));
            settle(py, callbacks.finish(outcome))
        })
    }

    /// `mode` is "vector", "keyword" or "hybrid". Returns the hits, whether they are exact, whether they are complete, the
    /// milliseconds it took, and the plan if it was asked for.
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    fn search<'py>(
        &self,
        py: Python<'py>,
        collection: String,
        mode: &str,
        text: Option<String>,
        vector: Option<&Bound<'py, PyAny>>,
        space: String,
        k: usize,
        r#where: &Bound<'py, PyAny>,
        exact: bool,
        options: &Bound<'py, Options>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        guarded(|| {
            let options = options.get();
            let interrupt = Signals::new();
            let request = Search {
                filter: convert::filter(r#where)?,
                accuracy: Accuracy { exact, recall: options.recall },
                ..options.request(collection, query(mode, text, vector, space, options)?, k, &interrupt)
            };
            let asked: Arc<dyn store::Interrupt> = interrupt.clone();
            let store = &*self.0;
            let outcome = turns::detached(py, || events::timed("search", || store.search(&request, asked)));
            hits(py, settle(py, interrupt.finish(outcome))?)
        })
    }

    /// Recall, its interval, how many vectors, k, the milliseconds of either, and how it was searched.
    #[allow(clippy::type_complexity)]
    fn check_recall(
        &self,
        py: Python<'_>,
        collection: String,
        space: String,
        sample: usize,
        k: usize,
        recall: f64,
    ) -> PyResult<(f64, (f64, f64), usize, usize, f64, f64, &'static str)> {
        guarded(|| {
            let request = CheckRecall { collection, space, sample, k, recall };
            let interrupt = Signals::new();
            let asked: Arc<dyn store::Interrupt> = interrupt.clone();
            let store = &*self.0;
            let outcome = py.detach(|| events::timed("check_recall", || store.check_recall(&request, asked)));
            let report = settle(py, interrupt.finish(outcome))?;
            let model::RecallReport { recall, interval, sample, k, millis, exact_millis, scan } = report;
            Ok((recall, interval, sample, k, millis, exact_millis, scan))
        })
    }

    /// The hits of each row of an array.
    #[allow(clippy::too_many_arguments)]
    fn search_batch<'py>(
        &self,
        py: Python<'py>,
        collection: String,
        vectors: &Bound<'py, PyAny>,
        space: String,
        k: usize,
        r#where: &Bound<'py, PyAny>,
        exact: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            let (vectors, dimension) = array::matrix(vectors)?;
            let filter = convert::filter(r#where)?;
            let request = SearchBatch {
                collection,
                vectors,
                dimension,
                space,
                k,
                filter,
                accuracy: Accuracy { exact, ..Accuracy::default() },
            };
            let interrupt = Signals::new();
            let asked: Arc<dyn store::Interrupt> = interrupt.clone();
            let store = &*self.0;
            let outcome = py.detach(|| events::timed("search_batch", || store.search_batch(&request, asked)));
            let answers = settle(py, interrupt.finish(outcome))?;
            PyList::new(py, answers.into_iter().map(|answer| hits(py, answer)).collect::<PyResult<Vec<_>>>()?)
        })
    }

    /// As `search`, over several collections; None is all of them.
    #[allow(clippy::too_many_arguments)]
    fn search_store<'py>(
        &self,
        py: Python<'py>,
        collections: Option<Vec<String>>,
        mode: &str,
        text: Option<String>,
        vector: Option<&Bound<'py, PyAny>>,
        k: usize,
        r#where: &Bound<'py, PyAny>,
        options: &Bound<'py, Options>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        guarded(|| {
            let options = options.get();
            let mode = query(mode, text, vector, DEFAULT_SPACE.to_owned(), options)?;
            let (filter, timeout) = (convert::filter(r#where)?, options.timeout);
            let request = SearchStore { collections, mode, k, filter, timeout };
            let interrupt = Signals::new();
            let asked: Arc<dyn store::Interrupt> = interrupt.clone();
            let store = &*self.0;
            let outcome = turns::detached(py, || events::timed("search_store", || store.search_store(&request, asked)));
            hits(py, settle(py, interrupt.finish(outcome))?)
        })
    }
}

fn query(
    mode: &str,
    text: Option<String>,
    vector: Option<&Bound<'_, PyAny>>,
    space: String,
    options: &Options,
) -> PyResult<Mode> {
    let vector = vector.map(array::vector).transpose()?;
    Ok(match (mode, text, vector) {
        ("vector", text, Some(vector)) => Mode::Vector { vector, space, text },
        ("keyword", Some(text), None) => Mode::Keyword { text, syntax: options.syntax, space },
        ("hybrid", Some(text), Some(vector)) => {
            Mode::Hybrid { text, vector, space, fusion: options.fusion, candidates: options.candidates }
        }
        _ => return Err(Error::internal(format!("a search by {mode:?} without what it needs")).into()),
    })
}
