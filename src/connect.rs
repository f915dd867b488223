//! From a path to a store: the only file that names every backend.

use std::sync::Arc;

use crate::error::Result;
use crate::request::Open;
use crate::sqlite::SqliteStore;
use crate::store::Store;

/// Opens the store that the request names.
///
/// # Errors
/// `NotFound` without a file and without `create`; `Corrupt` for a file that is no store; `SchemaTooNew`; `ReadOnly`,
/// `Io` and `Locked` where the system or another process is in the way; `Fork` in a child that was forked while this
/// library was at work.
pub fn open(request: &Open) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(SqliteStore::open(request)?))
}

/// Has every backend keep what happens inside it for [`crate::events::take`]. To be called before the first store is
/// opened.
pub fn listen() {
    crate::sqlite::listen();
    crate::events::listen();
}

/// To be called around every `fork()` that a binding can see; see the module they come from.
pub use crate::sqlite::fork::{
    after_in_child as after_fork_in_child, after_in_parent as after_fork_in_parent, before as before_fork,
};
