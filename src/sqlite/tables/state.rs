//! What pipelines keep between their runs. An expired value is not there, whether its row is or not.

use rusqlite::{Connection, Row, params};

use super::changes::{self, Change, Entity, Op, Stamp};
use super::tombstones;
use crate::error::Result;
use crate::hlc::Hlc;
use crate::model::{Expected, Namespace, StateEntry, StateValue, Timestamp};
use crate::sqlite::sql;
use crate::sync::merge::Known;

/// Columns of [`entry`].
const COLUMNS: &str = "key, value, expires_at, updated_at";
/// `?1` and `?2` are the namespace, `?3` is now.
const ALIVE: &str = "namespace = ?1 AND local = ?2 AND (expires_at IS NULL OR expires_at > ?3)";

fn entry(row: &Row<'_>) -> rusqlite::Result<StateEntry> {
    Ok(StateEntry {
        key: row.get(0)?,
        value: StateValue::from_stored(row.get(1)?),
        expires_at: row.get::<_, Option<i64>>(2)?.map(Timestamp),
        updated_at: Timestamp(row.get(3)?),
    })
}

/// The value of a key.
pub fn get(conn: &Connection, namespace: &Namespace, now: Timestamp, key: &str) -> Result<Option<StateEntry>> {
    let text = format!("SELECT {COLUMNS} FROM state WHERE {ALIVE} AND key = ?4");
    sql::query_optional(conn, &text, params![namespace.name, namespace.local, now.0, key], entry)
}

/// At most `limit` values from a key on, by key.
pub fn from(
    conn: &Connection,
    namespace: &Namespace,
    now: Timestamp,
    key: &str,
    limit: usize,
) -> Result<Vec<StateEntry>> {
    let text = format!("SELECT {COLUMNS} FROM state WHERE {ALIVE} AND key >= ?4 ORDER BY key LIMIT ?5");
    sql::query_all(conn, &text, params![namespace.name, namespace.local, now.0, key, limit], entry)
}

/// The values of all namespaces after a key, by namespace and key, until `full` says of one that it is the last. No
/// namespace comes before the one without a name.
pub fn living_after(
    conn: &Connection,
    namespace: &Namespace,
    key: &str,
    now: Timestamp,
    mut full: impl FnMut(&StateEntry) -> bool,
) -> Result<Vec<(Namespace, StateEntry)>> {
    let text = format!(
        "SELECT {COLUMNS}, namespace, local FROM state WHERE (namespace, local, key) > (?1, ?2, ?3)
         AND (expires_at IS NULL OR expires_at > ?4) ORDER BY namespace, local, key"
    );
    let mut statement = sql::prepare(conn, &text)?;
    let mut rows = statement.query(params![namespace.name, namespace.local, key, now.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let entry = entry(row)?;
        let last = full(&entry);
        found.push((Namespace { name: row.get(4)?, local: row.get(5)? }, entry));
        if last {
            break;
        }
    }
    Ok(found)
}

/// How many values there are.
pub fn count(conn: &Connection, namespace: &Namespace, now: Timestamp) -> Result<u64> {
    let text = format!("SELECT count(*) FROM state WHERE {ALIVE}");
    sql::query_one(conn, &text, params![namespace.name, namespace.local, now.0], |row| row.get(0))
}

/// Whether what is there is what is expected.
pub fn as_expected(
    conn: &Connection,
    namespace: &Namespace,
    now: Timestamp,
    key: &str,
    expected: &Expected,
) -> Result<bool> {
    let there = || get(conn, namespace, now, key);
    match expected {
        Expected::Anything => Ok(true),
        Expected::Nothing => Ok(there()?.is_none()),
        Expected::Value(value) => there()?.map_or(Ok(false), |entry| entry.value.same(value)),
    }
}

/// Sets a value.
pub fn put(conn: &Connection, stamp: Stamp, namespace: &Namespace, entry: &StateEntry) -> Result<()> {
    let row_id: i64 = sql::query_one(
        conn,
        "INSERT INTO state (namespace, local, key, value, expires_at, updated_at, hlc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (namespace, local, key) DO UPDATE
         SET value = excluded.value, expires_at = excluded.expires_at, updated_at = excluded.updated_at, hlc = excluded.hlc
         RETURNING id",
        params![
            namespace.name,
            namespace.local,
            entry.key,
            entry.value.as_json(),
            entry.expires_at.map(|at| at.0),
            entry.updated_at.0,
            stamp.hlc.to_bytes()
        ],
        |row| row.get(0),
    )?;
    if namespace.local {
        return Ok(());
    }
    let uid = uid(namespace, &entry.key);
    changes::unbury(conn, 0, Entity::State, &uid)?;
    append(conn, stamp, &uid, row_id, Op::Put)
}

/// Deletes a value, whether it is expired or not.
pub fn delete(conn: &Connection, stamp: Stamp, namespace: &Namespace, key: &str) -> Result<()> {
    let text = "DELETE FROM state WHERE namespace = ?1 AND local = ?2 AND key = ?3 RETURNING id";
    let gone: Option<i64> =
        sql::query_optional(conn, text, params![namespace.name, namespace.local, key], |row| row.get(0))?;
    let Some(row_id) = gone.filter(|_| !namespace.local) else { return Ok(()) };
    let uid = uid(namespace, key);
    changes::bury(conn, stamp, 0, Entity::State, &uid)?;
    append(conn, stamp, &uid, row_id, Op::Delete)
}

/// Whether anything has expired.
pub fn any_expired(conn: &Connection, now: Timestamp) -> Result<bool> {
    sql::query_one(conn, "SELECT EXISTS (SELECT 1 FROM state WHERE expires_at <= ?1)", [now.0], |row| row.get(0))
}

/// Deletes at most so many values that have expired, and says how many. Each ends with its own last change: what another
/// replica set since then, and this one has not seen, is later.
pub fn delete_expired(conn: &Connection, stamp: Stamp, now: Timestamp, most: u64) -> Result<u64> {
    let text = "SELECT namespace, local, key, hlc FROM state WHERE expires_at <= ?1 LIMIT ?2";
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let gone: Vec<(Namespace, String, Hlc)> = sql::query_all(conn, text, params![now.0, limit], |row| {
        Ok((Namespace { name: row.get(0)?, local: row.get(1)? }, row.get(2)?, sql::hlc(row, 3)?))
    })?;
    gone.iter().try_for_each(|(namespace, key, hlc)| delete(conn, Stamp { hlc: *hlc, ..stamp }, namespace, key))?;
    Ok(gone.len() as u64)
}

fn append(conn: &Connection, stamp: Stamp, uid: &str, row_id: i64, op: Op) -> Result<()> {
    let change =
        Change { collection_id: None, space_id: None, entity: Entity::State, uid: Some(uid), row_id: Some(row_id), op };
    changes::append(conn, stamp, change)
}

/// What is known of a value that is not local.
pub fn known(conn: &Connection, namespace: &Namespace, key: &str) -> Result<Option<Known>> {
    let text = "SELECT hlc FROM state WHERE namespace = ?1 AND local = 0 AND key = ?2";
    let found = sql::query_optional(conn, text, params![namespace.name, key], |row| sql::hlc(row, 0))?;
    if let Some(stamp) = found {
        return Ok(Some(Known { stamp, living: true }));
    }
    let gone = tombstones::get(conn, 0, Entity::State, &uid(namespace, key))?;
    Ok(gone.map(|stamp| Known { stamp, living: false }))
}

/// Buries a value that another replica deleted.
pub fn receive_end(conn: &Connection, stamp: Stamp, namespace: &Namespace, key: &str) -> Result<()> {
    delete(conn, stamp, namespace, key)?;
    changes::bury(conn, stamp, 0, Entity::State, &uid(namespace, key))
}

/// The name of a value in the feed and among the tombstones: no two have the same.
pub fn uid(namespace: &Namespace, key: &str) -> String {
    serde_json::json!([namespace.name, key]).to_string()
}
