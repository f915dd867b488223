//! What an export reads, handed to Python page by page.

use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::rows;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Chunk, Document, Namespace, Relation, StateEntry};
use crate::store::{ExportedCollection, ExportedEmbeddings, ExportedPage, Exporter};

/// Attaches to the interpreter for each piece, on the thread that called.
pub(super) struct Callbacks {
    collection: Py<PyAny>,
    page: Py<PyAny>,
    relations: Py<PyAny>,
    state: Py<PyAny>,
    /// What one of them raised.
    raised: Option<PyErr>,
}

impl Callbacks {
    /// Nothing was raised yet.
    pub(super) fn new([collection, page, relations, state]: [Bound<'_, PyAny>; 4]) -> Self {
        Self {
            collection: collection.unbind(),
            page: page.unbind(),
            relations: relations.unbind(),
            state: state.unbind(),
            raised: None,
        }
    }

    /// The outcome of the export: what was raised goes before an error of the core.
    pub(super) fn finish(self, outcome: Result<()>) -> PyResult<()> {
        match self.raised {
            Some(raised) => Err(raised),
            None => Ok(outcome?),
        }
    }

    fn attached(&mut self, call: impl FnOnce(&Self, Python<'_>) -> PyResult<()>) -> Result<()> {
        match Python::try_attach(|py| call(self, py)) {
            Some(Ok(())) => Ok(()),
            Some(Err(raised)) => {
                self.raised = Some(raised);
                Err(Error::new(ErrorKind::Cancelled, "Python raised"))
            }
            None => Err(Error::internal("the interpreter is shutting down")),
        }
    }
}

impl Exporter for Callbacks {
    fn collection(&mut self, collection: ExportedCollection) -> Result<()> {
        self.attached(|this, py| {
            let ExportedCollection { info, indexes, documents, chunks } = collection;
            this.collection.call1(py, (rows::collection(py, &info)?, indexes, documents, chunks)).map(drop)
        })
    }

    fn page(&mut self, page: ExportedPage) -> Result<()> {
        self.attached(|this, py| {
            let ExportedPage { documents, embeddings: spaces } = page;
            let documents: Vec<_> =
                documents.iter().map(|(found, chunks)| document(py, found, chunks)).collect::<PyResult<_>>()?;
            let spaces: Vec<_> = spaces.into_iter().map(|space| embeddings(py, space)).collect::<PyResult<_>>()?;
            this.page.call1(py, (PyList::new(py, documents)?, PyList::new(py, spaces)?)).map(drop)
        })
    }

    fn relations(&mut self, relations: Vec<Relation>) -> Result<()> {
        self.attached(|this, py| {
            let rows: Vec<_> = relations.iter().map(|found| relation(py, found)).collect::<PyResult<_>>()?;
            this.relations.call1(py, (PyList::new(py, rows)?,)).map(drop)
        })
    }

    fn state(&mut self, entries: Vec<(Namespace, StateEntry)>) -> Result<()> {
        self.attached(|this, py| {
            let rows: Vec<_> = entries.iter().map(|found| state(py, found)).collect::<PyResult<_>>()?;
            this.state.call1(py, (PyList::new(py, rows)?,)).map(drop)
        })
    }
}

/// `ExportedDocumentRow` of the stub.
fn document<'py>(py: Python<'py>, document: &Document, chunks: &[Chunk]) -> PyResult<Bound<'py, PyTuple>> {
    let Document { id, uri, text, content_type, metadata, content_hash, created_at, updated_at, expires_at } = document;
    let chunks: Vec<_> = chunks.iter().map(|found| chunk(py, found)).collect::<PyResult<_>>()?;
    (
        id,
        uri,
        text,
        content_type,
        metadata.line()?,
        content_hash.to_string(),
        rows::micros(*created_at)?,
        rows::micros(*updated_at)?,
        expires_at.map(rows::micros).transpose()?,
        PyList::new(py, chunks)?,
    )
        .into_pyobject(py)
}

/// `ExportedChunkRow` of the stub.
fn chunk<'py>(py: Python<'py>, chunk: &Chunk) -> PyResult<Bound<'py, PyTuple>> {
    let Chunk { id, text, metadata, document_id: _, uri: _, index, span, token_count, expires_at } = chunk;
    let chars = span.map(|span| span.chars);
    (
        id,
        text,
        metadata.line()?,
        index,
        chars.map(|range| range.0),
        chars.map(|range| range.1),
        token_count,
        expires_at.map(rows::micros).transpose()?,
    )
        .into_pyobject(py)
}

/// `ExportedRelationRow` of the stub.
fn relation<'py>(py: Python<'py>, relation: &Relation) -> PyResult<Bound<'py, PyTuple>> {
    let Relation { source, target, kind, strength, metadata, created_at } = relation;
    (source, target, kind, *strength, metadata.line()?, rows::micros(*created_at)?).into_pyobject(py)
}

/// `ExportedStateRow` of the stub.
fn state<'py>(py: Python<'py>, (namespace, entry): &(Namespace, StateEntry)) -> PyResult<Bound<'py, PyTuple>> {
    let StateEntry { key, value, expires_at, updated_at } = entry;
    let expires_at = expires_at.map(rows::micros).transpose()?;
    (&namespace.name, namespace.local, key, value.line()?, expires_at, rows::micros(*updated_at)?).into_pyobject(py)
}

/// `ExportedEmbeddingsRow` of the stub.
fn embeddings(py: Python<'_>, embeddings: ExportedEmbeddings) -> PyResult<Bound<'_, PyTuple>> {
    let ExportedEmbeddings { given, vectors } = embeddings;
    let rows = given.iter().filter(|given| **given).count();
    (given, PyArray1::from_vec(py, vectors.values).reshape([rows, vectors.dimension])?).into_pyobject(py)
}
