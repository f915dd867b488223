//! A text index for rows in ascending order: immutable segments of bytes, a growing part in memory, and the k best rows
//! by exactly the score that FTS5 gives. Pure: no SQLite, no files, no threads. The tokens come from the caller.
//!
//! A *row* is known by its id, a *position* is its place in a segment. `builder` takes rows, `writer` makes a segment of
//! them, `merge` makes one of several, `segment` reads it, `search` finds the best rows of several parts.

mod bits;
mod bm25;
mod builder;
mod dead;
mod dictionary;
#[cfg(test)]
mod hostile_test;
mod lists;
mod merge;
mod phrases;
mod positions;
mod postings;
mod query;
mod search;
mod segment;
mod window;
mod writer;

pub use builder::Builder;
pub use dead::Dead;
pub use merge::merge;
pub use query::{Allowed, Found, Hit, Operator, Part, Phrase, Query, Totals};
pub use search::{frequency, search, totals};
pub use segment::{Section, Sections, Segment, Verify, trusted};

use crate::error::{Error, ErrorKind};

/// Bytes of a token that count: FTS5 cuts what is longer.
pub const TOKEN_BYTES: usize = 32_768;

/// Rows that a segment may have, so that a position has 31 bits.
pub const ROWS: usize = i32::MAX as usize;

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a segment of the text index is damaged: {what}"))
}

fn cut(token: &[u8]) -> &[u8] {
    &token[..token.len().min(TOKEN_BYTES)]
}
