//! A filter as SQL over the tables `c` (chunks) and `d` (documents). The text comes from a closed set of fragments;
//! every path and value is bound.

use rusqlite::types::Value;

use crate::filter::{Column, Comparison, Field, Filter, Literal};

/// A condition with its values, whose places are numbered from `first` on.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub sql: String,
    pub values: Vec<Value>,
}

/// Writes `filter` with places from `?first` on.
pub fn condition(filter: &Filter, first: usize) -> Condition {
    let mut writer = Writer { first, values: Vec::new() };
    let sql = writer.filter(filter);
    Condition { sql, values: writer.values }
}

/// Longer lists are bound as one JSON array: SQLite numbers at most 32,766 places.
const LISTED: usize = 64;

struct Writer {
    first: usize,
    values: Vec<Value>,
}

impl Writer {
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("?{}", self.first + self.values.len() - 1)
    }

    /// The inside of an `IN (...)`.
    fn list<'l>(&mut self, literals: impl Iterator<Item = &'l Literal> + Clone) -> String {
        if literals.clone().count() <= LISTED {
            let places: Vec<String> = literals.map(|literal| self.bind(value(literal))).collect();
            return places.join(", ");
        }
        let array: Vec<serde_json::Value> = literals
            .map(|literal| match literal {
                Literal::Int(value) => (*value).into(),
                Literal::Float(value) => (*value).into(),
                Literal::Text(text) => text.as_str().into(),
                Literal::Time(time) => time.0.into(),
                Literal::Null | Literal::Bool(_) => serde_json::Value::Null,
            })
            .collect();
        let place = self.bind(Value::Text(serde_json::Value::Array(array).to_string()));
        format!("SELECT value FROM json_each({place})")
    }

    fn filter(&mut self, filter: &Filter) -> String {
        match filter {
            Filter::And(all) if all.is_empty() => "1".to_owned(),
            Filter::And(all) => {
                let parts: Vec<String> = all.iter().map(|part| self.filter(part)).collect();
                format!("({})", parts.join(" AND "))
            }
            Filter::Compare(Field::Column(column), comparison, literal) => {
                self.compare_column(*column, *comparison, literal)
            }
            Filter::Compare(Field::Metadata(keys), comparison, literal) => {
                let path = self.bind(path(keys));
                let test = self.compare_json(*comparison, literal);
                first_of_both(&path, &test)
            }
            Filter::In(Field::Column(column), literals) => self.in_column(*column, literals),
            Filter::In(Field::Metadata(keys), literals) => {
                let path = self.bind(path(keys));
                let test = self.in_json(literals);
                first_of_both(&path, &test)
            }
        }
    }

    fn compare_column(&mut self, column: Column, comparison: Comparison, literal: &Literal) -> String {
        let name = column_name(column);
        match value(literal) {
            Value::Null => format!("{name} IS NULL"),
            bound => {
                let place = self.bind(bound);
                format!("{name} {} {place}", operator(comparison))
            }
        }
    }

    fn in_column(&mut self, column: Column, literals: &[Literal]) -> String {
        let name = column_name(column);
        let null = literals.contains(&Literal::Null);
        let list = self.list(literals.iter().filter(|literal| **literal != Literal::Null));
        let listed = format!("{name} IN ({list})");
        if null { format!("({listed} OR {name} IS NULL)") } else { listed }
    }

    /// A test on a JSON value; `{T}` stands for its type and `{V}` for itself.
    fn compare_json(&mut self, comparison: Comparison, literal: &Literal) -> String {
        let types = match literal {
            Literal::Null => return "{T} = 'null'".to_owned(),
            Literal::Bool(true) => return "{T} = 'true'".to_owned(),
            Literal::Bool(false) => return "{T} = 'false'".to_owned(),
            Literal::Int(_) | Literal::Float(_) | Literal::Time(_) => "{T} IN ('integer', 'real')",
            Literal::Text(_) => "{T} = 'text'",
        };
        let place = self.bind(value(literal));
        format!("({types} AND {{V}} {} {place})", operator(comparison))
    }

    fn in_json(&mut self, literals: &[Literal]) -> String {
        let mut tests = Vec::new();
        for (types, wanted) in [
            ("{T} = 'text'", (|l: &Literal| matches!(l, Literal::Text(_))) as fn(&Literal) -> bool),
            ("{T} IN ('integer', 'real')", |l: &Literal| matches!(l, Literal::Int(_) | Literal::Float(_))),
        ] {
            let list = self.list(literals.iter().filter(|literal| wanted(literal)));
            if !list.is_empty() {
                tests.push(format!("({types} AND {{V}} IN ({list}))"));
            }
        }
        for literal in [Literal::Null, Literal::Bool(true), Literal::Bool(false)] {
            if literals.contains(&literal) {
                tests.push(self.compare_json(Comparison::Eq, &literal));
            }
        }
        if tests.is_empty() { "0".to_owned() } else { format!("({})", tests.join(" OR ")) }
    }
}

/// The chunk's value where it has one, else its document's.
fn first_of_both(path: &str, test: &str) -> String {
    let on = |table: char| {
        test.replace("{T}", &format!("json_type({table}.metadata, {path})"))
            .replace("{V}", &format!("json_extract({table}.metadata, {path})"))
    };
    format!("CASE WHEN json_type(c.metadata, {path}) IS NULL THEN {} ELSE {} END", on('d'), on('c'))
}

/// A JSON path whose every key is quoted as JSON quotes it.
fn path(keys: &[String]) -> Value {
    let mut path = String::from("$");
    for key in keys {
        path.push('.');
        path.push_str(&serde_json::Value::from(key.as_str()).to_string());
    }
    Value::Text(path)
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
    use rusqlite::{Connection, params_from_iter};

    use super::*;

    fn matches(filter: &str, chunk: &str, document: &str) -> bool {
        let filter = Filter::parse(&serde_json::from_str(filter).unwrap()).unwrap();
        let condition = condition(&filter, 3);
        let text = format!(
            "SELECT count(*) FROM (SELECT ?1 AS metadata) c, (SELECT ?2 AS metadata) d WHERE {}",
            condition.sql
        );
        let mut values = vec![Value::Text(chunk.into()), Value::Text(document.into())];
        values.extend(condition.values);
        let conn = Connection::open_in_memory().unwrap();
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
    fn types_are_kept_apart() {
        assert!(!matches(r#"{"a": 1}"#, r#"{"a": true}"#, "{}"));
        assert!(!matches(r#"{"a": true}"#, r#"{"a": 1}"#, "{}"));
        assert!(!matches(r#"{"a": "1"}"#, r#"{"a": 1}"#, "{}"));
        assert!(matches(r#"{"a": 1}"#, r#"{"a": 1.0}"#, "{}"));
        assert!(!matches(r#"{"a": {"$gt": "a"}}"#, r#"{"a": 5}"#, "{}"));
        assert!(matches(r#"{"a": {"$in": ["x", 5, null]}}"#, r#"{"a": 5}"#, "{}"));
        assert!(matches(r#"{"a": {"$in": ["x", null]}}"#, r#"{"a": null}"#, "{}"));
        assert!(!matches(r#"{"a": {"$in": []}}"#, r#"{"a": null}"#, "{}"));
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
