//! The folder of an ephemeral store: private, and swept when its owner is gone.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::cipher::Cipher;
use super::file_system;
use super::open::{self, Caches, Synchronous};
use super::sql;
use super::tables::{meta, replicas};
use crate::error::{Error, Result};
use crate::request::Open;

const PREFIX: &str = "ragstore-ephemeral-";
const DATABASE: &str = "store.db";
/// Locked as long as the owner lives; the lock ends with the process, however it ends.
const OWNED: &str = "owned";

/// Nobody else writes here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that is removed with this value.
pub struct Folder {
    folder: tempfile::TempDir,
    _owned: File,
}

impl Folder {
    /// Makes a folder with an empty store in it, and its writer's connection. Copying a template takes a fraction of what
    /// its tables take to make; there is none where each store has a key and a salt of its own.
    pub fn create(cipher: Option<&Cipher>, caches: Caches) -> Result<(Self, Connection)> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep(&std::env::temp_dir()));
        let template = match cipher {
            Some(_) => &[],
            None => TEMPLATE.as_ref().map_err(Clone::clone)?.as_slice(),
        };
        let folder = open::private_folder(&std::env::temp_dir(), PREFIX)?;
        let owned = File::create(folder.path().join(OWNED))?;
        owned.lock()?;
        fs::write(folder.path().join(DATABASE), template)?;
        let new = Self { folder, _owned: owned };
        let conn = open::writer(&new.database(), cipher, Synchronous::Off, caches, Instant::now() + PATIENCE)?;
        conn.execute_batch("BEGIN")?;
        // Two stores are never one replica.
        meta::init(&conn)?;
        replicas::note_file(&conn, file_system::number_of(&conn))?;
        conn.execute_batch("COMMIT")?;
        Ok((new, conn))
    }

    /// The database in it.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join(DATABASE)
    }
}

static TEMPLATE: LazyLock<Result<Vec<u8>>> = LazyLock::new(|| {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(DATABASE);
    fs::write(&path, [])?;
    let conn = open::writer(&path, None, Synchronous::Off, Caches::of(&Open::ephemeral()), Instant::now() + PATIENCE)?;
    sql::query_one(&conn, "PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    conn.close().map_err(|(_, error)| Error::from(error))?;
    Ok(fs::read(&path)?)
});

/// Removes the folders whose owner ended without closing. Failing to is nobody's loss: the next one tries again.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        // A folder without the file is being made at this moment.
        if let Ok(owned) = File::open(entry.path().join(OWNED)) {
            match owned.try_lock() {
                Ok(()) => drop(fs::remove_dir_all(entry.path())),
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_folders_are_swept_and_owned_ones_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let [abandoned, owned, other] =
            [format!("{PREFIX}a"), format!("{PREFIX}b"), "other".to_owned()].map(|name| parent.path().join(name));
        for folder in [&abandoned, &owned, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join(OWNED), []).unwrap();
        }
        let lock = File::open(owned.join(OWNED)).unwrap();
        lock.lock().unwrap();
        sweep(parent.path());
        assert!(!abandoned.exists() && owned.exists() && other.exists());
    }

    #[test]
    fn each_store_has_an_identity_of_its_own() {
        let ids: Vec<Vec<u8>> = (0..2)
            .map(|_| {
                let (_folder, conn) = Folder::create(None, Caches::of(&Open::ephemeral())).unwrap();
                conn.query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| row.get(0)).unwrap()
            })
            .collect();
        assert_ne!(ids[0], ids[1]);
    }
}
