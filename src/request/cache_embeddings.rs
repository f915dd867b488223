use crate::model::Embeddings;

/// Keeps what a model made of texts.
#[derive(Debug, Clone)]
pub struct CacheEmbeddings {
    pub model: String,
    pub texts: Vec<String>,
    /// One row per text.
    pub embeddings: Embeddings,
    /// Bytes of all vectors that are kept; the oldest go first.
    pub limit: u64,
}
