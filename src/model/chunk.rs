use super::{Metadata, Timestamp};

/// A chunk as it is given to a store.
#[derive(Debug, Clone)]
pub struct NewChunk {
    /// A ULID is drawn when there is none.
    pub id: Option<String>,
    /// Without it, and with `chars` and a text of the document, the text that `chars` names.
    pub text: Option<String>,
    pub metadata: Metadata,
    /// Characters of the document's text, from the first to before the last.
    pub chars: Option<(u64, u64)>,
    pub token_count: Option<u64>,
    pub expires_at: Option<Timestamp>,
}

/// Where a chunk stands in its document's text, three ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Characters, from the first to before the last.
    pub chars: (u64, u64),
    /// Bytes of UTF-8, from the first to before the last; `None` when the document's text is not stored.
    pub bytes: Option<(u64, u64)>,
    /// Lines, from the first to the last, counted from 1.
    pub lines: Option<(u64, u64)>,
}

/// A chunk as a store returns it.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    pub id: String,
    pub text: Option<String>,
    pub metadata: Metadata,
    pub document_id: String,
    pub uri: Option<String>,
    /// Its place among the chunks of its document, from 0; gaps stay where chunks were deleted.
    pub index: u64,
    pub span: Option<Span>,
    pub token_count: Option<u64>,
    pub expires_at: Option<Timestamp>,
}
