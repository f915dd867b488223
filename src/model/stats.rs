/// What a store holds, what its file is made of, and how its connections fare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub collections: u64,
    pub documents: u64,
    pub chunks: u64,
    /// Of every space.
    pub embeddings: u64,
    /// Of the file as it was at the last checkpoint.
    pub file_bytes: u64,
    /// Of the write-ahead log.
    pub log_bytes: u64,
    /// Of pages that hold nothing.
    pub free_bytes: u64,
    /// Of the blocks of vec0.
    pub vector_bytes: u64,
    /// Of the leaves of FTS5.
    pub text_index_bytes: u64,
    /// Of the values of declared fields.
    pub field_index_bytes: u64,
    /// Of the vectors in the embedding cache.
    pub embedding_cache_bytes: u64,
    /// Pages that connections found in their cache, and those they had to read, since the store was opened.
    pub cache_hits: u64,
    pub cache_misses: u64,
    /// Writes that wait for the writer.
    pub queued_writes: u64,
    /// Read connections that are open, that may be, and how often a read waited for one.
    pub readers_open: u64,
    pub readers_limit: u64,
    pub reader_waits: u64,
    /// By this store since it was opened.
    pub checkpoints: u64,
    /// Bytes that indexes and caches are to stay within, half of them for indexes and sets of filters; `None` without limit.
    pub memory_limit: Option<u64>,
    /// What is held of them by indexes, and by the rows that filters let through, kept for the next search.
    pub index_memory_bytes: u64,
    pub filter_memory_bytes: u64,
    /// What answers searches sooner, in this process.
    pub indexes: Vec<IndexStats>,
}

/// How a derived index fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexStats {
    pub collection: String,
    /// `None` for an index of texts.
    pub space: Option<String>,
    /// The change as of which its snapshot is; `None` where this process has none.
    pub change: Option<i64>,
    /// Rows of the snapshot, rows that came since, and rows of both that are gone, as of the last search.
    pub rows: u64,
    pub tail: u64,
    pub dead: u64,
    /// Of the snapshot on the disk.
    pub file_bytes: u64,
    /// Of memory, without what is mapped from the disk.
    pub memory_bytes: u64,
    /// Rows that a build under way has dealt with, and those it is about.
    pub building: Option<(u64, u64)>,
    /// Why there is none, or none that is new.
    pub problem: Option<String>,
}
