//! Copies of encrypted files in which the pages that do not authenticate are empty.
//!
//! SQLCipher reads nothing more on a connection that met a page which was damaged or changed, since what comes after it
//! may be anything; an empty page it takes for one that was never written. So what is to be read around damage is read in
//! such a copy, in which only the pages that are lost are lost.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;

use super::cipher::Cipher;
use super::ffi::{self, Part};
use super::file_system::beside;
use super::open;
use super::pulse::cancelled;
use super::sql;
use super::txn::Progress;
use crate::error::{Error, Result};

/// Bytes that are copied between two looks at the caller's wish.
const STRIDE: usize = 1 << 20;

/// One that is nobody else's.
pub struct Copy {
    pub path: PathBuf,
    /// Pages of which nothing can be read.
    pub damaged: BTreeSet<u64>,
}

/// Whether SQLCipher reads nothing more on a connection, which has no transaction: what that has read it keeps.
pub fn spent(conn: &Connection) -> bool {
    conn.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0)).is_err()
}

/// Copies the file at `path` as it is in one snapshot, with its log, into a folder. No page is decrypted on the way.
///
/// While the snapshot lasts, its pages are in the file or in the log: a log that readers need does not begin anew. What
/// others write and move meanwhile is behind it, or is in the log too.
pub fn copy(path: &Path, cipher: &Cipher, folder: &Path, progress: &Progress) -> Result<Copy> {
    let source = open::salvager(path, Some(cipher), Duration::from_secs(30))?;
    let snapshot = source.unchecked_transaction()?;
    // It begins with the first read.
    snapshot.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))?;
    let copy = folder.join("authentic.db");
    let mut file = private(&copy)?;
    part(&snapshot, Part::Database, &mut file, progress)?;
    part(&snapshot, Part::Log, &mut private(&beside(&copy, "-wal"))?, progress)?;
    let page = sql::page_size(&snapshot)?;
    // SQLite reads what is left of a page as one.
    let length = file.metadata()?.len();
    file.set_len(length - length % page)?;
    let mut damaged = broken(&copy, cipher)?;
    if !damaged.is_empty() {
        // One that was written in that moment is whole by now.
        for page_number in &damaged {
            again(&snapshot, &mut file, page_number - 1, page)?;
        }
        damaged = broken(&copy, cipher)?;
    }
    // The first one was read, so it is in the log; what tells the key by stays.
    damaged.remove(&1);
    for page_number in &damaged {
        write_at(&mut file, (page_number - 1) * page, &vec![0; usize::try_from(page).unwrap_or(0)])?;
    }
    Ok(Copy { path: copy, damaged })
}

fn part(conn: &Connection, part: Part, to: &mut File, progress: &Progress) -> Result<()> {
    let length = ffi::length(conn, part)?;
    let mut buffer = vec![0; STRIDE];
    let mut at = 0;
    while at < length {
        if progress.cancelled.load(Ordering::Relaxed) {
            return Err(cancelled());
        }
        let bytes = usize::try_from(length - at).map_or(STRIDE, |left| left.min(STRIDE));
        ffi::read_at(conn, part, at, &mut buffer[..bytes])?;
        to.write_all(&buffer[..bytes])?;
        at += bytes as u64;
    }
    Ok(())
}

fn again(conn: &Connection, to: &mut File, index: u64, page: u64) -> Result<()> {
    let mut buffer = vec![0; usize::try_from(page).unwrap_or(0)];
    ffi::read_at(conn, Part::Database, index * page, &mut buffer)?;
    write_at(to, index * page, &buffer)
}

fn write_at(to: &mut File, at: u64, bytes: &[u8]) -> Result<()> {
    to.seek(SeekFrom::Start(at))?;
    Ok(to.write_all(bytes)?)
}

/// The pages of the file that do not authenticate, whatever its log has of them.
fn broken(copy: &Path, cipher: &Cipher) -> Result<BTreeSet<u64>> {
    let conn = open::alone(copy, Some(cipher))?;
    let said: Vec<String> = sql::query_all(&conn, "PRAGMA cipher_integrity_check", [], |row| row.get(0))?;
    let number = |said: &String| -> Option<u64> {
        said.split("page ").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    said.iter()
        .map(|said| number(said).ok_or_else(|| Error::internal(format!("SQLCipher says of a page: {said}"))))
        .collect()
}

fn private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options.open(path)?)
}

#[cfg(all(test, feature = "encryption"))]
mod tests {
    use std::fs;

    use super::*;
    use crate::contract;
    use crate::error::ErrorKind;
    use crate::model::{Area, CheckReport};
    use crate::request::{Check, CreateCollection, Key, Open, Operation, Repair};
    use crate::sqlite::SqliteStore;
    use crate::sqlite::open::Caches;
    use crate::store::{Store, Unwatched};

    const PAGE: u64 = 4096;

    fn key() -> Key {
        Key::raw(&[7; 32]).unwrap()
    }

    fn open_store(path: &Path) -> SqliteStore {
        SqliteStore::open(&Open { key: Some(key()), ..Open::file(path) }).unwrap()
    }

    /// A store of so many documents, of which every third leaf of a table is damaged, and those pages.
    fn damaged(path: &Path, table: &str) -> BTreeSet<u64> {
        let store = open_store(path);
        contract::fill(&store, 600);
        store.close().unwrap();
        let cipher = Cipher::new(&key()).unwrap();
        let conn = open::reader(path, Some(&cipher), Duration::ZERO, Caches::of(&Open::ephemeral())).unwrap();
        let text = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY pageno";
        let leaves: Vec<u64> = sql::query_all(&conn, text, [table], |row| row.get(0)).unwrap();
        drop(conn);
        let pages: BTreeSet<u64> = leaves.into_iter().skip(1).step_by(3).collect();
        assert!(pages.len() > 2, "{pages:?}");
        let mut bytes = fs::read(path).unwrap();
        for number in &pages {
            bytes[usize::try_from((number - 1) * PAGE + 99).unwrap()] ^= 1;
        }
        fs::write(path, bytes).unwrap();
        pages
    }

    fn areas(report: &CheckReport) -> BTreeSet<Area> {
        report.problems.iter().map(|problem| problem.area).collect()
    }

    #[test]
    fn a_copy_is_the_file_but_for_what_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let pages = damaged(&path, "chunks");
        // The end of a page is none.
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&[3; 100]);
        fs::write(&path, &bytes).unwrap();
        let cipher = Cipher::new(&key()).unwrap();
        let made = folder.path().join("made");
        fs::create_dir(&made).unwrap();
        let copied = copy(&path, &cipher, &made, &Progress::default()).unwrap();
        assert_eq!(copied.damaged, pages);
        let copied = fs::read(copied.path).unwrap();
        assert_eq!(copied.len(), bytes.len() - 100);
        for (index, (page, before)) in copied.chunks(4096).zip(bytes.chunks(4096)).enumerate() {
            let lost = pages.contains(&(index as u64 + 1));
            assert_eq!(page, if lost { &[0; 4096] } else { before });
        }
    }

    #[test]
    fn a_copy_is_one_moment_while_others_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = open_store(&path);
        contract::fill(&store, 200);
        let cipher = Cipher::new(&key()).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for thread in 0..4 {
                    contract::add_each(&store, thread, 100);
                    store.operate(Operation::Optimize, &mut Unwatched).unwrap();
                }
            });
            let mut copies = 0;
            while !writer.is_finished() || copies == 0 {
                let made = tempfile::tempdir_in(folder.path()).unwrap();
                let copied = copy(&path, &cipher, made.path(), &Progress::default()).unwrap();
                let conn = open::salvager(&copied.path, Some(&cipher), Duration::ZERO).unwrap();
                let found = crate::sqlite::ops::check::run(&conn, &Check::default(), &Progress::default()).unwrap();
                assert!(found.ok(), "{:#?}", found.problems);
                copies += 1;
            }
        });
    }

    #[test]
    fn a_damaged_page_ends_neither_reading_nor_writing_nor_looking() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let pages = damaged(&path, "chunks");
        let store = open_store(&path);
        let request = CreateCollection { name: "sound".to_owned(), ..contract::collection("sound") };
        store.create_collection(request).unwrap();
        for _ in 0..2 {
            let report = store.check(&Check::default(), &mut Unwatched).unwrap();
            let first = &report.problems[0];
            assert!(first.what.contains(&pages.first().unwrap().to_string()), "{}", first.what);
            // What lies on other pages is looked at.
            assert!(areas(&report).contains(&Area::Chunks));
            let sound = [Area::Schema, Area::Collections, Area::Relations, Area::State];
            assert!(sound.iter().all(|area| !areas(&report).contains(area)), "{report:#?}");
            let report = crate::connect::check(&path, Some(&key()), &Check::default(), &mut Unwatched).unwrap();
            assert!(report.problems[0].what.contains(&pages.first().unwrap().to_string()));
            // A write that meets the damage fails; the next one does not.
            let error = store.repair(&Repair::default(), &mut Unwatched).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            store.write_one(state(), &mut Unwatched).unwrap();
            assert_eq!(store.get_collection("sound").unwrap().name, "sound");
        }
        store.close().unwrap();
    }

    fn state() -> crate::request::Write {
        crate::request::Write::CreateCollection(CreateCollection { exist_ok: true, ..contract::collection("sound") })
    }

    #[test]
    fn what_is_salvaged_has_the_key_and_all_that_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let pages = damaged(&path, "chunks");
        let before = fs::read(&path).unwrap();
        let (new, other) = (folder.path().join("new.db"), folder.path().join("other.db"));
        let report = crate::connect::repair(&path, Some(&key()), &new, &mut Unwatched).unwrap();
        assert!(report.problems.is_empty() && !report.lost.is_empty(), "{report:#?}");
        assert_eq!(fs::read(&path).unwrap(), before);
        let store = open_store(&path);
        let again = store.repair(&Repair { to: Some(other.clone()) }, &mut Unwatched).unwrap();
        assert_eq!((&again.lost, &again.salvaged), (&report.lost, &report.salvaged));
        store.close().unwrap();
        for path in [new, other] {
            assert_eq!(SqliteStore::open(&Open::file(&path)).err().unwrap().kind(), ErrorKind::WrongKey);
            let store = open_store(&path);
            let left = store.count("c", None).unwrap();
            assert!((1..600).contains(&left), "{left} of 600 with {} pages lost", pages.len());
            assert!(store.check(&Check::default(), &mut Unwatched).unwrap().ok());
            store.close().unwrap();
        }
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    }

    #[test]
    fn a_file_of_another_key_or_of_none_is_not_taken_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (path, plain, to) =
            (folder.path().join("a.db"), folder.path().join("plain.db"), folder.path().join("to.db"));
        open_store(&path).close().unwrap();
        SqliteStore::open(&Open::file(&plain)).unwrap().close().unwrap();
        let other = Key::raw(&[8; 32]).unwrap();
        for (path, key) in [(&path, None), (&path, Some(&other)), (&plain, Some(&other))] {
            let checked = crate::connect::check(path, key, &Check::default(), &mut Unwatched).unwrap_err();
            let repaired = crate::connect::repair(path, key, &to, &mut Unwatched).unwrap_err();
            assert_eq!((checked.kind(), repaired.kind()), (ErrorKind::WrongKey, ErrorKind::WrongKey));
        }
        assert!(!to.exists());
    }
}
