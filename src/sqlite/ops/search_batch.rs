use std::collections::HashMap;
use std::sync::Arc;

use super::search::{Reading, check_k, check_query, interrupted, nearest, ranked};
use crate::error::Result;
use crate::model::{Hits, Timestamp};
use crate::request::{Include, SearchBatch};
use crate::sqlite::pulse::Pulse;
use crate::sqlite::readers::Readers;
use crate::sqlite::tables::vectors::Rows;
use crate::sqlite::tables::{collections, expiry, spaces};

/// Queries that are compared with a block while it is at hand.
const TOGETHER: usize = 64;

pub fn run(readers: &Readers, request: &SearchBatch, pulse: &Arc<Pulse>) -> Result<Vec<Hits>> {
    check_k(request.k)?;
    let name: Arc<str> = Arc::from(request.collection.as_str());
    let mut answers = readers.read_while(pulse, |conn| {
        let collection = collections::require(conn, &request.collection)?;
        let space = spaces::require(conn, collection.id, &request.space)?;
        let queries: Vec<&[f32]> = request.vectors.chunks_exact(request.dimension.max(1)).collect();
        for (row, query) in queries.iter().enumerate() {
            check_query(query, space.metric).map_err(|e| e.context(format!("row {row}")))?;
        }
        space.check_dimension(request.dimension)?;
        let filter = request.filter.as_ref();
        let allowed = filter.map(|filter| readers.row_sets.chunks(conn, collection.id, filter)).transpose()?;
        let expired = expiry::chunks(conn, collection.id, Timestamp::now())?;
        let living = match (&allowed, &expired) {
            (Some(allowed), Some(expired)) => Some(allowed.difference(expired)),
            _ => None,
        };
        let rows = match (living.as_ref().or(allowed.as_deref()), &expired) {
            (Some(allowed), _) => Rows::Only(allowed),
            (None, Some(expired)) => Rows::Without(expired),
            (None, None) => Rows::All,
        };
        let reader = (conn, &readers.derived);
        let mut reading = Reading::new(conn, Include::default())?;
        let mut answers = Vec::with_capacity(queries.len());
        for group in queries.chunks(TOGETHER) {
            let (neighbors, exact) = match space.table() {
                Some(table) => {
                    let found =
                        nearest(reader, pulse, (collection.id, table), group, request.k, rows, request.accuracy)?;
                    if !found.complete {
                        return Err(interrupted());
                    }
                    (found.neighbors, found.exact)
                }
                None => (vec![Vec::new(); group.len()], true),
            };
            for neighbors in neighbors {
                let hits = ranked(&neighbors, space.metric)
                    .into_iter()
                    .map(|ranked| reading.read(ranked, &name))
                    .collect::<Result<Vec<_>>>()?;
                answers.push(Hits {
                    hits,
                    exact,
                    complete: true,
                    took: pulse.elapsed(),
                    keyword: None,
                    plan: None,
                    markers: HashMap::new(),
                });
            }
        }
        Ok(answers)
    })?;
    // What the whole took, shared out.
    let took = pulse.elapsed() / u32::try_from(answers.len().max(1)).unwrap_or(u32::MAX);
    answers.iter_mut().for_each(|hits| hits.took = took);
    Ok(answers)
}
