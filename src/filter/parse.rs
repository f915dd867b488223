use serde_json::{Map, Value};

use super::time::parse_time;
use super::{Column, Comparison, Field, Filter, Literal, Test};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

impl Filter {
    /// Reads a Mongo-style object: fields with a value or an object of operators, and `$and`, `$or` and `$not`.
    ///
    /// A bare value means `$eq`. Operators: `$eq $ne $gt $gte $lt $lte $between $in $nin $like $ilike $contains $exists`,
    /// and `$not` with an object of them.
    ///
    /// # Errors
    /// `Filter`, naming the place inside the filter.
    pub fn parse(object: &Map<String, Value>) -> Result<Self> {
        Parser { terms: 0 }.object(object, "where", 1)
    }
}

const OPERATORS: &str =
    "$eq, $ne, $gt, $gte, $lt, $lte, $between, $in, $nin, $like, $ilike, $contains, $exists or $not";

struct Parser {
    terms: usize,
}

impl Parser {
    fn object(&mut self, object: &Map<String, Value>, place: &str, depth: usize) -> Result<Filter> {
        check_depth(place, depth)?;
        let mut all = Vec::with_capacity(object.len());
        for (key, value) in object {
            let place = format!("{place}[{key:?}]");
            all.push(match key.as_str() {
                "$and" => Filter::And(self.list(value, &place, depth)?),
                "$or" => Filter::Or(self.list(value, &place, depth)?),
                "$not" => Filter::Not(Box::new(self.negated(value, &place, depth)?)),
                operator if operator.starts_with('$') => {
                    return Err(error(
                        &place,
                        "is no operator that stands here; use a field, \"$and\", \"$or\" or \"$not\"",
                    ));
                }
                key => self.field(key, value, &place, depth)?,
            });
        }
        Ok(one_or_all(all))
    }

    fn list(&mut self, value: &Value, place: &str, depth: usize) -> Result<Vec<Filter>> {
        let Value::Array(items) = value else {
            return Err(error(place, format!("is {}; it takes a list of filters", kind(value))));
        };
        if items.is_empty() {
            return Err(error(place, "is empty; it takes one filter at least"));
        }
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            all.push(self.filter(item, &format!("{place}[{index}]"), depth + 1)?);
        }
        Ok(all)
    }

    /// A filter, or a list of filters all of which must hold for the negation to fail.
    fn negated(&mut self, value: &Value, place: &str, depth: usize) -> Result<Filter> {
        match value {
            Value::Array(_) => Ok(one_or_all(self.list(value, place, depth)?)),
            other => self.filter(other, place, depth + 1),
        }
    }

    fn filter(&mut self, value: &Value, place: &str, depth: usize) -> Result<Filter> {
        match value {
            Value::Object(object) => self.object(object, place, depth),
            other => Err(error(place, format!("is {}; it must be a filter, an object", kind(other)))),
        }
    }

    fn field(&mut self, key: &str, value: &Value, place: &str, depth: usize) -> Result<Filter> {
        let field = match Column::named(key) {
            Some(column) => Field::Column(column),
            None => {
                let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
                if keys.iter().any(String::is_empty) {
                    return Err(error(place, "has an empty name between its dots"));
                }
                Field::Metadata(keys)
            }
        };
        match value {
            Value::Object(operators) => self.operators(&field, operators, place, depth),
            bare => {
                self.count(place)?;
                Ok(Filter::Test(field.clone(), Test::Compare(Comparison::Eq, literal(&field, bare, place)?)))
            }
        }
    }

    fn operators(
        &mut self,
        field: &Field,
        operators: &Map<String, Value>,
        place: &str,
        depth: usize,
    ) -> Result<Filter> {
        check_depth(place, depth)?;
        if operators.is_empty() {
            return Err(error(place, "is an empty object; give a value or operators such as {\"$gt\": 1}"));
        }
        let mut all = Vec::with_capacity(operators.len());
        for (operator, operand) in operators {
            let place = format!("{place}[{operator:?}]");
            all.push(match operator.as_str() {
                "$not" => {
                    let Value::Object(inner) = operand else {
                        return Err(error(&place, format!("is {}; it takes an object of operators", kind(operand))));
                    };
                    Filter::Not(Box::new(self.operators(field, inner, &place, depth + 1)?))
                }
                "$ne" => Filter::Not(Box::new(self.test(field, "$eq", operand, &place)?)),
                "$nin" => Filter::Not(Box::new(self.test(field, "$in", operand, &place)?)),
                other => self.test(field, other, operand, &place)?,
            });
        }
        Ok(one_or_all(all))
    }

    fn test(&mut self, field: &Field, operator: &str, operand: &Value, place: &str) -> Result<Filter> {
        self.count(place)?;
        let test = match operator {
            "$eq" => Test::Compare(Comparison::Eq, literal(field, operand, place)?),
            "$gt" => Test::Compare(Comparison::Gt, ordered(field, operand, place)?),
            "$gte" => Test::Compare(Comparison::Gte, ordered(field, operand, place)?),
            "$lt" => Test::Compare(Comparison::Lt, ordered(field, operand, place)?),
            "$lte" => Test::Compare(Comparison::Lte, ordered(field, operand, place)?),
            "$between" => between(field, operand, place)?,
            "$in" => {
                let Value::Array(items) = operand else {
                    return Err(error(place, format!("is {}; it takes a list of values", kind(operand))));
                };
                let item = |(index, item)| literal(field, item, &format!("{place}[{index}]"));
                Test::In(items.iter().enumerate().map(item).collect::<Result<_>>()?)
            }
            "$like" => Test::Like { pattern: text(field, operand, place)?, fold: false },
            "$ilike" => Test::Like { pattern: text(field, operand, place)?, fold: true },
            "$contains" => match field {
                Field::Metadata(_) => Test::Contains(literal(field, operand, place)?),
                Field::Column(_) => Test::Contains(Literal::Text(text(field, operand, place)?)),
            },
            "$exists" => match operand {
                Value::Bool(there) => Test::Exists(*there),
                other => return Err(error(place, format!("is {}; it takes true or false", kind(other)))),
            },
            _ => {
                return Err(error(
                    place,
                    format!("is no operator; use {OPERATORS}, or name nested metadata with dots, as \"a.b\""),
                ));
            }
        };
        Ok(Filter::Test(field.clone(), test))
    }

    fn count(&mut self, place: &str) -> Result<()> {
        self.terms += 1;
        if self.terms > limits::FILTER_TERMS {
            return Err(error(
                place,
                format!("is condition {}; at most {} are allowed, use $in", self.terms, limits::FILTER_TERMS),
            ));
        }
        Ok(())
    }
}

fn check_depth(place: &str, depth: usize) -> Result<()> {
    if depth > limits::FILTER_DEPTH {
        return Err(error(place, format!("is nested deeper than {} levels", limits::FILTER_DEPTH)));
    }
    Ok(())
}

fn one_or_all(mut all: Vec<Filter>) -> Filter {
    if all.len() == 1 { all.swap_remove(0) } else { Filter::And(all) }
}

fn between(field: &Field, operand: &Value, place: &str) -> Result<Test> {
    let Value::Array(ends) = operand else {
        return Err(error(place, format!("is {}; it takes a list of two values", kind(operand))));
    };
    let [low, high] = ends.as_slice() else {
        return Err(error(place, format!("has {} values; it takes the least and the greatest", ends.len())));
    };
    let end = |value, index| ordered(field, value, &format!("{place}[{index}]"));
    let (low, high) = (end(low, 0)?, end(high, 1)?);
    if std::mem::discriminant(&low.unified()) != std::mem::discriminant(&high.unified()) {
        return Err(error(place, "has values of two types; nothing lies between them"));
    }
    Ok(Test::Between(low, high))
}

/// A value that has an order. A string that is a date in ISO 8601 stands for its moment.
fn ordered(field: &Field, operand: &Value, place: &str) -> Result<Literal> {
    match literal(field, operand, place)? {
        Literal::Null | Literal::Bool(_) => {
            Err(error(place, format!("is {}, which has no order; use $eq", kind(operand))))
        }
        Literal::Text(text) if matches!(field, Field::Metadata(_)) => {
            Ok(parse_time(&text).map_or(Literal::Text(text), Literal::Time))
        }
        literal => Ok(literal),
    }
}

/// A string for a field that may hold one.
fn text(field: &Field, operand: &Value, place: &str) -> Result<String> {
    let holds = match field {
        Field::Metadata(_) => true,
        Field::Column(column) => column.holds_text(),
    };
    match operand {
        Value::String(text) if holds => Ok(text.clone()),
        Value::String(_) => Err(error(place, "asks for a part of a string, and this column holds none")),
        other => Err(error(place, format!("is {}; it takes a string", kind(other)))),
    }
}

fn literal(field: &Field, value: &Value, place: &str) -> Result<Literal> {
    let literal = match value {
        Value::Null => Literal::Null,
        Value::Bool(value) => Literal::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Literal::Int(value),
            (None, Some(value)) => Literal::Float(value),
            (None, None) => return Err(error(place, format!("is {number}, which no float64 can hold"))),
        },
        Value::String(text) => Literal::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => {
            return Err(error(place, format!("is {}; compare with a string, number, boolean or null", kind(value))));
        }
    };
    let Field::Column(column) = field else { return Ok(literal) };
    match (column, literal) {
        (Column::CreatedAt | Column::UpdatedAt, Literal::Text(text)) => {
            let time = parse_time(&text).ok_or_else(|| {
                error(place, format!("is {text:?}; give a datetime, or ISO 8601 as 2026-01-31T12:00:00+00:00"))
            })?;
            Ok(Literal::Time(time))
        }
        (
            Column::Id | Column::DocumentId | Column::Uri | Column::ContentType,
            literal @ (Literal::Text(_) | Literal::Null),
        )
        | (Column::Index, literal @ (Literal::Int(_) | Literal::Float(_))) => Ok(literal),
        (Column::Index, _) => Err(error(place, format!("is {}; this column holds integers", kind(value)))),
        (Column::CreatedAt | Column::UpdatedAt, _) => {
            Err(error(place, format!("is {}; this column holds times", kind(value))))
        }
        (Column::Id | Column::DocumentId | Column::Uri | Column::ContentType, _) => {
            Err(error(place, format!("is {}; this column holds strings", kind(value))))
        }
    }
}

fn error(place: &str, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Filter, format!("{place} {what}"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Filter> {
        Filter::parse(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn bare_values_and_operators() {
        let field = || Field::Metadata(vec!["a".into(), "b".into()]);
        let compare = |comparison, literal| Filter::Test(field(), Test::Compare(comparison, literal));
        assert_eq!(parse(r#"{"a.b": 1}"#).unwrap(), compare(Comparison::Eq, Literal::Int(1)));
        assert_eq!(
            parse(r#"{"a.b": {"$gte": 1.5, "$lt": 9}}"#).unwrap(),
            Filter::And(vec![compare(Comparison::Gte, Literal::Float(1.5)), compare(Comparison::Lt, Literal::Int(9)),])
        );
        assert_eq!(
            parse(r#"{"$and": [{"uri": {"$in": ["x", "y"]}}]}"#).unwrap(),
            Filter::And(vec![Filter::Test(
                Field::Column(Column::Uri),
                Test::In(vec![Literal::Text("x".into()), Literal::Text("y".into())])
            )])
        );
        assert_eq!(parse("{}").unwrap(), Filter::And(vec![]));
    }

    #[test]
    fn errors_name_the_place() {
        for (json, place) in [
            (r#"{"$or": []}"#, "where[\"$or\"]"),
            (r#"{"$and": {}}"#, "where[\"$and\"]"),
            (r#"{"$nor": [{"a": 1}]}"#, "where[\"$nor\"]"),
            (r#"{"$not": 3}"#, "where[\"$not\"]"),
            (r#"{"a": {"$not": 3}}"#, "where[\"a\"][\"$not\"]"),
            (r#"{"a": {"$not": {"$near": 3}}}"#, "where[\"a\"][\"$not\"][\"$near\"]"),
            (r#"{"a": {"$between": [1]}}"#, "where[\"a\"][\"$between\"]"),
            (r#"{"a": {"$between": [1, "b"]}}"#, "where[\"a\"][\"$between\"]"),
            (r#"{"a": {"$like": 1}}"#, "where[\"a\"][\"$like\"]"),
            (r#"{"index": {"$like": "1"}}"#, "where[\"index\"][\"$like\"]"),
            (r#"{"a": {"$exists": 1}}"#, "where[\"a\"][\"$exists\"]"),
            (r#"{"$or": [{"a": {"$in": [1, []]}}]}"#, "where[\"$or\"][0][\"a\"][\"$in\"][1]"),
            (r#"{"a": {"$near": 1}}"#, "where[\"a\"][\"$near\"]"),
            (r#"{"$and": [{"a": 1}, 3]}"#, "where[\"$and\"][1]"),
            (r#"{"a": {"$in": 3}}"#, "where[\"a\"][\"$in\"]"),
            (r#"{"a": {"$gt": null}}"#, "where[\"a\"][\"$gt\"]"),
            (r#"{"a": []}"#, "where[\"a\"]"),
            (r#"{"a..b": 1}"#, "where[\"a..b\"]"),
            (r#"{"index": "x"}"#, "where[\"index\"]"),
            (r#"{"created_at": "yesterday"}"#, "where[\"created_at\"]"),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Filter);
            assert!(error.message().contains(place), "{json}: {error}");
        }
    }

    #[test]
    fn size_and_depth_are_limited() {
        let wide: Vec<String> = (0..257).map(|i| format!("\"f{i}\": 1")).collect();
        assert!(parse(&format!("{{{}}}", wide.join(","))).is_err());
        let deep = format!("{}{{\"a\": 1}}{}", "{\"$and\": [".repeat(32), "]}".repeat(32));
        assert!(parse(&deep).is_err());
    }
}
