//! Ranking by distance.

use rusqlite::Connection;

use super::Ranked;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::limits;
use crate::model::{Leg, Metric, check_vector};
use crate::sqlite::matching;
use crate::sqlite::tables::collections::CollectionRow;
use crate::sqlite::tables::{spaces, vectors};
use crate::sqlite::top_k::Neighbor;

pub(super) fn rank(
    conn: &Connection,
    collection: &CollectionRow,
    vector: &[f32],
    space: &str,
    k: usize,
    filter: Option<&Filter>,
) -> Result<Vec<Ranked>> {
    let space = spaces::require(conn, collection.id, space)?;
    check_query(vector, space.metric)?;
    space.check_dimension(vector.len())?;
    let Some(table) = space.table() else { return Ok(Vec::new()) };
    let allowed = filter.map(|filter| matching::chunks(conn, collection.id, filter)).transpose()?;
    let found = vectors::search(conn, table, vector, k, allowed.as_ref())?;
    let ranked = |(place, neighbor): (usize, Neighbor)| {
        let distance = f64::from(neighbor.distance);
        let score = space.metric.score(distance);
        Ranked {
            chunk_id: neighbor.chunk_id,
            score,
            distance: Some(distance),
            vector: Some(Leg { rank: place as u32 + 1, score }),
            keyword: None,
        }
    };
    Ok(found.into_iter().enumerate().map(ranked).collect())
}

fn check_query(vector: &[f32], metric: Metric) -> Result<()> {
    if vector.is_empty() || vector.len() > limits::DIMENSION {
        return Err(Error::new(
            ErrorKind::InvalidVector,
            format!("the query vector has {} components; from 1 to {} are allowed", vector.len(), limits::DIMENSION),
        ));
    }
    check_vector(vector, metric).map_err(|e| e.context("the query vector"))
}
