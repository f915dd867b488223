use super::Key;

/// Encrypt the store with another key.
#[derive(Debug, Clone)]
pub struct Rekey {
    /// `None`: not encrypted any more.
    pub key: Option<Key>,
}
