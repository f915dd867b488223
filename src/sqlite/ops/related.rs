use rusqlite::Connection;

use super::steps::Steps;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{self, Walk};
use crate::limits;
use crate::model::{Related, Timestamp};
use crate::request::RelatedTo;
use crate::sqlite::tables::collections;

pub fn run(conn: &Connection, request: &RelatedTo) -> Result<Vec<Related>> {
    let RelatedTo { collection, ids, depth, kinds, min_strength, direction, limit } = request;
    if *depth > limits::GRAPH_DEPTH {
        return Err(Error::new(
            ErrorKind::Argument,
            format!("depth is {depth}; at most {} relations are followed one after the other", limits::GRAPH_DEPTH),
        ));
    }
    if !(0.0..=1.0).contains(min_strength) {
        return Err(Error::new(ErrorKind::Argument, format!("min_strength is {min_strength}; it is from 0 to 1")));
    }
    let collection = collections::require(conn, collection)?;
    let walk = Walk { depth: *depth, min_strength: *min_strength };
    let steps = Steps::new(conn, collection.id, *direction, kinds.as_deref(), Timestamp::now())?;
    graph::related(ids, walk, *limit, |from| steps.of(from))
}
