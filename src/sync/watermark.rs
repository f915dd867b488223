use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::limits;

/// Who writes.
pub type ReplicaId = [u8; 16];

/// How much of each replica's changes is known: all up to that moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watermark(BTreeMap<ReplicaId, (u64, u16)>);

impl Watermark {
    /// Up to when a replica is known.
    pub fn get(&self, replica: ReplicaId) -> Option<Hlc> {
        self.0.get(&replica).map(|&(millis, counter)| Hlc { millis, counter, replica })
    }

    /// Whether a change is known.
    pub fn covers(&self, stamp: Hlc) -> bool {
        self.0.get(&stamp.replica).is_some_and(|&known| known >= (stamp.millis, stamp.counter))
    }

    /// Whether all is known that the other knows.
    pub fn includes(&self, other: &Self) -> bool {
        other.iter().all(|stamp| self.covers(stamp))
    }

    /// Takes a moment up to which its replica is known.
    pub fn raise(&mut self, stamp: Hlc) {
        let known = self.0.entry(stamp.replica).or_default();
        *known = (*known).max((stamp.millis, stamp.counter));
    }

    /// What either knows.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        let mut all = self.clone();
        other.iter().for_each(|stamp| all.raise(stamp));
        all
    }

    /// What both know.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let both = |(replica, mine): (&ReplicaId, &(u64, u16))| {
            other.0.get(replica).map(|theirs| (*replica, *mine.min(theirs)))
        };
        Self(self.0.iter().filter_map(both).collect())
    }

    /// The moments, by replica.
    pub fn iter(&self) -> impl Iterator<Item = Hlc> + '_ {
        self.0.iter().map(|(&replica, &(millis, counter))| Hlc { millis, counter, replica })
    }

    /// How many replicas are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The earliest moment that may matter to one who knows `self`, out of what `all` knows; `None` when nothing does.
    pub fn first_unknown(&self, all: &Self) -> Option<Hlc> {
        let unknown = all.iter().filter(|stamp| !self.covers(*stamp));
        unknown.map(|stamp| self.get(stamp.replica).unwrap_or(Hlc::zero(stamp.replica))).min()
    }

    /// As text, both sides hexadecimal.
    pub fn to_strings(&self) -> BTreeMap<String, String> {
        self.iter().map(|stamp| (hex(&stamp.replica), hex(&stamp.to_bytes()[..8]))).collect()
    }

    /// Reads what [`Watermark::to_strings`] wrote.
    ///
    /// # Errors
    /// `Argument` when it is anything else, `Limit` when it names too many replicas.
    pub fn parse<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut found = Self::default();
        for (replica, moment) in entries {
            let (Some(replica), Some(moment)) = (unhex::<16>(replica), unhex::<8>(moment)) else {
                return Err(Error::new(
                    ErrorKind::Argument,
                    format!("since has the entry {replica:?}: {moment:?}; give what watermark() of the peer returned"),
                ));
            };
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&moment);
            bytes[8..].copy_from_slice(&replica);
            found.raise(Hlc::from_bytes(&bytes)?);
        }
        if found.len() > limits::SYNC_REPLICAS {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("a watermark names {} replicas; at most {} are allowed", found.len(), limits::SYNC_REPLICAS),
            ));
        }
        Ok(found)
    }
}

impl FromIterator<Hlc> for Watermark {
    fn from_iter<I: IntoIterator<Item = Hlc>>(stamps: I) -> Self {
        let mut all = Self::default();
        stamps.into_iter().for_each(|stamp| all.raise(stamp));
        all
    }
}

/// Whether a replica that knows `mine` may hold what was deleted where `theirs` is known: some deletion that it does not
/// know is `forgotten` there. One that has nothing in common with them holds nothing of theirs; what it has in common are
/// those replicas that `count`, which were known there before that deletion.
pub fn stale(mine: &Watermark, theirs: &Watermark, forgotten: &Watermark, counts: &dyn Fn(ReplicaId) -> bool) -> bool {
    let acquainted = || theirs.iter().any(|stamp| counts(stamp.replica) && mine.get(stamp.replica).is_some());
    !mine.includes(forgotten) && acquainted()
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(replica: u8, millis: u64) -> Hlc {
        Hlc { millis, counter: 1, replica: [replica; 16] }
    }

    #[test]
    fn text_goes_both_ways() {
        let mark: Watermark = [at(1, 5), at(200, 1 << 40)].into_iter().collect();
        let text = mark.to_strings();
        let read = Watermark::parse(text.iter().map(|(a, b)| (a.as_str(), b.as_str()))).unwrap();
        assert_eq!(read, mark);
        for bad in [("xyz", "00"), ("", ""), ("zz000000000000000000000000000000", "0000000000000000")] {
            assert_eq!(Watermark::parse([bad]).unwrap_err().kind(), ErrorKind::Argument);
        }
    }

    #[test]
    fn what_is_known_is_compared_by_replica() {
        let one: Watermark = [at(1, 5), at(2, 9)].into_iter().collect();
        let other: Watermark = [at(1, 7), at(3, 4)].into_iter().collect();
        assert!(one.covers(at(1, 5)) && !one.covers(at(1, 6)) && !one.covers(at(3, 1)));
        assert!(one.joined(&other).includes(&one) && one.joined(&other).includes(&other) && !one.includes(&other));
        assert_eq!(one.common(&other).iter().collect::<Vec<_>>(), [at(1, 5)]);
        assert_eq!(one.first_unknown(&other), Some(Hlc::zero([3; 16])));
        assert_eq!(one.first_unknown(&one), None);
    }

    #[test]
    fn one_who_missed_what_was_forgotten_is_stale() {
        let mark = |stamps: &[Hlc]| stamps.iter().copied().collect::<Watermark>();
        let (theirs, forgotten) = (mark(&[at(1, 50), at(2, 90)]), mark(&[at(2, 70)]));
        let all: &dyn Fn(ReplicaId) -> bool = &|_| true;
        assert!(!stale(&mark(&[at(1, 1)]), &theirs, &Watermark::default(), all));
        assert!(stale(&mark(&[at(1, 50), at(2, 69)]), &theirs, &forgotten, all));
        assert!(!stale(&mark(&[at(1, 1), at(2, 70)]), &theirs, &forgotten, all), "what lives may be missing");
        assert!(stale(&mark(&[at(1, 50)]), &theirs, &forgotten, all), "what the other deleted was never seen");
        assert!(!stale(&mark(&[at(3, 1)]), &theirs, &forgotten, all), "a stranger holds nothing of theirs");
        let new = |replica| replica != [1; 16];
        assert!(!stale(&mark(&[at(1, 50)]), &theirs, &forgotten, &new), "one that came later is no sign");
    }
}
