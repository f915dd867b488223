//! SQLite's locks on `-shm`, held so that a stray close cannot drop them.
//!
//! SQLite (os_unix.c) locks bytes 120 to 128 of `-shm` through one descriptor per process and file, and counts itself
//! what each of its connections holds there. POSIX locks on them belong to the process, and vanish when any code in it
//! closes the file. Here SQLite is given system calls that turn them into open file description locks, which belong to
//! that one descriptor. They exclude POSIX locks, those of other processes and those of other SQLite libraries in this
//! one.
//!
//! The locks of the database file stay as they are: SQLite may take one through a descriptor and release it through
//! another. In WAL mode they only say that somebody has the file open, and the guard says so too.
//!
//! A forked child shares open file descriptions, and with them the locks; a mapping of the file keeps one as well as a
//! descriptor does. So the locks are held through a descriptor of their own, beside the one that SQLite maps, and the
//! child puts another in its place. SQLite's counts of what is held are zero in a child that may use it (see
//! `fork.rs`), so it lacks nothing then but the deadman switch, which the guard takes.
//!
//! Linux only; with 32 bits SQLite's `struct flock` is not libc's, and nothing is changed.

#[cfg(target_pointer_width = "64")]
pub use changed::{held, inherit, install};
#[cfg(not(target_pointer_width = "64"))]
pub use unchanged::{held, inherit, install};

#[cfg(target_pointer_width = "64")]
#[allow(unsafe_code)]
mod changed {
    use std::cell::Cell;
    use std::ffi::{CStr, c_char, c_int, c_short, c_void};
    use std::fs::File;
    use std::io::Write;
    use std::mem::{self, ManuallyDrop};
    use std::os::fd::FromRawFd;
    use std::ptr;
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};

    use rusqlite::ffi;

    use crate::sqlite::fork::{Inode, inode};

    /// UNIX_SHM_BASE to UNIX_SHM_DMS.
    const FIRST: libc::off_t = 120;
    const END: libc::off_t = 129;

    /// Descriptors by their number, in pages that are made when needed and never freed, so that a child reads them
    /// without a lock. Linux gives no number beyond these unless it is told to.
    const PAGE: usize = 1 << 10;
    static PAGES: [AtomicPtr<[Entry; PAGE]>; 1 << 10] = [const { AtomicPtr::new(ptr::null_mut()) }; 1 << 10];

    /// A descriptor by which SQLite has `-shm` open.
    struct Entry {
        open: AtomicBool,
        /// The descriptor that holds the locks.
        lock: AtomicI32,
        device: AtomicU64,
        number: AtomicU64,
    }

    /// Gives SQLite the system calls. To be called before a file is opened; one that is open already keeps its locks as
    /// they are.
    pub fn install() {
        static INSTALLED: AtomicBool = AtomicBool::new(false);
        if INSTALLED.load(Ordering::Acquire) {
            return;
        }
        type Call = unsafe extern "C" fn();
        // SAFETY: the functions have the types with which SQLite calls them, but for `fcntl`, which it calls as one of
        // variable arguments, with three: on Linux these are passed as the named ones of a function are.
        let calls: [(&CStr, Call); 3] = unsafe {
            [
                (c"open", mem::transmute::<unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int, Call>(open)),
                (c"close", mem::transmute::<unsafe extern "C" fn(c_int) -> c_int, Call>(close)),
                (c"fcntl", mem::transmute::<unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int, Call>(fcntl)),
            ]
        };
        // SAFETY: SQLite starts if it has not. Its file system of this name is never unregistered, and its calls are
        // set one word at a time.
        unsafe {
            let unix = ffi::sqlite3_vfs_find(c"unix".as_ptr());
            if let Some(set) = unix.as_ref().and_then(|unix| unix.xSetSystemCall) {
                for (name, call) in calls {
                    set(unix, name.as_ptr(), Some(call));
                }
            }
        }
        INSTALLED.store(true, Ordering::Release);
    }

    /// Whether SQLite has this `-shm` open with locks that a stray close cannot drop.
    pub fn held(shm: Inode) -> bool {
        entries().any(|(_, entry)| {
            entry.open.load(Ordering::Acquire)
                && (entry.device.load(Ordering::Relaxed), entry.number.load(Ordering::Relaxed)) == shm
        })
    }

    /// In a forked child: lets go of the parent's locks. Says whether this process can take its own; else it must not
    /// use SQLite.
    ///
    /// Only system calls and atomics, as the child of a process with threads may use.
    pub fn inherit() -> bool {
        let mut whole = true;
        for (fd, entry) in entries().filter(|(_, entry)| entry.open.load(Ordering::Acquire)) {
            // First: there may be no number left for another.
            shut(entry.lock.load(Ordering::Acquire));
            let own = open_anew(fd);
            entry.lock.store(own, Ordering::Release);
            whole &= own >= 0;
        }
        whole
    }

    /// Another open file description of what a descriptor is of, also where it was removed since. Negative if there can
    /// be none.
    fn open_anew(fd: c_int) -> c_int {
        let mut path = [0; 32];
        if write!(&mut path[..31], "/proc/self/fd/{fd}").is_err() {
            return -1;
        }
        // SAFETY: the path ends with a zero.
        unsafe {
            let mode = libc::fcntl(fd, libc::F_GETFL) & libc::O_ACCMODE;
            libc::open(path.as_ptr().cast::<c_char>(), mode | libc::O_CLOEXEC)
        }
    }

    fn shut(fd: c_int) {
        // SAFETY: a number that is kept here is used by nothing else.
        unsafe { libc::close(fd) };
    }

    thread_local! {
        /// Why this thread could not open `-shm` for writing just now, where that may pass.
        static REFUSED: Cell<c_int> = const { Cell::new(0) };
    }

    /// As SQLite opens files. It opens `-shm` by the path of the database, to which it adds this.
    ///
    /// What SQLite cannot open for writing it opens for reading, and it keeps it so until all its connections close. That
    /// is right where it may not write, and wrong where the system lacked a number or room for a moment.
    unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
        // SAFETY: SQLite gives a path that ends with a zero.
        let name = unsafe { CStr::from_ptr(path) };
        if !name.to_bytes().ends_with(b"-shm") {
            // SAFETY: what the caller asked for.
            return unsafe { libc::open(path, flags, mode) };
        }
        let refused = REFUSED.take();
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        if !writes && refused != 0 {
            // SAFETY: it is this thread's own.
            unsafe { *libc::__errno_location() = refused };
            return -1;
        }
        let fd = open_shm(name, flags, mode);
        if fd < 0 && writes {
            // SAFETY: as above.
            let error = unsafe { *libc::__errno_location() };
            let forbidden = matches!(error, libc::EACCES | libc::EPERM | libc::EROFS);
            REFUSED.set(if forbidden { 0 } else { error });
        }
        fd
    }

    fn open_shm(path: &CStr, flags: c_int, mode: c_int) -> c_int {
        // SAFETY: the path ends with a zero.
        let fd = unsafe { libc::open(path.as_ptr(), flags, mode) };
        if fd < 0 {
            return fd;
        }
        let again = flags & (libc::O_ACCMODE | libc::O_CLOEXEC | libc::O_NOFOLLOW);
        // SAFETY: as above.
        let lock = unsafe { libc::open(path.as_ptr(), again) };
        if lock >= 0 {
            if remember(fd, lock) {
                return fd;
            }
            shut(lock);
        }
        // As if it had not opened: what was said last is the reason.
        shut(fd);
        -1
    }

    unsafe extern "C" fn close(fd: c_int) -> c_int {
        if let Some(entry) = entry(fd)
            && entry.open.swap(false, Ordering::AcqRel)
        {
            let lock = entry.lock.swap(-1, Ordering::AcqRel);
            // Closing is not enough while a process that is just being spawned has a copy.
            let mut all = libc::flock {
                l_type: libc::F_UNLCK as c_short,
                l_whence: libc::SEEK_SET as c_short,
                l_start: FIRST,
                l_len: END - FIRST,
                l_pid: 0,
            };
            // SAFETY: the command takes a pointer to a flock.
            unsafe { libc::fcntl(lock, libc::F_OFD_SETLK, &raw mut all) };
            shut(lock);
        }
        // SAFETY: the caller's number.
        unsafe { libc::close(fd) }
    }

    unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
        let by_description = match command {
            libc::F_SETLK => libc::F_OFD_SETLK,
            libc::F_GETLK => libc::F_OFD_GETLK,
            _ => command,
        };
        if by_description != command
            && let Some(entry) = entry(fd)
            && entry.open.load(Ordering::Acquire)
        {
            let request = argument.cast::<libc::flock>();
            // SAFETY: with these commands SQLite gives a flock of its own, relative to the beginning of the file.
            unsafe {
                if (*request).l_start >= FIRST && (*request).l_start + (*request).l_len <= END {
                    // SQLite leaves it as it was in memory, and these commands demand zero.
                    (*request).l_pid = 0;
                    return libc::fcntl(entry.lock.load(Ordering::Acquire), by_description, request);
                }
            }
        }
        // SAFETY: what the caller asked for.
        unsafe { libc::fcntl(fd, command, argument) }
    }

    fn remember(fd: c_int, lock: c_int) -> bool {
        // SAFETY: the numbers are open, and are not closed here.
        let name = |fd| ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }).metadata().map(|metadata| inode(&metadata));
        let (Some(entry), Ok(shm), Ok(again)) = (make(fd), name(fd), name(lock)) else { return false };
        if shm != again {
            // It was replaced in between.
            return false;
        }
        entry.device.store(shm.0, Ordering::Relaxed);
        entry.number.store(shm.1, Ordering::Relaxed);
        entry.lock.store(lock, Ordering::Release);
        entry.open.store(true, Ordering::Release);
        true
    }

    fn place(fd: c_int) -> Option<(&'static AtomicPtr<[Entry; PAGE]>, usize)> {
        let fd = usize::try_from(fd).ok()?;
        Some((PAGES.get(fd / PAGE)?, fd % PAGE))
    }

    fn entry(fd: c_int) -> Option<&'static Entry> {
        let (page, index) = place(fd)?;
        read(page)?.get(index)
    }

    fn make(fd: c_int) -> Option<&'static Entry> {
        let (page, index) = place(fd)?;
        if read(page).is_none() {
            let mut entries = Vec::new();
            entries.try_reserve_exact(PAGE).ok()?;
            entries.resize_with(PAGE, || Entry {
                open: AtomicBool::new(false),
                lock: AtomicI32::new(-1),
                device: AtomicU64::new(0),
                number: AtomicU64::new(0),
            });
            let made = Box::into_raw(Box::<[Entry; PAGE]>::try_from(entries).ok()?);
            if page.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: another thread's came first, and nobody saw this one.
                drop(unsafe { Box::from_raw(made) });
            }
        }
        read(page)?.get(index)
    }

    fn entries() -> impl Iterator<Item = (c_int, &'static Entry)> {
        let pages = (0..).zip(&PAGES).filter_map(|(number, page)| Some((number * PAGE, read(page)?)));
        pages
            .flat_map(|(first, page)| (first..).zip(page))
            .filter_map(|(fd, entry)| Some((c_int::try_from(fd).ok()?, entry)))
    }

    fn read(page: &AtomicPtr<[Entry; PAGE]>) -> Option<&'static [Entry; PAGE]> {
        // SAFETY: null, or from a box that is never freed.
        unsafe { page.load(Ordering::Acquire).as_ref() }
    }
}

#[cfg(not(target_pointer_width = "64"))]
mod unchanged {
    /// Changes nothing on this platform.
    pub fn install() {}

    /// Nothing can be said on this platform.
    pub fn held(_shm: crate::sqlite::fork::Inode) -> bool {
        true
    }

    /// There is nothing to let go of.
    pub fn inherit() -> bool {
        true
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
#[allow(unsafe_code)]
mod tests {
    use std::ffi::{c_int, c_short};
    use std::fs::{self, File, OpenOptions};
    use std::os::fd::{AsRawFd, FromRawFd, RawFd};
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use rusqlite::Connection;
    use rusqlite::config::DbConfig;

    use super::*;
    use crate::sqlite::fork::inode;

    fn connect(path: &Path) -> Connection {
        install();
        let conn = Connection::open(path).unwrap();
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 0; CREATE TABLE IF NOT EXISTS t (x)")
            .unwrap();
        conn
    }

    fn store() -> (tempfile::TempDir, PathBuf, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.db");
        let conn = connect(&path);
        conn.execute_batch("INSERT INTO t VALUES ('first')").unwrap();
        (folder, path, conn)
    }

    fn shm(path: &Path) -> PathBuf {
        path.with_file_name("l.db-shm")
    }

    /// Another process, with another SQLite library.
    fn python(script: &str, path: &Path) -> String {
        let script = format!(
            "
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
try:
    {script}
except sqlite3.OperationalError as error:
    print(error)
"
        );
        let output = Command::new("python3").args(["-c", &script]).arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    const COMMITS: &str = "conn.execute('INSERT INTO t VALUES (1)'); print('committed')";
    const EMPTIES_THE_LOG: &str = "print(conn.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()[0])";

    /// As another SQLite library in this process does.
    fn try_posix(file: &File, kind: c_int, byte: i64) -> bool {
        let mut request = libc::flock {
            l_type: kind as c_short,
            l_whence: libc::SEEK_SET as c_short,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: the command takes a pointer to a flock.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw mut request) == 0 }
    }

    #[test]
    fn a_writer_keeps_its_lock() {
        let (_folder, path, conn) = store();
        conn.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES ('ours')").unwrap();
        drop(fs::read(shm(&path)).unwrap());
        assert_eq!(python(COMMITS, &path), "database is locked");
        conn.execute_batch("COMMIT").unwrap();
        assert_eq!(python(COMMITS, &path), "committed");
        // And the other's is respected, with both kinds of lock on the file.
        let conn_2 = connect(&path);
        conn_2.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(conn.execute_batch("BEGIN IMMEDIATE").is_err());
        drop(conn_2);
        conn.execute_batch("INSERT INTO t VALUES ('last')").unwrap();
        assert_eq!(python("print(conn.execute('SELECT count(*) FROM t').fetchone()[0])", &path), "4");
    }

    #[test]
    fn a_reader_keeps_its_snapshot() {
        let (_folder, path, conn) = store();
        conn.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        assert_eq!(python(COMMITS, &path), "committed");
        drop(fs::read(shm(&path)).unwrap());
        assert_eq!(python(EMPTIES_THE_LOG, &path), "1");
        conn.execute_batch("ROLLBACK").unwrap();
        assert_eq!(python(EMPTIES_THE_LOG, &path), "0");
    }

    #[test]
    fn another_library_of_this_process_is_another() {
        let (_folder, path, conn) = store();
        let file = OpenOptions::new().read(true).write(true).open(shm(&path)).unwrap();
        // The deadman switch, so that it does not take itself for the first and empty -shm.
        assert!(try_posix(&file, libc::F_RDLCK, 128) && !try_posix(&file, libc::F_WRLCK, 128));
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(!try_posix(&file, libc::F_WRLCK, 120));
        conn.execute_batch("ROLLBACK").unwrap();
        assert!(try_posix(&file, libc::F_WRLCK, 120));
        assert!(conn.execute_batch("BEGIN IMMEDIATE").is_err());
        assert!(try_posix(&file, libc::F_UNLCK, 120));
        conn.execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
    }

    #[test]
    fn what_may_pass_does_not_leave_it_for_reading_only() {
        install();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.db");
        fs::create_dir(shm(&path)).unwrap();
        let conn = Connection::open(&path).unwrap();
        let refused = conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::CannotOpen));
        fs::remove_dir(shm(&path)).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    }

    /// SQLite's own, and the one that holds the locks.
    fn descriptors(path: &Path) -> Vec<RawFd> {
        let fds = fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().path());
        let found = fds.filter(|fd| fs::read_link(fd).is_ok_and(|link| link == shm(path)));
        found.map(|fd| fd.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn closing_gives_the_locks_up_where_a_copy_stays() {
        let (_folder, path, conn) = store();
        let name = inode(&fs::metadata(shm(&path)).unwrap());
        assert!(held(name));
        // SAFETY: the numbers are open; the copies are closed by the end of the test.
        let copies: Vec<File> =
            descriptors(&path).into_iter().map(|fd| unsafe { File::from_raw_fd(libc::dup(fd)) }).collect();
        assert_eq!(copies.len(), 2);
        drop(conn);
        assert!(!held(name));
        assert_eq!(descriptors(&path).len(), 2);
        let file = OpenOptions::new().read(true).write(true).open(shm(&path)).unwrap();
        assert!(try_posix(&file, libc::F_WRLCK, 128));
    }
}
