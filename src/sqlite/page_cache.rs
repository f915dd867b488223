//! How often connections found the page they wanted in their cache.

use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::ffi;

/// Pages that were found in a cache, and those that had to be read.
#[derive(Debug, Default)]
pub struct PageCache {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl PageCache {
    /// Adds what a connection counted since it was last asked.
    pub fn count(&self, conn: &Connection) {
        let (hits, misses) = ffi::take_cache_counts(conn);
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
    }

    /// Hits and misses up to now.
    pub fn read(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}
