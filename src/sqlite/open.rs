//! Connections: how each is opened and set, and how a file comes to be.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::backup;
use super::cipher::{self, Cipher};
use super::ffi;
use super::file_system::{self, beside};
use super::filter_sql;
use super::lock;
use super::log;
use super::migrate::{self, Header};
use super::schema;
use super::sql;
use crate::error::{Error, ErrorKind, Result};
use crate::request::{Durability, Open};

/// By measurement (docs/adr/0002): blocks of vectors are long overflow chains, and fewer, larger pages read faster
/// than 4 KiB, while 16 KiB make single rows dearer.
pub const PAGE_SIZE: u32 = 8192;
/// Bytes of pages that a connection keeps; readers share theirs, between a most and a least (docs/adr/0023).
const WRITER_CACHE: usize = 32 << 20;
const READERS_CACHE: usize = 256 << 20;
const MOST_READER_CACHE: usize = 32 << 20;
const LEAST_READER_CACHE: usize = 8 << 20;
/// SQLite works with less, but no faster.
const LEAST_CACHE: usize = 256 << 10;
/// Without a limit of its own, an encrypted store keeps more, so that pages are decrypted once: the system's cache, which
/// serves other stores, has them encrypted.
const DECRYPTED_CACHE: usize = 256 << 20;
const STATEMENTS: usize = 128;
/// SQLite's file system that takes no locks, where the guard's stand for them.
const UNLOCKED: Option<&str> = if cfg!(target_os = "linux") { Some("unix-none") } else { None };

/// Bytes of pages that each connection keeps, so that all together stay within half of the store's memory limit. The other
/// half is for derived indexes.
#[derive(Debug, Clone, Copy)]
pub struct Caches {
    writer: usize,
    reader: usize,
}

impl Caches {
    /// As the request limits them.
    pub fn of(request: &Open) -> Self {
        let readers = request.readers.max(1);
        let share = request.memory_limit.map_or(usize::MAX, |limit| limit / 2 / (readers + 1));
        let reader = match request.key {
            Some(_) => DECRYPTED_CACHE,
            None => (READERS_CACHE / readers).clamp(LEAST_READER_CACHE, MOST_READER_CACHE),
        };
        Self { writer: WRITER_CACHE.min(share).max(LEAST_CACHE), reader: reader.min(share).max(LEAST_CACHE) }
    }
}

/// How hard a commit is pressed onto the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    Full,
    Normal,
    /// Ephemeral stores only.
    Off,
}

impl From<Durability> for Synchronous {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Full => Self::Full,
            Durability::Relaxed => Self::Normal,
        }
    }
}

/// Absolute, so that SQLite can take no path for a URI or a special name.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::Argument, "path is empty; give a file name, or None for an ephemeral store"));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Error::new(ErrorKind::Argument, format!("path {path:?} holds a NUL character; remove it")));
    }
    Ok(std::path::absolute(path)?)
}

/// Where links lead, also to a file that is not there yet.
pub fn followed(path: &Path) -> PathBuf {
    const LINKS: usize = 40;
    let mut file = path.to_owned();
    for _ in 0..LINKS {
        if let Ok(real) = fs::canonicalize(&file) {
            return real;
        }
        match (fs::read_link(&file), file.parent()) {
            (Ok(next), Some(folder)) => file = folder.join(next),
            _ => break,
        }
    }
    // What keeps it from being opened is told by whoever tries.
    file
}

/// Makes the file, private to its owner, and its parent directories, and syncs the directories that changed.
pub fn create_file(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let parent = path.parent().ok_or_else(|| {
        Error::new(ErrorKind::Argument, format!("path {} names no file; give a file name", path.display()))
    })?;
    let missing: Vec<&Path> = parent.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::create_dir_all(parent).map_err(|e| at(path, &e.into()))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => {}
        // Another process came first.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(at(path, &error.into())),
    }
    sync_directory(parent)?;
    missing.into_iter().filter_map(Path::parent).try_for_each(sync_directory)
}

/// Which file is at a path; `None` where that cannot be told.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Syncs the directory that a file is in.
pub fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes a folder, private to its owner, that is removed with the value.
pub fn private_folder(parent: &Path, prefix: &str) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    Ok(builder.tempdir_in(parent)?)
}

/// Makes the names of its files durable.
#[cfg(unix)]
pub fn sync_directory(path: &Path) -> Result<()> {
    Ok(fs::File::open(path)?.sync_all()?)
}

/// Directories cannot be synced here; the file system journals their entries.
#[cfg(not(unix))]
pub fn sync_directory(_path: &Path) -> Result<()> {
    Ok(())
}

/// The one connection that writes, with the file at the current format.
pub fn writer(
    path: &Path,
    cipher: Option<&Cipher>,
    synchronous: Synchronous,
    caches: Caches,
    deadline: Instant,
) -> Result<Connection> {
    let open = || -> Result<Connection> {
        let conn = connect(path, cipher, Access::Write, Duration::ZERO)?;
        let set = set_writer(&conn, path, cipher, synchronous, caches, deadline);
        if let Some(cipher) = cipher {
            // Before its errors: they may come of this.
            cipher.check_salt(&conn)?;
        }
        set.map_err(|error| sql::with_system_error(&conn, error))?;
        Ok(conn)
    };
    lock::retry_locked(deadline, open).map_err(|e| unopened(path, &e))
}

/// Keeps the file beside itself as it is, with its key, before a migration rewrites it.
pub fn back_up(path: &Path, cipher: Option<&Cipher>, format: usize, caches: Caches) -> Result<()> {
    let target = beside(path, &format!(".format-{format}.bak"));
    let conn = reader(path, cipher, Duration::ZERO, caches)?;
    let snapshot = conn.unchecked_transaction()?;
    backup::to(&snapshot, &target, cipher, caches)
}

fn set_writer(
    conn: &Connection,
    path: &Path,
    cipher: Option<&Cipher>,
    synchronous: Synchronous,
    caches: Caches,
    deadline: Instant,
) -> Result<()> {
    // Readers need no vec0: they read its blocks.
    ffi::register_vec0(conn)?;
    let log_is_there = log::path(path).exists();
    if migrate::header(conn)? == Header::Empty {
        if cipher.is_none() {
            // SQLCipher has 4 KiB, which its tools take for granted (docs/adr/0014).
            conn.pragma_update(None, "page_size", PAGE_SIZE)?;
        }
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    // Every row is read: the change is committed after the first.
    let mode = sql::query_all(conn, "PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?.concat();
    if mode != "wal" {
        return Err(Error::new(
            ErrorKind::Io,
            format!("the file system gives no write-ahead log (journal mode stays {mode}); use a local disk"),
        ));
    }
    conn.pragma_update(
        None,
        "synchronous",
        match synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
            Synchronous::Off => "OFF",
        },
    )?;
    conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
    if cipher.is_none() {
        // SQLCipher sets ON: a page that is freed before it was ever written would not pass its check of all pages.
        conn.pragma_update(None, "secure_delete", "FAST")?;
    }
    set_cache(conn, caches.writer)?;
    migrate::migrate(conn, deadline, &|format| back_up(path, cipher, format, caches))?;
    // SQLite syncs the directory of a new log too, but does not say when that failed.
    if !log_is_there && synchronous != Synchronous::Off { sync_parent(path) } else { Ok(()) }
}

/// A connection that reads.
pub fn reader(path: &Path, cipher: Option<&Cipher>, timeout: Duration, caches: Caches) -> Result<Connection> {
    let open = || -> Result<Connection> {
        let conn = connect(path, cipher, Access::Read, timeout)?;
        set_cache(&conn, caches.reader)?;
        Ok(conn)
    };
    open().map_err(|e| at(path, &e))
}

/// A connection to a file that is there, that a copy is written to and that nobody else knows. It syncs nothing, and
/// leaves no log when it closes.
pub fn copy(path: &Path, cipher: Option<&Cipher>, caches: Caches) -> Result<Connection> {
    let open = || -> Result<Connection> {
        let conn = alone(path, cipher)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        conn.pragma_update(None, "synchronous", "OFF")?;
        set_cache(&conn, caches.writer)?;
        Ok(conn)
    };
    open().map_err(|e| at(path, &e))
}

/// The first connection of a store, and what it says the file is. There is none where whoever was making the store ended
/// before the log was there and left a rollback journal: only a writer can take that back.
pub fn first_reader(
    path: &Path,
    cipher: Option<&Cipher>,
    timeout: Duration,
    caches: Caches,
    deadline: Instant,
) -> Result<(Option<Connection>, Header)> {
    let look = || -> Result<(Connection, Header)> {
        let conn = reader(path, cipher, timeout, caches)?;
        let looked = migrate::look(&conn).and_then(|(header, mode)| {
            if header != Header::Empty {
                schema::refuse_foreign(&conn)?;
            }
            Ok((header, mode))
        });
        let (header, mode) = looked.map_err(|e| unopened(path, &sql::with_system_error(&conn, e)))?;
        // Another tool took the log away; the writer brings it back.
        Ok((conn, if header == Header::Current && mode != "wal" { Header::Older } else { header }))
    };
    match lock::retry_locked(deadline, look) {
        Ok((conn, header)) => Ok((Some(conn), header)),
        Err(error) => match no_log(path, &error) {
            Some(why) => Err(why),
            None if error.kind() == ErrorKind::ReadOnly => Ok((None, Header::Older)),
            None => Err(error),
        },
    }
}

/// Where SQLite could not read a file because it may not make or write its log's shared memory: that, in place of what
/// it said.
pub fn no_log(path: &Path, error: &Error) -> Option<Error> {
    if !matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::Io) {
        return None;
    }
    let file = fs::canonicalize(path).ok()?;
    let (shared, journal) = (beside(&file, "-shm"), beside(&file, "-journal"));
    // A rollback journal has to be taken back first, which is another matter.
    if journal.exists() || file_system::writable(if shared.exists() { &shared } else { file.parent()? }) {
        return None;
    }
    let why = format!(
        "SQLite's log needs to write {} beside the file, also to read, and this process may not; copy the file to a folder \
         you can write to, or get the right to write there",
        shared.file_name()?.display()
    );
    Some(at(path, &Error::new(ErrorKind::Io, why)))
}

/// A connection to a file that the guard keeps all others from, itself included where it takes locks.
pub fn alone(path: &Path, cipher: Option<&Cipher>) -> Result<Connection> {
    connect(path, cipher, Access::Alone, Duration::ZERO)
}

/// Why a file that is not at the current format cannot be opened for reading alone.
pub fn not_without_writing(path: &Path) -> Error {
    let why = Error::new(
        ErrorKind::ReadOnly,
        "it is empty, half made, of an older format or without a write-ahead log, which read_only=True cannot change; open \
         it once for writing",
    );
    at(path, &why)
}

/// Refuses what cannot be opened as asked, and makes the file where that is wanted.
pub fn ensure_file(path: &Path, request: &Open) -> Result<()> {
    if path.is_dir() {
        return Err(Error::new(ErrorKind::Argument, format!("{} is a directory; give a file name", path.display())));
    }
    if path.exists() {
        // To open a pipe is to wait for its other end.
        return if path.is_file() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Argument, format!("{} is a device or a pipe; give a file name", path.display())))
        };
    }
    if !request.create || request.read_only {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no file {}; check the path, or open with create=True", path.display()),
        ));
    }
    create_file(path)
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    /// Writing a file that is nobody else's.
    Alone,
}

fn connect(path: &Path, cipher: Option<&Cipher>, access: Access, timeout: Duration) -> Result<Connection> {
    let mode = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write | Access::Alone => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = match (access, UNLOCKED) {
        (Access::Alone, Some(system)) => Connection::open_with_flags_and_vfs(path, flags, system)?,
        _ => Connection::open_with_flags(path, flags)?,
    };
    conn.busy_timeout(timeout)?;
    if access != Access::Read && conn.is_readonly("main")? {
        let error = Error::new(ErrorKind::ReadOnly, "it opens for reading only");
        return Err(sql::with_system_error(&conn, error));
    }
    if access == Access::Alone {
        // Before the first read: the index of the log is then in memory, not shared.
        conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    match cipher {
        Some(cipher) => cipher.unlock(&conn)?,
        None => cipher::check_plain(&conn)?,
    }
    for (option, on) in [
        // The last connection that closes may be wrong about being the last; see the guard.
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        // Without it, STAT4 has every statement prepared anew for each value bound to it: ten reads take six times as
        // long.
        (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    ] {
        conn.set_db_config(option, on)?;
    }
    ffi::extensions(&conn, Some(false))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // A mapped file that another process truncates would end this one with SIGBUS.
    conn.query_row("PRAGMA mmap_size = 0", [], |_| Ok(())).or_else(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    })?;
    filter_sql::register(&conn)?;
    Ok(conn)
}

/// A connection to a file that may be damaged anywhere: it reads past entries of the schema that SQLite cannot.
pub fn salvager(path: &Path, cipher: Option<&Cipher>, timeout: Duration) -> Result<Connection> {
    let conn = connect(path, cipher, Access::Read, timeout)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true)?;
    Ok(conn)
}

fn set_cache(conn: &Connection, bytes: usize) -> Result<()> {
    // In KiB, negative as SQLite wants it.
    Ok(conn.pragma_update(None, "cache_size", -i64::try_from(bytes >> 10).unwrap_or(i64::MAX))?)
}

/// What a damaged file is told whose store does not open.
fn unopened(path: &Path, error: &Error) -> Error {
    let help = if error.kind() == ErrorKind::Corrupt && !error.message().contains("ragstore.repair") {
        format!("{}; {}", error.message(), schema::REPAIR)
    } else {
        return at(path, error);
    };
    at(path, &Error::new(ErrorKind::Corrupt, help))
}

fn at(path: &Path, error: &Error) -> Error {
    error.clone().context(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::sql;

    #[test]
    fn readers_keep_no_more_pages_than_all_of_them_may() {
        let reader =
            |readers, memory_limit| Caches::of(&Open { readers, memory_limit, ..Open::ephemeral() }).reader >> 20;
        assert_eq!([1, 8, 16, 32, 500].map(|readers| reader(readers, None)), [32, 32, 16, 8, 8]);
        assert_eq!(reader(3, Some(64 << 20)), 8);
        assert_eq!(reader(3, Some(1 << 30)), 32);
        assert_eq!(Caches::of(&Open { memory_limit: Some(0), ..Open::ephemeral() }).reader, LEAST_CACHE);
    }

    #[test]
    fn the_library_and_its_connections_are_set_as_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        fs::write(&path, []).unwrap();
        let caches = Caches::of(&Open::ephemeral());
        let writer = writer(&path, None, Synchronous::Full, caches, Instant::now() + TIMEOUT).unwrap();
        let options: Vec<String> = sql::query_all(&writer, "PRAGMA compile_options", [], |row| row.get(0)).unwrap();
        for wanted in ["DQS=0", "ENABLE_FTS5", "ENABLE_STAT4", "THREADSAFE=1"] {
            assert!(options.iter().any(|option| option == wanted), "{wanted} is missing in {options:?}");
        }
        assert_eq!(options.iter().any(|option| option == "HAS_CODEC"), cfg!(feature = "encryption"), "{options:?}");
        let reader = reader(&path, None, TIMEOUT, caches).unwrap();
        for conn in [&writer, &reader] {
            for (option, on) in [
                (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
                (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
                (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
                (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
                (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
                (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
                (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
            ] {
                assert_eq!(conn.db_config(option).unwrap(), on, "{option:?}");
            }
            assert!(!ffi::extensions(conn, None).unwrap());
            // It would be memory if it were a URI; as a name it is that of no file.
            assert!(conn.execute_batch("ATTACH 'file:a?mode=memory' AS uri").is_err());
            let setting = |name: &str| -> Option<i64> {
                sql::query_optional(conn, &format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap()
            };
            for (name, value) in [
                ("temp_store", 2),
                ("page_size", 8192),
                ("cell_size_check", 1),
                ("foreign_keys", 1),
                ("synchronous", 2),
            ] {
                assert_eq!(setting(name), Some(value), "{name}");
            }
            assert_eq!(setting("mmap_size").unwrap_or(0), 0);
        }
        let setting =
            |name: &str| -> i64 { writer.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap() };
        assert_eq!((setting("secure_delete"), setting("journal_size_limit")), (2, 64 << 20));
        // SQLite would take one of its own accord.
        assert!(ffi::extensions(&Connection::open_in_memory().unwrap(), None).unwrap());
    }

    const TIMEOUT: Duration = Duration::from_secs(5);
}
