use rusqlite::Connection;

use crate::error::Result;
use crate::model::{StateEntry, Timestamp, check_name};
use crate::request::ScanState;
use crate::sqlite::tables::state;

pub fn run(conn: &Connection, request: &ScanState) -> Result<Vec<StateEntry>> {
    let ScanState { namespace, prefix, after, limit } = request;
    check_name("namespace", &namespace.name)?;
    let after = after.as_deref().filter(|after| *after >= prefix.as_str());
    // One more, for the one that they are to be behind. Keys with one prefix stand together.
    let (from, most) = (after.unwrap_or(prefix), limit.saturating_add(1));
    let mut entries = state::from(conn, namespace, Timestamp::now(), from, most)?;
    entries.retain(|entry| entry.key.starts_with(prefix) && after.is_none_or(|after| entry.key != after));
    entries.truncate(*limit);
    Ok(entries)
}
