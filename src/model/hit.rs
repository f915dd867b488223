use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Metadata;
use crate::error::Result;

/// What one ranking said of a hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leg {
    /// From 1.
    pub rank: u32,
    pub score: f64,
}

/// One answer of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The name of its collection.
    pub collection: Arc<str>,
    pub id: String,
    pub text: Option<String>,
    /// Higher is better; comparable within one search only.
    pub score: f64,
    /// Its place in the ranking, from 1, before anything moved it; `None` where the graph led to it.
    pub rank: Option<u32>,
    /// Of the vector, where the search had one and the hit has an embedding among its candidates.
    pub distance: Option<f64>,
    pub document_id: String,
    pub uri: Option<String>,
    pub index: u64,
    /// Characters of the document's text.
    pub chars: Option<(u64, u64)>,
    pub metadata: Metadata,
    pub vector: Option<Leg>,
    pub keyword: Option<Leg>,
    /// Where the graph led to it: the ids on the way, from a hit or its document to this one or its document.
    pub path: Option<Vec<String>>,
}

/// Finds the words of a query in a text, as the collection's tokenizer sees both.
pub trait Marker: Send + Sync {
    /// Byte ranges of the matching words, ascending and apart.
    fn marks(&self, text: &str) -> Result<Vec<Range<usize>>>;
}

/// What a search asked of the text index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeywordPlan {
    /// The expression that ran; empty where the text had nothing to look up.
    pub expression: String,
    /// Words of the text that are not in it: too many, or too short for the tokenizer.
    pub dropped: usize,
}

/// The answers of a search, best first.
#[derive(Clone)]
pub struct Hits {
    pub hits: Vec<Hit>,
    /// The true top k, by definition of the metric.
    pub exact: bool,
    /// False only where a limit or a timeout cut the search short.
    pub complete: bool,
    pub took: Duration,
    /// `None` when the text index was not asked.
    pub keyword: Option<KeywordPlan>,
    /// How the answers were found, where the search asked for it.
    pub plan: Option<Map<String, Value>>,
    /// For highlights, by the name of the collection; none when the search had no text.
    pub markers: HashMap<Arc<str>, Arc<dyn Marker>>,
}

impl fmt::Debug for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hits")
            .field("hits", &self.hits)
            .field("exact", &self.exact)
            .field("complete", &self.complete)
            .field("took", &self.took)
            .field("keyword", &self.keyword)
            .finish_non_exhaustive()
    }
}
