//! The k best rows.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::bm25;
use super::query::Hit;

/// Keeps the k greatest scores; equal ones by row.
pub(super) struct Top {
    k: usize,
    worst_first: BinaryHeap<Entry>,
}

struct Entry(Hit);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.row.cmp(&other.0.row))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Top {
    /// Empty.
    pub fn new(k: usize) -> Self {
        Self { k, worst_first: BinaryHeap::with_capacity(k.min(1 << 12)) }
    }

    /// Takes a row if it is among the best so far.
    pub fn offer(&mut self, row: i64, score: f64) {
        let entry = Entry(Hit { row, score });
        if self.worst_first.len() < self.k {
            self.worst_first.push(entry);
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && entry < *worst
        {
            *worst = entry;
        }
    }

    /// How many more rows it takes, however weak.
    pub fn lacking(&self) -> usize {
        self.k - self.worst_first.len()
    }

    /// A row whose bound is below this is not among the best.
    pub fn threshold(&self) -> f32 {
        match self.worst_first.peek() {
            Some(worst) if self.worst_first.len() == self.k => bm25::threshold(worst.0.score),
            _ => 0.0,
        }
    }

    /// Best first.
    pub fn into_hits(self) -> Vec<Hit> {
        self.worst_first.into_sorted_vec().into_iter().map(|entry| entry.0).collect()
    }
}
