use std::str::FromStr;

use crate::error::{Error, ErrorKind};
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
    /// BM25 of what the text asks for.
    Keyword { text: String, syntax: Syntax },
    /// Both, the text as a natural one, fused by reciprocal rank: Cormack, Clarke, Buettcher, SIGIR 2009.
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
