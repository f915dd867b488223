//! What the store holds and what its file is made of.

use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::log;
use super::opened::Opened;
use super::sql;
use super::tables::fts::{self, FtsTable};
use super::tables::{chunks, collections, documents, meta, spaces, vectors};
use crate::error::Result;
use crate::model::StoreStats;

/// Counts rows by walking the smallest index of each table; sizes come from the records of vec0 and FTS5, but for those of
/// declared fields, whose pages are counted.
pub fn run(opened: &Opened) -> Result<StoreStats> {
    let Opened { readers, writer, file, .. } = opened;
    let mut stats = readers.read(stored)?;
    stats.indexes = readers.read(|conn| readers.derived.stats(conn))?;
    let number = |bytes: usize| bytes as u64;
    stats.memory_limit = readers.derived.memory_limit.map(number);
    stats.index_memory_bytes = number(readers.derived.held());
    stats.filter_memory_bytes = number(readers.row_sets.held());
    stats.file_bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    stats.log_bytes = log::length(file);
    let pool = readers.pool();
    (stats.readers_open, stats.readers_limit, stats.reader_waits) = (pool.open as u64, pool.limit as u64, pool.waits);
    (stats.cache_hits, stats.cache_misses) = readers.cache.read();
    if let Some(writer) = writer {
        let (hits, misses) = writer.status.cache.read();
        stats.cache_hits += hits;
        stats.cache_misses += misses;
        stats.queued_writes = writer.queued() as u64;
        stats.checkpoints = writer.status.checkpoints.load(Ordering::Relaxed);
    }
    Ok(stats)
}

fn stored(conn: &Connection) -> Result<StoreStats> {
    let pragma = |text: &str| -> Result<u64> { Ok(conn.query_row(text, [], |row| row.get(0))?) };
    let page = sql::page_size(conn)?;
    let mut stats = StoreStats {
        documents: documents::count_all(conn)?,
        chunks: chunks::count_all(conn)?,
        free_bytes: pragma("PRAGMA freelist_count")?.saturating_mul(page),
        embedding_cache_bytes: meta::embedding_cache_bytes(conn)?,
        field_index_bytes: table_bytes(conn, "field_values")? + table_bytes(conn, "field_values_chunk")?,
        ..StoreStats::default()
    };
    for collection in collections::list(conn)? {
        stats.collections += 1;
        let table = FtsTable { collection_id: collection.id, generation: collection.fts_generation };
        stats.text_index_bytes += fts::structure(conn, table)?.leaves.saturating_mul(fts::LEAF_BYTES);
        for table in spaces::list(conn, collection.id)?.iter().filter_map(spaces::SpaceRow::table) {
            stats.embeddings += vectors::count(conn, table)?;
            stats.vector_bytes += vectors::bytes(conn, table)?;
        }
    }
    Ok(stats)
}

/// Of the pages of one table or index, each of which is read.
fn table_bytes(conn: &Connection, name: &str) -> Result<u64> {
    let text = "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name = ?1 AND aggregate = TRUE";
    sql::query_one(conn, text, [name], |row| row.get(0))
}
