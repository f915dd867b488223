use std::sync::Arc;

use super::Metric;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Rows of float32 that are copied out block by block.
///
/// The memory behind an implementation may be written by others at any time, so what was copied is what is validated
/// and stored, and nothing is read twice.
pub trait Rows: Send + Sync {
    /// How many vectors.
    fn rows(&self) -> usize;
    /// Components of each.
    fn dimension(&self) -> usize;
    /// Copies rows from `first` on into `out`, whose length is a multiple of the dimension and within the rows.
    fn copy(&self, first: usize, out: &mut [f32]);
}

/// Rows that are owned.
#[derive(Debug, Clone)]
pub struct Matrix {
    values: Vec<f32>,
    dimension: usize,
}

impl Matrix {
    /// Takes row-major values.
    ///
    /// # Errors
    /// `InvalidVector` when the values do not make whole rows.
    pub fn new(values: Vec<f32>, dimension: usize) -> Result<Self> {
        if dimension == 0 || !values.len().is_multiple_of(dimension) {
            return Err(Error::new(
                ErrorKind::InvalidVector,
                format!("{} values do not make rows of dimension {dimension}", values.len()),
            ));
        }
        Ok(Self { values, dimension })
    }
}

impl Rows for Matrix {
    fn rows(&self) -> usize {
        self.values.len() / self.dimension
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn copy(&self, first: usize, out: &mut [f32]) {
        let start = first * self.dimension;
        out.copy_from_slice(&self.values[start..start + out.len()]);
    }
}

/// The embeddings of one call: one row per chunk, in order, or for some of the chunks.
#[derive(Clone)]
pub struct Embeddings {
    rows: Arc<dyn Rows>,
    /// For each chunk its row; `None`: as many rows as chunks.
    places: Option<Arc<[Option<usize>]>>,
}

impl Embeddings {
    /// Wraps any rows.
    ///
    /// # Errors
    /// `Limit` when the dimension is 0 or over [`limits::DIMENSION`].
    pub fn new(rows: Arc<dyn Rows>) -> Result<Self> {
        check_dimension(rows.dimension())?;
        Ok(Self { rows, places: None })
    }

    /// Says which chunks the rows are for. What is not said of a chunk asks nothing: its embedding, if it is stored with
    /// one, is no difference.
    ///
    /// # Errors
    /// `InvalidVector` when the chunks are not as many as the rows.
    pub fn of_chunks(self, given: &[bool]) -> Result<Self> {
        let mut rows = 0..self.rows();
        let places: Arc<[_]> = given.iter().map(|given| if *given { rows.next() } else { None }).collect();
        let chunks = given.iter().filter(|given| **given).count();
        if chunks != self.rows() {
            return Err(Error::new(
                ErrorKind::InvalidVector,
                format!("embeddings have {} rows for {chunks} chunks; give one row for each", self.rows()),
            ));
        }
        Ok(Self { places: Some(places), ..self })
    }

    /// How many chunks it speaks of.
    pub fn chunks(&self) -> usize {
        self.places.as_ref().map_or(self.rows(), |places| places.len())
    }

    /// The row of a chunk.
    pub fn row_of(&self, chunk: usize) -> Option<usize> {
        self.places.as_ref().map_or(Some(chunk), |places| places.get(chunk).copied().flatten())
    }

    /// How many vectors.
    pub fn rows(&self) -> usize {
        self.rows.rows()
    }

    /// Components of each.
    pub fn dimension(&self) -> usize {
        self.rows.dimension()
    }

    /// Bytes of all vectors.
    pub fn bytes(&self) -> usize {
        self.rows().saturating_mul(self.dimension()).saturating_mul(size_of::<f32>())
    }

    /// Copies rows from `first` on into `out`; see [`Rows::copy`].
    pub fn copy(&self, first: usize, out: &mut [f32]) {
        self.rows.copy(first, out);
    }

    /// An owned copy of all rows.
    pub fn to_owned(&self) -> Self {
        let mut values = vec![0.0; self.rows() * self.dimension()];
        self.copy(0, &mut values);
        let rows = Arc::new(Matrix { values, dimension: self.dimension() });
        Self { rows, places: self.places.clone() }
    }

    /// Looks at every row once, a staging buffer at a time.
    ///
    /// # Errors
    /// As [`check_vector`], naming the row.
    pub fn validate(&self, metric: Metric) -> Result<()> {
        let dimension = self.dimension();
        let block = rows_per_block(dimension);
        let mut staging = vec![0.0; block.min(self.rows()) * dimension];
        for first in (0..self.rows()).step_by(block.max(1)) {
            let rows = block.min(self.rows() - first);
            let staging = &mut staging[..rows * dimension];
            self.copy(first, staging);
            for (offset, vector) in staging.chunks_exact(dimension).enumerate() {
                check_vector(vector, metric).map_err(|e| e.context(format!("embeddings row {}", first + offset)))?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Embeddings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embeddings({} x {})", self.rows(), self.dimension())
    }
}

/// Rows of `dimension` that fill one staging buffer.
pub(crate) fn rows_per_block(dimension: usize) -> usize {
    (limits::STAGING_BYTES / (dimension.max(1) * size_of::<f32>())).max(1)
}

fn check_dimension(dimension: usize) -> Result<()> {
    if dimension == 0 || dimension > limits::DIMENSION {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("vectors have {dimension} components; from 1 to {} are allowed", limits::DIMENSION),
        ));
    }
    Ok(())
}

/// Refuses a vector that cannot be ranked.
///
/// # Errors
/// `InvalidVector` for NaN and infinity, and for zeros alone under cosine, which has no direction.
pub fn check_vector(vector: &[f32], metric: Metric) -> Result<()> {
    // A finite sum of squares proves every component finite; only an overflow or a bad value looks further.
    let squares: f32 = vector.iter().map(|x| x * x).sum();
    if !squares.is_finite() {
        if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
            return Err(Error::new(
                ErrorKind::InvalidVector,
                format!("component {at} is {}; every component must be finite", vector[at]),
            ));
        }
        if metric != Metric::L2 {
            return Err(Error::new(
                ErrorKind::InvalidVector,
                format!("its squared length overflows float32, so {metric} cannot rank it; scale the vectors down"),
            ));
        }
    }
    if metric == Metric::Cosine && squares < f32::MIN_POSITIVE {
        return Err(Error::new(
            ErrorKind::InvalidVector,
            "it is zero, or so small that its squared length is, and has no direction under cosine; leave the chunk \
             without embedding, or use l2 or ip",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embeddings(values: &[f32], dimension: usize) -> Embeddings {
        Embeddings::new(Arc::new(Matrix::new(values.to_vec(), dimension).unwrap())).unwrap()
    }

    #[test]
    fn bad_rows_are_named() {
        let error = embeddings(&[1.0, 2.0, f32::NAN, 0.0], 2).validate(Metric::L2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidVector);
        assert!(error.message().contains("row 1") && error.message().contains("NaN"), "{error}");
        assert!(embeddings(&[1.0, f32::NEG_INFINITY], 2).validate(Metric::Ip).is_err());
    }

    #[test]
    fn rows_may_be_those_of_some_chunks() {
        let some = embeddings(&[1.0, 2.0], 1).of_chunks(&[false, true, false, true]).unwrap().to_owned();
        assert_eq!((some.rows(), some.chunks()), (2, 4));
        assert_eq!((0..5).map(|chunk| some.row_of(chunk)).collect::<Vec<_>>(), [None, Some(0), None, Some(1), None]);
        assert_eq!(embeddings(&[1.0], 1).of_chunks(&[true, true]).unwrap_err().kind(), ErrorKind::InvalidVector);
        assert_eq!(embeddings(&[1.0], 1).row_of(0), Some(0));
    }

    #[test]
    fn zero_is_refused_under_cosine_alone() {
        let zero = embeddings(&[0.0, 0.0], 2);
        assert!(zero.validate(Metric::Cosine).is_err());
        assert!(zero.validate(Metric::L2).is_ok() && zero.validate(Metric::Ip).is_ok());
        assert!(embeddings(&[1e-30, 0.0], 2).validate(Metric::Cosine).is_err());
    }

    #[test]
    fn every_block_is_looked_at() {
        let dimension = 8192;
        let rows = rows_per_block(dimension) * 2 + 1;
        let mut values = vec![1.0; rows * dimension];
        *values.last_mut().unwrap() = f32::NAN;
        let error = embeddings(&values, dimension).validate(Metric::Cosine).unwrap_err();
        assert!(error.message().contains(&format!("row {}", rows - 1)), "{error}");
    }

    #[test]
    fn dimensions_are_limited() {
        let wide = Arc::new(Matrix::new(vec![1.0; 8193], 8193).unwrap());
        assert_eq!(Embeddings::new(wide).unwrap_err().kind(), ErrorKind::Limit);
    }
}
