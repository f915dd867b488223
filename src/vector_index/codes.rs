//! Vectors as int8, each with a scale of its own, and how far that is from what they were.
//!
//! A vector x (made unit length for cosine) becomes x' = scale * c with integers c from -127 to 127. Beside the scale
//! its residual |x - x'| is kept, rounded up, and for l2 and ip its length. A query q is coded likewise, q', so that
//!
//! ```text
//! |q.x - q'.x'|  <=  |q| |x - x'| + |q - q'| |x'|
//! ```
//!
//! which [`CodedQuery::bound`] turns into a bound of the error of a *key*: what orders vectors as their distance does,
//! and is quick to have: -q.x for cosine and ip, |q - x|^2 for l2. The bound covers what float32 rounds off here and in
//! [`Query`](crate::vector_index::Query), too. A vector of which float32 cannot compute the distance well (its length is
//! above 1e15 or below 1e-15) has an infinite residual: no key excludes it.
//!
//! In bytes for each vector: its components rounded up to a multiple of 64, and 8 (cosine) or 12.

use crate::error::{Error, Result};
use crate::model::Metric;
use crate::vector_index::aligned::Aligned;
use crate::vector_index::kernels::{Components, Kernel, LARGEST, WIDTH, ZERO};
use crate::vector_index::section::{Section, damaged, numbers};

/// Lengths between which float32 computes squares and products without overflow and with its usual precision.
const TAME: std::ops::RangeInclusive<f64> = 1e-15..=1e15;

/// Factors beside the codes: scale, residual, and length where the metric needs it.
fn factors(metric: Metric) -> usize {
    if metric == Metric::Cosine { 2 } else { 3 }
}

/// The sections of coded vectors.
pub struct Codes {
    components: Aligned,
    factors: Vec<f32>,
}

impl Codes {
    /// The components, to be written to a file and given to [`CodesView::open`].
    pub fn components(&self) -> &[u8] {
        self.components.as_slice()
    }

    /// The factors, likewise.
    pub fn factors(&self) -> &[u8] {
        bytemuck::cast_slice(&self.factors)
    }
}

/// Codes vectors one after the other.
pub struct CodesBuilder {
    codes: Codes,
    metric: Metric,
    dimension: usize,
    rows: usize,
    filled: usize,
    scaled: Vec<f64>,
}

impl CodesBuilder {
    /// For `rows` vectors of `dimension` components.
    pub fn new(dimension: usize, metric: Metric, rows: usize) -> Self {
        let components = Aligned::new(ZERO, rows * dimension.next_multiple_of(WIDTH));
        let codes = Codes { components, factors: vec![0.0; rows * factors(metric)] };
        Self { codes, metric, dimension, rows, filled: 0, scaled: Vec::new() }
    }

    /// Adds the next vector.
    pub fn push(&mut self, vector: &[f32]) -> Result<()> {
        if vector.len() != self.dimension || self.filled == self.rows {
            return Err(Error::internal(format!(
                "vector {} of {} for a vector index has {} of {} components",
                self.filled,
                self.rows,
                vector.len(),
                self.dimension
            )));
        }
        let stride = self.dimension.next_multiple_of(WIDTH);
        let row = &mut self.codes.components.as_mut_slice()[self.filled * stride..][..stride];
        let length = length(vector);
        let tame = TAME.contains(&length) || (length == 0.0 && self.metric != Metric::Cosine);
        let (mut scale, mut residual) = (0.0, f32::INFINITY);
        if tame {
            self.scaled.clear();
            let unit = if self.metric == Metric::Cosine { length.recip() } else { 1.0 };
            self.scaled.extend(vector.iter().map(|&x| f64::from(x) * unit));
            let coded = code(&mut self.scaled, row);
            (scale, residual) = (coded.scale, up(coded.residual));
        }
        let factors = &mut self.codes.factors;
        factors[self.filled] = scale;
        factors[self.rows + self.filled] = residual;
        if self.metric != Metric::Cosine {
            factors[2 * self.rows + self.filled] = if tame { length as f32 } else { 0.0 };
        }
        self.filled += 1;
        Ok(())
    }

    /// The sections.
    pub fn finish(self) -> Result<Codes> {
        if self.filled != self.rows {
            return Err(Error::internal(format!("{} of {} vectors came to a vector index", self.filled, self.rows)));
        }
        Ok(self.codes)
    }
}

fn length(vector: &[f32]) -> f64 {
    sum(vector, |x| f64::from(x) * f64::from(x)).sqrt()
}

/// In lanes, so that no addition waits for the one before.
fn sum<T: Copy>(numbers: &[T], term: impl Fn(T) -> f64) -> f64 {
    let (blocks, rest) = numbers.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, &number)| *sum += term(number));
    }
    sums.iter_mut().zip(rest).for_each(|(sum, &number)| *sum += term(number));
    sums.iter().sum()
}

/// The next float32 that is not less.
fn up(x: f64) -> f32 {
    let rounded = x as f32;
    if f64::from(rounded) < x { rounded.next_up() } else { rounded }
}

struct Coded {
    scale: f32,
    residual: f64,
}

/// Codes numbers into the first bytes of a row; they become what the code leaves of them.
fn code(scaled: &mut [f64], row: &mut [u8]) -> Coded {
    /// Added and taken away again, it rounds to the nearest integer: no fraction has room beside it.
    const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
    let largest = scaled.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let scale = (largest / f64::from(LARGEST)) as f32;
    // Zeros alone have no scale.
    let inverse = if scale > 0.0 { f64::from(scale).recip() } else { 0.0 };
    for (x, byte) in scaled.iter_mut().zip(row) {
        // A scale that was rounded down could make it 128.
        let component = ((*x * inverse + ROUND) - ROUND).clamp(-127.0, 127.0);
        *byte = (component as i32 + i32::from(ZERO)) as u8;
        *x -= component * f64::from(scale);
    }
    Coded { scale, residual: sum(scaled, |x| x * x).sqrt() }
}

/// Coded vectors, read in place.
#[derive(Clone, Copy)]
pub struct CodesView<'a> {
    components: Section<'a>,
    scales: &'a [f32],
    residuals: &'a [f32],
    /// None for cosine, where each is 1.
    lengths: &'a [f32],
    stride: usize,
    metric: Metric,
    kernel: Kernel,
}

impl<'a> CodesView<'a> {
    /// `rows` vectors from the sections of [`Codes`]. The factors are checked now, the components when they are read.
    pub fn open(
        components: Section<'a>,
        factors_of: Section<'a>,
        rows: usize,
        dimension: usize,
        metric: Metric,
    ) -> Result<Self> {
        let stride = dimension.checked_next_multiple_of(WIDTH).filter(|&stride| stride > 0);
        let size = stride.and_then(|stride| stride.checked_mul(rows));
        let Some(stride) = stride.filter(|_| size == Some(components.len()) && u32::try_from(rows).is_ok()) else {
            return Err(damaged("its codes have a wrong size"));
        };
        let all: &[f32] = numbers(factors_of.get(0..factors_of.len())?)?;
        if Some(all.len()) != rows.checked_mul(factors(metric)) {
            return Err(damaged("its factors have a wrong size"));
        }
        let (scales, rest) = all.split_at(rows);
        let (residuals, lengths) = rest.split_at(rows);
        Ok(Self { components, scales, residuals, lengths, stride, metric, kernel: Kernel::detect() })
    }

    /// How many vectors there are.
    pub fn rows(&self) -> usize {
        self.scales.len()
    }

    pub(super) fn metric(&self) -> Metric {
        self.metric
    }

    /// The coded components of a vector.
    pub(super) fn row(&self, position: u32) -> Result<&'a [u8]> {
        let start = position as usize * self.stride;
        self.components.get(start..start + self.stride)
    }

    /// The components of a vector as those of a query.
    pub(super) fn query_of(&self, position: u32) -> Result<Components> {
        Ok(Components::of_row(self.row(position)?))
    }

    pub(super) fn factors_of(&self, position: u32) -> Factors {
        let at = |numbers: &[f32]| numbers.get(position as usize).copied().unwrap_or(0.0);
        Factors { scale: at(self.scales), residual: at(self.residuals), length: at(self.lengths) }
    }

    #[inline(always)]
    pub(super) fn scale_and_length(&self, position: u32) -> (f32, f32) {
        let at = |numbers: &[f32]| numbers.get(position as usize).copied().unwrap_or(0.0);
        (at(self.scales), at(self.lengths))
    }

    /// The longest vector.
    pub(super) fn longest(&self) -> f32 {
        self.lengths.iter().fold(0.0, |longest: f32, &length| longest.max(length))
    }

    /// The products of a query with consecutive rows.
    pub(super) fn products(&self, query: &Components, first: usize, out: &mut [i32]) -> Result<()> {
        let rows = self.components.get(first * self.stride..(first + out.len()) * self.stride)?;
        self.kernel.products(query, rows, out)
    }

    /// The products of a query with rows anywhere.
    #[inline]
    pub(super) fn products_at(&self, query: &Components, positions: &[u32], out: &mut [i32]) -> Result<()> {
        if self.components.is_verified() {
            for &position in positions {
                self.row(position)?;
            }
        }
        self.kernel.products_at(query, self.components.unchecked(), positions, out)
    }

    /// The factors of consecutive rows: scales, residuals, and lengths, of which there are none for cosine.
    pub(super) fn factors(&self, first: usize, count: usize) -> [&'a [f32]; 3] {
        [self.scales, self.residuals, self.lengths].map(|numbers| numbers.get(first..first + count).unwrap_or_default())
    }
}

/// What a vector has beside its components.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    pub scale: f32,
    pub residual: f32,
    pub length: f32,
}

/// A query, coded as the vectors are.
pub struct CodedQuery {
    pub(super) components: Components,
    metric: Metric,
    scale: f32,
    /// |q|^2 for l2, else 0.
    square: f32,
    bound: Bound,
}

/// The error of a key is at most `of_residual * residual + of_length * length + of_square * (reach + length)^2 + fixed`.
#[derive(Debug, Clone, Copy)]
struct Bound {
    of_residual: f32,
    of_length: f32,
    of_square: f32,
    reach: f32,
    fixed: f32,
}

impl CodedQuery {
    /// For a vector that [`crate::model::check_vector`] accepted.
    pub fn new(vector: &[f32], metric: Metric) -> Self {
        let stride = vector.len().next_multiple_of(WIDTH);
        let length = length(vector);
        let tame = TAME.contains(&length) || (length == 0.0 && metric != Metric::Cosine);
        let unit = if metric == Metric::Cosine { length.recip() } else { 1.0 };
        let mut scaled: Vec<f64> = vector.iter().map(|&x| if tame { f64::from(x) * unit } else { 0.0 }).collect();
        let mut row = vec![ZERO; stride];
        let coded = code(&mut scaled, &mut row);
        let length = if metric == Metric::Cosine { 1.0 } else { length };
        let square = if metric == Metric::L2 && tame { (length * length) as f32 } else { 0.0 };
        let bound = Bound::new(vector.len(), metric, length, coded.residual);
        let bound = if tame { bound } else { Bound { fixed: f32::INFINITY, ..bound } };
        Self { components: Components::of_row(&row), metric, scale: coded.scale, square, bound }
    }

    /// The key of a vector, from its product with the query.
    #[inline(always)]
    pub(super) fn key(&self, product: i32, scale: f32, length: f32) -> f32 {
        // In this order: the product of the scales could underflow.
        let product = product as f32 * self.scale * scale;
        match self.metric {
            Metric::Cosine | Metric::Ip => -product,
            Metric::L2 => self.square + length * length - 2.0 * product,
        }
    }

    /// How far the key of a vector may be from that of its distance.
    #[inline(always)]
    pub(super) fn bound(&self, residual: f32, length: f32) -> f32 {
        let Bound { of_residual, of_length, of_square, reach, fixed } = self.bound;
        let reach = reach + length;
        of_residual * residual + of_length * length + of_square * (reach * reach) + fixed
    }

    /// The least that the keys of consecutive vectors may be, from their products and factors.
    #[inline]
    pub(super) fn lowers(&self, products: &[i32], factors: [&[f32]; 3], lowers: &mut [f32]) {
        let [scales, residuals, lengths] = factors;
        let rows = lowers.iter_mut().zip(products).zip(scales).zip(residuals);
        if self.metric == Metric::Cosine {
            for (((lower, &product), &scale), &residual) in rows {
                *lower = self.key(product, scale, 0.0) - self.bound(residual, 0.0);
            }
        } else {
            for ((((lower, &product), &scale), &residual), &length) in rows.zip(lengths) {
                *lower = self.key(product, scale, length) - self.bound(residual, length);
            }
        }
    }

    /// The key of a distance that [`Query`](crate::vector_index::Query) gave.
    pub(super) fn key_of(&self, distance: f32) -> f32 {
        match self.metric {
            Metric::Cosine => distance - 1.0 + 4.0 * f32::EPSILON,
            Metric::Ip => distance,
            Metric::L2 => distance * distance * (1.0 + 4.0 * f32::EPSILON),
        }
    }
}

impl Bound {
    fn new(dimension: usize, metric: Metric, length: f64, residual: f64) -> Self {
        // Summing in 32 lanes rounds each term at most dimension / 32 + 32 times, by half an epsilon; twice that, with
        // some to spare, covers the squares that a cosine divides by, the keys, and the bound itself.
        let rounding = 2.0 * (dimension as f64 / 32.0 + 64.0) * f64::from(f32::EPSILON);
        // What underflows to nothing.
        let tiny = dimension as f64 * 1e-44;
        let (of_residual, of_length, of_square, fixed) = match metric {
            Metric::Cosine => (length + residual, 0.0, 0.0, residual + rounding),
            Metric::Ip => (length + residual, residual + rounding * length, 0.0, tiny),
            Metric::L2 => (2.0 * (length + residual), 2.0 * residual, rounding, tiny),
        };
        // The sums of a bound are rounded as well.
        let safe = |x: f64| up(x * (1.0 + 1e-5));
        Self {
            of_residual: safe(of_residual),
            of_length: safe(of_length),
            of_square: safe(of_square),
            reach: safe(length),
            fixed: safe(fixed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector_index::distance::Query;
    use crate::vector_index::testing::{Random, Segment};

    #[test]
    fn the_bound_holds_and_is_not_idle() {
        let mut random = Random::new(3);
        for metric in [Metric::Cosine, Metric::L2, Metric::Ip] {
            for dimension in [1, 2, 3, 64, 100, 384, 1000] {
                for magnitude in [1e-14f32, 1e-3, 1.0, 1e6, 1e13] {
                    let rows = 50;
                    let mut vectors = random.vector(dimension * rows);
                    vectors.iter_mut().for_each(|x| *x *= magnitude);
                    vectors[..dimension].fill(magnitude);
                    let segment = Segment::new(vectors, dimension, metric);
                    let view = segment.view();
                    let vector = random.vector(dimension);
                    let query = CodedQuery::new(&vector, metric);
                    let mut products = vec![0; rows];
                    view.products(&query.components, 0, &mut products).unwrap();
                    let exact = Query::new(&vector, metric);
                    let mut close = 0;
                    for (position, &product) in products.iter().enumerate() {
                        let factors = view.factors_of(position as u32);
                        let key = query.key(product, factors.scale, factors.length);
                        let bound = query.bound(factors.residual, factors.length);
                        let distance = exact.distance(segment.row(position));
                        let error = (f64::from(key) - f64::from(query.key_of(distance))).abs();
                        assert!(error <= f64::from(bound), "{metric} {dimension} {magnitude}: {error:e} > {bound:e}");
                        let size = match metric {
                            Metric::Cosine => 1.0,
                            Metric::Ip => exact.distance(&vector).abs().sqrt() * factors.length,
                            Metric::L2 => factors.length * factors.length + query.square,
                        };
                        close += usize::from(bound < 0.1 * size);
                    }
                    // Of one component little is left after its scale.
                    assert!(close > rows / 2, "{metric} {dimension} {magnitude}: {close}");
                }
            }
        }
    }

    #[test]
    fn what_float32_cannot_hold_is_never_excluded() {
        let row = |x: f32| [x, x, 0.0];
        for (metric, vector) in
            [(Metric::L2, row(1e30)), (Metric::Ip, row(1e18)), (Metric::Cosine, row(1e-18)), (Metric::L2, row(1e-40))]
        {
            let factors = Segment::new(vector.to_vec(), 3, metric).view().factors_of(0);
            assert_eq!(
                CodedQuery::new(&[1.0, 2.0, 3.0], metric).bound(factors.residual, factors.length),
                f32::INFINITY
            );
            let query = CodedQuery::new(&vector, metric);
            assert_eq!(query.bound(0.1, 1.0), f32::INFINITY);
            assert!(query.key(0, 1.0, 1.0).is_finite());
        }
        let zeros = Segment::new(vec![0.0; 6], 3, Metric::L2);
        assert_eq!(zeros.view().factors_of(1).residual, 0.0);
    }

    #[test]
    fn sections_of_a_wrong_size_are_refused() {
        let codes = Segment::new(vec![1.0, 2.0, 3.0, 4.0], 2, Metric::L2).codes;
        let open = |components, factors, rows, dimension| {
            CodesView::open(Section::trusted(components), Section::trusted(factors), rows, dimension, Metric::L2)
        };
        assert!(open(codes.components(), codes.factors(), 2, 2).is_ok());
        for (rows, dimension) in [(3, 2), (1, 2), (2, 65), (2, 0), (usize::MAX, 2), (2, usize::MAX), (0, 2)] {
            assert!(open(codes.components(), codes.factors(), rows, dimension).is_err(), "{rows} {dimension}");
        }
        assert!(open(&codes.components()[1..], codes.factors(), 2, 2).is_err());
        assert!(open(codes.components(), &codes.factors()[4..], 2, 2).is_err());
        let mut builder = CodesBuilder::new(2, Metric::Ip, 1);
        assert!(builder.push(&[1.0]).is_err());
        builder.push(&[1.0, 2.0]).unwrap();
        assert!(builder.push(&[1.0, 2.0]).is_err());
        assert!(CodesBuilder::new(2, Metric::Ip, 1).finish().is_err());
    }
}
