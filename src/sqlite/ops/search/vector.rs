//! Ranking by distance.

use std::time::Duration;

use rusqlite::Connection;

use super::Ranked;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{Leg, Metric, check_vector};
use crate::sqlite::pulse::Pulse;
use crate::sqlite::tables::collections::CollectionRow;
use crate::sqlite::tables::spaces;
use crate::sqlite::tables::vectors::{self, Road, Rows};
use crate::sqlite::top_k::Neighbor;

/// The k nearest, and how they were found.
#[derive(Default)]
pub struct VectorLeg {
    pub ranked: Vec<Ranked>,
    /// False where the timeout cut it.
    pub complete: bool,
    pub took: Duration,
    /// `None` where there was nothing to look at.
    pub road: Option<Road>,
}

pub fn rank(
    conn: &Connection,
    pulse: &Pulse,
    collection: &CollectionRow,
    vector: &[f32],
    space: &str,
    k: usize,
    rows: Rows<'_>,
) -> Result<VectorLeg> {
    let began = pulse.elapsed();
    let space = spaces::require(conn, collection.id, space)?;
    check_query(vector, space.metric)?;
    space.check_dimension(vector.len())?;
    let Some(table) = space.table() else { return Ok(VectorLeg { complete: true, ..VectorLeg::default() }) };
    let found = vectors::search(conn, table, &[vector], k, rows, &|| pulse.beats())?;
    let neighbors = found.neighbors.into_iter().next().unwrap_or_default();
    Ok(VectorLeg {
        ranked: ranked(&neighbors, space.metric),
        complete: found.complete,
        took: pulse.elapsed().saturating_sub(began),
        road: Some(found.road),
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
