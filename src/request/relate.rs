use crate::model::NewRelation;

/// Relates a chunk or document to another, or changes how.
#[derive(Debug, Clone)]
pub struct Relate {
    pub collection: String,
    pub relation: NewRelation,
}
