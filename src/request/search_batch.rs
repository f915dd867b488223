use super::Accuracy;
use crate::filter::Filter;

/// Ranks the chunks of a collection by distance to each of several vectors, all in one snapshot.
#[derive(Debug, Clone)]
pub struct SearchBatch {
    pub collection: String,
    /// Row-major.
    pub vectors: Vec<f32>,
    /// Components of each vector; at least 1.
    pub dimension: usize,
    pub space: String,
    pub k: usize,
    /// Applied before ranking.
    pub filter: Option<Filter>,
    pub accuracy: Accuracy,
}
