//! `Write`: a change that is put together and not yet committed.

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::array::{self, Pins};
use super::convert;
use super::documents;
use super::errors::guarded;
use super::state;
use crate::error::{Error, ErrorKind};
use crate::model::{Embeddings, Metric, Namespace, NewDocument, NewRelation, NewStateEntry, OnConflict, StateValue};
use crate::request;

/// A change with the arrays it reads in place. It is committed once.
#[pyclass(frozen, module = "ragstore._ragstore")]
pub(super) struct Write(Mutex<Option<Prepared>>);

/// `NewStateRow` of the stub.
type NewStateRow<'py> = (String, bool, String, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);

pub(super) struct Prepared {
    pub(super) write: request::Write,
    /// Dropped after the core is done with the write.
    pub(super) pins: Option<Pins>,
    /// Documents, which is what a progress report counts.
    pub(super) units: u64,
}

impl Write {
    fn new(write: request::Write) -> Self {
        Self(Mutex::new(Some(Prepared { write, pins: None, units: 0 })))
    }

    fn with_rows(write: request::Write, pins: Option<Pins>, units: usize) -> Self {
        Self(Mutex::new(Some(Prepared { write, pins, units: units as u64 })))
    }

    /// The change, which is gone from here then.
    pub(super) fn take(&self) -> PyResult<Prepared> {
        self.0.lock().take().ok_or_else(|| Error::internal("a change was given to be committed twice").into())
    }
}

/// Rows for `chunks`: none at all is said by no array, or by an empty one where there are no chunks.
fn rows(
    array: Option<&Bound<'_, PyAny>>,
    given: Option<&[bool]>,
    copy: bool,
    chunks: usize,
) -> PyResult<(Option<Embeddings>, Option<Pins>)> {
    let Some(array) = array else { return Ok((None, None)) };
    match array::embeddings(array, copy)? {
        Some((embeddings, pins)) => {
            let embeddings = match given {
                Some(given) => embeddings.of_chunks(given)?,
                None => embeddings,
            };
            Ok((Some(embeddings), pins))
        }
        None if chunks == 0 => Ok((None, None)),
        None => Err(Error::new(
            ErrorKind::InvalidVector,
            format!("embeddings have 0 rows for {chunks} chunks; give one row per chunk, or None"),
        )
        .into()),
    }
}

pub(super) fn on_conflict(name: &str) -> PyResult<OnConflict> {
    match name {
        "error" => Ok(OnConflict::Error),
        "replace" => Ok(OnConflict::Replace),
        "skip" => Ok(OnConflict::Skip),
        other => Err(PyValueError::new_err(format!(
            "on_conflict is {other:?}; it is one of \"error\", \"replace\", \"skip\""
        ))),
    }
}

fn add(
    collection: String,
    documents: Vec<NewDocument>,
    embeddings: Option<&Bound<'_, PyAny>>,
    given: Option<&[bool]>,
    policy: &str,
    space: String,
    copy: bool,
) -> PyResult<Write> {
    let on_conflict = on_conflict(policy)?;
    let chunks = documents.iter().map(NewDocument::chunk_count).sum();
    let units = documents.len();
    let (embeddings, pins) = rows(embeddings, given, copy, chunks)?;
    let write = request::Write::Add(request::Add { collection, documents, embeddings, on_conflict, space });
    Ok(Write::with_rows(write, pins, units))
}

#[pymethods]
impl Write {
    #[staticmethod]
    fn add(
        collection: String,
        documents: &Bound<'_, PyList>,
        embeddings: Option<&Bound<'_, PyAny>>,
        given: Option<Vec<bool>>,
        on_conflict: &str,
        space: String,
        copy: bool,
    ) -> PyResult<Self> {
        guarded(|| {
            let documents = documents::documents(documents)?;
            add(collection, documents, embeddings, given.as_deref(), on_conflict, space, copy)
        })
    }

    #[staticmethod]
    #[allow(clippy::too_many_arguments)]
    fn add_texts(
        collection: String,
        texts: &Bound<'_, PyList>,
        embeddings: Option<&Bound<'_, PyAny>>,
        ids: Option<&Bound<'_, PyList>>,
        metadatas: Option<&Bound<'_, PyList>>,
        uris: Option<&Bound<'_, PyList>>,
        on_conflict: &str,
        copy: bool,
    ) -> PyResult<Self> {
        guarded(|| {
            let documents = documents::texts(texts, ids, metadatas, uris)?;
            add(collection, documents, embeddings, None, on_conflict, request::DEFAULT_SPACE.to_owned(), copy)
        })
    }

    #[staticmethod]
    fn add_chunks(
        collection: String,
        document_id: String,
        chunks: &Bound<'_, PyList>,
        embeddings: Option<&Bound<'_, PyAny>>,
        given: Option<Vec<bool>>,
        copy: bool,
    ) -> PyResult<Self> {
        guarded(|| {
            let chunks = documents::chunks(chunks)?;
            let units = chunks.len();
            let (embeddings, pins) = rows(embeddings, given.as_deref(), copy, units)?;
            let write = request::Write::AddChunks(request::AddChunks { collection, document_id, chunks, embeddings });
            Ok(Self::with_rows(write, pins, 0))
        })
    }

    /// None where there is nothing to set.
    #[staticmethod]
    fn set_embeddings(
        collection: String,
        chunk_ids: Vec<String>,
        embeddings: &Bound<'_, PyAny>,
        space: String,
        copy: bool,
    ) -> PyResult<Option<Self>> {
        guarded(|| {
            let units = chunk_ids.len();
            let (Some(embeddings), pins) = rows(Some(embeddings), None, copy, units)? else { return Ok(None) };
            let write = request::SetEmbeddings { collection, chunk_ids, embeddings, space };
            Ok(Some(Self::with_rows(request::Write::SetEmbeddings(write), pins, 0)))
        })
    }

    /// The array is copied: it goes on growing elsewhere.
    #[staticmethod]
    fn cache_embeddings(
        model: String,
        texts: Vec<String>,
        embeddings: &Bound<'_, PyAny>,
        limit: u64,
    ) -> PyResult<Option<Self>> {
        guarded(|| {
            let (Some(embeddings), _) = rows(Some(embeddings), None, true, texts.len())? else { return Ok(None) };
            let write = request::CacheEmbeddings { model, texts, embeddings, limit };
            Ok(Some(Self::new(request::Write::CacheEmbeddings(write))))
        })
    }

    #[staticmethod]
    fn clear_embedding_cache(model: Option<String>, texts: Option<Vec<String>>) -> Self {
        Self::new(request::Write::ClearEmbeddingCache(request::ClearEmbeddingCache { model, texts }))
    }

    #[staticmethod]
    fn set_model(collection: String, model: String) -> Self {
        Self::new(request::Write::SetModel(request::SetModel { collection, model }))
    }

    #[staticmethod]
    fn delete_embeddings(collection: String, chunk_ids: Vec<String>, space: String) -> Self {
        Self::new(request::Write::DeleteEmbeddings(request::DeleteEmbeddings { collection, chunk_ids, space }))
    }

    #[staticmethod]
    fn update_metadata(
        collection: String,
        metadata: &Bound<'_, PyAny>,
        chunk_ids: Option<Vec<String>>,
        document_ids: Option<Vec<String>>,
        r#where: &Bound<'_, PyAny>,
        mode: &str,
    ) -> PyResult<Self> {
        guarded(|| {
            let mode = match mode {
                "merge" => request::MetadataMode::Merge,
                "replace" => request::MetadataMode::Replace,
                other => {
                    return Err(PyValueError::new_err(format!(
                        "mode is {other:?}; it is one of \"merge\", \"replace\""
                    )));
                }
            };
            Ok(Self::new(request::Write::UpdateMetadata(request::UpdateMetadata {
                collection,
                metadata: convert::metadata(metadata).map_err(|refused| refused.raise("metadata"))?,
                chunk_ids,
                document_ids,
                filter: convert::filter(r#where)?,
                mode,
            })))
        })
    }

    #[staticmethod]
    fn delete(
        collection: String,
        chunk_ids: Option<Vec<String>>,
        document_ids: Option<Vec<String>>,
        uris: Option<Vec<String>>,
        r#where: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        guarded(|| {
            let filter = convert::filter(r#where)?;
            let write = request::Delete { collection, chunk_ids, document_ids, uris, filter };
            Ok(Self::new(request::Write::Delete(write)))
        })
    }

    #[staticmethod]
    fn clear(collection: String) -> Self {
        Self::new(request::Write::Clear(request::Clear { collection }))
    }

    #[staticmethod]
    fn create_index(collection: String, field: String) -> Self {
        Self::new(request::Write::CreateIndex(request::CreateIndex { collection, field }))
    }

    #[staticmethod]
    fn drop_index(collection: String, field: String) -> Self {
        Self::new(request::Write::DropIndex(request::DropIndex { collection, field }))
    }

    #[staticmethod]
    fn set_tokenizer(collection: String, tokenizer: String) -> Self {
        Self::new(request::Write::SetTokenizer(request::SetTokenizer { collection, tokenizer }))
    }

    #[staticmethod]
    #[allow(clippy::too_many_arguments)]
    fn create_collection(
        name: String,
        dimension: Option<usize>,
        metric: &str,
        tokenizer: String,
        description: Option<String>,
        settings: Option<&Bound<'_, PyAny>>,
        model: Option<String>,
        exist_ok: bool,
    ) -> PyResult<Self> {
        guarded(|| {
            let settings = match settings {
                Some(settings) => convert::object(settings).map_err(|refused| refused.raise("settings"))?,
                None => serde_json::Map::new(),
            };
            Ok(Self::new(request::Write::CreateCollection(request::CreateCollection {
                name,
                dimension,
                metric: metric.parse::<Metric>()?,
                tokenizer,
                description,
                settings,
                model,
                exist_ok,
            })))
        })
    }

    #[staticmethod]
    fn delete_collection(name: String) -> Self {
        Self::new(request::Write::DeleteCollection(request::DeleteCollection { name }))
    }

    #[staticmethod]
    fn create_space(
        collection: String,
        name: String,
        dimension: Option<usize>,
        metric: &str,
        model: Option<String>,
    ) -> PyResult<Self> {
        guarded(|| {
            let metric = metric.parse::<Metric>()?;
            let write = request::CreateSpace { collection, name, dimension, metric, model };
            Ok(Self::new(request::Write::CreateSpace(write)))
        })
    }

    #[staticmethod]
    fn delete_space(collection: String, name: String) -> Self {
        Self::new(request::Write::DeleteSpace(request::DeleteSpace { collection, name }))
    }

    #[staticmethod]
    fn set_state(
        namespace: &Bound<'_, PyString>,
        local: bool,
        entries: Vec<(Bound<'_, PyString>, Bound<'_, PyAny>)>,
        expires_at: Option<&Bound<'_, PyAny>>,
        expected_value: Option<Vec<Bound<'_, PyAny>>>,
    ) -> PyResult<Self> {
        guarded(|| {
            let entry = |(key, value): (Bound<'_, PyString>, Bound<'_, PyAny>)| -> PyResult<(String, StateValue)> {
                let value = state::value(&value).map_err(|refused| refused.raise("value"))?;
                Ok((state::name("key", &key)?, value))
            };
            let expires_at = expires_at.map(convert::timestamp).transpose();
            Ok(Self::new(request::Write::SetState(request::SetState {
                namespace: Namespace { name: state::name("namespace", namespace)?, local },
                entries: entries.into_iter().map(entry).collect::<PyResult<_>>()?,
                expires_at: expires_at.map_err(|refused| refused.raise("expires_at"))?,
                expected: state::expected(expected_value)?,
            })))
        })
    }

    /// All of the namespace where there are no keys.
    #[staticmethod]
    fn delete_state(
        namespace: &Bound<'_, PyString>,
        local: bool,
        keys: Option<Vec<Bound<'_, PyString>>>,
        expected_value: Option<Vec<Bound<'_, PyAny>>>,
    ) -> PyResult<Self> {
        guarded(|| {
            let namespace = Namespace { name: state::name("namespace", namespace)?, local };
            let all = |keys: Vec<Bound<'_, PyString>>| keys.iter().map(|key| state::name("key", key)).collect();
            let keys = keys.map(all).transpose()?;
            let expected = state::expected(expected_value)?;
            Ok(Self::new(request::Write::DeleteState(request::DeleteState { namespace, keys, expected })))
        })
    }

    #[staticmethod]
    fn relate(
        collection: String,
        source: String,
        target: String,
        kind: String,
        strength: f64,
        metadata: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        guarded(|| {
            let metadata = convert::metadata(metadata).map_err(|refused| refused.raise("metadata"))?;
            let relation = NewRelation { source, target, kind, strength, metadata };
            Ok(Self::new(request::Write::Relate(request::Relate { collection, relation })))
        })
    }

    #[staticmethod]
    fn import_relations(
        collection: String,
        relations: Vec<(String, String, String, f64, Bound<'_, PyAny>)>,
        policy: &str,
    ) -> PyResult<Self> {
        guarded(|| {
            let one = |(index, (source, target, kind, strength, metadata))| -> PyResult<NewRelation> {
                let metadata = convert::metadata(&metadata)
                    .map_err(|refused| refused.raise(&format!("relation {index}: metadata")))?;
                Ok(NewRelation { source, target, kind, strength, metadata })
            };
            let relations = relations.into_iter().enumerate().map(one).collect::<PyResult<_>>()?;
            let on_conflict = on_conflict(policy)?;
            let write = request::ImportRelations { collection, relations, on_conflict };
            Ok(Self::new(request::Write::ImportRelations(write)))
        })
    }

    #[staticmethod]
    fn import_state(entries: Vec<NewStateRow<'_>>, policy: &str) -> PyResult<Self> {
        guarded(|| {
            let one = |(index, (name, local, key, value, expires_at)): (usize, NewStateRow<'_>)| {
                let value = state::value(&value).map_err(|refused| refused.raise(&format!("state {index}: value")))?;
                let expires_at = expires_at.as_ref().map(convert::timestamp).transpose();
                let expires_at = expires_at.map_err(|refused| refused.raise(&format!("state {index}: expires_at")))?;
                PyResult::Ok(NewStateEntry { namespace: Namespace { name, local }, key, value, expires_at })
            };
            let entries = entries.into_iter().enumerate().map(one).collect::<PyResult<_>>()?;
            let on_conflict = on_conflict(policy)?;
            Ok(Self::new(request::Write::ImportState(request::ImportState { entries, on_conflict })))
        })
    }

    #[staticmethod]
    fn unrelate(collection: String, source: String, target: String, kind: Option<String>) -> Self {
        Self::new(request::Write::Unrelate(request::Unrelate { collection, source, target, kind }))
    }

    #[staticmethod]
    fn expire(collection: String) -> Self {
        Self::new(request::Write::Expire(request::Expire { collection }))
    }
}
