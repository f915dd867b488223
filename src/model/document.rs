use std::fmt;

use super::{Chunk, Metadata, NewChunk, Timestamp};
use crate::error::{Error, ErrorKind, Result};

/// A document as it is given to a store.
#[derive(Debug, Clone)]
pub struct NewDocument {
    /// A ULID is drawn when there is none.
    pub id: Option<String>,
    pub uri: Option<String>,
    pub text: Option<String>,
    pub content_type: String,
    pub metadata: Metadata,
    /// `None`: one chunk, the whole text.
    pub chunks: Option<Vec<NewChunk>>,
    pub expires_at: Option<Timestamp>,
}

impl NewDocument {
    /// How many chunks, and so rows of embeddings, it has.
    pub fn chunk_count(&self) -> usize {
        self.chunks.as_ref().map_or(1, Vec::len)
    }
}

/// A document as a store returns it, without its chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub id: String,
    pub uri: Option<String>,
    pub text: Option<String>,
    pub content_type: String,
    pub metadata: Metadata,
    pub content_hash: ContentHash,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// BLAKE3 over text, content type, metadata, chunk boundaries, chunk texts and chunk metadata.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// The parts of a chunk that its document's hash covers.
pub struct HashedChunk<'a> {
    pub text: Option<&'a str>,
    pub chars: Option<(u64, u64)>,
    pub metadata: &'a Metadata,
}

impl<'a> From<&'a Chunk> for HashedChunk<'a> {
    fn from(chunk: &'a Chunk) -> Self {
        Self { text: chunk.text.as_deref(), chars: chunk.span.map(|span| span.chars), metadata: &chunk.metadata }
    }
}

impl ContentHash {
    /// Hashes a document. Each part is preceded by its length, so that no two documents feed the same bytes.
    pub fn of<'a>(
        text: Option<&str>,
        content_type: &str,
        metadata: &Metadata,
        chunks: impl ExactSizeIterator<Item = HashedChunk<'a>>,
    ) -> Result<Self> {
        let mut hasher = ContentHasher::new(text, content_type, metadata, chunks.len() as u64)?;
        for chunk in chunks {
            hasher.chunk(&chunk)?;
        }
        Ok(hasher.finish())
    }

    /// The hash of one text alone.
    pub fn of_text(text: &str) -> Self {
        Self(*blake3::hash(text.as_bytes()).as_bytes())
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// `Argument` when it is anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let malformed = || {
            Error::new(
                ErrorKind::Argument,
                format!("content_hash is {text:?}; it has 64 hexadecimal digits, as in Document.content_hash"),
            )
        };
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
        }
        Ok(Self(bytes))
    }
}

/// The hash of a document whose chunks come one by one.
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Begins with a document of so many chunks.
    ///
    /// # Errors
    /// As [`ContentHash::of`].
    pub fn new(text: Option<&str>, content_type: &str, metadata: &Metadata, chunks: u64) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        feed_text(&mut hasher, text);
        feed_text(&mut hasher, Some(content_type));
        feed_metadata(&mut hasher, metadata)?;
        hasher.update(&chunks.to_le_bytes());
        Ok(Self(hasher))
    }

    /// The next chunk.
    ///
    /// # Errors
    /// As [`ContentHash::of`].
    pub fn chunk(&mut self, chunk: &HashedChunk<'_>) -> Result<()> {
        feed_text(&mut self.0, chunk.text);
        let (start, end) = chunk.chars.unwrap_or((u64::MAX, u64::MAX));
        self.0.update(&start.to_le_bytes());
        self.0.update(&end.to_le_bytes());
        feed_metadata(&mut self.0, chunk.metadata)
    }

    /// All chunks were given.
    pub fn finish(self) -> ContentHash {
        ContentHash(*self.0.finalize().as_bytes())
    }
}

fn feed_text(hasher: &mut blake3::Hasher, text: Option<&str>) {
    match text {
        Some(text) => {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        None => {
            hasher.update(&u64::MAX.to_le_bytes());
        }
    }
}

fn feed_metadata(hasher: &mut blake3::Hasher, metadata: &Metadata) -> Result<()> {
    metadata.canonical(&mut |bytes| {
        hasher.update(bytes);
    })?;
    hasher.update(&[0]);
    Ok(())
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// What happens to a document whose id or uri is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Nothing of the call is stored.
    Error,
    /// Text, chunks, embeddings and metadata are swapped whole.
    Replace,
    /// The old one stays.
    Skip,
}

/// What a call to add did, in the order of its documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddResult {
    pub chunk_ids: Vec<String>,
    pub document_ids: Vec<String>,
    pub added: u64,
    pub replaced: u64,
    pub unchanged: u64,
    pub skipped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: Option<&str>, chunks: &[(&str, (u64, u64))]) -> ContentHash {
        let empty = Metadata::empty();
        let chunks =
            chunks.iter().map(|&(text, chars)| HashedChunk { text: Some(text), chars: Some(chars), metadata: &empty });
        ContentHash::of(text, "text/plain", &Metadata::empty(), chunks).unwrap()
    }

    #[test]
    fn text_boundaries_and_absence_count() {
        let base = hash(Some("ab"), &[("a", (0, 1)), ("b", (1, 2))]);
        assert_eq!(base, hash(Some("ab"), &[("a", (0, 1)), ("b", (1, 2))]));
        assert_ne!(base, hash(Some("ab"), &[("ab", (0, 2))]));
        assert_ne!(base, hash(Some("ab"), &[("a", (0, 1)), ("b", (0, 2))]));
        assert_ne!(hash(None, &[]), hash(Some(""), &[]));
    }

    #[test]
    fn hexadecimal_goes_both_ways() {
        let hash = ContentHash::of_text("ragstore");
        assert_eq!(ContentHash::parse(&hash.to_string()).unwrap(), hash);
        assert!(ContentHash::parse("xyz").is_err());
        assert!(ContentHash::parse(&"+1".repeat(32)).is_err());
    }
}
