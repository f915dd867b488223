//! The write-ahead log as a file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::open::sync_directory;
use crate::error::Result;

const BLOCK: usize = 1 << 20;

/// Where SQLite keeps the log of a database. It follows links, so the log is beside the file that they lead to.
pub fn path(database: &Path) -> PathBuf {
    let database = fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut name = OsString::from(database);
    name.push("-wal");
    name.into()
}

/// Writes the log over itself and syncs it, after a sync of it failed: the system may then take pages for written that
/// never were, and a second sync of those would succeed without doing anything.
///
/// Nobody else may write: the caller holds the write lock. SQLite has no locks on the log that closing it could drop.
pub fn rewrite(database: &Path) -> Result<()> {
    let path = path(database);
    let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
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
}
