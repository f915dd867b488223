use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::sync::BatchKey;
use crate::sync::batch::BatchReader;

/// Merges a batch, as one.
#[derive(Debug, Clone)]
pub struct ApplyChanges {
    pub batch: BatchSource,
    pub key: Option<Arc<BatchKey>>,
}

/// Where a batch is. It may be read more than once.
#[derive(Debug, Clone)]
pub enum BatchSource {
    Bytes(Arc<[u8]>),
    File(PathBuf),
}

impl ApplyChanges {
    /// Opens the batch. A passphrase becomes a key here, the first time.
    ///
    /// # Errors
    /// As [`BatchReader::open`].
    pub fn open(&self) -> Result<BatchReader<'_>> {
        let input: Box<dyn Read> = match &self.batch {
            BatchSource::Bytes(bytes) => Box::new(Cursor::new(bytes.as_ref())),
            BatchSource::File(path) => Box::new(std::io::BufReader::new(std::fs::File::open(path)?)),
        };
        BatchReader::open(input, self.key.as_deref())
    }
}
