//! Maximal marginal relevance, pure.

/// The order in which `k` of the candidates are taken: each time the one with the greatest `lambda` times its relevance
/// less `1 - lambda` times its greatest similarity to one that was taken (Carbonell and Goldstein, SIGIR 1998). Equal
/// ones in the order given. When `go_on` says no, the others follow in the order given.
pub fn select(
    relevance: &[f64],
    similarity: impl Fn(usize, usize) -> f64,
    lambda: f64,
    k: usize,
    go_on: impl Fn() -> bool,
) -> Vec<usize> {
    let mut nearest = vec![f64::NEG_INFINITY; relevance.len()];
    let mut left: Vec<usize> = (0..relevance.len()).collect();
    let mut taken = Vec::with_capacity(k.min(relevance.len()));
    while taken.len() < k && !left.is_empty() && go_on() {
        let marginal = |&candidate: &usize| {
            // Nothing is taken yet: there is no redundancy.
            let redundancy = if taken.is_empty() { 0.0 } else { nearest[candidate] };
            lambda * relevance[candidate] - (1.0 - lambda) * redundancy
        };
        let mut best = 0;
        for place in 1..left.len() {
            if marginal(&left[place]) > marginal(&left[best]) {
                best = place;
            }
        }
        let chosen = left.remove(best);
        taken.push(chosen);
        for &candidate in &left {
            nearest[candidate] = nearest[candidate].max(similarity(candidate, chosen));
        }
    }
    taken.extend(left);
    taken.truncate(k);
    taken
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const RELEVANCE: [f64; 4] = [0.9, 0.89, 0.5, 0.1];

    /// The first two say the same.
    fn similarity(a: usize, b: usize) -> f64 {
        if a + b == 1 { 1.0 } else { 0.0 }
    }

    #[test]
    fn all_weight_on_relevance_changes_nothing() {
        assert_eq!(select(&RELEVANCE, similarity, 1.0, 10, || true), [0, 1, 2, 3]);
        assert!(select(&[], similarity, 0.5, 3, || true).is_empty());
    }

    #[test]
    fn what_says_the_same_comes_later() {
        assert_eq!(select(&RELEVANCE, similarity, 0.5, 3, || true), [0, 2, 3]);
        assert_eq!(select(&RELEVANCE, similarity, 0.0, 2, || true), [0, 2]);
    }

    #[test]
    fn equal_ones_keep_their_order() {
        assert_eq!(select(&[0.5; 3], |_, _| 0.3, 0.7, 3, || true), [0, 1, 2]);
    }

    #[test]
    fn what_is_not_chosen_in_time_follows_in_order() {
        let asked = Cell::new(0);
        let twice = || asked.replace(asked.get() + 1) < 2;
        assert_eq!(select(&RELEVANCE, similarity, 0.5, 4, twice), [0, 2, 1, 3]);
        assert_eq!(select(&RELEVANCE, similarity, 0.5, 2, || false), [0, 1]);
    }
}
