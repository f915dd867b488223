/// Removes what models made of texts; what collections hold stays.
#[derive(Debug, Clone)]
pub struct ClearEmbeddingCache {
    /// `None`: of every model.
    pub model: Option<String>,
    /// `None`: of every text.
    pub texts: Option<Vec<String>>,
}
