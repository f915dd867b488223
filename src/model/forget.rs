use std::path::PathBuf;
use std::time::Duration;

/// Pieces of what was forgotten that a file still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residue {
    pub file: PathBuf,
    /// What they are pieces of: "text", "metadata", "hash", "term", "vector" or "code".
    pub kind: &'static str,
    /// Places where one is.
    pub count: u64,
}

/// What was forgotten, and what was found of it afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgetReport {
    pub documents: u64,
    pub chunks: u64,
    pub embeddings: u64,
    pub relations: u64,
    pub cached_embeddings: u64,
    /// Pieces that were searched for, and how many of them other content has too.
    pub traces: u64,
    pub shared: u64,
    pub searched_files: u64,
    pub searched_bytes: u64,
    pub remains: Vec<Residue>,
    /// Ids that were given and name no document, of which nothing could be searched for.
    pub missing: Vec<String>,
    /// Files that were not searched and may hold it.
    pub kept: Vec<PathBuf>,
    pub took: Duration,
}

impl ForgetReport {
    /// Whether nothing was found.
    pub fn ok(&self) -> bool {
        self.remains.is_empty()
    }
}
