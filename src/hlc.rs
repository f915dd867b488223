//! Hybrid logical clock: Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical Physical Clocks" (2014). Pure.

use crate::error::{Error, ErrorKind, Result};

/// A moment that orders all changes of all replicas: milliseconds, a counter within them, and who wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc {
    /// Milliseconds since 1970, below 2^48.
    pub millis: u64,
    /// Counts what falls into one millisecond, or while the wall clock stands behind.
    pub counter: u16,
    /// Breaks ties.
    pub replica: [u8; 16],
}

impl Hlc {
    /// The first moment of a replica.
    pub fn zero(replica: [u8; 16]) -> Self {
        Self { millis: 0, counter: 0, replica }
    }

    /// The next moment of this replica: later than `self`, and not before `now` (milliseconds since 1970).
    #[must_use]
    pub fn tick(self, now: u64) -> Self {
        if now > self.millis {
            return Self { millis: now, counter: 0, ..self };
        }
        match self.counter.checked_add(1) {
            Some(counter) => Self { counter, ..self },
            // A full counter borrows the next millisecond, as the paper allows: order is kept, the clock catches up.
            None => Self { millis: self.millis + 1, counter: 0, ..self },
        }
    }

    /// 24 bytes that order as the moments do.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..6].copy_from_slice(&self.millis.to_be_bytes()[2..]);
        bytes[6..8].copy_from_slice(&self.counter.to_be_bytes());
        bytes[8..].copy_from_slice(&self.replica);
        bytes
    }

    /// Reads what [`Hlc::to_bytes`] wrote.
    ///
    /// # Errors
    /// `Corrupt` when there are not 24 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; 24] = bytes.try_into().map_err(|_| {
            Error::new(ErrorKind::Corrupt, format!("a stored clock has {} bytes instead of 24", bytes.len()))
        })?;
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&bytes[..6]);
        let mut replica = [0; 16];
        replica.copy_from_slice(&bytes[8..]);
        Ok(Self { millis: u64::from_be_bytes(millis), counter: u16::from_be_bytes([bytes[6], bytes[7]]), replica })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_bytes_order_as_moments() {
        let mut last = Hlc::zero([7; 16]);
        for now in [5, 5, 4, 1000, 999, 1 << 40, 3] {
            let next = last.tick(now);
            assert!(next > last && next.millis >= now.min(next.millis));
            assert!(next.to_bytes() > last.to_bytes());
            assert_eq!(Hlc::from_bytes(&next.to_bytes()).unwrap(), next);
            last = next;
        }
    }

    #[test]
    fn a_full_counter_borrows_a_millisecond() {
        let full = Hlc { millis: 9, counter: u16::MAX, replica: [0; 16] };
        assert_eq!(full.tick(3), Hlc { millis: 10, counter: 0, replica: [0; 16] });
    }
}
