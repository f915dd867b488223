//! The positions of a part whose rows are gone, and how many of them each term had.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Terms whose counts are kept.
const KEPT: usize = 4096;

/// A set of positions, immutable. A greater one is made of it, and shares what was counted for it.
#[derive(Debug, Clone, Default)]
pub struct Dead {
    /// In the order in which they died, so that what was counted for some of them holds for those who follow.
    order: Vec<u32>,
    bits: Vec<u64>,
    tokens: u64,
    counted: Arc<Mutex<Counted>>,
}

/// Of a term: among how many of the first dead it was counted, and in how many of them it is.
type Counted = HashMap<Box<[u8]>, (usize, u64)>;

impl Dead {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// These and others, each with the tokens of its row. What is there already is passed over.
    #[must_use]
    pub fn with(&self, others: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut all = self.clone();
        for (position, tokens) in others {
            let (word, bit) = (position as usize / 64, 1 << (position % 64));
            if word >= all.bits.len() {
                all.bits.resize(word + 1, 0);
            }
            if all.bits[word] & bit == 0 {
                all.bits[word] |= bit;
                all.order.push(position);
                all.tokens += u64::from(tokens);
            }
        }
        all
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// The tokens of their rows.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Whether a position is among them.
    #[inline]
    pub fn contains(&self, position: u32) -> bool {
        self.bits.get(position as usize / 64).is_some_and(|word| word & (1 << (position % 64)) != 0)
    }

    /// Bytes of memory, without what was counted.
    pub fn memory(&self) -> usize {
        self.order.capacity() * size_of::<u32>() + self.bits.capacity() * size_of::<u64>()
    }

    /// In how many of them a term is. `holds` says of some, which ascend, in how many.
    pub(super) fn with_term<E>(
        &self,
        term: &[u8],
        holds: impl FnOnce(&[u32]) -> std::result::Result<u64, E>,
    ) -> std::result::Result<u64, E> {
        if self.order.is_empty() {
            return Ok(0);
        }
        let known = self.counted.lock().get(term).copied();
        // Another may have counted for more than these.
        let (upto, before) = known.filter(|&(upto, _)| upto <= self.order.len()).unwrap_or_default();
        let mut new = self.order[upto..].to_vec();
        new.sort_unstable();
        let count = before + if new.is_empty() { 0 } else { holds(&new)? };
        let mut counted = self.counted.lock();
        if counted.len() >= KEPT && !counted.contains_key(term) {
            counted.clear();
        }
        let kept = counted.entry(term.into()).or_insert((0, 0));
        if kept.0 <= self.order.len() {
            *kept = (self.order.len(), count);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_counted_once() {
        let asked = std::cell::RefCell::new(Vec::new());
        let count = |dead: &Dead| {
            let holds = |some: &[u32]| {
                asked.borrow_mut().push(some.to_vec());
                Ok::<u64, ()>(some.iter().filter(|&&position| position % 2 == 0).count() as u64)
            };
            dead.with_term(b"x", holds).unwrap()
        };
        let few = Dead::none().with([(9, 1), (4, 2), (9, 1)]);
        assert_eq!((few.count(), few.tokens(), count(&Dead::none())), (2, 3, 0));
        assert_eq!((count(&few), count(&few)), (1, 1));
        let more = few.with([(200, 5), (4, 2), (6, 5)]);
        assert_eq!((count(&more), count(&few)), (3, 1));
        // The few were asked for again, since more were counted by then.
        assert_eq!(*asked.borrow(), [vec![4, 9], vec![6, 200], vec![4, 9]]);
        assert!(more.contains(200) && !few.contains(200) && !more.contains(1 << 30));
        assert_eq!(count(&more), 3);
        assert_eq!(asked.borrow().len(), 3);
    }
}
