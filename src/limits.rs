//! Every limit, named. They guard against untrusted input; none caps the number of rows of an honest call.

/// Hits a search may ask for.
pub const K: usize = 4096;
/// Components of a vector.
pub const DIMENSION: usize = 8192;
/// Bytes of one text, of a document or a chunk.
pub const TEXT_BYTES: usize = 16 << 20;
/// Bytes of one metadata object as JSON.
pub const METADATA_BYTES: usize = 1 << 20;
/// Nesting of one metadata object.
pub const METADATA_DEPTH: usize = 64;
/// Characters of one number in JSON: as many digits as Python reads of an integer.
pub const NUMBER_CHARS: usize = 4_300;
/// Conditions of one filter. A list of `$in` is one condition, however long.
pub const FILTER_TERMS: usize = 256;
/// Nesting of one filter.
pub const FILTER_DEPTH: usize = 32;
/// Words of a keyword search that reach the index: the rarest.
pub const QUERY_WORDS: usize = 64;
/// Tokens of one phrase that reach the index: the first.
pub const PHRASE_TOKENS: usize = 256;
/// Bytes of an expression in FTS5's own syntax.
pub const FTS5_QUERY_BYTES: usize = 4096;
/// Bytes of an id.
pub const ID_BYTES: usize = 512;
/// Bytes of the name of a collection or a space, a uri, a content type, a model name or a tokenizer.
pub const NAME_BYTES: usize = 4096;
/// Candidates each leg of a hybrid search contributes unless the caller says otherwise.
pub const CANDIDATES: usize = 100;
/// What a ranking may weigh in a hybrid search.
pub const WEIGHT: f64 = 1e6;
/// Hits that reranking and diversity choose from unless the caller says otherwise.
pub const FETCH: usize = 50;
/// Hits among which documents are looked for when hits are grouped.
pub const GROUP_DEPTH: usize = 65_536;
/// Hits of one document when hits are grouped, and chunks on either side of a hit.
pub const WINDOW: usize = 1_000;
/// Relations that a walk follows one after the other.
pub const GRAPH_DEPTH: usize = 32;
/// Vector bytes up to which a write is copied and validated by its caller, and so may share a commit.
pub const SHARED_COMMIT_BYTES: usize = 1 << 20;
/// Vector bytes validated and stored at a time from a caller's array.
pub const STAGING_BYTES: usize = 1 << 20;
/// Documents, relations or state values of one page of an export.
pub const EXPORT_PAGE_ROWS: usize = 1024;
/// Bytes of texts, metadata, values and vectors from which on a page of an export is full.
pub const EXPORT_PAGE_BYTES: usize = 4 << 20;
/// Writes waiting for the writer before the next caller blocks.
pub const QUEUE: usize = 256;
/// Writes that may share one commit.
pub const COMMIT_GROUP: usize = 64;
/// Bytes of the write-ahead log from which on a reader that keeps it from being moved is reported.
pub const LOG_WARNING_BYTES: u64 = 64 << 20;
/// Bytes of the write-ahead log from which on writes wait for that reader, and are refused when it stays.
pub const LOG_BYTES: u64 = 256 << 20;
/// Free bytes of the disk below which a store is not healthy.
pub const LOW_DISK_BYTES: u64 = 256 << 20;
/// Changes that the feed keeps at least.
pub const FEED_ROWS: u64 = 1_000;
/// Bytes of records from which on a frame of a sync batch is full. One record may take more.
pub const SYNC_FRAME_FULL: usize = 1 << 20;
/// Bytes of the records of one frame: a chunk with its text, its metadata and its vectors.
pub const SYNC_FRAME_BYTES: usize = 40 << 20;
/// How many times smaller compression may make a frame. What would shrink more is stored as it is.
pub const SYNC_COMPRESSION: usize = 64;
/// Bytes from which on a batch of an export in parts is full.
pub const SYNC_PART_BYTES: usize = 32 << 20;
/// Replicas that a watermark may name.
pub const SYNC_REPLICAS: usize = 4096;
/// Collections of one batch, and spaces of one collection.
pub const SYNC_COLLECTIONS: usize = 65_536;
/// Milliseconds by which a change of a peer may be ahead of this machine's clock.
pub const CLOCK_SKEW_MILLIS: u64 = 60_000;
/// Moments that a replica remembers having told others.
pub const SYNC_MARKS: usize = 1_000;
/// Of those, how many go with a batch.
pub const SYNC_MARKS_SENT: usize = 32;
/// Milliseconds for which a deletion is remembered: 90 days.
pub const TOMBSTONE_MILLIS: u64 = 90 * 24 * 3600 * 1000;
/// Conflicts and syncs that are listed, the latest.
pub const SYNC_HISTORY: usize = 10_000;
