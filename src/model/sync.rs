use std::fmt;

use super::Timestamp;
use crate::hlc::Hlc;

/// One change of the feed, as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the feed of this store.
    pub seq: i64,
    /// "collection", "document", "relation" or "state".
    pub entity: String,
    /// "put", "delete", or "clear" of a collection.
    pub op: String,
    /// Of a collection that is gone, `None` but for the change of the collection itself.
    pub collection: Option<String>,
    /// A document's id, a relation's or a state value's name as a JSON array; a collection's name.
    pub id: Option<String>,
    pub stamp: Hlc,
}

/// Another store that this one exchanges changes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub endpoint: String,
    /// Once it is known.
    pub replica: Option<[u8; 16]>,
    pub added_at: Timestamp,
    pub last_synced_at: Option<Timestamp>,
}

/// What applying batches did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Documents, tombstones, relations, state values and collections that came.
    pub received: u64,
    /// Those of them that changed something.
    pub applied: u64,
    /// Changes that lost to another that was made without knowing of them, on either side.
    pub conflicts: u64,
    /// The replica that they came from.
    pub source: [u8; 16],
}

/// What one sync did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// The name of the peer, or what is known of it.
    pub peer: String,
    /// Changes that were sent, or written to a folder.
    pub sent: u64,
    pub received: u64,
    pub applied: u64,
    pub conflicts: u64,
}

/// One line of the history of syncs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncLog {
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub report: SyncReport,
    pub error: Option<String>,
}

/// A change that lost to another that was made without knowing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub found_at: Timestamp,
    pub collection: Option<String>,
    pub entity: String,
    pub id: String,
    /// This store's own change was kept.
    pub kept_own: bool,
    pub winner: Hlc,
    pub loser: Hlc,
}

/// What is exported of a store, and how many changes that were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    pub sent: u64,
    /// Those, and the ends of uris.
    pub records: u64,
    pub parts: u64,
}

impl fmt::Display for SyncReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, sent, received, applied, conflicts } = self;
        write!(f, "{peer}: {sent} sent, {received} received, {applied} applied, {conflicts} conflicts")
    }
}
