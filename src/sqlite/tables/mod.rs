//! What each table holds, as free functions over a connection.

pub mod changes;
pub mod chunks;
pub mod collections;
pub mod documents;
pub mod embedding_cache;
pub mod expiry;
pub mod field_values;
pub mod fts;
pub mod fts_terms;
pub mod meta;
pub mod relations;
pub mod replicas;
pub mod spaces;
pub mod state;
pub mod sync_peers;
pub mod tombstones;
pub mod vector_blocks;
pub mod vectors;
