//! The SQLite backend: one file, one writer thread, a pool of readers.

mod cipher;
mod distance;
mod ephemeral;
mod ffi;
mod filter_sql;
pub mod fork;
mod guard;
mod lock;
mod marker;
mod matching;
mod migrate;
mod open;
mod ops;
mod pulse;
mod readers;
mod rekey;
mod row_set;
mod row_sets;
mod sql;
mod tables;
mod tokenizer;
mod top_k;
mod txn;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rusqlite::Connection;

use self::cipher::Cipher;
use self::ephemeral::Folder;
use self::fork::ForkToken;
use self::guard::Guard;
use self::migrate::Header;
use self::open::Caches;
use self::pulse::Pulse;
use self::readers::{Readers, closed};
use self::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::model::{Chunk, CollectionInfo, Document, Hits, NewDocument, OnConflict};
use crate::request::{
    CachedEmbeddings, GetDocument, ListDocuments, Neighbors, Open, Rekey, Search, SearchBatch, SearchStore, Write,
    Written,
};
use crate::store::{Cached, Capabilities, Interrupt, Store, Vectors, Watch};

/// A store in one SQLite file.
pub struct SqliteStore {
    /// As it is opened again, whatever the working directory is then.
    request: Mutex<Open>,
    /// As it was asked for; `None` for an ephemeral store.
    path: Option<PathBuf>,
    read_only: bool,
    encrypted: AtomicBool,
    closed: AtomicBool,
    opened: RwLock<Opened>,
    token: ForkToken,
}

/// What is open of a store; a new key opens it anew.
struct Opened {
    readers: Readers,
    /// `None` when the store is read-only.
    writer: Option<Writer>,
    cipher: Option<Arc<Cipher>>,
    /// After the connections: its files may close only when theirs are closed.
    guard: Mutex<Option<Arc<Guard>>>,
    /// After everything: it removes the files.
    folder: Mutex<Option<Folder>>,
}

impl Opened {
    fn open(request: &Open) -> Result<Self> {
        let deadline = Instant::now() + request.timeout;
        let cipher = request.key.as_ref().map(Cipher::new).transpose()?.map(Arc::new);
        let Some(file) = &request.path else { return Self::ephemeral(request, cipher) };
        open::ensure_file(file, request)?;
        loop {
            let identity = open::identity(file);
            match Self::file(file, request, cipher.as_ref(), deadline) {
                Ok(Some(opened)) => return Ok(opened),
                // Another process gave the store a new key meanwhile, and with it a new file.
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) => return Err(lock::timed_out().context(file.display())),
                Err(error)
                    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::WrongKey)
                        && open::identity(file) != identity
                        && Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// `None` if the file was replaced while it was opened.
    fn file(file: &Path, request: &Open, cipher: Option<&Arc<Cipher>>, deadline: Instant) -> Result<Option<Self>> {
        let caches = Caches::of(request);
        let (key, synchronous) = (cipher.map(Arc::as_ref), request.durability.into());
        // Until the guard stands, no other store of this process may close the file under SQLite's locks.
        let _opening = Guard::opening(file)?;
        let (mut reader, header) = open::first_reader(file, key, request.timeout, caches, deadline)?;
        let writer = match header {
            Header::Current => None,
            _ if request.read_only => return Err(open::not_without_writing(file)),
            Header::Empty | Header::Older => Some(open::writer(file, key, synchronous, caches, deadline)?),
        };
        if key.is_some() && header == Header::Empty {
            // Another process may have made the file, with a salt of its own.
            reader = open::reader(file, key, request.timeout, caches)?;
        }
        // SQLite has read the file, so its shared memory is there for the guard to lock.
        let guard = Guard::acquire(file)?;
        // The guard keeps the file at its path from here on.
        if ffi::has_moved(&reader) || writer.as_ref().is_some_and(ffi::has_moved) {
            return Ok(None);
        }
        if !request.read_only {
            rekey::sweep(file);
        }
        let cipher = cipher.cloned();
        let readers =
            Readers::new(file.into(), cipher.clone(), request.timeout, request.readers, caches, Some(reader))?;
        let config =
            writer::Config { path: file.into(), cipher: cipher.clone(), synchronous, timeout: request.timeout, caches };
        let writer =
            if request.read_only { None } else { Some(Writer::new(config, Some(Arc::clone(&guard)), writer)?) };
        Ok(Some(Self { readers, writer, cipher, guard: Some(guard).into(), folder: None.into() }))
    }

    fn ephemeral(request: &Open, cipher: Option<Arc<Cipher>>) -> Result<Self> {
        if request.read_only {
            return Err(Error::new(
                ErrorKind::Argument,
                "an ephemeral store begins empty, so read_only=True leaves nothing to do; give a path",
            ));
        }
        let caches = Caches::of(request);
        let (folder, conn) = Folder::create(cipher.as_deref(), caches)?;
        let (path, timeout) = (folder.database(), request.timeout);
        let readers = Readers::new(path.clone(), cipher.clone(), timeout, request.readers, caches, None)?;
        let config =
            writer::Config { path, cipher: cipher.clone(), synchronous: open::Synchronous::Off, timeout, caches };
        let writer = Some(Writer::new(config, None, Some(conn))?);
        Ok(Self { readers, writer, cipher, guard: None.into(), folder: Some(folder).into() })
    }

    /// Waits for reads and writes under way. Closes all but the guard, which it returns.
    fn close(&self) -> Option<Arc<Guard>> {
        self.readers.close();
        if let Some(writer) = &self.writer {
            writer.close();
        }
        self.guard.lock().take()
    }

    /// Lets go of everything without closing it: after a fork it is the parent's.
    fn forget(&self) {
        self.readers.forget();
        if let Some(writer) = &self.writer {
            writer.forget();
        }
        if let Some(mut guard) = self.guard.try_lock() {
            std::mem::forget(guard.take());
        }
        if let Some(mut folder) = self.folder.try_lock() {
            std::mem::forget(folder.take());
        }
    }
}

impl SqliteStore {
    /// Opens or makes a store.
    ///
    /// # Errors
    /// As [`crate::connect::open`].
    pub fn open(request: &Open) -> Result<Self> {
        fork::check_open()?;
        check_version()?;
        let _activity = fork::enter();
        let token = ForkToken::new();
        let path = request.path.clone();
        let request = Open { path: path.as_deref().map(open::absolute).transpose()?, ..request.clone() };
        let opened = Opened::open(&request)?;
        Ok(Self {
            read_only: request.read_only,
            encrypted: AtomicBool::new(opened.cipher.is_some()),
            request: Mutex::new(request),
            path,
            closed: AtomicBool::new(false),
            opened: RwLock::new(opened),
            token,
        })
    }

    fn check(&self) -> Result<()> {
        self.token.check()?;
        if self.closed() { Err(closed()) } else { Ok(()) }
    }

    /// What is open, for one call. A call may make others on the same thread, and those must not wait for a new key that
    /// waits for the first.
    fn opened(&self) -> Result<RwLockReadGuard<'_, Opened>> {
        self.check()?;
        Ok(self.opened.read_recursive())
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.opened()?.readers.read(read)
    }
}

/// Older versions lose commits when two processes reset the log, and trust crafted text indexes.
fn check_version() -> Result<()> {
    const LEAST: i32 = 3_053_002;
    if rusqlite::version_number() >= LEAST {
        return Ok(());
    }
    Err(Error::internal(format!(
        "SQLite is {}; 3.53.2 or newer is needed; build with the bundled one",
        rusqlite::version()
    )))
}

impl Store for SqliteStore {
    fn capabilities(&self) -> Capabilities {
        let persistent = self.path.is_some();
        Capabilities { shared_between_processes: persistent, persistent }
    }

    fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn encrypted(&self) -> bool {
        self.encrypted.load(Ordering::Acquire)
    }

    fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        if self.token.check().is_err() {
            // The connections, the thread and the files are the parent's.
            if let Some(opened) = self.opened.try_read_recursive() {
                opened.forget();
            }
            return Ok(());
        }
        let opened = self.opened.read_recursive();
        drop(opened.close());
        drop(opened.folder.lock().take());
        if let Some(cipher) = &opened.cipher {
            cipher.forget();
        }
        self.request.lock().key = None;
        Ok(())
    }

    fn rekey(&self, request: Rekey) -> Result<()> {
        self.check()?;
        rekey::run(self, request)
    }

    fn write(&self, writes: Vec<Write>, watch: &mut dyn Watch) -> Result<Vec<Written>> {
        let opened = self.opened()?;
        let Some(writer) = &opened.writer else {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "the store was opened with read_only=True; open it for writing",
            ));
        };
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        writer.write(writes, watch)
    }

    fn get_collection(&self, name: &str) -> Result<CollectionInfo> {
        self.read(|conn| ops::get_collection::run(conn, name))
    }

    fn list_collections(&self) -> Result<Vec<CollectionInfo>> {
        self.read(ops::get_collection::list)
    }

    fn get(&self, collection: &str, chunk_ids: &[String]) -> Result<Vec<Option<Chunk>>> {
        self.read(|conn| ops::get::run(conn, collection, chunk_ids))
    }

    fn get_document(&self, request: &GetDocument) -> Result<Option<Document>> {
        self.read(|conn| ops::get_document::run(conn, request))
    }

    fn list_documents(&self, request: &ListDocuments) -> Result<Vec<Document>> {
        self.read(|conn| ops::list_documents::run(conn, request))
    }

    fn get_chunks(&self, collection: &str, document_id: &str) -> Result<Vec<Chunk>> {
        self.read(|conn| ops::get_chunks::run(conn, collection, document_id))
    }

    fn get_chunk_by_index(&self, collection: &str, document_id: &str, index: u64) -> Result<Option<Chunk>> {
        self.read(|conn| ops::get_chunks::by_index(conn, collection, document_id, index))
    }

    fn neighbors(&self, request: &Neighbors) -> Result<Vec<Chunk>> {
        self.read(|conn| ops::neighbors::run(conn, request))
    }

    fn get_embeddings(&self, collection: &str, chunk_ids: &[String], space: &str) -> Result<Vectors> {
        self.read(|conn| ops::get_embeddings::run(conn, collection, chunk_ids, space))
    }

    fn count(&self, collection: &str, filter: Option<&Filter>) -> Result<u64> {
        self.read(|conn| ops::count::chunks(conn, collection, filter))
    }

    fn count_documents(&self, collection: &str, filter: Option<&Filter>) -> Result<u64> {
        self.read(|conn| ops::count::documents(conn, collection, filter))
    }

    fn unchanged(&self, collection: &str, documents: &[NewDocument]) -> Result<Vec<bool>> {
        self.read(|conn| ops::unchanged::run(conn, collection, documents))
    }

    fn kept(&self, collection: &str, documents: &[NewDocument], on_conflict: OnConflict) -> Result<Vec<bool>> {
        self.read(|conn| ops::unchanged::kept(conn, collection, documents, on_conflict))
    }

    fn cached_embeddings(&self, request: &CachedEmbeddings) -> Result<Cached> {
        self.read(|conn| ops::cached_embeddings::run(conn, request))
    }

    fn search(&self, request: &Search, interrupt: Arc<dyn Interrupt>) -> Result<Hits> {
        let opened = self.opened()?;
        ops::search::run(&opened.readers, request, &Pulse::new(request.timeout, interrupt))
    }

    fn search_batch(&self, request: &SearchBatch, interrupt: Arc<dyn Interrupt>) -> Result<Vec<Hits>> {
        let opened = self.opened()?;
        ops::search_batch::run(&opened.readers, request, &Pulse::new(None, interrupt))
    }

    fn search_store(&self, request: &SearchStore, interrupt: Arc<dyn Interrupt>) -> Result<Hits> {
        let opened = self.opened()?;
        ops::search_store::run(&opened.readers, request, &Pulse::new(request.timeout, interrupt))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure; an unfinished checkpoint loses nothing.
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    /// Nothing may be left in an index that is not in the rows, or the other way about.
    pub fn check(conn: &Connection) {
        let rows = |text: &str| -> Vec<i64> { sql::query_all(conn, text, [], |row| row.get(0)).unwrap() };
        let integrity: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(integrity, "ok");
        assert!(conn.prepare("PRAGMA foreign_key_check").unwrap().query([]).unwrap().next().unwrap().is_none());
        let mut expected = vec!["fts_src".to_owned()];
        for collection in tables::collections::list(conn).unwrap() {
            let id = collection.id;
            let chunks = rows(&format!("SELECT id FROM chunks WHERE collection_id = {id} ORDER BY id"));
            let fts = format!("fts_{id}_{}", collection.fts_generation);
            assert_eq!(rows(&format!("SELECT id FROM {fts}_docsize ORDER BY id")), chunks);
            expected.push(fts);
            for space in tables::spaces::list(conn, id).unwrap() {
                if let Some(table) = space.table() {
                    let stored = rows(&format!("SELECT rowid FROM {}_rowids ORDER BY rowid", table.name()));
                    assert!(stored.iter().all(|row| chunks.binary_search(row).is_ok()));
                    expected.push(table.name());
                }
            }
        }
        let strays = "SELECT chunk_id FROM field_values
                      WHERE chunk_id NOT IN (SELECT id FROM chunks) OR field_id NOT IN (SELECT id FROM fields)";
        assert!(rows(strays).is_empty(), "values of fields were left behind");
        let names: Vec<String> = sql::query_all(
            conn,
            "SELECT name FROM sqlite_schema WHERE name LIKE 'fts!_%' ESCAPE '!' OR name LIKE 'vec!_%' ESCAPE '!'",
            [],
            |row| row.get(0),
        )
        .unwrap();
        for name in names {
            assert!(expected.iter().any(|table| name.starts_with(table.as_str())), "{name} was left behind");
        }
        let clock = tables::meta::clock(conn).unwrap().to_bytes();
        let late = "SELECT count(*) FROM changes WHERE hlc > ?1";
        assert_eq!(conn.query_row(late, [clock], |row| row.get::<_, i64>(0)).unwrap(), 0);
        let text = "SELECT (SELECT value FROM meta WHERE key = 'embedding_cache_bytes'), (SELECT total(length(embedding)) FROM embedding_cache)";
        let (counted, there): (f64, f64) = conn.query_row(text, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(counted, there);
    }

    /// FTS5 compares its index with the content; the command is a write, so it needs a connection that may.
    fn check_text_index(path: &Path) {
        let conn = Connection::open(path).unwrap();
        for collection in tables::collections::list(&conn).unwrap() {
            let fts = format!("fts_{}_{}", collection.id, collection.fts_generation);
            conn.execute_batch(&format!("INSERT INTO {fts} ({fts}, rank) VALUES ('integrity-check', 1)")).unwrap();
        }
    }

    #[test]
    fn an_ephemeral_store_keeps_the_contract() {
        contract::run(&|| Arc::new(SqliteStore::open(&Open::ephemeral()).unwrap()), &|store| {
            assert!(!store.capabilities().persistent);
        });
    }

    #[test]
    fn a_file_keeps_the_contract_and_no_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let count = AtomicBool::new(false);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let open = || -> Arc<dyn Store> {
            let name = format!("new/{}.db", next.fetch_add(1, Ordering::Relaxed));
            Arc::new(SqliteStore::open(&Open::file(folder.path().join(name))).unwrap())
        };
        contract::run(&open, &|store| {
            let path = store.path().unwrap();
            let reader = open::reader(path, None, std::time::Duration::ZERO, Caches::of(&Open::ephemeral())).unwrap();
            check(&reader);
            check_text_index(path);
            count.store(true, Ordering::Relaxed);
        });
        assert!(count.into_inner());
    }

    #[test]
    fn the_file_alone_is_the_store_after_close() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("a.db"), folder.path().join("b.db"));
        let store = SqliteStore::open(&Open::file(&path)).unwrap();
        contract::fill(&store, 50);
        store.close().unwrap();
        std::fs::copy(&path, &copy).unwrap();
        let copied = SqliteStore::open(&Open { read_only: true, ..Open::file(&copy) }).unwrap();
        assert_eq!(copied.count("c", None).unwrap(), 50);
        let refused = copied.delete_collection(crate::request::DeleteCollection { name: "c".into() });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnly);
    }

    #[test]
    fn the_log_is_moved_into_the_file_as_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = SqliteStore::open(&Open::file(&path)).unwrap();
        contract::fill(&store, 1);
        let length = |path: &Path| std::fs::metadata(path).unwrap().len();
        let mut longest = 0;
        for thread in 0..10 {
            contract::add_each(&store, thread, 100);
            longest = longest.max(length(&folder.path().join("a.db-wal")));
        }
        assert!(longest < 16 << 20, "{longest} bytes of log");
        assert!(length(&path) > 256 << 10);
        store.close().unwrap();
        assert_eq!(length(&folder.path().join("a.db-wal")), 0);
    }

    #[test]
    fn what_cannot_be_opened_is_refused_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let kind = |request: &Open| SqliteStore::open(request).err().unwrap().kind();
        assert_eq!(kind(&Open { create: false, ..Open::file(&path) }), ErrorKind::NotFound);
        assert_eq!(kind(&Open { read_only: true, ..Open::file(&path) }), ErrorKind::NotFound);
        assert_eq!(kind(&Open::file(folder.path())), ErrorKind::Argument);
        assert_eq!(kind(&Open::file("")), ErrorKind::Argument);
        assert_eq!(kind(&Open { read_only: true, ..Open::ephemeral() }), ErrorKind::Argument);
        for bytes in [b"not a database, but long enough to look at".repeat(100), vec![0; 4096]] {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(kind(&Open::file(&path)), ErrorKind::Corrupt);
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        std::fs::remove_file(&path).unwrap();
        SqliteStore::open(&Open::file(&path)).unwrap().close().unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)")
            .unwrap();
        let before = std::fs::read(&path).unwrap();
        assert_eq!(kind(&Open::file(&path)), ErrorKind::SchemaTooNew);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_log_that_another_tool_took_away_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        SqliteStore::open(&Open::file(&path)).unwrap().close().unwrap();
        let mode =
            |text: &str| -> String { Connection::open(&path).unwrap().query_row(text, [], |row| row.get(0)).unwrap() };
        assert_eq!(mode("PRAGMA journal_mode = DELETE"), "delete");
        let refused = SqliteStore::open(&Open { read_only: true, ..Open::file(&path) }).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly);
        let store = SqliteStore::open(&Open { memory_limit: Some(1), ..Open::file(&path) }).unwrap();
        contract::fill(&store, 3);
        store.close().unwrap();
        assert_eq!(mode("PRAGMA journal_mode"), "wal");
    }

    #[test]
    fn an_older_format_is_upgraded_by_writing_and_refused_untouched_without() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        {
            let conn = Connection::open(&path).unwrap();
            conn.execute_batch("PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL")
                .unwrap();
            migrate::make_older(&conn, 1);
            conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        }
        let before = std::fs::read(&path).unwrap();
        let read_only = || SqliteStore::open(&Open { read_only: true, ..Open::file(&path) });
        let refused = read_only().err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly);
        assert!(refused.message().contains("older format"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let store = SqliteStore::open(&Open::file(&path)).unwrap();
        contract::fill(&store, 3);
        store.close().unwrap();
        assert_eq!(read_only().unwrap().count("c", None).unwrap(), 3);
    }

    #[test]
    fn a_panic_poisons_writing_and_loses_nothing() {
        struct Broken;
        impl crate::model::Rows for Broken {
            fn rows(&self) -> usize {
                1
            }
            fn dimension(&self) -> usize {
                2
            }
            fn copy(&self, _first: usize, _out: &mut [f32]) {
                panic!("broken rows");
            }
        }
        let store = SqliteStore::open(&Open::ephemeral()).unwrap();
        contract::fill(&store, 3);
        let broken = crate::model::Embeddings::new(Arc::new(Broken)).unwrap();
        for _ in 0..2 {
            let error = contract::add_with(&store, "new", broken.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
            assert!(error.message().contains("broken rows"), "{error}");
        }
        assert_eq!(store.count("c", None).unwrap(), 3);
        store.close().unwrap();
    }

    #[test]
    fn a_commit_is_shared_and_one_victim_takes_nobody_along() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&Open::file(folder.path().join("a.db"))).unwrap();
        contract::fill(&store, 1);
        let failed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|i| {
                    let store = &store;
                    scope.spawn(move || contract::add_each(store, i, 20))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(failed, 16);
        assert_eq!(store.count("c", None).unwrap(), 1 + 16 * 19);
        let conn =
            open::reader(&folder.path().join("a.db"), None, std::time::Duration::ZERO, Caches::of(&Open::ephemeral()))
                .unwrap();
        check(&conn);
        let commits: i64 =
            conn.query_row("SELECT count(DISTINCT commit_tag) FROM changes", [], |row| row.get(0)).unwrap();
        assert!(commits < 16 * 19, "{commits} commits");
    }
}
