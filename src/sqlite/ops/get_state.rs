use rusqlite::Connection;

use crate::error::Result;
use crate::model::{Namespace, StateEntry, Timestamp, check_name};
use crate::sqlite::tables::state;

pub fn run(conn: &Connection, namespace: &Namespace, key: &str) -> Result<Option<StateEntry>> {
    check_name("namespace", &namespace.name)?;
    state::get(conn, namespace, Timestamp::now(), key)
}
