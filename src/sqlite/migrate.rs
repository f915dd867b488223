//! Bringing a file to the current format, once, whoever comes first.

use std::sync::LazyLock;
use std::time::Instant;

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::lock;
use super::sql;
use super::tables::meta;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;

/// "RAGS", in the header of every store.
pub const APPLICATION_ID: i32 = 0x5241_4753;

/// Every step of the format, oldest first; a file's version is how many it has taken. Never edited once landed: each
/// file keeps the hash of the text it took.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../sql/sqlite/migrations/0001_format_1.sql"),
    include_str!("../../sql/sqlite/migrations/0002_embedding_cache.sql"),
];

/// Of each migration, once: every opening compares them.
static HASHES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let hash = |text: &&str| Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    MIGRATIONS.iter().map(hash).collect()
});

/// What the header says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// There is nothing in it yet.
    Empty,
    /// A store at the current format.
    Current,
    /// A store that lacks migrations.
    Older,
}

/// Reads the header and refuses files of others and of newer versions, without a write.
pub fn header(conn: &Connection) -> Result<Header> {
    if conn.is_autocommit() { look(conn).map(|(header, _)| header) } else { read_header(conn) }
}

/// The header with the journal mode; a current file's record of migrations is compared too. All in one snapshot:
/// between two statements another process may finish making the store.
pub fn look(conn: &Connection) -> Result<(Header, String)> {
    let snapshot = conn.unchecked_transaction()?;
    let header = read_header(&snapshot)?;
    let mode = snapshot.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if header == Header::Current {
        compare(&snapshot)?;
    }
    snapshot.finish()?;
    Ok((header, mode))
}

fn read_header(conn: &Connection) -> Result<Header> {
    let application: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: usize = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if application == 0 && version == 0 {
        let objects: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if objects == 0 {
            return Ok(Header::Empty);
        }
    }
    if application != APPLICATION_ID {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "it is an SQLite database of another application (application_id {application:#x}); give another path"
            ),
        ));
    }
    match version.cmp(&MIGRATIONS.len()) {
        std::cmp::Ordering::Less => Ok(Header::Older),
        std::cmp::Ordering::Equal => Ok(Header::Current),
        std::cmp::Ordering::Greater => Err(Error::new(
            ErrorKind::SchemaTooNew,
            format!("its format is {version}, this version reads up to {}; upgrade ragstore", MIGRATIONS.len()),
        )),
    }
}

/// Takes the migrations that are missing, in one transaction, and compares the hashes of those that were taken.
pub fn migrate(conn: &Connection, deadline: Instant) -> Result<()> {
    if header(conn)? == Header::Current {
        return Ok(());
    }
    let _activity = lock::begin_immediate(conn, deadline, &|| false)?;
    let result = take_missing(conn);
    if result.is_err() {
        lock::rollback(conn);
    }
    result?;
    compare(conn)
}

/// Under the write lock: another process may have come first.
fn take_missing(conn: &Connection) -> Result<()> {
    if header(conn)? != Header::Current {
        take(conn, MIGRATIONS.len())?;
    }
    conn.execute_batch("COMMIT")?;
    Ok(())
}

/// Takes the migrations that are missing up to a version.
fn take(conn: &Connection, version: usize) -> Result<()> {
    let taken: usize = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for (index, text) in MIGRATIONS.iter().enumerate().take(version).skip(taken) {
        conn.execute_batch(text).map_err(|error| misfit(index, error.into()))?;
        sql::execute(
            conn,
            "INSERT INTO migrations (version, sha256, applied_at) VALUES (?1, ?2, ?3)",
            params![index + 1, HASHES[index], Timestamp::now().0],
        )?;
    }
    if taken == 0 {
        meta::init(conn)?;
    }
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", version)?;
    Ok(())
}

/// A migration is of the format before it: where that is what the header says, and not what the file is, it fails.
fn misfit(taken: usize, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Internal => Error::new(
            ErrorKind::Corrupt,
            format!("its header says that its format is {taken}, and it is not: {}", error.message()),
        ),
        _ => error,
    }
}

/// Refuses a file whose migrations were not those of this version.
fn compare(conn: &Connection) -> Result<()> {
    let stored: Vec<(usize, String)> =
        sql::query_all(conn, "SELECT version, sha256 FROM migrations ORDER BY version", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if stored.iter().map(|(version, hash)| (*version, hash)).eq((1..).zip(HASHES.iter())) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        "its record of migrations is not that of this version; it was written by a build with other migrations",
    ))
}

/// Makes the file that an older version made.
#[cfg(test)]
pub fn make_older(conn: &Connection, version: usize) {
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    take(conn, version).unwrap();
    conn.execute_batch("COMMIT").unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + std::time::Duration::from_secs(5)
    }

    #[test]
    fn an_empty_file_becomes_current_once() {
        let conn = Connection::open_in_memory().unwrap();
        assert_eq!(header(&conn).unwrap(), Header::Empty);
        migrate(&conn, soon()).unwrap();
        assert_eq!(header(&conn).unwrap(), Header::Current);
        let store: Vec<u8> =
            conn.query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| row.get(0)).unwrap();
        migrate(&conn, soon()).unwrap();
        let again: Vec<u8> =
            conn.query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| row.get(0)).unwrap();
        assert_eq!(store, again);
    }

    /// Everything that a reader of the file can tell it by, but for random identities and times.
    fn format(conn: &Connection) -> Vec<(String, String)> {
        let rows = |text: &str| {
            sql::query_all(conn, text, [], |row| {
                Ok((row.get(0)?, row.get::<_, Option<String>>(1)?.unwrap_or_default()))
            })
            .unwrap()
        };
        let mut all = rows("SELECT type || ' ' || name || ' ' || tbl_name, sql FROM sqlite_schema ORDER BY rowid");
        all.extend(rows("SELECT CAST(version AS TEXT), sha256 FROM migrations ORDER BY version"));
        all.extend(rows("SELECT key, typeof(value) || length(value) FROM meta ORDER BY key"));
        for pragma in ["application_id", "user_version", "page_size", "auto_vacuum", "encoding"] {
            all.extend(rows(&format!("SELECT '{pragma}', CAST({pragma} AS TEXT) FROM pragma_{pragma}")));
        }
        all
    }

    #[test]
    fn an_upgraded_file_is_a_fresh_one() {
        let fresh = Connection::open_in_memory().unwrap();
        migrate(&fresh, soon()).unwrap();
        for version in 1..MIGRATIONS.len() {
            let conn = Connection::open_in_memory().unwrap();
            make_older(&conn, version);
            assert_eq!(header(&conn).unwrap(), Header::Older);
            assert_ne!(format(&conn), format(&fresh));
            let kept = "SELECT value FROM meta WHERE key = 'store_id'";
            let store: Vec<u8> = conn.query_row(kept, [], |row| row.get(0)).unwrap();
            migrate(&conn, soon()).unwrap();
            assert_eq!(header(&conn).unwrap(), Header::Current);
            assert_eq!(format(&conn), format(&fresh));
            assert_eq!(store, conn.query_row(kept, [], |row| row.get::<_, Vec<u8>>(0)).unwrap());
        }
    }

    #[test]
    fn files_of_others_newer_files_and_edited_migrations_are_refused() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE notes (text)").unwrap();
        assert_eq!(header(&conn).unwrap_err().kind(), ErrorKind::Corrupt);

        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn, soon()).unwrap();
        conn.execute_batch("UPDATE migrations SET sha256 = 'x'").unwrap();
        assert_eq!(migrate(&conn, soon()).unwrap_err().kind(), ErrorKind::Corrupt);
        conn.execute_batch("PRAGMA user_version = 99").unwrap();
        assert_eq!(migrate(&conn, soon()).unwrap_err().kind(), ErrorKind::SchemaTooNew);
    }

    #[test]
    fn landed_migrations_keep_their_text() {
        assert_eq!(
            *HASHES,
            [
                include_str!("../../sql/sqlite/migrations/0001_format_1.sha256").trim(),
                include_str!("../../sql/sqlite/migrations/0002_embedding_cache.sha256").trim(),
            ]
        );
    }
}
