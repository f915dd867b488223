//! The embedding spaces of collections, each the owner of a vec0 table once its dimension is known.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::vectors::{self, VectorTable};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{Metric, SpaceInfo, Timestamp};
use crate::sqlite::sql;

/// A space as its row has it.
#[derive(Debug, Clone)]
pub struct SpaceRow {
    pub id: i64,
    pub name: String,
    pub dimension: Option<usize>,
    pub metric: Metric,
    pub model: Option<String>,
    pub generation: i64,
}

impl SpaceRow {
    /// As callers see it.
    pub fn info(self) -> SpaceInfo {
        SpaceInfo { name: self.name, dimension: self.dimension, metric: self.metric, model: self.model }
    }

    /// Its vec0 table, once there is one.
    pub fn table(&self) -> Option<VectorTable> {
        self.dimension.map(|dimension| VectorTable {
            space_id: self.id,
            generation: self.generation,
            dimension,
            metric: self.metric,
        })
    }

    /// Refuses vectors of another dimension.
    pub fn check_dimension(&self, given: usize) -> Result<()> {
        match self.dimension {
            Some(dimension) if dimension != given => Err(Error::new(
                ErrorKind::DimensionMismatch,
                format!(
                    "vectors of dimension {given} were given to space {:?}, which has dimension {dimension}; embed \
                     with the model the space was made for, or create_space for another",
                    self.name
                ),
            )),
            _ => Ok(()),
        }
    }
}

const COLUMNS: &str = "id, name, dimension, metric, model, vec_generation";

fn read(row: &Row<'_>) -> rusqlite::Result<SpaceRow> {
    let metric: String = row.get(3)?;
    let dimension: Option<usize> = row.get(2)?;
    // Memory is taken by it.
    if let Some(given) = dimension.filter(|given| !(1..=limits::DIMENSION).contains(given)) {
        return Err(rusqlite::Error::IntegralValueOutOfRange(2, i64::try_from(given).unwrap_or(i64::MAX)));
    }
    let generation: i64 = row.get(5)?;
    if generation < i64::from(dimension.is_some()) {
        return Err(rusqlite::Error::IntegralValueOutOfRange(5, generation));
    }
    Ok(SpaceRow {
        id: sql::part_of_name(row, 0)?,
        name: row.get(1)?,
        dimension,
        metric: metric
            .parse()
            .map_err(|e: Error| rusqlite::Error::FromSqlConversionFailure(3, Type::Text, e.into()))?,
        model: row.get(4)?,
        generation,
    })
}

/// The space of that name.
pub fn find(conn: &Connection, collection_id: i64, name: &str) -> Result<Option<SpaceRow>> {
    let text = format!("SELECT {COLUMNS} FROM spaces WHERE collection_id = ?1 AND name = ?2");
    sql::query_optional(conn, &text, params![collection_id, name], read)
}

/// The space of that name, or `NotFound`.
pub fn require(conn: &Connection, collection_id: i64, name: &str) -> Result<SpaceRow> {
    find(conn, collection_id, name)?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no space {name:?}; create_space makes one")))
}

/// The space of that rowid, with its collection.
pub fn by_row(conn: &Connection, id: i64) -> Result<(i64, SpaceRow)> {
    let text = format!("SELECT {COLUMNS}, collection_id FROM spaces WHERE id = ?1");
    sql::query_one(conn, &text, params![id], |row| Ok((row.get(6)?, read(row)?)))
}

/// All of a collection, oldest first; the oldest is the default one.
pub fn list(conn: &Connection, collection_id: i64) -> Result<Vec<SpaceRow>> {
    let text = format!("SELECT {COLUMNS} FROM spaces WHERE collection_id = ?1 ORDER BY id");
    sql::query_all(conn, &text, params![collection_id], read)
}

/// A new space, with its vec0 table if the dimension is known.
pub struct NewSpace<'a> {
    pub collection_id: i64,
    pub name: &'a str,
    pub dimension: Option<usize>,
    pub metric: Metric,
    pub model: Option<&'a str>,
    pub created_at: Timestamp,
}

/// Adds a space.
pub fn insert(conn: &Connection, new: &NewSpace<'_>) -> Result<SpaceRow> {
    sql::execute(
        conn,
        "INSERT INTO spaces (collection_id, name, metric, model, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![new.collection_id, new.name, new.metric.as_str(), new.model, new.created_at.0],
    )?;
    let mut space = SpaceRow {
        id: conn.last_insert_rowid(),
        name: new.name.to_owned(),
        dimension: None,
        metric: new.metric,
        model: new.model.map(str::to_owned),
        generation: 0,
    };
    if let Some(dimension) = new.dimension {
        set_dimension(conn, &mut space, dimension)?;
    }
    Ok(space)
}

/// Fixes the dimension of a space that has none and makes its first vec0 table.
pub fn set_dimension(conn: &Connection, space: &mut SpaceRow, dimension: usize) -> Result<VectorTable> {
    let table = VectorTable { space_id: space.id, generation: 1, dimension, metric: space.metric };
    vectors::create(conn, table)?;
    set_generation(conn, table)?;
    space.dimension = Some(dimension);
    space.generation = 1;
    Ok(table)
}

/// Records which vec0 table is the living one.
pub fn set_generation(conn: &Connection, table: VectorTable) -> Result<()> {
    sql::execute(
        conn,
        "UPDATE spaces SET dimension = ?2, vec_generation = ?3 WHERE id = ?1",
        params![table.space_id, table.dimension, table.generation],
    )
    .map(drop)
}

/// Names the model of a space that has none.
pub fn set_model(conn: &Connection, id: i64, model: &str) -> Result<()> {
    sql::execute(conn, "UPDATE spaces SET model = ?2 WHERE id = ?1", params![id, model]).map(drop)
}

/// Removes a space with its vec0 table.
pub fn delete(conn: &Connection, space: &SpaceRow) -> Result<()> {
    if let Some(table) = space.table() {
        vectors::drop_table(conn, table)?;
    }
    sql::execute(conn, "DELETE FROM spaces WHERE id = ?1", params![space.id]).map(drop)
}
