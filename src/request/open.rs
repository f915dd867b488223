use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use super::Key;

/// Asked of the system once: it reads files for the answer.
static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Open {
    /// `None`: an ephemeral store, gone on close.
    pub path: Option<PathBuf>,
    /// Make the file and its parent directories when they are not there.
    pub create: bool,
    pub read_only: bool,
    pub durability: Durability,
    /// Of an encrypted store.
    pub key: Option<Key>,
    /// How long to wait for another writer.
    pub timeout: Duration,
    /// Connections that read at the same time.
    pub readers: usize,
    pub derived: Derived,
    /// Bytes for derived indexes and caches; `None` lets the store choose.
    pub memory_limit: Option<usize>,
    /// When derived indexes are built; `None` lets the store choose.
    pub index_at: Option<IndexAt>,
    /// Write also where the file lies on a network file system.
    pub network_filesystem: bool,
}

impl Open {
    /// The defaults for a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..Self::ephemeral() }
    }

    /// The defaults for a store that is gone on close.
    pub fn ephemeral() -> Self {
        Self {
            path: None,
            create: true,
            read_only: false,
            durability: Durability::Full,
            key: None,
            timeout: Duration::from_secs(30),
            readers: 2 * *CORES,
            derived: Derived::Auto,
            memory_limit: None,
            index_at: None,
            network_filesystem: false,
        }
    }
}

/// When derived indexes are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexAt {
    /// Rows from which on there is one.
    pub rows: u64,
    /// Rows that came after the snapshot, or went, from which on it is built anew.
    pub tail: usize,
    /// Searches wait for it, as only tests want them to.
    pub wait: bool,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Power loss.
    Full,
    /// The end of the process; power loss may take the last commits, never consistency.
    Relaxed,
}

/// Where derived indexes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Derived {
    /// Beside the file.
    Auto,
    Memory,
    Off,
}
