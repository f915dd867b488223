//! Ranking by distance.

use std::time::Duration;

use rusqlite::Connection;

use super::Ranked;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{Leg, Metric, check_vector};
use crate::request::Accuracy;
use crate::sqlite::derived::{Derived, Followed, Request};
use crate::sqlite::neighbor::Neighbor;
use crate::sqlite::pulse::Pulse;
use crate::sqlite::tables::collections::CollectionRow;
use crate::sqlite::tables::spaces;
use crate::sqlite::tables::vectors::{self, Road, Rows, VectorTable};

/// The k nearest, and how they were found.
pub struct VectorLeg {
    pub ranked: Vec<Ranked>,
    /// False where the timeout cut it.
    pub complete: bool,
    /// They are the true k nearest of what was looked at.
    pub exact: bool,
    pub took: Duration,
    /// `None` where there was nothing to look at.
    pub way: Option<Way>,
}

impl Default for VectorLeg {
    /// A leg that the timeout cut.
    fn default() -> Self {
        Self { ranked: Vec::new(), complete: false, exact: false, took: Duration::ZERO, way: None }
    }
}

/// How the nearest were found.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// In the tables.
    Table(Road),
    /// In an index.
    Index(Followed),
}

pub fn rank(
    (conn, derived): (&Connection, &Derived),
    pulse: &Pulse,
    collection: &CollectionRow,
    (vector, space): (&[f32], &str),
    k: usize,
    (rows, accuracy): (Rows<'_>, Accuracy),
) -> Result<VectorLeg> {
    let began = pulse.elapsed();
    let space = spaces::require(conn, collection.id, space)?;
    check_query(vector, space.metric)?;
    space.check_dimension(vector.len())?;
    let Some(table) = space.table() else {
        return Ok(VectorLeg { complete: true, exact: true, ..VectorLeg::default() });
    };
    let found = nearest((conn, derived), pulse, (collection.id, table), &[vector], k, rows, accuracy)?;
    let neighbors = found.neighbors.into_iter().next().unwrap_or_default();
    Ok(VectorLeg {
        ranked: ranked(&neighbors, space.metric),
        complete: found.complete,
        exact: found.exact,
        took: pulse.elapsed().saturating_sub(began),
        way: Some(found.way),
    })
}

/// Of several queries the nearest, however they were found.
pub struct Nearest {
    pub neighbors: Vec<Vec<Neighbor>>,
    /// False where the timeout cut it.
    pub complete: bool,
    /// They are the true k nearest of what was looked at.
    pub exact: bool,
    pub way: Way,
}

/// From the index of a space, or, where there is none that fits, from its table.
pub fn nearest(
    (conn, derived): (&Connection, &Derived),
    pulse: &Pulse,
    (collection_id, table): (i64, VectorTable),
    queries: &[&[f32]],
    k: usize,
    rows: Rows<'_>,
    accuracy: Accuracy,
) -> Result<Nearest> {
    let keep_going = || pulse.beats();
    let request = Request { queries, k, rows, accuracy, keep_going: &keep_going };
    // An index may answer before it asks.
    if keep_going()
        && let Some((found, followed)) = derived.nearest(conn, collection_id, table, &request)?
    {
        let (neighbors, complete, exact) = (found.neighbors, found.complete, found.exact);
        return Ok(Nearest { neighbors, complete, exact, way: Way::Index(followed) });
    }
    let found = vectors::search(conn, table, queries, k, rows, &keep_going)?;
    Ok(Nearest {
        neighbors: found.neighbors,
        complete: found.complete,
        exact: found.complete,
        way: Way::Table(found.road),
    })
}

/// Neighbors as a ranking.
pub fn ranked(neighbors: &[Neighbor], metric: Metric) -> Vec<Ranked> {
    let ranked = |(place, neighbor): (usize, &Neighbor)| {
        let distance = f64::from(neighbor.distance);
        let score = metric.score(distance);
        let rank = place as u32 + 1;
        Ranked {
            chunk_id: neighbor.chunk_id,
            rank,
            score,
            distance: Some(distance),
            vector: Some(Leg { rank, score }),
            keyword: None,
        }
    };
    neighbors.iter().enumerate().map(ranked).collect()
}

/// Refuses a query vector that cannot be compared.
pub fn check_query(vector: &[f32], metric: Metric) -> Result<()> {
    if vector.is_empty() || vector.len() > limits::DIMENSION {
        return Err(Error::new(
            ErrorKind::InvalidVector,
            format!("the query vector has {} components; from 1 to {} are allowed", vector.len(), limits::DIMENSION),
        ));
    }
    check_vector(vector, metric).map_err(|e| e.context("the query vector"))
}
