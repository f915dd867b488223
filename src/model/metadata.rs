use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// A JSON object within the limits of size and depth, kept as text until someone looks inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(String);

impl Metadata {
    /// The empty object.
    pub fn empty() -> Self {
        Self("{}".to_owned())
    }

    /// Checks size, depth and numbers, and takes the object's text.
    ///
    /// # Errors
    /// `Limit` when it is over [`limits::METADATA_BYTES`], [`limits::METADATA_DEPTH`] or [`limits::NUMBER_CHARS`].
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        let depth = 1 + map.values().map(depth).max().unwrap_or(0);
        if depth > limits::METADATA_DEPTH {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("metadata is nested {depth} deep; at most {} levels are allowed", limits::METADATA_DEPTH),
            ));
        }
        check_numbers(map.values())?;
        let metadata = Self::from_stored_map(map)?;
        if metadata.0.len() > limits::METADATA_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "metadata has {} bytes as JSON; at most {} are allowed: keep large text in the document",
                    metadata.0.len(),
                    limits::METADATA_BYTES
                ),
            ));
        }
        Ok(metadata)
    }

    /// Takes an object that a store kept.
    pub fn from_stored_map(map: &Map<String, Value>) -> Result<Self> {
        serde_json::to_string(map).map(Self).map_err(|e| Error::internal(format!("metadata: {e}")))
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
    /// `Corrupt` when the stored text is not a JSON object.
    pub fn line(&self) -> Result<Cow<'_, str>> {
        // Only what this library did not write has more than one.
        if self.0.contains(['\n', '\r']) {
            return Ok(Cow::Owned(Self::from_stored_map(&self.to_map()?)?.0));
        }
        let object = self.0.starts_with('{') && serde_json::from_str::<IgnoredAny>(&self.0).is_ok();
        if object {
            Ok(Cow::Borrowed(&self.0))
        } else {
            Err(Error::new(ErrorKind::Corrupt, "stored metadata is not a JSON object"))
        }
    }

    /// The object.
    ///
    /// # Errors
    /// `Corrupt` when the stored text is not a JSON object.
    pub fn to_map(&self) -> Result<Map<String, Value>> {
        if self.0 == "{}" {
            return Ok(Map::new());
        }
        serde_json::from_str(&self.0)
            .map_err(|e| Error::new(ErrorKind::Corrupt, format!("stored metadata is not a JSON object: {e}")))
    }

    /// This object with the keys of `other` set, which may exceed the limits of what is written.
    ///
    /// # Errors
    /// As [`Metadata::to_map`].
    pub fn merged(&self, other: &Metadata) -> Result<Map<String, Value>> {
        let mut map = self.to_map()?;
        map.extend(other.to_map()?);
        Ok(map)
    }

    /// Whether both are the same object, in whatever order their keys are.
    ///
    /// # Errors
    /// As [`Metadata::to_map`].
    pub fn same(&self, other: &Metadata) -> Result<bool> {
        let form = |metadata: &Metadata| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            metadata.canonical(&mut |part| bytes.extend_from_slice(part))?;
            Ok(bytes)
        };
        Ok(self.0 == other.0 || form(self)? == form(other)?)
    }

    /// Feeds `sink` a form that does not depend on the order of keys.
    pub fn canonical(&self, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        if self.0 == "{}" {
            sink(b"{}");
            return Ok(());
        }
        canonical(&Value::Object(self.to_map()?), sink);
        Ok(())
    }
}

/// Refuses numbers that are too long to be read back.
///
/// # Errors
/// `Limit` when one is over [`limits::NUMBER_CHARS`].
pub fn check_numbers<'v>(values: impl IntoIterator<Item = &'v Value>) -> Result<()> {
    for value in values {
        match value {
            Value::Number(number) if number.as_str().len() > limits::NUMBER_CHARS => {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!(
                        "a number has {} characters; at most {} are allowed: give it as a string",
                        number.as_str().len(),
                        limits::NUMBER_CHARS
                    ),
                ));
            }
            Value::Array(items) => check_numbers(items)?,
            Value::Object(map) => check_numbers(map.values())?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}

pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn canonical(value: &Value, sink: &mut dyn FnMut(&[u8])) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            sink(b"{");
            for key in keys {
                sink(Value::from(key.as_str()).to_string().as_bytes());
                sink(b":");
                canonical(&map[key], sink);
                sink(b",");
            }
            sink(b"}");
        }
        Value::Array(items) => {
            sink(b"[");
            for item in items {
                canonical(item, sink);
                sink(b",");
            }
            sink(b"]");
        }
        leaf => sink(leaf.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(json: &str) -> Metadata {
        Metadata::from_map(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn canonical_text(metadata: &Metadata) -> String {
        let mut out = Vec::new();
        metadata.canonical(&mut |bytes| out.extend_from_slice(bytes)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_canonical_form_ignores_key_order_only() {
        let (a, b) = (metadata(r#"{"x":1,"y":{"p":[1,2],"q":"s"}}"#), metadata(r#"{"y":{"q":"s","p":[1,2]},"x":1}"#));
        assert_eq!(canonical_text(&a), canonical_text(&b));
        let other = metadata(r#"{"x":1,"y":{"p":[2,1],"q":"s"}}"#);
        assert_ne!(canonical_text(&a), canonical_text(&other));
        assert!(a.same(&b).unwrap() && !a.same(&other).unwrap());
    }

    #[test]
    fn large_integers_survive() {
        let text = r#"{"n":123456789012345678901234567890}"#;
        assert_eq!(metadata(text).as_json(), text);
    }

    #[test]
    fn a_line_is_one_line_and_an_object() {
        let line = |text: &str| Metadata::from_stored(text.to_owned()).line().map(|line| line.into_owned());
        assert_eq!(line(r#"{"a": 1.50}"#).unwrap(), r#"{"a": 1.50}"#);
        assert_eq!(line("{\n \"a\": [1,\r\n 2]}").unwrap(), r#"{"a":[1,2]}"#);
        for damaged in ["", "[]", "{", "{}x", "{\n", "null"] {
            assert_eq!(line(damaged).unwrap_err().kind(), ErrorKind::Corrupt, "{damaged}");
        }
    }

    #[test]
    fn depth_and_size_are_limited() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(65), "}".repeat(65));
        let error = Metadata::from_map(&serde_json::from_str(&deep).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        let map = Map::from_iter([("a".to_owned(), Value::from("x".repeat(limits::METADATA_BYTES)))]);
        assert_eq!(Metadata::from_map(&map).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn numbers_are_as_long_as_they_can_be_read() {
        let nested = |digits: usize| format!("{{\"a\": [{{\"b\": {}}}]}}", "9".repeat(digits));
        let read = |digits| Metadata::from_map(&serde_json::from_str(&nested(digits)).unwrap());
        assert!(read(4_300).is_ok());
        assert_eq!(read(4_301).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn merging_sets_top_level_keys() {
        let merged = metadata(r#"{"a":1,"b":{"c":2}}"#).merged(&metadata(r#"{"b":{"d":3}}"#)).unwrap();
        assert_eq!(Value::Object(merged), serde_json::json!({ "a": 1, "b": { "d": 3 } }));
    }
}
