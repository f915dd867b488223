use rusqlite::Connection;

use crate::error::Result;
use crate::model::{Namespace, Timestamp, check_name};
use crate::sqlite::tables::state;

pub fn run(conn: &Connection, namespace: &Namespace) -> Result<u64> {
    check_name("namespace", &namespace.name)?;
    state::count(conn, namespace, Timestamp::now())
}
