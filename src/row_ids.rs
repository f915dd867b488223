//! The ids of rows that ascend, in as few bytes as they need.
//!
//! Ids that follow on one another without a gap take none: the first says them all. Of others each is kept as its
//! distance from the first, in 4 bytes, or in 8 where one is too far away for that.

/// Ids as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The first id, or 0 where there is none.
    pub first: i64,
    /// Bytes of each distance: 0, 4 or 8.
    pub width: usize,
    /// The distances, little-endian.
    pub bytes: Vec<u8>,
}

/// Ids that ascend, none of them twice.
pub fn write(ids: &[i64]) -> Written {
    let first = ids.first().copied().unwrap_or(0);
    let span = ids.last().map_or(0, |last| last.abs_diff(first));
    let width = match span {
        _ if span == ids.len().saturating_sub(1) as u64 => 0,
        0..=0xffff_ffff => 4,
        _ => 8,
    };
    let mut bytes = Vec::with_capacity(ids.len() * width);
    ids.iter().for_each(|id| bytes.extend_from_slice(&id.abs_diff(first).to_le_bytes()[..width]));
    Written { first, width, bytes }
}

/// Ids, read in place. Without any by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowIds<'a> {
    first: i64,
    len: usize,
    distances: Distances<'a>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Distances<'a> {
    #[default]
    NoGaps,
    Narrow(&'a [[u8; 4]]),
    Wide(&'a [[u8; 8]]),
}

impl<'a> RowIds<'a> {
    /// `len` ids of what [`write`] made. None where the numbers do not belong together.
    pub fn open(first: i64, width: usize, bytes: &'a [u8], len: usize) -> Option<Self> {
        let (distances, found, rest) = match width {
            0 => (Distances::NoGaps, len, bytes),
            4 => {
                let (narrow, rest) = bytes.as_chunks();
                (Distances::Narrow(narrow), narrow.len(), rest)
            }
            8 => {
                let (wide, rest) = bytes.as_chunks();
                (Distances::Wide(wide), wide.len(), rest)
            }
            _ => return None,
        };
        let in_range = width > 0 || first.checked_add_unsigned(len.saturating_sub(1) as u64).is_some();
        (found == len && rest.is_empty() && in_range).then_some(Self { first, len, distances })
    }

    /// How many.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The id at a position.
    #[inline]
    pub fn get(&self, position: usize) -> Option<i64> {
        let distance = match self.distances {
            Distances::NoGaps => (position < self.len).then_some(position as u64)?,
            Distances::Narrow(narrow) => u64::from(u32::from_le_bytes(*narrow.get(position)?)),
            Distances::Wide(wide) => u64::from_le_bytes(*wide.get(position)?),
        };
        Some(self.first.wrapping_add_unsigned(distance))
    }

    /// The last id.
    pub fn last(&self) -> Option<i64> {
        self.get(self.len.checked_sub(1)?)
    }

    /// The position of an id, or where it would be.
    pub fn position(&self, id: i64) -> Result<usize, usize> {
        self.position_from(0, id)
    }

    /// The same where it is known to be at `low` or behind it.
    pub fn position_from(&self, mut low: usize, id: i64) -> Result<usize, usize> {
        if matches!(self.distances, Distances::NoGaps) {
            let position = usize::try_from(i128::from(id) - i128::from(self.first)).unwrap_or(0);
            return if self.get(position) == Some(id) { Ok(position) } else { Err(position.max(low).min(self.len)) };
        }
        let mut high = self.len;
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.get(middle) {
                Some(here) if here == id => return Ok(middle),
                Some(here) if here < id => low = middle + 1,
                _ => high = middle,
            }
        }
        Err(low)
    }

    /// Whether each is greater than the one before, which damaged ones may not be.
    pub fn ascend(&self) -> bool {
        match self.distances {
            Distances::NoGaps => true,
            Distances::Narrow(_) | Distances::Wide(_) => self.iter().is_sorted_by(|a, b| a < b),
        }
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = i64> {
        (0..self.len).filter_map(move |position| self.get(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ids: &[i64], width: usize) {
        let written = write(ids);
        assert_eq!((written.width, written.bytes.len()), (width, width * ids.len()), "{ids:?}");
        let read = RowIds::open(written.first, written.width, &written.bytes, ids.len()).unwrap();
        assert!(read.iter().eq(ids.iter().copied()));
        assert_eq!(read.len(), ids.len());
        assert_eq!((read.last(), read.get(ids.len())), (ids.last().copied(), None));
        let asked = ids.iter().flat_map(|&id| [id.saturating_sub(1), id, id.saturating_add(1)]);
        for id in asked.chain([i64::MIN, 0, i64::MAX]) {
            assert_eq!(read.position(id), ids.binary_search(&id), "{id} in {ids:?}");
            let from = ids.partition_point(|&other| other < id) / 2;
            assert_eq!(read.position_from(from, id), ids.binary_search(&id), "{id} from {from} in {ids:?}");
        }
    }

    #[test]
    fn ids_are_read_as_they_were_written() {
        check(&[], 0);
        check(&[7], 0);
        check(&[-2, -1, 0, 1], 0);
        check(&[i64::MAX - 1, i64::MAX], 0);
        check(&[3, 5, 6, 1000], 4);
        check(&[i64::MAX - 5, i64::MAX], 4);
        check(&[-5, i64::from(u32::MAX) - 5], 4);
        check(&[-5, i64::from(u32::MAX) - 4], 8);
        check(&[i64::MIN, 0, i64::MAX], 8);
    }

    #[test]
    fn ids_that_do_not_ascend_are_told() {
        for (ids, ascend) in [(&[1u32, 5, 9][..], true), (&[1, 9, 5], false), (&[1, 5, 5], false), (&[], true)] {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            assert_eq!(RowIds::open(0, 4, &bytes, ids.len()).unwrap().ascend(), ascend);
        }
        assert!(RowIds::open(3, 0, &[], 9).unwrap().ascend());
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        for (first, width, bytes, len) in
            [(1, 4, 7, 2), (1, 4, 12, 2), (1, 8, 8, 2), (1, 1, 2, 2), (1, 0, 1, 2), (i64::MAX, 0, 0, 2)]
        {
            assert!(RowIds::open(first, width, &vec![0; bytes], len).is_none(), "{first} {width} {bytes} {len}");
        }
    }
}
