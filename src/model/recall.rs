/// How much of the true answer vector search gives, and how long either takes.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallReport {
    /// The share of the true k nearest among those that a search gives, on average.
    pub recall: f64,
    /// Between these two it lies, with a confidence of 95 %.
    pub interval: (f64, f64),
    /// Vectors that were asked for their neighbours.
    pub sample: usize,
    pub k: usize,
    /// Milliseconds of ranking that half of the searches take at most, and half of the exact ones.
    pub millis: f64,
    pub exact_millis: f64,
    /// How the searches went: "graph", "codes", "rows" or "blocks", as in the plan of a search.
    pub scan: &'static str,
}
