//! Tests of JSON values, as every backend must decide them. Pure.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::time::parse_time;
use super::{Comparison, Literal, Test};
use crate::model::Timestamp;

/// A value that is neither array nor object.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar<'j> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'j, str>),
}

/// The values at a path of a JSON object.
#[derive(Debug, Clone, PartialEq)]
pub enum Values<'j> {
    /// There is nothing at that path.
    Missing,
    One(Scalar<'j>),
    /// The scalars of an array; deeper ones are not looked at.
    Many(Vec<Scalar<'j>>),
    /// An object is there, which has no value of its own.
    Object,
}

impl<'j> Values<'j> {
    /// What is at a path of a chunk's metadata over its document's: a key that the chunk has hides its document's, with
    /// all that is below it. Text that is no JSON object has nothing.
    pub fn at(keys: &[String], chunk: &'j str, document: &'j str) -> Self {
        Self::own(keys, chunk).or_else(|| Self::own(keys, document)).unwrap_or(Self::Missing)
    }

    /// What is at a path of one object; `None` where it does not have the first key.
    pub fn own(keys: &[String], json: &'j str) -> Option<Self> {
        if json == "{}" {
            return None;
        }
        find(json, keys).map(|below| below.map_or(Self::Missing, Self::read))
    }

    fn read(raw: &'j RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
                Self::Many(items.into_iter().filter_map(|item| scalar(item.get())).collect())
            }
            _ => scalar(text).map_or(Self::Missing, Self::One),
        }
    }

    /// Each scalar.
    pub fn scalars(&self) -> &[Scalar<'j>] {
        match self {
            Self::Missing | Self::Object => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Whether a field passes a test.
pub fn passes(values: &Values<'_>, test: &Test) -> bool {
    match test {
        Test::Exists(there) => (*values != Values::Missing) == *there,
        // An element of an array, or a part of a string.
        Test::Contains(wanted) => match (values, wanted) {
            (Values::One(Scalar::Text(text)), Literal::Text(part)) => text.contains(part.as_str()),
            (Values::Many(many), wanted) => many.iter().any(|value| equals(value, wanted)),
            _ => false,
        },
        test => values.scalars().iter().any(|value| value_passes(value, test)),
    }
}

fn value_passes(value: &Scalar<'_>, test: &Test) -> bool {
    match test {
        Test::Compare(Comparison::Eq, wanted) => equals(value, wanted),
        Test::Compare(comparison, wanted) => order(value, wanted).is_some_and(|order| match comparison {
            Comparison::Eq => order.is_eq(),
            Comparison::Gt => order.is_gt(),
            Comparison::Gte => order.is_ge(),
            Comparison::Lt => order.is_lt(),
            Comparison::Lte => order.is_le(),
        }),
        Test::Between(low, high) => {
            order(value, low).is_some_and(Ordering::is_ge) && order(value, high).is_some_and(Ordering::is_le)
        }
        Test::In(wanted) => wanted.iter().any(|wanted| equals(value, wanted)),
        Test::Like { pattern, fold } => matches!(value, Scalar::Text(text) if like(pattern, text, *fold)),
        Test::Contains(_) | Test::Exists(_) => false,
    }
}

fn equals(value: &Scalar<'_>, wanted: &Literal) -> bool {
    match (value, wanted) {
        (Scalar::Null, Literal::Null) => true,
        (Scalar::Bool(a), Literal::Bool(b)) => a == b,
        (value, wanted) => order(value, wanted).is_some_and(Ordering::is_eq),
    }
}

/// How a value stands to one of its own type.
fn order(value: &Scalar<'_>, other: &Literal) -> Option<Ordering> {
    match (value, other) {
        (Scalar::Int(a), Literal::Int(b)) => Some(a.cmp(b)),
        (Scalar::Float(a), Literal::Float(b)) => a.partial_cmp(b),
        (Scalar::Int(a), Literal::Float(b)) => mixed(*a, *b),
        (Scalar::Float(a), Literal::Int(b)) => mixed(*b, *a).map(Ordering::reverse),
        (Scalar::Text(a), Literal::Text(b)) => Some(a.as_ref().cmp(b.as_str())),
        (Scalar::Text(a), Literal::Time(Timestamp(b))) => Some(parse_time(a)?.0.cmp(b)),
        _ => None,
    }
}

/// Exactly, also where a float cannot hold the integer.
fn mixed(a: i64, b: f64) -> Option<Ordering> {
    /// 2^63: from here on every float is greater than every i64.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if b.is_nan() {
        return None;
    }
    if b >= BEYOND {
        return Some(Ordering::Less);
    }
    if b < -BEYOND {
        return Some(Ordering::Greater);
    }
    let whole = b.trunc();
    Some(a.cmp(&(whole as i64)).then_with(|| 0.0.partial_cmp(&(b - whole)).unwrap_or(Ordering::Equal)))
}

/// Whether a text is as a pattern has it.
pub fn like(pattern: &str, text: &str, fold: bool) -> bool {
    if fold {
        return like(&folded(pattern), &folded(text), false);
    }
    let pattern = parts(pattern);
    let text: Vec<char> = text.chars().collect();
    // The last `%` and how much of the text it took: on a mismatch it takes one more.
    let (mut at, mut place, mut back) = (0, 0, None);
    while at < text.len() {
        match pattern.get(place) {
            Some(Part::Any) => {
                back = Some((place, at));
                place += 1;
            }
            Some(Part::One) => (at, place) = (at + 1, place + 1),
            Some(Part::Char(c)) if *c == text[at] => (at, place) = (at + 1, place + 1),
            _ => {
                let Some((any, taken)) = back else { return false };
                back = Some((any, taken + 1));
                (at, place) = (taken + 1, any + 1);
            }
        }
    }
    pattern[place..].iter().all(|part| matches!(part, Part::Any))
}

fn folded(text: &str) -> String {
    // Upper first: it takes together what lower alone keeps apart, as ß and SS, or σ and ς. Each character by itself: a
    // pattern has only a part of the text, and what stands around a letter is not the same in both.
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

enum Part {
    Any,
    One,
    Char(char),
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::Char(chars.next().unwrap_or('\\')),
            other => Part::Char(other),
        });
    }
    parts
}

/// A scalar from its JSON; `None` for arrays, objects and what is no JSON.
pub fn scalar(json: &str) -> Option<Scalar<'_>> {
    match json.as_bytes().first()? {
        b'"' => {
            // Without escapes the text stands there as it is.
            let inner = json.get(1..json.len() - 1)?;
            if !inner.contains('\\') {
                return Some(Scalar::Text(Cow::Borrowed(inner)));
            }
            serde_json::from_str::<String>(json).ok().map(|text| Scalar::Text(Cow::Owned(text)))
        }
        b't' => Some(Scalar::Bool(true)),
        b'f' => Some(Scalar::Bool(false)),
        b'n' => Some(Scalar::Null),
        b'-' | b'0'..=b'9' => match json.parse::<i64>() {
            Ok(value) => Some(Scalar::Int(value)),
            Err(_) => json.parse::<f64>().ok().filter(|value| value.is_finite()).map(Scalar::Float),
        },
        _ => None,
    }
}

/// The value at a path, without reading what lies beside it: `None` where the first key is not there, `Some(None)` where
/// one below it is not.
fn find<'j>(json: &'j str, keys: &[String]) -> Found<'j> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Path(keys).deserialize(&mut deserializer).ok().flatten()
}

type Found<'j> = Option<Option<&'j RawValue>>;

struct Path<'k>(&'k [String]);

impl<'j> DeserializeSeed<'j> for Path<'_> {
    type Value = Found<'j>;

    fn deserialize<D: serde::Deserializer<'j>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(deserializer).map(|raw| Some(Some(raw)));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'j> Visitor<'j> for Path<'_> {
    type Value = Found<'j>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<M: MapAccess<'j>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(here) = map.next_key_seed(Key(&self.0[0]))? {
            if here && found.is_none() {
                found = Some(map.next_value_seed(Path(&self.0[1..]))?.flatten());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<S: serde::de::SeqAccess<'j>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a key is the one that is looked for.
struct Key<'k>(&'k str);

impl<'j> DeserializeSeed<'j> for Key<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'j>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{Field, Filter};

    fn matches(test: &str, json: &str) -> bool {
        let object = serde_json::json!({ "a.b": serde_json::from_str::<serde_json::Value>(test).unwrap() });
        let Filter::Test(Field::Metadata(keys), test) = Filter::parse(object.as_object().unwrap()).unwrap() else {
            panic!("one test")
        };
        passes(
            &Values::at(&keys, "{}", &format!("{{\"x\": [1, {{\"b\": 2}}], \"a\": {{\"c\": \"}}\", \"b\": {json}}}}}")),
            &test,
        )
    }

    #[test]
    fn values_are_found_at_their_path() {
        let keys = |path: &str| path.split('.').map(str::to_owned).collect::<Vec<_>>();
        let json = r#"{"a": {"b": [1, "x", null, [2], {"c": 3}]}, "é\"": 1.5, "n": {"m": {}}}"#;
        assert_eq!(
            Values::at(&keys("a.b"), "{}", json),
            Values::Many(vec![Scalar::Int(1), Scalar::Text("x".into()), Scalar::Null])
        );
        assert_eq!(Values::at(&["é\"".into()], json, "{}"), Values::One(Scalar::Float(1.5)));
        assert_eq!(Values::at(&keys("n.m"), json, "{}"), Values::Object);
        for path in ["a.c", "a.b.c", "é", "n.m.x", "z"] {
            assert_eq!(Values::at(&keys(path), json, "{}"), Values::Missing, "{path}");
        }
        assert_eq!(Values::at(&keys("a"), r#"{"a": 1}"#, r#"{"a": 2}"#), Values::One(Scalar::Int(1)));
        assert_eq!(Values::at(&keys("a"), r#"{"a": null}"#, r#"{"a": 2}"#), Values::One(Scalar::Null));
        for chunk in [r#"{"a": {"c": 1}}"#, r#"{"a": 1}"#, r#"{"a": {}}"#] {
            assert_eq!(Values::at(&keys("a.b"), chunk, json), Values::Missing, "{chunk} hides it");
        }
        for bad in ["", "[", "{\"a\": ", "{\"a\" 1}", "nul"] {
            assert_eq!(Values::at(&keys("a"), bad, "{}"), Values::Missing, "{bad}");
        }
    }

    #[test]
    fn types_are_kept_apart() {
        for (test, json, expected) in [
            ("1", "1.0", true),
            ("1.5", "1.5", true),
            ("1", "true", false),
            ("true", "1", false),
            ("\"1\"", "1", false),
            ("null", "null", true),
            ("null", "0", false),
            (r#"{"$gt": "a"}"#, "5", false),
            (r#"{"$gt": 9007199254740992}"#, "9007199254740993", true),
            (r#"{"$lt": 9007199254740993}"#, "9007199254740992.0", true),
            (r#"{"$eq": 9223372036854775807}"#, "9223372036854775808", false),
            (r#"{"$gt": -0.5}"#, "0", true),
            (r#"{"$lt": -0.5}"#, "-1", true),
            (r#"{"$in": ["x", 5, null]}"#, "5.0", true),
            (r#"{"$in": []}"#, "null", false),
            (r#"{"$between": [1, 2]}"#, "1.5", true),
            (r#"{"$between": [1, 2]}"#, "[0, 3]", false),
            (r#"{"$exists": true}"#, "{}", true),
            (r#"{"$exists": false}"#, "null", false),
            ("1", "[3, 1]", true),
            (r#"{"$contains": 1}"#, "[3, 1]", true),
            (r#"{"$contains": "b"}"#, "\"abc\"", true),
            (r#"{"$contains": "b"}"#, "[\"abc\"]", false),
        ] {
            assert_eq!(matches(test, json), expected, "{test} of {json}");
        }
    }

    #[test]
    fn dates_are_compared_as_moments() {
        for (test, json, expected) in [
            (r#"{"$gt": "2024-01-01"}"#, "\"2024-01-01T00:00:00+01:00\"", false),
            (r#"{"$lt": "2024-01-01"}"#, "\"2024-01-01T00:00:00+01:00\"", true),
            (r#"{"$gte": "2024-01-01T01:00:00+01:00"}"#, "\"2024-01-01\"", true),
            (r#"{"$gt": "2024-01-01"}"#, "\"zebra\"", false),
            (r#"{"$gt": "2024-13-01"}"#, "\"zebra\"", true),
            ("\"2024-01-01\"", "\"2024-01-01T00:00:00Z\"", false),
            (r#"{"$between": ["2024-01-01", "2024-12-31"]}"#, "[\"2023-01-01\", \"2024-05-05\"]", true),
        ] {
            assert_eq!(matches(test, json), expected, "{test} of {json}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("Wire%", "Wireless", true),
            ("%less%", "Stainless Steel", true),
            ("%a%b%c", "xaybzbc", true),
            ("%a%b%c", "xaybzb", false),
            ("_", "é", true),
            ("_", "", false),
            ("%", "", true),
            ("", "", true),
            ("", "a", false),
            ("100\\%", "100%", true),
            ("100\\%", "1000", false),
            ("a\\_b", "axb", false),
            ("a", "A", false),
        ] {
            assert_eq!(like(pattern, text, false), expected, "{pattern} of {text}");
        }
        assert!(like("STRASSE%", "straße 5", true) && like("ΌΣΟΣ", "όσος", true) && like("éa_", "ÉAB", true));
        assert!(like("ΟΔΟΣ%", "οδοστρωτήρας", true), "a sigma is the same wherever it stands");
        let long = "a".repeat(3000);
        assert!(!like(&format!("{}b", "%a".repeat(300)), &long, false));
    }
}
