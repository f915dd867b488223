//! The rows that match a filter.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::filter_sql::{self, Documents, Indexes, Kind, ROWS};
use super::row_set::RowSet;
use super::sql;
use super::tables::expiry;
use crate::error::Result;
use crate::filter::Filter;
use crate::model::Timestamp;

/// The chunks of a collection that match a filter and are there now.
pub fn living(conn: &Connection, collection_id: i64, filter: &Filter, now: Timestamp) -> Result<RowSet> {
    let rows = chunks(conn, collection_id, filter)?;
    Ok(match expiry::chunks(conn, collection_id, now)? {
        Some(expired) => rows.difference(&expired),
        None => rows,
    })
}

/// The chunks of a collection that match a filter, expired or not.
pub fn chunks(conn: &Connection, collection_id: i64, filter: &Filter) -> Result<RowSet> {
    let indexes = filter_sql::indexes(conn, collection_id)?;
    match from_indexes(conn, &indexes, filter)? {
        Some(rows) => Ok(rows),
        None => {
            let what = format!("{ROWS}(c.id)");
            let (text, values) = select(conn, &what, collection_id, filter, &indexes)?;
            read(conn, &text, values)
        }
    }
}

/// How many chunks of a collection match a filter and are there now.
pub fn count(conn: &Connection, collection_id: i64, filter: &Filter, now: Timestamp) -> Result<u64> {
    if expiry::any(conn, now)? {
        return living(conn, collection_id, filter, now).map(|rows| rows.len());
    }
    let indexes = filter_sql::indexes(conn, collection_id)?;
    if let Some(condition) = filter_sql::indexed(filter, &indexes, 1) {
        let field = condition.values[0].clone();
        let many = "SELECT EXISTS (SELECT 1 FROM field_values WHERE field_id = ?1 AND type = ?2)";
        let many: bool = sql::query_one(conn, many, (field, Kind::Many as i64), |row| row.get(0))?;
        if !many {
            let text = format!("SELECT count(*) FROM ({})", condition.sql);
            return sql::query_one(conn, &text, params_from_iter(condition.values), |row| row.get(0));
        }
    }
    if let Some(rows) = from_indexes(conn, &indexes, filter)? {
        return Ok(rows.len());
    }
    let (text, values) = select(conn, "count(*)", collection_id, filter, &indexes)?;
    sql::query_one(conn, &text, params_from_iter(values), |row| row.get(0))
}

/// What the indexes alone can say.
fn from_indexes(conn: &Connection, indexes: &Indexes, filter: &Filter) -> Result<Option<RowSet>> {
    if indexes.is_empty() {
        return Ok(None);
    }
    match filter {
        Filter::And(all) | Filter::Or(all) => {
            let mut merged: Option<RowSet> = None;
            for part in all {
                let Some(rows) = from_indexes(conn, indexes, part)? else { return Ok(None) };
                merged = Some(match merged {
                    None => rows,
                    Some(before) if matches!(filter, Filter::And(_)) => before.intersection(&rows),
                    Some(before) => before.union(&rows),
                });
            }
            Ok(merged)
        }
        Filter::Not(_) => Ok(None),
        test => {
            let Some(condition) = filter_sql::indexed(test, indexes, 1) else { return Ok(None) };
            read(conn, &format!("SELECT {ROWS}(chunk_id) FROM ({})", condition.sql), condition.values).map(Some)
        }
    }
}

fn read(conn: &Connection, text: &str, values: Vec<Value>) -> Result<RowSet> {
    sql::query_one(conn, text, params_from_iter(values), |row| {
        let (rows, _) = row.get_ref(0)?.as_blob()?.as_chunks::<8>();
        let rows: Vec<i64> = rows.iter().map(|bytes| i64::from_ne_bytes(*bytes)).collect();
        Ok(RowSet::from_rows(&rows))
    })
}

fn select(
    conn: &Connection,
    what: &str,
    collection_id: i64,
    filter: &Filter,
    indexes: &Indexes,
) -> Result<(String, Vec<Value>)> {
    let mut condition = filter_sql::condition(filter, indexes, Documents::Asked, 2);
    let mut join = "";
    if condition.documents {
        condition = filter_sql::condition(filter, indexes, Documents::Joined, 2);
        join = "JOIN documents d ON d.id = c.document_id ";
    }
    // The plus sign keeps the planner from going through the collection where that is longer: where an index says which
    // chunks may match, and where all chunks are the collection's.
    let all = if let Filter::And(all) = filter { all.as_slice() } else { std::slice::from_ref(filter) };
    let indexed = all.iter().any(|part| filter_sql::indexed(part, indexes, 1).is_some());
    let alone = "SELECT count(*) FROM (SELECT 1 FROM collections LIMIT 2)";
    let plus = if indexed || sql::query_one(conn, alone, [], |row| row.get::<_, i64>(0))? == 1 { "+" } else { "" };
    let text = format!("SELECT {what} FROM chunks c {join}WHERE {plus}c.collection_id = ?1 AND {}", condition.sql);
    let mut values = vec![Value::Integer(collection_id)];
    values.extend(condition.values);
    Ok((text, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: &str) -> Filter {
        Filter::parse(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn plan(conn: &Connection, text: &str, values: Vec<Value>) -> String {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let steps = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    }

    #[test]
    fn a_declared_field_is_asked_of_its_index() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("../../sql/sqlite/migrations/0001_format_1.sql")).unwrap();
        filter_sql::register(&conn).unwrap();
        let indexes: Indexes = [("year".to_owned(), 1)].into();
        for test in ["1", r#"{"$gt": 1}"#, r#"{"$in": [1, "a"]}"#, r#"{"$between": [1, 2]}"#, r#"{"$exists": true}"#] {
            let condition = filter_sql::indexed(&filter(&format!("{{\"year\": {test}}}")), &indexes, 1).unwrap();
            let plan = plan(&conn, &condition.sql, condition.values);
            assert!(plan.contains("SEARCH field_values USING PRIMARY KEY (field_id=? AND type=?"), "{test}: {plan}");
            assert!(!plan.contains("SCAN"), "{test}: {plan}");
        }
        let both = filter(r#"{"year": {"$gte": 2020}, "lang": "en"}"#);
        let (text, values) = select(&conn, "c.id", 1, &both, &indexes).unwrap();
        let mixed = plan(&conn, &text, values);
        assert!(mixed.contains("SEARCH c USING INTEGER PRIMARY KEY"), "{mixed}");
        assert!(mixed.contains("SEARCH field_values USING PRIMARY KEY"), "{mixed}");
        for unsaid in [r#"{"year": {"$like": "2%"}}"#, r#"{"year": {"$contains": 2}}"#, r#"{"month": 2}"#] {
            assert!(filter_sql::indexed(&filter(unsaid), &indexes, 1).is_none(), "{unsaid}");
        }
    }
}
