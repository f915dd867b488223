//! The k best of many.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A vector that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    pub chunk_id: i64,
    pub distance: f32,
}

/// Keeps the `k` smallest distances; equal ones by rowid.
pub struct TopK {
    k: usize,
    worst_first: BinaryHeap<Entry>,
}

#[derive(PartialEq)]
struct Entry(Neighbor);

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.distance.total_cmp(&other.0.distance).then(self.0.chunk_id.cmp(&other.0.chunk_id))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TopK {
    /// Empty.
    pub fn new(k: usize) -> Self {
        Self { k, worst_first: BinaryHeap::with_capacity(k.min(1 << 16)) }
    }

    /// Takes a candidate if it is among the best so far.
    pub fn offer(&mut self, distance: f32, chunk_id: i64) {
        let entry = Entry(Neighbor { chunk_id, distance });
        if self.worst_first.len() < self.k {
            self.worst_first.push(entry);
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && entry < *worst
        {
            *worst = entry;
        }
    }

    /// Best first.
    pub fn into_sorted(self) -> Vec<Neighbor> {
        self.worst_first.into_sorted_vec().into_iter().map(|entry| entry.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stay_whatever_the_order() {
        for step in [1, 7, 13, 29] {
            let mut best = TopK::new(5);
            for i in 0..30 {
                let id = (i * step) % 30;
                best.offer((id / 2) as f32, id);
            }
            let ids: Vec<i64> = best.into_sorted().iter().map(|n| n.chunk_id).collect();
            assert_eq!(ids, [0, 1, 2, 3, 4]);
        }
        let mut none = TopK::new(0);
        none.offer(1.0, 1);
        assert!(none.into_sorted().is_empty());
    }
}
