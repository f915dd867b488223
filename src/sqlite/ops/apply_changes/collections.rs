//! Collections, their spaces, and what was deleted with them.

use std::collections::HashSet;

use rusqlite::Connection;
use serde_json::{Map, Value};

use super::{Apply, damaged, time};
use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Metric, Timestamp, check_name, check_numbers};
use crate::request::DEFAULT_SPACE;
use crate::sqlite::ops::set_tokenizer;
use crate::sqlite::ops::shared::{self, Target};
use crate::sqlite::sql;
use crate::sqlite::tables::changes::Op;
use crate::sqlite::tables::collections::{self, NewCollection};
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::spaces::{self, NewSpace, SpaceRow};
use crate::sqlite::tables::tombstones;
use crate::sqlite::tokenizer::TokenizerSpec;
use crate::sqlite::txn::Txn;
use crate::sync::Action;
use crate::sync::merge::{self, Known};
use crate::sync::record::{CollectionRecord, SpaceRecord};

/// A collection of the batch, and what it is here.
pub(super) struct Entry {
    pub name: String,
    /// Of the source and of this store, whichever is later.
    pub floor: Option<Hlc>,
    /// `None`: it is gone at the source.
    properties: Option<Properties>,
    pub spaces: Vec<Space>,
    /// `None`: it was deleted here, or there, and nothing later is in it.
    pub target: Option<Target>,
}

struct Properties {
    stamp: Hlc,
    description: Option<String>,
    settings: Map<String, Value>,
    tokenizer: TokenizerSpec,
    created_at: Timestamp,
}

impl Entry {
    /// Looks again at the collection, which is there, and at when its spaces ended.
    pub fn look(&mut self, conn: &Connection) -> Result<()> {
        let target = Target::find(conn, &self.name)?;
        for space in &mut self.spaces {
            space.floor = tombstones::space(conn, target.id(), &space.name)?;
        }
        self.target = Some(target);
        Ok(())
    }
}

/// A space of the batch.
pub(super) struct Space {
    pub name: String,
    stamp: Hlc,
    /// Of the source and of this store, whichever is later.
    pub floor: Option<Hlc>,
    pub dimension: Option<usize>,
    metric: Metric,
    model: Option<String>,
    created_at: Timestamp,
}

impl Space {
    fn read(record: &SpaceRecord<'_>) -> Result<Self> {
        check_name("space name", record.name)?;
        record.model.map_or(Ok(()), |model| check_name("model", model))?;
        let dimension = match record.dimension.map(usize::try_from) {
            None => None,
            Some(Ok(dimension)) if (1..=limits::DIMENSION).contains(&dimension) => Some(dimension),
            Some(_) => return Err(damaged("a space of a dimension that none has")),
        };
        Ok(Self {
            name: record.name.to_owned(),
            stamp: record.stamp,
            floor: record.floor,
            dimension,
            metric: record.metric.parse()?,
            model: record.model.map(str::to_owned),
            created_at: time(record.created_at)?,
        })
    }

    /// Refuses a space that is another by the same name.
    fn check(&self, collection: &str, here: &SpaceRow) -> Result<()> {
        let differs = |what: &str, there: &dyn std::fmt::Display, own: &dyn std::fmt::Display| {
            Err(Error::new(
                ErrorKind::Sync,
                format!(
                    "space {:?} of collection {collection:?} has {what} {own} here and {there} at the source; nothing was \
                     applied: delete one of the two, or use another name",
                    self.name
                ),
            ))
        };
        if self.metric != here.metric {
            return differs("metric", &self.metric, &here.metric);
        }
        match (self.dimension, here.dimension) {
            (Some(there), Some(own)) if there != own => return differs("dimension", &there, &own),
            _ => {}
        }
        match (&self.model, &here.model) {
            (Some(there), Some(own)) if there != own => differs("model", there, own),
            _ => Ok(()),
        }
    }
}

impl Apply<'_, '_> {
    pub(super) fn entry(&self, place: u64) -> Result<&Entry> {
        let entry = usize::try_from(place).ok().and_then(|place| self.entries.get(place));
        entry.ok_or_else(|| damaged("a collection that it does not name"))
    }

    pub(super) fn collection(&mut self, record: &CollectionRecord<'_>) -> Result<()> {
        check_name("collection name", record.name)?;
        let settings: Map<String, Value> = serde_json::from_str(record.settings)
            .map_err(|_| damaged(format_args!("settings of collection {:?} that are no JSON object", record.name)))?;
        check_numbers(settings.values())?;
        if record.settings.len() > limits::METADATA_BYTES || self.entries.len() >= limits::SYNC_COLLECTIONS {
            return Err(damaged("too many collections, or settings that are too large"));
        }
        if self.entries.iter().any(|entry| entry.name == record.name) {
            return Err(damaged(format_args!("collection {:?} twice", record.name)));
        }
        let spaces: Vec<Space> = record.spaces.iter().map(Space::read).collect::<Result<_>>()?;
        // Which nobody can delete.
        if spaces.first().is_none_or(|space| space.name != DEFAULT_SPACE || space.floor.is_some()) {
            return Err(damaged(format_args!("collection {:?} without its default space", record.name)));
        }
        let names: HashSet<&str> = spaces.iter().map(|space| space.name.as_str()).collect();
        if names.len() != spaces.len() {
            return Err(damaged(format_args!("collection {:?} with two spaces of one name", record.name)));
        }
        let news = self.is_news(record.stamp)?;
        let mut lacked = news;
        for moment in
            record.floor.into_iter().chain(spaces.iter().flat_map(|space| [space.stamp].into_iter().chain(space.floor)))
        {
            lacked |= self.is_news(moment)?;
        }
        // Every batch of an export has it.
        let first = self.header.as_ref().is_some_and(|header| header.part == 0);
        self.done.received += u64::from(lacked && first);
        if let Some(floor) = record.floor {
            self.end_collection(record.name, floor)?;
        }
        let conn = self.txn.conn;
        let floor = tombstones::collection(conn, record.name)?;
        let there = collections::find(conn, record.name)?.is_some();
        let entry = Entry {
            name: record.name.to_owned(),
            floor,
            properties: Some(Properties {
                stamp: record.stamp,
                description: record.description.map(str::to_owned),
                settings,
                tokenizer: TokenizerSpec::parse(record.tokenizer)?,
                created_at: time(record.created_at)?,
            }),
            spaces,
            target: there.then(|| Target::find(conn, record.name)).transpose()?,
        };
        self.entries.push(entry);
        let place = self.entries.len() - 1;
        if there {
            self.merge_collection(place)
        } else if floor.is_none_or(|floor| record.stamp > floor) {
            self.done.applied += u64::from(news);
            self.make_collection(place)
        } else {
            floor.map_or(Ok(()), |floor| {
                self.conflict(Some(record.name), "collection", record.name, floor, record.stamp)
            })
        }
    }

    /// A collection that is gone at the source, of which something is remembered.
    pub(super) fn past_collection(&mut self, name: &str) -> Result<()> {
        check_name("collection name", name)?;
        if self.entries.len() >= limits::SYNC_COLLECTIONS || self.entries.iter().any(|entry| entry.name == name) {
            return Err(damaged("too many collections, or one twice"));
        }
        let conn = self.txn.conn;
        let there = collections::find(conn, name)?.is_some();
        self.entries.push(Entry {
            name: name.to_owned(),
            floor: tombstones::collection(conn, name)?,
            properties: None,
            spaces: Vec::new(),
            target: there.then(|| Target::find(conn, name)).transpose()?,
        });
        Ok(())
    }

    /// The number under which what is remembered of a collection is, whether it is there or not.
    pub(super) fn number(&self, place: usize) -> Result<i64> {
        let entry = &self.entries[place];
        match &entry.target {
            Some(target) => Ok(target.id()),
            None => tombstones::make_past(self.txn.conn, &entry.name),
        }
    }

    /// Makes a collection of the batch that is not here.
    pub(super) fn make_collection(&mut self, place: usize) -> Result<()> {
        let (txn, conn) = (self.txn, self.txn.conn);
        let Some(entry) = self.entries.get_mut(place) else {
            return Err(damaged("a collection that it does not name"));
        };
        let Some(properties) = &entry.properties else { return Err(damaged("a document of no collection")) };
        let stamp = txn.stamp_of(properties.stamp);
        let id = collections::insert(
            conn,
            stamp,
            &NewCollection {
                name: &entry.name,
                description: properties.description.as_deref(),
                settings: &properties.settings,
                tokenizer: &properties.tokenizer.as_text(),
                created_at: properties.created_at,
            },
        )?;
        fts::create_view(conn, id)?;
        fts::create(conn, FtsTable { collection_id: id, generation: 1 }, &properties.tokenizer)?;
        for (at, space) in entry.spaces.iter().enumerate() {
            // What the end of the collection covers says nothing.
            if let Some(floor) = space.floor.filter(|floor| Some(*floor) > entry.floor) {
                tombstones::end_space(conn, floor, id, &space.name)?;
            }
            let floor = tombstones::space(conn, id, &space.name)?.max(entry.floor);
            if at == 0 || floor.is_none_or(|floor| space.stamp > floor) {
                insert_space(txn, id, space)?;
            }
        }
        let target = Target::find(conn, &entry.name)?;
        shared::collection_changed(txn, stamp, &target, &entry.name, Op::Put)?;
        entry.look(conn)?;
        let ended = |stamp: Hlc| entry.floor.is_some_and(|floor| stamp <= floor);
        if ended(stamp.hlc) || entry.spaces.first().is_some_and(|space| ended(space.stamp)) {
            self.revived.push((entry.name.clone(), Some(DEFAULT_SPACE.to_owned())));
        }
        Ok(())
    }

    fn merge_collection(&mut self, place: usize) -> Result<()> {
        let (txn, conn) = (self.txn, self.txn.conn);
        let Some(entry) = self.entries.get(place) else { return Ok(()) };
        let (Some(target), Some(properties)) = (&entry.target, &entry.properties) else { return Ok(()) };
        let id = target.id();
        let own = sql::query_one(conn, "SELECT hlc FROM collections WHERE id = ?1", [id], |row| sql::hlc(row, 0))?;
        let (name, stamp, mut changed) = (entry.name.clone(), properties.stamp, false);
        let known = Known { stamp: own, living: true };
        let action = merge::register(stamp, None, Some(known));
        if let Action::Put { .. } = action {
            if target.collection.spec()? != properties.tokenizer {
                set_tokenizer::reindex(txn, target, &properties.tokenizer, self.progress)?;
            }
            let (description, created_at) = (properties.description.as_deref(), properties.created_at);
            collections::receive(conn, txn.stamp_of(stamp), id, description, &properties.settings, created_at)?;
            changed = true;
        }
        let settings: Option<Map<String, Value>> = serde_json::from_str(&target.collection.settings).ok();
        let differ = target.collection.description != properties.description
            || settings.as_ref() != Some(&properties.settings)
            || target.collection.spec()? != properties.tokenizer;
        if differ && matches!(action, Action::Put { .. } | Action::Older) {
            self.conflict(Some(&name), "collection", &name, own, stamp)?;
        }
        if changed {
            // Its text index may be another table now. What the batch says of its spaces is not looked at yet.
            self.entries[place].target = Some(Target::find(conn, &name)?);
        }
        let floors: Vec<(String, Hlc)> =
            self.entries[place].spaces.iter().filter_map(|space| Some((space.name.clone(), space.floor?))).collect();
        for (space, floor) in floors {
            self.end_space(place, &space, floor)?;
        }
        let mut richer = Vec::new();
        for space in &self.entries[place].spaces {
            let floor = tombstones::space(conn, id, &space.name)?.max(self.entries[place].floor);
            let Some(mut here) = spaces::find(conn, id, &space.name)? else {
                if floor.is_none_or(|floor| space.stamp > floor) {
                    insert_space(txn, id, space)?;
                    changed = true;
                }
                continue;
            };
            space.check(&name, &here)?;
            let (stamp, before) = (txn.stamp_of(space.stamp), spaces::stamp(conn, here.id)?);
            // Where the later of two changes does not know what the earlier one says, all are told of both.
            let lacks = (here.dimension.is_some() && space.dimension.is_none())
                || (here.model.is_some() && space.model.is_none());
            let gains = (here.dimension.is_none() && space.dimension.is_some())
                || (here.model.is_none() && space.model.is_some());
            if (lacks && space.stamp > before) || (gains && space.stamp < before) {
                richer.push((name.clone(), space.name.clone()));
            }
            if let (None, Some(dimension)) = (here.dimension, space.dimension) {
                spaces::set_dimension(conn, stamp, &mut here, dimension)?;
                changed = true;
            }
            if let (None, Some(model)) = (&here.model, &space.model) {
                spaces::set_model(conn, here.id, model)?;
                changed = true;
            }
            spaces::touch(conn, stamp, here.id)?;
        }
        self.richer.extend(richer);
        self.entries[place].look(conn)?;
        if let (true, Some(target)) = (changed, &self.entries[place].target) {
            self.done.applied += u64::from(!self.known.covers(stamp));
            shared::collection_changed(txn, txn.stamp_of(stamp), target, &name, Op::Put)?;
        }
        Ok(())
    }

    /// A space that a later document has vectors of comes back with it.
    pub(super) fn make_space(&mut self, place: usize, space: usize) -> Result<()> {
        let conn = self.txn.conn;
        let entry = &self.entries[place];
        if let (Some(target), Some(space)) = (&entry.target, entry.spaces.get(space)) {
            insert_space(self.txn, target.id(), space)?;
            self.revived.push((entry.name.clone(), Some(space.name.clone())));
        }
        self.entries[place].look(conn)
    }
}

/// What was deleted and is there again, for something in it is later, is so for every replica from now on: it would go with
/// the last of that otherwise, here and not there.
pub(super) fn revive(txn: &mut Txn<'_>, name: &str, space: Option<&str>) -> Result<()> {
    let conn = txn.conn;
    let (Some(row), Some(floor)) = (collections::find(conn, name)?, tombstones::collection(conn, name)?) else {
        return revive_space(txn, name, space);
    };
    let text = "SELECT hlc FROM collections WHERE id = ?1";
    let own = sql::query_one(conn, text, [row.id], |row| sql::hlc(row, 0))?;
    if own <= floor {
        let stamp = txn.stamp();
        collections::touch(conn, stamp, row.id)?;
        let target = Target::find(conn, name)?;
        shared::collection_changed(txn, stamp, &target, name, Op::Put)?;
    }
    revive_space(txn, name, space)
}

fn revive_space(txn: &mut Txn<'_>, name: &str, space: Option<&str>) -> Result<()> {
    let conn = txn.conn;
    let (Some(row), Some(space)) = (collections::find(conn, name)?, space) else { return Ok(()) };
    let floor = tombstones::space(conn, row.id, space)?.max(tombstones::collection(conn, name)?);
    let (Some(there), Some(floor)) = (spaces::find(conn, row.id, space)?, floor) else { return Ok(()) };
    if spaces::stamp(conn, there.id)? <= floor {
        let stamp = txn.stamp();
        spaces::touch(conn, stamp, there.id)?;
        let target = Target::find(conn, name)?;
        shared::collection_changed(txn, stamp, &target, name, Op::Put)?;
    }
    Ok(())
}

/// A space that has what a later change of it does not know of tells the others.
pub(super) fn restamp(txn: &mut Txn<'_>, name: &str, space: &str) -> Result<()> {
    let conn = txn.conn;
    let Some(row) = collections::find(conn, name)? else { return Ok(()) };
    let Some(there) = spaces::find(conn, row.id, space)? else { return Ok(()) };
    let stamp = txn.stamp();
    spaces::touch(conn, stamp, there.id)
}

fn insert_space(txn: &Txn<'_>, collection_id: i64, space: &Space) -> Result<()> {
    spaces::insert(
        txn.conn,
        &NewSpace {
            collection_id,
            name: &space.name,
            dimension: space.dimension,
            metric: space.metric,
            model: space.model.as_deref(),
            created_at: space.created_at,
            stamp: txn.stamp_of(space.stamp),
        },
    )
    .map(drop)
}
