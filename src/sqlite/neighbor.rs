//! Vectors that were found, and their order.

use std::cmp::Ordering;

/// A vector that was found. The nearer is the less; equal distances go by rowid.
#[derive(Debug, Clone, Copy)]
pub struct Neighbor {
    pub chunk_id: i64,
    pub distance: f32,
}

impl Ord for Neighbor {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.chunk_id.cmp(&other.chunk_id))
    }
}

impl PartialOrd for Neighbor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Neighbor {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Neighbor {}
