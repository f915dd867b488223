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
        assert!(!RowSet::default().contains(0) && RowSet::from_rows(&[]).iter().next().is_none());
    }
}
