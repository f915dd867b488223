use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::Timestamp;
use super::metadata::{canonical, check_numbers, depth};
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

    /// Whether both are the same value, in whatever order their keys are.
    ///
    /// # Errors
    /// `Corrupt` when a stored text is no JSON.
    pub fn same(&self, other: &Self) -> Result<bool> {
        let form = |text: &str| -> Result<Vec<u8>> {
            let value = serde_json::from_str(text)
                .map_err(|e| Error::new(ErrorKind::Corrupt, format!("a stored state value is no JSON: {e}")))?;
            let mut bytes = Vec::new();
            canonical(&value, &mut |part| bytes.extend_from_slice(part));
            Ok(bytes)
        };
        Ok(self.0 == other.0 || form(&self.0)? == form(&other.0)?)
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
