use crate::model::Embeddings;

/// Gives chunks their embeddings in one space, in place of those they had.
#[derive(Debug, Clone)]
pub struct SetEmbeddings {
    pub collection: String,
    pub chunk_ids: Vec<String>,
    /// One row per id.
    pub embeddings: Embeddings,
    pub space: String,
}
