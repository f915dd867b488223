use std::path::PathBuf;

/// Copies the store as it is at one moment into another file.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The file; one that is there is replaced when the copy is whole.
    pub path: PathBuf,
}
