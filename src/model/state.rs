use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::Timestamp;
use super::metadata::{check_numbers, depth};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// A JSON value of any kind within the limits of size and depth, kept as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateValue(String);

impl StateValue {
    /// Checks size, depth and numbers.
    ///
    /// # Errors
    /// `Limit` when it is over [`limits::METADATA_BYTES`], [`limits::METADATA_DEPTH`] or [`limits::NUMBER_CHARS`].
    pub fn from_value(value: &Value) -> Result<Self> {
        let levels = depth(value);
        if levels > limits::METADATA_DEPTH {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the value is nested {levels} deep; at most {} levels are allowed", limits::METADATA_DEPTH),
            ));
        }
        check_numbers([value])?;
        let text = value.to_string();
        if text.len() > limits::METADATA_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the value has {} bytes as JSON; at most {} are allowed", text.len(), limits::METADATA_BYTES),
            ));
        }
        Ok(Self(text))
    }

    /// Takes text that a store kept.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The JSON text on one line.
    ///
    /// # Errors
    /// `Corrupt` when the stored text is no JSON.
    pub fn line(&self) -> Result<Cow<'_, str>> {
        let corrupt = |e| Error::new(ErrorKind::Corrupt, format!("a stored state value is no JSON: {e}"));
        // Only what this library did not write has more than one.
        if self.0.contains(['\n', '\r']) {
            let value: Value = serde_json::from_str(&self.0).map_err(corrupt)?;
            return Ok(Cow::Owned(value.to_string()));
        }
        serde_json::from_str::<IgnoredAny>(&self.0).map_err(corrupt)?;
        Ok(Cow::Borrowed(&self.0))
    }

    /// Whether both are the same value, in whatever order their keys are, and however their numbers are written. An
    /// integer and a float are two.
    ///
    /// # Errors
    /// `Corrupt` when a stored text is no JSON.
    pub fn same(&self, other: &Self) -> Result<bool> {
        let value = |text: &str| -> Result<Value> {
            serde_json::from_str(text)
                .map_err(|e| Error::new(ErrorKind::Corrupt, format!("a stored state value is no JSON: {e}")))
        };
        Ok(self.0 == other.0 || equal(&value(&self.0)?, &value(&other.0)?))
    }
}

fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => equal_numbers(one.as_str(), other.as_str()),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| equal(one, other)))
        }
        _ => one == other,
    }
}

/// What is read as one number, and written anew, is that number.
fn equal_numbers(one: &str, other: &str) -> bool {
    let is_float = |text: &str| text.contains(['.', 'e', 'E']);
    let float = |text: &str| text.parse().map(f64::to_bits).ok();
    let integer = |text| if text == "-0" { "0" } else { text };
    match (is_float(one), is_float(other)) {
        (true, true) => float(one) == float(other),
        (false, false) => integer(one) == integer(other),
        _ => false,
    }
}

/// A state value as it is given to a store.
#[derive(Debug, Clone)]
pub struct NewStateEntry {
    pub namespace: Namespace,
    pub key: String,
    pub value: StateValue,
    pub expires_at: Option<Timestamp>,
}

/// A value that a pipeline keeps between its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    pub key: String,
    pub value: StateValue,
    pub expires_at: Option<Timestamp>,
    pub updated_at: Timestamp,
}

impl StateEntry {
    /// One that is set at a moment.
    pub fn new(given: &NewStateEntry, updated_at: Timestamp) -> Self {
        let NewStateEntry { namespace: _, key, value, expires_at } = given.clone();
        Self { key, value, expires_at, updated_at }
    }
}

/// Where values live. Two namespaces of one name are apart where one of them is local, which is never synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    pub name: String,
    pub local: bool,
}

/// What must be there for a change to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    Anything,
    Nothing,
    Value(StateValue),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_the_same_whatever_the_order_of_their_keys() {
        let value = |value| StateValue::from_value(&value).unwrap();
        assert!(value(json!({ "a": 1, "b": [2] })).same(&value(json!({ "b": [2], "a": 1 }))).unwrap());
        assert!(!value(json!([1, 2])).same(&value(json!([2, 1]))).unwrap());
        assert!(!value(json!(1)).same(&value(json!("1"))).unwrap());
        assert!(StateValue::from_stored("{".into()).same(&value(json!(1))).is_err());
    }

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        let value = |text: &str| StateValue::from_stored(text.to_owned());
        for (one, other) in [
            ("1.50", "1.5"),
            ("1E2", "100.0"),
            ("1e2", "1E+02"),
            ("-0", "0"),
            ("[{\"a\": 0.10}, -0]", "[{\"a\":0.1},0]"),
            ("0.30000000000000004", "0.3000000000000000444"),
        ] {
            assert!(value(one).same(&value(other)).unwrap(), "{one} {other}");
        }
        for (one, other) in [
            ("1", "1.0"),
            ("0", "-0.0"),
            ("1.5", "1.25"),
            ("123456789012345678901234567890", "123456789012345678901234567891"),
            ("[1.0]", "[1.0,1.0]"),
            ("{\"a\": 1}", "{\"b\": 1}"),
            ("1", "true"),
        ] {
            assert!(!value(one).same(&value(other)).unwrap(), "{one} {other}");
        }
    }

    #[test]
    fn a_line_is_one_line_and_json() {
        let line = |text: &str| StateValue::from_stored(text.to_owned()).line().map(|line| line.into_owned());
        assert_eq!(line("1.50").unwrap(), "1.50");
        assert_eq!(line("[1,\r\n {\"a\": null}]").unwrap(), r#"[1,{"a":null}]"#);
        for damaged in ["", "{", "1 2", "[\n"] {
            assert_eq!(line(damaged).unwrap_err().kind(), ErrorKind::Corrupt, "{damaged}");
        }
    }

    #[test]
    fn size_and_depth_are_limited() {
        let deep = (0..65).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(StateValue::from_value(&deep).unwrap_err().kind(), ErrorKind::Limit);
        let large = json!("x".repeat(limits::METADATA_BYTES));
        assert_eq!(StateValue::from_value(&large).unwrap_err().kind(), ErrorKind::Limit);
    }
}
