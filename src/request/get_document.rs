use crate::model::ContentHash;

/// Reads one document without its chunks.
#[derive(Debug, Clone)]
pub struct GetDocument {
    pub collection: String,
    pub key: DocumentKey,
}

/// What names a document.
#[derive(Debug, Clone)]
pub enum DocumentKey {
    Id(String),
    Uri(String),
    /// The oldest with this content.
    ContentHash(ContentHash),
}
