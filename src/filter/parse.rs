use serde_json::{Map, Value};

use super::{Column, Comparison, Field, Filter, Literal};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::Timestamp;

impl Filter {
    /// Reads a Mongo-style object: fields with a value or an object of operators, and `$and` with a list of such objects.
    ///
    /// Operators: `$eq $gt $gte $lt $lte $in`; a bare value means `$eq`.
    ///
    /// # Errors
    /// `Filter`, naming the place inside the filter.
    pub fn parse(object: &Map<String, Value>) -> Result<Self> {
        Parser { terms: 0 }.object(object, "where", 1)
    }
}

struct Parser {
    terms: usize,
}

impl Parser {
    fn object(&mut self, object: &Map<String, Value>, place: &str, depth: usize) -> Result<Filter> {
        if depth > limits::FILTER_DEPTH {
            return Err(error(place, format!("is nested deeper than {} levels", limits::FILTER_DEPTH)));
        }
        let mut all = Vec::with_capacity(object.len());
        for (key, value) in object {
            let place = format!("{place}[{key:?}]");
            match key.strip_prefix('$') {
                Some("and") => all.push(self.and(value, &place, depth)?),
                Some(_) => {
                    return Err(error(&place, "is no operator that stands here; use a field or \"$and\""));
                }
                None => self.field(key, value, &place, &mut all)?,
            }
        }
        Ok(if all.len() == 1 { all.swap_remove(0) } else { Filter::And(all) })
    }

    fn and(&mut self, value: &Value, place: &str, depth: usize) -> Result<Filter> {
        let Value::Array(items) = value else {
            return Err(error(place, format!("is {}; it takes a list of filters", kind(value))));
        };
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = format!("{place}[{index}]");
            let Value::Object(object) = item else {
                return Err(error(&place, format!("is {}; it must be a filter, an object", kind(item))));
            };
            all.push(self.object(object, &place, depth + 1)?);
        }
        Ok(Filter::And(all))
    }

    fn field(&mut self, key: &str, value: &Value, place: &str, all: &mut Vec<Filter>) -> Result<()> {
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
            Value::Object(operators) => {
                if operators.is_empty() {
                    return Err(error(place, "is an empty object; give a value or operators such as {\"$gt\": 1}"));
                }
                for (operator, operand) in operators {
                    let place = format!("{place}[{operator:?}]");
                    let condition = self.condition(field.clone(), operator, operand, &place)?;
                    all.push(condition);
                }
            }
            bare => {
                self.count(place)?;
                all.push(Filter::Compare(field.clone(), Comparison::Eq, literal(&field, bare, place)?));
            }
        }
        Ok(())
    }

    fn condition(&mut self, field: Field, operator: &str, operand: &Value, place: &str) -> Result<Filter> {
        self.count(place)?;
        let comparison = match operator {
            "$eq" => Comparison::Eq,
            "$gt" => Comparison::Gt,
            "$gte" => Comparison::Gte,
            "$lt" => Comparison::Lt,
            "$lte" => Comparison::Lte,
            "$in" => {
                let Value::Array(items) = operand else {
                    return Err(error(place, format!("is {}; it takes a list of values", kind(operand))));
                };
                let values = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| literal(&field, item, &format!("{place}[{index}]")))
                    .collect::<Result<_>>()?;
                return Ok(Filter::In(field, values));
            }
            _ => {
                return Err(error(
                    place,
                    "is no operator; use $eq, $gt, $gte, $lt, $lte or $in, or name nested metadata with dots, as \"a.b\"",
                ));
            }
        };
        let value = literal(&field, operand, place)?;
        if comparison != Comparison::Eq && matches!(value, Literal::Null | Literal::Bool(_)) {
            return Err(error(place, format!("is {}, which has no order; use $eq", kind(operand))));
        }
        Ok(Filter::Compare(field, comparison, value))
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

/// Reads `YYYY-MM-DD`, with an optional time of day to microseconds and an optional offset; without one it is UTC.
fn parse_time(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let day = days(date)?;
    let (clock, offset) = match rest.strip_prefix(['T', 't', ' ']) {
        None if rest.is_empty() => ("00:00", 0),
        None => return None,
        Some(time) => match time.find(['Z', 'z', '+', '-']) {
            None => (time, 0),
            Some(at) => (&time[..at], offset(&time[at..])?),
        },
    };
    let micros = micros_of_day(clock)?;
    Some(Timestamp(day * 86_400_000_000 + micros - offset))
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Days since 1970-01-01 of the proleptic Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(date: &str) -> Option<i64> {
    let bytes = date.as_bytes();
    if bytes[4] != b'-' || bytes[7] != b'-' || !date.is_ascii() {
        return None;
    }
    let (year, month, day) = (digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

fn micros_of_day(clock: &str) -> Option<i64> {
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?)?;
    let minute = digits(parts.next()?)?;
    let second = parts.next().map_or(Some(0), digits)?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match fraction {
        None => 0,
        Some(fraction) if fraction.len() <= 9 => digits(&format!("{fraction:0<6}")[..6])?,
        Some(_) => return None,
    };
    Some((hour * 3600 + minute * 60 + second) * 1_000_000 + micros)
}

fn offset(text: &str) -> Option<i64> {
    let sign = match text.as_bytes()[0] {
        b'Z' | b'z' => return (text.len() == 1).then_some(0),
        b'+' => 1,
        _ => -1,
    };
    let digits_only = text[1..].replace(':', "");
    let (hours, minutes) = match digits_only.len() {
        2 => (digits(&digits_only)?, 0),
        4 => (digits(&digits_only[..2])?, digits(&digits_only[2..])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60) * 1_000_000)
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
        assert_eq!(parse(r#"{"a.b": 1}"#).unwrap(), Filter::Compare(field(), Comparison::Eq, Literal::Int(1)));
        assert_eq!(
            parse(r#"{"a.b": {"$gte": 1.5, "$lt": 9}}"#).unwrap(),
            Filter::And(vec![
                Filter::Compare(field(), Comparison::Gte, Literal::Float(1.5)),
                Filter::Compare(field(), Comparison::Lt, Literal::Int(9)),
            ])
        );
        assert_eq!(
            parse(r#"{"$and": [{"uri": {"$in": ["x", "y"]}}]}"#).unwrap(),
            Filter::And(vec![Filter::In(
                Field::Column(Column::Uri),
                vec![Literal::Text("x".into()), Literal::Text("y".into())]
            )])
        );
        assert_eq!(parse("{}").unwrap(), Filter::And(vec![]));
    }

    #[test]
    fn errors_name_the_place() {
        for (json, place) in [
            (r#"{"$or": []}"#, "where[\"$or\"]"),
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

    #[test]
    fn times_are_read() {
        let read = |text: &str| parse_time(text).map(|t| t.0);
        assert_eq!(read("1970-01-01"), Some(0));
        assert_eq!(read("2000-03-01T00:00:00Z"), Some(951_868_800_000_000));
        assert_eq!(read("2000-03-01T01:30:00.25+01:30"), Some(951_868_800_250_000));
        assert_eq!(read("1969-12-31T23:59:59.999999"), Some(-1));
        for bad in ["2000-02-30", "2000-13-01", "2000-01-01X", "2000-01-01T25:00", "é000-01-01", "2000-01-01T10:00+9"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
