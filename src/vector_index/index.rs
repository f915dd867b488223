//! One segment: its codes, its graph if it has one, and the way that suits a search.

use crate::error::Result;
use crate::vector_index::choose::{Plan, Road, Setting, plan};
use crate::vector_index::codes::CodesView;
use crate::vector_index::graph::{GraphView, Pool, Searcher, Sought};
use crate::vector_index::scan::{Asked, Found, scan};
use crate::vector_index::section::Rescore;
use crate::vector_index::selection::Selection;

/// A segment of vectors.
#[derive(Clone, Copy)]
pub struct VectorIndex<'a> {
    codes: CodesView<'a>,
    graph: Option<GraphView<'a>>,
    pool: &'a Pool,
}

impl<'a> VectorIndex<'a> {
    /// From views of the same vectors. `pool` is one for each segment that is kept.
    pub fn new(codes: CodesView<'a>, graph: Option<GraphView<'a>>, pool: &'a Pool) -> Self {
        Self { codes, graph, pool }
    }

    /// The k nearest of a selection for each query, and the plan that led to them. There are as many as there are, up
    /// to `k`, whatever the setting.
    pub fn search(
        &self,
        rescore: &mut dyn Rescore,
        queries: &[&[f32]],
        k: usize,
        setting: Setting,
        selection: &Selection<'_>,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<(Vec<Found>, Plan)> {
        // Positions that are given as such are walked: they are few.
        let graph = self.graph.is_some() && selection.positions().is_none();
        let plan = plan(self.codes.metric(), self.codes.rows(), selection.len(), k, setting, graph);
        let asked = Asked { k, rescored: plan.rescored };
        let (Road::Graph { width, slack }, Some(graph)) = (plan.road, self.graph) else {
            return Ok((scan(&self.codes, rescore, queries, asked, selection, keep_going)?, plan));
        };
        let sought = Sought { k, width, slack, rescored: plan.rescored.unwrap_or(width) };
        let searcher = Searcher { graph, codes: self.codes, pool: self.pool };
        let mut all = Vec::with_capacity(queries.len());
        for query in queries {
            let mut found = searcher.search(rescore, query, sought, selection, keep_going)?;
            if found.complete && found.neighbors.len() < k.min(selection.len()) {
                // The selection lies apart from where the walk was.
                let compared = found.compared;
                let scanned = scan(&self.codes, rescore, &[query], asked, selection, keep_going)?;
                found = scanned.into_iter().next().unwrap_or_default();
                found.compared += compared;
            }
            all.push(found);
        }
        Ok((all, plan))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;
    use crate::model::Metric;
    use crate::random::Random;
    use crate::vector_index::graph::{Effort, build};
    use crate::vector_index::section::Section;
    use crate::vector_index::selection::Among;
    use crate::vector_index::testing::{Segment, bits, clustered};

    const SETTING: Setting = Setting { exact: false, recall: 0.9 };

    #[test]
    fn there_are_always_k_and_the_plan_is_told() {
        let rows = 4500;
        let mut random = Random::new(51);
        let mut vectors = clustered(&mut random, rows, 16, 40);
        // One in three lies apart from all others.
        for vector in vectors.chunks_exact_mut(16).step_by(3) {
            vector.iter_mut().for_each(|x| *x += 30.0);
        }
        let segment = Segment::new(vectors, 16, Metric::L2);
        let effort = Effort { candidates: 24, threads: NonZero::<usize>::MIN };
        let graph = build(&segment.view(), effort, &|_| true).unwrap();
        let view = GraphView::open(Section::trusted(graph.bytes()), rows).unwrap();
        let pool = Pool::new();
        let index = VectorIndex::new(segment.view(), Some(view), &pool);
        let query = segment.row(1);
        let search = |k, setting, selection: &Selection<'_>| {
            let (found, plan) =
                index.search(&mut segment.floats(), &[query], k, setting, selection, &mut || true).unwrap();
            (found.into_iter().next().unwrap(), plan)
        };
        let (found, plan) = search(10, SETTING, &Selection::all(rows));
        assert!(matches!(plan.road, Road::Graph { .. }) && !found.exact);
        assert_eq!(found.neighbors[0], segment.nearest(query, 1, |_| true)[0]);

        let apart = |position: u32| position.is_multiple_of(3);
        let words = bits(rows, apart);
        let selection = Selection::new(rows, Among::Bits(&words), &[]).unwrap();
        let (found, plan) = search(10, SETTING, &selection);
        assert!(matches!(plan.road, Road::Graph { .. }));
        assert_eq!(found.neighbors, segment.nearest(query, 10, apart));

        let exact = Setting { exact: true, ..SETTING };
        let (found, plan) = search(10, exact, &Selection::all(rows));
        assert!(found.exact && plan == Plan { road: Road::Scan, rescored: None });
        assert_eq!(found.neighbors, segment.nearest(query, 10, |_| true));
        assert_eq!(search(rows + 1, SETTING, &Selection::all(rows)).0.neighbors.len(), rows);

        let some: Vec<u32> = (0..rows as u32).step_by(2).collect();
        let selection = Selection::new(rows, Among::Positions(&some), &[]).unwrap();
        let (found, plan) = search(10, SETTING, &selection);
        assert!(found.exact && plan.road == Road::Scan);
        assert_eq!(found.neighbors, segment.nearest(query, 10, |position| position % 2 == 0));
    }

    #[test]
    fn several_queries_take_one_way() {
        let segment = Segment::new(clustered(&mut Random::new(52), 1000, 16, 5), 16, Metric::Cosine);
        let pool = Pool::new();
        let index = VectorIndex::new(segment.view(), None, &pool);
        let queries = [segment.row(3), segment.row(500)];
        let (found, _) =
            index.search(&mut segment.floats(), &queries, 4, SETTING, &Selection::all(1000), &mut || true).unwrap();
        for (found, query) in found.iter().zip(queries) {
            assert!(found.exact);
            assert_eq!(found.neighbors, segment.nearest(query, 4, |_| true));
        }
    }
}
