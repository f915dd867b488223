//! The ranking of FTS5 to the bit, and bounds of it.
//!
//! FTS5 (`fts5_aux.c`) sums, over the phrases of a query in their order, `idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b *
//! length / average))`. The bounds are never below that sum, whatever is rounded.

/// FTS5's constants.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// What a phrase has that half of the rows hold or more.
const LEAST_IDF: f64 = 1e-6;
/// No phrase adds more than its idf times this.
const MOST: f64 = K1 + 1.0;
/// More than the rounding of all sums of bounds together.
const ROUNDING: f64 = 1.0 + 1e-5;
/// Occurrences that a table of bounds tells apart.
const COUNTS: usize = 16;
const CODES: usize = 256;

/// How rare a phrase is that `with` of `rows` rows hold.
pub(super) fn idf(rows: u64, with: u64) -> f64 {
    let (rows, with) = (rows as i64, with as i64);
    let idf = (((rows - with) as f64 + 0.5) / (with as f64 + 0.5)).ln();
    if idf > 0.0 { idf } else { LEAST_IDF }
}

/// What a phrase adds to the score of a row of `length` tokens that holds it `count` times. No time adds nothing.
#[inline]
pub(super) fn part(idf: f64, count: u32, length: u32, average: f64) -> f64 {
    let count = f64::from(count);
    idf * ((count * (K1 + 1.0)) / (count + K1 * (1.0 - B + B * f64::from(length) / average)))
}

/// A length in one byte: to 32 exact, then in steps of a sixteenth.
pub(super) fn length_code(length: u32) -> u8 {
    if length < 32 {
        return length as u8;
    }
    let octave = length.ilog2();
    (32 + (octave - 5) * 16 + (length >> (octave - 4) & 15)).min(255) as u8
}

/// The least length with that code.
fn least_length(code: u8) -> u32 {
    let code = u32::from(code);
    if code < 32 { code } else { (16 + code % 16) << ((code - 32) / 16 + 1) }
}

/// What each number of occurrences in a row of each length adds at most, before it is multiplied by the idf.
pub(super) struct Bounds {
    table: Box<[[f32; CODES]; COUNTS]>,
}

impl Bounds {
    /// For rows of `average` tokens.
    pub fn new(average: f64) -> Self {
        let mut table = Box::new([[(MOST * ROUNDING) as f32; CODES]; COUNTS]);
        let mut damping = [0.0; CODES];
        for (code, damping) in (0..=u8::MAX).zip(&mut damping) {
            *damping = (K1 * (1.0 - B + B * f64::from(least_length(code)) / average)) as f32;
        }
        for (count, row) in (1u8..).zip(table.iter_mut()).take(COUNTS - 1) {
            let count = f32::from(count);
            let most = count * (MOST * ROUNDING) as f32;
            for (bound, damping) in row.iter_mut().zip(&damping) {
                *bound = most / (count + damping);
            }
        }
        Self { table }
    }

    /// The bound for `count` occurrences, at least one.
    #[inline]
    pub fn of(&self, count: u32, length_code: u8) -> f32 {
        self.table[(count.wrapping_sub(1) as usize).min(COUNTS - 1)][usize::from(length_code)]
    }
}

/// The bound of a block in one byte: of the greatest that any of its rows adds, before it is multiplied by the idf.
pub(super) fn block_code(most: f64) -> u8 {
    (most / MOST * 255.0).ceil().clamp(1.0, 255.0) as u8
}

/// What such a byte stands for, where rows had `written` tokens on average and now have `average`. With a greater average
/// every row counts as shorter, but no part grows by more than the averages do.
pub(super) fn block_bound(code: u8, written: f64, average: f64) -> f32 {
    let grown = (average / written).max(1.0);
    let bound = f64::from(code) / 255.0 * MOST * grown;
    (bound.min(MOST) * ROUNDING) as f32
}

/// The score as a bound is compared with it: rounded down.
pub(super) fn threshold(score: f64) -> f32 {
    (score * (1.0 - 1e-6)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bound_is_below_what_it_bounds() {
        for (written, average) in [(80.0, 80.0), (80.0, 97.3), (80.0, 31.0), (0.01, 5000.0)] {
            let bounds = Bounds::new(average);
            for length in (1..4000).chain([1 << 16, (1 << 19) - 1, 1 << 19, 1 << 24, u32::MAX]) {
                assert!(least_length(length_code(length)) <= length);
                for count in [1, 2, 3, 14, 15, 16, 17, 900, u32::MAX] {
                    let exact = part(1.0, count, length, average);
                    assert!(f64::from(bounds.of(count, length_code(length))) > exact);
                    let code = block_code(part(1.0, count, length, written));
                    assert!(f64::from(block_bound(code, written, average)) > exact, "{count} {length}");
                }
            }
        }
    }

    #[test]
    fn lengths_keep_their_order_in_a_byte() {
        assert_eq!((0..32).map(length_code).collect::<Vec<_>>(), (0..32).collect::<Vec<u8>>());
        assert!((0..1 << 20).map(length_code).is_sorted());
        assert!((0..=255).all(|code| length_code(least_length(code)) == code));
    }

    #[test]
    fn a_common_phrase_counts_for_almost_nothing() {
        assert_eq!((idf(10, 5), idf(10, 10)), (LEAST_IDF, LEAST_IDF));
        assert!((idf(10, 1) - (9.5f64 / 1.5).ln()).abs() < 1e-15);
        assert_eq!(part(2.0, 0, 5, 7.0), 0.0);
    }
}
