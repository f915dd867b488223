//! The ends of collections and spaces: what is in them from before goes.

use rusqlite::params;

use super::{Apply, damaged};
use crate::error::Result;
use crate::hlc::Hlc;
use crate::model::check_name;
use crate::request::DEFAULT_SPACE;
use crate::sqlite::ops::shared::{self, Target};
use crate::sqlite::sql;
use crate::sqlite::tables::changes::{self, Entity};
use crate::sqlite::tables::{chunks, collections, documents, relations, spaces, tombstones, vectors};

impl Apply<'_, '_> {
    pub(super) fn collection_floor(&mut self, name: &str, floor: Hlc) -> Result<()> {
        check_name("collection name", name)?;
        self.done.received += u64::from(self.is_news(floor)?);
        self.end_collection(name, floor)
    }

    /// Everything in a collection from before a moment goes; and the collection, if nothing later is in it.
    pub(super) fn end_collection(&mut self, name: &str, floor: Hlc) -> Result<()> {
        let news = self.is_news(floor)?;
        let (txn, conn) = (self.txn, self.txn.conn);
        let before = tombstones::collection(conn, name)?;
        if !news || before.is_some_and(|before| before >= floor) {
            return Ok(());
        }
        let stamp = txn.stamp_of(floor);
        changes::bury(conn, stamp, 0, Entity::Collection, name)?;
        self.done.applied += 1;
        for entry in self.entries.iter_mut().filter(|entry| entry.name == name) {
            entry.floor = Some(floor);
        }
        if collections::find(conn, name)?.is_none() {
            return match tombstones::past(conn, name)? {
                Some(past) => tombstones::forget_upto(conn, past, floor),
                None => Ok(()),
            };
        }
        let target = Target::find(conn, name)?;
        let id = target.id();
        let text = "SELECT hlc FROM collections WHERE id = ?1";
        let own = sql::query_one(conn, text, [id], |row| sql::hlc(row, 0))?;
        let all = |text| sql::query_all(conn, text, [id], |row| Ok((row.get::<_, i64>(0)?, sql::hlc(row, 1)?)));
        let documents = all("SELECT id, hlc FROM documents WHERE collection_id = ?1")?;
        let related = relations::upto(conn, id, floor)?;
        let later = documents.iter().any(|(_, stamp)| *stamp > floor);
        // Whatever of it the one who deleted it had not seen. A copy of the file tells of the deletion that is known.
        let stamps = documents.iter().map(|(_, stamp)| *stamp).chain(related.iter().map(|(_, stamp)| *stamp));
        let unseen = stamps.chain([own]).filter(|stamp| self.concurrent(*stamp, floor)).max();
        let told = before.is_some_and(|before| Hlc { replica: floor.replica, ..before } == floor);
        if let Some(unseen) = unseen.filter(|_| !told) {
            self.conflict(Some(name), "collection", name, unseen, floor)?;
        }
        if own <= floor && !later {
            shared::drop_collection(txn, stamp, &target)?;
            for entry in self.entries.iter_mut().filter(|entry| entry.name == name) {
                entry.target = None;
            }
            return Ok(());
        }
        self.revived.push((name.to_owned(), None));
        for (uid, own) in related {
            self.conflict(Some(name), "relation", &uid, own, floor)?;
        }
        for (row, own) in documents.into_iter().filter(|(_, stamp)| *stamp <= floor) {
            txn.check(self.progress)?;
            let document = documents::by_row(conn, row)?;
            self.conflict(Some(name), "document", &document.uid, own, floor)?;
            shared::remove_document(txn, stamp, &target, row, &document.uid)?;
        }
        relations::forget_upto(conn, stamp, id)?;
        tombstones::forget_upto(conn, id, floor)?;
        for space in &target.spaces {
            if spaces::stamp(conn, space.id)? > floor {
                continue;
            }
            // Of documents from before the end none is left.
            let used = space.table().map_or(Ok(0), |table| vectors::count(conn, table))? > 0;
            if used || space.name == DEFAULT_SPACE {
                self.revived.push((name.to_owned(), Some(space.name.clone())));
            } else {
                spaces::delete(conn, space)?;
            }
        }
        self.entries.iter_mut().filter(|entry| entry.name == name).try_for_each(|entry| entry.look(conn))
    }

    pub(super) fn space_floor(&mut self, place: u64, name: &str, floor: Hlc) -> Result<()> {
        check_name("space name", name)?;
        if name == DEFAULT_SPACE {
            return Err(damaged("the end of a default space"));
        }
        let news = self.is_news(floor)?;
        self.done.received += u64::from(news);
        self.entry(place)?;
        let place = place as usize;
        if !news || self.entries[place].floor.is_some_and(|end| floor <= end) {
            return Ok(());
        }
        if self.entries[place].target.is_none() {
            return tombstones::end_space(self.txn.conn, floor, self.number(place)?, name);
        }
        self.end_space(place, name, floor)?;
        self.entries[place].look(self.txn.conn)
    }

    /// Vectors of documents from before a moment go; and the space, if none is left and it is not later itself.
    pub(super) fn end_space(&mut self, place: usize, name: &str, floor: Hlc) -> Result<()> {
        let (txn, conn) = (self.txn, self.txn.conn);
        let Some(target) = &self.entries[place].target else { return Ok(()) };
        if tombstones::space(conn, target.id(), name)?.max(self.entries[place].floor) >= Some(floor) {
            return Ok(());
        }
        tombstones::end_space(conn, floor, target.id(), name)?;
        self.done.applied += 1;
        let Some(space) = spaces::find(conn, target.id(), name)? else { return Ok(()) };
        let own = spaces::stamp(conn, space.id)?;
        let Some(table) = space.table() else {
            return if own <= floor { spaces::delete(conn, &space) } else { Ok(()) };
        };
        let of = |columns: &str, condition: &str| {
            format!(
                "SELECT {columns} FROM documents d JOIN chunks c ON c.document_id = d.id JOIN {}_rowids v ON v.rowid = c.id
                 WHERE d.collection_id = ?1 AND d.hlc {condition} ?2",
                table.name()
            )
        };
        let values = params![target.id(), floor.to_bytes()];
        let rowids = |condition| sql::query_all(conn, &of("c.id", condition), values, |row| row.get::<_, i64>(0));
        let lost: Vec<(String, Hlc)> = sql::query_all(conn, &of("DISTINCT d.uid, d.hlc", "<="), values, |row| {
            Ok((row.get(0)?, sql::hlc(row, 1)?))
        })?;
        let collection = target.collection.name.clone();
        if own <= floor && rowids(">")?.is_empty() {
            spaces::delete(conn, &space)?;
        } else {
            for row in rowids("<=")? {
                txn.check(self.progress)?;
                let chunk = chunks::by_row(conn, row)?;
                shared::renumber_chunk(txn, txn.stamp_of(floor), target, &chunk, table)?;
            }
            self.revived.push((collection.clone(), Some(name.to_owned())));
        }
        for (uid, stamp) in lost {
            self.conflict(Some(&collection), "document", &uid, stamp, floor)?;
        }
        Ok(())
    }
}
