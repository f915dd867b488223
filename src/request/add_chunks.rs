use crate::model::{Embeddings, NewChunk};

/// Appends chunks to a document; their embeddings go to the default space.
#[derive(Debug, Clone)]
pub struct AddChunks {
    pub collection: String,
    pub document_id: String,
    pub chunks: Vec<NewChunk>,
    pub embeddings: Option<Embeddings>,
}
