//! A search of the graph.

use crate::error::Result;
use crate::model::Metric;
use crate::vector_index::codes::{CodesView, Factors, Typical};
use crate::vector_index::distance::Query;
use crate::vector_index::graph::limit::{Slack, Slackened};
use crate::vector_index::graph::view::GraphView;
use crate::vector_index::graph::walk::{Adjacency, End, Pool, Scored, Scratch};
use crate::vector_index::query::{CodedQuery, Probe};
use crate::vector_index::scan::{BATCH, Best, Found, may_be};
use crate::vector_index::section::Rescore;
use crate::vector_index::selection::Selection;

/// Found vectors for each wanted, and besides, that may be as near as the last of those: if there are more, codes do not
/// tell them apart, links among them are those of chance, and a walk misses some.
const ALIKE: usize = 4;
const MORE_ALIKE: usize = 128;

/// What is asked of a graph.
#[derive(Debug, Clone, Copy)]
pub struct Sought {
    /// How many neighbours.
    pub k: usize,
    /// Nodes that the walk keeps, in the selection or not; the paper's ef.
    pub width: usize,
    /// Where the walk ends before that, in the selection; inner products have no such place.
    pub slack: Option<Slack>,
}

/// A graph and what searching it takes.
#[derive(Clone, Copy)]
pub struct Searcher<'a> {
    pub graph: GraphView<'a>,
    /// Those that the graph was built over.
    pub codes: CodesView<'a>,
    pub typical: Typical,
    pub pool: &'a Pool,
}

/// What a walk found, and whether it may stand for the nearest.
pub struct Walked {
    pub found: Found,
    /// False where it was given up; where what it did not keep may be as near as what it found, for all that the codes
    /// say; where products do not lead it; and where fewer were found than wanted.
    pub sure: bool,
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
    ) -> Result<Walked> {
        let coded = CodedQuery::new(vector, self.codes.metric());
        let error = coded.error(self.typical);
        let found = Found { complete: true, walked: true, ..Found::default() };
        if self.graph.rows() == 0 || sought.k == 0 || !error.is_finite() || !self.typical.coded {
            return Ok(Walked { found, sure: sought.k == 0 });
        }
        let mut scratch = self.pool.take();
        let walked = self.walked(rescore, (vector, &coded, error), sought, selection, &mut scratch, keep_going);
        self.pool.give(scratch);
        walked
    }

    fn walked(
        &self,
        rescore: &mut dyn Rescore,
        (vector, coded, error): (&[f32], &CodedQuery, f32),
        sought: Sought,
        selection: &Selection<'_>,
        scratch: &mut Scratch,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<Walked> {
        let (codes, probe) = (&self.codes, &coded.probe);
        let entry = self.entry(probe, scratch)?;
        let width = sought.width.max(sought.k);
        let level = self.graph.level(0);
        let rows = self.graph.rows();
        let slackened = sought.slack.and_then(|slack| Slackened::new(slack, probe.metric, error, rows, selection));
        let end = match slackened {
            Some(mut limit) => scratch.walk(&level, codes, probe, entry, width, &mut limit, keep_going),
            None => scratch.walk(&level, codes, probe, entry, width, &mut (), keep_going),
        }?;
        let (compared, complete) = (scratch.compared, end != End::Stopped);
        if end == End::Full {
            return Ok(Walked { found: Found { complete, compared, walked: true, ..Found::default() }, sure: false });
        }
        let mut best = Best::new(sought.k);
        let rescored = self.rescore(rescore, (vector, coded), &scratch.nearest, selection, &mut best)?;
        let worst = best.worst();
        let alike = self.within(&scratch.nearest, best.limit(coded) + error, selection)?;
        let sure = worst.is_some_and(|worst| {
            // Links by product lead to where products are large.
            let led = probe.metric != Metric::Ip || worst < 0.0;
            let full = scratch.nearest.len() >= width;
            let farthest = scratch.nearest.last().map_or(f32::INFINITY, |last| last.key());
            let told_apart = alike <= ALIKE * sought.k + MORE_ALIKE;
            led && told_apart && !(full && may_be(farthest - error, coded.key_of(worst)))
        });
        let found = Found { neighbors: best.into_sorted(), complete, exact: false, compared, rescored, walked: true };
        Ok(Walked { found, sure })
    }

    /// Offers the kept that are in the selection, and their copies, but for those that are proved to be farther than
    /// the nearest of them. Says how many were rescored.
    fn rescore(
        &self,
        rescore: &mut dyn Rescore,
        (vector, coded): (&[f32], &CodedQuery),
        kept: &[Scored],
        selection: &Selection<'_>,
        best: &mut Best,
    ) -> Result<u64> {
        let query = Query::new(vector, self.codes.metric());
        let copies = self.graph.copies()?;
        let mut rescored = 0;
        let mut near = Vec::with_capacity(BATCH);
        let mut limit = f32::INFINITY;
        for &scored in kept {
            // Copies have the key of the first, and an error of their own.
            let positions = std::iter::once(scored.node()).chain(copies.of(scored.node()));
            for position in positions.filter(|&position| selection.has(position)) {
                let Factors { residual, length, .. } = self.codes.factors_of(position);
                if !may_be(scored.key() - coded.bound(residual, length), limit) {
                    continue;
                }
                near.push(position);
                if near.len() == BATCH {
                    rescored += best.rescore(&query, rescore, near.drain(..))?;
                    limit = best.limit(coded);
                }
            }
        }
        Ok(rescored + best.rescore(&query, rescore, near.drain(..))?)
    }

    /// How many of the kept have keys of at most so much, in the selection, with their copies.
    fn within(&self, kept: &[Scored], key: f32, selection: &Selection<'_>) -> Result<usize> {
        let copies = self.graph.copies()?;
        let near = kept.iter().take_while(|scored| may_be(scored.key(), key)).map(|scored| scored.node());
        let positions = near.flat_map(|node| std::iter::once(node).chain(copies.of(node)));
        Ok(positions.filter(|&position| selection.has(position)).count())
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
