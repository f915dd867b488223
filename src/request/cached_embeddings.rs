/// Asks for what an embedder need not make: what its model made before of the same texts.
#[derive(Debug, Clone)]
pub struct CachedEmbeddings {
    pub collection: String,
    pub space: String,
    /// What the embedder's caller says its model is; `None` means that of the space `default`.
    pub model: Option<String>,
    pub texts: Vec<String>,
    /// Of the vectors wanted where the space has none yet; `None` takes that of the newest.
    pub dimension: Option<usize>,
}
