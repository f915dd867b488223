//! One segment: its codes, its graph if it has one, and the way that suits a search.

use crate::error::Result;
use crate::vector_index::choose::{Plan, Road, Setting, plan};
use crate::vector_index::codes::CodesView;
use crate::vector_index::graph::{GraphView, Pool, Sought};
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

    /// The k nearest of a selection for each query, and the plan that led to them. There are as many as there are, up to
    /// `k`, whatever the setting.
    pub fn search(
        &self,
        rescore: &mut dyn Rescore,
        queries: &[&[f32]],
        k: usize,
        setting: Setting,
        selection: &Selection<'_>,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<(Vec<Found>, Plan)> {
        let plan = plan(self.codes.rows(), selection.len(), k, setting, self.graph.is_some());
        let asked = Asked { k, rescored: plan.rescored };
        let (Road::Graph { width }, Some(graph), None) = (plan.road, &self.graph, selection.positions()) else {
            return Ok((scan(&self.codes, rescore, queries, asked, selection, keep_going)?, plan));
        };
        let sought = Sought { k, width, rescored: plan.rescored.unwrap_or(width) };
        let mut all = Vec::with_capacity(queries.len());
        for query in queries {
            let mut found = graph.search(&self.codes, rescore, query, sought, selection, self.pool, keep_going)?;
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
