use crate::filter::Filter;
use crate::model::Metadata;

/// Changes the metadata of chunks and documents.
///
/// `chunk_ids` and `document_ids` name their own; `filter` alone names the chunks that match, and with ids it narrows
/// what they name.
#[derive(Debug, Clone)]
pub struct UpdateMetadata {
    pub collection: String,
    pub metadata: Metadata,
    pub chunk_ids: Option<Vec<String>>,
    pub document_ids: Option<Vec<String>>,
    pub filter: Option<Filter>,
    pub mode: MetadataMode,
}

/// What becomes of the keys that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataMode {
    /// They stay unless set anew; nested objects are set whole.
    Merge,
    /// They go.
    Replace,
}
