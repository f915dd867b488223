//! The write-ahead log as a file, and how SQLite moves it into the database.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::file_system::beside;
use super::open::sync_directory;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::request::Checkpoint;

const BLOCK: usize = 1 << 20;

/// What a checkpoint did.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    /// Pages in the log, and how many of them are in the file now.
    pub pages: u64,
    pub moved: u64,
    busy: bool,
}

impl Moved {
    /// Whether nobody kept any of it from being moved.
    pub fn whole(&self) -> bool {
        !self.busy && self.pages == self.moved
    }
}

/// Moves the log as `mode` says, without waiting for anyone.
pub fn checkpoint(conn: &Connection, mode: Checkpoint) -> Result<Moved> {
    let text = match mode {
        Checkpoint::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Checkpoint::Full => "PRAGMA wal_checkpoint(FULL)",
        Checkpoint::Restart => "PRAGMA wal_checkpoint(RESTART)",
        Checkpoint::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    let (busy, frames, moved): (bool, i64, i64) =
        conn.query_row(text, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    // Negative where there is no log.
    let count = |pages: i64| u64::try_from(pages).unwrap_or_default();
    Ok(Moved { pages: count(frames), moved: count(moved), busy })
}

/// Where SQLite keeps the log of a database. It follows links, so the log is beside the file that they lead to.
pub fn path(database: &Path) -> PathBuf {
    let database = fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    beside(&database, "-wal")
}

/// Writes the log over itself and syncs it, after a sync of it failed: the system may then take pages for written that
/// never were, and a second sync of those would succeed without doing anything.
///
/// Nobody else may write: the caller holds the write lock. SQLite has no locks on the log that closing it could drop.
pub fn rewrite(database: &Path) -> Result<()> {
    let path = path(database);
    let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    copy_over(&mut file)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn copy_over(file: &mut File) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let length = file.read(&mut block)?;
        if length == 0 {
            return Ok(());
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&block[..length])?;
        at += length as u64;
    }
}

/// Bytes of the log. SQLite cuts its file when the log begins anew, so it is what the log needed since then.
pub fn length(database: &Path) -> u64 {
    fs::metadata(path(database)).map_or(0, |metadata| metadata.len())
}

/// Who keeps the log from being moved, for a message.
pub fn named(readers: &[u32]) -> String {
    let own = std::process::id();
    let mut names: Vec<String> =
        readers.iter().filter(|pid| **pid != own).map(|pid| format!("process {pid}")).collect();
    if readers.contains(&own) {
        names.push("a search or a backup of this process".to_owned());
    }
    if names.is_empty() { "a reader".to_owned() } else { names.join(" and ") }
}

/// What a write answers that would make the log longer than it may be.
pub fn full(bytes: u64, readers: &[u32]) -> Error {
    Error::new(
        ErrorKind::WalFull,
        format!(
            "the write-ahead log has {} MiB of at most {}, and cannot be moved into the file while {} reads a snapshot \
             from before; nothing of the call was stored. End that read: the next write moves the log",
            bytes >> 20,
            limits::LOG_BYTES >> 20,
            named(readers)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stays_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        rewrite(&database).unwrap();
        let bytes: Vec<u8> = (0..2 * BLOCK + 3).map(|at| (at % 251) as u8).collect();
        fs::write(path(&database), &bytes).unwrap();
        rewrite(&database).unwrap();
        assert_eq!(fs::read(path(&database)).unwrap(), bytes);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_leads_to_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.db"), folder.path().join("link.db"));
        fs::write(&file, []).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(path(&link), fs::canonicalize(folder.path()).unwrap().join("a.db-wal"));
    }

    #[test]
    fn a_message_names_the_processes() {
        assert_eq!(named(&[]), "a reader");
        assert_eq!(named(&[1, 2]), "process 1 and process 2");
        assert_eq!(named(&[1, std::process::id()]), "process 1 and a search or a backup of this process");
        let error = full(300 << 20, &[7]);
        assert_eq!(error.kind(), ErrorKind::WalFull);
        assert!(error.message().contains("300 MiB of at most 256") && error.message().contains("process 7"), "{error}");
    }
}
