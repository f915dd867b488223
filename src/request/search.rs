use crate::filter::Filter;

/// Ranks the chunks of a collection.
#[derive(Debug, Clone)]
pub struct Search {
    pub collection: String,
    pub mode: Mode,
    pub k: usize,
    /// Applied before ranking.
    pub filter: Option<Filter>,
    pub exact: bool,
}

/// What the ranking is by.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Distance to a vector.
    Vector { vector: Vec<f32>, space: String },
    /// BM25 of the words of a natural query, any of which may match.
    Keyword { text: String },
    /// Both, fused by reciprocal rank: Cormack, Clarke, Buettcher, SIGIR 2009.
    Hybrid {
        text: String,
        vector: Vec<f32>,
        space: String,
        /// The constant of the method; 60 in the paper.
        rrf_k: u32,
        /// Hits of each leg that are fused; `None`: at least [`crate::limits::CANDIDATES`].
        candidates: Option<usize>,
    },
}
