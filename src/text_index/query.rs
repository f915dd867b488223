//! What is asked, of what, and what is found.

use std::cmp::Ordering;

use super::builder::Builder;
use super::dead::Dead;
use super::segment::Segment;
use crate::error::Error;

/// Which rows match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Those with any of the phrases.
    Or,
    /// Those with all of them.
    And,
}

/// Tokens that stand one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase {
    pub tokens: Vec<Vec<u8>>,
    /// Whether the last may go on.
    pub prefix: bool,
}

/// The phrases of a query, in the order in which their parts of the score are summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub operator: Operator,
    pub phrases: Vec<Phrase>,
}

/// Some of the rows that are searched. No row is in two parts.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    /// A segment without some of its rows.
    Sealed { segment: &'a Segment<'a>, dead: &'a Dead },
    /// The first rows of what still grows, without some of them.
    Growing { builder: &'a Builder, rows: usize, dead: &'a Dead },
}

impl<'a> Part<'a> {
    pub(super) fn rows(&self) -> usize {
        match self {
            Part::Sealed { segment, .. } => segment.rows(),
            Part::Growing { builder, rows, .. } => builder.rows().min(*rows),
        }
    }

    pub(super) fn tokens(&self) -> u64 {
        match self {
            Part::Sealed { segment, .. } => segment.tokens(),
            Part::Growing { builder, .. } => builder.tokens(self.rows()),
        }
    }

    pub(super) fn dead(&self) -> &'a Dead {
        match self {
            Part::Sealed { dead, .. } | Part::Growing { dead, .. } => dead,
        }
    }

    #[inline]
    pub(super) fn row(&self, position: u32) -> Option<i64> {
        match self {
            Part::Sealed { segment, .. } => segment.row(position),
            Part::Growing { builder, .. } => builder.row(position as usize),
        }
    }

    pub(super) fn position(&self, row: i64) -> Option<u32> {
        match self {
            Part::Sealed { segment, .. } => segment.position(row).ok(),
            Part::Growing { builder, .. } => {
                builder.position(row).ok().filter(|&position| position < self.rows()).map(|position| position as u32)
            }
        }
    }

    #[inline]
    pub(super) fn length(&self, position: u32) -> u32 {
        match self {
            Part::Sealed { segment, .. } => segment.length(position).unwrap_or(0),
            Part::Growing { builder, .. } => builder.length(position as usize),
        }
    }

    /// The code of the length of each row.
    pub(super) fn length_codes(&self) -> &'a [u8] {
        match self {
            Part::Sealed { segment, .. } => segment.length_codes(),
            Part::Growing { builder, .. } => builder.length_codes(),
        }
    }
}

/// The rows that may be found.
pub trait Allowed {
    /// Whether a row is among them.
    fn contains(&self, row: i64) -> bool;
    /// How many they are.
    fn count(&self) -> u64;
    /// All, ascending: asked for where they are few.
    fn rows(&self) -> Vec<i64>;
}

/// How many rows there are, and how many tokens they have, as FTS5 counts both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub rows: u64,
    pub tokens: u64,
}

/// A row and its score: the greater the better, what FTS5's `rank` is with the other sign. The better hit is the less;
/// equal scores go by row.
#[derive(Debug, Clone, Copy)]
pub struct Hit {
    pub row: i64,
    pub score: f64,
}

impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Hit {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Hit {}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Best first, equal scores by row.
    pub hits: Vec<Hit>,
    /// False where the search was told to stop: the hits are then the best of what was looked at.
    pub complete: bool,
    /// Rows whose score was computed.
    pub looked: u64,
}

/// Why something ends early.
#[derive(Debug)]
pub(super) enum Halt {
    Stopped,
    Failed(Error),
}

/// What may be stopped.
pub(super) type OrHalt<T> = Result<T, Halt>;

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Halt::Failed(error)
    }
}

/// Asks now and then whether to go on.
pub(super) struct Work<'a> {
    keep_going: &'a mut dyn FnMut() -> bool,
    spent: usize,
}

impl<'a> Work<'a> {
    pub fn new(keep_going: &'a mut dyn FnMut() -> bool) -> Self {
        Self { keep_going, spent: 0 }
    }

    /// Says that so many postings, about, were dealt with.
    #[inline]
    pub fn spend(&mut self, postings: usize) -> OrHalt<()> {
        const STEP: usize = 1 << 14;
        self.spent += postings;
        if self.spent < STEP {
            return Ok(());
        }
        self.spent = 0;
        if (self.keep_going)() { Ok(()) } else { Err(Halt::Stopped) }
    }
}
