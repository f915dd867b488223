//! Python values to JSON, metadata and filters.
//!
//! Errors say where they are, as in `documents[3].metadata['tags'][0]`; the place is put together on the way out, so
//! that good values pay nothing for it.

use std::fmt;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyBytes, PyDate, PyDateTime, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple, PyType,
};
use serde_json::{Map, Number, Value};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::filter::Filter;
use crate::limits;
use crate::model::{Metadata, Timestamp};
use crate::request::Key;

/// Bytes of one filter, all its lists included.
const FILTER_BYTES: usize = 256 << 20;
/// Objects of one filter: a condition has two, and one for each level above it.
const FILTER_OBJECTS: usize = limits::FILTER_TERMS * (limits::FILTER_DEPTH + 2);

/// A value that is not taken, with its place from the inside out.
pub(super) struct Refused {
    place: Vec<String>,
    why: Why,
}

enum Why {
    Type(String),
    Value(String),
    Core(Error),
    Raised(PyErr),
}

pub(super) type Taken<T> = Result<T, Refused>;

impl Refused {
    pub(super) fn of_type(message: impl Into<String>) -> Self {
        Self { place: Vec::new(), why: Why::Type(message.into()) }
    }

    pub(super) fn of_value(message: impl Into<String>) -> Self {
        Self { place: Vec::new(), why: Why::Value(message.into()) }
    }

    /// One step further out.
    #[must_use]
    pub(super) fn at(mut self, step: impl fmt::Display) -> Self {
        self.place.push(step.to_string());
        self
    }

    /// The exception, with `root` as the outermost place.
    pub(super) fn raise(self, root: &str) -> PyErr {
        let place = self.place.iter().rev().fold(root.to_owned(), |place, step| place + step);
        match self.why {
            Why::Type(message) => PyTypeError::new_err(format!("{place} {message}")),
            Why::Value(message) => PyValueError::new_err(format!("{place} {message}")),
            Why::Core(error) => error.context(place).into(),
            Why::Raised(error) => error,
        }
    }

    /// The exception for a value inside a filter.
    fn raise_in_filter(self) -> PyErr {
        match self.why {
            Why::Type(message) | Why::Value(message) => {
                let place = self.place.iter().rev().fold("where".to_owned(), |place, step| place + step);
                Error::new(ErrorKind::Filter, format!("{place} {message}")).into()
            }
            Why::Core(_) | Why::Raised(_) => self.raise("where"),
        }
    }
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Self { place: Vec::new(), why: Why::Raised(error) }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { place: Vec::new(), why: Why::Core(error) }
    }
}

/// The UTF-8 of a string, which has none where it holds a lone surrogate.
pub(super) fn text(string: &Bound<'_, PyString>) -> Taken<String> {
    let text = utf8(string)?;
    // Before it is copied.
    if text.len() > limits::TEXT_BYTES {
        let (length, most) = (text.len(), limits::TEXT_BYTES);
        return Err(Error::new(ErrorKind::Limit, format!("has {length} bytes, at most {most} are allowed")).into());
    }
    Ok(text.to_owned())
}

fn utf8<'a>(string: &'a Bound<'_, PyString>) -> Taken<&'a str> {
    match string.to_str() {
        Ok(text) => Ok(text),
        Err(error) => {
            let at: Option<usize> =
                error.value(string.py()).getattr(intern!(string.py(), "start")).and_then(|at| at.extract()).ok();
            let at = at.map_or_else(String::new, |at| format!(" at character {at}"));
            Err(Refused::of_value(format!(
                "holds a lone surrogate{at}, which is no Unicode text; text.encode(\"utf-8\", \"replace\") shows it"
            )))
        }
    }
}

/// The name of a value's type, for messages.
pub(super) fn kind(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "an object".to_owned(), |name| name.to_string())
}

/// A step into a mapping, written as Python does.
fn key_step(key: &str) -> String {
    format!("[{key:?}]")
}

/// Walks a value. Depth and size are bounded before anything is built, so neither a cycle nor a small object that is
/// reached a million times can exhaust the memory.
struct Walk {
    depth: usize,
    bytes: usize,
    objects: usize,
    limit: (usize, usize),
    /// Inside the condition of a column that holds times.
    times: bool,
    filter: bool,
}

impl Walk {
    fn metadata() -> Self {
        let limit = (limits::METADATA_DEPTH, limits::METADATA_BYTES);
        Self { depth: 0, bytes: 0, objects: 0, limit, times: false, filter: false }
    }

    fn filter() -> Self {
        // A level of a filter is an object and a list.
        let limit = (2 * limits::FILTER_DEPTH + 4, FILTER_BYTES);
        Self { depth: 0, bytes: 0, objects: 0, limit, times: false, filter: true }
    }

    fn spend(&mut self, bytes: usize) -> Taken<()> {
        self.bytes += bytes;
        if self.bytes > self.limit.1 {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("more than {} bytes as JSON; keep large text in the document", self.limit.1),
            )
            .into());
        }
        Ok(())
    }

    fn enter(&mut self) -> Taken<()> {
        self.depth += 1;
        if self.depth > self.limit.0 {
            let (what, kind) = if self.filter {
                (limits::FILTER_DEPTH, ErrorKind::Filter)
            } else {
                (limits::METADATA_DEPTH, ErrorKind::Limit)
            };
            return Err(Error::new(kind, format!("is nested deeper than {what} levels")).into());
        }
        Ok(())
    }

    fn value(&mut self, value: &Bound<'_, PyAny>) -> Taken<Value> {
        self.spend(1)?;
        if let Ok(string) = value.cast_exact::<PyString>() {
            return self.string(string);
        }
        if value.is_none() {
            return Ok(Value::Null);
        }
        if let Ok(flag) = value.cast_exact::<PyBool>() {
            return Ok(Value::Bool(flag.is_true()));
        }
        if let Ok(int) = value.cast_exact::<PyInt>() {
            return self.int(int);
        }
        if let Ok(float) = value.cast_exact::<PyFloat>() {
            return Self::float(float);
        }
        if let Ok(dict) = value.cast::<PyDict>() {
            return self.dict(dict).map(Value::Object);
        }
        if let Ok(list) = value.cast::<PyList>() {
            return self.items(list.iter());
        }
        if let Ok(tuple) = value.cast::<PyTuple>() {
            return self.items(tuple.iter());
        }
        self.other(value)
    }

    fn string(&mut self, string: &Bound<'_, PyString>) -> Taken<Value> {
        let text = utf8(string)?;
        self.spend(text.len())?;
        Ok(Value::String(text.to_owned()))
    }

    fn int(&mut self, int: &Bound<'_, PyInt>) -> Taken<Value> {
        if let Ok(value) = int.extract::<i64>() {
            return Ok(Value::Number(value.into()));
        }
        // Exactly, however large; the interpreter refuses some thousand digits with a ValueError.
        let digits = int.py().get_type::<PyInt>().call_method1(intern!(int.py(), "__repr__"), (int,));
        let digits: String = digits
            .and_then(|digits| digits.extract())
            .map_err(|error| Refused::of_value(format!("is an integer that is not taken: {error}")))?;
        self.spend(digits.len())?;
        let number: Number = serde_json::from_str(&digits)
            .map_err(|error| Error::internal(format!("an integer has no JSON form: {error}")))?;
        Ok(Value::Number(number))
    }

    fn float(float: &Bound<'_, PyFloat>) -> Taken<Value> {
        let value = float.value();
        Number::from_f64(value).map(Value::Number).ok_or_else(|| {
            Refused::of_value(format!("is {}, which JSON cannot hold; use None or leave it out", Name(value)))
        })
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>) -> Taken<Map<String, Value>> {
        self.enter()?;
        self.objects += 1;
        if self.filter && self.objects > FILTER_OBJECTS {
            return Err(Error::new(
                ErrorKind::Filter,
                format!("has more than {} conditions; $in takes a list of any length", limits::FILTER_TERMS),
            )
            .into());
        }
        let mut map = Map::with_capacity(dict.len().min(1024));
        // Another thread may change the dictionary meanwhile, on which its iterator would panic: read a copy of pairs.
        for (key, value) in Pairs::of(dict) {
            self.pair(&key, &value, &mut map)?;
        }
        self.depth -= 1;
        Ok(map)
    }

    fn mapping(&mut self, mapping: &Bound<'_, PyMapping>) -> Taken<Map<String, Value>> {
        self.enter()?;
        let mut map = Map::new();
        for pair in mapping.items()?.iter() {
            let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
            self.pair(&key, &value, &mut map)?;
        }
        self.depth -= 1;
        Ok(map)
    }

    fn pair(&mut self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, map: &mut Map<String, Value>) -> Taken<()> {
        let Ok(key) = key.cast::<PyString>() else {
            return Err(Refused::of_type(format!("has a key of type {}; keys must be str", kind(key))));
        };
        let key = text(key).map_err(|refused| refused.at(" (a key)"))?;
        self.spend(key.len() + 3)?;
        let outer = self.times;
        if self.filter && !key.starts_with('$') {
            self.times = key == "created_at" || key == "updated_at";
        }
        let value = self.value(value).map_err(|refused| refused.at(key_step(&key)))?;
        self.times = outer;
        map.insert(key, value);
        Ok(())
    }

    fn items<'py>(&mut self, items: impl ExactSizeIterator<Item = Bound<'py, PyAny>>) -> Taken<Value> {
        self.enter()?;
        let mut values = Vec::with_capacity(items.len().min(1024));
        for (index, item) in items.enumerate() {
            values.push(self.value(&item).map_err(|refused| refused.at(format_args!("[{index}]")))?);
        }
        self.depth -= 1;
        Ok(Value::Array(values))
    }

    /// What is rarer than JSON's own types.
    fn other(&mut self, value: &Bound<'_, PyAny>) -> Taken<Value> {
        let py = value.py();
        if value.is_instance(numpy_generic(py)?)? {
            let kind: char = value.getattr(intern!(py, "dtype"))?.getattr(intern!(py, "kind"))?.extract()?;
            if matches!(kind, 'b' | 'i' | 'u' | 'f' | 'U') {
                let item = value.call_method0(intern!(py, "item"))?;
                if !item.is_instance(numpy_generic(py)?)? {
                    return self.value(&item);
                }
            }
            return Err(self.unknown(value));
        }
        if let Ok(string) = value.cast::<PyString>() {
            return self.string(string);
        }
        if let Ok(int) = value.cast::<PyInt>() {
            return self.int(int);
        }
        if let Ok(float) = value.cast::<PyFloat>() {
            return Self::float(float);
        }
        if let Ok(moment) = value.cast::<PyDateTime>() {
            if self.times && moment.call_method0(intern!(py, "utcoffset"))?.is_none() {
                return Err(Refused::of_value(format!(
                    "is {}, a datetime without time zone; give it one, as tzinfo=datetime.timezone.utc",
                    moment.repr()?
                )));
            }
            return self.iso(value);
        }
        if value.cast::<PyDate>().is_ok() {
            return self.iso(value);
        }
        if let Ok(mapping) = value.cast::<PyMapping>() {
            return self.mapping(mapping).map(Value::Object);
        }
        Err(self.unknown(value))
    }

    fn iso(&mut self, value: &Bound<'_, PyAny>) -> Taken<Value> {
        let text: String = value.call_method0(intern!(value.py(), "isoformat"))?.extract()?;
        self.spend(text.len())?;
        Ok(Value::String(text))
    }

    fn unknown(&self, value: &Bound<'_, PyAny>) -> Refused {
        Refused::of_type(format!(
            "is of type {}, which is not kept; use str, int, float, bool, None, datetime, or lists and dicts of them",
            kind(value)
        ))
    }
}

/// How Python writes a float that is not finite.
struct Name(f64);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_nan() {
            "nan"
        } else if self.0 > 0.0 {
            "inf"
        } else {
            "-inf"
        })
    }
}

/// The pairs of a dictionary as they are now.
struct Pairs;

impl Pairs {
    fn of<'py>(dict: &Bound<'py, PyDict>) -> Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        dict.iter().collect()
    }
}

fn numpy_generic(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static GENERIC: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    GENERIC.import(py, "numpy", "generic")
}

/// The object of a mapping, for metadata and settings.
pub(super) fn object(value: &Bound<'_, PyAny>) -> Taken<Map<String, Value>> {
    if let Ok(dict) = value.cast::<PyDict>() {
        return Walk::metadata().dict(dict);
    }
    match value.cast::<PyMapping>() {
        Ok(mapping) => Walk::metadata().mapping(mapping),
        Err(_) => Err(Refused::of_type(format!("is of type {}; it must be a mapping", kind(value)))),
    }
}

/// A value of any kind that JSON has, for state.
pub(super) fn value(value: &Bound<'_, PyAny>) -> Taken<Value> {
    Walk::metadata().value(value)
}

/// Metadata of a document or a chunk; `None` is empty.
pub(super) fn metadata(value: &Bound<'_, PyAny>) -> Taken<Metadata> {
    if value.is_none() || value.cast_exact::<PyDict>().is_ok_and(PyDictMethods::is_empty) {
        return Ok(Metadata::empty());
    }
    Ok(Metadata::from_map(&object(value)?)?)
}

/// A filter; `None` is none.
/// A key. What it says of one that is none holds nothing of it.
pub(super) fn key(value: &Bound<'_, PyAny>) -> PyResult<Key> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Key::raw(bytes.as_bytes())?);
    }
    let Ok(text) = value.cast::<PyString>() else {
        let name = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("key is of type {name}; it must be a str, 32 bytes, or None")));
    };
    let text = text.to_str().map_err(|_| {
        // Python's own error carries the text.
        PyValueError::new_err("key holds half of a surrogate pair, which UTF-8 cannot express; give another passphrase")
    })?;
    Ok(Key::passphrase(Zeroizing::new(text.to_owned()))?)
}

pub(super) fn filter(value: &Bound<'_, PyAny>) -> PyResult<Option<Filter>> {
    if value.is_none() {
        return Ok(None);
    }
    let object = match (value.cast::<PyDict>(), value.cast::<PyMapping>()) {
        (Ok(dict), _) => Walk::filter().dict(dict),
        (_, Ok(mapping)) => Walk::filter().mapping(mapping),
        _ => {
            return Err(PyTypeError::new_err(format!(
                "where is of type {}; it must be a mapping, as {{\"year\": {{\"$gte\": 2020}}}}",
                kind(value)
            )));
        }
    };
    Ok(Some(Filter::parse(&object.map_err(Refused::raise_in_filter)?)?))
}

/// An aware datetime as the store keeps it.
pub(super) fn timestamp(value: &Bound<'_, PyAny>) -> Taken<Timestamp> {
    static EPOCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let Ok(moment) = value.cast::<PyDateTime>() else {
        return Err(Refused::of_type(format!("is of type {}; it must be an aware datetime", kind(value))));
    };
    if moment.call_method0(intern!(py, "utcoffset"))?.is_none() {
        return Err(Refused::of_value("is a datetime without time zone; give it one, as tzinfo=datetime.timezone.utc"));
    }
    let epoch = EPOCH.get_or_try_init(py, || {
        let datetime = py.import("datetime")?;
        let utc = datetime.getattr("timezone")?.getattr("utc")?;
        datetime.getattr("datetime")?.call1((1970, 1, 1, 0, 0, 0, 0, utc)).map(Bound::unbind)
    })?;
    let since = moment.as_any().sub(epoch)?;
    let part = |name| since.getattr(name).and_then(|part| part.extract::<i64>());
    let (days, seconds, micros) =
        (part(intern!(py, "days"))?, part(intern!(py, "seconds"))?, part(intern!(py, "microseconds"))?);
    let moment = Timestamp((days * 86_400 + seconds) * 1_000_000 + micros);
    if moment.is_datetime() { Ok(moment) } else { Err(Refused::of_value("is not of the years 1 to 9999 in UTC")) }
}
