//! What is open of a store: its connections, its writer and what keeps its files. A new key opens it anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::cipher::Cipher;
use super::derived::{self, Derived};
use super::ephemeral::Folder;
use super::ffi;
use super::file_system;
use super::guard::Guard;
use super::lock;
use super::migrate::Header;
use super::open::{self, Caches, Synchronous};
use super::readers::Readers;
use super::rekey;
use super::writer::{Config, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Source;
use crate::request::Open;

/// All that one opening takes and one closing gives back.
pub struct Opened {
    /// Where it is, also that of an ephemeral store. Links are followed, as SQLite follows them: what lies beside the file
    /// is the same by whatever name it was opened.
    pub file: PathBuf,
    pub caches: Caches,
    pub readers: Readers,
    /// `None` when the store is read-only.
    pub writer: Option<Writer>,
    pub cipher: Option<Arc<Cipher>>,
    /// After the connections: its files may close only when theirs are closed.
    pub guard: Mutex<Option<Arc<Guard>>>,
    /// After everything: it removes the files.
    pub folder: Mutex<Option<Folder>>,
}

impl Opened {
    /// Opens what the request names, whose path is absolute.
    pub fn open(request: &Open, source: Source) -> Result<Self> {
        let deadline = Instant::now() + request.timeout;
        let cipher = request.key.as_ref().map(Cipher::new).transpose()?.map(Arc::new);
        let Some(path) = &request.path else { return Self::ephemeral(request, cipher, source) };
        let file = open::followed(path);
        file_system::check(&file, request)?;
        open::ensure_file(&file, request)?;
        // Of a file that was made just now, the folder may be a link.
        let file = &open::followed(&file);
        loop {
            let identity = open::identity(file);
            match Self::of_file(file, request, cipher.as_ref(), deadline, source) {
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
    fn of_file(
        file: &Path,
        request: &Open,
        cipher: Option<&Arc<Cipher>>,
        deadline: Instant,
        source: Source,
    ) -> Result<Option<Self>> {
        let (caches, timeout) = (Caches::of(request), request.timeout);
        let (key, synchronous) = (cipher.map(Arc::as_ref), request.durability.into());
        // Until the guard stands, no other store of this process may close the file under SQLite's locks.
        let _opening = Guard::opening(file)?;
        let (mut reader, header) = open::first_reader(file, key, timeout, caches, deadline)?;
        let writer = match header {
            Header::Current => None,
            _ if request.read_only => return Err(open::not_without_writing(file)),
            Header::Empty | Header::Older => Some(open::writer(file, key, synchronous, caches, deadline)?),
        };
        if key.is_some() && header == Header::Empty {
            // Another process may have made the file, with a salt of its own.
            reader = Some(open::reader(file, key, timeout, caches)?);
        }
        // SQLite has read the file, so its shared memory is there for the guard to lock.
        let guard = Guard::acquire(file)?;
        // The guard keeps the file at its path from here on.
        if [&reader, &writer].into_iter().flatten().any(ffi::has_moved) {
            return Ok(None);
        }
        if !request.read_only {
            rekey::sweep(file);
            if key.is_some() {
                derived::remove(file)?;
            }
        }
        let cipher = cipher.cloned();
        let derived = Derived::new(request, file, cipher.clone(), caches);
        let readers = Readers::new(file.into(), cipher.clone(), timeout, request.readers, caches, reader, derived)?;
        let config = Config { path: file.into(), cipher: cipher.clone(), synchronous, timeout, caches, source };
        let writer =
            if request.read_only { None } else { Some(Writer::new(config, Some(Arc::clone(&guard)), writer)?) };
        let (guard, folder) = (Some(guard).into(), None.into());
        Ok(Some(Self { file: file.into(), caches, readers, writer, cipher, guard, folder }))
    }

    fn ephemeral(request: &Open, cipher: Option<Arc<Cipher>>, source: Source) -> Result<Self> {
        if request.read_only {
            return Err(Error::new(
                ErrorKind::Argument,
                "an ephemeral store begins empty, so read_only=True leaves nothing to do; give a path",
            ));
        }
        let (caches, timeout) = (Caches::of(request), request.timeout);
        let (folder, conn) = Folder::create(cipher.as_deref(), caches)?;
        let file = folder.database();
        let derived = Derived::new(request, &file, cipher.clone(), caches);
        let readers = Readers::new(file.clone(), cipher.clone(), timeout, request.readers, caches, None, derived)?;
        let (path, synchronous) = (file.clone(), Synchronous::Off);
        let config = Config { path, cipher: cipher.clone(), synchronous, timeout, caches, source };
        let writer = Some(Writer::new(config, None, Some(conn))?);
        Ok(Self { file, caches, readers, writer, cipher, guard: None.into(), folder: Some(folder).into() })
    }

    /// The writer, where the store has one.
    pub fn writer(&self) -> Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::ReadOnly, "the store was opened with read_only=True; open it for writing")
        })
    }

    /// Waits for reads and writes under way. Closes all but the guard, which it returns.
    pub fn close(&self) -> Option<Arc<Guard>> {
        self.readers.derived.close();
        self.readers.close();
        if let Some(writer) = &self.writer {
            writer.close();
        }
        self.guard.lock().take()
    }

    /// Lets go of everything without closing it: after a fork it is the parent's.
    pub fn forget(&self) {
        self.readers.derived.forget();
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
