//! One segment: its codes, its graph if it has one, and the way that suits a search.

use crate::error::Result;
use crate::vector_index::choose::{Road, Setting, plan};
use crate::vector_index::codes::{CodesView, Typical};
use crate::vector_index::graph::{GraphView, Pool, Searcher, Sought, Walked};
use crate::vector_index::scan::{Found, scan};
use crate::vector_index::section::Rescore;
use crate::vector_index::selection::Selection;

/// A segment of vectors.
#[derive(Clone, Copy)]
pub struct VectorIndex<'a> {
    codes: CodesView<'a>,
    /// With what the vectors are like.
    graph: Option<(GraphView<'a>, Typical)>,
    pool: &'a Pool,
}

impl<'a> VectorIndex<'a> {
    /// From views of the same vectors. `pool` is one for each segment that is kept.
    pub fn new(codes: CodesView<'a>, graph: Option<(GraphView<'a>, Typical)>, pool: &'a Pool) -> Self {
        Self { codes, graph, pool }
    }

    /// The k nearest of a selection for each query. There are as many as there are, up to `k`, whatever the setting.
    pub fn search(
        &self,
        rescore: &mut dyn Rescore,
        queries: &[&[f32]],
        k: usize,
        setting: Setting,
        selection: &Selection<'_>,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Found>> {
        // Positions that are given as such are walked: they are few.
        let graph = self.graph.filter(|_| selection.positions().is_none());
        let (metric, rows) = (self.codes.metric(), self.codes.rows());
        let planned = |(graph, typical): (GraphView<'a>, Typical)| match plan(
            metric,
            rows,
            selection.len(),
            k,
            setting,
            graph.hardness(),
        ) {
            Road::Graph { width, slack } => Some((graph, typical, Sought { k, width, slack })),
            Road::Scan => None,
        };
        let Some((graph, typical, sought)) = graph.and_then(planned) else {
            return scan(&self.codes, rescore, queries, k, selection, keep_going);
        };
        let searcher = Searcher { graph, codes: self.codes, typical, pool: self.pool };
        let mut all = Vec::with_capacity(queries.len());
        for query in queries {
            let Walked { mut found, sure } = searcher.search(rescore, query, sought, selection, keep_going)?;
            if found.complete && !sure {
                let (compared, rescored) = (found.compared, found.rescored);
                let scanned = scan(&self.codes, rescore, &[query], k, selection, keep_going)?;
                found = scanned.into_iter().next().unwrap_or_default();
                found.compared += compared;
                found.rescored += rescored;
            }
            all.push(found);
        }
        Ok(all)
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
    fn there_are_always_k_and_the_way_is_told() {
        let rows = 4500;
        let mut random = Random::new(51);
        let mut vectors = clustered(&mut random, rows, 16, 40);
        // One in three lies apart from all others.
        for vector in vectors.chunks_exact_mut(16).step_by(3) {
            vector.iter_mut().for_each(|x| *x += 30.0);
        }
        let segment = Segment::new(vectors, 16, Metric::L2);
        let effort = Effort { candidates: 24, threads: NonZero::<usize>::MIN };
        let graph = build(&segment.view(), segment.view().typical(segment.dimension), effort, &|_| true).unwrap();
        let view = GraphView::open(Section::trusted(graph.bytes()), rows).unwrap();
        let pool = Pool::new();
        let index = VectorIndex::new(segment.view(), Some((view, segment.view().typical(16))), &pool);
        let query = segment.row(1);
        let search = |k, setting, selection: &Selection<'_>| {
            let found = index.search(&mut segment.floats(), &[query], k, setting, selection, &mut || true).unwrap();
            found.into_iter().next().unwrap()
        };
        let found = search(10, SETTING, &Selection::all(rows));
        assert!(found.walked && !found.exact);
        assert_eq!(found.neighbors[0], segment.nearest(query, 1, |_| true)[0]);

        let apart = |position: u32| position.is_multiple_of(3);
        let words = bits(rows, apart);
        let selection = Selection::new(rows, Among::Bits(&words), &[]).unwrap();
        let found = search(10, SETTING, &selection);
        assert!(!found.walked && found.exact);
        assert_eq!(found.neighbors, segment.nearest(query, 10, apart));

        let exact = Setting { exact: true, ..SETTING };
        let found = search(10, exact, &Selection::all(rows));
        assert!(found.exact && !found.walked);
        assert_eq!(found.neighbors, segment.nearest(query, 10, |_| true));
        assert_eq!(search(rows + 1, SETTING, &Selection::all(rows)).neighbors.len(), rows);

        let some: Vec<u32> = (0..rows as u32).step_by(2).collect();
        let selection = Selection::new(rows, Among::Positions(&some), &[]).unwrap();
        let found = search(10, SETTING, &selection);
        assert!(found.exact && !found.walked);
        assert_eq!(found.neighbors, segment.nearest(query, 10, |position| position % 2 == 0));
    }

    #[test]
    fn several_queries_take_one_way() {
        let segment = Segment::new(clustered(&mut Random::new(52), 1000, 16, 5), 16, Metric::Cosine);
        let pool = Pool::new();
        let index = VectorIndex::new(segment.view(), None, &pool);
        let queries = [segment.row(3), segment.row(500)];
        let found =
            index.search(&mut segment.floats(), &queries, 4, SETTING, &Selection::all(1000), &mut || true).unwrap();
        for (found, query) in found.iter().zip(queries) {
            assert!(found.exact);
            assert_eq!(found.neighbors, segment.nearest(query, 4, |_| true));
        }
    }

    /// The share of the ten nearest that searches find at the default recall, as far as a plan for many vectors goes; and
    /// of how many queries a walk was the answer.
    fn found(vectors: Vec<f32>, queries: &[Vec<f32>], dimension: usize, metric: Metric) -> (f64, usize) {
        let segment = Segment::new(vectors, dimension, metric);
        let (codes, typical, rows) = (segment.view(), segment.view().typical(dimension), segment.rows());
        let effort = Effort { candidates: 100, threads: NonZero::new(4).unwrap() };
        let graph = build(&codes, typical, effort, &|_| true).unwrap();
        let graph = GraphView::open(Section::trusted(graph.bytes()), rows).unwrap();
        let (pool, all, mut floats) = (Pool::new(), Selection::all(rows), segment.floats());
        let setting = Setting { exact: false, recall: 0.99 };
        let road = plan(metric, 50_000, 50_000, 10, setting, graph.hardness());
        let searcher = Searcher { graph, codes, typical, pool: &pool };
        let (mut hits, mut walks) = (0, 0);
        for query in queries {
            let walked = match road {
                Road::Graph { width, slack } => {
                    let sought = Sought { k: 10, width, slack };
                    Some(searcher.search(&mut floats, query, sought, &all, &mut || true).unwrap())
                }
                Road::Scan => None,
            };
            let neighbors = match walked {
                Some(Walked { found, sure: true }) => {
                    walks += 1;
                    found.neighbors
                }
                _ => scan(&codes, &mut floats, &[query], 10, &all, &mut || true).unwrap().remove(0).neighbors,
            };
            let farthest = segment.nearest(query, 10, |_| true).last().unwrap().distance;
            hits += neighbors.iter().filter(|neighbor| neighbor.distance <= farthest).count();
        }
        (hits as f64 / (10 * queries.len()) as f64, walks)
    }

    /// Points, each with noise of one vector's length by its own.
    fn around(random: &mut Random, points: &[f32], rows: usize, noise: f32) -> Vec<f32> {
        let dimension = points.len();
        (0..rows)
            .flat_map(|_| {
                let way = random.vector(dimension);
                let length = way.iter().map(|x| x * x).sum::<f32>().sqrt();
                points.iter().zip(way).map(|(x, y)| x + noise * y / length).collect::<Vec<f32>>()
            })
            .collect()
    }

    #[test]
    fn near_duplicates_are_told_apart() {
        for (dimension, rows, noise) in [(32, 700, 0.02), (32, 700, 0.1), (96, 100, 0.1), (96, 400, 0.3)] {
            for metric in [Metric::Cosine, Metric::L2] {
                let mut random = Random::new(53);
                let base = vec![(dimension as f32).sqrt().recip(); dimension];
                // A page of many versions among others of another kind.
                let mut vectors = around(&mut random, &base, rows, noise);
                vectors.extend(random.vector(200 * dimension));
                let queries: Vec<Vec<f32>> = (0..20).map(|_| around(&mut random, &base, 1, noise)).collect();
                let (recall, _) = found(vectors, &queries, dimension, metric);
                assert!(recall >= 0.99, "{metric} {dimension} {rows} {noise}: {recall}");
            }
        }
    }

    #[test]
    fn what_lies_far_from_zero_is_found() {
        for (dimension, offset, spread) in [(16, 100.0, 1.0), (16, 1_000.0, 1.0), (2, 48.0, 0.05), (16, 1.0, 1.0)] {
            for metric in [Metric::L2, Metric::Cosine] {
                let mut random = Random::new(54);
                let mut point = || random.vector(dimension).iter().map(|x| offset + spread * x).collect::<Vec<f32>>();
                let vectors = (0..1_300).flat_map(|_| point()).collect();
                let queries: Vec<Vec<f32>> = (0..20).map(|_| point()).collect();
                let (recall, _) = found(vectors, &queries, dimension, metric);
                assert!(recall >= 0.97, "{metric} {dimension} {offset}: {recall}");
            }
        }
    }

    #[test]
    fn any_length_has_a_code_for_cosine_and_is_found_otherwise() {
        for metric in [Metric::Cosine, Metric::L2, Metric::Ip] {
            for magnitude in [1e-16f32, 1e16] {
                let mut random = Random::new(55);
                let mut vectors = random.vector(1_300 * 16);
                vectors[..500 * 16].iter_mut().for_each(|x| *x *= magnitude);
                let queries: Vec<Vec<f32>> = (0..20).map(|_| random.vector(16)).collect();
                let (recall, _) = found(vectors, &queries, 16, metric);
                assert!(recall >= 0.97, "{metric} {magnitude}: {recall}");
            }
        }
    }

    #[test]
    fn products_with_queries_of_another_kind_are_found() {
        let mut random = Random::new(56);
        let vectors: Vec<f32> = random.vector(1_000 * 32).iter().map(|x| x.abs()).collect();
        let queries: Vec<Vec<f32>> = (0..20).map(|_| random.vector(32).iter().map(|x| -x.abs()).collect()).collect();
        let (recall, walks) = found(vectors, &queries, 32, Metric::Ip);
        assert!(recall >= 0.99 && walks == 0, "{recall} {walks}");
    }

    #[test]
    fn a_walk_is_the_answer_among_what_codes_tell_apart() {
        for metric in [Metric::Cosine, Metric::L2, Metric::Ip] {
            let mut random = Random::new(57);
            let mut vectors = clustered(&mut random, 1_520, 64, 30);
            let queries: Vec<Vec<f32>> = vectors.split_off(1_500 * 64).chunks(64).map(<[f32]>::to_vec).collect();
            let (recall, walks) = found(vectors, &queries, 64, metric);
            assert!(recall >= 0.98 && walks >= 18, "{metric}: {recall} {walks}");
        }
    }

    #[test]
    fn vectors_that_are_hard_to_find_are_walked_for_farther() {
        let mut random = Random::new(58);
        // Of no clusters: a sum of uniform numbers is all but normally distributed.
        let mut normal =
            |count: usize| -> Vec<f32> { (0..count).map(|_| (0..6).map(|_| random.unit()).sum::<f32>()).collect() };
        let (dimension, rows) = (32, 2_500);
        let vectors = normal(rows * dimension);
        let queries: Vec<Vec<f32>> = (0..50).map(|_| normal(dimension)).collect();
        for metric in [Metric::Cosine, Metric::L2] {
            let (recall, walks) = found(vectors.clone(), &queries, dimension, metric);
            assert!(recall >= 0.97, "{metric}: {recall} {walks}");
        }
    }
}
