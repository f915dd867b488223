//! Another key for a file: a copy beside it, verified and synced, takes its place.
//!
//! SQLite's own way, writing every page anew in one transaction, does not lead from a plain file to an encrypted one or
//! back, since their pages hold different numbers of bytes. So the rows are copied, as `VACUUM` does it. Until the rename the
//! old file is whole, from then on the new one is; the log is empty before, so that nothing of the old file can be
//! applied to the new one. The copy has one name, which is nobody else's while the file is locked exclusively: what a
//! process that was killed left there is removed by the next one that opens the file for writing.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::SqliteStore;
use super::cipher::Cipher;
use super::derived;
use super::ffi;
use super::file_system::{self, beside};
use super::fork;
use super::guard::{Exclusive, Guard};
use super::open;
use super::opened::Opened;
use super::readers::closed;
use super::sql;
use crate::error::{Error, ErrorKind, Result};
use crate::request::{Open, Rekey};

const COPY: &str = "-rekey";
/// The copy, and what SQLite may have made beside it: every opening for writing removes them.
pub const BESIDE_COPY: [&str; 3] = ["-rekey", "-rekey-journal", "-rekey-wal"];
const LOG: &str = "-wal";

/// Gives the store's file another key, and opens it anew.
pub fn run(store: &SqliteStore, request: Rekey) -> Result<()> {
    let old = store.request.lock().clone();
    let Some(path) = &old.path else {
        return Err(Error::new(
            ErrorKind::Argument,
            "an ephemeral store keeps its key, as it keeps its files, until it is closed; open another one",
        ));
    };
    if old.read_only {
        return Err(Error::new(
            ErrorKind::ReadOnly,
            "the store was opened with read_only=True; open it for writing to give it another key",
        ));
    }
    if old.key.is_none() && request.key.is_none() {
        return Ok(());
    }
    let to = request.key.as_ref().map(Cipher::new).transpose()?;
    let Some(mut opened) = store.opened.try_write_for(old.timeout) else {
        return Err(Error::new(
            ErrorKind::Locked,
            "calls of this store did not end within the timeout; let them end, and do not call rekey inside one",
        ));
    };
    store.usable()?;
    let file = fs::canonicalize(path)?;
    let guard = opened.close().ok_or_else(closed)?;
    let from = opened.cipher.take();
    let new = Open { key: request.key, ..old.clone() };
    let replaced = {
        let _activity = fork::enter();
        Guard::exclusive(guard, &file).and_then(|alone| replace(&file, &alone, from.as_deref(), to.as_ref()))
    };
    drop(from);
    let (next, result) = match replaced {
        Ok(result) => (new, result),
        Err(error) => (old, Err(error.context(file.display()))),
    };
    let again = {
        let _activity = fork::enter();
        let open = || Opened::open(&Open { create: false, ..next.clone() }, store.source);
        // A disk that fails once does not close the store.
        open().or_else(|_| open())
    };
    match again {
        Ok(again) => {
            store.encrypted.store(again.cipher.is_some(), Ordering::Release);
            *opened = again;
            *store.request.lock() = next;
            result
        }
        Err(error) => {
            store.closed.store(true, Ordering::Release);
            store.request.lock().key = None;
            result.and(Err(error.context("the store is closed, because it could not be opened again")))
        }
    }
}

/// Removes what a process that was killed left beside the file. Whoever may write keeps others from making it.
pub fn sweep(file: &Path) {
    for suffix in BESIDE_COPY {
        // Usually there is none; one that cannot be removed is in the way of the next key only, which says so.
        let _ = fs::remove_file(beside(file, suffix));
    }
}

/// Puts the copy in the file's place. An error inside came after that.
fn replace(file: &Path, alone: &Exclusive, from: Option<&Cipher>, to: Option<&Cipher>) -> Result<Result<()>> {
    sweep(file);
    if to.is_some() {
        // They hold what is to be encrypted, and are built anew in memory.
        derived::remove(file)?;
    }
    let copy = beside(file, COPY);
    let renamed = copy_to(&copy, file, from, to).and_then(|source| {
        // Where no guard keeps others out, SQLite's lock does, for as long as this connection is open. Windows replaces
        // no file that is open.
        let _source = (!cfg!(windows)).then_some(source);
        Ok(fs::rename(&copy, file)?)
    });
    if let Err(error) = renamed {
        sweep(file);
        return Err(error);
    }
    let synced = open::sync_parent(file).map_err(|error| {
        error.context("the new key is in use, and may be lost with the power before the system syncs")
    });
    if synced.is_ok() {
        alone.wipe();
    }
    Ok(synced)
}

/// Makes the copy, and returns the connection that read the file.
fn copy_to(copy: &Path, file: &Path, from: Option<&Cipher>, to: Option<&Cipher>) -> Result<Connection> {
    let source = open::alone(file, from)?;
    let copied = || -> Result<()> {
        empty_log(&source, file)?;
        let made = create(copy, file)?;
        let header = Header::of(&source)?;
        let tables = tables(&source)?;
        fill(&source, copy, to, &header)?;
        verify(copy, to, &header, &tables)?;
        // After SQLite, whose copy it is until here.
        Ok(made.sync_all()?)
    };
    copied().map_err(|error| sql::with_system_error(&source, error))?;
    Ok(source)
}

/// Moves the log into the file, and makes sure that it stays empty also when the power fails.
fn empty_log(source: &Connection, file: &Path) -> Result<()> {
    let busy: i64 = source.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy != 0 {
        return Err(Error::new(ErrorKind::Locked, "the log could not be moved into the file; try again"));
    }
    match OpenOptions::new().write(true).open(beside(file, LOG)) {
        Ok(log) => {
            log.set_len(0)?;
            Ok(log.sync_all()?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An empty file that is private until it has the owner and the rights of the other one.
fn create(copy: &Path, file: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(copy)?;
    let like = fs::metadata(file)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let now = made.metadata()?;
        if (now.uid(), now.gid()) != (like.uid(), like.gid()) {
            std::os::unix::fs::fchown(&made, Some(like.uid()), Some(like.gid())).map_err(|error| {
                Error::from(error)
                    .context("a file of another owner is replaced by its owner only; call rekey as that user")
            })?;
        }
    }
    made.set_permissions(like.permissions())?;
    Ok(made)
}

/// What is not in any table.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    application: i64,
    version: i64,
    auto_vacuum: i64,
}

impl Header {
    fn of(conn: &Connection) -> Result<Self> {
        let one = |text| conn.query_row(text, [], |row| row.get(0));
        Ok(Self {
            application: one("PRAGMA application_id")?,
            version: one("PRAGMA user_version")?,
            auto_vacuum: one("PRAGMA auto_vacuum")?,
        })
    }
}

/// One with rows of its own: virtual tables keep theirs in others.
#[derive(Debug, PartialEq)]
struct Table {
    name: String,
    rows: i64,
    /// The last rowid and the sum of all; vectors are found by the rowids of their blocks. In SQLite's own tables nobody
    /// looks for them, and the copy has others.
    rowids: Option<(i64, f64)>,
}

fn tables(conn: &Connection) -> Result<Vec<Table>> {
    let text = "SELECT name, sql LIKE '%WITHOUT ROWID%' OR name LIKE 'sqlite@_%' ESCAPE '@' FROM sqlite_schema
                WHERE type = 'table' AND rootpage > 0 ORDER BY name";
    let names: Vec<(String, bool)> = sql::query_all(conn, text, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let count = |(name, without): (String, bool)| -> Result<Table> {
        // Of the schema itself, not a caller's.
        let quoted = name.replace('"', "\"\"");
        let (rows, rowids) = if without {
            (conn.query_row(&format!("SELECT count(*) FROM \"{quoted}\""), [], |row| row.get(0))?, None)
        } else {
            let text = format!("SELECT count(*), ifnull(max(_rowid_), 0), total(_rowid_) FROM \"{quoted}\"");
            conn.query_row(&text, [], |row| Ok((row.get(0)?, Some((row.get(1)?, row.get(2)?)))))?
        };
        Ok(Table { name, rows, rowids })
    };
    names.into_iter().map(count).collect()
}

fn fill(source: &Connection, copy: &Path, to: Option<&Cipher>, header: &Header) -> Result<()> {
    let path = copy.to_str().ok_or_else(|| Error::new(ErrorKind::Argument, "the file's name is not valid Unicode"))?;
    // Without a key the source's would be taken.
    source.execute("ATTACH ?1 AS copy KEY ''", [path])?;
    if let Some(to) = to {
        to.unlock_new(source, c"copy")?;
    }
    if to.is_none() {
        source.pragma_update(Some("copy"), "page_size", open::PAGE_SIZE)?;
    }
    let Header { application, version, auto_vacuum } = header;
    for (setting, value) in [
        ("auto_vacuum", *auto_vacuum),
        // Nobody needs the copy before it is whole; it is synced when it is.
        ("synchronous", 0),
        ("application_id", *application),
        ("user_version", *version),
    ] {
        source.pragma_update(Some("copy"), setting, value)?;
    }
    source.query_row("PRAGMA copy.journal_mode = OFF", [], |_| Ok(()))?;
    source.execute_batch("BEGIN")?;
    source.query_row("SELECT sqlcipher_export('copy')", [], |_| Ok(()))?;
    // The replica goes on in it.
    if let Some(number) = file_system::number(copy) {
        source.execute("UPDATE copy.meta SET value = ?1 WHERE key = 'file'", [number.to_le_bytes()])?;
    }
    Ok(source.execute_batch("COMMIT; DETACH copy")?)
}

/// Compares the copy with what was counted, has SQLite read all of it, and makes it a file with a log.
fn verify(copy: &Path, to: Option<&Cipher>, header: &Header, expected: &[Table]) -> Result<()> {
    let conn = open::alone(copy, to)?;
    ffi::register_vec0(&conn)?;
    let differs =
        |what: &str| Error::new(ErrorKind::Corrupt, format!("the copy with the new key {what}; check the file"));
    if Header::of(&conn)? != *header {
        return Err(differs("has another header"));
    }
    let found = tables(&conn)?;
    if let Some(table) = expected.iter().find(|table| !found.contains(table)) {
        return Err(differs(&format!("does not hold the same rows of {}", table.name)));
    }
    if found.len() != expected.len() {
        return Err(differs("has other tables"));
    }
    let mut checks = vec!["PRAGMA integrity_check"];
    if to.is_some() {
        checks.push("PRAGMA cipher_integrity_check");
    }
    for check in checks {
        let found: Vec<String> = sql::query_all(&conn, check, [], |row| row.get(0))?;
        if let Some(first) = found.iter().find(|line| *line != "ok") {
            return Err(differs(&format!("is not sound ({first})")));
        }
    }
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(differs(&format!("got no write-ahead log, but {mode}")));
    }
    conn.close().map_err(|(_, error)| Error::from(error))?;
    match fs::remove_file(beside(copy, LOG)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(all(test, feature = "encryption"))]
mod tests {
    use rusqlite::types::Value;
    use zeroize::Zeroizing;

    use super::*;
    use crate::contract;
    use crate::request::{CreateIndex, Delete, DeleteCollection, Key, Operation, SetTokenizer};
    use crate::sqlite::open::Caches;
    use crate::store::{Store, Unwatched};

    fn keys() -> [Option<Key>; 4] {
        let passphrase = Key::passphrase(Zeroizing::new("p".to_owned())).unwrap();
        [None, Some(passphrase), Some(Key::raw(&[7; 32]).unwrap()), None]
    }

    fn open(path: &Path, key: Option<&Key>) -> Result<SqliteStore> {
        SqliteStore::open(&Open { key: key.cloned(), ..Open::file(path) })
    }

    fn reader(path: &Path, key: Option<&Key>) -> Connection {
        let cipher = key.map(Cipher::new).transpose().unwrap();
        let caches = Caches::of(&Open::ephemeral());
        open::reader(path, cipher.as_ref(), std::time::Duration::ZERO, caches).unwrap()
    }

    /// Every row of every table, with its rowid, and the settings of the file.
    fn content(conn: &Connection) -> Vec<(String, Vec<Vec<Value>>)> {
        let text = "SELECT name, sql LIKE '%WITHOUT ROWID%' OR name LIKE 'sqlite@_%' ESCAPE '@' FROM sqlite_schema
                    WHERE type = 'table' AND rootpage > 0 ORDER BY name";
        let names: Vec<(String, bool)> = sql::query_all(conn, text, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut queries: Vec<(String, String)> = names
            .into_iter()
            .map(|(name, without)| {
                let rowid = if without { "" } else { "_rowid_, " };
                let text = format!("SELECT {rowid}* FROM \"{name}\" ORDER BY 1, 2");
                (name, text)
            })
            .collect();
        let schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name, type";
        queries.push(("schema".to_owned(), schema.to_owned()));
        for pragma in ["application_id", "user_version", "auto_vacuum", "journal_mode", "encoding"] {
            queries.push((pragma.to_owned(), format!("PRAGMA {pragma}")));
        }
        let rows = |text: &str| -> Vec<Vec<Value>> {
            let mut statement = conn.prepare(text).unwrap();
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
            rows.collect::<rusqlite::Result<_>>().unwrap()
        };
        let mut all: Vec<_> = queries.into_iter().map(|(name, text)| (name, rows(&text))).collect();
        // The replica is in the file that there is now, and says so.
        let meta = all.iter_mut().find(|(name, _)| name == "meta").unwrap();
        let noted = meta.1.iter().position(|row| row[0] == Value::Text("file".to_owned()));
        if let Some(noted) = noted {
            let number = file_system::number_of(conn).unwrap().to_le_bytes().to_vec();
            assert_eq!(meta.1.remove(noted)[1], Value::Blob(number));
        }
        all
    }

    #[test]
    fn the_new_file_holds_what_the_old_one_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = open(&path, None).unwrap();
        // Holes in the sequences, in and between blocks of vectors and in the statistics, and a second generation.
        contract::fill(&store, 3);
        store.delete_collection(DeleteCollection { name: "c".to_owned() }).unwrap();
        contract::fill(&store, 300);
        contract::add_each(&store, 1, 40);
        store.operate(Operation::Optimize, &mut Unwatched).unwrap();
        let document_ids = (0..150).chain((150..250).step_by(3)).map(|number| format!("fill{number}")).collect();
        let document_ids = Some(document_ids);
        let (collection, chunk_ids, uris, filter) = ("c".to_owned(), None, None, None);
        store.delete(Delete { collection, chunk_ids, document_ids, uris, filter }).unwrap();
        let (collection, tokenizer) = ("c".to_owned(), "unicode61".to_owned());
        store.set_tokenizer(SetTokenizer { collection, tokenizer }, &mut Unwatched).unwrap();
        let index = CreateIndex { collection: "c".to_owned(), field: "n".to_owned() };
        store.create_index(index, &mut Unwatched).unwrap();
        store.operate(Operation::Optimize, &mut Unwatched).unwrap();
        let before = content(&reader(&path, None));
        assert!(before.iter().any(|(name, rows)| name.ends_with("_vector_chunks00") && !rows.is_empty()));
        assert!(before.iter().any(|(name, rows)| name == "sqlite_sequence" && !rows.is_empty()));
        let [_, keys @ ..] = keys();
        let mut last: Option<Key> = None;
        for key in keys {
            store.rekey(Rekey { key: key.clone() }).unwrap();
            assert_eq!(store.encrypted(), key.is_some());
            let start = std::fs::read(&path).unwrap()[..16].to_vec();
            assert_eq!(start == b"SQLite format 3\0", key.is_none());
            let conn = reader(&path, key.as_ref());
            assert_eq!(content(&conn), before);
            crate::sqlite::tests::check(&store);
            drop(conn);
            assert_eq!(store.count("c", None).unwrap(), contract_count(&before));
            if last.is_some() || key.is_some() {
                assert_eq!(open(&path, last.as_ref()).err().unwrap().kind(), ErrorKind::WrongKey);
            }
            last = key;
        }
        // It goes on writing too.
        contract::add_each(&store, 2, 5);
        store.close().unwrap();
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().contains("rekey")), "{names:?}");
        // A plain file has no bytes in reserve.
        assert_eq!(std::fs::read(&path).unwrap()[20], 0);
    }

    fn contract_count(content: &[(String, Vec<Vec<Value>>)]) -> u64 {
        content.iter().find(|(name, _)| name == "chunks").unwrap().1.len() as u64
    }

    #[test]
    fn it_needs_the_file_alone_and_a_store_that_writes_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let [_, key, ..] = keys();
        let rekey = Rekey { key };
        let store = open(&path, None).unwrap();
        let other = open(&path, None).unwrap();
        contract::fill(&store, 3);
        let before = std::fs::read(&path).unwrap();
        for _ in 0..2 {
            let error = store.rekey(rekey.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Locked);
            assert!(error.message().contains("another store of this process"), "{error}");
            assert_eq!(store.count("c", None).unwrap(), 3);
        }
        other.close().unwrap();
        assert!(std::fs::read(&path).unwrap().len() >= before.len());
        let read_only = SqliteStore::open(&Open { read_only: true, ..Open::file(&path) }).unwrap();
        assert_eq!(read_only.rekey(rekey.clone()).unwrap_err().kind(), ErrorKind::ReadOnly);
        read_only.close().unwrap();
        store.rekey(Rekey { key: None }).unwrap();
        store.rekey(rekey.clone()).unwrap();
        store.close().unwrap();
        assert_eq!(store.rekey(rekey.clone()).unwrap_err().kind(), ErrorKind::Closed);
        let ephemeral = SqliteStore::open(&Open::ephemeral()).unwrap();
        assert_eq!(ephemeral.rekey(rekey).unwrap_err().kind(), ErrorKind::Argument);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_by_the_next_that_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        open(&path, None).unwrap().close().unwrap();
        let strays = BESIDE_COPY.map(|suffix| beside(&path, suffix));
        let make = || strays.iter().for_each(|stray| fs::write(stray, b"half").unwrap());
        make();
        let there = || strays.iter().filter(|stray| stray.exists()).count();
        SqliteStore::open(&Open { read_only: true, ..Open::file(&path) }).unwrap().close().unwrap();
        assert_eq!(there(), 3);
        let store = open(&path, None).unwrap();
        assert_eq!(there(), 0);
        make();
        store.rekey(Rekey { key: keys()[2].clone() }).unwrap();
        assert_eq!(there(), 0);
        store.close().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_old_file_is_spoilt_for_who_has_it_open() {
        use std::os::unix::fs::FileExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        open(&path, None).unwrap().close().unwrap();
        let old = File::open(&path).unwrap();
        let store = open(&path, None).unwrap();
        store.rekey(Rekey { key: keys()[2].clone() }).unwrap();
        let mut start = [1; 16];
        old.read_exact_at(&mut start, 0).unwrap();
        assert_eq!(start, [0; 16]);
        store.close().unwrap();
    }

    /// One opens the file while it is replaced, and waits. With another name of the old file, that one stays whole.
    #[cfg(target_os = "linux")]
    fn opened_meanwhile(asked: &Key, [old, key]: [&Key; 2], other_name: bool) -> Result<u64> {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("a.db"), folder.path().join("b.db"));
        for (path, key, rows) in [(&path, old, 1), (&new, key, 2)] {
            let store = open(path, Some(key)).unwrap();
            contract::fill(&store, rows);
            store.close().unwrap();
        }
        if other_name {
            fs::hard_link(&path, folder.path().join("c.db")).unwrap();
        }
        let descriptors = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
            links.filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == path)).count()
        };
        let store = open(&path, Some(old)).unwrap();
        let guard = store.opened.write().close().unwrap();
        let alone = Guard::exclusive(guard, &path).unwrap();
        let before = descriptors();
        std::thread::scope(|scope| {
            let opener = scope.spawn(|| open(&path, Some(asked)).and_then(|store| store.count("c", None)));
            while descriptors() == before && !opener.is_finished() {
                std::thread::yield_now();
            }
            fs::rename(&new, &path).unwrap();
            alone.wipe();
            drop(alone);
            opener.join().unwrap()
        })
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_waits_for_the_file_opens_the_new_one() {
        let [old, new] = [&[1; 32], &[2; 32]].map(|bytes| Key::raw(bytes).unwrap());
        for other_name in [false, true] {
            assert_eq!(opened_meanwhile(&new, [&old, &new], other_name).unwrap(), 2);
            let refused = opened_meanwhile(&old, [&old, &new], other_name).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::WrongKey);
        }
    }

    #[cfg(unix)]
    #[test]
    fn rights_links_and_other_names_are_kept() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, link, other) =
            (folder.path().join("a.db"), folder.path().join("link.db"), folder.path().join("other.db"));
        open(&path, None).unwrap().close().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        fs::hard_link(&path, &other).unwrap();
        let store = open(&link, None).unwrap();
        contract::fill(&store, 3);
        store.rekey(Rekey { key: keys()[2].clone() }).unwrap();
        store.close().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        // It is not spoilt.
        let store = open(&other, None).unwrap();
        assert_eq!(store.count("c", None).unwrap(), 3);
        store.close().unwrap();
    }
}
