//! The SQLite backend: one file, one writer thread, a pool of readers.

mod distance;
mod ephemeral;
mod ffi;
mod filter_sql;
pub mod fork;
mod guard;
mod lock;
mod migrate;
mod open;
mod ops;
mod readers;
mod row_set;
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

use rusqlite::Connection;

use self::ephemeral::Folder;
use self::fork::ForkToken;
use self::guard::Guard;
use self::readers::{Readers, closed};
use self::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::model::{Chunk, CollectionInfo, Document, Hits, NewDocument};
use crate::request::{GetDocument, ListDocuments, Neighbors, Open, Search, Write, Written};
use crate::store::{Capabilities, Store, Vectors, Watch};

/// A store in one SQLite file.
pub struct SqliteStore {
    /// As it was asked for; `None` for an ephemeral store.
    path: Option<PathBuf>,
    readers: Readers,
    /// `None` when the store is read-only.
    writer: Option<Writer>,
    closed: AtomicBool,
    token: ForkToken,
    /// After the connections: its files may close only when theirs are closed.
    guard: parking_lot::Mutex<Option<Arc<Guard>>>,
    /// After everything: it removes the files.
    folder: parking_lot::Mutex<Option<Folder>>,
}

impl SqliteStore {
    /// Opens or makes a store.
    ///
    /// # Errors
    /// As [`crate::connect::open`].
    pub fn open(request: &Open) -> Result<Self> {
        fork::check_open()?;
        let _activity = fork::enter();
        let token = ForkToken::new();
        let deadline = Instant::now() + request.timeout;
        let Some(path) = &request.path else {
            if request.read_only {
                return Err(Error::new(
                    ErrorKind::Argument,
                    "an ephemeral store begins empty, so read_only=True leaves nothing to do; give a path",
                ));
            }
            let folder = Folder::create()?;
            let conn = open::writer(&folder.database(), open::Synchronous::Off, deadline)?;
            let readers = Readers::new(folder.database(), request.timeout, request.readers, Vec::new());
            let writer = Writer::start(conn, None, request.timeout, "ephemeral")?;
            return Ok(Self::assemble(None, readers, Some(writer), token, None, Some(folder)));
        };
        let file = open::absolute(path)?;
        open::ensure_file(&file, request)?;
        let (writer, idle) = if request.read_only {
            (None, vec![open::first_reader(&file, request.timeout)?])
        } else {
            (Some(open::writer(&file, request.durability.into(), deadline)?), Vec::new())
        };
        // SQLite has read the file, so its shared memory is there for the guard to lock.
        let guard = Guard::acquire(&file)?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let writer = writer
            .map(|conn| Writer::start(conn, Some(Arc::clone(&guard)), request.timeout, &name))
            .transpose()?;
        let readers = Readers::new(file, request.timeout, request.readers, idle);
        Ok(Self::assemble(Some(path.clone()), readers, writer, token, Some(guard), None))
    }

    fn assemble(
        path: Option<PathBuf>,
        readers: Readers,
        writer: Option<Writer>,
        token: ForkToken,
        guard: Option<Arc<Guard>>,
        folder: Option<Folder>,
    ) -> Self {
        Self {
            path,
            readers,
            writer,
            closed: AtomicBool::new(false),
            token,
            guard: guard.into(),
            folder: folder.into(),
        }
    }

    fn check(&self) -> Result<()> {
        self.token.check()?;
        if self.closed() { Err(closed()) } else { Ok(()) }
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.check()?;
        self.readers.read(read)
    }
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
        self.writer.is_none()
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
            return Ok(());
        }
        self.readers.close();
        if let Some(writer) = &self.writer {
            writer.close();
        }
        drop(self.guard.lock().take());
        drop(self.folder.lock().take());
        Ok(())
    }

    fn write(&self, writes: Vec<Write>, watch: &mut dyn Watch) -> Result<Vec<Written>> {
        self.check()?;
        let Some(writer) = &self.writer else {
            return Err(Error::new(ErrorKind::ReadOnly, "the store was opened with read_only=True; open it for writing"));
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

    fn search(&self, request: &Search) -> Result<Hits> {
        self.read(|conn| ops::search::run(conn, request))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure; an unfinished checkpoint loses nothing.
        let _ = self.close();
    }
}
