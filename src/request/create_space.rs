use crate::model::Metric;

/// Creates an embedding space over the chunks of a collection.
#[derive(Debug, Clone)]
pub struct CreateSpace {
    pub collection: String,
    pub name: String,
    pub dimension: Option<usize>,
    pub metric: Metric,
    pub model: Option<String>,
}
