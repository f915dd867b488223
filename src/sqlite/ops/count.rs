use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::model::Timestamp;
use crate::sqlite::filter_sql::{self, Documents, Indexes};
use crate::sqlite::matching;
use crate::sqlite::sql;
use crate::sqlite::tables::collections;
use crate::sqlite::tables::expiry::{self, chunk_alive, document_alive};

pub fn chunks(conn: &Connection, collection: &str, filter: Option<&Filter>, now: Timestamp) -> Result<u64> {
    let id = collections::require(conn, collection)?.id;
    if let Some(filter) = filter {
        return matching::count(conn, id, filter, now);
    }
    let text = "SELECT count(*) FROM chunks WHERE collection_id = ?1";
    let stored: u64 = sql::query_one(conn, text, [id], |row| row.get(0))?;
    let expired = expiry::chunks(conn, id, now)?.map_or(0, |expired| expired.len());
    stored.checked_sub(expired).ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            format!("{expired} of {stored} chunks have expired: an index lies; run repair()"),
        )
    })
}

pub fn documents(conn: &Connection, collection: &str, filter: Option<&Filter>, now: Timestamp) -> Result<u64> {
    let id = collections::require(conn, collection)?.id;
    let Some(filter) = filter else {
        let text = format!("SELECT count(*) FROM documents d WHERE d.collection_id = ?1 AND {}", document_alive(2));
        return sql::query_one(conn, &text, [id, now.0], |row| row.get(0));
    };
    // A document without chunks is in no index.
    let condition = filter_sql::condition(filter, &Indexes::new(), Documents::Joined, 3);
    let text = format!(
        "SELECT count(DISTINCT d.id) FROM documents d LEFT JOIN chunks c ON c.document_id = d.id AND {}
         WHERE d.collection_id = ?1 AND {} AND {}",
        chunk_alive(2),
        document_alive(2),
        condition.sql
    );
    let mut values = vec![Value::Integer(id), Value::Integer(now.0)];
    values.extend(condition.values);
    sql::query_one(conn, &text, params_from_iter(values), |row| row.get(0))
}
