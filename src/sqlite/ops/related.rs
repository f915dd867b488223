use rusqlite::Connection;

use super::shared::is_there;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{self, Walk};
use crate::limits;
use crate::model::{Related, Timestamp};
use crate::request::RelatedTo;
use crate::sqlite::tables::{collections, expiry, relations};

pub fn run(conn: &Connection, request: &RelatedTo) -> Result<Vec<Related>> {
    let RelatedTo { collection, ids, depth, kinds, min_strength, direction, limit } = request;
    if *depth > limits::GRAPH_DEPTH {
        return Err(Error::new(
            ErrorKind::Argument,
            format!("depth is {depth}; at most {} relations are followed one after the other", limits::GRAPH_DEPTH),
        ));
    }
    if min_strength.is_nan() {
        return Err(Error::new(ErrorKind::Argument, "min_strength is NaN; give a number from 0 to 1"));
    }
    let collection = collections::require(conn, collection)?;
    let walk = Walk { depth: *depth, min_strength: *min_strength, limit: *limit };
    let now = Timestamp::now();
    let expired = expiry::any(conn, now)?;
    graph::walk(ids, walk, |from| {
        let mut steps = relations::steps(conn, collection.id, from, *direction, kinds.as_deref())?;
        if expired {
            let mut there = Vec::with_capacity(steps.len());
            for step in steps {
                if is_there(conn, collection.id, &step.from, now)? && is_there(conn, collection.id, &step.to, now)? {
                    there.push(step);
                }
            }
            steps = there;
        }
        Ok(steps)
    })
}
