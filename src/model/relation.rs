use std::str::FromStr;

use super::{Metadata, Timestamp};
use crate::error::{Error, ErrorKind};

/// A relation as it is given to a store.
#[derive(Debug, Clone)]
pub struct NewRelation {
    pub source: String,
    pub target: String,
    pub kind: String,
    /// From 0 to 1.
    pub strength: f64,
    pub metadata: Metadata,
}

/// A directed edge between two chunks or documents of a collection, named by their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    pub source: String,
    pub target: String,
    pub kind: String,
    /// From 0 to 1.
    pub strength: f64,
    pub metadata: Metadata,
    pub created_at: Timestamp,
}

impl Relation {
    /// One that is made at a moment.
    pub fn new(given: &NewRelation, created_at: Timestamp) -> Self {
        let NewRelation { source, target, kind, strength, metadata } = given.clone();
        Self { source, target, kind, strength, metadata, created_at }
    }
}

/// What a walk over relations came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Related {
    pub id: String,
    /// The ids on the way, from the one that the walk began with to this one.
    pub path: Vec<String>,
    /// The product of the strengths on the way, of the strongest way there is.
    pub strength: f64,
    /// Relations on the way.
    pub depth: usize,
}

/// Which way relations are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Out,
    In,
    Both,
}

impl FromStr for Direction {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "out" => Ok(Self::Out),
            "in" => Ok(Self::In),
            "both" => Ok(Self::Both),
            other => Err(Error::new(
                ErrorKind::Argument,
                format!("direction is {other:?}; it is one of \"out\", \"in\", \"both\""),
            )),
        }
    }
}
