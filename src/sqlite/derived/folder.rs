//! Where snapshots live: `<file>-index/` beside the store's file.
//!
//! A snapshot is `<kind>-<owner>-<generation>-<change>.index`: of which space or collection, of which generation of its
//! table, as of which change. One process at a time builds: it holds the file `lock`. Whatever else is in the folder and
//! has no name of ours stays as it is.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::file::{self, Header, Sections, Writer};
use super::view::{Identity, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::sqlite::file_system;
use crate::sqlite::open;
use crate::sqlite::tables::changes;

const LOCK: &str = "lock";
const SUFFIX: &str = ".index";
const TEMPORARY: &str = ".index.tmp";

/// The folder of one store.
#[derive(Debug, Clone)]
pub struct Folder {
    pub path: PathBuf,
    /// A store that only reads makes no file.
    pub writable: bool,
}

/// A snapshot that is on the disk.
#[derive(Debug, Clone)]
pub struct Found {
    pub path: PathBuf,
    pub header: Header,
    pub bytes: u64,
}

/// The turn to build. It ends with the value, or with the process.
pub struct Turn(File);

impl Drop for Turn {
    fn drop(&mut self) {
        // A child that was forked meanwhile has a copy of the descriptor; closing this one alone would not end the lock.
        let _ = self.0.unlock();
    }
}

impl Folder {
    /// Of the store in that file.
    pub fn of(file: &Path, writable: bool) -> Self {
        let mut name = file.as_os_str().to_owned();
        name.push("-index");
        Self { path: name.into(), writable }
    }

    /// Takes the turn to build, and makes the folder where it is not there; `None` while another process builds.
    pub fn turn(&self) -> Result<Option<Turn>> {
        match fs::create_dir(&self.path) {
            Ok(()) => {
                #[cfg(unix)]
                fs::set_permissions(&self.path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
                self.path.parent().map_or(Ok(()), open::sync_directory)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        let lock = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(self.path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Turn(lock))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// The snapshots of one table that have a whole header, the latest first.
    pub fn list<K: Kind>(&self, of: &K::Of) -> Vec<Found> {
        let identity = K::identity(of);
        let prefix = prefix(K::NAME, identity);
        let mut found: Vec<Found> = self.files().filter_map(|path| found(&path, &prefix)).collect();
        found.retain(|found| found.header.identity() == identity && found.header.form == K::FORM);
        found.sort_by_key(|found| std::cmp::Reverse(found.header.ended.0));
        found
    }

    /// The latest snapshot of a table that is of the history that `conn` reads, and no later than it.
    pub fn latest<K: Kind>(&self, conn: &Connection, of: &K::Of, store_id: [u8; 16]) -> Result<Option<Found>> {
        for found in self.list::<K>(of) {
            if found.header.store_id == store_id && is_past(conn, &found.header)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Writes a snapshot of about so many bytes under its name, durably.
    pub fn write<K: Kind>(
        &self,
        of: &K::Of,
        bytes: u64,
        _turn: &Turn,
        build: impl FnOnce(&mut Writer) -> Result<Header>,
    ) -> Result<(PathBuf, u64)> {
        self.check_room(bytes)?;
        let prefix = prefix(K::NAME, K::identity(of));
        let temporary = self.path.join(format!("{prefix}{TEMPORARY}"));
        let new = private(OpenOptions::new().read(true).write(true).create(true).truncate(true)).open(&temporary)?;
        let written = (|| {
            let mut writer = Writer::new(new)?;
            let header = build(&mut writer)?;
            let bytes = writer.finish(&header)?;
            let path = self.path.join(format!("{prefix}{}{SUFFIX}", header.ended.0));
            fs::rename(&temporary, &path)?;
            open::sync_directory(&self.path)?;
            Ok((path, bytes))
        })();
        if written.is_err() {
            // What stays is removed by the next build.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// What a snapshot takes must not be missing where a commit needs it.
    fn check_room(&self, bytes: u64) -> Result<()> {
        match self.path.parent().and_then(file_system::free) {
            Some(free) if free < limits::LOW_DISK_BYTES.saturating_add(bytes) => {
                Err(Error::new(ErrorKind::StoreFull, format!("the disk has only {} MiB free", free >> 20)))
            }
            _ => Ok(()),
        }
    }

    /// Copies a snapshot under another header, and under the name that goes with it.
    pub fn restamp<K: Kind>(
        &self,
        of: &K::Of,
        _turn: &Turn,
        from: &Path,
        change: impl FnOnce(Header) -> Header,
    ) -> Result<(PathBuf, u64)> {
        let prefix = prefix(K::NAME, K::identity(of));
        let temporary = self.path.join(format!("{prefix}{TEMPORARY}"));
        let header = change(file::read_header(from)?);
        let path = self.path.join(format!("{prefix}{}{SUFFIX}", header.ended.0));
        self.check_room(fs::metadata(from)?.len())?;
        let written = (|| -> Result<u64> {
            // Some file systems share the blocks of both.
            fs::copy(from, &temporary)?;
            let bytes = file::restamp(&temporary, &header)?;
            fs::rename(&temporary, &path)?;
            open::sync_directory(&self.path)?;
            Ok(bytes)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        Ok((path, written?))
    }

    /// Opens a snapshot.
    pub fn open(found: &Path) -> Result<(Header, Sections)> {
        file::open(found)
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The turn, if there is a folder.
    pub fn existing_turn(&self) -> Result<Option<Turn>> {
        if self.writable && self.exists() { self.turn() } else { Ok(None) }
    }

    /// The snapshots that have a whole header.
    pub fn headers(&self) -> Vec<(PathBuf, Header)> {
        let header = |path: PathBuf| file::read_header(&path).ok().map(|header| (path, header));
        self.files().filter_map(header).collect()
    }

    /// Removes what is left of builds that ended early, and the snapshots that `keep` does not want. What cannot be
    /// removed now, as a file that another process has mapped on some systems, is removed later.
    pub fn sweep(&self, _turn: &Turn, keep: &dyn Fn(&Path) -> bool) {
        for path in self.files().filter(|path| !keep(path)) {
            let _ = fs::remove_file(&path);
        }
    }

    /// Removes the snapshots of all collections but some, and whatever has no whole header, once nobody builds. Who
    /// builds after that reads what is there then.
    ///
    /// # Errors
    /// `Locked` where another process builds until the end of `wait`; `Io` where a file cannot be removed.
    pub fn forget(&self, stay: &BTreeSet<i64>, wait: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        let turn = loop {
            match self.turn()? {
                Some(turn) => break turn,
                None => wait()?,
            }
        };
        for path in self.files() {
            if file::read_header(&path).is_ok_and(|header| stay.contains(&header.collection_id)) {
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::from(error).context(path.display()));
                }
                _ => {}
            }
        }
        open::sync_directory(&self.path)?;
        drop(turn);
        Ok(())
    }

    /// The snapshots, also unfinished ones.
    pub fn all(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = self.files().collect();
        all.sort();
        all
    }

    /// Removes every snapshot, and the folder where it is empty then.
    pub fn remove(&self) -> Result<()> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if is_ours(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        let _ = fs::remove_file(self.path.join(LOCK));
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }

    /// Files with names of ours.
    fn files(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter(|entry| is_ours(&entry.file_name().to_string_lossy())).map(|entry| entry.path())
    }
}

/// Whether the history that `conn` reads is the one that a snapshot was made of, and has come at least as far.
pub fn is_past(conn: &Connection, header: &Header) -> Result<bool> {
    Ok(changes::has(conn, header.begun)? && changes::has(conn, header.ended)?)
}

/// Whether an error says that files cannot be made here at all, not that there is no room for one.
pub fn is_refused(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::NotFound)
}

fn found(path: &Path, prefix: &str) -> Option<Found> {
    let name = path.file_name()?.to_str()?;
    if !name.starts_with(prefix) || name.ends_with(TEMPORARY) {
        return None;
    }
    let header = file::read_header(path).ok()?;
    Some(Found { path: path.to_owned(), header, bytes: fs::metadata(path).ok()?.len() })
}

fn prefix(name: &str, identity: Identity) -> String {
    let owner = if identity.space_id == 0 { identity.collection_id } else { identity.space_id };
    format!("{name}-{owner}-{}-", identity.generation)
}

/// `<kind>-<number>-<number>-<number>.index`, or the same without the last number while it is written.
fn is_ours(name: &str) -> bool {
    let stem = name.strip_suffix(TEMPORARY).or_else(|| name.strip_suffix(SUFFIX));
    let Some(stem) = stem else { return false };
    let mut parts = stem.split('-');
    let numbers = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.next(), Some("vectors" | "text")) && parts.clone().count() == 3 && parts.all(numbers)
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_ours() {
        for name in ["vectors-1-2-3.index", "text-10-20-30.index", "vectors-1-2-.index.tmp"] {
            assert!(is_ours(name), "{name}");
        }
        for name in
            ["lock", "vectors-1-2.index", "vectors-1-2-3", "vectors-a-2-3.index", "mine.index", "text-1-2-3.index~"]
        {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn one_builds_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::of(&parent.path().join("kb.db"), true);
        let turn = folder.turn().unwrap().unwrap();
        assert!(folder.turn().unwrap().is_none());
        drop(turn);
        assert!(folder.turn().unwrap().is_some());
        assert!(parent.path().join("kb.db-index").is_dir());
    }
}
