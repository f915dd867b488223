use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::filter::Filter;
use crate::model::Direction;

/// Ranks the chunks of a collection.
#[derive(Debug, Clone)]
pub struct Search {
    pub collection: String,
    pub mode: Mode,
    /// Hits, or documents where hits are grouped.
    pub k: usize,
    /// Applied before ranking.
    pub filter: Option<Filter>,
    pub accuracy: Accuracy,
    pub include: Include,
    /// Hits below it are left out.
    pub min_score: Option<f64>,
    /// When it has passed, the search ends with what it has.
    pub timeout: Option<Duration>,
    /// Hits that `rerank` and `mmr` choose from; `None`: at least [`crate::limits::FETCH`], and five for each of k. Where
    /// hits are grouped, no document has more of them than an even share of k documents.
    pub fetch_k: Option<usize>,
    pub rerank: Option<Rerank>,
    /// Maximal marginal relevance, with the weight of relevance, from 0 to 1, against diversity: Carbonell and
    /// Goldstein, SIGIR 1998.
    pub mmr: Option<f64>,
    /// At most so many hits of one document, and k documents.
    pub group_size: Option<usize>,
    /// Neighbors in the graph, beside the hits.
    pub expand: Option<Expand>,
    /// Chunks before and after each hit that its text is widened by.
    pub window: Option<(u64, u64)>,
    /// Give [`crate::model::Hits::plan`].
    pub explain: bool,
}

impl Search {
    /// The k best of a collection, without anything that is optional.
    pub fn new(collection: impl Into<String>, mode: Mode, k: usize) -> Self {
        Self {
            collection: collection.into(),
            mode,
            k,
            filter: None,
            accuracy: Accuracy::default(),
            include: Include::default(),
            min_score: None,
            timeout: None,
            fetch_k: None,
            rerank: None,
            mmr: None,
            group_size: None,
            expand: None,
            window: None,
            explain: false,
        }
    }
}

/// Which neighbors of the hits are added to them. A way is as strong as the product of its relations.
#[derive(Debug, Clone, PartialEq)]
pub struct Expand {
    /// Relations on the way, at most [`crate::limits::GRAPH_DEPTH`].
    pub depth: usize,
    /// The share of its score that a hit passes on over a way of strength 1; more than 0, at most 1.
    pub weight: f64,
    /// `None`: relations of any type.
    pub kinds: Option<Vec<String>>,
    pub direction: Direction,
    /// Weaker ways are not followed.
    pub min_strength: f64,
    /// Neighbors, at most [`crate::limits::K`]; `None`: as many as k.
    pub limit: Option<usize>,
}

impl Default for Expand {
    fn default() -> Self {
        let direction = Direction::Both;
        Self { depth: 1, weight: 0.3, kinds: None, direction, min_strength: 0.0, limit: None }
    }
}

/// How near to the true k nearest the vectors must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// They themselves.
    pub exact: bool,
    /// Otherwise the share of them that may be relied on.
    pub recall: f64,
}

impl Accuracy {
    /// The true k nearest.
    pub const EXACT: Self = Self { exact: true, recall: 1.0 };
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { exact: false, recall: 0.99 }
    }
}

/// What hits carry beyond their names and scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Include {
    pub text: bool,
    pub metadata: bool,
}

impl Default for Include {
    fn default() -> Self {
        Self { text: true, metadata: true }
    }
}

/// What the ranking is by.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Distance to a vector.
    Vector {
        vector: Vec<f32>,
        space: String,
        /// What the vector was made from, for highlights and `rerank`.
        text: Option<String>,
    },
    /// BM25 of what the text asks for.
    Keyword {
        text: String,
        syntax: Syntax,
        /// Whose embeddings diversity compares.
        space: String,
    },
    /// Both, the text as a natural one.
    Hybrid {
        text: String,
        vector: Vec<f32>,
        space: String,
        fusion: Fusion,
        /// Hits of each leg that are fused; `None`: at least [`crate::limits::CANDIDATES`].
        candidates: Option<usize>,
    },
}

impl Mode {
    /// The words that were asked for, and how they are read.
    pub fn text(&self) -> Option<(&str, Syntax)> {
        match self {
            Self::Vector { text, .. } => text.as_deref().map(|text| (text, Syntax::Natural)),
            Self::Keyword { text, syntax, .. } => Some((text, *syntax)),
            Self::Hybrid { text, .. } => Some((text, Syntax::Natural)),
        }
    }

    /// Whose embeddings are compared.
    pub fn space(&self) -> &str {
        match self {
            Self::Vector { space, .. } | Self::Keyword { space, .. } | Self::Hybrid { space, .. } => space,
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Vector { .. } => "vector",
            Self::Keyword { .. } => "keyword",
            Self::Hybrid { .. } => "hybrid",
        }
    }
}

/// How the rankings of a hybrid search become one. Weights are those of the vector leg and of the keyword leg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fusion {
    /// The weighted sum of 1 / (k + rank): Cormack, Clarke, Buettcher, SIGIR 2009, where k is 60.
    ReciprocalRank { k: u32, weights: [f64; 2] },
    /// The weighted mean of the scores, each leg's brought to [0, 1] by its least and its greatest.
    Weighted { weights: [f64; 2] },
}

impl Default for Fusion {
    fn default() -> Self {
        Self::ReciprocalRank { k: 60, weights: [1.0, 1.0] }
    }
}

/// Scores texts against a query, the higher the better; one score for each text.
#[derive(Clone)]
pub struct Rerank(Arc<Scorer>);

type Scorer = dyn Fn(&str, &[&str]) -> Result<Vec<f64>, Error> + Send + Sync;

impl Rerank {
    /// By a function, which runs on the caller's thread and outside any transaction.
    pub fn new(scorer: impl Fn(&str, &[&str]) -> Result<Vec<f64>, Error> + Send + Sync + 'static) -> Self {
        Self(Arc::new(scorer))
    }

    /// The scores of the texts.
    pub fn scores(&self, query: &str, texts: &[&str]) -> Result<Vec<f64>, Error> {
        (self.0)(query, texts)
    }
}

impl fmt::Debug for Rerank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rerank")
    }
}

/// How the text of a keyword search is read. Only [`Syntax::Fts5`] can be wrong: the others take any text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// Any word may match.
    Natural,
    /// Every word must match.
    All,
    /// The words must stand together, in order.
    Phrase,
    /// As `All`, and the last word may go on.
    Prefix,
    /// An expression of FTS5.
    Fts5,
}

impl FromStr for Syntax {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "natural" => Ok(Self::Natural),
            "all" => Ok(Self::All),
            "phrase" => Ok(Self::Phrase),
            "prefix" => Ok(Self::Prefix),
            "fts5" => Ok(Self::Fts5),
            other => Err(Error::new(
                ErrorKind::Argument,
                format!("syntax is {other:?}; it is one of \"natural\", \"all\", \"phrase\", \"prefix\", \"fts5\""),
            )),
        }
    }
}
