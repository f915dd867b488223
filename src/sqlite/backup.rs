//! A copy of one moment in another file, while others write. It is made in a folder of its own beside the target,
//! verified, synced and renamed over it: until then the target is what it was, whatever ends the backup.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup as Copying, StepResult};

use super::cipher::Cipher;
use super::derived;
use super::failpoints::{Site, reach};
use super::ffi;
use super::file_system::beside;
use super::guard::Guard;
use super::lock;
use super::log;
use super::migrate;
use super::open::{self, Caches};
use super::opened::Opened;
use super::ops::check;
use super::rekey;
use super::tables::{changes, replicas};
use super::txn::Progress;
use crate::error::{Error, ErrorKind, Result};
use crate::request::Backup;
use crate::store::Watch;

const PREFIX: &str = ".ragstore-backup-";
const DATABASE: &str = "copy.db";
/// Locked as long as the owner lives; the lock ends with the process, however it ends.
const OWNED: &str = "owned";

/// Pages copied between two looks at the caller's wish.
const STEP: i32 = 256;
/// Steps of SQLite's machine between two looks at the caller's wish while a copy is verified.
const OPS: i32 = 100_000;
/// How often the caller looks at its progress and at signals.
const TICK: Duration = Duration::from_millis(50);

/// Backs a store up, with the key that it has.
pub fn run(opened: &Opened, request: &Backup, watch: &mut dyn Watch) -> Result<()> {
    let target = target(&opened.file, &request.path)?;
    let (cipher, caches) = (opened.cipher.as_deref(), opened.caches);
    watched(watch, &|progress: &Arc<Progress>| {
        let folder = Folder::beside(&target)?;
        opened.readers.apart(|conn| copy(conn, &folder.database(), cipher, caches, progress))?;
        finish(folder, &target, cipher, caches, progress)
    })
    .map_err(|error| error.context(format!("backup to {}", target.display())))
}

/// Backs up what `conn` sees to `target`, of which the caller knows that nobody uses it.
pub fn to(conn: &Connection, target: &Path, cipher: Option<&Cipher>, caches: Caches) -> Result<()> {
    let progress = Arc::new(Progress::default());
    let folder = Folder::beside(target)?;
    copy(conn, &folder.database(), cipher, caches, &progress)?;
    finish(folder, target, cipher, caches, &progress)
}

/// Runs `work` on a thread of its own, while the caller looks at signals on this one.
fn watched(watch: &mut dyn Watch, work: &(dyn Fn(&Arc<Progress>) -> Result<()> + Sync)) -> Result<()> {
    let progress = Arc::new(Progress::default());
    thread::scope(|scope| {
        let (reply, outcome) = crossbeam_channel::bounded(1);
        let theirs = Arc::clone(&progress);
        let worker = thread::Builder::new().name("ragstore backup".into()).spawn_scoped(scope, move || {
            let _ = reply.send(work(&theirs));
        })?;
        let result = loop {
            match outcome.recv_timeout(TICK) {
                Ok(result) => break result,
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                    let (done, total) = (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
                    // The last of it is done when the copy is in its place.
                    if !watch.keep_going(done.min(total.saturating_sub(1)), total) {
                        progress.cancelled.store(true, Ordering::Relaxed);
                    }
                }
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break Err(Error::internal("it panicked")),
            }
        };
        // A panic is told by the channel.
        let _ = worker.join();
        if result.is_ok() {
            let total = progress.total.load(Ordering::Relaxed);
            let _ = watch.keep_going(total, total);
        }
        result
    })
}

fn wanted(progress: &Progress) -> Result<()> {
    if progress.cancelled.load(Ordering::Relaxed) {
        return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller; nothing was written to the target"));
    }
    Ok(())
}

/// Every page of the snapshot that `conn` has. Steps inside one read transaction never begin anew, however much is
/// written meanwhile.
fn copy(conn: &Connection, to: &Path, cipher: Option<&Cipher>, caches: Caches, progress: &Progress) -> Result<()> {
    // A snapshot begins with its first read.
    changes::head(conn)?;
    let mut target = open::copy(to, cipher, caches)?;
    let copying = Copying::new(conn, &mut target)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        reach(Site::Backup);
        wanted(progress)?;
        let step = lock::retry_locked(deadline, || match copying.step(STEP)? {
            StepResult::Busy | StepResult::Locked => Err(lock::timed_out()),
            other => Ok(other),
        })?;
        let now = copying.progress();
        let pages = |count: i32| u64::try_from(count).unwrap_or(0);
        // Each is copied, and then looked at.
        progress.total.store(2 * pages(now.pagecount), Ordering::Relaxed);
        progress.done.store(pages(now.pagecount) - pages(now.remaining).min(pages(now.pagecount)), Ordering::Relaxed);
        if step == StepResult::Done {
            return Ok(());
        }
    }
}

/// Makes the copy another replica, verifies it, and puts it in its place.
fn finish(
    folder: Folder,
    target: &Path,
    cipher: Option<&Cipher>,
    caches: Caches,
    progress: &Arc<Progress>,
) -> Result<()> {
    let copy = folder.database();
    {
        let mut conn = open::copy(&copy, cipher, caches)?;
        let txn = conn.transaction()?;
        replicas::renew_copy(&txn)?;
        // It is used wherever it is carried to, and its file noted when it first syncs.
        replicas::note_file(&txn, None)?;
        txn.commit()?;
        let asked = Arc::clone(progress);
        conn.progress_handler(OPS, Some(move || asked.cancelled.load(Ordering::Relaxed)))?;
        let verified = verify(&conn, progress);
        wanted(progress)?;
        verified?;
        // Moves its log into it, and removes that.
        conn.close().map_err(|(_, error)| Error::from(error))?;
    }
    if log::path(&copy).exists() {
        // SQLite does not say what failed when a connection closes.
        return Err(Error::new(ErrorKind::Io, "the copy could not be closed: its log could not be moved into it"));
    }
    File::open(&copy)?.sync_all()?;
    wanted(progress)?;
    fs::rename(&copy, target)?;
    drop(folder);
    open::sync_directory(parent(target)?)
}

/// Whether a file is a whole store: what a copy of its pages would have of the store's own damage.
fn verify(conn: &Connection, progress: &Progress) -> Result<()> {
    migrate::verify(conn)?;
    let problems = check::copy(conn, progress)?.problems;
    let Some(first) = problems.first() else { return Ok(()) };
    if let Some(system) = ffi::system_error(conn) {
        // What a disk does not give says nothing of the store.
        return Err(Error::from(system).context("the copy could not be read"));
    }
    let more = match problems.len() {
        1 => String::new(),
        found => format!(", and {} more", found - 1),
    };
    Err(Error::new(
        ErrorKind::Corrupt,
        format!(
            "the copy is damaged, and so is the store ({}: {}{more}); the target is as it was. check() says what of the \
             store, and repair() rebuilds or salvages it: then back it up again",
            first.area, first.what
        ),
    ))
}

fn parent(path: &Path) -> Result<&Path> {
    path.parent().ok_or_else(|| Error::new(ErrorKind::Argument, format!("{} names no file", path.display())))
}

/// Where the copy goes, with links followed. Refuses what is no file, what is in use, and the store itself.
fn target(own: &Path, asked: &Path) -> Result<PathBuf> {
    let path = open::absolute(asked)?;
    let refuse = |kind: ErrorKind, why: &str| Err(Error::new(kind, format!("{}: {why}", path.display())));
    let Some(name) = path.file_name() else { return refuse(ErrorKind::Argument, "it names no file; give a file name") };
    let folder = parent(&path)?;
    if !folder.is_dir() {
        // Made here, it would take the place of a disk that is not mounted.
        return refuse(ErrorKind::NotFound, "its folder is not there; make it, or mount what it is on");
    }
    let target = match fs::symlink_metadata(&path) {
        Ok(_) => match fs::canonicalize(&path) {
            Ok(target) => target,
            Err(_) => return refuse(ErrorKind::Argument, "it is a link to nothing; remove it, or give a file name"),
        },
        Err(_) => fs::canonicalize(folder)?.join(name),
    };
    if is_own(&fs::canonicalize(own)?, &target) {
        return refuse(
            ErrorKind::Argument,
            "it is a file of the store itself, or a name that the store gives to files that it removes again; give another \
             name",
        );
    }
    if let Ok(there) = fs::metadata(&target) {
        if !there.is_file() {
            return refuse(ErrorKind::Argument, "it is a directory or a device; give a file name");
        }
        for left in ["-wal", "-journal"].map(|suffix| beside(&target, suffix)) {
            if fs::metadata(&left).is_ok_and(|left| left.len() > 0) {
                return refuse(
                    ErrorKind::Locked,
                    "beside it stands a log, which SQLite would take for that of the backup; open and close it once, \
                     or give another file",
                );
            }
        }
        if Guard::in_use(&target)? {
            return refuse(ErrorKind::Locked, "it is open as a database; close it there, or give another file");
        }
    }
    Ok(target)
}

/// Whether a path is that of a file that belongs to the store in `own`, there or not: what is made under such a name
/// is taken for the store's own, and overwritten or removed.
fn is_own(own: &Path, target: &Path) -> bool {
    let files = ["", "-wal", "-shm", "-journal"].into_iter().chain(rekey::BESIDE_COPY);
    let indexes = derived::folder(own);
    target == indexes
        || target.parent() == Some(indexes.as_path())
        || files.map(|suffix| beside(own, suffix)).any(|file| target == file || same_file(target, &file))
}

#[cfg(unix)]
fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    inode(a).is_some() && inode(a) == inode(b)
}

/// Hard links are not told on this platform.
#[cfg(not(unix))]
fn same_file(_a: &Path, _b: &Path) -> bool {
    false
}

/// The folder of a copy that is being made. It is removed with this value, or by the next backup beside it when its
/// owner ended.
struct Folder {
    folder: tempfile::TempDir,
    _owned: File,
}

impl Folder {
    fn beside(target: &Path) -> Result<Self> {
        let parent = parent(target)?;
        sweep(parent);
        let folder = open::private_folder(parent, PREFIX)?;
        // Locked before it has its name: none is ever found unlocked while its owner lives.
        let (unnamed, named) = (folder.path().join("owning"), folder.path().join(OWNED));
        let owned = File::create(&unnamed)?;
        owned.lock()?;
        fs::rename(unnamed, named)?;
        let new = Self { folder, _owned: owned };
        private(&new.database())?;
        Ok(new)
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join(DATABASE)
    }
}

/// An empty file for its owner alone.
fn private(path: &Path) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options.open(path).map(drop)?)
}

/// Removes what killed backups left. Failing to is nobody's loss: the next one tries again.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let left = |name: &OsStr| name.to_string_lossy().starts_with(PREFIX);
    for entry in entries.flatten().filter(|entry| left(&entry.file_name())) {
        // A folder without the file is being made at this moment.
        if let Ok(owned) = File::open(entry.path().join(OWNED)) {
            match owned.try_lock() {
                Ok(()) => drop(fs::remove_dir_all(entry.path())),
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            }
        }
    }
}
