//! The walk that building and searching share: from an entry to the nodes nearest to a probe, best first.

use parking_lot::Mutex;

use crate::error::Result;
use crate::vector_index::codes::CodesView;
use crate::vector_index::graph::LINKS;
use crate::vector_index::graph::limit::Limit;
use crate::vector_index::query::Probe;
use crate::vector_index::section::damaged;

/// Expanded nodes between two questions whether to go on.
const BEATS: u32 = 256;

/// One level: who is linked to whom.
pub(super) trait Adjacency {
    /// How many nodes there are.
    fn nodes(&self) -> usize;
    /// Appends the nodes that a node links to, at most [`LINKS`].
    fn neighbors(&self, node: u32, out: &mut Vec<u32>) -> Result<()>;
    /// The position of a node's vector.
    fn position(&self, node: u32) -> Result<u32>;
    /// Asks for the links of a node that will be followed soon.
    fn prefetch(&self, _node: u32) {}
}

/// A node with its key, in one number that orders as the key does, then as the node; the last bit says that its links
/// were followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scored(u64);

impl Scored {
    #[inline(always)]
    pub(super) fn new(key: f32, node: u32) -> Self {
        let bits = key.to_bits();
        let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        Self(u64::from(ordered) << 32 | u64::from(node) << 1)
    }

    #[inline(always)]
    pub(super) fn node(self) -> u32 {
        (self.0 as u32) >> 1
    }

    #[inline(always)]
    pub(super) fn key(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
    }

    fn followed(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Which nodes a walk has seen: bits, and the words that are to be cleared.
#[derive(Default)]
struct Seen {
    words: Vec<u64>,
    touched: Vec<u32>,
}

impl Seen {
    fn clear(&mut self, nodes: usize) {
        for &word in &self.touched {
            self.words[word as usize] = 0;
        }
        self.touched.clear();
        self.words.resize(nodes.div_ceil(64).max(self.words.len()), 0);
    }

    /// Whether it is seen for the first time; an error for a node that is not there.
    #[inline(always)]
    fn first(&mut self, node: u32) -> Result<bool> {
        let (word, bit) = (node / 64, 1u64 << (node % 64));
        let Some(seen) = self.words.get_mut(word as usize) else {
            return Err(damaged("its graph links to a node that it does not have"));
        };
        if *seen == 0 {
            self.touched.push(word);
        }
        let first = *seen & bit == 0;
        *seen |= bit;
        Ok(first)
    }
}

/// How a walk came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There was nothing left to follow.
    Reached,
    /// More is to be followed than may be kept.
    Full,
    /// It was stopped.
    Stopped,
}

/// The memory of a walk, for one at a time.
#[derive(Default)]
pub(super) struct Scratch {
    seen: Seen,
    /// The nearest so far, best first.
    pub nearest: Vec<Scored>,
    links: Vec<u32>,
    positions: Vec<u32>,
    /// Vectors compared since it was made new.
    pub compared: u64,
}

impl Scratch {
    /// The `width` nodes nearest to the probe that a walk from `entry` finds within its limit, into `nearest`. One whose
    /// limit says where it ends is not ended by the width: it is given up.
    #[expect(clippy::too_many_arguments, reason = "a walk is over two things, for one, from, within, and until")]
    pub(super) fn walk<A: Adjacency, L: Limit>(
        &mut self,
        level: &A,
        codes: &CodesView<'_>,
        probe: &Probe,
        entry: Scored,
        width: usize,
        limit: &mut L,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<End> {
        self.seen.clear(level.nodes());
        self.nearest.clear();
        self.nearest.push(entry);
        limit.keep(entry);
        self.seen.first(entry.node())?;
        let (mut at, mut beat) = (0, 0);
        let mut keys = [0.0; LINKS];
        while let Some(&scored) = self.nearest.get(at) {
            if scored.followed() {
                at += 1;
                continue;
            }
            if limit.passed(&self.nearest, scored) {
                break;
            }
            beat += 1;
            if beat % BEATS == 0 && !keep_going() {
                return Ok(End::Stopped);
            }
            self.nearest[at].0 |= 1;
            let node = scored.node();
            self.fresh(level, node)?;
            if let Some(next) = self.nearest.get(at + 1) {
                level.prefetch(next.node());
            }
            let keys = &mut keys[..self.positions.len()];
            probe.keys(codes, &self.positions, keys)?;
            self.compared += keys.len() as u64;
            at += 1;
            for (&node, &key) in self.links.iter().zip(keys.iter()) {
                let scored = Scored::new(key, node);
                // What is wanted only comes nearer: it would never be followed.
                if limit.passed(&self.nearest, scored) {
                    continue;
                }
                if self.nearest.len() >= width {
                    if L::ENDS {
                        let near = self.nearest.partition_point(|&kept| !limit.passed(&self.nearest, kept));
                        if near >= width {
                            return Ok(End::Full);
                        }
                        self.nearest.truncate(near);
                    } else {
                        if self.nearest.last().is_some_and(|last| scored >= *last) {
                            continue;
                        }
                        self.nearest.pop();
                    }
                }
                let place = self.nearest.partition_point(|other| *other < scored);
                self.nearest.insert(place, scored);
                limit.keep(scored);
                if place <= at {
                    at = place;
                    level.prefetch(node);
                }
            }
        }
        Ok(End::Reached)
    }

    /// The nodes that `node` links to and that were not seen, into `links`, and their positions.
    #[inline]
    fn fresh<A: Adjacency>(&mut self, level: &A, node: u32) -> Result<()> {
        self.links.clear();
        level.neighbors(node, &mut self.links)?;
        let mut kept = 0;
        for place in 0..self.links.len().min(LINKS) {
            let node = self.links[place];
            if self.seen.first(node)? {
                self.links[kept] = node;
                kept += 1;
            }
        }
        self.links.truncate(kept);
        self.positions.clear();
        for &node in &self.links {
            self.positions.push(level.position(node)?);
        }
        Ok(())
    }

    /// From an entry to a node that is nearer to the probe than all it links to.
    pub(super) fn descend<A: Adjacency>(
        &mut self,
        level: &A,
        codes: &CodesView<'_>,
        probe: &Probe,
        mut entry: Scored,
    ) -> Result<Scored> {
        self.seen.clear(level.nodes());
        self.seen.first(entry.node())?;
        let mut keys = [0.0; LINKS];
        loop {
            self.fresh(level, entry.node())?;
            let keys = &mut keys[..self.positions.len()];
            probe.keys(codes, &self.positions, keys)?;
            self.compared += keys.len() as u64;
            let nearest = self.links.iter().zip(keys.iter()).map(|(&node, &key)| Scored::new(key, node)).min();
            match nearest {
                // Strictly nearer: no way in circles.
                Some(nearest) if nearest < Scored(entry.0 & !1) => entry = nearest,
                _ => return Ok(entry),
            }
        }
    }
}

/// Memory of walks that ended, for those to come: bits for every node, and little else.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<Vec<Scratch>>,
}

impl Pool {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        let bytes = |scratch: &Scratch| {
            (scratch.seen.words.capacity() + scratch.nearest.capacity()) * size_of::<u64>()
                + (scratch.seen.touched.capacity() + scratch.links.capacity() + scratch.positions.capacity())
                    * size_of::<u32>()
        };
        self.idle.lock().iter().map(bytes).sum()
    }

    pub(super) fn take(&self) -> Scratch {
        let mut scratch = self.idle.lock().pop().unwrap_or_default();
        scratch.compared = 0;
        scratch
    }

    pub(super) fn give(&self, scratch: Scratch) {
        self.idle.lock().push(scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scored_nodes_order_by_key_then_node() {
        let mut scored: Vec<Scored> = [(0.5, 3), (-2.0, 9), (0.5, 1), (-0.0, 4), (f32::INFINITY, 0), (-1.0, 7)]
            .map(|(k, n)| Scored::new(k, n))
            .into();
        scored.sort();
        assert_eq!(scored.iter().map(|s| s.node()).collect::<Vec<_>>(), [9, 7, 4, 1, 3, 0]);
        assert_eq!(scored.iter().map(|s| s.key()).collect::<Vec<_>>(), [-2.0, -1.0, -0.0, 0.5, 0.5, f32::INFINITY]);
        assert_eq!(Scored::new(1.0, (1 << 31) - 1).node(), (1 << 31) - 1);
    }
}
