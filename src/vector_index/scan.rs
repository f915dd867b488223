//! The nearest of all vectors, or of a selection: keys from the codes first, distances from float32 for few.
//!
//! Each vector has a key and a bound of its error (`codes.rs`), so its distance lies in an interval. A vector whose
//! interval begins above the ends of `k` others is not among the nearest. What is left is rescored from the lower ends
//! up, until the next lower end is above the distances of `k`: then the answer is the one that a search without an
//! index gives, in its order. Where codes cannot tell the vectors apart, that is all of them.

use crate::error::Result;
use crate::model::Metric;
use crate::vector_index::codes::CodesView;
use crate::vector_index::distance::Query;
use crate::vector_index::query::CodedQuery;
use crate::vector_index::section::Rescore;
use crate::vector_index::selection::Selection;

/// Rows that are looked at together: what one word of bits has.
const BLOCK: usize = 64;
/// Rows wanted of a block up to which they are read one by one: reading one far from the last costs twice as much.
const FEW: u32 = 24;
/// Blocks between two questions whether to go on.
const BEATS: usize = 64;
/// Candidates that are rescored at a time.
pub(super) const BATCH: usize = 16;
/// Candidates that are rescored by their lower ends. If there are more, the codes say little, and what may be near is read
/// in the order in which it lies.
const ORDERED: usize = 1024;

/// A vector that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    pub position: u32,
    pub distance: f32,
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Nearest first; equal distances by position.
    pub neighbors: Vec<Neighbor>,
    /// Whether it was let go on to its end.
    pub complete: bool,
    /// Whether the neighbours are proved to be the nearest.
    pub exact: bool,
    /// Vectors whose codes were compared.
    pub compared: u64,
    /// Vectors that were compared in float32.
    pub rescored: u64,
    /// A walk over the graph found them.
    pub walked: bool,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    lower: f32,
    upper: f32,
    position: u32,
}

/// Whether what begins at `lower` may be within a limit; what is no number may.
#[allow(clippy::neg_cmp_op_on_partial_ord)]
#[inline(always)]
pub(super) fn may_be(lower: f32, limit: f32) -> bool {
    !(lower > limit)
}

/// One query of a pass.
struct Leg {
    coded: CodedQuery,
    k: usize,
    candidates: Vec<Candidate>,
    room: usize,
    /// Lower ends above it are out.
    threshold: f32,
}

impl Leg {
    fn new(vector: &[f32], metric: Metric, k: usize) -> Self {
        let room = (4 * k).max(256);
        Self {
            coded: CodedQuery::new(vector, metric),
            k,
            candidates: Vec::with_capacity(room + BLOCK),
            room,
            threshold: f32::INFINITY,
        }
    }

    #[inline]
    fn offer(&mut self, position: usize, product: i32, scale: f32, residual: f32, length: f32) {
        let key = self.coded.probe.key(product, scale, length);
        let bound = self.coded.bound(residual, length);
        let (lower, upper) = (key - bound, key + bound);
        if may_be(lower, self.threshold) {
            // Of damaged codes; it sorts first then.
            let lower = if lower.is_nan() { f32::NEG_INFINITY } else { lower };
            self.candidates.push(Candidate { lower, upper, position: position as u32 });
        }
    }

    /// The products of up to 64 consecutive rows, of which `wanted` has a bit for each.
    #[inline]
    fn block(&mut self, first: usize, wanted: u64, products: &[i32], factors: [&[f32]; 3]) {
        let mut lowers = [f32::INFINITY; BLOCK];
        self.coded.lowers(products, factors, &mut lowers[..products.len()]);
        let threshold = self.threshold;
        // Counting is quick, and mostly there are none.
        if lowers.iter().map(|&lower| u32::from(may_be(lower, threshold))).sum::<u32>() == 0 {
            return;
        }
        let [scales, residuals, lengths] = factors;
        for place in 0..products.len() {
            if may_be(lowers[place], threshold) && wanted & (1 << place) != 0 {
                let length = lengths.get(place).copied().unwrap_or(0.0);
                self.offer(first + place, products[place], scales[place], residuals[place], length);
            }
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        if self.candidates.len() >= self.room {
            self.narrow();
            self.room = self.room.max(2 * self.candidates.len());
        }
    }

    /// Drops what cannot be among the nearest.
    fn narrow(&mut self) {
        let k = self.k;
        if k == 0 {
            self.candidates.clear();
            self.threshold = f32::NEG_INFINITY;
            return;
        }
        if self.candidates.len() > k {
            let (_, last, _) = self.candidates.select_nth_unstable_by(k - 1, |a, b| a.upper.total_cmp(&b.upper));
            let threshold = last.upper;
            if threshold < self.threshold {
                self.threshold = threshold;
            }
            let threshold = self.threshold;
            self.candidates.retain(|candidate| may_be(candidate.lower, threshold));
        }
    }

    fn finish(
        mut self,
        vector: &[f32],
        metric: Metric,
        rescore: &mut dyn Rescore,
        found: &mut Found,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        self.narrow();
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_unstable_by(|a, b| a.lower.total_cmp(&b.lower));
        let query = Query::new(vector, metric);
        let mut best = Best::new(self.k);
        let ordered = candidates.len().min(ORDERED);
        let (ordered, rest) = candidates.split_at_mut(ordered);
        for batch in ordered.chunks(BATCH) {
            let limit = best.limit(&self.coded);
            let positions = batch.iter().filter(|candidate| may_be(candidate.lower, limit));
            let count = best.rescore(&query, rescore, positions.map(|candidate| candidate.position))?;
            found.rescored += count;
            if count == 0 {
                // In this order no later one is nearer.
                break;
            }
        }
        let limit = best.limit(&self.coded);
        let may_be_near = rest.partition_point(|candidate| may_be(candidate.lower, limit));
        let rest = &mut rest[..may_be_near];
        rest.sort_unstable_by_key(|candidate| candidate.position);
        for (turn, batch) in rest.chunks(BATCH).enumerate() {
            if turn % BEATS == BEATS - 1 && !keep_going() {
                found.complete = false;
                break;
            }
            let limit = best.limit(&self.coded);
            let positions = batch.iter().filter(|candidate| may_be(candidate.lower, limit));
            found.rescored += best.rescore(&query, rescore, positions.map(|candidate| candidate.position))?;
        }
        found.exact = found.complete;
        found.neighbors = best.into_sorted();
        Ok(())
    }
}

/// The k nearest of what was rescored.
pub(super) struct Best {
    k: usize,
    neighbors: Vec<Neighbor>,
}

fn nearer(a: &Neighbor, b: &Neighbor) -> std::cmp::Ordering {
    a.distance.total_cmp(&b.distance).then(a.position.cmp(&b.position))
}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Self { k, neighbors: Vec::with_capacity(2 * k.min(1 << 12)) }
    }

    /// Offers at most [`BATCH`] vectors, and says how many there were.
    pub(super) fn rescore(
        &mut self,
        query: &Query<'_>,
        rescore: &mut dyn Rescore,
        offered: impl Iterator<Item = u32>,
    ) -> Result<u64> {
        let (mut positions, mut distances) = ([0; BATCH], [0.0; BATCH]);
        let mut count = 0;
        for (place, position) in positions.iter_mut().zip(offered) {
            *place = position;
            count += 1;
        }
        rescore.rescore(query, &positions[..count], &mut distances[..count])?;
        let neighbors = positions.iter().zip(&distances).take(count);
        self.neighbors.extend(neighbors.map(|(&position, &distance)| Neighbor { position, distance }));
        Ok(count as u64)
    }

    /// The key above which nothing is among the nearest.
    pub(super) fn limit(&mut self, coded: &CodedQuery) -> f32 {
        self.worst().map_or(f32::INFINITY, |worst| coded.key_of(worst))
    }

    /// The distance of the k-th, once there are k.
    pub(super) fn worst(&mut self) -> Option<f32> {
        if self.k == 0 || self.neighbors.len() < self.k {
            return None;
        }
        let (_, last, _) = self.neighbors.select_nth_unstable_by(self.k - 1, nearer);
        let worst = last.distance;
        self.neighbors.truncate(self.k);
        Some(worst)
    }

    pub(super) fn into_sorted(mut self) -> Vec<Neighbor> {
        self.neighbors.sort_unstable_by(nearer);
        self.neighbors.truncate(self.k);
        self.neighbors
    }
}

/// The `k` nearest vectors of a selection for each of several queries, in one pass over the codes.
///
/// `keep_going` is asked every few thousand vectors; when it says no, what was found until then is given, and is not
/// complete.
pub fn scan(
    codes: &CodesView<'_>,
    rescore: &mut dyn Rescore,
    queries: &[&[f32]],
    k: usize,
    selection: &Selection<'_>,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<Vec<Found>> {
    let mut legs: Vec<Leg> = queries.iter().map(|vector| Leg::new(vector, codes.metric(), k)).collect();
    let (complete, compared) = match selection.positions() {
        Some(positions) => walk(codes, &mut legs, positions, selection, keep_going)?,
        None => pass(codes, &mut legs, selection, keep_going)?,
    };
    let finish = |(leg, vector): (Leg, &&[f32])| {
        let mut found = Found { complete, compared, ..Found::default() };
        leg.finish(vector, codes.metric(), rescore, &mut found, keep_going)?;
        Ok(found)
    };
    legs.into_iter().zip(queries).map(finish).collect()
}

fn pass(
    codes: &CodesView<'_>,
    legs: &mut [Leg],
    selection: &Selection<'_>,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<(bool, u64)> {
    let rows = codes.rows();
    let mut products = [0; BLOCK];
    // Those of blocks with few, until they are worth a turn: what comes next is fetched meanwhile.
    let mut few = Vec::with_capacity(2 * BLOCK);
    let mut compared = 0;
    for block in 0..rows.div_ceil(BLOCK) {
        if block % BEATS == BEATS - 1 && !keep_going() {
            return Ok((false, compared));
        }
        let wanted = selection.word(block, rows);
        let (first, count) = (block * BLOCK, wanted.count_ones());
        if count > FEW {
            let products = &mut products[..BLOCK.min(rows - first)];
            let factors = codes.factors(first, products.len());
            for leg in legs.iter_mut() {
                codes.products(&leg.coded.probe.components, first, products)?;
                leg.block(first, wanted, products, factors);
            }
            compared += u64::from(count);
            continue;
        }
        let mut left = wanted;
        while left != 0 {
            few.push(first as u32 + left.trailing_zeros());
            left &= left - 1;
        }
        if few.len() >= BLOCK {
            compared += some(codes, legs, &mut few)?;
        }
    }
    compared += some(codes, legs, &mut few)?;
    Ok((true, compared))
}

fn walk(
    codes: &CodesView<'_>,
    legs: &mut [Leg],
    positions: &[u32],
    selection: &Selection<'_>,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<(bool, u64)> {
    let mut live = Vec::with_capacity(BLOCK);
    let mut compared = 0;
    for (block, positions) in positions.chunks(BLOCK).enumerate() {
        if block % BEATS == BEATS - 1 && !keep_going() {
            return Ok((false, compared));
        }
        live.extend(positions.iter().copied().filter(|&position| selection.has(position)));
        compared += some(codes, legs, &mut live)?;
    }
    Ok((true, compared))
}

/// Compares positions, each by itself, and forgets them; says how many there were.
fn some(codes: &CodesView<'_>, legs: &mut [Leg], positions: &mut Vec<u32>) -> Result<u64> {
    let mut products = [0; 2 * BLOCK];
    for leg in legs {
        codes.products_at(&leg.coded.probe.components, positions, &mut products)?;
        for (&position, &product) in positions.iter().zip(&products) {
            let factors = codes.factors_of(position);
            leg.offer(position as usize, product, factors.scale, factors.residual, factors.length);
        }
        leg.make_room();
    }
    let compared = positions.len() as u64;
    positions.clear();
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::vector_index::codes::CodesView;
    use crate::vector_index::section::{Section, Vectors};
    use crate::vector_index::selection::Among;
    use crate::vector_index::testing::{Segment, bits, clustered, damaged};

    const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::Ip];

    fn exactly(segment: &Segment, queries: &[&[f32]], k: usize, selection: &Selection<'_>) -> Vec<Found> {
        scan(&segment.view(), &mut segment.floats(), queries, k, selection, &mut || true).unwrap()
    }

    fn assert_same(found: &Found, expected: &[Neighbor], context: &str) {
        assert!(found.exact && found.complete, "{context}");
        let plain = |neighbors: &[Neighbor]| -> Vec<(u32, u32)> {
            neighbors.iter().map(|n| (n.position, n.distance.to_bits())).collect()
        };
        assert_eq!(plain(&found.neighbors), plain(expected), "{context}");
    }

    #[test]
    fn is_what_float32_alone_finds() {
        let mut random = Random::new(11);
        for metric in METRICS {
            for (dimension, rows) in
                [(1, 300), (2, 500), (3, 64), (33, 700), (64, 1), (65, 63), (384, 400), (1000, 130)]
            {
                for kind in 0..4 {
                    let mut vectors = match kind {
                        0 => clustered(&mut random, rows, dimension, 8),
                        _ => random.vector(rows * dimension),
                    };
                    match kind {
                        // Few values, so that many are equally near; copies.
                        1 => vectors.iter_mut().for_each(|x| *x = (*x * 3.0).round() + 0.5),
                        // Far from where they differ.
                        2 => vectors.iter_mut().for_each(|x| *x += 50.0),
                        _ => {}
                    }
                    let query = random.vector(dimension);
                    let segment = Segment::new(vectors, dimension, metric);
                    for k in [1, 10, rows + 5] {
                        let found = exactly(&segment, &[&query], k, &Selection::all(rows)).pop().unwrap();
                        let context = format!("{metric} {dimension} {rows} {kind} {k}");
                        assert_same(&found, &segment.nearest(&query, k, |_| true), &context);
                    }
                }
            }
        }
    }

    #[test]
    fn few_are_rescored() {
        let mut random = Random::new(12);
        for metric in METRICS {
            let segment = Segment::new(clustered(&mut random, 5000, 128, 20), 128, metric);
            let query = segment.row(17).to_vec();
            let found = exactly(&segment, &[&query], 10, &Selection::all(5000)).pop().unwrap();
            assert!(found.rescored < 200, "{metric}: {}", found.rescored);
            assert_eq!(found.compared, 5000);
        }
    }

    #[test]
    fn magnitudes_that_float32_cannot_hold_change_nothing() {
        let mut random = Random::new(13);
        for (metric, magnitudes) in [
            (Metric::L2, [1e-42, 1e-30, 1e-20, 1e19, 1e30, 3e38]),
            (Metric::Ip, [1e-42, 1e-30, 1e-20, 1e10, 1e16, 1e18]),
            (Metric::Cosine, [1e-18, 1e-16, 1e-10, 1e10, 1e16, 1e18]),
        ] {
            let dimension = 40;
            let mut vectors = random.vector(dimension * 600);
            for vector in vectors.chunks_exact_mut(dimension) {
                let magnitude = magnitudes[random.below(6)];
                vector.iter_mut().for_each(|x| *x *= if random.below(3) == 0 { magnitude } else { magnitude * 0.1 });
            }
            let segment = Segment::new(vectors, dimension, metric);
            for magnitude in magnitudes.into_iter().chain([1.0]) {
                let query: Vec<f32> = random.vector(dimension).iter().map(|x| x * magnitude).collect();
                let found = exactly(&segment, &[&query], 10, &Selection::all(600)).pop().unwrap();
                let expected = segment.nearest(&query, 10, |_| true);
                assert_same(&found, &expected, &format!("{metric} {magnitude:e}"));
            }
        }
    }

    #[test]
    fn zero_vectors_have_their_place() {
        for metric in [Metric::L2, Metric::Ip] {
            let mut vectors = Random::new(14).vector(200 * 5);
            vectors[50..500].fill(0.0);
            let segment = Segment::new(vectors, 5, metric);
            for query in [vec![0.0; 5], segment.row(0).to_vec()] {
                let found = exactly(&segment, &[&query], 100, &Selection::all(200)).pop().unwrap();
                assert_same(&found, &segment.nearest(&query, 100, |_| true), &format!("{metric} {query:?}"));
            }
        }
    }

    #[test]
    fn a_selection_applies_before_the_ranking() {
        let mut random = Random::new(15);
        let rows = 3000;
        let segment = Segment::new(clustered(&mut random, rows, 48, 10), 48, Metric::Cosine);
        let dead = bits(rows, |position| position % 7 == 3);
        for share in [1, 2, 10, 100, 1000, 10_000] {
            let wanted: Vec<bool> = (0..rows).map(|_| random.below(share) == 0).collect();
            let words = bits(rows, |position| wanted[position as usize]);
            let positions: Vec<u32> = (0..rows as u32).filter(|&position| wanted[position as usize]).collect();
            let query = segment.row(random.below(rows)).to_vec();
            let expected = segment.nearest(&query, 20, |p| wanted[p as usize] && p % 7 != 3);
            for among in [Among::Bits(&words), Among::Positions(&positions)] {
                let selection = Selection::new(rows, among, &dead).unwrap();
                let found = exactly(&segment, &[&query], 20, &selection).pop().unwrap();
                assert_same(&found, &expected, &format!("one in {share}"));
                assert_eq!(found.compared, selection.len() as u64);
            }
        }
    }

    #[test]
    fn several_queries_get_what_each_gets() {
        let mut random = Random::new(16);
        let segment = Segment::new(clustered(&mut random, 1500, 96, 5), 96, Metric::L2);
        let queries: Vec<Vec<f32>> = (0..9).map(|_| random.vector(96)).collect();
        let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
        let found = exactly(&segment, &queries, 7, &Selection::all(1500));
        assert_eq!(found.len(), 9);
        for (found, query) in found.iter().zip(&queries) {
            assert_same(found, &segment.nearest(query, 7, |_| true), "together");
        }
    }

    #[test]
    fn what_codes_cannot_tell_apart_is_read() {
        // All but equally far.
        let mut random = Random::new(17);
        let mut vectors = random.vector(4000 * 32);
        vectors.iter_mut().for_each(|x| *x = 100.0 + *x * 0.01);
        let segment = Segment::new(vectors, 32, Metric::L2);
        let query = segment.row(5).to_vec();
        let all = Selection::all(4000);
        let exact = exactly(&segment, &[&query], 10, &all).pop().unwrap();
        assert!(exact.rescored > ORDERED as u64, "{}", exact.rescored);
        assert_same(&exact, &segment.nearest(&query, 10, |_| true), "proved");
        // Which may take long.
        let mut left = 4000 / BLOCK / BEATS + 1;
        let mut keep_going = || {
            left = left.saturating_sub(1);
            left > 0
        };
        let found = scan(&segment.view(), &mut segment.floats(), &[&query], 10, &all, &mut keep_going).unwrap();
        assert!(!found[0].complete && !found[0].exact && found[0].rescored < exact.rescored);
    }

    #[test]
    fn a_scan_that_is_stopped_gives_what_it_has() {
        let segment = Segment::new(Random::new(18).vector(10_000 * 4), 4, Metric::L2);
        let all: Vec<u32> = (0..10_000).collect();
        for among in [Among::All, Among::Positions(&all)] {
            let selection = Selection::new(10_000, among, &[]).unwrap();
            let mut left = 2;
            let mut keep_going = || {
                left -= 1;
                left > 0
            };
            let query = segment.row(0);
            let found = scan(&segment.view(), &mut segment.floats(), &[query], 3, &selection, &mut keep_going);
            let found = found.unwrap().pop().unwrap();
            assert!(!found.complete && !found.exact && found.compared < 9_000);
            assert_eq!(found.neighbors[0].position, 0);
        }
    }

    #[test]
    fn damaged_bytes_do_no_harm() {
        let mut random = Random::new(19);
        for round in 0..2_000 {
            let metric = METRICS[round % 3];
            let (rows, dimension) = (1 + random.below(150), 1 + random.below(70));
            let segment = Segment::new(random.vector(rows * dimension), dimension, metric);
            let (components, factors) =
                (damaged(segment.codes.components(), &mut random), damaged(segment.codes.factors(), &mut random));
            let (components, factors) = (Section::trusted(components.as_slice()), Section::trusted(factors.as_slice()));
            let Ok(view) = CodesView::open(components, factors, rows, dimension, metric) else { continue };
            let floats = damaged(bytemuck::cast_slice(&segment.vectors), &mut random);
            let Ok(mut floats) = Vectors::open(Section::trusted(floats.as_slice()), rows, dimension) else { continue };
            let k = random.below(20);
            let query = random.vector(dimension);
            let found = scan(&view, &mut floats, &[&query], k, &Selection::all(rows), &mut || true).unwrap();
            assert!(found[0].neighbors.iter().all(|n| (n.position as usize) < rows));
        }
    }

    #[test]
    fn what_is_read_is_verified_first() {
        use crate::error::{Error, ErrorKind};
        let segment = Segment::new(Random::new(20).vector(1000 * 16), 16, Metric::Ip);
        let bad = |range: std::ops::Range<usize>| match range.contains(&(64 * 700)) {
            true => Err(Error::new(ErrorKind::Corrupt, "a block")),
            false => Ok(()),
        };
        let components = Section::verified(segment.codes.components(), &bad);
        let view =
            CodesView::open(components, Section::trusted(segment.codes.factors()), 1000, 16, Metric::Ip).unwrap();
        let search = |among| {
            let selection = Selection::new(1000, among, &[]).unwrap();
            scan(&view, &mut segment.floats(), &[segment.row(0)], 1, &selection, &mut || true)
        };
        assert_eq!(search(Among::All).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(search(Among::Positions(&[700])).unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(search(Among::Positions(&[1, 699, 701])).is_ok());
        let bytes: &[u8] = bytemuck::cast_slice(&segment.vectors);
        let bad = |_: std::ops::Range<usize>| Err(Error::new(ErrorKind::Corrupt, "a block"));
        let mut floats = Vectors::open(Section::verified(bytes, &bad), 1000, 16).unwrap();
        let query = Query::new(segment.row(0), Metric::Ip);
        assert_eq!(floats.rescore(&query, &[3], &mut [0.0]).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(segment.floats().rescore(&query, &[1000], &mut [0.0]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
