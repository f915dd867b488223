//! Vectors as int8, each with a scale of its own, and how far that is from what they were.
//!
//! A vector x (made unit length for cosine) becomes x' = scale * c with integers c from -127 to 127. Beside the scale
//! its residual |x - x'| is kept, rounded up, and for l2 and ip its length. A query q is coded likewise, q', so that
//!
//! ```text
//! |q.x - q'.x'|  <=  |q| |x - x'| + |q - q'| |x'|
//! ```
//!
//! which `CodedQuery::bound` (`query.rs`) turns into a bound of the error of a *key*: what orders vectors as their
//! distance does, and is quick to have: -q.x for cosine and ip, |q - x|^2 for l2. The bound covers what float32 rounds
//! off here and in [`Query`](crate::vector_index::Query), too. A vector of which float32 cannot compute the distance
//! well (its length is above 1e15 or below 1e-15) has an infinite residual: no key excludes it. For cosine it has a code
//! like any other; otherwise it has none, and a graph does not know where it is.
//!
//! In bytes for each vector: its components rounded up to a multiple of 64, and 8 (cosine) or 12.

use crate::error::{Error, Result};
use crate::model::Metric;
use crate::vector_index::aligned::Aligned;
use crate::vector_index::kernels::{Components, Kernel, LARGEST, WIDTH, ZERO};
use crate::vector_index::section::{Section, damaged, numbers};

/// Lengths between which float32 computes squares and products without overflow and with its usual precision.
pub(super) const TAME: std::ops::RangeInclusive<f64> = 1e-15..=1e15;

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
        if tame || (self.metric == Metric::Cosine && length > 0.0) {
            self.scaled.clear();
            let unit = if self.metric == Metric::Cosine { length.recip() } else { 1.0 };
            self.scaled.extend(vector.iter().map(|&x| f64::from(x) * unit));
            let coded = code(&mut self.scaled, row);
            scale = coded.scale;
            if tame {
                residual = up(coded.residual);
            }
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

pub(super) fn length(vector: &[f32]) -> f64 {
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
pub(super) fn up(x: f64) -> f32 {
    let rounded = x as f32;
    if f64::from(rounded) < x { rounded.next_up() } else { rounded }
}

pub(super) struct Coded {
    pub scale: f32,
    pub residual: f64,
}

/// Codes numbers into the first bytes of a row; they become what the code leaves of them.
pub(super) fn code(scaled: &mut [f64], row: &mut [u8]) -> Coded {
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

/// What vectors are like: how far a key mostly is from the truth depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Typical {
    pub(super) residual: f32,
    pub(super) length: f32,
    /// How many of their components say something.
    pub(super) dimension: usize,
    /// Every vector has a code.
    pub(super) coded: bool,
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

    /// What the vectors are like, from the factors of all.
    pub fn typical(&self, dimension: usize) -> Typical {
        let mean = |numbers: &[f32]| {
            let finite = numbers.iter().map(|&x| f64::from(x)).filter(|x| x.is_finite());
            let (count, sum) = finite.fold((0.0, 0.0), |(count, sum), x| (count + 1.0, sum + x));
            up(sum / f64::max(count, 1.0))
        };
        let coded = self.metric == Metric::Cosine || self.residuals.iter().all(|residual| residual.is_finite());
        Typical { residual: mean(self.residuals), length: mean(self.lengths), dimension, coded }
    }

    pub(super) fn metric(&self) -> Metric {
        self.metric
    }

    /// The coded components of a vector.
    pub(super) fn row(&self, position: u32) -> Result<&'a [u8]> {
        let start = position as usize * self.stride;
        self.components.get(start..start + self.stride)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector_index::testing::Segment;

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
