//! Declared metadata fields, and the values that chunks have in them: the chunk's own, or else its document's.
//!
//! A chunk has one row per scalar of a field, one more for a text that is a date, one that says that the field is there,
//! and one that says that it is an array. They go and move with the chunk's own row (`tables::chunks`). What a filter finds here is what it would find in the metadata.

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use crate::error::Result;
use crate::filter::{Literal, Scalar, Values, parse_time};
use crate::model::Timestamp;
use crate::sqlite::filter_sql::{Indexes, Kind, key};
use crate::sqlite::sql;

/// Declares a field and returns its id; `None` where it is declared already.
pub fn declare(conn: &Connection, collection_id: i64, path: &str) -> Result<Option<i64>> {
    let text = "INSERT OR IGNORE INTO fields (collection_id, path, created_at) VALUES (?1, ?2, ?3)";
    let added = sql::execute(conn, text, params![collection_id, path, Timestamp::now().0])?;
    Ok((added > 0).then(|| conn.last_insert_rowid()))
}

/// The declared fields of a collection, by name.
pub fn declared(conn: &Connection, collection_id: i64) -> Result<Vec<String>> {
    sql::query_all(conn, "SELECT path FROM fields WHERE collection_id = ?1 ORDER BY path", [collection_id], |row| {
        row.get(0)
    })
}

/// Forgets a field with its values.
pub fn drop_field(conn: &Connection, id: i64) -> Result<()> {
    sql::execute(conn, "DELETE FROM field_values WHERE field_id = ?1", [id])?;
    sql::execute(conn, "DELETE FROM fields WHERE id = ?1", [id]).map(drop)
}

/// Indexes a chunk.
pub fn insert(conn: &Connection, fields: &Indexes, chunk_id: i64, chunk: &str, document: &str) -> Result<()> {
    each(fields, chunk, document, &mut |field, kind, value| put(conn, field, (kind, value), chunk_id))
}

/// Calls `value` with each field, kind and value that a chunk has by its metadata; with some of them twice.
pub fn each(
    fields: &Indexes,
    chunk: &str,
    document: &str,
    value: &mut dyn FnMut(i64, Kind, Value) -> Result<()>,
) -> Result<()> {
    for (path, &field) in fields {
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        let values = Values::at(&keys, chunk, document);
        if values == Values::Missing {
            continue;
        }
        value(field, Kind::Present, Value::Integer(0))?;
        if matches!(values, Values::Many(_)) {
            value(field, Kind::Many, Value::Integer(0))?;
        }
        for scalar in values.scalars() {
            let literal = match scalar {
                Scalar::Null => Literal::Null,
                Scalar::Bool(value) => Literal::Bool(*value),
                Scalar::Int(value) => Literal::Int(*value),
                Scalar::Float(value) => Literal::Float(*value),
                Scalar::Text(text) => {
                    if let Some(time) = parse_time(text) {
                        let (kind, time) = key(&Literal::Time(time));
                        value(field, kind, time)?;
                    }
                    Literal::Text(text.to_string())
                }
            };
            let (kind, literal) = key(&literal);
            value(field, kind, literal)?;
        }
    }
    Ok(())
}

fn put(conn: &Connection, field: i64, (kind, value): (Kind, Value), chunk_id: i64) -> Result<()> {
    let text = "INSERT OR IGNORE INTO field_values (field_id, type, value, chunk_id) VALUES (?1, ?2, ?3, ?4)";
    sql::execute(conn, text, params![field, kind as i64, value, chunk_id]).map(drop)
}

/// Indexes the chunks of a document anew, after its metadata or theirs changed.
pub fn refresh(conn: &Connection, fields: &Indexes, document_id: i64) -> Result<()> {
    let text = "SELECT c.id, c.metadata, d.metadata FROM chunks c JOIN documents d ON d.id = c.document_id
                WHERE c.document_id = ?1";
    let chunks: Vec<(i64, String, String)> =
        sql::query_all(conn, text, [document_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    for (id, chunk, document) in chunks {
        sql::execute(conn, "DELETE FROM field_values WHERE chunk_id = ?1", [id])?;
        insert(conn, fields, id, &chunk, &document)?;
    }
    Ok(())
}
