//! Files that may be too damaged to be a store: looked at, and read into a new one, without opening them as one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::authentic;
use super::cipher::Cipher;
use super::fork;
use super::guard::Guard;
use super::migrate;
use super::open::{self, Caches, Synchronous};
use super::ops;
use super::pulse::Pulse;
use super::readers::Reader;
use super::txn::{Progress, Txn};
use super::watched::watched;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Area, CheckReport, Problem, RepairReport};
use crate::request::{Check, Key, Open};
use crate::store::Watch;

/// How long another process may be in the way.
const PATIENCE: Duration = Duration::from_secs(30);
const PREFIX: &str = ".ragstore-repair-";
/// Where SQLite's pages have what they say; of every store.
const PAGE: usize = 8192;

/// Looks at a file.
pub fn check(path: &Path, key: Option<&Key>, request: &Check, watch: &mut dyn Watch) -> Result<CheckReport> {
    let path = there(path)?;
    let cipher = key.map(Cipher::new).transpose()?;
    let cipher = cipher.as_ref();
    watched(watch, |progress| {
        let looked = with(&path, cipher, progress, |conn| {
            match migrate::header(conn) {
                Err(error) if error.kind() == ErrorKind::SchemaTooNew => return Err(error),
                Err(error) => match open::no_log(&path, &error) {
                    Some(why) => return Err(why),
                    None => return Ok(unreadable(error.message())),
                },
                Ok(_) => {}
            }
            look(conn, &path, cipher, request, progress)
        });
        match looked {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(unreadable(error.message())),
            other => other,
        }
    })
}

/// Looks at everything in the snapshot that `conn` has of the file.
pub fn look(
    conn: &Connection,
    path: &Path,
    cipher: Option<&Cipher>,
    request: &Check,
    progress: &Arc<Progress>,
) -> Result<CheckReport> {
    let report = ops::check::run(conn, request, progress)?;
    let damaged = report.problems.iter().any(|problem| problem.area != Area::Format);
    let Some(cipher) = cipher.filter(|_| damaged) else { return Ok(report) };
    // Of a page that is damaged, whatever came after it was not looked at.
    let around = || -> Result<Option<CheckReport>> {
        let folder = open::private_folder(&std::env::temp_dir(), PREFIX)?;
        let copy = authentic::copy(path, cipher, folder.path(), progress)?;
        if copy.damaged.is_empty() {
            return Ok(None);
        }
        let look = |conn: &Connection| ops::check::run(conn, request, progress);
        let mut report = with(&copy.path, Some(cipher), progress, look)?;
        report.problems.insert(0, undecrypted(&copy.damaged));
        Ok(Some(report))
    };
    match around() {
        Ok(found) => Ok(found.unwrap_or(report)),
        // There is no room for the copy.
        Err(error) if matches!(error.kind(), ErrorKind::StoreFull | ErrorKind::Io) => Ok(report),
        Err(error) => Err(error),
    }
}

fn undecrypted(pages: &BTreeSet<u64>) -> Problem {
    const NAMED: usize = 10;
    let mut named: Vec<String> = pages.iter().take(NAMED).map(u64::to_string).collect();
    if pages.len() > NAMED {
        named.push(format!("and {} more", pages.len() - NAMED));
    }
    let what = format!("pages that were damaged or changed, and cannot be decrypted: {}", named.join(", "));
    Problem { area: Area::File, what, repairable: false }
}

fn unreadable(why: &str) -> CheckReport {
    CheckReport { problems: vec![Problem { area: Area::File, what: why.to_owned(), repairable: false }] }
}

/// Makes a new store of what can be read of a file.
pub fn repair(path: &Path, key: Option<&Key>, to: &Path, watch: &mut dyn Watch) -> Result<RepairReport> {
    let path = there(path)?;
    if let Some(cipher) = key.map(Cipher::new).transpose()? {
        return watched(watch, |progress| {
            with(&path, Some(&cipher), progress, |conn| {
                // What the first page says is what was written there.
                migrate::header(conn)?;
                salvage(conn, &path, Some(&cipher), to, progress)
            })
        });
    }
    watched(watch, |progress| {
        let readable = with(&path, None, progress, |conn| {
            match migrate::header(conn) {
                Err(error) if error.kind() == ErrorKind::SchemaTooNew => return Err(error),
                // Another application's file is not for this one to take apart.
                Err(error) if looks_sound(&path)? || open::no_log(&path, &error).is_some() => return Err(error),
                _ => {}
            }
            ops::repair::has_content(conn)
        });
        match readable {
            Ok(true) => with(&path, None, progress, |conn| fill(conn, None, to, progress)),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::SchemaTooNew | ErrorKind::Cancelled | ErrorKind::Locked | ErrorKind::WrongKey
                ) =>
            {
                Err(error)
            }
            Err(error) if looks_sound(&path)? || open::no_log(&path, &error).is_some() => Err(error),
            // Nothing is to be read as long as the header says something else than every store's does.
            _ => with_sound_header(&path, to, progress),
        }
    })
}

/// Whether the header is that of an SQLite database that is not ours. Asked only of a file that no store has open: closing
/// it drops the locks of this process.
fn looks_sound(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut header = [0; 100];
    let mut file = File::open(path)?;
    if file.read_exact(&mut header).is_err() {
        return Ok(false);
    }
    let application = i32::from_be_bytes([header[68], header[69], header[70], header[71]]);
    Ok(header.starts_with(b"SQLite format 3\0") && ![0, migrate::APPLICATION_ID].contains(&application))
}

/// Salvages a copy whose header is what that of every store is.
fn with_sound_header(path: &Path, to: &Path, progress: &Arc<Progress>) -> Result<RepairReport> {
    let folder = folder_beside(to)?;
    let copy = folder.path().join("copy.db");
    fs::copy(path, &copy)?;
    let log = beside(path, "-wal");
    if log.exists() {
        fs::copy(log, beside(&copy, "-wal"))?;
    }
    write_header(&copy)?;
    with(&copy, None, progress, |conn| fill(conn, None, to, progress)).map_err(|error| match error.kind() {
        ErrorKind::Corrupt => {
            let what = format!("{}: nothing of a store can be read: {}", path.display(), error.message());
            Error::new(ErrorKind::Corrupt, what)
        }
        _ => error,
    })
}

/// What SQLite reads before anything else: page size, version, encoding, and a list of free pages that is empty.
fn write_header(path: &Path) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom, Write};
    let mut file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; 100];
    file.read_exact(&mut header)
        .map_err(|_| Error::new(ErrorKind::Corrupt, "the file is shorter than the header of a database"))?;
    header[..16].copy_from_slice(b"SQLite format 3\0");
    header[16..18].copy_from_slice(&(PAGE as u16).to_be_bytes());
    header[18..24].copy_from_slice(&[2, 2, 0, 64, 32, 32]);
    let pages = u32::try_from(length.div_ceil(PAGE as u64)).unwrap_or(u32::MAX);
    header[28..32].copy_from_slice(&pages.to_be_bytes());
    header[32..40].fill(0);
    header[44..48].copy_from_slice(&4u32.to_be_bytes());
    header[52..56].copy_from_slice(&1u32.to_be_bytes());
    header[56..60].copy_from_slice(&1u32.to_be_bytes());
    header[64..68].copy_from_slice(&1u32.to_be_bytes());
    header[68..72].copy_from_slice(&migrate::APPLICATION_ID.to_be_bytes());
    let counter: [u8; 4] = [header[24], header[25], header[26], header[27]];
    header[92..96].copy_from_slice(&counter);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)?;
    Ok(())
}

/// Makes a new file, with the same key, of what can be read of the one at `path`, of which `conn` has a snapshot.
pub fn salvage(
    conn: &Connection,
    path: &Path,
    cipher: Option<&Cipher>,
    to: &Path,
    progress: &Arc<Progress>,
) -> Result<RepairReport> {
    let Some(cipher) = cipher else { return fill(conn, None, to, progress) };
    vacant(&open::absolute(to)?)?;
    let folder = folder_beside(to)?;
    let copy = authentic::copy(path, cipher, folder.path(), progress)?;
    with(&copy.path, Some(cipher), progress, |conn| fill(conn, Some(cipher), to, progress))
}

fn vacant(to: &Path) -> Result<()> {
    if to.exists() {
        let what = format!("{} is there already; give the name of a new file to repair(to=...)", to.display());
        return Err(Error::new(ErrorKind::Argument, what));
    }
    Ok(())
}

/// Fills a new file from a damaged one; nothing is at its path until it is whole.
fn fill(source: &Connection, cipher: Option<&Cipher>, to: &Path, progress: &Progress) -> Result<RepairReport> {
    let to = open::absolute(to)?;
    vacant(&to)?;
    let folder = folder_beside(&to)?;
    let file = folder.path().join("store.db");
    open::create_file(&file)?;
    let (mut report, problems) = {
        let (caches, deadline) = (Caches::of(&Open::ephemeral()), Instant::now() + PATIENCE);
        let conn = open::writer(&file, cipher, Synchronous::Off, caches, deadline)?;
        // Rows come as they are, and are looked at when all are there.
        conn.pragma_update(None, "foreign_keys", false)?;
        conn.execute_batch("BEGIN IMMEDIATE")?;
        let mut txn = Txn::new(&conn)?;
        let report = ops::repair::salvage(source, &mut txn, progress)?;
        txn.finish()?;
        conn.execute_batch("COMMIT")?;
        conn.pragma_update(None, "foreign_keys", true)?;
        let problems = ops::check::run(&conn, &Check::default(), progress)?.problems;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        conn.close().map_err(|(_, error)| Error::from(error))?;
        (report, problems)
    };
    File::open(&file)?.sync_all()?;
    // A link does not take the place of what came there meanwhile; not every file system has them.
    match fs::hard_link(&file, &to) {
        Ok(()) => {}
        Err(_) => {
            vacant(&to)?;
            fs::rename(&file, &to)?;
        }
    }
    if let Some(parent) = to.parent() {
        open::sync_directory(parent)?;
    }
    report.problems = problems;
    report.path = Some(to);
    Ok(report)
}

/// Private, on the same file system, and gone in the end.
fn folder_beside(to: &Path) -> Result<tempfile::TempDir> {
    let to = open::absolute(to)?;
    let parent = to.parent().ok_or_else(|| {
        Error::new(ErrorKind::Argument, format!("path {} names no file; give a file name", to.display()))
    })?;
    fs::create_dir_all(parent)?;
    open::private_folder(parent, PREFIX)
}

fn there(path: &Path) -> Result<PathBuf> {
    let path = open::absolute(path)?;
    open::ensure_file(&path, &Open { create: false, ..Open::file(&path) })?;
    Ok(path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// One snapshot of a file, with the locks of a store as far as they are to be had.
fn with<T>(
    path: &Path,
    cipher: Option<&Cipher>,
    progress: &Arc<Progress>,
    read: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    fork::check_open()?;
    let _activity = fork::enter();
    let _opening = Guard::opening(path)?;
    let salvager = open::salvager(path, cipher, PATIENCE);
    let reader = Reader::new(salvager.map_err(|error| open::no_log(path, &error).unwrap_or(error))?)?;
    let pulse = Pulse::new(None, Arc::<Progress>::clone(progress));
    // Held while the connection is open.
    let mut _guard = None;
    let result = reader.read_while(&pulse, |conn| {
        // SQLite has read the file then; of one that it cannot read there are no locks.
        if conn.query_row("PRAGMA schema_version", [], |_| Ok(())).is_ok() {
            _guard = Guard::acquire(path).ok();
        }
        read(conn)
    });
    drop(reader);
    result.map_err(|error| open::no_log(path, &error).unwrap_or(error))
}
