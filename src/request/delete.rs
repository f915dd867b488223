use crate::filter::Filter;

/// Deletes chunks and documents.
///
/// What `chunk_ids`, `document_ids` and `uris` name is taken together, and `filter`, when given with them, narrows it.
/// A document goes with its last chunk.
#[derive(Debug, Clone)]
pub struct Delete {
    pub collection: String,
    pub chunk_ids: Option<Vec<String>>,
    pub document_ids: Option<Vec<String>>,
    pub uris: Option<Vec<String>>,
    pub filter: Option<Filter>,
}
