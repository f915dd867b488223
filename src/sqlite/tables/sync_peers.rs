//! Peers, the history of syncs, and what lost in them.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::error::Result;
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Conflict, Peer, SyncLog, SyncReport, Timestamp};
use crate::request::LogSync;
use crate::sqlite::sql;

/// By name.
pub fn list(conn: &Connection) -> Result<Vec<Peer>> {
    let text = "SELECT name, endpoint, replica_id, added_at, last_synced_at FROM sync_peers ORDER BY name";
    sql::query_all(conn, text, [], |row| {
        Ok(Peer {
            name: row.get(0)?,
            endpoint: row.get(1)?,
            replica: row.get(2)?,
            added_at: Timestamp(row.get(3)?),
            last_synced_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
        })
    })
}

/// Adds one, unless there is one of that name.
pub fn insert(conn: &Connection, now: Timestamp, name: &str, endpoint: &str) -> Result<bool> {
    let text = "INSERT OR IGNORE INTO sync_peers (name, endpoint, added_at) VALUES (?1, ?2, ?3)";
    Ok(sql::execute(conn, text, params![name, endpoint, now.0])? > 0)
}

/// Removes one and says whether there was one.
pub fn delete(conn: &Connection, name: &str) -> Result<bool> {
    Ok(sql::execute(conn, "DELETE FROM sync_peers WHERE name = ?1", [name])? > 0)
}

/// Writes a line of the history; a peer that is named by its endpoint or its replica was met now.
pub fn log(conn: &Connection, now: Timestamp, log: &LogSync) -> Result<()> {
    let LogSync { report, started_at, endpoint, replica, error } = log;
    let text = "SELECT id, name, endpoint, replica_id FROM sync_peers ORDER BY id";
    let mut peers: Vec<(i64, String, String, Option<[u8; 16]>)> =
        sql::query_all(conn, text, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    // However its slashes are written.
    let by_path =
        peers.iter().position(|(_, _, path, _)| endpoint.as_ref().is_some_and(|at| Path::new(at) == Path::new(path)));
    let by_replica = || peers.iter().position(|(.., known)| known.is_some() && known == replica);
    let peer = by_path.or_else(by_replica).map(|at| peers.swap_remove(at)).map(|(id, name, ..)| (id, name));
    if let (Some((id, _)), None) = (&peer, error) {
        let text = "UPDATE sync_peers SET last_synced_at = ?2, replica_id = coalesce(?3, replica_id) WHERE id = ?1";
        sql::execute(conn, text, params![id, now.0, replica])?;
    }
    let name = peer.map_or_else(|| report.peer.clone(), |(_, name)| name);
    sql::execute(
        conn,
        "INSERT INTO sync_log (peer, started_at, finished_at, sent, received, applied, conflicts, error)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![name, started_at.0, now.0, report.sent, report.received, report.applied, report.conflicts, error],
    )?;
    let text = "DELETE FROM sync_log WHERE id <= (SELECT max(id) FROM sync_log) - ?1";
    sql::execute(conn, text, [limits::SYNC_HISTORY as i64]).map(drop)
}

/// The latest lines of the history, the last first.
pub fn history(conn: &Connection, limit: usize) -> Result<Vec<SyncLog>> {
    let text = "SELECT peer, started_at, finished_at, sent, received, applied, conflicts, error
                FROM sync_log ORDER BY id DESC LIMIT ?1";
    sql::query_all(conn, text, [limit_of(limit)], |row| {
        Ok(SyncLog {
            report: SyncReport {
                peer: row.get(0)?,
                sent: row.get(3)?,
                received: row.get(4)?,
                applied: row.get(5)?,
                conflicts: row.get(6)?,
            },
            started_at: Timestamp(row.get(1)?),
            finished_at: row.get::<_, Option<i64>>(2)?.map(Timestamp),
            error: row.get(7)?,
        })
    })
}

/// Remembers what lost.
pub fn add_conflict(conn: &Connection, conflict: &Conflict) -> Result<()> {
    let Conflict { found_at, collection, entity, id, kept_own, winner, loser } = conflict;
    let kept = if *kept_own { "own" } else { "other" };
    sql::execute(
        conn,
        "INSERT INTO sync_conflicts (found_at, collection, entity, uid, kept, winner, loser)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![found_at.0, collection, entity, id, kept, winner.to_bytes(), loser.to_bytes()],
    )
    .map(drop)
}

/// Forgets all but the latest.
pub fn trim_conflicts(conn: &Connection) -> Result<()> {
    let text = "DELETE FROM sync_conflicts WHERE id <= (SELECT max(id) FROM sync_conflicts) - ?1";
    sql::execute(conn, text, [limits::SYNC_HISTORY as i64]).map(drop)
}

/// Forgets what lost of documents and relations of a collection that some ids name, which are bound as one JSON array.
pub fn forget_conflicts(conn: &Connection, collection: &str, ids: &str) -> Result<()> {
    let named = "IN (SELECT value FROM json_each(?2))";
    let text = format!(
        "DELETE FROM sync_conflicts WHERE collection = ?1 AND CASE entity
            WHEN 'document' THEN uid {named}
            WHEN 'relation' THEN json_extract(uid, '$[0]') {named} OR json_extract(uid, '$[2]') {named} END"
    );
    sql::execute(conn, &text, params![collection, ids]).map(drop)
}

/// The latest that lost, the last first.
pub fn conflicts(conn: &Connection, limit: usize) -> Result<Vec<Conflict>> {
    let text =
        "SELECT found_at, collection, entity, uid, kept, winner, loser FROM sync_conflicts ORDER BY id DESC LIMIT ?1";
    sql::query_all(conn, text, [limit_of(limit)], |row| {
        let stamp = |at| -> rusqlite::Result<Hlc> { sql::hlc(row, at) };
        Ok(Conflict {
            found_at: Timestamp(row.get(0)?),
            collection: row.get(1)?,
            entity: row.get(2)?,
            id: row.get(3)?,
            kept_own: row.get::<_, String>(4)? == "own",
            winner: stamp(5)?,
            loser: stamp(6)?,
        })
    })
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
