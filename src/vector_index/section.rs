//! Bytes of a segment, checked when they are first read.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::vector_index::distance::Query;
use crate::vector_index::kernels::prefetch;

/// What is asked before a range of a section is trusted.
pub type Verify<'a> = dyn Fn(Range<usize>) -> Result<()> + Sync + 'a;

/// Bytes that start at a multiple of 64 in memory, with a check of those that are read.
#[derive(Clone, Copy)]
pub struct Section<'a> {
    bytes: &'a [u8],
    verify: Option<&'a Verify<'a>>,
}

impl<'a> Section<'a> {
    /// Bytes that are trusted already.
    pub fn trusted(bytes: &'a [u8]) -> Self {
        Self { bytes, verify: None }
    }

    /// Bytes of which `verify` is asked for each range before it is read, as often as it is.
    pub fn verified(bytes: &'a [u8], verify: &'a Verify<'a>) -> Self {
        Self { bytes, verify: Some(verify) }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Asks for the check of a range.
    #[inline]
    pub fn check(&self, range: Range<usize>) -> Result<()> {
        self.verify.map_or(Ok(()), |verify| verify(range))
    }

    /// Some of the bytes, checked.
    #[inline]
    pub fn get(&self, range: Range<usize>) -> Result<&'a [u8]> {
        let found = self.bytes.get(range.clone()).ok_or_else(|| damaged("a part of it is missing"))?;
        self.check(range)?;
        Ok(found)
    }

    /// Whether every range is checked before it is read.
    pub(super) fn is_verified(&self) -> bool {
        self.verify.is_some()
    }

    /// All the bytes; not checked.
    pub(super) fn unchecked(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Numbers of little-endian bytes.
pub(super) fn numbers<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Result<&[T]> {
    bytemuck::try_cast_slice(bytes).map_err(|_| damaged("a part of it has a wrong size or place"))
}

/// The error of a segment whose bytes are not what was written.
pub(super) fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a vector index is damaged: {what}; it is to be built anew"))
}

/// Gives distances as a search without an index does.
pub trait Rescore {
    /// The distances from `query` to the vectors at some positions, each into its place of `distances`.
    fn rescore(&mut self, query: &Query<'_>, positions: &[u32], distances: &mut [f32]) -> Result<()>;
}

/// The float32 vectors of a segment, one after the other.
#[derive(Clone, Copy)]
pub struct Vectors<'a> {
    section: Section<'a>,
    numbers: &'a [f32],
    dimension: usize,
}

impl<'a> Vectors<'a> {
    /// `rows` vectors of `dimension` components.
    pub fn open(section: Section<'a>, rows: usize, dimension: usize) -> Result<Self> {
        let bytes = rows.checked_mul(dimension).and_then(|numbers| numbers.checked_mul(size_of::<f32>()));
        if dimension == 0 || bytes != Some(section.len()) {
            return Err(damaged("its float32 vectors have a wrong size"));
        }
        Ok(Self { section, numbers: numbers(section.unchecked())?, dimension })
    }

    fn row(&self, position: u32) -> Option<&'a [f32]> {
        let start = (position as usize).checked_mul(self.dimension)?;
        self.numbers.get(start..start.checked_add(self.dimension)?)
    }

    /// The vector at a position, checked.
    pub fn get(&self, position: u32) -> Result<&'a [f32]> {
        let row = self.row(position).ok_or_else(|| damaged("a float32 vector is missing"))?;
        let start = position as usize * size_of_val(row);
        self.section.check(start..start + size_of_val(row))?;
        Ok(row)
    }
}

impl Rescore for Vectors<'_> {
    fn rescore(&mut self, query: &Query<'_>, positions: &[u32], distances: &mut [f32]) -> Result<()> {
        let fetch = |place: usize| positions.get(place).and_then(|&position| self.row(position)).map(prefetch);
        fetch(0);
        for (place, (&position, distance)) in positions.iter().zip(distances).enumerate() {
            fetch(place + 1);
            *distance = query.distance(self.get(position)?);
        }
        Ok(())
    }
}
