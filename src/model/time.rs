use std::time::{SystemTime, UNIX_EPOCH};

/// A moment: microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment by the system clock; the epoch if the clock stands before it.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// Whether it is of the years 1 to 9999, which callers can be given.
    pub fn is_datetime(self) -> bool {
        (-62_135_596_800_000_000..=253_402_300_799_999_999).contains(&self.0)
    }

    /// Whole milliseconds since the epoch, never negative.
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.max(0)).unwrap_or_default() / 1000
    }
}
