use std::time::Duration;

use super::Mode;
use crate::filter::Filter;

/// Ranks the chunks of several collections as one.
///
/// By vector they need one metric and one dimension, and are merged by score. BM25 of one collection says nothing about
/// that of another, so by keyword they are merged by rank.
#[derive(Debug, Clone)]
pub struct SearchStore {
    /// By name; `None`: all there are.
    pub collections: Option<Vec<String>>,
    pub mode: Mode,
    pub k: usize,
    /// Applied before ranking.
    pub filter: Option<Filter>,
    pub timeout: Option<Duration>,
}
