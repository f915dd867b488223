//! What the core returns, as tuples from which the facade makes its objects. Times are microseconds since the epoch.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};
use crate::model::{
    AddResult, Chunk, CollectionInfo, Document, Metadata, Problem, Relation, RepairReport, SpaceInfo, StoreStats,
    Timestamp,
};
use crate::request::Written;

/// The dictionary of a JSON object.
pub(super) fn dict<'py>(py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyDict>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if json == "{}" {
        return Ok(PyDict::new(py));
    }
    let loads = LOADS.get_or_try_init(py, || py.import("json")?.getattr("loads").map(Bound::unbind))?;
    let corrupt = || PyErr::from(Error::new(ErrorKind::Corrupt, "stored metadata is not a JSON object"));
    loads.bind(py).call1((json,)).map_err(|_| corrupt())?.cast_into::<PyDict>().map_err(|_| corrupt())
}

fn metadata<'py>(py: Python<'py>, metadata: &Metadata) -> PyResult<Bound<'py, PyDict>> {
    dict(py, metadata.as_json())
}

/// The dictionary of a JSON object in memory.
pub(super) fn object<'py>(py: Python<'py>, object: &Map<String, Value>) -> PyResult<Bound<'py, PyDict>> {
    let json = serde_json::to_string(object).map_err(|error| Error::internal(format!("a JSON object: {error}")))?;
    dict(py, &json)
}

/// `ChunkRow` of the stub.
pub(super) fn chunk<'py>(py: Python<'py>, chunk: &Chunk) -> PyResult<Bound<'py, PyTuple>> {
    let Chunk { id, text, metadata: data, document_id, uri, index, span, token_count, expires_at } = chunk;
    let chars = span.map(|span| span.chars);
    let bytes = span.and_then(|span| span.bytes);
    let lines = span.and_then(|span| span.lines);
    PyTuple::new(
        py,
        [
            id.into_pyobject(py)?.into_any(),
            text.into_pyobject(py)?.into_any(),
            metadata(py, data)?.into_any(),
            document_id.into_pyobject(py)?.into_any(),
            uri.into_pyobject(py)?.into_any(),
            index.into_pyobject(py)?.into_any(),
            chars.map(|c| c.0).into_pyobject(py)?.into_any(),
            chars.map(|c| c.1).into_pyobject(py)?.into_any(),
            bytes.map(|b| b.0).into_pyobject(py)?.into_any(),
            bytes.map(|b| b.1).into_pyobject(py)?.into_any(),
            lines.map(|l| l.0).into_pyobject(py)?.into_any(),
            lines.map(|l| l.1).into_pyobject(py)?.into_any(),
            token_count.into_pyobject(py)?.into_any(),
            expires_at.map(micros).transpose()?.into_pyobject(py)?.into_any(),
        ],
    )
}

/// A list of `ChunkRow`.
pub(super) fn chunks<'py>(py: Python<'py>, chunks: &[Chunk]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, chunks.iter().map(|c| chunk(py, c)).collect::<PyResult<Vec<_>>>()?)
}

/// `DocumentRow` of the stub.
pub(super) fn document<'py>(py: Python<'py>, document: &Document) -> PyResult<Bound<'py, PyTuple>> {
    let Document { id, uri, text, content_type, metadata: data, content_hash, created_at, updated_at, expires_at } =
        document;
    (
        id,
        uri,
        text,
        content_type,
        metadata(py, data)?,
        content_hash.to_string(),
        micros(*created_at)?,
        micros(*updated_at)?,
        expires_at.map(micros).transpose()?,
    )
        .into_pyobject(py)
}

/// `SpaceRow` of the stub.
pub(super) fn space<'py>(py: Python<'py>, space: &SpaceInfo) -> PyResult<Bound<'py, PyTuple>> {
    let SpaceInfo { name, dimension, metric, model } = space;
    (name.as_str(), *dimension, metric.as_str(), model.as_deref()).into_pyobject(py)
}

/// `CollectionRow` of the stub.
pub(super) fn collection<'py>(py: Python<'py>, info: &CollectionInfo) -> PyResult<Bound<'py, PyTuple>> {
    let CollectionInfo { name, description, settings: kept, tokenizer, created_at, spaces } = info;
    let spaces: Vec<_> = spaces.iter().map(|s| space(py, s)).collect::<PyResult<_>>()?;
    (name, description, object(py, kept)?, tokenizer, micros(*created_at)?, spaces).into_pyobject(py)
}

/// A list of `ProblemRow`.
pub(super) fn problems<'py>(py: Python<'py>, problems: &[Problem]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, problems.iter().map(|problem| (problem.area.as_str(), problem.what.as_str(), problem.repairable)))
}

/// `RepairRow` of the stub.
pub(super) fn repair<'py>(py: Python<'py>, report: &RepairReport) -> PyResult<Bound<'py, PyTuple>> {
    let RepairReport { rebuilt, salvaged, lost, problems: left, path } = report;
    let path = path.as_ref().map(|path| path.as_os_str());
    (rebuilt, salvaged, lost, problems(py, left)?, path).into_pyobject(py)
}

/// Microseconds that are a moment of Python's: of the years 1 to 9999.
pub(super) fn micros(time: Timestamp) -> PyResult<i64> {
    if time.is_datetime() {
        return Ok(time.0);
    }
    let what = format!("a stored time is {} microseconds from 1970; run repair()", time.0);
    Err(Error::new(ErrorKind::Corrupt, what).into())
}

/// `RelationRow` of the stub.
pub(super) fn relation<'py>(py: Python<'py>, relation: &Relation) -> PyResult<Bound<'py, PyTuple>> {
    let Relation { source, target, kind, strength, metadata: data, created_at } = relation;
    (source, target, kind, *strength, metadata(py, data)?, created_at.0).into_pyobject(py)
}

/// `AddRow`, ids, `CollectionRow`, names of outcomes, a count or None: what a write did.
pub(super) fn written<'py>(py: Python<'py>, written: Written) -> PyResult<Bound<'py, PyAny>> {
    Ok(match written {
        Written::Added(AddResult { chunk_ids, document_ids, added, replaced, unchanged, skipped }) => {
            (chunk_ids, document_ids, added, replaced, unchanged, skipped).into_pyobject(py)?.into_any()
        }
        Written::Ids(ids) => ids.into_pyobject(py)?.into_any(),
        Written::Collection(info) => collection(py, &info)?.into_any(),
        Written::Imported(outcomes) => {
            PyList::new(py, outcomes.iter().map(|outcome| PyString::intern(py, outcome.as_str())))?.into_any()
        }
        Written::Made(new) => new.into_pyobject(py)?.to_owned().into_any(),
        Written::Repaired(report) => repair(py, &report)?.into_any(),
        // Of a batch, which comes by another way.
        Written::Applied(applied) => applied.applied.into_pyobject(py)?.into_any(),
        // Of a call of its own.
        Written::Forgotten(forgotten) => forgotten.documents.into_pyobject(py)?.into_any(),
        Written::Count(count) => count.into_pyobject(py)?.into_any(),
        Written::Done => py.None().into_bound(py),
    })
}

/// The numbers by name.
pub(super) fn stats<'py>(py: Python<'py>, stats: &StoreStats) -> PyResult<Bound<'py, PyDict>> {
    let StoreStats {
        collections,
        documents,
        chunks,
        embeddings,
        file_bytes,
        log_bytes,
        free_bytes,
        vector_bytes,
        text_index_bytes,
        field_index_bytes,
        embedding_cache_bytes,
        cache_hits,
        cache_misses,
        queued_writes,
        readers_open,
        readers_limit,
        reader_waits,
        checkpoints,
        memory_limit,
        index_memory_bytes,
        filter_memory_bytes,
        ref indexes,
    } = *stats;
    let numbers = PyDict::new(py);
    for (name, number) in [
        ("collections", collections),
        ("documents", documents),
        ("chunks", chunks),
        ("embeddings", embeddings),
        ("file_bytes", file_bytes),
        ("log_bytes", log_bytes),
        ("free_bytes", free_bytes),
        ("vector_bytes", vector_bytes),
        ("text_index_bytes", text_index_bytes),
        ("field_index_bytes", field_index_bytes),
        ("embedding_cache_bytes", embedding_cache_bytes),
        ("cache_hits", cache_hits),
        ("cache_misses", cache_misses),
        ("queued_writes", queued_writes),
        ("readers_open", readers_open),
        ("readers_limit", readers_limit),
        ("reader_waits", reader_waits),
        ("checkpoints", checkpoints),
        ("index_memory_bytes", index_memory_bytes),
        ("filter_memory_bytes", filter_memory_bytes),
    ] {
        numbers.set_item(name, number)?;
    }
    numbers.set_item("memory_limit", memory_limit)?;
    let all = PyList::empty(py);
    for index in indexes {
        let row = PyDict::new(py);
        row.set_item("collection", &index.collection)?;
        row.set_item("space", &index.space)?;
        row.set_item("change", index.change)?;
        for (name, number) in [
            ("rows", index.rows),
            ("tail", index.tail),
            ("dead", index.dead),
            ("file_bytes", index.file_bytes),
            ("memory_bytes", index.memory_bytes),
        ] {
            row.set_item(name, number)?;
        }
        row.set_item("building", index.building)?;
        row.set_item("problem", &index.problem)?;
        all.append(row)?;
    }
    numbers.set_item("indexes", all)?;
    Ok(numbers)
}
