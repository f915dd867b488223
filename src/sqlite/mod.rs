//! The SQLite backend: one file, one writer thread, a pool of readers.

mod authentic;
mod backup;
mod cipher;
mod derived;
#[cfg(test)]
mod differential;
mod ephemeral;
mod failpoints;
mod ffi;
pub mod file;
mod file_system;
mod filter_sql;
mod forget;
pub mod fork;
mod guard;
mod health;
mod lock;
#[cfg(target_os = "linux")]
mod lock_holders;
mod log;
mod marker;
mod matching;
mod migrate;
mod neighbor;
mod open;
mod opened;
mod ops;
mod optimize;
mod page_cache;
mod pulse;
mod readers;
mod rekey;
mod row_set;
mod row_sets;
mod schema;
#[cfg(target_os = "linux")]
mod shm_locks;
mod sql;
mod stats;
mod tables;
#[cfg(test)]
mod text_index_test;
mod tokenizer;
mod txn;
mod vacuum;
mod watched;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rusqlite::Connection;

use self::fork::ForkToken;
use self::opened::Opened;
use self::pulse::Pulse;
use self::readers::closed;
use self::txn::Progress;
use self::watched::watched;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Source};
use crate::filter::Filter;
use crate::model::{
    Change, CheckReport, Chunk, CollectionInfo, Conflict, Document, Exported, ForgetReport, Health, Hits, Namespace,
    NewDocument, OnConflict, Peer, RecallReport, Related, Relation, RepairReport, StateEntry, StoreStats, SyncLog,
    Timestamp,
};
use crate::request::{
    Backup, CachedEmbeddings, Changes, Check, CheckRecall, Export, ExportChanges, Forget, GetDocument, ListDocuments,
    Neighbors, NoteExport, Open, Operation, Rekey, RelatedTo, Relations, Repair, ScanState, Search, SearchBatch,
    SearchStore, Write, Written,
};
use crate::store::{Batches, Cached, Capabilities, Exporter, Interrupt, Store, Unwatched, Vectors, Watch};
use crate::sync::{ReplicaId, Watermark};

/// What SQLite has to tell becomes events. Once, before anything else here.
pub fn listen() {
    ffi::tell_log();
}

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
    /// Pieces of what was deleted by calls of `forget` that could not end: the next one looks for them, too.
    unproven: Mutex<forget::Unproven>,
    token: ForkToken,
    source: Source,
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
        let began = Instant::now();
        let (token, source) = (ForkToken::new(), Source::new());
        let path = request.path.clone();
        let request = Open { path: path.as_deref().map(open::absolute).transpose()?, ..request.clone() };
        let opened = Opened::open(&request, source)?;
        source.tell(Event::Opened { read_only: request.read_only, ephemeral: path.is_none(), took: began.elapsed() });
        Ok(Self {
            read_only: request.read_only,
            encrypted: AtomicBool::new(opened.cipher.is_some()),
            request: Mutex::new(request),
            path,
            closed: AtomicBool::new(false),
            opened: RwLock::new(opened),
            unproven: Mutex::default(),
            token,
            source,
        })
    }

    fn usable(&self) -> Result<()> {
        self.token.check()?;
        if self.closed() { Err(closed()) } else { Ok(()) }
    }

    /// What is open, for one call. A call may make others on the same thread, and those must not wait for a new key that
    /// waits for the first.
    fn opened(&self) -> Result<RwLockReadGuard<'_, Opened>> {
        self.usable()?;
        Ok(self.opened.read_recursive())
    }

    /// A copy knows of this replica what others were told of it. Where deletions are forgotten that must be all of it, or
    /// the copy could not sync any more.
    fn note_backup(&self) -> Result<()> {
        let note = NoteExport { acknowledged: None };
        if self.opened()?.writer.is_some() && !self.read(ops::note_export::is_enough)? {
            self.write_one(Write::NoteExport(note), &mut Unwatched)?;
        }
        Ok(())
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
        let began = Instant::now();
        let opened = self.opened.read_recursive();
        drop(opened.close());
        drop(opened.folder.lock().take());
        if let Some(cipher) = &opened.cipher {
            cipher.forget();
        }
        self.request.lock().key = None;
        let _activity = fork::enter();
        self.source.tell(Event::Closed { took: began.elapsed() });
        Ok(())
    }

    fn rekey(&self, request: Rekey) -> Result<()> {
        self.usable()?;
        rekey::run(self, request)
    }

    fn write(&self, writes: Vec<Write>, watch: &mut dyn Watch) -> Result<Vec<Written>> {
        let opened = self.opened()?;
        let writer = opened.writer()?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let drops = writes.iter().any(Write::drops_tables);
        let set: usize = writes
            .iter()
            .map(|write| if let Write::SetEmbeddings(set) = write { set.chunk_ids.len() } else { 0 })
            .sum();
        let written = writer.write(writes, watch)?;
        let derived = &opened.readers.derived;
        if drops {
            derived.dropped();
        }
        derived.wrote(set as u64 + written.iter().map(rows_of).sum::<u64>());
        Ok(written)
    }

    fn operate(&self, operation: Operation, watch: &mut dyn Watch) -> Result<()> {
        let opened = self.opened()?;
        let writer = opened.writer()?;
        if operation == Operation::Optimize {
            // Before the feed is cut: what is built now begins at its end.
            match opened.readers.derived.fold_all(&mut || watch.keep_going(0, 0)) {
                // What cannot be built is told by `health`, and is no reason to leave the rest.
                Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Closed) => return Err(error),
                _ => {}
            }
        }
        writer.operate(operation, watch)
    }

    fn forget(&self, request: Forget, watch: &mut dyn Watch) -> Result<ForgetReport> {
        let timeout = self.request.lock().timeout;
        forget::run(&*self.opened()?, request, timeout, &self.unproven, watch)
    }

    fn backup(&self, request: &Backup, watch: &mut dyn Watch) -> Result<()> {
        self.note_backup()?;
        backup::run(&*self.opened()?, request, watch)
    }

    fn stats(&self) -> Result<StoreStats> {
        stats::run(&*self.opened()?)
    }

    fn health(&self) -> Result<Health> {
        let asked = self.request.lock().path.clone();
        health::run(&*self.opened()?, asked.as_deref())
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
        self.read(|conn| ops::count::chunks(conn, collection, filter, Timestamp::now()))
    }

    fn count_documents(&self, collection: &str, filter: Option<&Filter>) -> Result<u64> {
        self.read(|conn| ops::count::documents(conn, collection, filter, Timestamp::now()))
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

    fn export(&self, request: &Export, exporter: &mut dyn Exporter) -> Result<()> {
        let opened = self.opened()?;
        // Dropped after the connection, also where the store is closed meanwhile.
        let _guard = opened.guard.lock().clone();
        self.usable()?;
        let _activity = fork::enter();
        let conn = opened.readers.separate()?;
        let snapshot = conn.unchecked_transaction()?;
        ops::export::run(&snapshot, request, exporter, &|| self.usable())
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

    fn check_recall(&self, request: &CheckRecall, interrupt: Arc<dyn Interrupt>) -> Result<RecallReport> {
        ops::check_recall::run(&self.opened()?.readers, request, &Pulse::new(None, interrupt))
    }

    fn relations(&self, request: &Relations) -> Result<Vec<Relation>> {
        self.read(|conn| ops::relations::run(conn, request))
    }

    fn related(&self, request: &RelatedTo) -> Result<Vec<Related>> {
        self.read(|conn| ops::related::run(conn, request))
    }

    fn get_state(&self, namespace: &Namespace, key: &str) -> Result<Option<StateEntry>> {
        self.read(|conn| ops::get_state::run(conn, namespace, key))
    }

    fn scan_state(&self, request: &ScanState) -> Result<Vec<StateEntry>> {
        self.read(|conn| ops::scan_state::run(conn, request))
    }

    fn count_state(&self, namespace: &Namespace) -> Result<u64> {
        self.read(|conn| ops::count_state::run(conn, namespace))
    }

    fn changes(&self, request: &Changes) -> Result<Vec<Change>> {
        self.read(|conn| ops::changes::run(conn, request))
    }

    fn last_change(&self) -> Result<i64> {
        self.read(tables::changes::last)
    }

    fn watermark(&self) -> Result<(ReplicaId, Watermark)> {
        self.read(ops::watermark::run)
    }

    fn export_changes(&self, request: &ExportChanges, batches: &mut dyn Batches) -> Result<Exported> {
        let opened = self.opened()?;
        // Dropped after the connection, also where the store is closed meanwhile.
        let _guard = opened.guard.lock().clone();
        self.usable()?;
        let note = self.read(|conn| ops::export_changes::note(conn, request))?;
        if !self.read(|conn| ops::note_export::is_noted(conn, &note))? {
            self.write_one(Write::NoteExport(note), &mut Unwatched)?;
        }
        let _activity = fork::enter();
        let conn = opened.readers.separate()?;
        let snapshot = conn.unchecked_transaction()?;
        ops::export_changes::run(&snapshot, request, batches, &|| self.usable())
    }

    fn peers(&self) -> Result<Vec<Peer>> {
        self.read(tables::sync_peers::list)
    }

    fn sync_log(&self, limit: usize) -> Result<Vec<SyncLog>> {
        self.read(|conn| tables::sync_peers::history(conn, limit))
    }

    fn conflicts(&self, limit: usize) -> Result<Vec<Conflict>> {
        self.read(|conn| tables::sync_peers::conflicts(conn, limit))
    }

    fn check(&self, request: &Check, watch: &mut dyn Watch) -> Result<CheckReport> {
        let opened = self.opened()?;
        let Opened { readers, cipher, file, .. } = &*opened;
        watched(watch, |progress| {
            let pulse = Pulse::new(None, Arc::<Progress>::clone(progress));
            readers.apart_while(&pulse, |conn| file::look(conn, file, cipher.as_deref(), request, progress))
        })
    }

    fn repair(&self, request: &Repair, watch: &mut dyn Watch) -> Result<RepairReport> {
        if let Some(to) = &request.to {
            let opened = self.opened()?;
            let Opened { readers, cipher, file, .. } = &*opened;
            return watched(watch, |progress| {
                let pulse = Pulse::new(None, Arc::<Progress>::clone(progress));
                readers.apart_while(&pulse, |conn| file::salvage(conn, file, cipher.as_deref(), to, progress))
            });
        }
        self.usable()?;
        let mut report = match self.write_one(Write::Repair, watch)? {
            Written::Repaired(report) => report,
            other => return Err(Error::internal(format!("a repair was answered by {other:?}"))),
        };
        report.problems = Store::check(self, &Check::default(), watch)?.problems;
        report.path = self.path.clone();
        Ok(report)
    }
}

/// Chunks that a write added.
fn rows_of(written: &Written) -> u64 {
    match written {
        Written::Added(result) => result.chunk_ids.len() as u64,
        Written::Ids(ids) => ids.len() as u64,
        _ => 0,
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
    use super::open::Caches;
    use super::*;
    use crate::contract;
    use crate::request::{Derived as Place, IndexAt};
    use crate::store::Unwatched;

    /// Nothing may be left in an index that is not in the rows, or the other way about.
    pub fn check(store: &dyn Store) {
        // Some tests end with a closed store.
        if store.closed() {
            return;
        }
        let report = store.check(&Check::default(), &mut Unwatched).unwrap();
        assert!(report.ok(), "{:#?}", report.problems);
    }

    fn reader(path: &Path) -> Connection {
        open::reader(path, None, std::time::Duration::ZERO, Caches::of(&Open::ephemeral())).unwrap()
    }

    /// Rowids with what they stand for, and the vectors of each space by rowid.
    fn identities(conn: &Connection) -> Vec<String> {
        let rows = |text: &str| -> Vec<String> { sql::query_all(conn, text, [], |row| row.get(0)).unwrap() };
        let mut all = rows("SELECT id || uid || document_id FROM chunks ORDER BY id");
        all.extend(rows("SELECT id || uid FROM documents ORDER BY id"));
        all.extend(rows("SELECT name || fts_generation FROM collections ORDER BY id"));
        for collection in tables::collections::list(conn).unwrap() {
            for table in tables::spaces::list(conn, collection.id).unwrap().iter().filter_map(|space| space.table()) {
                let mut reader = tables::vectors::Reader::new(conn, table);
                let mut vector = vec![0.0; table.dimension];
                for row in tables::chunks::rows_of_collection(conn, collection.id).unwrap() {
                    let there = reader.read(row, &mut vector).unwrap();
                    all.push(format!("{} {row} {there} {vector:?}", table.name()));
                }
            }
        }
        all
    }

    /// FTS5's own comparison is a write, so it needs a connection that may: what it says is what the check says.
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
            check(store);
        });
    }

    /// Of which every search is answered by a snapshot alone, by one with a tail, or by a tail that becomes a snapshot
    /// now and then.
    #[test]
    fn indexes_keep_the_contract_fresh_and_stale() {
        let folder = tempfile::tempdir().unwrap();
        let next = std::sync::atomic::AtomicUsize::new(0);
        for (rows, tail, derived) in [(0, 0, "memory"), (0, usize::MAX, "auto"), (3, 2, "auto")] {
            let open = || -> Arc<dyn Store> {
                let name = format!("{}.db", next.fetch_add(1, Ordering::Relaxed));
                let derived = if derived == "auto" { Place::Auto } else { Place::Memory };
                let index_at = Some(IndexAt { rows, tail, wait: true });
                let request = Open { derived, index_at, ..Open::file(folder.path().join(name)) };
                Arc::new(SqliteStore::open(&request).unwrap())
            };
            contract::run(&open, &|store| check(store));
        }
    }

    #[test]
    fn threads_of_one_file_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let request = Open::file(folder.path().join("s.db"));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&request).unwrap());
        contract::run_threads(&store);
    }

    #[test]
    fn two_stores_keep_the_contract_of_sync() {
        contract::run_sync(&|| Arc::new(SqliteStore::open(&Open::ephemeral()).unwrap()), &check);
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
            // Anew each time: FTS5's check on a connection goes by the structure that it read there first.
            let checked = || {
                check(store);
                let reader = reader(path);
                check_text_index(path);
                identities(&reader)
            };
            // Some tests end with a closed store.
            if store.closed() {
                check_text_index(path);
                return;
            }
            // Whatever a test left, operations keep it whole, and every row that is there in its place.
            for info in store.list_collections().unwrap() {
                store.expire(crate::request::Expire { collection: info.name }).unwrap();
            }
            let rows = checked();
            for operation in [Operation::Optimize, Operation::Vacuum] {
                store.operate(operation, &mut crate::store::Unwatched).unwrap();
                assert_eq!(checked(), rows);
            }
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

    /// Until the log is there, SQLite makes the file with a rollback journal, which a connection that only reads cannot
    /// take back.
    #[test]
    fn a_store_half_made_is_made_again_by_writing_and_refused_without() {
        let folder = tempfile::tempdir().unwrap();
        let (from, path) = (folder.path().join("from.db"), folder.path().join("a.db"));
        let conn = Connection::open(&from).unwrap();
        conn.execute_batch("PRAGMA cache_size = 1; BEGIN; CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))")
            .unwrap();
        for suffix in ["", "-journal"] {
            let copied = std::fs::copy(format!("{}{suffix}", from.display()), format!("{}{suffix}", path.display()));
            assert!(copied.unwrap() > 0);
        }
        let refused = SqliteStore::open(&Open { read_only: true, ..Open::file(&path) }).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly);
        assert!(refused.message().contains("half made"), "{refused}");
        let store = SqliteStore::open(&Open::file(&path)).unwrap();
        contract::fill(&store, 3);
        store.close().unwrap();
    }

    #[test]
    fn an_older_format_is_upgraded_by_writing_and_refused_untouched_without() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        {
            let conn = Connection::open(&path).unwrap();
            conn.execute_batch("PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL")
                .unwrap();
            migrate::make(&conn, 1).unwrap();
            conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        }
        let before = std::fs::read(&path).unwrap();
        let read_only = || SqliteStore::open(&Open { read_only: true, ..Open::file(&path) });
        let refused = read_only().err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
        assert!(refused.message().contains("older format"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let store = SqliteStore::open(&Open::file(&path)).unwrap();
        contract::fill(&store, 3);
        store.close().unwrap();
        assert_eq!(read_only().unwrap().count("c", None).unwrap(), 3);
    }

    #[test]
    fn a_backup_is_the_moment_in_which_it_began() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&Open::file(folder.path().join("a.db"))).unwrap();
        contract::fill(&store, 3);
        let copy = folder.path().join("copy.db");
        let during = |conn: &Connection| {
            tables::changes::head(conn)?;
            contract::add_each(&store, 1, 5);
            backup::to(conn, &copy, None, Caches::of(&Open::ephemeral()))
        };
        store.opened.read().readers.apart(during).unwrap();
        assert_eq!(store.count("c", None).unwrap(), 7);
        let copied = SqliteStore::open(&Open { read_only: true, ..Open::file(&copy) }).unwrap();
        assert_eq!(copied.count("c", None).unwrap(), 3);
    }

    #[test]
    fn a_file_is_kept_beside_itself_before_it_is_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = SqliteStore::open(&Open::file(&path)).unwrap();
        contract::fill(&store, 20);
        let caches = Caches::of(&Open::ephemeral());
        open::back_up(&path, None, 2, caches).unwrap();
        store.close().unwrap();
        let kept = SqliteStore::open(&Open::file(folder.path().join("a.db.format-2.bak"))).unwrap();
        assert_eq!(kept.count("c", None).unwrap(), 20);
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
        let health = store.health().unwrap();
        assert_eq!(health.status, crate::model::Status::Unhealthy);
        assert!(health.reasons.iter().any(|reason| reason.what.contains("broken rows")));
        let refused = store.operate(Operation::Optimize, &mut crate::store::Unwatched).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Internal);
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
        check(&store);
        let conn = reader(&folder.path().join("a.db"));
        let commits: i64 =
            conn.query_row("SELECT count(DISTINCT commit_tag) FROM changes", [], |row| row.get(0)).unwrap();
        assert!(commits < 16 * 19, "{commits} commits");
    }
}
