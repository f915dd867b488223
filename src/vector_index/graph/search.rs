//! A search of the graph.

use crate::error::Result;
use crate::vector_index::codes::CodesView;
use crate::vector_index::distance::Query;
use crate::vector_index::graph::limit::{Slack, Slackened};
use crate::vector_index::graph::view::GraphView;
use crate::vector_index::graph::walk::{Adjacency, Pool, Scored, Scratch};
use crate::vector_index::query::{CodedQuery, Probe};
use crate::vector_index::scan::{Best, Found, Neighbor};
use crate::vector_index::section::Rescore;
use crate::vector_index::selection::Selection;

/// What is asked of a graph.
#[derive(Debug, Clone, Copy)]
pub struct Sought {
    /// How many neighbours.
    pub k: usize,
    /// Nodes that the walk keeps, in the selection or not; the paper's ef.
    pub width: usize,
    /// Where the walk ends before that, in the selection; inner products have no such place.
    pub slack: Option<Slack>,
    /// How many of the kept, those in the selection, are rescored.
    pub rescored: usize,
}

/// A graph and what searching it takes.
#[derive(Clone, Copy)]
pub struct Searcher<'a> {
    pub graph: GraphView<'a>,
    /// Those that the graph was built over.
    pub codes: CodesView<'a>,
    pub pool: &'a Pool,
}

impl Searcher<'_> {
    /// Neighbours of a vector. The walk goes over every node; those outside the selection are not among the found.
    pub fn search(
        &self,
        rescore: &mut dyn Rescore,
        vector: &[f32],
        sought: Sought,
        selection: &Selection<'_>,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<Found> {
        if self.graph.rows() == 0 || sought.k == 0 {
            return Ok(Found { complete: true, ..Found::default() });
        }
        let mut scratch = self.pool.take();
        let found = self.searched(rescore, vector, sought, selection, &mut scratch, keep_going);
        self.pool.give(scratch);
        found
    }

    fn searched(
        &self,
        rescore: &mut dyn Rescore,
        vector: &[f32],
        sought: Sought,
        selection: &Selection<'_>,
        scratch: &mut Scratch,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<Found> {
        let codes = &self.codes;
        let probe = CodedQuery::new(vector, codes.metric()).probe;
        let entry = self.entry(&probe, scratch)?;
        let width = sought.width.max(sought.k);
        let level = self.graph.level(0);
        let slackened = sought.slack.and_then(|slack| Slackened::new(slack, &probe, self.graph.rows(), selection));
        let complete = match slackened {
            Some(mut limit) => scratch.walk(&level, codes, &probe, entry, width, &mut limit, keep_going),
            None => scratch.walk(&level, codes, &probe, entry, width, &mut (), keep_going),
        }?;
        let positions = self.kept(scratch, selection, sought.rescored.max(sought.k))?;
        let mut distances = vec![0.0; positions.len()];
        rescore.rescore(&Query::new(vector, codes.metric()), &positions, &mut distances)?;
        let mut best = Best::new(sought.k);
        for (&position, distance) in positions.iter().zip(distances) {
            best.offer(Neighbor { position, distance });
        }
        let rescored = positions.len() as u64;
        Ok(Found { neighbors: best.into_sorted(), complete, exact: false, compared: scratch.compared, rescored })
    }

    /// The best of the walk that are in the selection, and their copies.
    fn kept(&self, scratch: &Scratch, selection: &Selection<'_>, most: usize) -> Result<Vec<u32>> {
        let mut kept = Vec::with_capacity(most.min(scratch.nearest.len()));
        let copies = self.graph.copies()?;
        for node in scratch.nearest.iter().map(|scored| scored.node()) {
            let selected = std::iter::once(node).chain(copies.of(node)).filter(|&position| selection.has(position));
            kept.extend(selected.take(most - kept.len()));
            if kept.len() == most {
                break;
            }
        }
        Ok(kept)
    }

    /// Where the walk on level 0 begins.
    fn entry(&self, probe: &Probe, scratch: &mut Scratch) -> Result<Scored> {
        let (graph, codes) = (&self.graph, &self.codes);
        if graph.levels() == 0 {
            return Ok(Scored::new(probe.key_at(codes, 0)?, 0));
        }
        let mut entry = Scored::new(probe.key_at(codes, graph.level(1).position(0)?)?, 0);
        for level in (1..=graph.levels()).rev() {
            entry = scratch.descend(&graph.level(level), codes, probe, entry)?;
        }
        Ok(Scored::new(entry.key(), graph.level(1).position(entry.node())?))
    }
}
