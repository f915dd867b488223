use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// How two vectors are compared. The score is always higher for a better hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// distance = 1 - cos, score = cos.
    Cosine,
    /// distance = Euclidean, score = 1 / (1 + distance).
    L2,
    /// distance = -dot, score = dot.
    Ip,
}

impl Metric {
    /// The name in the public surface and in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::L2 => "l2",
            Metric::Ip => "ip",
        }
    }

    /// The score of a distance.
    pub fn score(self, distance: f64) -> f64 {
        match self {
            Metric::Cosine => 1.0 - distance,
            Metric::L2 => 1.0 / (1.0 + distance),
            Metric::Ip => -distance,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cosine" => Ok(Metric::Cosine),
            "l2" => Ok(Metric::L2),
            "ip" => Ok(Metric::Ip),
            other => Err(Error::new(
                ErrorKind::Argument,
                format!("metric is {other:?}; it is one of \"cosine\", \"l2\", \"ip\""),
            )),
        }
    }
}

/// What a collection is, without what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionInfo {
    pub name: String,
    pub description: Option<String>,
    pub settings: Map<String, Value>,
    pub tokenizer: String,
    pub created_at: Timestamp,
    /// `default` first, then by age.
    pub spaces: Vec<SpaceInfo>,
}

/// What an embedding space is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceInfo {
    pub name: String,
    /// `None` until the first embeddings.
    pub dimension: Option<usize>,
    pub metric: Metric,
    pub model: Option<String>,
}
