use crate::filter::Filter;
use crate::traces::Traces;

/// Deletes documents and removes what the files still hold of them.
///
/// `filter` alone names the documents of which a chunk matches, and those without chunks that match; with
/// `document_ids` it narrows them. What has expired is among them.
#[derive(Debug, Clone)]
pub struct Forget {
    pub collection: String,
    pub document_ids: Option<Vec<String>>,
    pub filter: Option<Filter>,
}

/// What the transaction of a [`Forget`] deleted, and pieces of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Forgotten {
    pub collection_id: i64,
    pub documents: u64,
    pub chunks: u64,
    pub embeddings: u64,
    pub relations: u64,
    pub cached_embeddings: u64,
    pub traces: Traces,
    /// Ids that were given and name no document.
    pub missing: Vec<String>,
}
