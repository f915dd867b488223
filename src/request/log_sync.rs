use crate::model::{SyncReport, Timestamp};
use crate::sync::ReplicaId;

/// Writes the end of a sync into the history.
#[derive(Debug, Clone)]
pub struct LogSync {
    pub report: SyncReport,
    pub started_at: Timestamp,
    /// A peer of that endpoint is the one, and has that replica from now on.
    pub endpoint: Option<String>,
    pub replica: Option<ReplicaId>,
    pub error: Option<String>,
}
