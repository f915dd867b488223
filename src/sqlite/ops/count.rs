use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::error::Result;
use crate::filter::Filter;
use crate::sqlite::filter_sql::{self, Documents, Indexes};
use crate::sqlite::matching;
use crate::sqlite::sql;
use crate::sqlite::tables::collections;

pub fn chunks(conn: &Connection, collection: &str, filter: Option<&Filter>) -> Result<u64> {
    let id = collections::require(conn, collection)?.id;
    match filter {
        None => sql::query_one(conn, "SELECT count(*) FROM chunks WHERE collection_id = ?1", [id], |row| row.get(0)),
        Some(filter) => matching::count(conn, id, filter),
    }
}

pub fn documents(conn: &Connection, collection: &str, filter: Option<&Filter>) -> Result<u64> {
    let id = collections::require(conn, collection)?.id;
    let Some(filter) = filter else {
        let text = "SELECT count(*) FROM documents WHERE collection_id = ?1";
        return sql::query_one(conn, text, [id], |row| row.get(0));
    };
    // A document without chunks is in no index.
    let condition = filter_sql::condition(filter, &Indexes::new(), Documents::Joined, 2);
    let text = format!(
        "SELECT count(DISTINCT d.id) FROM documents d LEFT JOIN chunks c ON c.document_id = d.id
         WHERE d.collection_id = ?1 AND {}",
        condition.sql
    );
    let mut values = vec![Value::Integer(id)];
    values.extend(condition.values);
    sql::query_one(conn, &text, params_from_iter(values), |row| row.get(0))
}
