//! A filter as SQL over the tables `c` (chunks) and `d` (documents). The text comes from a closed set of fragments;
//! every path and value is bound.
//!
//! A field that has an index is asked of `field_values`. Other metadata is asked of [`FUNCTION`], which reads JSON as
//! `filter::values` does: one pass over the text, and one meaning for every backend.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error as SqlError};

use super::sql;
use crate::error::Result;
use crate::filter::{Column, Comparison, Field, Filter, Literal, Test, Values, passes};

/// `ragstore_passes(test, chunk's metadata, document's metadata)`, `ragstore_passes(test, text)`.
const FUNCTION: &str = "ragstore_passes";
/// `ragstore_own_passes(test, chunk's metadata)`: NULL where the chunk does not have the key.
const OWN: &str = "ragstore_own_passes";

/// Collects rowids: eight bytes each, as the machine has them.
pub const ROWS: &str = "ragstore_rows";

/// A condition with its values, whose places are numbered from `first` on.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub sql: String,
    pub values: Vec<Value>,
    /// It looks at columns of `d`.
    pub documents: bool,
}

/// How a chunk's document is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documents {
    /// As the table `d`.
    Joined,
    /// Only as far as columns of `d` are looked at; metadata asks for it where the chunk's own does not say.
    Asked,
}

/// The rowids of the declared fields of a collection, by path. Empty: no index is asked.
pub type Indexes = HashMap<String, i64>;

/// Those of a collection.
pub fn indexes(conn: &Connection, collection_id: i64) -> Result<Indexes> {
    let text = "SELECT path, id FROM fields WHERE collection_id = ?1";
    Ok(sql::query_all(conn, text, [collection_id], |row| Ok((row.get(0)?, row.get(1)?)))?.into_iter().collect())
}

/// `field_values.type`: the numbers are part of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null = 0,
    Bool = 1,
    Number = 2,
    Text = 3,
    /// The moment of a text that is a date, which has a row as text too.
    Time = 4,
    /// The field is there, whatever it holds; the value is 0.
    Present = 5,
    /// It is an array, so that several rows may be of one chunk; the value is 0.
    Many = 6,
}

/// A value as the index holds it.
pub fn key(literal: &Literal) -> (Kind, Value) {
    match literal {
        Literal::Null => (Kind::Null, Value::Integer(0)),
        Literal::Bool(value) => (Kind::Bool, Value::Integer(i64::from(*value))),
        Literal::Int(value) => (Kind::Number, Value::Integer(*value)),
        Literal::Float(value) => (Kind::Number, Value::Real(*value)),
        Literal::Text(text) => (Kind::Text, Value::Text(text.clone())),
        Literal::Time(time) => (Kind::Time, Value::Integer(time.0)),
    }
}

/// Writes `filter` with places from `?first` on.
pub fn condition(filter: &Filter, indexes: &Indexes, how: Documents, first: usize) -> Condition {
    let mut writer = Writer { first, indexes, how, values: Vec::new(), documents: false };
    let sql = writer.filter(filter);
    Condition { sql, values: writer.values, documents: writer.documents }
}

/// Rowids of chunks that pass one test of a declared field, some of them several times where the field is an array; `None`
/// where the index does not say.
pub fn indexed(filter: &Filter, indexes: &Indexes, first: usize) -> Option<Condition> {
    let Filter::Test(Field::Metadata(keys), test) = filter else { return None };
    if *test == Test::Exists(false) {
        return None;
    }
    let field = *indexes.get(&keys.join("."))?;
    let mut writer = Writer { first, indexes, how: Documents::Asked, values: Vec::new(), documents: false };
    let sql = writer.rows(field, test)?;
    Some(Condition { sql, values: writer.values, documents: false })
}

/// Gives a connection the function that tests metadata.
pub fn register(conn: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    conn.create_scalar_function(FUNCTION, 3, flags, |context| {
        let asked = asked(context)?;
        let (keys, test) = &*asked;
        Ok(passes(&Values::at(keys, text(context.get_raw(1)), text(context.get_raw(2))), test))
    })?;
    conn.create_scalar_function(OWN, 2, flags, |context| {
        let asked = asked(context)?;
        let (keys, test) = &*asked;
        Ok(Values::own(keys, text(context.get_raw(1))).map(|values| passes(&values, test)))
    })?;
    conn.create_scalar_function(FUNCTION, 2, flags, |context| {
        let asked = asked(context)?;
        let values = match context.get_raw(1) {
            ValueRef::Text(_) => Values::One(crate::filter::Scalar::Text(text(context.get_raw(1)).into())),
            _ => Values::Missing,
        };
        Ok(passes(&values, &asked.1))
    })?;
    conn.create_aggregate_function(ROWS, 1, flags, RowIds)?;
    Ok(())
}

/// [`ROWS`]. A hundred thousand rows that each come back by themselves take several times as long.
struct RowIds;

impl Aggregate<Vec<u8>, Vec<u8>> for RowIds {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn step(&self, context: &mut Context<'_>, rows: &mut Vec<u8>) -> rusqlite::Result<()> {
        rows.extend(context.get::<i64>(0)?.to_ne_bytes());
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, rows: Option<Vec<u8>>) -> rusqlite::Result<Vec<u8>> {
        Ok(rows.unwrap_or_default())
    }
}

type Asked = (Vec<String>, Test);

/// The test that is bound as JSON, read once for a statement.
fn asked(context: &Context<'_>) -> rusqlite::Result<Arc<Asked>> {
    context.get_or_create_aux(0, |value| -> std::result::Result<Asked, SqlError> {
        let refused = || SqlError::UserFunctionError("no test of a field".into());
        let object = serde_json::from_str(value.as_str()?).map_err(|_| refused())?;
        match Filter::parse(&object) {
            Ok(Filter::Test(Field::Metadata(keys), test)) => Ok((keys, test)),
            _ => Err(refused()),
        }
    })
}

/// What is no text has no metadata.
fn text(value: ValueRef<'_>) -> &str {
    value.as_str().unwrap_or("{}")
}

/// Longer lists are bound as one JSON array: SQLite numbers at most 32,766 places.
const LISTED: usize = 64;

struct Writer<'i> {
    first: usize,
    indexes: &'i Indexes,
    how: Documents,
    values: Vec<Value>,
    documents: bool,
}

impl Writer<'_> {
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("?{}", self.first + self.values.len() - 1)
    }

    fn filter(&mut self, filter: &Filter) -> String {
        match filter {
            Filter::And(all) if all.is_empty() => "1".to_owned(),
            Filter::And(all) => self.joined(all, " AND "),
            Filter::Or(any) => self.joined(any, " OR "),
            // A comparison with NULL is unknown to SQL; here it is false, and its negation true.
            Filter::Not(inner) => format!("NOT coalesce({}, 0)", self.filter(inner)),
            Filter::Test(Field::Column(column), test) => self.column(*column, test),
            Filter::Test(Field::Metadata(keys), test) => self.metadata(keys, test),
        }
    }

    fn joined(&mut self, filters: &[Filter], operator: &str) -> String {
        let parts: Vec<String> = filters.iter().map(|part| self.filter(part)).collect();
        format!("({})", parts.join(operator))
    }

    fn metadata(&mut self, keys: &[String], test: &Test) -> String {
        if let Some(&field) = self.indexes.get(&keys.join("."))
            && let Some(rows) = self.rows(field, test)
        {
            return match test {
                Test::Exists(false) => format!("c.id NOT IN ({rows})"),
                _ => format!("c.id IN ({rows})"),
            };
        }
        let test = self.bind(Value::Text(asked_of(&keys.join("."), test)));
        match self.how {
            Documents::Joined => format!("{FUNCTION}({test}, c.metadata, d.metadata)"),
            Documents::Asked => format!(
                "coalesce({OWN}({test}, c.metadata),
                          {FUNCTION}({test}, '{{}}', (SELECT metadata FROM documents WHERE id = c.document_id)))"
            ),
        }
    }

    /// A SELECT of the chunks whose indexed values pass.
    fn rows(&mut self, field: i64, test: &Test) -> Option<String> {
        let field = self.bind(Value::Integer(field));
        let of = |kind: Kind| {
            format!("SELECT chunk_id FROM field_values WHERE field_id = {field} AND type = {}", kind as i64)
        };
        let rows = match test {
            Test::Exists(_) => of(Kind::Present),
            Test::Compare(comparison, literal) => {
                let (kind, value) = key(literal);
                let value = self.bind(value);
                format!("{} AND value {} {value}", of(kind), operator(*comparison))
            }
            Test::Between(low, high) => {
                let ((kind, low), (_, high)) = (key(low), key(high));
                let (low, high) = (self.bind(low), self.bind(high));
                format!("{} AND value BETWEEN {low} AND {high}", of(kind))
            }
            Test::In(literals) => {
                let mut parts = Vec::new();
                for kind in [Kind::Null, Kind::Bool, Kind::Number, Kind::Text] {
                    let keys = literals.iter().map(key);
                    let keys: Vec<Value> = keys.filter(|(own, _)| *own == kind).map(|(_, value)| value).collect();
                    if !keys.is_empty() {
                        let list = self.list(keys);
                        parts.push(format!("{} AND value IN ({list})", of(kind)));
                    }
                }
                if parts.is_empty() { format!("{} AND 0", of(Kind::Null)) } else { parts.join(" UNION ALL ") }
            }
            // The index does not tell the elements of an array from a value that stands alone.
            Test::Contains(_) | Test::Like { .. } => {
                self.values.pop();
                return None;
            }
        };
        Some(rows)
    }

    fn column(&mut self, column: Column, test: &Test) -> String {
        let name = column_name(column);
        self.documents |= name.starts_with('d');
        match test {
            Test::Exists(true) => format!("{name} IS NOT NULL"),
            Test::Exists(false) | Test::Compare(_, Literal::Null) => format!("{name} IS NULL"),
            Test::Compare(comparison, literal) => {
                let place = self.bind(value(literal));
                format!("{name} {} {place}", operator(*comparison))
            }
            Test::Between(low, high) => {
                let (low, high) = (self.bind(value(low)), self.bind(value(high)));
                format!("{name} BETWEEN {low} AND {high}")
            }
            Test::In(literals) => {
                let null = literals.contains(&Literal::Null);
                let keys = literals.iter().filter(|literal| **literal != Literal::Null).map(value).collect();
                let listed = format!("{name} IN ({})", self.list(keys));
                if null { format!("({listed} OR {name} IS NULL)") } else { listed }
            }
            Test::Like { .. } | Test::Contains(_) => {
                let test = self.bind(Value::Text(asked_of("text", test)));
                format!("{FUNCTION}({test}, {name})")
            }
        }
    }

    /// The inside of an `IN (...)`.
    fn list(&mut self, values: Vec<Value>) -> String {
        if values.len() <= LISTED {
            let places: Vec<String> = values.into_iter().map(|value| self.bind(value)).collect();
            return places.join(", ");
        }
        let array: Vec<serde_json::Value> = values
            .into_iter()
            .map(|value| match value {
                Value::Integer(value) => value.into(),
                Value::Real(value) => value.into(),
                Value::Text(text) => text.into(),
                Value::Null | Value::Blob(_) => serde_json::Value::Null,
            })
            .collect();
        let place = self.bind(Value::Text(serde_json::Value::Array(array).to_string()));
        format!("SELECT value FROM json_each({place})")
    }
}

/// A test of one field in the language of filters.
fn asked_of(path: &str, test: &Test) -> String {
    use serde_json::json;
    let operators = match test {
        Test::Compare(comparison, literal) => {
            let name = match comparison {
                Comparison::Eq => "$eq",
                Comparison::Gt => "$gt",
                Comparison::Gte => "$gte",
                Comparison::Lt => "$lt",
                Comparison::Lte => "$lte",
            };
            json!({ name: json_of(literal) })
        }
        Test::Between(low, high) => json!({ "$between": [json_of(low), json_of(high)] }),
        Test::In(literals) => json!({ "$in": literals.iter().map(json_of).collect::<Vec<_>>() }),
        Test::Like { pattern, fold: false } => json!({ "$like": pattern }),
        Test::Like { pattern, fold: true } => json!({ "$ilike": pattern }),
        Test::Contains(literal) => json!({ "$contains": json_of(literal) }),
        Test::Exists(there) => json!({ "$exists": there }),
    };
    json!({ path: operators }).to_string()
}

fn json_of(literal: &Literal) -> serde_json::Value {
    match literal {
        Literal::Null => serde_json::Value::Null,
        Literal::Bool(value) => (*value).into(),
        Literal::Int(value) => (*value).into(),
        Literal::Float(value) => (*value).into(),
        Literal::Text(text) => text.as_str().into(),
        Literal::Time(time) => crate::filter::format_time(*time).into(),
    }
}

fn column_name(column: Column) -> &'static str {
    match column {
        Column::Id => "c.uid",
        Column::DocumentId => "d.uid",
        Column::Uri => "d.source_uri",
        Column::Index => "c.chunk_index",
        Column::CreatedAt => "d.created_at",
        Column::UpdatedAt => "d.updated_at",
        Column::ContentType => "d.content_type",
    }
}

fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Eq => "=",
        Comparison::Gt => ">",
        Comparison::Gte => ">=",
        Comparison::Lt => "<",
        Comparison::Lte => "<=",
    }
}

fn value(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Integer(i64::from(*value)),
        Literal::Int(value) => Value::Integer(*value),
        Literal::Float(value) => Value::Real(*value),
        Literal::Text(text) => Value::Text(text.clone()),
        Literal::Time(time) => Value::Integer(time.0),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::params_from_iter;

    use super::*;

    fn matches(filter: &str, chunk: &str, document: &str) -> bool {
        let filter = Filter::parse(&serde_json::from_str(filter).unwrap()).unwrap();
        let condition = condition(&filter, &Indexes::new(), Documents::Joined, 3);
        let text = format!(
            "SELECT count(*) FROM (SELECT ?1 AS metadata) c, (SELECT ?2 AS metadata, 'a.MD' AS source_uri, 'D' AS uid) d
             WHERE {}",
            condition.sql
        );
        let mut values = vec![Value::Text(chunk.into()), Value::Text(document.into())];
        values.extend(condition.values);
        let conn = Connection::open_in_memory().unwrap();
        register(&conn).unwrap();
        conn.query_row(&text, params_from_iter(values), |row| row.get::<_, i64>(0)).unwrap() == 1
    }

    #[test]
    fn the_chunk_comes_before_its_document() {
        assert!(matches(r#"{"a": 1}"#, r#"{"a": 1}"#, r#"{"a": 2}"#));
        assert!(!matches(r#"{"a": 2}"#, r#"{"a": 1}"#, r#"{"a": 2}"#));
        assert!(matches(r#"{"a": 2}"#, "{}", r#"{"a": 2}"#));
        assert!(!matches(r#"{"a": 2}"#, r#"{"a": null}"#, r#"{"a": 2}"#));
        assert!(!matches(r#"{"a": 2}"#, "{}", "{}"));
    }

    #[test]
    fn negations_match_what_is_missing() {
        for negated in [r#"{"a": {"$ne": 1}}"#, r#"{"a": {"$nin": [1]}}"#, r#"{"$not": {"a": {"$gt": 0}}}"#] {
            assert!(matches(negated, "{}", "{}"), "{negated}");
            assert!(!matches(negated, r#"{"a": 1}"#, "{}"), "{negated}");
        }
        assert!(matches(r#"{"$not": {"$and": [{"uri": {"$gt": "b"}}, {"a": 1}]}}"#, r#"{"a": 1}"#, "{}"));
        assert!(matches(r#"{"$or": [{"a": 1}, {"a": {"$not": {"$exists": true}}}]}"#, "{}", "{}"));
    }

    #[test]
    fn strings_in_columns_are_looked_into() {
        assert!(matches(r#"{"uri": {"$ilike": "A.m%"}}"#, "{}", "{}"));
        assert!(!matches(r#"{"uri": {"$like": "A.m%"}}"#, "{}", "{}"));
        assert!(matches(r#"{"uri": {"$contains": ".M"}, "document_id": {"$exists": true}}"#, "{}", "{}"));
    }

    #[test]
    fn long_lists_are_one_value() {
        let list = |last: &str| {
            let texts: Vec<String> = (0..100_000).map(|i| format!("\"t{i}\"")).collect();
            format!("{{\"a\": {{\"$in\": [{}, 7, 2.5, true, {last}]}}}}", texts.join(","))
        };
        for value in ["\"t99999\"", "7", "7.0", "2.5", "true", "null"] {
            assert!(matches(&list("null"), &format!("{{\"a\": {value}}}"), "{}"), "{value}");
        }
        for value in ["\"7\"", "8", "false"] {
            assert!(!matches(&list("null"), &format!("{{\"a\": {value}}}"), "{}"), "{value}");
        }
        assert!(!matches(&list("1"), r#"{"a": null}"#, "{}"));
    }

    #[test]
    fn any_key_is_only_a_key() {
        for key in ["it's", "a\"b", "a\\b", "a$", "[0]", "x') OR 1 --", "ключ", "\u{1}"] {
            let object = |value: i64| serde_json::json!({ key: value }).to_string();
            assert!(matches(&object(1), &object(1), "{}"), "{key:?}");
            assert!(!matches(&object(2), &object(1), "{}"), "{key:?}");
        }
        assert!(matches(r#"{"a.b": {"$lte": 3}}"#, r#"{"a": {"b": 2.5}}"#, "{}"));
    }
}
