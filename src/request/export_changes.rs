use std::sync::Arc;

use crate::sync::{BatchKey, Watermark};

/// Writes what is newer than a watermark.
#[derive(Debug, Clone, Default)]
pub struct ExportChanges {
    /// What the receiver knows. Nothing: everything is written.
    pub since: Watermark,
    /// Another store said that it knows that.
    pub acknowledged: bool,
    pub key: Option<Arc<BatchKey>>,
    /// Of the key; drawn where it is not given.
    pub salt: Option<[u8; 16]>,
    /// Begins another batch when one has so many bytes.
    pub part_bytes: Option<usize>,
}
