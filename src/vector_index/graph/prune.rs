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

    /// Up to `most` of `candidates`, which are sorted, best first: each is chosen that is nearer to the node than to all
    /// chosen before it, so that links lead in every direction (algorithm 4 of the paper). One that is as near to a
    /// chosen one is not chosen, or copies of one vector would link to nothing but each other.
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
