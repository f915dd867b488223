//! Numbers and vectors for tests, and the answers that they should get.

use crate::model::Metric;
use crate::vector_index::aligned::Aligned;
use crate::vector_index::codes::{Codes, CodesBuilder, CodesView};
use crate::vector_index::distance::Query;
use crate::vector_index::scan::Neighbor;
use crate::vector_index::section::{Section, Vectors};

/// A seeded generator (SplitMix64, Steele et al. 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `end`, which is not reached.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// From -1 to 1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn vector(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension).map(|_| self.unit()).collect()
    }

    /// Vectors around `centres` points of a subspace: what embeddings are like.
    pub fn clustered(&mut self, rows: usize, dimension: usize, centres: usize) -> Vec<f32> {
        const LATENT: usize = 16;
        let basis: Vec<Vec<f32>> = (0..LATENT).map(|_| self.vector(dimension)).collect();
        let points: Vec<Vec<f32>> = (0..centres).map(|_| self.vector(LATENT)).collect();
        let mut all = Vec::with_capacity(rows * dimension);
        for _ in 0..rows {
            let point = &points[self.below(centres)];
            let mut row = vec![0.0; dimension];
            for (latent, basis) in point.iter().zip(&basis) {
                let weight = latent + 0.4 * self.unit();
                row.iter_mut().zip(basis).for_each(|(x, b)| *x += weight * b);
            }
            row.iter_mut().for_each(|x| *x += 0.05 * self.unit());
            all.extend(row);
        }
        all
    }
}

/// Vectors and their codes.
pub struct Segment {
    pub vectors: Vec<f32>,
    pub codes: Codes,
    pub dimension: usize,
    pub metric: Metric,
}

impl Segment {
    pub fn new(vectors: Vec<f32>, dimension: usize, metric: Metric) -> Self {
        let mut builder = CodesBuilder::new(dimension, metric, vectors.len() / dimension);
        vectors.chunks_exact(dimension).for_each(|vector| builder.push(vector).unwrap());
        Self { codes: builder.finish().unwrap(), vectors, dimension, metric }
    }

    pub fn rows(&self) -> usize {
        self.vectors.len() / self.dimension
    }

    pub fn row(&self, position: usize) -> &[f32] {
        &self.vectors[position * self.dimension..][..self.dimension]
    }

    pub fn view(&self) -> CodesView<'_> {
        let (components, factors) = (Section::trusted(self.codes.components()), Section::trusted(self.codes.factors()));
        CodesView::open(components, factors, self.rows(), self.dimension, self.metric).unwrap()
    }

    pub fn floats(&self) -> Vectors<'_> {
        Vectors::open(Section::trusted(bytemuck::cast_slice(&self.vectors)), self.rows(), self.dimension).unwrap()
    }

    /// The nearest by float32 alone, of those that are let through.
    pub fn nearest(&self, query: &[f32], k: usize, let_through: impl Fn(u32) -> bool) -> Vec<Neighbor> {
        let query = Query::new(query, self.metric);
        let mut all: Vec<Neighbor> = (0..self.rows() as u32)
            .filter(|&position| let_through(position))
            .map(|position| Neighbor { position, distance: query.distance(self.row(position as usize)) })
            .collect();
        all.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.position.cmp(&b.position)));
        all.truncate(k);
        all
    }
}

/// Bits of positions.
pub fn bits(rows: usize, let_through: impl Fn(u32) -> bool) -> Vec<u64> {
    let mut words = vec![0u64; rows.div_ceil(64)];
    for position in (0..rows as u32).filter(|&position| let_through(position)) {
        words[position as usize / 64] |= 1 << (position % 64);
    }
    words
}

/// A copy of bytes with some damage: bits turned over, bytes put to an extreme, or the end cut off.
pub fn damaged(bytes: &[u8], random: &mut Random) -> Aligned {
    let len = if random.below(8) == 0 { random.below(bytes.len() + 1) } else { bytes.len() };
    let mut copy = Aligned::new(0, len);
    copy.as_mut_slice().copy_from_slice(&bytes[..len]);
    for _ in 0..if len == 0 { 0 } else { 1 << random.below(8) } {
        let at = random.below(len);
        let byte = &mut copy.as_mut_slice()[at];
        match random.below(4) {
            0 => *byte = 0xFF,
            1 => *byte = 0x7F,
            _ => *byte ^= 1 << random.below(8),
        }
    }
    copy
}
