//! The rows that match a filter.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::filter_sql;
use super::row_set::RowSet;
use super::sql;
use crate::error::Result;
use crate::filter::Filter;

/// The chunks of a collection that match a filter.
pub fn chunks(conn: &Connection, collection_id: i64, filter: &Filter) -> Result<RowSet> {
    let condition = filter_sql::condition(filter, 2);
    let text = format!(
        "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.collection_id = ?1 AND {}",
        condition.sql
    );
    let mut values = vec![Value::Integer(collection_id)];
    values.extend(condition.values);
    let mut rows: Vec<i64> = sql::query_all(conn, &text, params_from_iter(values), |row| row.get(0))?;
    rows.sort_unstable();
    Ok(RowSet::from_sorted(&rows))
}
