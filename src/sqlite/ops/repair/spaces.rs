//! The spaces of a damaged file, with their vectors, in the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::rows::{Copied, Order, SpaceRow, describe};
use super::salvage::Salvage;
use super::{lose, vectors};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Metric;
use crate::request::DEFAULT_SPACE;
use crate::sqlite::ops::check::{chunk_rows, is_outside};
use crate::sqlite::schema::{self, Declared, Numbered};
use crate::sqlite::sql;
use crate::sqlite::tables::vectors::VectorTable;
use crate::sqlite::tables::{self, spaces};

impl Salvage<'_> {
    /// The spaces with their vectors: those that have a row, and those of which only the vectors are left.
    pub fn spaces(&mut self) -> Result<()> {
        let found = match schema::compare(self.source) {
            Ok(found) => found,
            Err(error) if is_outside(&error) => return Err(error),
            Err(_) => schema::Deviations::default(),
        };
        let mut living: BTreeMap<i64, (VectorTable, Option<SpaceRow>)> = BTreeMap::new();
        for space in self.space_rows()? {
            let generation = space.generation.max(1);
            let dimension = space.dimension.unwrap_or(0);
            let table = VectorTable { space_id: space.id, generation, dimension, metric: space.metric };
            living.insert(space.id, (table, Some(space)));
        }
        for (numbered, declared) in &found.numbered {
            if let (Numbered::Vectors { space, generation }, Declared::Vectors { dimension, metric }) =
                (numbered, declared)
            {
                let metric = if *metric == "l2" { Metric::L2 } else { Metric::Cosine };
                let table = VectorTable { space_id: *space, generation: *generation, dimension: *dimension, metric };
                living.entry(*space).or_insert((table, None));
            }
        }
        let mut next = living.keys().max().map_or(1, |last| last.saturating_add(1));
        let mut living: Vec<_> = living.into_iter().collect();
        // What has no name may be a default space, and others get another number where theirs is before it.
        living.sort_by_key(|(_, (_, row))| row.as_ref().map(|row| row.name != DEFAULT_SPACE));
        for (id, (table, row)) in living {
            self.keep_going()?;
            self.space(id, table, row, &mut next)?;
        }
        for collection in tables::collections::list(self.conn)? {
            if spaces::find(self.conn, collection.id, DEFAULT_SPACE)?.is_none() {
                self.default_space(collection.id, None)?;
            }
        }
        Ok(())
    }

    fn space_rows(&mut self) -> Result<Vec<SpaceRow>> {
        const TABLE: Copied = Copied {
            name: "spaces",
            order: Order::Id("id"),
            columns: &["collection_id", "name", "dimension", "metric", "model", "created_at", "vec_generation"],
        };
        if !schema::is_fixed_table(self.source, TABLE.name)? {
            self.report.lost.push("the table spaces: its definition is not there or not this format's".to_owned());
            return Ok(Vec::new());
        }
        let mut rows = Vec::new();
        let mut refused = Vec::new();
        let whole = self.walk(&TABLE, "id", &mut |values| {
            match SpaceRow::of(&values) {
                Some(row) => rows.push(row),
                None => refused.push(describe(&values)),
            }
            Ok(())
        })?;
        lose(&mut self.report, "rows of spaces that are no rows of a store", &refused);
        if !whole {
            self.report.lost.push("rows of spaces on pages that cannot be read".to_owned());
        }
        Ok(rows)
    }

    fn space(&mut self, old: i64, table: VectorTable, row: Option<SpaceRow>, next: &mut i64) -> Result<()> {
        let all: Vec<i64> = match &row {
            Some(row) => chunk_rows(self.conn, row.collection_id)?,
            None => sql::query_all(self.conn, "SELECT id FROM chunks ORDER BY id", [], |row| row.get(0))?,
        };
        let remains = (table.dimension > 0).then(|| vectors::remains(self.source, table, &all)).transpose()?;
        let said = remains.as_ref().map(|remains| remains.said().to_vec()).unwrap_or_default();
        let row = match row {
            Some(row) => row,
            None => {
                let Some(first) = said.first() else { return Ok(()) };
                let text = "SELECT collection_id FROM chunks WHERE id = ?1";
                let collection_id = sql::query_one(self.conn, text, [first], |row| row.get(0))?;
                let name = match spaces::find(self.conn, collection_id, DEFAULT_SPACE)? {
                    None => DEFAULT_SPACE.to_owned(),
                    Some(_) => format!("recovered-{old}"),
                };
                self.report.lost.push(format!("the row of a space, which is now called {name:?}"));
                SpaceRow {
                    id: old,
                    collection_id,
                    name,
                    dimension: None,
                    metric: table.metric,
                    model: None,
                    generation: 1,
                    created_at: 0,
                }
            }
        };
        let text = "SELECT EXISTS (SELECT 1 FROM collections WHERE id = ?1)";
        if !sql::query_one(self.conn, text, [row.collection_id], |row| row.get::<_, bool>(0))? {
            self.report.lost.push(format!("space {:?}, whose collection is not there", row.name));
            return Ok(());
        }
        let id = self.number(old, &row, next)?;
        let dimension = remains.as_ref().map(vectors::Remains::dimension);
        let insert = "INSERT OR IGNORE INTO spaces (id, collection_id, name, dimension, metric, model, created_at,
                                                    vec_generation)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let values = rusqlite::params![
            id,
            row.collection_id,
            row.name,
            dimension,
            row.metric.as_str(),
            row.model,
            row.created_at,
            i64::from(dimension.is_some())
        ];
        if sql::execute(self.conn, insert, values)? == 0 {
            self.report.lost.push(format!("space {:?}, of which there is another", row.name));
            return Ok(());
        }
        let (Some(remains), Some(dimension)) = (remains, dimension) else { return Ok(()) };
        let new = VectorTable { generation: 1, dimension, metric: row.metric, space_id: id };
        tables::vectors::create(self.conn, new)?;
        let mut kept = BTreeSet::new();
        let (conn, progress) = (self.conn, self.progress);
        vectors::each(self.source, &remains, &mut |chunk, vector| {
            if progress.cancelled.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller; no file was made"));
            }
            if kept.insert(chunk) { tables::vectors::insert(conn, new, chunk, vector) } else { Ok(()) }
        })?;
        self.report.salvaged.push((format!("embeddings of space {id}"), kept.len() as u64));
        let lost: Vec<String> =
            said.iter().filter(|chunk| !kept.contains(chunk)).map(|chunk| vectors::uid(conn, *chunk)).collect();
        lose(&mut self.report, &format!("the embeddings in space {:?} (number {id}) of chunks", row.name), &lost);
        Ok(())
    }

    /// The number of a space: its own, unless the default space of its collection, which is the first, comes after it.
    fn number(&mut self, old: i64, row: &SpaceRow, next: &mut i64) -> Result<i64> {
        if row.name == DEFAULT_SPACE {
            return Ok(old);
        }
        match spaces::find(self.conn, row.collection_id, DEFAULT_SPACE)? {
            Some(default) if default.id < old => return Ok(old),
            Some(_) => {}
            None => self.default_space(row.collection_id, Some(old))?,
        }
        let new = *next;
        *next = next.saturating_add(1);
        sql::execute(self.conn, "UPDATE space_stamps SET space_id = ?2 WHERE space_id = ?1", [old, new])?;
        Ok(new)
    }

    /// A default space for a collection that has none.
    fn default_space(&mut self, collection_id: i64, number: Option<i64>) -> Result<()> {
        let insert =
            "INSERT INTO spaces (id, collection_id, name, metric, created_at) VALUES (?1, ?2, ?3, 'cosine', 0)";
        sql::execute(self.conn, insert, rusqlite::params![number, collection_id, DEFAULT_SPACE])?;
        let name = tables::collections::by_row(self.conn, collection_id)?.name;
        self.report.lost.push(format!("the default space of collection {name:?}; it has a new one"));
        Ok(())
    }
}
