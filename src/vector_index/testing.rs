//! Numbers and vectors for tests, and the answers that they should get.

use crate::model::Metric;
use crate::random::Random;
use crate::vector_index::aligned::Aligned;
use crate::vector_index::codes::{Codes, CodesBuilder, CodesView};
use crate::vector_index::distance::Query;
use crate::vector_index::scan::Neighbor;
use crate::vector_index::section::{Section, Vectors};

/// Vectors around `centres` points of a subspace: what embeddings are like.
pub fn clustered(random: &mut Random, rows: usize, dimension: usize, centres: usize) -> Vec<f32> {
    const LATENT: usize = 16;
    let basis: Vec<Vec<f32>> = (0..LATENT).map(|_| random.vector(dimension)).collect();
    let points: Vec<Vec<f32>> = (0..centres).map(|_| random.vector(LATENT)).collect();
    let mut all = Vec::with_capacity(rows * dimension);
    for _ in 0..rows {
        let point = &points[random.below(centres)];
        let mut row = vec![0.0; dimension];
        for (latent, basis) in point.iter().zip(&basis) {
            let weight = latent + 0.4 * random.unit();
            row.iter_mut().zip(basis).for_each(|(x, b)| *x += weight * b);
        }
        row.iter_mut().for_each(|x| *x += 0.05 * random.unit());
        all.extend(row);
    }
    all
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
