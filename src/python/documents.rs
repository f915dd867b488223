//! The facade's `Document` and `Chunk` objects to what the core takes, in one pass.

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyString};

use super::convert::{Refused, Taken, kind, metadata, text, timestamp};
use crate::model::{Metadata, NewChunk, NewDocument, new_id};

/// Documents of a list; `root` names it in errors.
pub(super) fn documents(list: &Bound<'_, PyList>) -> PyResult<Vec<NewDocument>> {
    let mut documents = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let taken = document(&item).map_err(|refused| refused.at(format_args!("[{index}]")).raise("documents"));
        documents.push(taken?);
    }
    Ok(documents)
}

/// Chunks of a list.
pub(super) fn chunks(list: &Bound<'_, PyList>) -> PyResult<Vec<NewChunk>> {
    chunk_list(list.as_any()).map_err(|refused| refused.raise("chunks"))
}

/// One document of one chunk per text, both of the same id.
pub(super) fn texts(
    texts: &Bound<'_, PyList>,
    ids: Option<&Bound<'_, PyList>>,
    metadatas: Option<&Bound<'_, PyList>>,
    uris: Option<&Bound<'_, PyList>>,
) -> PyResult<Vec<NewDocument>> {
    let at = |list: Option<&Bound<'_, PyList>>, index: usize, what: &str| {
        let item = list.map(|list| list.get_item(index)).transpose()?;
        item.map(|item| string(&item).map_err(|refused| refused.at(format_args!("[{index}]")).raise(what))).transpose()
    };
    let mut documents = Vec::with_capacity(texts.len());
    for (index, item) in texts.iter().enumerate() {
        let text = string(&item).map_err(|refused| refused.at(format_args!("[{index}]")).raise("texts"))?;
        let id = at(ids, index, "ids")?.unwrap_or_else(new_id);
        let metadata = match metadatas {
            None => Metadata::empty(),
            Some(list) => metadata(&list.get_item(index)?)
                .map_err(|refused| refused.at(format_args!("[{index}]")).raise("metadatas"))?,
        };
        let chunk = NewChunk {
            id: Some(id.clone()),
            text: None,
            metadata,
            chars: Some((0, text.chars().count() as u64)),
            token_count: None,
            expires_at: None,
        };
        documents.push(NewDocument {
            id: Some(id),
            uri: at(uris, index, "uris")?,
            text: Some(text),
            content_type: "text/plain".to_owned(),
            metadata: Metadata::empty(),
            chunks: Some(vec![chunk]),
            expires_at: None,
        });
    }
    Ok(documents)
}

fn document(item: &Bound<'_, PyAny>) -> Taken<NewDocument> {
    let py = item.py();
    let part = |name| attribute(item, name, "a Document, a mapping or a str");
    let chunks = part(intern!(py, "chunks"))?;
    Ok(NewDocument {
        id: optional(&part(intern!(py, "id"))?, ".id", string)?,
        uri: optional(&part(intern!(py, "uri"))?, ".uri", string)?,
        text: optional(&part(intern!(py, "text"))?, ".text", string)?,
        content_type: string(&part(intern!(py, "content_type"))?).map_err(|refused| refused.at(".content_type"))?,
        metadata: metadata(&part(intern!(py, "metadata"))?).map_err(|refused| refused.at(".metadata"))?,
        chunks: if chunks.is_none() {
            None
        } else {
            Some(chunk_list(&chunks).map_err(|refused| refused.at(".chunks"))?)
        },
        expires_at: optional(&part(intern!(py, "expires_at"))?, ".expires_at", timestamp)?,
    })
}

/// Whatever has the attributes of a document is one: looking at the class first would cost every good one.
fn attribute<'py>(item: &Bound<'py, PyAny>, name: &Bound<'py, PyString>, wanted: &str) -> Taken<Bound<'py, PyAny>> {
    item.getattr(name).map_err(|error| {
        if error.is_instance_of::<PyAttributeError>(item.py()) {
            Refused::of_type(format!("is of type {}; it must be {wanted}", kind(item)))
        } else {
            error.into()
        }
    })
}

fn chunk_list(list: &Bound<'_, PyAny>) -> Taken<Vec<NewChunk>> {
    if list.is_instance_of::<PyString>() {
        return Err(Refused::of_type("is a str; it must be a list of Chunk"));
    }
    let items = list
        .try_iter()
        .map_err(|_| Refused::of_type(format!("is of type {}; it must be a list of Chunk", kind(list))))?;
    let mut chunks = Vec::with_capacity(list.len().unwrap_or(0));
    for (index, item) in items.enumerate() {
        chunks.push(chunk(&item?).map_err(|refused| refused.at(format_args!("[{index}]")))?);
    }
    Ok(chunks)
}

fn chunk(item: &Bound<'_, PyAny>) -> Taken<NewChunk> {
    let py = item.py();
    let part = |name| attribute(item, name, "a Chunk");
    let start = optional(&part(intern!(py, "start"))?, ".start", count)?;
    let end = optional(&part(intern!(py, "end"))?, ".end", count)?;
    let chars = match (start, end) {
        (None, None) => None,
        (Some(start), Some(end)) if start <= end => Some((start, end)),
        (Some(start), Some(end)) => {
            return Err(Refused::of_value(format!("starts at {start} and ends at {end}; the end comes after")));
        }
        _ => return Err(Refused::of_value("has one of start and end; give both or none")),
    };
    Ok(NewChunk {
        id: optional(&part(intern!(py, "id"))?, ".id", string)?,
        text: optional(&part(intern!(py, "text"))?, ".text", string)?,
        metadata: metadata(&part(intern!(py, "metadata"))?).map_err(|refused| refused.at(".metadata"))?,
        chars,
        token_count: optional(&part(intern!(py, "token_count"))?, ".token_count", count)?,
        expires_at: optional(&part(intern!(py, "expires_at"))?, ".expires_at", timestamp)?,
    })
}

fn optional<T>(
    value: &Bound<'_, PyAny>,
    step: &str,
    take: impl FnOnce(&Bound<'_, PyAny>) -> Taken<T>,
) -> Taken<Option<T>> {
    if value.is_none() { Ok(None) } else { take(value).map(Some).map_err(|refused| refused.at(step)) }
}

/// A str, and nothing that only looks like one.
pub(super) fn string(value: &Bound<'_, PyAny>) -> Taken<String> {
    match value.cast::<PyString>() {
        Ok(string) => text(string),
        Err(_) => Err(Refused::of_type(format!("is of type {}; it must be a str", kind(value)))),
    }
}

fn count(value: &Bound<'_, PyAny>) -> Taken<u64> {
    if value.is_instance_of::<pyo3::types::PyBool>() || !has_index(value) {
        return Err(Refused::of_type(format!("is of type {}; it must be an int", kind(value))));
    }
    value.extract::<u64>().map_err(|_| match value.str() {
        Ok(text) => Refused::of_value(format!("is {text}; it must be an int from 0 to 2**63 - 1")),
        Err(error) => error.into(),
    })
}

fn has_index(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyInt>() || value.hasattr(intern!(value.py(), "__index__")).unwrap_or(false)
}
