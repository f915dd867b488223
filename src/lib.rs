//! ragstore: documents, chunks, embeddings, keyword and vector search in one SQLite file.
//!
//! [`connect::open`] gives a [`store::Store`]; a [`request`] goes in, [`model`] data comes out, [`error::Error`] says
//! what was wrong. `docs/architecture.md` has the picture, `docs/storage.md` the invariants of the file.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod connect;
#[cfg(test)]
mod contract;
pub mod error;
pub mod events;
pub mod exchange;
pub mod filter;
pub mod fusion;
mod graph;
pub mod highlight;
pub mod hlc;
pub mod limits;
pub mod mmr;
pub mod model;
#[cfg(feature = "python")]
mod python;
#[cfg(test)]
mod random;
pub mod request;
mod row_ids;
pub mod split;
mod sqlite;
pub mod store;
pub mod sync;
pub mod text_index;
mod top_k;
pub mod traces;
#[cfg(any(test, feature = "python"))]
mod turns;
pub mod vector_index;
