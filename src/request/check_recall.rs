/// Holds the answers of vector search against exact ones.
#[derive(Debug, Clone)]
pub struct CheckRecall {
    pub collection: String,
    pub space: String,
    /// Stored vectors that are asked for their neighbours; at least 1.
    pub sample: usize,
    /// Neighbours of each.
    pub k: usize,
    /// What is promised of a search that is not exact.
    pub recall: f64,
}
