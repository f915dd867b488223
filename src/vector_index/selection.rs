//! Which positions of a segment a search may find.

use crate::error::Result;
use crate::vector_index::section::damaged;

/// The positions that a filter lets through.
#[derive(Debug, Clone, Copy)]
pub enum Among<'a> {
    All,
    /// One bit for each position, the lowest first; positions beyond the last word are not let through.
    Bits(&'a [u64]),
    /// Themselves, ascending.
    Positions(&'a [u32]),
}

/// The positions that a search may find: those let through that are not dead.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    among: Among<'a>,
    dead: &'a [u64],
    live: usize,
}

impl<'a> Selection<'a> {
    /// Of `rows` positions, those of `among` whose bit in `dead` is not set; positions beyond its last word live.
    pub fn new(rows: usize, among: Among<'a>, dead: &'a [u64]) -> Result<Self> {
        let mut selection = Self { among, dead, live: 0 };
        selection.live = match among {
            Among::Positions(positions) => {
                if positions.last().is_some_and(|&last| last as usize >= rows) || !positions.is_sorted() {
                    return Err(damaged("a filter names positions that it does not have"));
                }
                positions.iter().filter(|&&position| selection.has(position)).count()
            }
            Among::All if dead.is_empty() => rows,
            _ => (0..rows.div_ceil(64)).map(|word| selection.word(word, rows).count_ones() as usize).sum(),
        };
        Ok(selection)
    }

    /// Every one of `rows` positions.
    pub fn all(rows: usize) -> Self {
        Self { among: Among::All, dead: &[], live: rows }
    }

    /// How many positions there are in it.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The positions themselves, where they were given so.
    pub(super) fn positions(&self) -> Option<&'a [u32]> {
        match self.among {
            Among::Positions(positions) => Some(positions),
            _ => None,
        }
    }

    /// Whether a position is in it, other than one that `Positions` do not have.
    #[inline]
    pub(super) fn has(&self, position: u32) -> bool {
        let (word, bit) = (position as usize / 64, 1u64 << (position % 64));
        let let_through = match self.among {
            Among::Bits(bits) => bits.get(word).is_some_and(|bits| bits & bit != 0),
            Among::All | Among::Positions(_) => true,
        };
        let_through && self.dead.get(word).is_none_or(|dead| dead & bit == 0)
    }

    /// The bits of 64 positions of `rows`, from `word * 64`; for sets that are not given as positions.
    #[inline]
    pub(super) fn word(&self, word: usize, rows: usize) -> u64 {
        let there = rows.saturating_sub(word * 64);
        let exist = if there >= 64 { u64::MAX } else { (1 << there) - 1 };
        let let_through = match self.among {
            Among::All => u64::MAX,
            Among::Bits(bits) => bits.get(word).copied().unwrap_or(0),
            Among::Positions(_) => 0,
        };
        exist & let_through & !self.dead.get(word).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_positions_and_the_dead_agree() {
        let dead = [0b10, 0, 1];
        let positions: Vec<u32> = (0..150).step_by(3).collect();
        let mut bits = [0u64; 3];
        positions.iter().for_each(|&p| bits[p as usize / 64] |= 1 << (p % 64));
        let expected: Vec<u32> = positions.iter().copied().filter(|&p| p != 1 && p != 128).collect();
        for among in [Among::Bits(&bits), Among::Positions(&positions)] {
            let selection = Selection::new(150, among, &dead).unwrap();
            assert_eq!(selection.len(), expected.len());
            assert!(expected.iter().all(|&p| selection.has(p)));
            assert!(!selection.has(128));
        }
        let selection = Selection::new(150, Among::Bits(&bits), &dead).unwrap();
        let words: u32 = (0..3).map(|word| selection.word(word, 150).count_ones()).sum();
        assert_eq!(words as usize, expected.len());
        assert_eq!(Selection::new(130, Among::All, &dead).unwrap().len(), 128);
        assert_eq!(Selection::all(7).len(), 7);
        assert!(Selection::new(100, Among::Positions(&[100]), &[]).is_err());
        assert!(Selection::new(100, Among::Positions(&[5, 4]), &[]).is_err());
        assert!(Selection::new(0, Among::Bits(&[u64::MAX]), &[]).unwrap().is_empty());
    }
}
