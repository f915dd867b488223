//! Rank fusion, pure.

use std::collections::HashMap;

/// One fused candidate: its key, its fused score, and its place (from 0) in each list.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    pub key: i64,
    pub score: f64,
    pub places: [Option<usize>; 2],
}

/// Reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009): the sum of 1 / (`k` + rank) over both lists, rank
/// from 1. Best first; equal scores by key.
pub fn reciprocal_rank(lists: [&[i64]; 2], k: u32) -> Vec<Fused> {
    let mut at: HashMap<i64, usize> = HashMap::with_capacity(lists[0].len() + lists[1].len());
    let mut fused: Vec<Fused> = Vec::with_capacity(lists[0].len() + lists[1].len());
    for (list, keys) in lists.into_iter().enumerate() {
        for (place, &key) in keys.iter().enumerate() {
            let index = *at.entry(key).or_insert_with(|| {
                fused.push(Fused { key, score: 0.0, places: [None; 2] });
                fused.len() - 1
            });
            fused[index].score += 1.0 / (f64::from(k) + place as f64 + 1.0);
            fused[index].places[list] = Some(place);
        }
    }
    fused.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.key.cmp(&b.key)));
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_count_and_ties_go_by_key() {
        let fused = reciprocal_rank([&[3, 1], &[1, 2]], 60);
        let keys: Vec<i64> = fused.iter().map(|f| f.key).collect();
        assert_eq!(keys, [1, 3, 2]);
        assert!((fused[0].score - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-15);
        assert_eq!(fused[0].places, [Some(1), Some(0)]);
        let tied = reciprocal_rank([&[9], &[4]], 60);
        assert_eq!(tied.iter().map(|f| f.key).collect::<Vec<_>>(), [4, 9]);
    }
}
