//! From a path to a store: the only file that names every backend.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::model::{CheckReport, RepairReport};
use crate::request::{Check, Key, Open};
use crate::sqlite::{SqliteStore, file};
use crate::store::{Store, Watch};

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

/// Looks at a file that may be too damaged to be opened. See [`Store::check`].
///
/// # Errors
/// `NotFound` without a file; `SchemaTooNew`; `Io` and `Locked` where the system or another process is in the way. What
/// is found in the file is no error.
pub fn check(path: &Path, key: Option<&Key>, request: &Check, watch: &mut dyn Watch) -> Result<CheckReport> {
    file::check(path, key, request, watch)
}

/// Makes a new store of what can be read of a file that may be too damaged to be opened. See [`Store::repair`].
///
/// # Errors
/// As [`check`]; `Corrupt` where there is nothing to be read.
pub fn repair(path: &Path, key: Option<&Key>, to: &Path, watch: &mut dyn Watch) -> Result<RepairReport> {
    file::repair(path, key, to, watch)
}

/// To be called around every `fork()` that a binding can see; see the module they come from.
pub use crate::sqlite::fork::{
    after_in_child as after_fork_in_child, after_in_parent as after_fork_in_parent, before as before_fork,
};
