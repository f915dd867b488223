//! How far a walk goes: until the next node to follow is farther than what is wanted, by more than some slack
//! (Al-Jazzazi et al., "Distance adaptive beam search for provably accurate graph-based nearest neighbor search", 2025).
//!
//! A width alone is the same for every query. A query among well separated neighbours knows them after a few hundred
//! comparisons, and one among many that are about as near does not after a thousand: distances tell them apart.

use crate::model::Metric;
use crate::vector_index::graph::walk::Scored;
use crate::vector_index::selection::Selection;

/// When a walk ends, other than with nothing left to follow.
pub(super) trait Limit {
    /// Whether it says where a walk ends.
    const ENDS: bool;
    /// A node was kept.
    fn keep(&mut self, scored: Scored);
    /// Whether the best of the kept that were not followed is too far to follow.
    fn passed(&self, kept: &[Scored], next: Scored) -> bool;
}

/// Never.
impl Limit for () {
    const ENDS: bool = false;

    fn keep(&mut self, _scored: Scored) {}

    fn passed(&self, _kept: &[Scored], _next: Scored) -> bool {
        false
    }
}

/// A share by which a node may be farther than the wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slack {
    /// The wanted: so many nearest.
    pub near: usize,
    /// Of the square of the distance of the last of them.
    pub share: f32,
}

/// The [`Slack`] of a search.
pub(super) struct Slackened<'a> {
    slack: Slack,
    /// What the key of a squared distance of 0 is less by than 0.
    offset: f32,
    /// How far a key mostly is from the truth: what may be as near as the wanted is followed, whatever the slack.
    error: f32,
    /// Where not every node is wanted: which are, and the keys of the nearest such, ascending.
    selection: Option<&'a Selection<'a>>,
    selected: Vec<f32>,
}

impl<'a> Slackened<'a> {
    /// None for inner products, which are no distances.
    pub(super) fn new(
        slack: Slack,
        metric: Metric,
        error: f32,
        rows: usize,
        selection: &'a Selection<'a>,
    ) -> Option<Self> {
        let offset = match metric {
            Metric::Cosine => 1.0,
            Metric::L2 => 0.0,
            Metric::Ip => return None,
        };
        let selection = Some(selection).filter(|selection| selection.len() < rows);
        Some(Self { slack, offset, error, selection, selected: Vec::new() })
    }
}

impl Limit for Slackened<'_> {
    const ENDS: bool = true;

    #[inline]
    fn keep(&mut self, scored: Scored) {
        let Some(selection) = self.selection else { return };
        let key = scored.key();
        let full = self.selected.len() >= self.slack.near;
        if full && self.selected.last().is_none_or(|&last| key >= last) || !selection.has(scored.node()) {
            return;
        }
        if full {
            self.selected.pop();
        }
        let place = self.selected.partition_point(|&other| other < key);
        self.selected.insert(place, key);
    }

    #[inline]
    fn passed(&self, kept: &[Scored], next: Scored) -> bool {
        let last = self.slack.near.saturating_sub(1);
        let last = match self.selection {
            None => kept.get(last).map(|scored| scored.key()),
            Some(_) => self.selected.get(last).copied(),
        };
        last.is_some_and(|key| {
            let square = key + self.offset;
            next.key() + self.offset > (square * (1.0 + self.slack.share)).max(square + 2.0 * self.error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector_index::selection::Among;

    const SLACK: Slack = Slack { near: 2, share: 0.5 };
    const ERROR: f32 = 0.001;

    /// Kept nodes by their squared distances, one after the other.
    fn kept(limit: &mut impl Limit, offset: f32, squares: &[f32]) -> Vec<Scored> {
        let kept: Vec<Scored> =
            squares.iter().zip(0..).map(|(square, node)| Scored::new(square - offset, node)).collect();
        kept.iter().for_each(|&scored| limit.keep(scored));
        kept
    }

    #[test]
    fn what_is_farther_than_the_wanted_by_more_than_the_slack_is_passed() {
        let all = Selection::all(10);
        for (metric, offset) in [(Metric::Cosine, 1.0), (Metric::L2, 0.0)] {
            let mut limit = Slackened::new(SLACK, metric, ERROR, 10, &all).unwrap();
            let near = kept(&mut limit, offset, &[0.2, 0.4, 0.5]);
            assert!(!limit.passed(&near, Scored::new(0.59 - offset, 9)), "{metric}");
            assert!(limit.passed(&near, Scored::new(0.61 - offset, 9)), "{metric}");
            assert!(!limit.passed(&near[..1], Scored::new(0.9 - offset, 9)), "{metric}: one of two is known");
            let copies = kept(&mut limit, offset, &[0.0, 0.0]);
            assert!(!limit.passed(&copies, Scored::new(0.0019 - offset, 9)), "{metric}: codes cannot tell");
            assert!(limit.passed(&copies, Scored::new(0.0021 - offset, 9)), "{metric}");
        }
        assert!(Slackened::new(SLACK, Metric::Ip, ERROR, 10, &all).is_none());
    }

    #[test]
    fn only_the_selected_are_wanted() {
        // The first and the third, then the fourth.
        let selection = Selection::new(10, Among::Bits(&[0b1101]), &[]).unwrap();
        let mut limit = Slackened::new(SLACK, Metric::Cosine, ERROR, 10, &selection).unwrap();
        let near = kept(&mut limit, 1.0, &[0.4, 0.1]);
        assert!(!limit.passed(&near, Scored::new(0.9, 9)), "one of two is known");
        limit.keep(Scored::new(0.8 - 1.0, 2));
        assert!(limit.passed(&near, Scored::new(1.21 - 1.0, 9)) && !limit.passed(&near, Scored::new(1.19 - 1.0, 9)));
        limit.keep(Scored::new(0.2 - 1.0, 3));
        assert!(limit.passed(&near, Scored::new(0.61 - 1.0, 9)) && !limit.passed(&near, Scored::new(0.59 - 1.0, 9)));
    }
}
