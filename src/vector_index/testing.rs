//! Numbers and vectors for tests.

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
