//! What this store knows of replicas: how much of each it has, and what it told others of itself.

use rusqlite::{Connection, params};

use super::meta;
use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::Timestamp;
use crate::sqlite::sql;
use crate::sync::{ReplicaId, Watermark};

/// Every table whose rows say who stamped them.
pub const STAMPED: [&str; 11] = [
    "collections",
    "space_stamps",
    "documents",
    "chunks",
    "relations",
    "waiting_relations",
    "state",
    "tombstones",
    "uri_tombstones",
    "space_tombstones",
    "changes",
];

/// Who this store is.
pub fn own(conn: &Connection) -> Result<ReplicaId> {
    sql::query_one(conn, "SELECT value FROM meta WHERE key = 'replica_id'", [], |row| row.get(0))
}

/// The file in which this replica is, by the number of its file system.
const FILE: &str = "file";

/// Notes the file in which this replica is.
pub fn note_file(conn: &Connection, number: Option<u64>) -> Result<()> {
    match number {
        Some(number) => meta::put(conn, FILE, &number.to_le_bytes()),
        None => sql::execute(conn, "DELETE FROM meta WHERE key = ?1", [FILE]).map(drop),
    }
}

/// Whether the replica was noted to be in another file, or in none.
pub fn file(conn: &Connection, number: Option<u64>) -> Result<InFile> {
    let noted: Option<[u8; 8]> =
        sql::query_optional(conn, "SELECT value FROM meta WHERE key = ?1", [FILE], |row| row.get(0))?;
    Ok(match (noted.map(u64::from_le_bytes), number) {
        (None, _) => InFile::Unknown,
        (Some(noted), Some(number)) if noted != number => InFile::Another,
        _ => InFile::This,
    })
}

/// Where a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFile {
    This,
    /// The file that is open is a copy of that, or came from another file system.
    Another,
    /// Of before files were noted.
    Unknown,
}

/// How much of each replica is here; of this one everything.
pub fn watermark(conn: &Connection) -> Result<Watermark> {
    let mut mark: Watermark =
        sql::query_all(conn, "SELECT hlc FROM replicas", [], |row| sql::hlc(row, 0))?.into_iter().collect();
    let own = own(conn)?;
    mark.raise(Hlc { replica: own, ..meta::clock(conn)? });
    Ok(mark)
}

/// Everything of these replicas is here up to these moments. Of the old ones something was known before the horizon.
pub fn raise(conn: &Connection, mark: &Watermark, old: &[ReplicaId]) -> Result<()> {
    let own = own(conn)?;
    let now = meta::clock(conn)?;
    for stamp in mark.iter().filter(|stamp| stamp.replica != own) {
        let met = if old.contains(&stamp.replica) { Hlc::zero([0; 16]) } else { now };
        sql::execute(
            conn,
            "INSERT INTO replicas (replica_id, hlc, met) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET hlc = max(hlc, excluded.hlc), met = min(met, excluded.met)",
            params![stamp.replica, stamp.to_bytes(), met.to_bytes()],
        )?;
    }
    // More than that would go with no batch of this store.
    let count: usize = sql::query_one(conn, "SELECT count(*) FROM replicas", [], |row| row.get(0))?;
    if count < limits::SYNC_REPLICAS {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Limit,
        format!(
            "with it the store would know of {} replicas; at most {} are allowed",
            count + 1,
            limits::SYNC_REPLICAS
        ),
    ))
}

/// Nothing of a replica is known to be here, and something may be.
pub fn meet(conn: &Connection, replica: ReplicaId) -> Result<()> {
    raise(conn, &[Hlc::zero(replica)].into_iter().collect(), &[replica])
}

/// Replicas that this store heard of before a moment, and itself if it is as old: what they wrote may have been deleted
/// before it, and by them.
pub fn met_before(conn: &Connection, moment: Option<Hlc>) -> Result<Vec<ReplicaId>> {
    let Some(moment) = moment else { return Ok(Vec::new()) };
    let end = Hlc { replica: [0xff; 16], ..moment }.to_bytes();
    let text = "SELECT replica_id FROM replicas WHERE met <= ?1";
    let mut met = sql::query_all(conn, text, params![end], |row| row.get(0))?;
    if self::moment(conn, "replica_since")?.is_none_or(|since| since.to_bytes() <= end) {
        met.push(own(conn)?);
    }
    Ok(met)
}

/// The latest moments up to which others were told that they have everything of this store, oldest first.
pub fn marks(conn: &Connection, most: usize) -> Result<Vec<Hlc>> {
    let text = "SELECT hlc FROM sync_marks WHERE given_up = 0 ORDER BY hlc DESC LIMIT ?1";
    let mut marks = sql::query_all(conn, text, [most as i64], |row| sql::hlc(row, 0))?;
    marks.reverse();
    Ok(marks)
}

/// Remembers another.
pub fn add_mark(conn: &Connection, mark: Hlc) -> Result<()> {
    sql::execute(conn, "INSERT OR IGNORE INTO sync_marks (hlc) VALUES (?1)", params![mark.to_bytes()])?;
    let text = "DELETE FROM sync_marks WHERE hlc < (SELECT hlc FROM sync_marks ORDER BY hlc DESC LIMIT 1 OFFSET ?1)";
    sql::execute(conn, text, [limits::SYNC_MARKS as i64 - 1]).map(drop)
}

/// Gives up those that are still to come for a clock that was set back.
pub fn give_up_marks(conn: &Connection, clock: Hlc) -> Result<()> {
    sql::execute(conn, "UPDATE sync_marks SET given_up = 1 WHERE hlc > ?1", params![clock.to_bytes()]).map(drop)
}

/// Whether this store told others of that moment, or `itself` alone remembers it. Of long ago it does not know any more.
pub fn is_mark(conn: &Connection, moment: Hlc, itself: bool) -> Result<bool> {
    let clock = meta::clock(conn)?;
    let there = "SELECT EXISTS (SELECT 1 FROM sync_marks WHERE hlc = ?1 AND given_up <= ?2)";
    // At the beginning there was nothing to be told.
    if moment == clock
        || moment.millis == 0
        || sql::query_one(conn, there, params![moment.to_bytes(), itself], |row| row.get(0))?
    {
        return Ok(true);
    }
    let text = "SELECT count(*), min(hlc) FROM sync_marks";
    let (count, first): (usize, Option<Vec<u8>>) =
        sql::query_one(conn, text, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(count >= limits::SYNC_MARKS && first.is_some_and(|first| moment.to_bytes().as_slice() < first.as_slice()))
}

/// A moment that is kept in `meta`.
fn moment(conn: &Connection, key: &str) -> Result<Option<Hlc>> {
    sql::query_optional(conn, "SELECT value FROM meta WHERE key = ?1", [key], |row| sql::hlc(row, 0))
}

/// Up to when others are known to have what this replica wrote.
pub fn acknowledged(conn: &Connection) -> Result<Option<Hlc>> {
    moment(conn, "sync_acknowledged")
}

/// Takes note of it.
pub fn acknowledge(conn: &Connection, stamp: Hlc) -> Result<()> {
    if acknowledged(conn)?.is_some_and(|before| before >= stamp) {
        return Ok(());
    }
    meta::put(conn, "sync_acknowledged", &stamp.to_bytes())
}

/// The latest deletion by each replica that is forgotten.
pub fn forgotten(conn: &Connection) -> Result<Watermark> {
    let found = sql::query_all(conn, "SELECT hlc FROM sync_horizons", [], |row| sql::hlc(row, 0))?;
    Ok(found.into_iter().collect())
}

/// Takes note of deletions that are forgotten.
pub fn forget(conn: &Connection, latest: &Watermark) -> Result<()> {
    for stamp in latest.iter() {
        sql::execute(
            conn,
            "INSERT INTO sync_horizons (replica_id, hlc) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET hlc = max(hlc, excluded.hlc)",
            params![stamp.replica, stamp.to_bytes()],
        )?;
    }
    Ok(())
}

/// The export of a replica of which not all batches are here, and how many are.
pub fn parts(conn: &Connection, source: ReplicaId) -> Result<Option<([u8; 16], u64)>> {
    let text = "SELECT export, parts FROM sync_parts WHERE source = ?1";
    sql::query_optional(conn, text, params![source], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// So many batches of an export are here; `None`: all.
pub fn set_parts(conn: &Connection, source: ReplicaId, export: [u8; 16], parts: Option<u64>) -> Result<()> {
    match parts {
        Some(parts) => sql::execute(
            conn,
            "INSERT OR REPLACE INTO sync_parts (source, export, parts) VALUES (?1, ?2, ?3)",
            params![source, export, parts],
        ),
        None => sql::execute(conn, "DELETE FROM sync_parts WHERE source = ?1", params![source]),
    }
    .map(drop)
}

/// The store becomes another replica. What it wrote is the new one's, at the same moments; what another file with the old
/// id wrote is asked for anew.
pub fn renew(conn: &Connection) -> Result<u64> {
    let old = own(conn)?;
    meta::renew_replica(conn)?;
    let new = own(conn)?;
    let written = reattribute(conn, old, new)?;
    sql::execute(conn, "DELETE FROM replicas WHERE replica_id = ?1", params![old])?;
    conn.execute_batch(
        "DELETE FROM sync_marks; DELETE FROM sync_parts; DELETE FROM meta WHERE key = 'sync_acknowledged'",
    )?;
    Ok(written)
}

/// Everything that one replica wrote becomes another's, at the same moments.
pub fn reattribute(conn: &Connection, old: ReplicaId, new: ReplicaId) -> Result<u64> {
    let mut rows = 0;
    for table in STAMPED {
        let text = format!("UPDATE {table} SET hlc = CAST(substr(hlc, 1, 8) || ?2 AS BLOB) WHERE substr(hlc, 9) = ?1");
        rows += sql::execute(conn, &text, params![old, new])? as u64;
    }
    Ok(rows)
}

/// A copy goes on as another replica: of the one that it was copied from it has all that others were told of.
pub fn renew_copy(conn: &Connection) -> Result<()> {
    let last = marks(conn, 1)?.pop();
    meta::renew_replica(conn)?;
    if let Some(last) = last {
        raise(conn, &[last].into_iter().collect(), &[last.replica])?;
    }
    conn.execute_batch(
        "DELETE FROM sync_marks; DELETE FROM sync_parts; DELETE FROM meta WHERE key = 'sync_acknowledged'",
    )?;
    Ok(())
}

/// The moments after `first` that this replica stamped, in order.
pub fn stamps_after(conn: &Connection, first: Hlc) -> Result<Vec<Hlc>> {
    let all: Vec<String> =
        STAMPED.iter().map(|table| format!("SELECT hlc FROM {table} WHERE hlc > ?1 AND substr(hlc, 9) = ?2")).collect();
    let text = format!("{} ORDER BY hlc", all.join(" UNION "));
    sql::query_all(conn, &text, params![first.to_bytes(), first.replica], |row| sql::hlc(row, 0))
}

/// The latest moment there is that is not among those.
pub fn latest_but(conn: &Connection, first: Hlc) -> Result<Option<Hlc>> {
    let mut latest = None;
    for table in STAMPED {
        let text = format!("SELECT max(hlc) FROM {table} WHERE hlc <= ?1 OR substr(hlc, 9) <> ?2");
        let found: Option<Vec<u8>> =
            sql::query_one(conn, &text, params![first.to_bytes(), first.replica], |r| r.get(0))?;
        latest = latest.max(found.map(|bytes| Hlc::from_bytes(&bytes)).transpose()?);
    }
    Ok(latest)
}

/// Columns of rows that are stamped which say when something was done.
const TIMES: [(&str, &str); 6] = [
    ("collections", "created_at"),
    ("documents", "created_at"),
    ("documents", "updated_at"),
    ("relations", "created_at"),
    ("waiting_relations", "created_at"),
    ("state", "updated_at"),
];

/// Gives what was stamped with the first of each pair the second; says of how many changes. Nothing of it was done later
/// than now.
pub fn restamp(conn: &Connection, pairs: &[(Hlc, Hlc)], now: Timestamp) -> Result<u64> {
    conn.execute_batch("CREATE TEMP TABLE restamped (old BLOB PRIMARY KEY, new BLOB NOT NULL) STRICT, WITHOUT ROWID")?;
    let result = restamp_by(conn, pairs, now);
    conn.execute_batch("DROP TABLE temp.restamped")?;
    result
}

fn restamp_by(conn: &Connection, pairs: &[(Hlc, Hlc)], now: Timestamp) -> Result<u64> {
    for (old, new) in pairs {
        let text = "INSERT INTO temp.restamped (old, new) VALUES (?1, ?2)";
        conn.execute(text, params![old.to_bytes(), new.to_bytes()])?;
    }
    for (table, column) in TIMES {
        let text =
            format!("UPDATE {table} SET {column} = ?1 WHERE {column} > ?1 AND hlc IN (SELECT old FROM temp.restamped)");
        conn.execute(&text, [now.0])?;
    }
    let mut changes = 0;
    for table in STAMPED {
        let text = format!(
            "UPDATE {table} SET hlc = (SELECT new FROM temp.restamped WHERE old = hlc)
             WHERE hlc IN (SELECT old FROM temp.restamped)"
        );
        let rows = conn.execute(&text, [])? as u64;
        // A document counts once; its chunks, the end of its uri and the feed go with it.
        if !matches!(table, "chunks" | "changes" | "uri_tombstones") {
            changes += rows;
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        let soon = std::time::Instant::now() + std::time::Duration::from_secs(5);
        crate::sqlite::migrate::migrate(&conn, soon, &|_| Ok(())).unwrap();
        conn
    }

    #[test]
    fn marks_are_known_as_long_as_they_are_kept() {
        let conn = conn();
        let at = |millis| Hlc { millis, counter: 0, replica: own(&conn).unwrap() };
        for millis in 1..=limits::SYNC_MARKS as u64 + 5 {
            add_mark(&conn, at(millis * 2)).unwrap();
        }
        meta::set_clock(&conn, at(10_000)).unwrap();
        let count: usize = conn.query_row("SELECT count(*) FROM sync_marks", [], |row| row.get(0)).unwrap();
        assert_eq!(count, limits::SYNC_MARKS);
        assert!(is_mark(&conn, at(10_000), false).unwrap() && is_mark(&conn, at(100), false).unwrap());
        assert!(is_mark(&conn, at(5), false).unwrap(), "from before those that are kept");
        assert!(!is_mark(&conn, at(101), false).unwrap() && !is_mark(&conn, at(20_000), false).unwrap());
        assert_eq!(marks(&conn, 2).unwrap(), [at(2008), at(2010)]);
        give_up_marks(&conn, at(2008)).unwrap();
        assert!(!is_mark(&conn, at(2010), false).unwrap() && is_mark(&conn, at(2010), true).unwrap());
        assert_eq!(marks(&conn, 1).unwrap(), [at(2008)]);
    }

    #[test]
    fn replicas_are_as_many_as_a_batch_can_name() {
        let conn = conn();
        let many = |count: usize| -> Watermark {
            (1..=count as u64).map(|at| Hlc { millis: at, counter: 0, replica: u128::from(at).to_be_bytes() }).collect()
        };
        // With this one.
        raise(&conn, &many(limits::SYNC_REPLICAS - 1), &[]).unwrap();
        assert_eq!(watermark(&conn).unwrap().len(), limits::SYNC_REPLICAS);
        assert_eq!(raise(&conn, &many(limits::SYNC_REPLICAS), &[]).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn what_a_replica_wrote_becomes_anothers_at_the_same_moments() {
        let conn = conn();
        let old = own(&conn).unwrap();
        meta::set_clock(&conn, Hlc { millis: 9, counter: 0, replica: old }).unwrap();
        let (mine, other) =
            (Hlc { millis: 5, counter: 2, replica: old }, Hlc { millis: 6, counter: 0, replica: [1; 16] });
        for (uri, hlc) in [("mine", mine), ("other", other)] {
            super::super::tombstones::end_uri(&conn, hlc, 1, uri).unwrap();
        }
        raise(&conn, &[other, mine].into_iter().collect(), &[]).unwrap();
        assert_eq!(renew(&conn).unwrap(), 1);
        let new = own(&conn).unwrap();
        let known = |uri| super::super::tombstones::uri(&conn, 1, uri).unwrap().unwrap().known.stamp;
        assert_eq!((known("mine"), known("other")), (Hlc { replica: new, ..mine }, other));
        let mark = watermark(&conn).unwrap();
        assert!(new != old && mark.get(old).is_none() && mark.covers(other));
        assert!(meta::clock(&conn).unwrap() > known("mine"));
    }
}
