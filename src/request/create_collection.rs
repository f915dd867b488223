use serde_json::{Map, Value};

use crate::model::Metric;

/// Creates a collection with its default space.
#[derive(Debug, Clone)]
pub struct CreateCollection {
    pub name: String,
    /// `None`: fixed by the first embeddings.
    pub dimension: Option<usize>,
    pub metric: Metric,
    pub tokenizer: String,
    pub description: Option<String>,
    pub settings: Map<String, Value>,
    pub model: Option<String>,
    /// Returns the one that is there, unless its dimension, metric, tokenizer or model is another.
    pub exist_ok: bool,
}
