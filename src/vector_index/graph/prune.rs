//! Which of many candidates a node links to.

use crate::error::Result;
use crate::vector_index::codes::CodesView;
use crate::vector_index::graph::LINKS;
use crate::vector_index::graph::walk::Scored;
use crate::vector_index::query::Probe;

/// Chosen ones that a candidate is held against at a time.
const TOGETHER: usize = 8;

/// The memory of choosing.
pub(super) struct Prune {
    candidate: Option<Probe>,
    positions: Vec<u32>,
}

impl Prune {
    pub(super) fn new() -> Self {
        Self { candidate: None, positions: Vec::with_capacity(LINKS) }
    }

    /// Up to `most` of `candidates`, which are sorted, best first: each is chosen that is nearer to the node than to
    /// all chosen before it, so that links lead in every direction (algorithm 4 of the paper).
    pub(super) fn choose(
        &mut self,
        codes: &CodesView<'_>,
        position_of: &impl Fn(u32) -> Result<u32>,
        candidates: &[Scored],
        most: usize,
        chosen: &mut Vec<Scored>,
    ) -> Result<()> {
        chosen.clear();
        self.positions.clear();
        let mut keys = [0.0; TOGETHER];
        'candidates: for &scored in candidates {
            if chosen.len() == most {
                break;
            }
            let position = position_of(scored.node())?;
            if !chosen.is_empty() {
                let probe = match &mut self.candidate {
                    Some(probe) => {
                        probe.turn_to(codes, position)?;
                        probe
                    }
                    none => none.insert(Probe::of_row(codes, position)?),
                };
                for positions in self.positions.chunks(TOGETHER) {
                    let keys = &mut keys[..positions.len()];
                    probe.keys(codes, positions, keys)?;
                    if keys.iter().any(|&key| key <= scored.key()) {
                        continue 'candidates;
                    }
                }
            }
            chosen.push(scored);
            self.positions.push(position);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Metric;
    use crate::vector_index::testing::Segment;

    #[test]
    fn links_lead_in_every_direction() {
        // The node at 0, and others around it by their distance: 3 and 4 lie behind 1, and 5 behind 2.
        let vectors = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.2], [1.5, 0.2], [2.0, -0.1], [-0.1, 2.5], [-3.0, 0.0]];
        let segment = Segment::new(vectors.concat(), 2, Metric::L2);
        let codes = segment.view();
        let probe = Probe::of_row(&codes, 0).unwrap();
        let candidates: Vec<Scored> =
            (1..7).map(|node| Scored::new(probe.key_at(&codes, node).unwrap(), node)).collect();
        assert!(candidates.is_sorted());
        let (mut prune, mut chosen) = (Prune::new(), Vec::new());
        for (most, expected) in [(6, vec![1, 2, 6]), (2, vec![1, 2]), (0, vec![])] {
            prune.choose(&codes, &Ok, &candidates, most, &mut chosen).unwrap();
            assert_eq!(chosen.iter().map(|scored| scored.node()).collect::<Vec<_>>(), expected);
        }
    }
}
