//! The nearest of all vectors, or of a selection: keys from the codes first, distances from float32 for few.
//!
//! Each vector has a key and a bound of its error (`codes.rs`), so its distance lies in an interval. A vector whose
//! interval begins above the ends of `k` others is not among the nearest. What is left is rescored from the lower ends
//! up, until the next lower end is above the distances of `k`: then the answer is the one that a search without an
//! index gives, in its order.

use crate::error::Result;
use crate::model::Metric;
use crate::vector_index::codes::{CodedQuery, CodesView};
use crate::vector_index::distance::Query;
use crate::vector_index::section::Rescore;
use crate::vector_index::selection::Selection;

/// Rows that are looked at together: what one word of bits has.
const BLOCK: usize = 64;
/// Rows wanted of a block up to which they are read one by one.
const FEW: u32 = 12;
/// Blocks between two questions whether to go on.
const BEATS: usize = 64;
/// Candidates that are rescored at a time.
const BATCH: usize = 16;

/// What is asked of a scan.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// How many neighbours.
    pub k: usize,
    /// How many candidates may be rescored; without, as many as it takes to prove the answer.
    pub rescored: Option<usize>,
}

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
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    key: f32,
    lower: f32,
    upper: f32,
    position: u32,
}

/// One query of a pass.
struct Leg {
    coded: CodedQuery,
    asked: Asked,
    candidates: Vec<Candidate>,
    room: usize,
    /// Lower ends above it are out.
    threshold: f32,
    /// Whether nothing was dropped but what is proved to be out.
    proved: bool,
}

impl Leg {
    fn new(vector: &[f32], metric: Metric, asked: Asked) -> Self {
        let room = (4 * asked.k).max(256);
        Self {
            coded: CodedQuery::new(vector, metric),
            asked,
            candidates: Vec::with_capacity(room + BLOCK),
            room,
            threshold: f32::INFINITY,
            proved: true,
        }
    }

    #[inline]
    fn offer(&mut self, position: usize, product: i32, scale: f32, residual: f32, length: f32) {
        let key = self.coded.key(product, scale, length);
        let bound = self.coded.bound(residual, length);
        let (lower, upper) = (key - bound, key + bound);
        // Written so that what is no number stays in.
        if !(lower > self.threshold) {
            self.candidates.push(Candidate { key, lower, upper, position: position as u32 });
        }
    }

    /// The products of up to 64 consecutive rows, of which `wanted` has a bit for each.
    #[inline]
    fn block(&mut self, first: usize, wanted: u64, products: &[i32], factors: [&[f32]; 3]) {
        let mut lowers = [f32::INFINITY; BLOCK];
        self.coded.lowers(products, factors, &mut lowers[..products.len()]);
        let threshold = self.threshold;
        // Counting is quick, and mostly there are none.
        if lowers.iter().map(|&lower| u32::from(!(lower > threshold))).sum::<u32>() == 0 {
            return;
        }
        let [scales, residuals, lengths] = factors;
        for place in 0..products.len() {
            if !(lowers[place] > threshold) && wanted & (1 << place) != 0 {
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

    /// Drops what cannot be among the nearest, and what is beyond twice the number that may be rescored.
    fn narrow(&mut self) {
        let k = self.asked.k;
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
            self.candidates.retain(|candidate| !(candidate.lower > threshold));
        }
        if let Some(most) = self.asked.rescored.map(|rescored| 2 * rescored.max(k))
            && self.candidates.len() > most
        {
            self.candidates.select_nth_unstable_by(most - 1, |a, b| a.key.total_cmp(&b.key));
            self.candidates.truncate(most);
            self.proved = false;
        }
    }

    fn finish(mut self, vector: &[f32], metric: Metric, rescore: &mut dyn Rescore, found: &mut Found) -> Result<()> {
        self.narrow();
        let mut candidates = std::mem::take(&mut self.candidates);
        let most = self.asked.rescored.unwrap_or(usize::MAX).max(self.asked.k);
        if self.asked.rescored.is_some() && candidates.len() > most {
            candidates.sort_unstable_by(|a, b| a.key.total_cmp(&b.key));
        } else {
            candidates.sort_unstable_by(|a, b| a.lower.total_cmp(&b.lower));
        }
        let query = Query::new(vector, metric);
        let mut best = Best::new(self.asked.k);
        let mut distances = [0.0; BATCH];
        let (mut start, mut positions) = (0, [0; BATCH]);
        while start < candidates.len().min(most) {
            let limit = best.worst().map_or(f32::INFINITY, |worst| self.coded.key_of(worst));
            let batch = &candidates[start..candidates.len().min(most).min(start + BATCH)];
            let mut count = 0;
            for candidate in batch.iter().filter(|candidate| !(candidate.lower > limit)) {
                positions[count] = candidate.position;
                count += 1;
            }
            rescore.rescore(&query, &positions[..count], &mut distances[..count])?;
            for (&position, &distance) in positions[..count].iter().zip(&distances) {
                best.offer(Neighbor { position, distance });
            }
            found.rescored += count as u64;
            start += batch.len();
            if count == 0 && most >= candidates.len() {
                // In the order of lower ends no later one is nearer.
                break;
            }
        }
        let limit = best.worst().map_or(f32::INFINITY, |worst| self.coded.key_of(worst));
        let rest = candidates.get(start..).unwrap_or_default();
        found.exact = self.proved && found.complete && rest.iter().all(|candidate| candidate.lower > limit);
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

    pub(super) fn offer(&mut self, neighbor: Neighbor) {
        self.neighbors.push(neighbor);
    }

    /// The distance of the k-th, once there are k.
    fn worst(&mut self) -> Option<f32> {
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

/// The nearest vectors of a selection for each of several queries, in one pass over the codes.
///
/// `keep_going` is asked every few thousand vectors; when it says no, what was found until then is given, and is not
/// complete.
pub fn scan(
    codes: &CodesView<'_>,
    rescore: &mut dyn Rescore,
    queries: &[&[f32]],
    asked: Asked,
    selection: &Selection<'_>,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<Vec<Found>> {
    let mut legs: Vec<Leg> = queries.iter().map(|vector| Leg::new(vector, codes.metric(), asked)).collect();
    let (complete, compared) = match selection.positions() {
        Some(positions) => walk(codes, &mut legs, positions, selection, keep_going)?,
        None => pass(codes, &mut legs, selection, keep_going)?,
    };
    let finish = |(leg, vector): (Leg, &&[f32])| {
        let mut found = Found { complete, compared, ..Found::default() };
        leg.finish(vector, codes.metric(), rescore, &mut found)?;
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
    let (mut products, mut positions) = ([0; BLOCK], [0; BLOCK]);
    let mut compared = 0;
    for block in 0..rows.div_ceil(BLOCK) {
        if block % BEATS == BEATS - 1 && !keep_going() {
            return Ok((false, compared));
        }
        let wanted = selection.word(block, rows);
        let (first, count) = (block * BLOCK, wanted.count_ones());
        compared += u64::from(count);
        if count > FEW {
            let products = &mut products[..BLOCK.min(rows - first)];
            let factors = codes.factors(first, products.len());
            for leg in legs.iter_mut() {
                codes.products(&leg.coded.components, first, products)?;
                leg.block(first, wanted, products, factors);
            }
        } else if count > 0 {
            let mut left = wanted;
            for position in &mut positions[..count as usize] {
                *position = first as u32 + left.trailing_zeros();
                left &= left - 1;
            }
            some(codes, legs, &positions[..count as usize], &mut products)?;
        }
    }
    Ok((true, compared))
}

fn walk(
    codes: &CodesView<'_>,
    legs: &mut [Leg],
    positions: &[u32],
    selection: &Selection<'_>,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<(bool, u64)> {
    let mut products = [0; BLOCK];
    let mut live = Vec::with_capacity(BLOCK);
    let mut compared = 0;
    for (block, positions) in positions.chunks(BLOCK).enumerate() {
        if block % BEATS == BEATS - 1 && !keep_going() {
            return Ok((false, compared));
        }
        live.clear();
        live.extend(positions.iter().copied().filter(|&position| selection.has(position)));
        some(codes, legs, &live, &mut products)?;
        compared += live.len() as u64;
    }
    Ok((true, compared))
}

/// Up to 64 positions, each by itself.
fn some(codes: &CodesView<'_>, legs: &mut [Leg], positions: &[u32], products: &mut [i32; BLOCK]) -> Result<()> {
    for leg in legs {
        codes.products_at(&leg.coded.components, positions, products)?;
        for (&position, &product) in positions.iter().zip(products.iter()) {
            let factors = codes.factors_of(position);
            leg.offer(position as usize, product, factors.scale, factors.residual, factors.length);
        }
        leg.make_room();
    }
    Ok(())
}
