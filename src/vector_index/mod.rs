//! Nearest vectors sooner than by float32 alone: one byte for each component, and a graph over those. Pure: sections
//! of bytes in and out, positions instead of rows, no file and no SQL.
//!
//! A *position* is the place of a vector in a segment, which holds its vectors in ascending rowid, so that positions
//! break ties as rowids do.
//!
//! - [`CodesBuilder`] quantises vectors and [`CodesView`] reads what it made; [`scan()`] goes through all of them, or
//!   through a selection, and proves its answer.
//! - [`graph::build`] makes an HNSW graph over the codes, and [`GraphView`] walks it.
//! - [`plan`] says which of the two answers a search at a given recall, and how far a walk goes.
//! - [`VectorIndex`] is all of it for one segment.
//!
//! Every answer is scored by [`Query`], from float32, as a search without an index is. Bytes that are not what was
//! written end in [`ErrorKind::Corrupt`](crate::error::ErrorKind::Corrupt) or in a wrong answer, never in a panic or in
//! memory that is not theirs: whoever maps a file gives each [`Section`] a check of what is read.

mod aligned;
mod choose;
mod codes;
mod distance;
pub mod graph;
mod index;
mod kernels;
mod query;
mod scan;
mod section;
mod selection;
#[cfg(test)]
mod testing;

pub use choose::{GRAPH_ROWS, Hardness, Road, Setting, plan};
pub use codes::{Codes, CodesBuilder, CodesView, Typical};
pub use distance::Query;
pub use graph::{GraphView, Pool};
pub use index::VectorIndex;
pub use kernels::Kernel;
pub use query::CodedQuery;
pub use scan::{Found, Neighbor, scan};
pub use section::{Rescore, Section, Vectors, Verify};
pub use selection::{Among, Selection};
