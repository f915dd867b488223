use rusqlite::Connection;

use super::shared::is_there;
use crate::error::Result;
use crate::model::{Relation, Timestamp};
use crate::request::Relations;
use crate::sqlite::tables::{collections, expiry, relations};

pub fn run(conn: &Connection, request: &Relations) -> Result<Vec<Relation>> {
    let collection = collections::require(conn, &request.collection)?;
    let now = Timestamp::now();
    let mut found =
        relations::of(conn, collection.id, request.id.as_deref(), request.direction, request.kind.as_deref())?;
    if expiry::any(conn, now)? {
        let mut there = Vec::with_capacity(found.len());
        for relation in found {
            if is_there(conn, collection.id, &relation.source, now)?
                && is_there(conn, collection.id, &relation.target, now)?
            {
                there.push(relation);
            }
        }
        found = there;
    }
    Ok(found)
}
