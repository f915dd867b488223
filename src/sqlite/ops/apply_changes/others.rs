//! Relations and state.

use super::documents::metadata;
use super::{Apply, damaged, time};
use crate::error::Result;
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Metadata, Namespace, Relation, StateEntry, StateValue, Timestamp, check_id, check_key, check_name};
use crate::sqlite::tables::{relations, state};
use crate::sync::Action;
use crate::sync::merge;
use crate::sync::record::{RelationRecord, StateRecord};

/// The collection and its name, what to do, the moment of what is known, and the relation that is there.
type OfRelation = (i64, String, Action, Option<(Hlc, Option<Relation>)>);

impl Apply<'_, '_> {
    pub(super) fn relation(&mut self, record: &RelationRecord<'_>) -> Result<()> {
        let relation = Relation {
            source: record.source.to_owned(),
            target: record.target.to_owned(),
            kind: record.kind.to_owned(),
            strength: record.strength,
            metadata: metadata(record.metadata)?,
            created_at: time(record.created_at)?,
        };
        check(&relation)?;
        let Some((id, name, action, own)) = self.of_relation(record.collection, &relation, record.stamp, false)? else {
            return Ok(());
        };
        if let Some((own, there)) = own {
            let same = |there: &Relation| {
                there.strength == relation.strength && there.metadata.same(&relation.metadata).is_ok_and(|same| same)
            };
            if !there.is_some_and(|there| same(&there)) {
                self.conflict(Some(&name), "relation", &uid(&relation), own, record.stamp)?;
            }
        }
        if let Action::Put { .. } = action {
            relations::receive(self.txn.conn, self.txn.stamp_of(record.stamp), id, &relation)?;
            self.done.applied += 1;
        }
        Ok(())
    }

    pub(super) fn relation_tombstone(&mut self, place: u64, uid: &str, stamp: Hlc) -> Result<()> {
        let [source, kind, target] =
            serde_json::from_str(uid).map_err(|_| damaged("the end of a relation that has no name"))?;
        let (strength, metadata, created_at) = (0.0, Metadata::empty(), Timestamp(0));
        let relation = Relation { source, target, kind, strength, metadata, created_at };
        check(&relation)?;
        let Some((id, name, action, own)) = self.of_relation(place, &relation, stamp, true)? else { return Ok(()) };
        if let Some((own, Some(_))) = own {
            self.conflict(Some(&name), "relation", uid, own, stamp)?;
        }
        if let Action::Bury { .. } = action {
            relations::receive_end(self.txn.conn, self.txn.stamp_of(stamp), id, &relation)?;
            self.done.applied += 1;
        }
        Ok(())
    }

    /// `None`: nothing to do.
    fn of_relation(&mut self, place: u64, relation: &Relation, stamp: Hlc, end: bool) -> Result<Option<OfRelation>> {
        let news = self.is_news(stamp)?;
        let entry = self.entry(place)?;
        let (name, floor) = (entry.name.clone(), entry.floor);
        self.done.received += 1;
        if !news {
            return Ok(None);
        }
        if let Some(floor) = floor.filter(|floor| stamp <= *floor) {
            if !end {
                self.conflict(Some(&name), "relation", &uid(relation), floor, stamp)?;
            }
            return Ok(None);
        }
        let id = self.number(place as usize)?;
        let own = relations::known(self.txn.conn, id, relation)?;
        let known = own.as_ref().map(|(known, _)| *known);
        let action = if end { merge::tombstone(stamp, floor, known) } else { merge::register(stamp, floor, known) };
        Ok(Some((id, name, action, own.map(|(known, there)| (known.stamp, there)))))
    }

    pub(super) fn state(&mut self, record: &StateRecord<'_>) -> Result<()> {
        let namespace = Namespace { name: record.namespace.to_owned(), local: false };
        check_name("namespace", record.namespace)?;
        check_key("key", record.key)?;
        if record.value.len() > limits::METADATA_BYTES {
            return Err(damaged("a state value that is too large"));
        }
        let value = serde_json::from_str(record.value).map_err(|_| damaged("a state value that is no JSON"))?;
        let entry = StateEntry {
            key: record.key.to_owned(),
            value: StateValue::from_value(&value)?,
            expires_at: record.expires_at.map(time).transpose()?,
            updated_at: time(record.updated_at)?,
        };
        let news = self.is_news(record.stamp)?;
        self.done.received += 1;
        if !news {
            return Ok(());
        }
        let conn = self.txn.conn;
        let known = state::known(conn, &namespace, record.key)?;
        // What has expired is as gone without anyone's doing.
        let there = state::get(conn, &namespace, self.txn.now, record.key)?;
        let lost = |known: &merge::Known| match &there {
            Some(there) => {
                there.expires_at != entry.expires_at || !there.value.same(&entry.value).is_ok_and(|same| same)
            }
            None => !known.living,
        };
        if let Some(own) = known.filter(lost) {
            self.conflict(None, "state", &state::uid(&namespace, record.key), own.stamp, record.stamp)?;
        }
        if let Action::Put { .. } = merge::register(record.stamp, None, known) {
            state::put(conn, self.txn.stamp_of(record.stamp), &namespace, &entry)?;
            self.done.applied += 1;
        }
        Ok(())
    }

    pub(super) fn state_tombstone(&mut self, uid: &str, stamp: Hlc) -> Result<()> {
        let (name, key): (String, String) =
            serde_json::from_str(uid).map_err(|_| damaged("the end of a state value that has no name"))?;
        check_name("namespace", &name)?;
        check_key("key", &key)?;
        let namespace = Namespace { name, local: false };
        let news = self.is_news(stamp)?;
        self.done.received += 1;
        if !news {
            return Ok(());
        }
        let known = state::known(self.txn.conn, &namespace, &key)?;
        let there = state::get(self.txn.conn, &namespace, self.txn.now, &key)?;
        if let Some(own) = known.filter(|_| there.is_some()) {
            self.conflict(None, "state", uid, own.stamp, stamp)?;
        }
        if let Action::Bury { .. } = merge::tombstone(stamp, None, known) {
            state::receive_end(self.txn.conn, self.txn.stamp_of(stamp), &namespace, &key)?;
            self.done.applied += 1;
        }
        Ok(())
    }
}

fn uid(relation: &Relation) -> String {
    relations::uid(&relation.source, &relation.kind, &relation.target)
}

fn check(relation: &Relation) -> Result<()> {
    check_id("source", &relation.source)?;
    check_id("target", &relation.target)?;
    check_name("type", &relation.kind)?;
    if relation.source == relation.target || !(0.0..=1.0).contains(&relation.strength) {
        return Err(damaged("a relation that none is"));
    }
    Ok(())
}
