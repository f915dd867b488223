//! Locks that a stray close cannot drop.
//!
//! SQLite's own locks are POSIX locks, which belong to the process and vanish when *any* code in it opens and closes the
//! file: a copy, a hash, a second SQLite library. Another process then believes that it is the last one, resets the log
//! and deletes it, or commits inside our transaction; commits that we acknowledged are gone. Open file description locks
//! belong to the descriptor that took them. So, while the store is open, this process also holds
//!
//! - a read lock on SQLite's SHARED range of the database and on the "deadman switch" byte of `-shm`: what a process
//!   must lock for writing before it may delete or reset anything as the last one;
//! - during each write, a write lock on a byte of `-shm` that SQLite does not use: writers of this library exclude each
//!   other even where SQLite's lock was dropped, so that none spills pages over the frames of another.
//!
//! Before each commit the writer asks whether SQLite's own write lock still stands, which covers writers that are not
//! ours; what remains is the moment between that question and the commit. Closing a descriptor of the file drops the
//! process's POSIX locks too, so the descriptors here close only after the process's last connection to it.
//!
//! Linux only. Elsewhere nothing is held, and a process must not open and close a store's files while it is open.

#[cfg(target_os = "linux")]
pub use linux::Guard;
#[cfg(not(target_os = "linux"))]
pub use other::Guard;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, LazyLock, Weak};
    use std::thread;
    use std::time::{Duration, Instant};

    use parking_lot::{Mutex, MutexGuard};

    use crate::error::{Error, ErrorKind, Result};
    use crate::sqlite::lock::timed_out;

    /// SQLite's SHARED_FIRST and SHARED_SIZE (os_unix.c).
    const SHARED: Range = Range { start: 0x4000_0002, length: 510 };
    /// UNIX_SHM_DMS, held for reading by every process that has `-shm` mapped.
    const DEADMAN: Range = Range { start: 128, length: 1 };
    /// WAL_WRITE_LOCK: UNIX_SHM_BASE + 0.
    const WAL_WRITE: Range = Range { start: 120, length: 1 };
    /// Ours: SQLite's locks in `-shm` end at byte 128.
    const WRITER: Range = Range { start: 136, length: 1 };

    /// Another process holds these for writing only while it opens, recovers or closes the file.
    const PATIENCE: Duration = Duration::from_secs(10);
    const SHORTEST: Duration = Duration::from_micros(100);
    const LONGEST: Duration = Duration::from_millis(3);

    #[derive(Clone, Copy)]
    struct Range {
        start: libc::off_t,
        length: libc::off_t,
    }

    type Inode = (u64, u64);

    /// One guard for each file, however many stores of this process have it open. Weak: the stores own it.
    static GUARDS: LazyLock<Mutex<HashMap<Inode, Weak<Guard>>>> = LazyLock::new(Mutex::default);

    /// The locks of this process on one file.
    pub struct Guard {
        inode: Inode,
        /// Kept for its lock.
        _database: File,
        shm: File,
        /// Stores of one process share the descriptor, so its lock does not part them.
        turn: Mutex<()>,
    }

    /// The writers' turn.
    pub struct WriterLock<'g> {
        guard: &'g Guard,
        _turn: MutexGuard<'g, ()>,
    }

    impl Guard {
        /// Takes the locks, or joins those of another store of this process. SQLite must have read the file before, so
        /// that `-shm` is there.
        pub fn acquire(path: &Path) -> Result<Arc<Self>> {
            let mut guards = GUARDS.lock();
            let inode = inode(&std::fs::metadata(path)?);
            if let Some(guard) = guards.get(&inode).and_then(Weak::upgrade) {
                return Ok(guard);
            }
            let database = open(path)?;
            let shm = open(&beside(path, "-shm"))?;
            // From here on no path may drop a file: that would drop the locks of the connection that is open already.
            let (database, shm) = (std::mem::ManuallyDrop::new(database), std::mem::ManuallyDrop::new(shm));
            if self::inode(&database.metadata()?) != inode {
                return Err(Error::new(ErrorKind::Io, format!("{} was replaced while it was opened", path.display())));
            }
            let deadline = Instant::now() + PATIENCE;
            lock(&database, libc::F_RDLCK, SHARED, deadline, &|| false)?;
            lock(&shm, libc::F_RDLCK, DEADMAN, deadline, &|| false)?;
            let guard = Arc::new(Self {
                inode,
                _database: std::mem::ManuallyDrop::into_inner(database),
                shm: std::mem::ManuallyDrop::into_inner(shm),
                turn: Mutex::new(()),
            });
            guards.insert(inode, Arc::downgrade(&guard));
            Ok(guard)
        }

        /// Waits for the writers' turn, among the stores of this process and among processes.
        pub fn lock_writer(&self, deadline: Instant, cancelled: &dyn Fn() -> bool) -> Result<WriterLock<'_>> {
            let turn = self.turn.try_lock_until(deadline).ok_or_else(timed_out)?;
            lock(&self.shm, libc::F_WRLCK, WRITER, deadline, cancelled)?;
            Ok(WriterLock { guard: self, _turn: turn })
        }

        /// Waits while another SQLite library of this process writes: Python's own, say. To POSIX locks the two are one
        /// and do not exclude each other; the store's own writers are excluded already. One that begins later is not
        /// seen, so two libraries of one process must not write one file at the same time.
        pub fn wait_for_other_libraries(&self, deadline: Instant, cancelled: &dyn Fn() -> bool) -> Result<()> {
            let mut pause = SHORTEST;
            while self.write_lock_stands()? {
                wait(&mut pause, deadline, cancelled)?;
            }
            Ok(())
        }

        /// Whether SQLite's write lock, taken by this process, is still there.
        pub fn write_lock_stands(&self) -> Result<bool> {
            let mut request = flock(libc::F_WRLCK, WAL_WRITE);
            fcntl(&self.shm, libc::F_OFD_GETLK, &mut request)?;
            Ok(request.l_type == libc::F_WRLCK as libc::c_short
                && u32::try_from(request.l_pid) == Ok(std::process::id()))
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            let mut guards = GUARDS.lock();
            // A new guard of the same file may have taken the place.
            if guards.get(&self.inode).is_some_and(|guard| guard.strong_count() == 0) {
                guards.remove(&self.inode);
            }
        }
    }

    impl Drop for WriterLock<'_> {
        fn drop(&mut self) {
            // Unlocking a range that is locked cannot fail, and the end of the process unlocks it anyway.
            let _ = fcntl(&self.guard.shm, libc::F_OFD_SETLK, &mut flock(libc::F_UNLCK, WRITER));
        }
    }

    /// In a forked child: lets go of every guard. The descriptors close, which drops nothing of the parent's: its POSIX
    /// locks are not the child's, and open file description locks live until the last copy closes.
    pub fn release_in_child() {
        // Held by another thread at the moment of the fork, the lock is never released here.
        let Some(mut guards) = GUARDS.try_lock() else { return };
        for guard in guards.drain().filter_map(|(_, guard)| guard.upgrade()) {
            for file in [&guard._database, &guard.shm] {
                close(file);
            }
            // Its files are closed; dropping it would close their numbers again.
            std::mem::forget(guard);
        }
    }

    fn inode(metadata: &std::fs::Metadata) -> Inode {
        (metadata.dev(), metadata.ino())
    }

    fn beside(path: &Path, suffix: &str) -> PathBuf {
        let mut name = OsString::from(path);
        name.push(suffix);
        name.into()
    }

    fn open(path: &Path) -> Result<File> {
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).open(path).or_else(|error| match error.kind() {
            // Without the right to write there is no writer, whose lock alone needs it.
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => File::open(path),
            _ => Err(error),
        });
        opened.map_err(|error| Error::from(error).context(path.display()))
    }

    fn lock(
        file: &File,
        kind: libc::c_int,
        range: Range,
        deadline: Instant,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        let mut pause = SHORTEST;
        loop {
            match fcntl(file, libc::F_OFD_SETLK, &mut flock(kind, range)) {
                Ok(()) => return Ok(()),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES | libc::EINTR)) => {}
                Err(error) => return Err(error.into()),
            }
            wait(&mut pause, deadline, cancelled)?;
        }
    }

    fn wait(pause: &mut Duration, deadline: Instant, cancelled: &dyn Fn() -> bool) -> Result<()> {
        if cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled while waiting for another writer"));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out());
        }
        thread::sleep((*pause).min(left));
        *pause = (*pause * 2).min(LONGEST);
        Ok(())
    }

    fn flock(kind: libc::c_int, range: Range) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: range.start,
            l_len: range.length,
            // Open file description locks demand it.
            l_pid: 0,
        }
    }

    #[allow(unsafe_code)]
    fn fcntl(file: &File, command: libc::c_int, request: &mut libc::flock) -> std::io::Result<()> {
        // SAFETY: the descriptor is open as long as `file` is borrowed, and both commands take a pointer to a flock.
        let code = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(request)) };
        if code == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }

    #[allow(unsafe_code)]
    fn close(file: &File) {
        // SAFETY: called in a forked child alone, whose copies of these files are forgotten right after.
        unsafe { libc::close(file.as_raw_fd()) };
    }

    #[cfg(test)]
    mod tests {
        use std::process::Command;

        use rusqlite::Connection;
        use rusqlite::config::DbConfig;

        use super::*;

        fn python(script: &str, path: &Path) -> String {
            let output = Command::new("python3").arg("-c").arg(script).arg(path).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        }

        fn store(folder: &Path) -> (PathBuf, Connection) {
            let path = folder.join("l.db");
            let conn = Connection::open(&path).unwrap();
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
            conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES ('first')")
                .unwrap();
            (path, conn)
        }

        fn rows(path: &Path) -> String {
            let script =
                "import sqlite3, sys; print(*[r[0] for r in sqlite3.connect(sys.argv[1]).execute('SELECT x FROM t')])";
            python(script, path)
        }

        const OTHER_COMMITS: &str = "
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.2)
try:
    conn.execute('BEGIN IMMEDIATE')
    conn.execute(\"INSERT INTO t VALUES ('other')\")
    conn.execute('COMMIT')
    print('committed')
except sqlite3.OperationalError as error:
    print(error)
";

        /// Another process closes as if it were the last one, after a stray close here.
        fn stray_close_of_the_database(guarded: bool) -> String {
            let folder = tempfile::tempdir().unwrap();
            let (path, conn) = store(folder.path());
            let guard = guarded.then(|| Guard::acquire(&path).unwrap());
            drop(std::fs::read(&path).unwrap());
            assert_eq!(python(OTHER_COMMITS, &path), "committed");
            conn.execute_batch("INSERT INTO t VALUES ('acknowledged')").unwrap();
            let seen = rows(&path);
            drop(conn);
            drop(guard);
            seen
        }

        #[test]
        fn a_stray_close_loses_nothing() {
            assert_eq!(stray_close_of_the_database(true), "first other acknowledged");
            // Without the guard it does, so this test can fail.
            assert_eq!(stray_close_of_the_database(false), "first other");
        }

        #[test]
        fn a_lost_write_lock_is_seen() {
            let folder = tempfile::tempdir().unwrap();
            let (path, conn) = store(folder.path());
            let guard = Guard::acquire(&path).unwrap();
            assert!(!guard.write_lock_stands().unwrap());
            guard.wait_for_other_libraries(Instant::now(), &|| false).unwrap();
            conn.execute_batch("BEGIN IMMEDIATE").unwrap();
            let busy = guard.wait_for_other_libraries(Instant::now(), &|| false);
            assert_eq!(busy.unwrap_err().kind(), ErrorKind::Locked);
            assert!(guard.write_lock_stands().unwrap());
            drop(std::fs::read(beside(&path, "-shm")).unwrap());
            assert!(!guard.write_lock_stands().unwrap());
            conn.execute_batch("ROLLBACK").unwrap();
        }

        #[test]
        fn stores_of_one_process_share_a_guard_and_take_turns() {
            let folder = tempfile::tempdir().unwrap();
            let (path, conn) = store(folder.path());
            let (a, b) = (Guard::acquire(&path).unwrap(), Guard::acquire(&path).unwrap());
            assert!(Arc::ptr_eq(&a, &b));
            let turn = a.lock_writer(Instant::now(), &|| false).unwrap();
            let soon = Instant::now() + Duration::from_millis(20);
            assert_eq!(b.lock_writer(soon, &|| false).err().unwrap().kind(), ErrorKind::Locked);
            let script = "
import fcntl, struct, sys
with open(sys.argv[1] + '-shm', 'r+b') as file:
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack('hhqqixxxx', fcntl.F_WRLCK, 0, 136, 1, 0))
        print('locked')
    except BlockingIOError:
        print('refused')
";
            let script = script.replace("fcntl.F_OFD_SETLK", &libc::F_OFD_SETLK.to_string());
            assert_eq!(python(&script, &path), "refused");
            drop(turn);
            assert_eq!(python(&script, &path), "locked");
            drop((a, conn));
            drop(b);
            assert!(GUARDS.lock().get(&inode(&std::fs::metadata(&path).unwrap())).is_none());
        }
    }
}

#[cfg(target_os = "linux")]
pub use linux::release_in_child;
#[cfg(not(target_os = "linux"))]
pub use other::release_in_child;

#[cfg(not(target_os = "linux"))]
mod other {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Instant;

    use crate::error::Result;

    /// Holds nothing on this platform.
    pub struct Guard;

    /// Holds nothing on this platform.
    pub struct WriterLock;

    impl Guard {
        /// Succeeds.
        pub fn acquire(_path: &Path) -> Result<Arc<Self>> {
            Ok(Arc::new(Self))
        }

        /// Succeeds; SQLite's own lock is the only one.
        pub fn lock_writer(&self, _deadline: Instant, _cancelled: &dyn Fn() -> bool) -> Result<WriterLock> {
            Ok(WriterLock)
        }

        /// Cannot be asked on this platform.
        pub fn wait_for_other_libraries(&self, _deadline: Instant, _cancelled: &dyn Fn() -> bool) -> Result<()> {
            Ok(())
        }

        /// Cannot be asked on this platform.
        pub fn write_lock_stands(&self) -> Result<bool> {
            Ok(true)
        }
    }

    /// Nothing is held.
    pub fn release_in_child() {}
}
