//! Queries coded as vectors are, what they are compared by, and how far that may be from the truth.

use crate::error::Result;
use crate::model::Metric;
use crate::vector_index::codes::{CodesView, Factors, TAME, Typical, code, length, up};
use crate::vector_index::kernels::{Components, WIDTH, ZERO};

/// Vectors whose products are taken together.
const TOGETHER: usize = 32;

/// What vectors are held against by their codes: a query, or one of themselves.
pub(super) struct Probe {
    pub components: Components,
    pub metric: Metric,
    scale: f32,
    /// The square of its length for l2, else 0.
    pub square: f32,
}

impl Probe {
    /// The vector at a position.
    pub(super) fn of_row(codes: &CodesView<'_>, position: u32) -> Result<Self> {
        let components = Components::of_row(codes.row(position)?);
        let (scale, length) = codes.scale_and_length(position);
        Ok(Self { components, metric: codes.metric(), scale, square: Self::square(codes.metric(), length) })
    }

    /// Becomes the vector at another position.
    pub(super) fn turn_to(&mut self, codes: &CodesView<'_>, position: u32) -> Result<()> {
        let (scale, length) = codes.scale_and_length(position);
        (self.scale, self.square) = (scale, Self::square(self.metric, length));
        self.components.turn_to(codes.row(position)?);
        Ok(())
    }

    fn square(metric: Metric, length: f32) -> f32 {
        if metric == Metric::L2 { length * length } else { 0.0 }
    }

    /// The key of a vector, from its product with the probe.
    #[inline(always)]
    pub(super) fn key(&self, product: i32, scale: f32, length: f32) -> f32 {
        // In this order: the product of the scales could underflow.
        let product = product as f32 * self.scale * scale;
        match self.metric {
            Metric::Cosine | Metric::Ip => -product,
            Metric::L2 => self.square + length * length - 2.0 * product,
        }
    }

    /// The keys of vectors, no more than there is room for.
    #[inline]
    pub(super) fn keys(&self, codes: &CodesView<'_>, positions: &[u32], keys: &mut [f32]) -> Result<()> {
        let mut products = [0; TOGETHER];
        for (positions, keys) in positions.chunks(TOGETHER).zip(keys.chunks_mut(TOGETHER)) {
            codes.products_at(&self.components, positions, &mut products)?;
            for ((key, &position), &product) in keys.iter_mut().zip(positions).zip(&products) {
                let (scale, length) = codes.scale_and_length(position);
                *key = self.key(product, scale, length);
            }
        }
        Ok(())
    }

    /// The key of one vector.
    pub(super) fn key_at(&self, codes: &CodesView<'_>, position: u32) -> Result<f32> {
        let mut key = [0.0];
        self.keys(codes, &[position], &mut key)?;
        Ok(key[0])
    }
}

/// A query, coded as the vectors are.
pub struct CodedQuery {
    pub(super) probe: Probe,
    bound: Bound,
}

/// The error of a key is at most `of_residual * residual + of_length * length + of_square * (reach + length)^2 +
/// fixed`.
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
        let unit = match metric {
            Metric::Cosine if length > 0.0 => length.recip(),
            Metric::L2 | Metric::Ip if tame => 1.0,
            _ => 0.0,
        };
        let mut scaled: Vec<f64> = vector.iter().map(|&x| f64::from(x) * unit).collect();
        let mut row = vec![ZERO; stride];
        let coded = code(&mut scaled, &mut row);
        let length = if metric == Metric::Cosine { 1.0 } else { length };
        let square = if metric == Metric::L2 && tame { (length * length) as f32 } else { 0.0 };
        let bound = Bound::new(vector.len(), metric, length, coded.residual);
        let bound = if tame { bound } else { Bound { fixed: f32::INFINITY, ..bound } };
        let components = Components::of_row(&row);
        Self { probe: Probe { components, metric, scale: coded.scale, square }, bound }
    }

    /// How far the key of a vector may be from that of its distance.
    #[inline(always)]
    pub(super) fn bound(&self, residual: f32, length: f32) -> f32 {
        self.bound.of(residual, length)
    }

    /// How far the key of a vector mostly is from that of its distance: infinite for a query that has no bound.
    ///
    /// The bound has the errors of all components point the way of the query. They are independent of it and of each
    /// other, so what they come to has a deviation of the bound by the root of their number; this is three of those.
    pub(super) fn error(&self, typical: Typical) -> f32 {
        self.bound.error(typical)
    }

    /// The least that the keys of consecutive vectors may be, from their products and factors.
    #[inline]
    pub(super) fn lowers(&self, products: &[i32], factors: [&[f32]; 3], lowers: &mut [f32]) {
        let [scales, residuals, lengths] = factors;
        let rows = lowers.iter_mut().zip(products).zip(scales).zip(residuals);
        if self.probe.metric == Metric::Cosine {
            for (((lower, &product), &scale), &residual) in rows {
                *lower = self.probe.key(product, scale, 0.0) - self.bound(residual, 0.0);
            }
        } else {
            for ((((lower, &product), &scale), &residual), &length) in rows.zip(lengths) {
                *lower = self.probe.key(product, scale, length) - self.bound(residual, length);
            }
        }
    }

    /// The key of a distance that [`Query`](crate::vector_index::Query) gave.
    pub(super) fn key_of(&self, distance: f32) -> f32 {
        match self.probe.metric {
            Metric::Cosine => distance - 1.0 + 4.0 * f32::EPSILON,
            Metric::Ip => distance,
            Metric::L2 => distance * distance * (1.0 + 4.0 * f32::EPSILON),
        }
    }
}

/// [`CodedQuery::error`] for a vector at a position as the query.
pub(super) fn error_of_row(codes: &CodesView<'_>, position: u32, typical: Typical) -> f32 {
    let Factors { residual, length, .. } = codes.factors_of(position);
    let length = if codes.metric() == Metric::Cosine { 1.0 } else { length };
    Bound::new(typical.dimension, codes.metric(), f64::from(length), f64::from(residual)).error(typical)
}

impl Bound {
    #[inline(always)]
    fn of(self, residual: f32, length: f32) -> f32 {
        let Self { of_residual, of_length, of_square, reach, fixed } = self;
        let reach = reach + length;
        of_residual * residual + of_length * length + of_square * (reach * reach) + fixed
    }

    fn error(self, typical: Typical) -> f32 {
        let deviations = 3.0 / (typical.dimension as f32).sqrt();
        self.of(typical.residual, typical.length) * deviations.min(1.0)
    }

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
    use crate::random::Random;
    use crate::vector_index::distance::Query;
    use crate::vector_index::testing::Segment;

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
                    view.products(&query.probe.components, 0, &mut products).unwrap();
                    let exact = Query::new(&vector, metric);
                    let mut close = 0;
                    for (position, &product) in products.iter().enumerate() {
                        let factors = view.factors_of(position as u32);
                        let key = query.probe.key(product, factors.scale, factors.length);
                        let bound = query.bound(factors.residual, factors.length);
                        let distance = exact.distance(segment.row(position));
                        let error = (f64::from(key) - f64::from(query.key_of(distance))).abs();
                        assert!(error <= f64::from(bound), "{metric} {dimension} {magnitude}: {error:e} > {bound:e}");
                        let size = match metric {
                            Metric::Cosine => 1.0,
                            Metric::Ip => exact.distance(&vector).abs().sqrt() * factors.length,
                            Metric::L2 => factors.length * factors.length + query.probe.square,
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
            assert!(query.probe.key(0, 1.0, 1.0).is_finite());
        }
        let zeros = Segment::new(vec![0.0; 6], 3, Metric::L2);
        assert_eq!(zeros.view().factors_of(1).residual, 0.0);
    }
}
