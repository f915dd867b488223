//! Bringing a file to the current format, once, whoever comes first.

use std::sync::LazyLock;
use std::time::Instant;

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::ffi::{self, Part};
use super::file_system;
use super::lock;
use super::sql;
use super::tables::{meta, replicas};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{self, Event};
use crate::model::Timestamp;

/// "RAGS", in the header of every store.
pub const APPLICATION_ID: i32 = 0x5241_4753;

/// One step of the format.
#[derive(Debug, Clone, Copy)]
struct Migration {
    text: &'static str,
    /// It changes rows that users stored, so the file is backed up before.
    rewrites: bool,
}

/// Every step of the format, oldest first; a file's version is how many it has taken. Never edited once landed: each
/// file keeps the hash of the text it took.
const MIGRATIONS: [Migration; 4] = [
    Migration { text: include_str!("../../sql/sqlite/migrations/0001_format_1.sql"), rewrites: false },
    Migration { text: include_str!("../../sql/sqlite/migrations/0002_embedding_cache.sql"), rewrites: false },
    Migration { text: include_str!("../../sql/sqlite/migrations/0003_sync.sql"), rewrites: false },
    Migration { text: include_str!("../../sql/sqlite/migrations/0004_plain_checks.sql"), rewrites: false },
];

/// The format of this version.
pub const FORMAT: usize = MIGRATIONS.len();

/// Of each migration, once: every opening compares them.
static HASHES: LazyLock<Vec<String>> = LazyLock::new(|| MIGRATIONS.iter().map(hash).collect());

fn hash(migration: &Migration) -> String {
    Sha256::digest(migration.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

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

/// What the header says may write the file, where that is more than this SQLite is: it then opens the file for reading
/// only. An encrypted file has no such byte in the clear.
pub fn unwritable(conn: &Connection) -> Result<Option<Error>> {
    const AT: usize = 18;
    const LATEST: u8 = 2;
    let mut start = [0; AT + 1];
    if !ffi::read_at(conn, Part::Database, 0, &mut start)? || !start.starts_with(b"SQLite format 3\0") {
        return Ok(None);
    }
    let found = start[AT];
    let message = format!("the file's header has write version {found}, and that of every store is {LATEST}");
    Ok((found > LATEST).then(|| Error::new(ErrorKind::Corrupt, message)))
}

fn read_header(conn: &Connection) -> Result<Header> {
    let application: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version = format_of(conn)?;
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

/// Takes the migrations that are missing, in one transaction, and compares the hashes of those that were taken. Before
/// one that rewrites what users stored, `back_up` is called with the format that the file has.
pub fn migrate(conn: &Connection, deadline: Instant, back_up: &dyn Fn(usize) -> Result<()>) -> Result<()> {
    if header(conn)? == Header::Current {
        return Ok(());
    }
    let _activity = lock::begin_immediate(conn, deadline, &|| false)?;
    let began = Instant::now();
    let result = take_missing(conn, back_up);
    if result.is_err() {
        lock::rollback(conn);
    }
    let (from, to) = result?;
    // A new file is not migrated, nor is one that another process was first with.
    if (1..to).contains(&from) {
        events::tell(Event::Migrated { from, to, took: began.elapsed() });
    }
    compare(conn)
}

/// Under the write lock: another process may have come first. From which version to which it went.
fn take_missing(conn: &Connection, back_up: &dyn Fn(usize) -> Result<()>) -> Result<(usize, usize)> {
    let from = format_of(conn)?;
    if header(conn)? != Header::Current {
        take(conn, &MIGRATIONS, back_up)?;
    }
    conn.execute_batch("COMMIT")?;
    Ok((from, MIGRATIONS.len()))
}

fn format_of(conn: &Connection) -> Result<usize> {
    Ok(conn.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// Takes those of the migrations that are missing. Nobody else can write, so what is backed up is what is rewritten.
fn take(conn: &Connection, migrations: &[Migration], back_up: &dyn Fn(usize) -> Result<()>) -> Result<()> {
    let taken = format_of(conn)?;
    if taken > 0 && migrations.iter().skip(taken).any(|migration| migration.rewrites) {
        back_up(taken).map_err(|error| {
            error.context("a backup is taken before a new format rewrites the file; nothing was changed")
        })?;
    }
    for (index, migration) in migrations.iter().enumerate().skip(taken) {
        conn.execute_batch(migration.text).map_err(|error| misfit(index, error.into()))?;
        sql::execute(
            conn,
            "INSERT INTO migrations (version, sha256, applied_at) VALUES (?1, ?2, ?3)",
            params![index + 1, hash(migration), Timestamp::now().0],
        )?;
    }
    if taken == 0 {
        meta::init(conn)?;
        replicas::note_file(conn, file_system::number_of(conn))?;
    }
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", migrations.len())?;
    Ok(())
}

/// What a file is, read in the transaction that is open; a current file's record of migrations is compared too.
pub fn state(conn: &Connection) -> Result<Header> {
    let header = read_header(conn)?;
    if header == Header::Current {
        compare(conn)?;
    }
    Ok(header)
}

/// Refuses what is not a store of this or an older format with the migrations of this version.
pub fn verify(conn: &Connection) -> Result<()> {
    match read_header(conn)? {
        Header::Current | Header::Older => compare_taken(conn),
        Header::Empty => Err(Error::new(ErrorKind::Corrupt, "there is nothing in it")),
    }
}

/// The format of a file that lacks migrations and took those before; `None` for one that lacks none.
///
/// # Errors
/// `Corrupt`: its record of migrations is not that of the format that its header names.
pub fn older(conn: &Connection) -> Result<Option<usize>> {
    if read_header(conn)? != Header::Older {
        return Ok(None);
    }
    let format = format_of(conn)?;
    compare_up_to(conn, format)?;
    Ok(Some(format))
}

/// Whether a table came with a later format than that.
pub fn is_later(format: usize, table: &str) -> bool {
    let made = format!("CREATE TABLE {table} (");
    let (before, after) = MIGRATIONS.split_at(format.min(MIGRATIONS.len()));
    let makes = |migration: &Migration| migration.text.contains(&made);
    after.iter().any(makes) && !before.iter().any(makes)
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

/// Refuses a current file whose migrations were not those of this version.
fn compare(conn: &Connection) -> Result<()> {
    compare_up_to(conn, MIGRATIONS.len())
}

/// The same of a file of any format.
fn compare_taken(conn: &Connection) -> Result<()> {
    let taken: usize = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    compare_up_to(conn, taken)
}

fn compare_up_to(conn: &Connection, taken: usize) -> Result<()> {
    let stored: Vec<(usize, String)> =
        sql::query_all(conn, "SELECT version, sha256 FROM migrations ORDER BY version", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if stored.iter().map(|(version, hash)| (*version, hash)).eq((1..).zip(HASHES.iter().take(taken))) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        "its record of migrations is not that of this version; it was written by a build with other migrations",
    ))
}

/// Makes an empty store of a format, this one or an older one.
pub fn make(conn: &Connection, format: usize) -> Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    take(conn, &MIGRATIONS[..format], &|_| Ok(()))?;
    Ok(conn.execute_batch("COMMIT")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: usize) -> Result<()> {
        panic!("no migration of today rewrites anything")
    }

    fn soon() -> Instant {
        Instant::now() + std::time::Duration::from_secs(5)
    }

    #[test]
    fn an_empty_file_becomes_current_once() {
        let conn = Connection::open_in_memory().unwrap();
        assert_eq!(header(&conn).unwrap(), Header::Empty);
        migrate(&conn, soon(), &none).unwrap();
        assert_eq!(header(&conn).unwrap(), Header::Current);
        let store: Vec<u8> =
            conn.query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| row.get(0)).unwrap();
        migrate(&conn, soon(), &none).unwrap();
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
        migrate(&fresh, soon(), &none).unwrap();
        for version in 1..MIGRATIONS.len() {
            let conn = Connection::open_in_memory().unwrap();
            make(&conn, version).unwrap();
            assert_eq!(header(&conn).unwrap(), Header::Older);
            assert_ne!(format(&conn), format(&fresh));
            let kept = "SELECT value FROM meta WHERE key = 'store_id'";
            let store: Vec<u8> = conn.query_row(kept, [], |row| row.get(0)).unwrap();
            migrate(&conn, soon(), &none).unwrap();
            assert_eq!(header(&conn).unwrap(), Header::Current);
            assert_eq!(format(&conn), format(&fresh));
            assert_eq!(store, conn.query_row(kept, [], |row| row.get::<_, Vec<u8>>(0)).unwrap());
        }
    }

    #[test]
    fn an_upgraded_feed_is_as_it_was_and_goes_on() {
        let conn = Connection::open_in_memory().unwrap();
        make(&conn, 3).unwrap();
        let put =
            "INSERT INTO changes (commit_tag, hlc, entity, uid, op) VALUES (7, zeroblob(24), 'document', ?1, 'put')";
        ["a", "b", "c", "d"].iter().for_each(|uid| assert_eq!(conn.execute(put, [uid]).unwrap(), 1));
        conn.execute_batch(
            "DELETE FROM changes WHERE seq IN (1, 4);
             INSERT INTO tombstones (collection_id, entity, uid, hlc) VALUES (1, 'state', 'x', zeroblob(24))",
        )
        .unwrap();
        let rows = || -> (Vec<(i64, String)>, String) {
            let feed = sql::query_all(&conn, "SELECT seq, uid FROM changes ORDER BY seq", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            });
            (feed.unwrap(), conn.query_row("SELECT entity || uid FROM tombstones", [], |row| row.get(0)).unwrap())
        };
        let before = rows();
        migrate(&conn, soon(), &none).unwrap();
        assert_eq!(rows(), before);
        conn.execute(put, ["e"]).unwrap();
        assert_eq!(rows().0.last().unwrap(), &(5, "e".into()), "no number is given twice");
        for wrong in [
            "INSERT INTO changes (commit_tag, hlc, entity, op) VALUES (1, zeroblob(24), 'chunks', 'put')",
            "INSERT INTO changes (commit_tag, hlc, entity, op) VALUES (1, zeroblob(24), 'chunk', 'putt')",
            "INSERT INTO tombstones (collection_id, entity, uid, hlc) VALUES (1, 'chunk', 'x', zeroblob(24))",
        ] {
            assert!(conn.execute(wrong, []).is_err(), "{wrong}");
        }
        assert!(!is_later(3, "changes") && is_later(2, "space_stamps") && !is_later(4, "changes"));

        // One that has no feed yet.
        let conn = Connection::open_in_memory().unwrap();
        make(&conn, 3).unwrap();
        migrate(&conn, soon(), &none).unwrap();
        conn.execute(put, ["a"]).unwrap();
        assert_eq!(conn.last_insert_rowid(), 1);
    }

    #[test]
    fn files_of_others_newer_files_and_edited_migrations_are_refused() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE notes (text)").unwrap();
        assert_eq!(header(&conn).unwrap_err().kind(), ErrorKind::Corrupt);

        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn, soon(), &none).unwrap();
        conn.execute_batch("UPDATE migrations SET sha256 = 'x'").unwrap();
        assert_eq!(migrate(&conn, soon(), &none).unwrap_err().kind(), ErrorKind::Corrupt);
        conn.execute_batch("PRAGMA user_version = 99").unwrap();
        assert_eq!(migrate(&conn, soon(), &none).unwrap_err().kind(), ErrorKind::SchemaTooNew);
    }

    #[test]
    fn landed_migrations_keep_their_text() {
        assert_eq!(
            *HASHES,
            [
                include_str!("../../sql/sqlite/migrations/0001_format_1.sha256").trim(),
                include_str!("../../sql/sqlite/migrations/0002_embedding_cache.sha256").trim(),
                include_str!("../../sql/sqlite/migrations/0003_sync.sha256").trim(),
                include_str!("../../sql/sqlite/migrations/0004_plain_checks.sha256").trim(),
            ]
        );
    }

    #[test]
    fn a_migration_that_rewrites_is_preceded_by_a_backup() {
        let conn = Connection::open_in_memory().unwrap();
        make(&conn, 1).unwrap();
        conn.execute_batch("UPDATE meta SET value = x'01' WHERE key = 'store_id'").unwrap();
        let rewrites = Migration { text: "UPDATE meta SET value = x'02' WHERE key = 'store_id'", rewrites: true };
        let migrations = [MIGRATIONS[0], MIGRATIONS[1], MIGRATIONS[2], MIGRATIONS[3], rewrites];
        let value = || -> Vec<u8> {
            conn.query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| row.get(0)).unwrap()
        };
        let asked = std::cell::RefCell::new(Vec::new());
        let attempt = |refuse: bool| {
            conn.execute_batch("BEGIN IMMEDIATE").unwrap();
            let taken = take(&conn, &migrations, &|format| {
                asked.borrow_mut().push((format, value()));
                if refuse { Err(Error::new(ErrorKind::StoreFull, "no room")) } else { Ok(()) }
            });
            conn.execute_batch(if taken.is_ok() { "COMMIT" } else { "ROLLBACK" }).unwrap();
            taken
        };
        let refused = attempt(true).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StoreFull);
        assert!(refused.message().contains("nothing was changed"));
        assert_eq!(value(), [1]);
        attempt(false).unwrap();
        assert_eq!((value(), asked.into_inner()), (vec![2], vec![(1, vec![1]), (1, vec![1])]));
        // One that is new has nothing to lose.
        let fresh = Connection::open_in_memory().unwrap();
        fresh.execute_batch("BEGIN").unwrap();
        take(&fresh, &migrations, &none).unwrap();
    }
}
