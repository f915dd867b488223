//! The whole file written anew, through its log.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode};

use super::ffi;
use super::file_system;
use super::fork;
use super::lock;
use super::optimize::Desk;
use super::sql;
use crate::error::{Error, ErrorKind, Result};

/// Steps of SQLite's machine between two looks at the caller's wish. A block of vectors is few steps.
const STEPS: i32 = 100;

/// Rewrites the file under the writers' turn.
pub fn run(desk: Desk<'_>, path: &Path) -> Result<()> {
    watched(desk, path, &mut || {})
}

/// The same; `look` is called every so often while SQLite does it.
fn watched(desk: Desk<'_>, path: &Path, look: &mut dyn FnMut()) -> Result<()> {
    let Desk { conn, guard, timeout, progress } = desk;
    let cancelled = || progress.cancelled.load(Ordering::Relaxed);
    let deadline = Instant::now() + timeout;
    let _turn = guard.map(|guard| guard.lock_writer(deadline, &cancelled)).transpose()?;
    let _activity = fork::enter();
    // Each is read, written to a temporary file, and moved from there.
    let total = 3 * check_room(conn, path)?;
    progress.done.store(0, Ordering::Relaxed);
    progress.total.store(total, Ordering::Relaxed);
    let mut looked = |pages: u64| {
        look();
        progress.done.store(pages.min(total), Ordering::Relaxed);
        !cancelled()
    };
    let stopped = || Error::new(ErrorKind::Cancelled, "cancelled by the caller; the file is as it was");
    // In memory it would be as large as the store.
    conn.pragma_update(None, "temp_store", "FILE")?;
    let vacuumed = lock::retry_locked(deadline, || {
        if cancelled() {
            return Err(stopped());
        }
        match ffi::watch_pages(conn, STEPS, &mut looked, || conn.execute_batch("VACUUM")) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Err(stopped()),
            done => Ok(done?),
        }
    });
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    vacuumed
}

/// Refuses where the copy, or the log that carries it, has no room. How many pages it has.
fn check_room(conn: &Connection, path: &Path) -> Result<u64> {
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
    Ok(pages)
}

/// Where SQLite makes its temporary files (os_unix.c).
fn temporary_folder() -> PathBuf {
    let named = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let usual = ["/var/tmp", "/usr/tmp", "/tmp"].into_iter().map(PathBuf::from);
    named.chain(usual).find(|folder| folder.is_dir()).unwrap_or_else(std::env::temp_dir)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::request::Open;
    use crate::sqlite::open::{self, Caches, Synchronous};
    use crate::sqlite::txn::Progress;

    #[test]
    fn whoever_waits_sees_how_far_it_is_and_may_stop_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        open::create_file(&path).unwrap();
        let (timeout, caches) = (Duration::from_secs(30), Caches::of(&Open::ephemeral()));
        let conn = open::writer(&path, None, Synchronous::Full, caches, Instant::now() + timeout).unwrap();
        // Rows as large as blocks of vectors are.
        conn.execute_batch(
            "CREATE TABLE t (x);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
             INSERT INTO t SELECT randomblob(300000) FROM n;
             DELETE FROM t WHERE rowid % 2 = 0",
        )
        .unwrap();
        let pages = || -> u64 { conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap() };
        let before = pages();
        let progress = Progress::default();
        let desk = Desk { conn: &conn, guard: None, timeout, progress: &progress };
        let stopped = watched(desk, &path, &mut || progress.cancelled.store(true, Ordering::Relaxed)).unwrap_err();
        assert_eq!(stopped.kind(), ErrorKind::Cancelled);
        assert!(conn.is_autocommit());
        assert_eq!(pages(), before);
        let progress = Progress::default();
        let (mut most, mut looks) = (0, 0);
        let mut look = || {
            let done = progress.done.load(Ordering::Relaxed);
            assert!(done >= most);
            most = done;
            looks += 1;
        };
        watched(Desk { progress: &progress, ..desk }, &path, &mut look).unwrap();
        let total = progress.total.load(Ordering::Relaxed);
        assert!(looks > 3 && most > total / 4 && most < total, "{most} of {total}, {looks} looks");
        assert!(pages() < before);
        let rows: i64 = conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 100);
    }
}

#[cfg(all(test, feature = "encryption", target_os = "linux"))]
mod encrypted_tests {
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
        let conn = open::writer(&path, cipher.as_ref(), Synchronous::Full, caches, deadline).unwrap();
        conn.execute_batch(&format!(
            "CREATE TABLE t (x);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO t SELECT '{CANARY} ' || i FROM n;
             CREATE INDEX t_x ON t (x)"
        ))
        .unwrap();
        let (mut found, mut files, mut looks) = (false, 0, 0);
        let mut look = || {
            looks += 1;
            if looks % 200 != 0 {
                return;
            }
            for content in temporary() {
                files += usize::from(!content.is_empty());
                found |= String::from_utf8_lossy(&content).contains(CANARY);
            }
        };
        let desk = Desk { conn: &conn, guard: None, timeout: Duration::from_secs(30), progress: &Progress::default() };
        watched(desk, &path, &mut look).unwrap();
        (found, files)
    }

    #[test]
    fn the_temporary_file_is_encrypted_where_the_store_is() {
        let (found, files) = seen(None);
        assert!(found && files > 0, "{files} files");
        let (found, files) = seen(Some(Key::raw(&[7; 32]).unwrap()));
        assert!(!found && files > 0, "{files} files");
    }
}
