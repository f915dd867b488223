//! Rank fusion, pure.

use std::collections::HashMap;

/// One fused candidate: its key, its fused score, and its place (from 0) in each list.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    pub key: i64,
    pub score: f64,
    pub places: [Option<usize>; 2],
}

/// Reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009): the weighted sum of 1 / (`k` + rank) over both
/// lists, rank from 1. Best first; equal scores by key.
pub fn reciprocal_rank(lists: [&[i64]; 2], k: u32, weights: [f64; 2]) -> Vec<Fused> {
    fuse(lists, |list, place| weights[list] / (f64::from(k) + place as f64 + 1.0))
}

/// The weighted mean of scores, those of each list brought to [0, 1] by its least and its greatest (min-max); a key that
/// is not in a list has 0 there, and where all scores of a list are equal they are 1. Best first; equal scores by key.
pub fn weighted(lists: [&[i64]; 2], scores: [&[f64]; 2], weights: [f64; 2]) -> Vec<Fused> {
    let total = weights[0] + weights[1];
    let ranges = scores.map(|scores| {
        let fold = |(low, high): (f64, f64), &score: &f64| (low.min(score), high.max(score));
        scores.iter().fold((f64::INFINITY, f64::NEG_INFINITY), fold)
    });
    fuse(lists, |list, place| {
        let (low, high) = ranges[list];
        let score = if high > low { (scores[list][place] - low) / (high - low) } else { 1.0 };
        weights[list] / total * score
    })
}

fn fuse(lists: [&[i64]; 2], share: impl Fn(usize, usize) -> f64) -> Vec<Fused> {
    let mut at: HashMap<i64, usize> = HashMap::with_capacity(lists[0].len() + lists[1].len());
    let mut fused: Vec<Fused> = Vec::with_capacity(lists[0].len() + lists[1].len());
    for (list, keys) in lists.into_iter().enumerate() {
        for (place, &key) in keys.iter().enumerate() {
            let index = *at.entry(key).or_insert_with(|| {
                fused.push(Fused { key, score: 0.0, places: [None; 2] });
                fused.len() - 1
            });
            fused[index].score += share(list, place);
            fused[index].places[list] = Some(place);
        }
    }
    fused.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.key.cmp(&b.key)));
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(fused: &[Fused]) -> Vec<i64> {
        fused.iter().map(|f| f.key).collect()
    }

    #[test]
    fn both_lists_count_and_ties_go_by_key() {
        let fused = reciprocal_rank([&[3, 1], &[1, 2]], 60, [1.0, 1.0]);
        assert_eq!(keys(&fused), [1, 3, 2]);
        assert!((fused[0].score - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-15);
        assert_eq!(fused[0].places, [Some(1), Some(0)]);
        assert_eq!(keys(&reciprocal_rank([&[9], &[4]], 60, [1.0, 1.0])), [4, 9]);
    }

    #[test]
    fn weights_move_the_lists() {
        assert_eq!(keys(&reciprocal_rank([&[9], &[4]], 60, [2.0, 1.0])), [9, 4]);
        assert_eq!(keys(&reciprocal_rank([&[1, 2], &[3]], 0, [0.0, 1.0])), [3, 1, 2]);
    }

    #[test]
    fn scores_are_brought_to_one_scale() {
        let fused = weighted([&[1, 2, 3], &[3, 4]], [&[0.9, 0.5, 0.1], &[30.0, 10.0]], [3.0, 1.0]);
        let scores: Vec<(i64, f64)> = fused.iter().map(|f| (f.key, (f.score * 1e9).round() / 1e9)).collect();
        assert_eq!(scores, [(1, 0.75), (2, 0.375), (3, 0.25), (4, 0.0)]);
        assert_eq!(weighted([&[7, 8], &[]], [&[2.0, 2.0], &[]], [0.5, 0.5])[1].score, 0.5);
    }
}
