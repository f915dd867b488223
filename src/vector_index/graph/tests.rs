use std::collections::HashSet;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::build::grown;
use super::repair::reach;
use super::walk::Adjacency;
use super::{Effort, Graph, GraphView, LINKS, Pool, Searcher, Slack, Sought, build, told_apart};
use crate::error::ErrorKind;
use crate::model::Metric;
use crate::random::Random;
use crate::vector_index::aligned::Aligned;
use crate::vector_index::choose::Hardness;
use crate::vector_index::codes::Typical;
use crate::vector_index::distance::Query;
use crate::vector_index::scan::Found;
use crate::vector_index::section::Section;
use crate::vector_index::selection::{Among, Selection};
use crate::vector_index::testing::{Segment, bits, clustered, damaged};

const SLACK: Slack = Slack { near: 10, share: 0.2 };
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::Ip];

fn typical(segment: &Segment) -> Typical {
    segment.view().typical(segment.dimension)
}

fn graph(segment: &Segment, threads: usize) -> Graph {
    let effort = Effort { candidates: 40, threads: NonZero::new(threads).unwrap() };
    build(&segment.view(), typical(segment), effort, &|_| true).unwrap()
}

fn open<'a>(segment: &Segment, graph: &'a Graph) -> GraphView<'a> {
    GraphView::open(Section::trusted(graph.bytes()), segment.rows()).unwrap()
}

fn search(segment: &Segment, view: &GraphView<'_>, query: &[f32], sought: Sought, selection: &Selection<'_>) -> Found {
    let searcher = Searcher { graph: *view, codes: segment.view(), typical: typical(segment), pool: &Pool::new() };
    searcher.search(&mut segment.floats(), query, sought, selection, &mut || true).unwrap().found
}

/// The share of the nearest that searches find.
fn recall(segment: &Segment, view: &GraphView<'_>, width: usize, let_through: impl Fn(u32) -> bool) -> f64 {
    let mut random = Random::new(99);
    let words = bits(segment.rows(), &let_through);
    let selection = Selection::new(segment.rows(), Among::Bits(&words), &[]).unwrap();
    let (mut found, mut all) = (0, 0);
    for _ in 0..30 {
        let mut query = segment.row(random.below(segment.rows())).to_vec();
        query.iter_mut().for_each(|x| *x += 0.1 * random.unit());
        let sought = Sought { k: 10, width, slack: None };
        let got = search(segment, view, &query, sought, &selection);
        assert!(got.neighbors.iter().all(|neighbor| let_through(neighbor.position)));
        let got: HashSet<u32> = got.neighbors.iter().map(|neighbor| neighbor.position).collect();
        let nearest = segment.nearest(&query, 10, &let_through);
        found += nearest.iter().filter(|neighbor| got.contains(&neighbor.position)).count();
        all += nearest.len();
    }
    found as f64 / all as f64
}

/// Positions that level 0 does not lead to from the entry.
fn unreachable(view: &GraphView<'_>) -> usize {
    let level = view.level(0);
    let entry = if view.levels() == 0 { 0 } else { view.level(1).position(0).unwrap() };
    let (mut seen, mut next) = (HashSet::from([entry]), vec![entry]);
    let mut links = Vec::new();
    while let Some(node) = next.pop() {
        links.clear();
        level.neighbors(node, &mut links).unwrap();
        next.extend(links.iter().copied().filter(|&link| seen.insert(link)));
    }
    let copies = view.copies().unwrap();
    let copies: usize = seen.iter().map(|&node| copies.of(node).count()).sum();
    view.rows() - seen.len() - copies
}

/// Vectors that a search for themselves does not find among its ten, nor as many that are as near.
fn lost(segment: &Segment, view: &GraphView<'_>) -> usize {
    let sought = Sought { k: 10, width: 32, slack: None };
    let all = Selection::all(segment.rows());
    let is_lost = |&position: &usize| {
        let query = segment.row(position);
        let own = Query::new(query, segment.metric).distance(query);
        let found = search(segment, view, query, sought, &all).neighbors;
        found.iter().all(|neighbor| neighbor.position as usize != position)
            && found.last().is_none_or(|last| last.distance > own + 1e-6)
    };
    (0..segment.rows()).filter(is_lost).count()
}

#[test]
fn finds_what_is_near() {
    let mut random = Random::new(31);
    for metric in METRICS {
        let segment = Segment::new(clustered(&mut random, 1500, 32, 15), 32, metric);
        let graph = graph(&segment, 3);
        let view = open(&segment, &graph);
        let recall = recall(&segment, &view, 64, |_| true);
        assert!(recall >= 0.98, "{metric}: {recall}");
    }
}

#[test]
fn a_slack_ends_walks_where_the_rest_is_far() {
    let mut random = Random::new(30);
    for metric in [Metric::Cosine, Metric::L2] {
        let segment = Segment::new(clustered(&mut random, 3000, 32, 60), 32, metric);
        let graph = graph(&segment, 3);
        let view = open(&segment, &graph);
        // One of two, whole clusters and halves of others.
        let among = |position: u32| segment.row(position as usize)[0] > 0.0;
        let words = bits(segment.rows(), among);
        let some = Selection::new(segment.rows(), Among::Bits(&words), &[]).unwrap();
        let everything = Selection::all(segment.rows());
        for selection in [&everything, &some] {
            let (mut found, mut with, mut without) = (0, 0, 0);
            for _ in 0..30 {
                let mut query = segment.row(random.below(segment.rows())).to_vec();
                query.iter_mut().for_each(|x| *x += 0.1 * random.unit());
                let sought = Sought { k: 10, width: 1_000, slack: Some(SLACK) };
                let got = search(&segment, &view, &query, sought, selection);
                with += got.compared;
                without += search(&segment, &view, &query, Sought { slack: None, ..sought }, selection).compared;
                let nearest = segment.nearest(&query, 10, |position| selection.has(position));
                found += nearest.iter().filter(|neighbor| got.neighbors.contains(neighbor)).count();
            }
            assert!(found >= 294, "{metric}: {found} of 300");
            assert!(2 * with < without, "{metric}: {with} against {without} compared");
        }
    }
}

#[test]
fn every_vector_is_found_by_its_own_query() {
    let mut random = Random::new(32);
    for (metric, threads) in [(Metric::Cosine, 4), (Metric::L2, 1)] {
        let segment = Segment::new(clustered(&mut random, 1200, 12, 100), 12, metric);
        let graph = graph(&segment, threads);
        let view = open(&segment, &graph);
        assert_eq!((lost(&segment, &view), unreachable(&view)), (0, 0), "{metric} {threads}");
    }
}

#[test]
fn copies_do_not_cut_the_graph() {
    let mut random = Random::new(33);
    let mut vectors = clustered(&mut random, 1200, 16, 12);
    // Half of all are copies of three.
    for row in (0..1200).step_by(2) {
        let of = 2 * random.below(3) + 1;
        vectors.copy_within(of * 16..(of + 1) * 16, row * 16);
    }
    let segment = Segment::new(vectors, 16, Metric::Cosine);
    let graph = graph(&segment, 4);
    let view = open(&segment, &graph);
    assert_eq!((lost(&segment, &view), unreachable(&view)), (0, 0));
    for let_through in [|_| true, |position| position % 2 == 1, |position| position % 3 == 0] as [fn(u32) -> bool; 3] {
        let recall = recall(&segment, &view, 96, let_through);
        assert!(recall >= 0.98, "{recall}");
    }
    // All copies of one, by position.
    let sought = Sought { k: 100, width: 100, slack: None };
    let found = search(&segment, &view, segment.row(1), sought, &Selection::all(1200));
    assert_eq!(found.neighbors, segment.nearest(segment.row(1), 100, |_| true));
}

#[test]
fn a_filter_applies_inside() {
    let segment = Segment::new(clustered(&mut Random::new(34), 1500, 16, 15), 16, Metric::L2);
    let graph = graph(&segment, 2);
    let view = open(&segment, &graph);
    for (share, width) in [(2, 128), (5, 320), (10, 640)] {
        let recall = recall(&segment, &view, width, |position| position % share == 1);
        assert!(recall >= 0.98, "one in {share}: {recall}");
    }
    let dead = bits(1500, |position| position != 77);
    let selection = Selection::new(1500, Among::All, &dead).unwrap();
    let found = search(&segment, &view, segment.row(77), Sought { k: 5, width: 16, slack: None }, &selection);
    assert_eq!(found.neighbors.iter().map(|n| n.position).collect::<Vec<_>>(), [77]);
}

#[test]
fn long_and_short_vectors_are_found_by_inner_product() {
    let mut random = Random::new(35);
    let mut vectors = clustered(&mut random, 1500, 16, 15);
    for vector in vectors.chunks_exact_mut(16) {
        let length = 1.0 + 2.0 * random.unit().abs();
        vector.iter_mut().for_each(|x| *x *= length);
    }
    let segment = Segment::new(vectors, 16, Metric::Ip);
    let graph = graph(&segment, 4);
    let recall = recall(&segment, &open(&segment, &graph), 96, |_| true);
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn few_vectors_are_a_graph_too() {
    let mut random = Random::new(36);
    for rows in [0, 1, 2, 3, 17, 100] {
        for metric in METRICS {
            let segment = Segment::new(random.vector(rows * 8), 8, metric);
            let graph = graph(&segment, 4);
            let view = open(&segment, &graph);
            let query = random.vector(8);
            let sought = Sought { k: 5, width: 128, slack: None };
            let found = search(&segment, &view, &query, sought, &Selection::all(rows));
            assert_eq!(found.neighbors, segment.nearest(&query, 5, |_| true), "{metric} {rows}");
        }
    }
}

#[test]
fn a_build_tells_how_far_it_is_and_can_be_stopped() {
    let segment = Segment::new(Random::new(37).vector(1000 * 8), 8, Metric::L2);
    let effort = Effort { candidates: 32, threads: NonZero::new(3).unwrap() };
    let most = AtomicUsize::new(0);
    build(&segment.view(), typical(&segment), effort, &|done| {
        most.fetch_max(done, Ordering::Relaxed);
        true
    })
    .unwrap();
    assert_eq!(most.into_inner(), 1000);
    for limit in [100, 700, 999] {
        let most = AtomicUsize::new(0);
        let stopped = build(&segment.view(), typical(&segment), effort, &|done| {
            most.fetch_max(done, Ordering::Relaxed);
            done < limit
        });
        assert_eq!(stopped.err().map(|error| error.kind()), Some(ErrorKind::Cancelled));
        // No thread takes another portion.
        assert!(most.into_inner() < limit + 3 * 64);
    }
}

#[test]
fn a_search_that_is_stopped_says_so() {
    let segment = Segment::new(Random::new(38).vector(1500 * 8), 8, Metric::L2);
    let graph = graph(&segment, 2);
    let pool = Pool::new();
    let (codes, typical) = (segment.view(), typical(&segment));
    let searcher = Searcher { graph: open(&segment, &graph), codes, typical, pool: &pool };
    let (query, selection) = (segment.row(0), Selection::all(1500));
    let sought = Sought { k: 10, width: 1000, slack: None };
    let found = searcher.search(&mut segment.floats(), query, sought, &selection, &mut || false).unwrap().found;
    assert!(!found.complete && !found.neighbors.is_empty());
    assert!(pool.bytes() > 0);
    // The same memory serves another search, of the whole.
    let found = searcher.search(&mut segment.floats(), query, sought, &selection, &mut || true).unwrap().found;
    assert_eq!(found.neighbors, segment.nearest(query, 10, |_| true));
}

/// A centre, and points as far from each other as two can be that are near to it: none links to any but the centre,
/// which has a place for few of them.
fn star(points: usize) -> Segment {
    let mut random = Random::new(39);
    let mut vectors = vec![0.0; 64];
    for _ in 0..points {
        let mut point = random.vector(64);
        let length = point.iter().map(|x| x * x).sum::<f32>().sqrt();
        point.iter_mut().for_each(|x| *x /= length);
        vectors.extend(point);
    }
    Segment::new(vectors, 64, Metric::L2)
}

#[test]
fn what_no_link_leads_to_is_repaired() {
    let segment = star(400);
    let graph = graph(&segment, 3);
    let view = open(&segment, &graph);
    assert_eq!(unreachable(&view), 0);
    let mut links = Vec::new();
    for node in 0..401 {
        links.clear();
        view.level(0).neighbors(node, &mut links).unwrap();
        assert!(links.iter().collect::<HashSet<_>>().len() == links.len() && !links.contains(&node), "{links:?}");
    }
    let found = lost(&segment, &view);
    assert!(found < 8, "{found}");
}

#[test]
fn what_is_cut_off_is_linked_to() {
    let segment = star(400);
    let codes = segment.view();
    let effort = Effort { candidates: 40, threads: NonZero::<usize>::MIN };
    let before = grown(&codes, typical(&segment), effort, &|_| true).unwrap().0.finish(Hardness::default()).unwrap();
    assert_ne!(unreachable(&open(&segment, &before)), 0);
    let building = grown(&codes, typical(&segment), effort, &|_| true).unwrap().0;
    reach(&building, &|| Ok(())).unwrap();
    let after = building.finish(Hardness::default()).unwrap();
    assert_eq!(unreachable(&open(&segment, &after)), 0);
}

#[test]
fn a_place_is_kept_for_repairs() {
    let segment = star(400);
    let codes = segment.view();
    let building =
        grown(&codes, typical(&segment), Effort { candidates: 40, threads: NonZero::<usize>::MIN }, &|_| true)
            .unwrap()
            .0;
    let mut links = Vec::new();
    building.growing(0).neighbors(0, &mut links).unwrap();
    assert_eq!(links.len(), LINKS - 1);
}

#[test]
fn damaged_bytes_do_no_harm() {
    let mut random = Random::new(40);
    let segment = Segment::new(clustered(&mut random, 300, 12, 6), 12, Metric::L2);
    let graph = graph(&segment, 2);
    let pool = Pool::new();
    let (mut opened, mut refused) = (0, 0);
    for round in 0..2_000 {
        let bytes = match round % 2 {
            0 => damaged(graph.bytes(), &mut random),
            _ => {
                // What the head says is looked at before all else.
                let mut bytes = damaged(&graph.bytes()[..64], &mut random).as_slice().to_vec();
                bytes.extend_from_slice(&graph.bytes()[bytes.len().min(64)..]);
                damaged(&bytes, &mut Random::new(7))
            }
        };
        let Ok(view) = GraphView::open(Section::trusted(bytes.as_slice()), 300) else {
            refused += 1;
            continue;
        };
        opened += 1;
        let query = random.vector(12);
        let (searcher, sought) = (
            Searcher { graph: view, codes: segment.view(), typical: typical(&segment), pool: &pool },
            Sought { k: 10, width: 1 + random.below(40), slack: Some(SLACK) },
        );
        let selection = Selection::all(300);
        match searcher.search(&mut segment.floats(), &query, sought, &selection, &mut || true) {
            Ok(walked) => assert!(walked.found.neighbors.iter().all(|neighbor| neighbor.position < 300)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
        }
    }
    assert!(opened > 200 && refused > 200, "{opened} {refused}");
}

#[test]
fn a_graph_of_other_vectors_is_refused() {
    let segment = Segment::new(Random::new(41).vector(300 * 4), 4, Metric::L2);
    let graph = graph(&segment, 1);
    for rows in [0, 299, 301] {
        assert!(GraphView::open(Section::trusted(graph.bytes()), rows).is_err());
    }
    assert!(GraphView::open(Section::trusted(&graph.bytes()[..64]), 300).is_err());
    assert!(GraphView::open(Section::trusted(&graph.bytes()[1..]), 300).is_err());
    assert!(GraphView::open(Section::trusted(&[]), 300).is_err());
    for number in 0..5 {
        let mut other = Aligned::new(0, graph.bytes().len());
        other.as_mut_slice().copy_from_slice(graph.bytes());
        other.as_mut_slice()[4 * number] ^= 1;
        assert!(GraphView::open(Section::trusted(other.as_slice()), 300).is_err(), "{number}");
    }
}

#[test]
fn codes_tell_clusters_apart_and_not_what_is_far_from_zero() {
    let mut random = Random::new(42);
    for metric in METRICS {
        let segment = Segment::new(clustered(&mut random, 1000, 32, 20), 32, metric);
        assert!(told_apart(&segment.view(), typical(&segment)).unwrap(), "{metric}");
        let mut copied = segment.vectors.clone();
        copied[32 * 300..].chunks_mut(32).for_each(|vector| vector.copy_from_slice(segment.row(0)));
        let copied = Segment::new(copied, 32, metric);
        assert!(told_apart(&copied.view(), typical(&copied)).unwrap(), "{metric}: most are copies of one");
        let mut vectors = random.vector(1000 * 32);
        vectors.iter_mut().for_each(|x| *x += 1000.0);
        let segment = Segment::new(vectors, 32, metric);
        assert!(!told_apart(&segment.view(), typical(&segment)).unwrap(), "{metric}");
    }
    let none = Segment::new(Vec::new(), 32, Metric::L2);
    assert!(told_apart(&none.view(), typical(&none)).unwrap());
}
