use crate::model::Metadata;

/// Relates a chunk or document to another, or changes how.
#[derive(Debug, Clone)]
pub struct Relate {
    pub collection: String,
    pub source: String,
    pub target: String,
    pub kind: String,
    /// From 0 to 1.
    pub strength: f64,
    pub metadata: Metadata,
}
