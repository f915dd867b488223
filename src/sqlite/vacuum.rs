//! The whole file written anew, through its log.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use rusqlite::Connection;

use super::file_system;
use super::fork;
use super::lock;
use super::optimize::Desk;
use super::sql;
use crate::error::{Error, ErrorKind, Result};

/// Rewrites the file under the writers' turn.
pub fn run(desk: Desk<'_>, path: &Path) -> Result<()> {
    let Desk { conn, guard, timeout, progress } = desk;
    let cancelled = || progress.cancelled.load(Ordering::Relaxed);
    let deadline = Instant::now() + timeout;
    let _turn = guard.map(|guard| guard.lock_writer(deadline, &cancelled)).transpose()?;
    let _activity = fork::enter();
    check_room(conn, path)?;
    // In memory it would be as large as the store.
    conn.pragma_update(None, "temp_store", "FILE")?;
    let vacuumed = lock::retry_locked(deadline, || {
        if cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller; the file is as it was"));
        }
        Ok(conn.execute_batch("VACUUM")?)
    });
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    vacuumed
}

/// Refuses where the copy, or the log that carries it, has no room.
fn check_room(conn: &Connection, path: &Path) -> Result<()> {
    let pragma = |name: &str| -> Result<u64> { Ok(conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?) };
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    let bytes = pages.saturating_mul(sql::page_size(conn)?);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let temporary = temporary_folder();
    let shared = file_system::same(folder, &temporary);
    for (place, needed) in [(folder, if shared { 2 * bytes } else { bytes }), (&temporary, bytes)] {
        if let Some(free) = file_system::free(place)
            && free < needed
        {
            return Err(Error::new(
                ErrorKind::StoreFull,
                format!(
                    "vacuum writes the store anew, {} MiB, and {} has {} MiB free of the {} it takes; free some, or give \
                     space back without a copy with optimize()",
                    bytes >> 20,
                    place.display(),
                    free >> 20,
                    needed >> 20
                ),
            ));
        }
    }
    Ok(())
}

/// Where SQLite makes its temporary files (os_unix.c).
fn temporary_folder() -> PathBuf {
    let named = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let usual = ["/var/tmp", "/usr/tmp", "/tmp"].into_iter().map(PathBuf::from);
    named.chain(usual).find(|folder| folder.is_dir()).unwrap_or_else(std::env::temp_dir)
}

#[cfg(all(test, feature = "encryption", target_os = "linux"))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::time::Duration;

    use super::*;
    use crate::request::{Key, Open};
    use crate::sqlite::cipher::Cipher;
    use crate::sqlite::open::{self, Caches, Synchronous};
    use crate::sqlite::txn::Progress;

    /// Temporary files of SQLite that are open now, removed as they are.
    fn temporary() -> Vec<Vec<u8>> {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let ours = |path: &Path| std::fs::read_link(path).is_ok_and(|link| link.to_string_lossy().contains("etilqs_"));
        links.map(|entry| entry.path()).filter(|path| ours(path)).filter_map(|path| std::fs::read(path).ok()).collect()
    }

    /// Whether a text that is stored was in a temporary file, and how many there were.
    fn seen(key: Option<Key>) -> (bool, usize) {
        // Of this test alone: others vacuum at the same time.
        const CANARY: &str = "canary of the vacuum";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        open::create_file(&path).unwrap();
        let cipher = key.as_ref().map(Cipher::new).transpose().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let caches = Caches::of(&Open { memory_limit: Some(1), ..Open::ephemeral() });
        let mut conn = open::writer(&path, cipher.as_ref(), Synchronous::Full, caches, deadline).unwrap();
        conn.execute_batch(&format!(
            "CREATE TABLE t (x);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO t SELECT '{CANARY} ' || i FROM n;
             CREATE INDEX t_x ON t (x)"
        ))
        .unwrap();
        let (found, files) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (seen, counted) = (Arc::clone(&found), Arc::clone(&files));
        conn.progress_handler(
            20_000,
            Some(move || {
                for content in temporary() {
                    counted.fetch_add(usize::from(!content.is_empty()), Ordering::Relaxed);
                    if String::from_utf8_lossy(&content).contains(CANARY) {
                        seen.store(true, Ordering::Relaxed);
                    }
                }
                false
            }),
        )
        .unwrap();
        let desk = Desk { conn: &conn, guard: None, timeout: Duration::from_secs(30), progress: &Progress::default() };
        run(desk, &path).unwrap();
        (found.load(Ordering::Relaxed), files.load(Ordering::Relaxed))
    }

    #[test]
    fn the_temporary_file_is_encrypted_where_the_store_is() {
        let (found, files) = seen(None);
        assert!(found && files > 0, "{files} files");
        let (found, files) = seen(Some(Key::raw(&[7; 32]).unwrap()));
        assert!(!found && files > 0, "{files} files");
    }
}
