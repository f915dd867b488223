//! What becomes of a record, by the moments of what the store knows. Pure.
//!
//! Every change is an event with a stamp that no other has. A document's event names its id and its uri; a store keeps the
//! latest moment of each id and of each uri, and a document lives while it is the latest event of both. So what is there
//! depends on the set of events alone, and not on their order nor on how often each comes: the moments are maxima.

use super::Action;
use crate::hlc::Hlc;

/// The latest moment that a store knows of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub stamp: Hlc,
    /// Something of that name is there; otherwise it is known that it is gone.
    pub living: bool,
}

fn below(stamp: Hlc, floor: Option<Hlc>) -> bool {
    floor.is_some_and(|floor| stamp <= floor)
}

fn moment(known: Option<Known>) -> Option<Hlc> {
    known.map(|known| known.stamp)
}

/// Of what has one name: a collection, a space, a relation, a state value. `floor` is when all before it was deleted.
pub fn register(stamp: Hlc, floor: Option<Hlc>, known: Option<Known>) -> Action {
    match moment(known) {
        _ if below(stamp, floor) => Action::Drop,
        Some(there) if there == stamp => Action::Same,
        Some(there) if there > stamp => Action::Older,
        _ => Action::Put { evict: false },
    }
}

/// Of a deletion of what has one name, and of the end of a document's uri.
pub fn tombstone(stamp: Hlc, floor: Option<Hlc>, known: Option<Known>) -> Action {
    match register(stamp, floor, known) {
        Action::Put { .. } => Action::Bury { evict: known.is_some_and(|known| known.living) },
        other => other,
    }
}

/// Of a document. `uri` is what is known of its uri; `None` too where it has none. A living one may be its own old one.
pub fn document(stamp: Hlc, floor: Option<Hlc>, id: Option<Known>, uri: Option<Known>, has_uri: bool) -> Action {
    let evict = uri.is_some_and(|uri| uri.living);
    match register(stamp, floor, id) {
        Action::Older if has_uri && moment(uri).is_none_or(|there| there < stamp) => Action::OlderWithUri { evict },
        Action::Put { .. } if has_uri && moment(uri).is_some_and(|there| there > stamp) => Action::Alias,
        Action::Put { .. } => Action::Put { evict },
        other => other,
    }
}

/// Whether two changes were made without knowing of each other: neither store had the other's when it had its own.
pub fn concurrent(own: Hlc, known_to_source: bool, other: Hlc, known_here: bool) -> bool {
    own != other && !known_to_source && !known_here
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::Random;
    use crate::sync::Watermark;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Event {
        Put { id: u8, uri: Option<u8>, stamp: Hlc },
        Delete { id: u8, stamp: Hlc },
        EndOfUri { uri: u8, stamp: Hlc },
    }

    impl Event {
        fn stamp(&self) -> Hlc {
            match self {
                Event::Put { stamp, .. } | Event::Delete { stamp, .. } | Event::EndOfUri { stamp, .. } => *stamp,
            }
        }
    }

    /// Documents by id with their uri, and the ends of ids and of uris: what a store keeps.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct Memory {
        living: BTreeMap<u8, (Hlc, Option<u8>)>,
        gone: BTreeMap<u8, Hlc>,
        free: BTreeMap<u8, Hlc>,
    }

    impl Memory {
        fn id(&self, id: u8) -> Option<Known> {
            let living = self.living.get(&id).map(|(stamp, _)| Known { stamp: *stamp, living: true });
            living.or(self.gone.get(&id).map(|stamp| Known { stamp: *stamp, living: false }))
        }

        fn holder(&self, uri: u8) -> Option<u8> {
            self.living.iter().find(|(_, (_, there))| *there == Some(uri)).map(|(id, _)| *id)
        }

        fn uri(&self, uri: u8) -> Option<Known> {
            let living = self.holder(uri).map(|id| Known { stamp: self.living[&id].0, living: true });
            living.or(self.free.get(&uri).map(|stamp| Known { stamp: *stamp, living: false }))
        }

        /// A document goes; its own event stays known by both of its names.
        fn retire(&mut self, id: u8) {
            if let Some((stamp, uri)) = self.living.remove(&id) {
                self.gone.insert(id, stamp);
                if let Some(uri) = uri {
                    let end = self.free.entry(uri).or_insert(stamp);
                    *end = stamp.max(*end);
                }
            }
        }

        fn end_uri(&mut self, uri: u8, stamp: Hlc) {
            if let Some(holder) = self.holder(uri) {
                self.retire(holder);
            }
            self.free.insert(uri, stamp);
        }

        fn apply(&mut self, event: &Event) {
            match *event {
                Event::Put { id, uri, stamp } => {
                    let known = uri.and_then(|uri| self.uri(uri));
                    match document(stamp, None, self.id(id), known, uri.is_some()) {
                        Action::Put { .. } => {
                            self.retire(id);
                            if let Some(holder) = uri.and_then(|uri| self.holder(uri)) {
                                self.retire(holder);
                            }
                            self.gone.remove(&id);
                            uri.map(|uri| self.free.remove(&uri));
                            self.living.insert(id, (stamp, uri));
                        }
                        Action::Alias => {
                            self.retire(id);
                            self.gone.insert(id, stamp);
                        }
                        Action::OlderWithUri { .. } => self.end_uri(uri.unwrap(), stamp),
                        Action::Same | Action::Older => {}
                        other => panic!("{other:?}"),
                    }
                }
                Event::Delete { id, stamp } => {
                    if let Action::Bury { .. } = tombstone(stamp, None, self.id(id)) {
                        self.retire(id);
                        self.gone.insert(id, stamp);
                    }
                }
                Event::EndOfUri { uri, stamp } => {
                    if let Action::Bury { .. } = tombstone(stamp, None, self.uri(uri)) {
                        self.end_uri(uri, stamp);
                    }
                }
            }
        }

        /// What an export of it has.
        fn events(&self) -> Vec<Event> {
            let put = |(&id, &(stamp, uri)): (&u8, &(Hlc, Option<u8>))| Event::Put { id, uri, stamp };
            let mut all: Vec<Event> = self.living.iter().map(put).collect();
            all.extend(self.gone.iter().map(|(&id, &stamp)| Event::Delete { id, stamp }));
            all.extend(self.free.iter().map(|(&uri, &stamp)| Event::EndOfUri { uri, stamp }));
            all
        }

        fn of(events: &[Event]) -> Self {
            let mut memory = Self::default();
            events.iter().for_each(|event| memory.apply(event));
            memory
        }
    }

    fn at(millis: u64, replica: u8) -> Hlc {
        Hlc { millis, counter: 0, replica: [replica; 16] }
    }

    fn events(chance: &mut Random, most: usize) -> Vec<Event> {
        let mut all = Vec::new();
        for number in 0..most as u64 {
            let (id, uri) = (chance.below(4) as u8, chance.below(4) as u8);
            // Two replicas may write at the same moment.
            let stamp = at(number / 2, (number % 2) as u8);
            match chance.below(4) {
                0 => {
                    all.push(Event::Delete { id, stamp });
                    all.push(Event::EndOfUri { uri, stamp });
                }
                1 => all.push(Event::Put { id, uri: None, stamp }),
                _ => all.push(Event::Put { id, uri: Some(uri), stamp }),
            }
        }
        all
    }

    #[test]
    fn order_and_repetition_make_no_difference() {
        let mut chance = Random::new(1);
        for _ in 0..20_000 {
            let count = 2 + chance.below(9);
            let mut all = events(&mut chance, count);
            let expected = Memory::of(&all);
            chance.shuffle(&mut all);
            all.extend_from_within(..count / 2);
            assert_eq!(Memory::of(&all), expected, "{all:?}");
        }
    }

    #[test]
    fn merging_stores_is_commutative_associative_and_idempotent() {
        let mut chance = Random::new(2);
        let merge = |one: &Memory, other: &Memory| {
            let mut merged = one.clone();
            other.events().iter().for_each(|event| merged.apply(event));
            merged
        };
        for _ in 0..20_000 {
            let all = events(&mut chance, 9);
            let parts: Vec<Memory> = (0..3)
                .map(|_| Memory::of(&all.iter().filter(|_| chance.below(2) == 0).cloned().collect::<Vec<_>>()))
                .collect();
            let [a, b, c] = parts.as_slice() else { panic!() };
            assert_eq!(merge(a, b), merge(b, a), "{a:?} {b:?}");
            assert_eq!(merge(&merge(a, b), c), merge(a, &merge(b, c)));
            assert_eq!(merge(a, a), *a);
        }
    }

    #[test]
    fn stores_that_send_what_the_other_lacks_converge() {
        let mut chance = Random::new(3);
        for round in 0..3_000u64 {
            let mut stores: Vec<(Memory, Watermark)> = vec![Default::default(); 3];
            let exchange = |stores: &mut [(Memory, Watermark)], from: usize, to: usize| {
                let known = stores[to].1.clone();
                let news: Vec<Event> =
                    stores[from].0.events().into_iter().filter(|event| !known.covers(event.stamp())).collect();
                news.iter().for_each(|event| stores[to].0.apply(event));
                stores[to].1 = known.joined(&stores[from].1);
            };
            for millis in 1..30 {
                let who = chance.below(3);
                let (id, uri, stamp) = (chance.below(4) as u8, chance.below(3) as u8, at(millis, who as u8));
                let (memory, mark) = &mut stores[who];
                match chance.below(5) {
                    0 if memory.living.contains_key(&id) => {
                        let uri = memory.living[&id].1;
                        memory.apply(&Event::Delete { id, stamp });
                        uri.into_iter().for_each(|uri| memory.apply(&Event::EndOfUri { uri, stamp }));
                    }
                    1..3 if memory.holder(uri).is_none_or(|holder| holder == id) => {
                        // One that had another uri gives it up.
                        if let Some(old) = memory.living.get(&id).and_then(|(_, old)| *old).filter(|old| *old != uri) {
                            memory.apply(&Event::EndOfUri { uri: old, stamp });
                        }
                        memory.apply(&Event::Put { id, uri: Some(uri), stamp });
                    }
                    _ => {
                        let to = (who + 1 + chance.below(2)) % 3;
                        exchange(&mut stores, who, to);
                        continue;
                    }
                }
                mark.raise(stamp);
            }
            for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1), (1, 0), (2, 1)] {
                exchange(&mut stores, from, to);
            }
            assert!(stores[0].0 == stores[1].0 && stores[1].0 == stores[2].0, "round {round}: {stores:#?}");
            assert!(stores[0].1 == stores[1].1 && stores[1].1 == stores[2].1);
        }
    }

    #[test]
    fn what_a_collection_lost_stays_lost() {
        let known = Some(Known { stamp: at(5, 1), living: true });
        assert_eq!(register(at(6, 1), Some(at(6, 1)), known), Action::Drop);
        assert_eq!(tombstone(at(6, 1), Some(at(7, 0)), known), Action::Drop);
        assert_eq!(document(at(6, 1), Some(at(5, 9)), known, None, true), Action::Put { evict: false });
    }
}
