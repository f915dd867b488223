//! The indexes of metadata against the metadata.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::Value;

use super::catalog::Catalog;
use super::{Checker, Remedy, Stride};
use crate::error::Result;
use crate::model::Area;
use crate::sqlite::filter_sql::Indexes;
use crate::sqlite::sql;
use crate::sqlite::tables::field_values;

/// Every value is what the metadata says, and every field is of a collection.
pub fn values(checker: &mut Checker<'_>, catalog: &Catalog) -> Result<()> {
    let conn = checker.conn;
    let mut fields: BTreeMap<i64, Indexes> = BTreeMap::new();
    let mut statement = sql::prepare(conn, "SELECT id, collection_id, path FROM fields")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, collection, path): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if !catalog.collections.contains_key(&collection) {
            checker.findings.broken(Area::Fields, format!("fields row {id} ({path:?}) belongs to no collection"));
        }
        fields.entry(collection).or_default().insert(path, id);
    }
    let strays: i64 = sql::query_one(
        conn,
        "SELECT count(*) FROM field_values
         WHERE chunk_id NOT IN (SELECT id FROM chunks) OR field_id NOT IN (SELECT id FROM fields)",
        [],
        |row| row.get(0),
    )?;
    if strays > 0 {
        let what = format!("{strays} rows of field_values are of fields or chunks that are not there");
        checker.findings.repairable(Area::Fields, what, Remedy::FieldsOfNothing);
    }
    if checker.quick || fields.is_empty() {
        return Ok(());
    }
    let mut statement = sql::prepare(
        conn,
        "SELECT c.id, c.collection_id, c.metadata, d.metadata FROM chunks c JOIN documents d ON d.id = c.document_id
         ORDER BY c.id",
    )?;
    let mut rows = statement.query([])?;
    let mut stride = Stride::default();
    while let Some(row) = rows.next()? {
        stride.row(checker)?;
        let (Ok(id), Ok(collection), Ok(chunk), Ok(document)) =
            (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get_ref(2)?.as_str(), row.get_ref(3)?.as_str())
        else {
            continue;
        };
        let Some(fields) = fields.get(&collection) else { continue };
        let mut expected: HashMap<(i64, i64, Key), bool> = HashMap::new();
        field_values::each(fields, chunk, document, &mut |field, kind, value| {
            expected.insert((field, kind as i64, Key::of(value)), false);
            Ok(())
        })?;
        let text = "SELECT field_id, type, value FROM field_values WHERE chunk_id = ?1";
        let mut stored = sql::prepare(conn, text)?;
        let mut stored = stored.query([id])?;
        let mut same = true;
        while let Some(row) = stored.next()? {
            let key = (row.get(0)?, row.get(1)?, Key::of(row.get(2)?));
            match expected.get_mut(&key) {
                Some(seen) => *seen = true,
                None => same = false,
            }
        }
        if !same || expected.values().any(|seen| !seen) {
            let what = format!("field_values of chunks row {id} are not what its metadata says");
            checker.findings.repairable(Area::Fields, what, Remedy::Fields(collection));
        }
    }
    Ok(())
}

/// A value that compares as a key of the table does.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Integer(i64),
    Real(u64),
    Text(String),
    Other,
}

impl Key {
    fn of(value: Value) -> Self {
        /// 2^63.
        const BEYOND: f64 = 9_223_372_036_854_775_808.0;
        match value {
            Value::Integer(value) => Self::Integer(value),
            // As keys, 2.0 and 2 are one, and so are the zeros.
            Value::Real(value) if value == value.trunc() && (-BEYOND..BEYOND).contains(&value) => {
                Self::Integer(value as i64)
            }
            Value::Real(value) => Self::Real(value.to_bits()),
            Value::Text(value) => Self::Text(value),
            Value::Null | Value::Blob(_) => Self::Other,
        }
    }
}
