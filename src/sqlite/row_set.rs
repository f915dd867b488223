//! The rows that a filter lets through.

/// Words of bits that a set may have however few its rows are: 8 MiB.
const WORDS: usize = 1 << 20;

/// A set of rowids: one bit for each between the least and the greatest, or, where they are too far apart, themselves.
#[derive(Debug, Clone, Default)]
pub struct RowSet {
    first: i64,
    words: Vec<u64>,
    /// Ascending; only where there are no words.
    rows: Vec<i64>,
    len: u64,
}

impl RowSet {
    /// From rowids in any order, each as often as it likes.
    pub fn from_rows(rows: &[i64]) -> Self {
        let (Some(&first), Some(&last)) = (rows.iter().min(), rows.iter().max()) else { return Self::default() };
        let span = last.abs_diff(first) / 64;
        if span >= (WORDS + rows.len()) as u64 {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows.dedup();
            return Self { len: rows.len() as u64, rows, ..Self::default() };
        }
        let mut words = vec![0u64; span as usize + 1];
        for row in rows {
            let bit = row.abs_diff(first) as usize;
            words[bit / 64] |= 1 << (bit % 64);
        }
        let len = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { first, words, rows: Vec::new(), len }
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

    /// One bit for each of `rows`, which ascend: whether it is among them.
    pub fn bits_of(&self, rows: &[i64]) -> Vec<u64> {
        let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { return Vec::new() };
        if self.rows.is_empty() && last.abs_diff(first) == rows.len() as u64 - 1 {
            return self.window(first, rows.len());
        }
        let word = |rows: &[i64]| {
            let bit = |(bit, &row): (usize, &i64)| u64::from(self.contains(row)) << bit;
            rows.iter().enumerate().map(bit).fold(0, |word, bit| word | bit)
        };
        rows.chunks(64).map(word).collect()
    }

    /// The bits of `len` rows from `first` on.
    fn window(&self, first: i64, len: usize) -> Vec<u64> {
        let behind = i128::from(first) - i128::from(self.first);
        let at = |word: i128| usize::try_from(word).ok().and_then(|word| self.words.get(word)).copied().unwrap_or(0);
        let mut words: Vec<u64> = (0..len.div_ceil(64))
            .map(|place| {
                let bit = behind + 64 * place as i128;
                let (word, shift) = (bit.div_euclid(64), bit.rem_euclid(64) as u32);
                let high = if shift == 0 { 0 } else { at(word + 1) << (64 - shift) };
                at(word) >> shift | high
            })
            .collect();
        if let Some(last) = words.last_mut()
            && !len.is_multiple_of(64)
        {
            *last &= (1 << (len % 64)) - 1;
        }
        words
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        (self.words.len() + self.rows.len()) * size_of::<u64>()
    }

    /// Whether a row is among them.
    pub fn contains(&self, row: i64) -> bool {
        if row < self.first {
            return self.rows.binary_search(&row).is_ok();
        }
        let bit = row.abs_diff(self.first) as usize;
        self.words.get(bit / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0)
            || self.rows.binary_search(&row).is_ok()
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        let bits = self.words.iter().zip(0i64..).flat_map(move |(&word, index)| {
            let base = self.first + index * 64;
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(base + i64::from(bit))
            })
        });
        bits.chain(self.rows.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (set, rows) in
            [(&set, &every), (&other, &every), (&set, &sparse), (&far, &every), (&RowSet::default(), &every)]
        {
            for from in [0, 1, 5, 64, 65, 130] {
                let bits = set.bits_of(&rows[from..]);
                assert_eq!(bits.len(), (rows.len() - from).div_ceil(64));
                let expected: Vec<bool> = rows[from..].iter().map(|&row| set.contains(row)).collect();
                let got: Vec<bool> = (0..rows.len() - from).map(|at| bits[at / 64] >> (at % 64) & 1 == 1).collect();
                assert_eq!(got, expected);
            }
        }
        assert!(!RowSet::default().contains(0) && RowSet::from_rows(&[]).iter().next().is_none());
    }
}
