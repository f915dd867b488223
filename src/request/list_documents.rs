use crate::filter::Filter;

/// Reads documents, newest first.
#[derive(Debug, Clone)]
pub struct ListDocuments {
    pub collection: String,
    /// Documents of which a chunk matches.
    pub filter: Option<Filter>,
    pub limit: usize,
    /// The id of the last document of the page before.
    pub after: Option<String>,
    pub offset: usize,
}
