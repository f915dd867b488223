use rusqlite::Connection;

use crate::error::Result;
use crate::model::Relation;
use crate::request::Relations;
use crate::sqlite::tables::{collections, relations};

pub fn run(conn: &Connection, request: &Relations) -> Result<Vec<Relation>> {
    let collection = collections::require(conn, &request.collection)?;
    relations::of(conn, collection.id, request.id.as_deref(), request.direction, request.kind.as_deref())
}
