//! The rows that a filter lets through.

use std::ops::Range;

use crate::row_ids::RowIds;

/// Words of bits that a set may have however few its rows are: 512 KiB.
const WORDS: usize = 1 << 16;
/// Groups of words that it may have however few its rows are: 64 KiB, for rowids that span 17 million.
const GROUPS: usize = 1 << 12;

/// A set of rowids: one bit for each between the least and the greatest. Where they are far apart, words without any bit
/// are left out; where they are further apart still, it is the rowids themselves.
#[derive(Debug, Clone, Default)]
pub struct RowSet {
    first: i64,
    words: Vec<u64>,
    /// Which of 64 words are there; empty where all are.
    groups: Vec<Group>,
    /// Ascending; only where there are no words.
    rows: Vec<i64>,
    len: u64,
}

/// Of 64 words, those that are there.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    there: u64,
    /// Where the first of them is.
    at: u32,
}

impl Group {
    fn place(self, word: usize) -> Option<usize> {
        let bit = 1 << (word % 64);
        (self.there & bit != 0).then(|| self.at as usize + (self.there & (bit - 1)).count_ones() as usize)
    }
}

impl RowSet {
    /// From rowids in any order, each as often as it likes.
    pub fn from_rows(rows: &[i64]) -> Self {
        let (Some(&first), Some(&last)) = (rows.iter().min(), rows.iter().max()) else { return Self::default() };
        let span = last.abs_diff(first) / 64;
        if span >= (WORDS + rows.len() / 4) as u64 {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows.dedup();
            if span / 64 < (GROUPS + rows.len()) as u64 && rows.len() < u32::MAX as usize {
                return Self::grouped(&rows, span as usize / 64 + 1);
            }
            return Self { len: rows.len() as u64, rows, ..Self::default() };
        }
        let mut words = vec![0u64; span as usize + 1];
        for row in rows {
            let bit = row.abs_diff(first) as usize;
            words[bit / 64] |= 1 << (bit % 64);
        }
        let len = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { first, words, len, ..Self::default() }
    }

    /// From rowids that ascend, in so many groups.
    fn grouped(rows: &[i64], groups: usize) -> Self {
        let first = rows.first().copied().unwrap_or_default();
        let mut set = Self { first, groups: vec![Group::default(); groups], len: rows.len() as u64, ..Self::default() };
        let mut last = None;
        for row in rows {
            let bit = row.abs_diff(first) as usize;
            let word = bit / 64;
            if last != Some(word) {
                last = Some(word);
                let group = &mut set.groups[word / 64];
                if group.there == 0 {
                    group.at = set.words.len() as u32;
                }
                group.there |= 1 << (word % 64);
                set.words.push(0);
            }
            if let Some(bits) = set.words.last_mut() {
                *bits |= 1 << (bit % 64);
            }
        }
        set.words.shrink_to_fit();
        set
    }

    /// The bits of 64 rows.
    fn word(&self, word: usize) -> u64 {
        let place = if self.groups.is_empty() {
            Some(word)
        } else {
            self.groups.get(word / 64).and_then(|group| group.place(word))
        };
        place.and_then(|place| self.words.get(place)).copied().unwrap_or(0)
    }

    /// Those that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let rows: Vec<i64> = self.iter().filter(|&row| other.contains(row)).collect();
        Self::from_rows(&rows)
    }

    /// Those that are in either.
    pub fn union(&self, other: &Self) -> Self {
        let rows: Vec<i64> = self.iter().chain(other.iter()).collect();
        Self::from_rows(&rows)
    }

    /// Those that are not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        let rows: Vec<i64> = self.iter().filter(|&row| !other.contains(row)).collect();
        Self::from_rows(&rows)
    }

    /// One bit for each of `rows`: whether it is among them.
    pub fn bits_of(&self, rows: RowIds<'_>) -> Vec<u64> {
        if self.rows.is_empty() {
            let word = |from: usize| self.bits_within(rows, from..rows.len().min(from + 64));
            return (0..rows.len()).step_by(64).map(word).collect();
        }
        let mut bits = vec![0; rows.len().div_ceil(64)];
        for position in self.rows.iter().filter_map(|&row| rows.position(row).ok()) {
            bits[position / 64] |= 1 << (position % 64);
        }
        bits
    }

    /// The bits of at most 64 rows. Where there is no gap between them they are bits of the set as they are.
    fn bits_within(&self, rows: RowIds<'_>, range: Range<usize>) -> u64 {
        let (Some(first), Some(last)) = (rows.get(range.start), range.end.checked_sub(1).and_then(|at| rows.get(at)))
        else {
            return 0;
        };
        let len = range.len();
        if last.abs_diff(first) == len as u64 - 1 {
            return self.bits_from(first) & (u64::MAX >> (64 - len));
        }
        let half = len / 2;
        let (low, high) = (range.start..range.start + half, range.start + half..range.end);
        self.bits_within(rows, low) | self.bits_within(rows, high) << half
    }

    /// The bits of 64 rows from `first` on.
    fn bits_from(&self, first: i64) -> u64 {
        let behind = i128::from(first) - i128::from(self.first);
        let at = |word: i128| usize::try_from(word).map_or(0, |word| self.word(word));
        let (word, shift) = (behind.div_euclid(64), behind.rem_euclid(64) as u32);
        let high = if shift == 0 { 0 } else { at(word + 1) << (64 - shift) };
        at(word) >> shift | high
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        (self.words.len() + self.rows.len()) * size_of::<u64>() + self.groups.len() * size_of::<Group>()
    }

    /// Whether a row is among them.
    pub fn contains(&self, row: i64) -> bool {
        if !self.rows.is_empty() {
            return self.rows.binary_search(&row).is_ok();
        }
        let bit = row.abs_diff(self.first) as usize;
        row >= self.first && self.word(bit / 64) & (1 << (bit % 64)) != 0
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        // The numbers of the words: of a group those that are there, without groups all.
        let numbers = self.groups.iter().zip(0i64..).flat_map(|(group, index)| ones(group.there, index * 64));
        let all = if self.groups.is_empty() { self.words.len() as i64 } else { 0 };
        let bits =
            self.words.iter().zip(numbers.chain(0..all)).flat_map(|(&word, index)| ones(word, self.first + index * 64));
        bits.chain(self.rows.iter().copied())
    }
}

/// The places of the bits of a word, from that of its first.
fn ones(word: u64, base: i64) -> impl Iterator<Item = i64> {
    let mut left = word;
    std::iter::from_fn(move || {
        let bit = (left != 0).then(|| left.trailing_zeros())?;
        left &= left - 1;
        Some(base + i64::from(bit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row_ids;

    fn bits_of(set: &RowSet, rows: &[i64]) -> Vec<u64> {
        let row_ids::Written { first, width, bytes } = row_ids::write(rows);
        set.bits_of(RowIds::open(first, width, &bytes, rows.len()).unwrap())
    }

    #[test]
    fn holds_what_it_was_given() {
        let rows = [3, 4, 66, 67, 1000];
        let set = RowSet::from_rows(&[67, 3, 1000, 4, 3, 66]);
        assert_eq!(set.iter().collect::<Vec<_>>(), rows);
        assert_eq!(set.len(), 5);
        let inside: Vec<i64> = (-5..2000).filter(|&row| set.contains(row)).collect();
        assert_eq!(inside, rows);
        let other = RowSet::from_rows(&[1, 66, 1000, 2000]);
        assert_eq!(set.intersection(&other).iter().collect::<Vec<_>>(), [66, 1000]);
        assert_eq!(set.difference(&other).iter().collect::<Vec<_>>(), [3, 4, 67]);
        assert_eq!(set.union(&other).iter().collect::<Vec<_>>(), [1, 3, 4, 66, 67, 1000, 2000]);
        let far = RowSet::from_rows(&[i64::MAX, 5, i64::MIN, 5]);
        assert_eq!(far.iter().collect::<Vec<_>>(), [i64::MIN, 5, i64::MAX]);
        assert!(far.bytes() < 100 && far.len() == 3 && far.contains(i64::MIN) && !far.contains(6));
        assert_eq!(far.intersection(&RowSet::from_rows(&[1, 5])).iter().collect::<Vec<_>>(), [5]);
        let every: Vec<i64> = (0..300).collect();
        let sparse: Vec<i64> = (0..300).map(|row| row * 5).collect();
        let gaps: Vec<i64> = (0..300).filter(|row| ![3, 66, 67, 100].contains(row)).collect();
        let none = RowSet::default();
        for (set, rows) in
            [&set, &other, &far, &none].into_iter().flat_map(|set| [&every, &sparse, &gaps].map(|rows| (set, rows)))
        {
            for from in [0, 1, 5, 64, 65, 130] {
                let bits = bits_of(set, &rows[from..]);
                assert_eq!(bits.len(), (rows.len() - from).div_ceil(64));
                let expected: Vec<bool> = rows[from..].iter().map(|&row| set.contains(row)).collect();
                let got: Vec<bool> = (0..rows.len() - from).map(|at| bits[at / 64] >> (at % 64) & 1 == 1).collect();
                assert_eq!(got, expected);
            }
        }
        assert!(!RowSet::default().contains(0) && RowSet::from_rows(&[]).iter().next().is_none());
    }

    #[test]
    fn rows_far_apart_take_the_room_of_those_that_are_there() {
        let mut state = 1u64;
        let mut random = |below: i64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as i64 % below
        };
        let scattered: Vec<i64> = (0..20_000).map(|_| 7 + random(60_000_000)).collect();
        let crowded: Vec<i64> = (0..300_000).map(|_| random(500_000) + 60_000_000 * random(2)).collect();
        for (rows, most) in [(scattered, 1 << 20), (crowded, 1 << 20)] {
            let set = RowSet::from_rows(&rows);
            let expected: std::collections::BTreeSet<i64> = rows.iter().copied().collect();
            assert!(!set.groups.is_empty() && set.bytes() < most, "{}", set.bytes());
            assert_eq!(set.len(), expected.len() as u64);
            assert!(set.iter().eq(expected.iter().copied()));
            let asked = rows.iter().flat_map(|row| [row - 64, row - 1, *row, row + 1, row + 4096, -row]);
            asked.for_each(|row| assert_eq!(set.contains(row), expected.contains(&row), "{row}"));
            let from = rows[0] - 100;
            let window: Vec<i64> = (from..from + 300).collect();
            let bits = bits_of(&set, &window);
            let found = window.iter().zip(0..).filter(|(_, at)| bits[at / 64] >> (at % 64) & 1 == 1);
            assert!(found.map(|(row, _)| *row).eq(expected.range(from..from + 300).copied()));
            assert!(!set.contains(i64::MAX) && !set.contains(i64::MIN));
            let few = RowSet::from_rows(&[rows[0], rows[1] + 1]);
            assert_eq!(set.intersection(&few).iter().collect::<Vec<_>>(), {
                few.iter().filter(|row| expected.contains(row)).collect::<Vec<_>>()
            });
        }
    }
}
