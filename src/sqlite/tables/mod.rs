//! What each table holds, as free functions over a connection.

pub mod changes;
pub mod chunks;
pub mod collections;
pub mod documents;
pub mod embedding_cache;
pub mod expiry;
pub mod field_values;
pub mod fts;
pub mod meta;
pub mod relations;
pub mod spaces;
pub mod state;
pub mod vector_blocks;
pub mod vectors;
