//! One value per key: who this store is, and how far its clock has come.

use rusqlite::{Connection, ToSql, params};

use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::sqlite::sql;

/// Draws a new identity: of the store, of this replica, and a clock at zero.
pub fn init(conn: &Connection) -> Result<()> {
    let replica = random::<16>()?;
    for (key, value) in [
        ("store_id", random::<16>()?.to_vec()),
        ("replica_id", replica.to_vec()),
        ("hlc", Hlc::zero(replica).to_bytes().to_vec()),
    ] {
        sql::execute(conn, "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![key, value])?;
    }
    Ok(())
}

/// What tells this store from every other; a copy of its file has the same.
pub fn store_id(conn: &Connection) -> Result<[u8; 16]> {
    let id: Option<[u8; 16]> =
        sql::query_optional(conn, "SELECT value FROM meta WHERE key = 'store_id'", [], |row| row.get(0))?;
    id.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the store has no identity"))
}

/// Makes the store another replica, whose clock goes on from where it stands.
pub fn renew_replica(conn: &Connection) -> Result<()> {
    let replica = random::<16>()?;
    sql::execute(conn, "UPDATE meta SET value = ?1 WHERE key = 'replica_id'", params![replica])?;
    // Later also where the new replica's bytes sort before the old one's.
    let clock = Hlc { replica, ..clock(conn)?.tick(0) };
    put(conn, "replica_since", &clock.to_bytes())?;
    set_clock(conn, clock)
}

/// The clock's high-water mark. Read under the write lock only: processes share one replica.
pub fn clock(conn: &Connection) -> Result<Hlc> {
    let bytes: Option<Vec<u8>> =
        sql::query_optional(conn, "SELECT value FROM meta WHERE key = 'hlc'", [], |row| row.get(0))?;
    Hlc::from_bytes(&bytes.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the store has no clock"))?)
}

/// Moves the clock's high-water mark.
pub fn set_clock(conn: &Connection, clock: Hlc) -> Result<()> {
    sql::execute(conn, "UPDATE meta SET value = ?1 WHERE key = 'hlc'", params![clock.to_bytes()]).map(drop)
}

/// Bytes of the vectors in `embedding_cache`.
pub fn embedding_cache_bytes(conn: &Connection) -> Result<u64> {
    sql::query_one(conn, "SELECT value FROM meta WHERE key = 'embedding_cache_bytes'", [], |row| row.get(0))
}

/// Counts bytes that came into `embedding_cache` or left it.
pub fn add_embedding_cache_bytes(conn: &Connection, bytes: i64) -> Result<()> {
    sql::execute(conn, "UPDATE meta SET value = value + ?1 WHERE key = 'embedding_cache_bytes'", params![bytes])
        .map(drop)
}

/// Sets the value of a key.
pub fn put(conn: &Connection, key: &str, value: &dyn ToSql) -> Result<()> {
    sql::execute(conn, "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![key, value]).map(drop)
}

/// Random bytes of the operating system.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::new(ErrorKind::Io, format!("no random bytes: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_replica_goes_on_after_the_one_before() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE meta (key PRIMARY KEY, value); INSERT INTO meta VALUES ('replica_id', 0), ('hlc', 0)",
        )
        .unwrap();
        let last = Hlc { millis: 7, counter: 3, replica: [0xff; 16] };
        set_clock(&conn, last).unwrap();
        renew_replica(&conn).unwrap();
        assert!(clock(&conn).unwrap() > last);
    }
}
