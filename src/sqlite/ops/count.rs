use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::error::Result;
use crate::filter::Filter;
use crate::sqlite::filter_sql;
use crate::sqlite::sql;
use crate::sqlite::tables::collections;

pub fn chunks(conn: &Connection, collection: &str, filter: Option<&Filter>) -> Result<u64> {
    let plain = "SELECT count(*) FROM chunks WHERE collection_id = ?1";
    let joined =
        "SELECT count(*) FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.collection_id = ?1 AND ";
    count(conn, collection, filter, plain, joined)
}

pub fn documents(conn: &Connection, collection: &str, filter: Option<&Filter>) -> Result<u64> {
    let plain = "SELECT count(*) FROM documents WHERE collection_id = ?1";
    let joined = "SELECT count(DISTINCT d.id) FROM documents d LEFT JOIN chunks c ON c.document_id = d.id \
                  WHERE d.collection_id = ?1 AND ";
    count(conn, collection, filter, plain, joined)
}

fn count(conn: &Connection, collection: &str, filter: Option<&Filter>, plain: &str, joined: &str) -> Result<u64> {
    let id = collections::require(conn, collection)?.id;
    let mut values = vec![Value::Integer(id)];
    let text = match filter {
        None => plain.to_owned(),
        Some(filter) => {
            let condition = filter_sql::condition(filter, 2);
            values.extend(condition.values);
            format!("{joined}{}", condition.sql)
        }
    };
    sql::query_one(conn, &text, params_from_iter(values), |row| row.get(0))
}
