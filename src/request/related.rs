use crate::model::Direction;

/// What can be reached from some chunks and documents.
#[derive(Debug, Clone)]
pub struct RelatedTo {
    pub collection: String,
    pub ids: Vec<String>,
    /// Relations on the way, at most [`crate::limits::GRAPH_DEPTH`].
    pub depth: usize,
    /// `None`: relations of any type.
    pub kinds: Option<Vec<String>>,
    /// Weaker ways are not followed.
    pub min_strength: f64,
    pub direction: Direction,
    pub limit: usize,
}
