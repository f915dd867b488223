//! Distances between float32 vectors, at the width the processor has.

use crate::model::Metric;

/// A query, ready to be held against many vectors.
pub struct Query<'q> {
    vector: &'q [f32],
    metric: Metric,
    /// 1 / |vector|, for cosine.
    scale: f32,
    kernel: Kernel,
}

impl<'q> Query<'q> {
    /// Prepares a vector that [`crate::model::check_vector`] accepted.
    pub fn new(vector: &'q [f32], metric: Metric) -> Self {
        let squares: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        Self { vector, metric, scale: squares.sqrt().recip() as f32, kernel: Kernel::detect() }
    }

    /// The distance of each row of `rows` whose bit is set in `mask`, given to `found` with its place.
    pub fn distances(&self, rows: &[f32], mask: &[u8], found: &mut dyn FnMut(usize, f32)) {
        let dimension = self.vector.len();
        for (place, row) in rows.chunks_exact(dimension).enumerate() {
            if mask[place / 8] & (1 << (place % 8)) != 0 {
                found(place, self.distance(row));
            }
        }
    }

    /// The distance to one vector.
    pub fn distance(&self, row: &[f32]) -> f32 {
        match self.metric {
            Metric::Cosine => {
                let (dot, squares) = self.kernel.dot_and_squares(self.vector, row);
                1.0 - dot * self.scale / squares.sqrt()
            }
            Metric::L2 => self.kernel.squared_difference(self.vector, row).sqrt(),
            Metric::Ip => -self.kernel.dot_and_squares(self.vector, row).0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Kernel {
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Kernel::Avx2;
        }
        Kernel::Portable
    }

    fn dot_and_squares(self, a: &[f32], b: &[f32]) -> (f32, f32) {
        match self {
            Kernel::Portable => dot_and_squares::<false>(a, b),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kernel exists only where `detect` found its features.
            #[allow(unsafe_code)]
            Kernel::Avx2 => unsafe { dot_and_squares_avx2(a, b) },
        }
    }

    fn squared_difference(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            Kernel::Portable => squared_difference::<false>(a, b),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kernel exists only where `detect` found its features.
            #[allow(unsafe_code)]
            Kernel::Avx2 => unsafe { squared_difference_avx2(a, b) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_and_squares_avx2(a: &[f32], b: &[f32]) -> (f32, f32) {
    dot_and_squares::<true>(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn squared_difference_avx2(a: &[f32], b: &[f32]) -> f32 {
    squared_difference::<true>(a, b)
}

/// Independent sums, so that additions overlap and the compiler fills whole registers.
const LANES: usize = 32;

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, sum: f32) -> f32 {
    // Without the instruction, mul_add is a library call.
    if FUSED { a.mul_add(b, sum) } else { a * b + sum }
}

#[inline(always)]
fn dot_and_squares<const FUSED: bool>(a: &[f32], b: &[f32]) -> (f32, f32) {
    let (mut dot, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (blocks_a, blocks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (rest_a, rest_b) = (blocks_a.remainder(), blocks_b.remainder());
    for (a, b) in blocks_a.zip(blocks_b) {
        for lane in 0..LANES {
            dot[lane] = multiply_add::<FUSED>(a[lane], b[lane], dot[lane]);
            squares[lane] = multiply_add::<FUSED>(b[lane], b[lane], squares[lane]);
        }
    }
    for (lane, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
        dot[lane] = multiply_add::<FUSED>(*a, *b, dot[lane]);
        squares[lane] = multiply_add::<FUSED>(*b, *b, squares[lane]);
    }
    (dot.iter().sum(), squares.iter().sum())
}

#[inline(always)]
fn squared_difference<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (blocks_a, blocks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (rest_a, rest_b) = (blocks_a.remainder(), blocks_b.remainder());
    for (a, b) in blocks_a.zip(blocks_b) {
        for lane in 0..LANES {
            let difference = a[lane] - b[lane];
            sums[lane] = multiply_add::<FUSED>(difference, difference, sums[lane]);
        }
    }
    for (lane, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
        let difference = a - b;
        sums[lane] = multiply_add::<FUSED>(difference, difference, sums[lane]);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn vector(dimension: usize, seed: u64) -> Vec<f32> {
        Random::new(seed).vector(dimension)
    }

    #[test]
    fn every_kernel_agrees_with_float64() {
        for dimension in [1, 2, 7, 31, 32, 33, 96, 384, 1000] {
            let (a, b) = (vector(dimension, 1), vector(dimension, 2));
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let (wide_a, wide_b) = (wide(&a), wide(&b));
            let dot: f64 = wide_a.iter().zip(&wide_b).map(|(a, b)| a * b).sum();
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            let l2 = wide_a.iter().zip(&wide_b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
            for kernel in [Kernel::Portable, Kernel::detect()] {
                for (metric, expected) in
                    [(Metric::Cosine, 1.0 - dot / norm(&wide_a) / norm(&wide_b)), (Metric::L2, l2), (Metric::Ip, -dot)]
                {
                    let query = Query { kernel, ..Query::new(&a, metric) };
                    let got = f64::from(query.distance(&b));
                    assert!((got - expected).abs() < 2e-5, "{metric} {dimension} {kernel:?}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn only_set_bits_are_looked_at() {
        let rows = vector(4 * 10, 3);
        let query = vector(4, 4);
        let mut places = Vec::new();
        Query::new(&query, Metric::L2).distances(&rows, &[0b1000_0001, 0b10], &mut |place, _| places.push(place));
        assert_eq!(places, [0, 7, 9]);
    }
}
