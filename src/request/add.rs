use crate::model::{Embeddings, NewDocument, OnConflict};

/// Stores documents with their chunks and embeddings.
#[derive(Debug, Clone)]
pub struct Add {
    pub collection: String,
    pub documents: Vec<NewDocument>,
    /// One row per chunk of all documents, in order.
    pub embeddings: Option<Embeddings>,
    pub on_conflict: OnConflict,
    pub space: String,
}
