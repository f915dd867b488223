//! The k best of many.

use std::collections::BinaryHeap;

/// Keeps the `k` least of what it is offered.
pub struct TopK<T> {
    k: usize,
    worst_first: BinaryHeap<T>,
}

impl<T: Ord> TopK<T> {
    /// Empty.
    pub fn new(k: usize) -> Self {
        Self { k, worst_first: BinaryHeap::with_capacity(k.min(1 << 12)) }
    }

    /// Takes a candidate if it is among the best so far.
    pub fn offer(&mut self, candidate: T) {
        if self.worst_first.len() < self.k {
            self.worst_first.push(candidate);
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }

    /// How many more it takes, however bad.
    pub fn lacking(&self) -> usize {
        self.k - self.worst_first.len()
    }

    /// The last of the k best, once there are so many.
    pub fn worst(&self) -> Option<&T> {
        self.worst_first.peek().filter(|_| self.lacking() == 0)
    }

    /// Best first.
    pub fn into_sorted(self) -> Vec<T> {
        self.worst_first.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stay_whatever_the_order() {
        for step in [1, 7, 13, 29] {
            let mut best = TopK::new(5);
            assert_eq!((best.lacking(), best.worst()), (5, None));
            for i in 0..30 {
                best.offer((i * step) % 30);
            }
            assert_eq!((best.lacking(), best.worst()), (0, Some(&4)));
            assert_eq!(best.into_sorted(), [0, 1, 2, 3, 4]);
        }
        let mut none = TopK::new(0);
        none.offer(1);
        assert!(none.into_sorted().is_empty());
    }
}
