use crate::model::Namespace;

/// State values whose keys begin with `prefix`, by key.
#[derive(Debug, Clone)]
pub struct ScanState {
    pub namespace: Namespace,
    pub prefix: String,
    /// Only those behind it.
    pub after: Option<String>,
    pub limit: usize,
}
