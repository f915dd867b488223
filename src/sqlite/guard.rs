//! Locks that a stray close cannot drop.
//!
//! SQLite's own locks on the database file are POSIX locks, which belong to the process and vanish when *any* code in it
//! opens and closes the file: a copy, a hash, a second SQLite library. Another process then believes that it is the last
//! one, resets the log and deletes it; commits that we acknowledged are gone. Open file description locks belong to the
//! descriptor that took them, and exclude POSIX locks, also those of their own process. Those on `-shm`, which part
//! writers, readers and checkpoints, SQLite itself holds in this way (`shm_locks.rs`). Beside them, while a store is
//! open, this process holds
//!
//! - a read lock on SQLite's SHARED range of the database and on the "deadman switch" byte of `-shm`: what a process
//!   must lock for writing before it may delete, truncate or reset anything as the first or the last one. A forked child
//!   holds the second by no other means;
//! - during each write, a write lock on a byte of `-shm` that SQLite does not use, so that writers of this library take
//!   turns: SQLite's own lock goes to whoever happens to try at the right moment.
//!
//! Closing a descriptor of a file drops the process's POSIX locks on it. So a descriptor that was opened here closes
//! only when no store of this process has the file open or is opening it; until then it is parked. The order is
//! [`Guard::opening`], SQLite's first connection, [`Guard::acquire`], ..., SQLite's last connection closes, the guard
//! is dropped.
//!
//! Linux only. Elsewhere nothing is held: a process must not open and close a store's files by other means while the
//! store is open, nor use them through a second SQLite library.

/// Whether the locks are held on this platform.
pub const AVAILABLE: bool = cfg!(target_os = "linux");

#[cfg(target_os = "linux")]
pub use linux::{Exclusive, Guard, WriterLock};
#[cfg(not(target_os = "linux"))]
pub use other::{Exclusive, Guard, WriterLock};

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::ffi::{c_int, c_short};
    use std::fs::{self, File, Metadata, OpenOptions};
    use std::io;
    use std::ops::RangeInclusive;
    use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
    use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
    use std::path::Path;
    use std::ptr;
    // Not parking_lot: its locks share a table that a fork may catch half changed.
    use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
    use std::thread;
    use std::time::{Duration, Instant};

    use crate::error::{Error, ErrorKind, Result};
    use crate::sqlite::file_system::beside;
    use crate::sqlite::fork::{self, Inode, PerProcess, Slot, inode};
    use crate::sqlite::lock::timed_out;
    use crate::sqlite::lock_holders;
    use crate::sqlite::shm_locks;

    /// SQLite's SHARED_FIRST and SHARED_SIZE (os_unix.c).
    const SHARED: Range = Range { start: 0x4000_0002, length: 510 };
    /// UNIX_SHM_DMS, held for reading by every process that has `-shm` mapped.
    const DEADMAN: Range = Range { start: 128, length: 1 };
    /// WAL_READ_LOCK(0) to (4): each is held for reading by those that read a snapshot.
    const WAL_READERS: RangeInclusive<libc::off_t> = 123..=127;
    /// Ours. SQLite locks bytes 120 to 128 of `-shm`, and locks there never touch what is stored.
    const WRITER: Range = Range { start: 136, length: 1 };
    /// Ours: held by the writer that is next, so that one which writes without pause cannot overtake it.
    const NEXT: Range = Range { start: 137, length: 1 };

    /// Another process holds SHARED or DEADMAN for writing only while it opens, recovers or closes the file.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// How long whoever closes the file at this moment is waited for.
    const LEAVING: Duration = Duration::from_secs(1);
    /// Bytes of the first page.
    const SPOILED: usize = 4096;
    const SHORTEST: Duration = Duration::from_micros(50);
    const LONGEST: Duration = Duration::from_millis(3);

    #[derive(Clone, Copy)]
    struct Range {
        start: libc::off_t,
        length: libc::off_t,
    }

    /// What this process has to do with one database file.
    #[derive(Default)]
    struct Entry {
        /// Dead but not yet `None`: its drop is waiting for the registry.
        guard: Option<Weak<Guard>>,
        openings: usize,
        parked: Vec<&'static Slot>,
    }

    static REGISTRY: PerProcess<Mutex<HashMap<Inode, Entry>>> = PerProcess::new();

    /// The locks of this process on one file, shared by all its stores of that file.
    pub struct Guard {
        inode: Inode,
        slot: &'static Slot,
        generation: u64,
        /// Whether a store of this process writes: stores share the descriptor, so its lock does not part them.
        writing: Mutex<bool>,
        written: Condvar,
    }

    /// The writers' turn.
    pub struct WriterLock<'g> {
        guard: &'g Guard,
    }

    /// The file is this store's alone: no connection reads it but one that takes no locks.
    pub struct Exclusive {
        inode: Inode,
        slot: &'static Slot,
        generation: u64,
    }

    /// A store of the file is being opened: no descriptor of it closes. To be dropped after the connections, if that
    /// fails.
    pub struct Opening {
        inode: Inode,
        generation: u64,
        _inherited: Option<Arc<Guard>>,
    }

    impl Guard {
        /// To be called, and kept, before SQLite opens the file, which is there.
        ///
        /// In a forked child whose parent had the file open, SQLite takes neither SHARED nor the deadman switch; here
        /// both are taken before it reads.
        pub fn opening(path: &Path) -> Result<Opening> {
            shm_locks::install();
            let path = fs::canonicalize(path)?;
            let inode = inode(&fs::metadata(&path)?);
            let generation = fork::current();
            registry().entry(inode).or_default().openings += 1;
            let mut opening = Opening { inode, generation, _inherited: None };
            if Slot::inherited(inode).next().is_some() {
                opening._inherited = Some(Self::acquire(&path)?);
            }
            Ok(opening)
        }

        /// Takes the locks, or joins those of another store of this process. SQLite must have read the file before, so
        /// that `-shm` is there and is the one that it uses.
        pub fn acquire(path: &Path) -> Result<Arc<Self>> {
            // SQLite follows links too, and keeps `-shm` beside the file.
            let path = fs::canonicalize(path)?;
            let deadline = Instant::now() + PATIENCE;
            let mut pause = SHORTEST;
            loop {
                if let Some(guard) = Self::attempt(&path).map_err(|error| error.context(path.display()))? {
                    return Ok(guard);
                }
                if Instant::now() >= deadline {
                    return Err(Error::new(
                        ErrorKind::Locked,
                        format!(
                            "{}: another process kept it locked exclusively for {PATIENCE:?}; close it there, or end \
                             what holds it open in exclusive mode",
                            path.display()
                        ),
                    ));
                }
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST);
            }
        }

        /// `None` where another process is in the way for a moment, or a guard of this one is being dropped.
        fn attempt(path: &Path) -> Result<Option<Arc<Self>>> {
            let generation = fork::current();
            let mut entries = registry();
            let Some(database) = name(path)? else {
                return Err(Error::new(ErrorKind::NotFound, "the file was removed while it was opened"));
            };
            let entry = entries.entry(database).or_default();
            if let Some(guard) = &entry.guard {
                return Ok(guard.upgrade());
            }
            let shm_path = beside(path, "-shm");
            let shm = name(&shm_path)?;
            check_inherited(database, &shm_path)?;
            if shm.is_none() {
                return Err(Error::internal(
                    "a guard needs -shm: SQLite has not read the file yet, or another process removed it since",
                ));
            }
            let slot = match entry.parked.iter().position(|slot| Some(slot.name(Slot::SHM)) == shm) {
                Some(index) => entry.parked.swap_remove(index),
                None => Slot::take(),
            };
            let attempt = lock_files(slot, path, &shm_path).and_then(|locked| {
                // Locked or not, what was opened must be what was at the paths before and is there now.
                let opened = [Some(slot.name(Slot::DATABASE)), Some(slot.name(Slot::SHM))];
                if opened != [Some(database), shm] || opened != [name(path)?, name(&shm_path)?] {
                    return Err(Error::new(ErrorKind::Io, "the file was replaced while it was opened; open it again"));
                }
                check_inherited(database, &shm_path)?;
                if !shm_locks::held(slot.name(Slot::SHM)) {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        "other code of this process had the file open through the same SQLite before this library was \
                         first used, and has it open still; close it there, or open a store first",
                    ));
                }
                Ok(locked)
            });
            if matches!(attempt, Ok(true)) {
                let (writing, written) = (Mutex::new(false), Condvar::new());
                let guard = Arc::new(Self { inode: database, slot, generation, writing, written });
                entry.guard = Some(Arc::downgrade(&guard));
                return Ok(Some(guard));
            }
            unlock_files(slot);
            // If it turned out to be another file, stores of this process may have that one open.
            let actual = if slot.fd(Slot::DATABASE) < 0 { database } else { slot.name(Slot::DATABASE) };
            entries.entry(actual).or_default().parked.push(slot);
            attempt.map(|_| None)
        }

        /// Waits for the writers' turn, among the stores of this process and among processes.
        pub fn lock_writer(&self, deadline: Instant, cancelled: &dyn Fn() -> bool) -> Result<WriterLock<'_>> {
            self.check()?;
            let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            while *writing {
                let left = wait(deadline, cancelled)?.min(LONGEST);
                writing = self.written.wait_timeout(writing, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            *writing = true;
            drop(writing);
            // From here on its drop gives back the turn.
            let turn = WriterLock { guard: self };
            let shm = self.slot.fd(Slot::SHM);
            poll(|| try_lock(shm, libc::F_WRLCK, NEXT), deadline, cancelled)?;
            let locked = poll(|| try_lock(shm, libc::F_WRLCK, WRITER), deadline, cancelled);
            unlock(shm, NEXT);
            locked.map(|()| turn)
        }

        /// Processes that read a snapshot at this moment, as far as they can be told.
        pub fn readers(&self) -> Result<Vec<u32>> {
            self.check()?;
            let mut found = Vec::new();
            let mut unnamed = false;
            for start in WAL_READERS {
                let mut request = flock(libc::F_WRLCK, Range { start, length: 1 });
                fcntl(self.slot.fd(Slot::SHM), libc::F_OFD_GETLK, &mut request)?;
                if c_int::from(request.l_type) != libc::F_UNLCK {
                    // An open file description is nobody's in particular.
                    match u32::try_from(request.l_pid) {
                        Ok(pid) => found.push(pid),
                        Err(_) => unnamed = true,
                    }
                }
            }
            if unnamed {
                found.extend(lock_holders::of(self.slot.name(Slot::SHM), WAL_READERS));
            }
            found.sort_unstable();
            found.dedup();
            Ok(found)
        }

        /// Whether the files at the path are still those that are locked.
        pub fn in_place(&self, path: &Path) -> Result<bool> {
            self.check()?;
            let Ok(path) = fs::canonicalize(path) else { return Ok(false) };
            let locked = [Some(self.slot.name(Slot::DATABASE)), Some(self.slot.name(Slot::SHM))];
            Ok(locked == [name(&path)?, name(&beside(&path, "-shm"))?])
        }

        /// Whether a store of this process or another SQLite connection has the file open.
        pub fn in_use(path: &Path) -> Result<bool> {
            let Some(found) = name(path)? else { return Ok(false) };
            // First: closing a descriptor of what this process has open would drop SQLite's locks on it.
            if registry().get(&found).is_some_and(|entry| entry.guard.is_some() || entry.openings > 0) {
                return Ok(true);
            }
            let file = File::open(path)?;
            let mut request = flock(libc::F_WRLCK, SHARED);
            fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut request)?;
            Ok(c_int::from(request.l_type) != libc::F_UNLCK)
        }

        /// Gives up the locks, which must be those of the last store of this process, for one that keeps everyone out:
        /// SQLite's SHARED range, for writing. SQLite's connections are closed.
        pub fn exclusive(guard: Arc<Self>, path: &Path) -> Result<Exclusive> {
            guard.check()?;
            let inode = guard.inode;
            let here = || {
                Err(Error::new(
                    ErrorKind::Locked,
                    "another store of this process has the file open; close it, then try again",
                ))
            };
            if Arc::strong_count(&guard) > 1 {
                return here();
            }
            drop(guard);
            let entries = registry();
            if entries.get(&inode).is_some_and(|entry| entry.guard.is_some() || entry.openings > 0) {
                return here();
            }
            let slot = Slot::take();
            let alone = Exclusive { inode, slot, generation: fork::current() };
            drop(entries);
            occupy_standard_descriptors()?;
            slot.keep(
                Slot::DATABASE,
                OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)?,
            );
            if slot.name(Slot::DATABASE) != inode {
                return Err(Error::new(ErrorKind::Io, "the file was replaced while it was open; open it again"));
            }
            let deadline = Instant::now() + LEAVING;
            poll(|| try_lock(slot.fd(Slot::DATABASE), libc::F_WRLCK, SHARED), deadline, &|| false).map_err(
                |error| match error.kind() {
                    ErrorKind::Locked => Error::new(
                        ErrorKind::Locked,
                        "another process has the file open; close it there, then try again",
                    ),
                    _ => error,
                },
            )?;
            Ok(alone)
        }

        fn check(&self) -> Result<()> {
            if self.generation == fork::current() {
                return Ok(());
            }
            Err(Error::new(ErrorKind::Fork, "the file was opened before a fork; open the path again here"))
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            // In a forked child the descriptors are closed already, and their numbers may be others'.
            if self.generation == fork::current() {
                let mut entries = registry();
                let entry = entries.entry(self.inode).or_default();
                entry.guard = None;
                entry.parked.push(self.slot);
                tidy(&mut entries, self.inode);
            }
        }
    }

    impl Exclusive {
        /// Spoils the file, which another has replaced: a process that was about to open it must not read it beside the
        /// log of the new one. What has other names is left as it is.
        pub fn wipe(&self) {
            if self.generation == fork::current()
                && let Some(file) = self.slot.file(Slot::DATABASE)
                && file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
            {
                // Failing to is nobody's loss: openers ask whether the file has moved.
                let _ = file.write_all_at(&[0; SPOILED], 0);
            }
        }
    }

    impl Drop for Exclusive {
        fn drop(&mut self) {
            if self.generation == fork::current() {
                unlock(self.slot.fd(Slot::DATABASE), SHARED);
                let mut entries = registry();
                entries.entry(self.inode).or_default().parked.push(self.slot);
                tidy(&mut entries, self.inode);
            }
        }
    }

    impl Drop for Opening {
        fn drop(&mut self) {
            if self.generation == fork::current() {
                let mut entries = registry();
                let entry = entries.entry(self.inode).or_default();
                entry.openings = entry.openings.saturating_sub(1);
                tidy(&mut entries, self.inode);
            }
        }
    }

    impl Drop for WriterLock<'_> {
        fn drop(&mut self) {
            // A forked child must not: unlocking its copy of the descriptor would unlock the parent's.
            if self.guard.generation == fork::current() {
                unlock(self.guard.slot.fd(Slot::SHM), WRITER);
                *self.guard.writing.lock().unwrap_or_else(PoisonError::into_inner) = false;
                self.guard.written.notify_one();
            }
        }
    }

    /// Closes what is parked, if SQLite has the file open no more.
    fn tidy(entries: &mut HashMap<Inode, Entry>, inode: Inode) {
        if let Some(entry) = entries.get_mut(&inode)
            && entry.guard.is_none()
            && entry.openings == 0
        {
            for slot in entry.parked.drain(..) {
                // Closing is not enough while a process that is just being spawned has copies.
                unlock_files(slot);
                slot.free();
            }
            entries.remove(&inode);
        }
    }

    /// SQLite in a forked child keeps the mapping of its parent. It must be of the file that is there, and all of it.
    fn check_inherited(database: Inode, shm_path: &Path) -> Result<()> {
        let shm = metadata(shm_path)?;
        let usable = |slot: &Slot| {
            shm.as_ref().is_some_and(|shm| inode(shm) == slot.name(Slot::SHM) && shm.len() >= slot.length())
        };
        if Slot::inherited(database).all(usable) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Fork,
            "this process was forked while the file was open, and since then all closed it and its log began anew; \
             use the \"spawn\" or \"forkserver\" start method, or fork before opening",
        ))
    }

    /// Opens what is not open yet, and tries both locks.
    fn lock_files(slot: &Slot, path: &Path, shm_path: &Path) -> Result<bool> {
        if slot.fd(Slot::SHM) < 0 {
            occupy_standard_descriptors()?;
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_NOFOLLOW);
            let shm = options.clone().write(true).open(shm_path).or_else(|error| match error.raw_os_error() {
                // Without the right to write there is no writer, whose locks alone need it.
                Some(libc::EACCES | libc::EPERM | libc::EROFS) => options.open(shm_path),
                _ => Err(error),
            })?;
            slot.keep(Slot::SHM, shm);
        }
        if slot.fd(Slot::DATABASE) < 0 {
            slot.keep(Slot::DATABASE, File::open(path)?);
        }
        Ok(try_lock(slot.fd(Slot::DATABASE), libc::F_RDLCK, SHARED)?
            && try_lock(slot.fd(Slot::SHM), libc::F_RDLCK, DEADMAN)?)
    }

    fn unlock_files(slot: &Slot) {
        unlock(slot.fd(Slot::DATABASE), SHARED);
        unlock(slot.fd(Slot::SHM), DEADMAN);
    }

    fn registry() -> MutexGuard<'static, HashMap<Inode, Entry>> {
        REGISTRY.get().lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metadata(path: &Path) -> Result<Option<Metadata>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn name(path: &Path) -> Result<Option<Inode>> {
        Ok(metadata(path)?.as_ref().map(inode))
    }

    /// As SQLite does: what a library prints to a closed stderr must not end in a file that took its number.
    fn occupy_standard_descriptors() -> Result<()> {
        loop {
            let null = File::open("/dev/null")?;
            if null.as_raw_fd() > 2 {
                return Ok(());
            }
            let _ = null.into_raw_fd();
        }
    }

    /// Tries until it is done, at first often.
    fn poll(attempt: impl Fn() -> Result<bool>, deadline: Instant, cancelled: &dyn Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !attempt()? {
            let left = wait(deadline, cancelled)?;
            thread::sleep((began.elapsed() / 16).clamp(SHORTEST, LONGEST).min(left));
        }
        Ok(())
    }

    /// How long a writer may still wait.
    fn wait(deadline: Instant, cancelled: &dyn Fn() -> bool) -> Result<Duration> {
        if cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled while waiting for another writer"));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(timed_out()) } else { Ok(left) }
    }

    fn try_lock(fd: RawFd, kind: c_int, range: Range) -> Result<bool> {
        loop {
            match fcntl(fd, libc::F_OFD_SETLK, &mut flock(kind, range)) {
                Ok(()) => return Ok(true),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EACCES) => return Ok(false),
                    Some(libc::EINTR) => {}
                    Some(libc::EBADF) => {
                        return Err(Error::new(ErrorKind::ReadOnly, "this user may not write the store's -shm file"));
                    }
                    _ => return Err(Error::from(error).context("locking is refused; use a local file system")),
                },
            }
        }
    }

    /// Cannot fail where locking did not, and the end of the process unlocks anyway.
    fn unlock(fd: RawFd, range: Range) {
        let _ = fcntl(fd, libc::F_OFD_SETLK, &mut flock(libc::F_UNLCK, range));
    }

    fn flock(kind: c_int, range: Range) -> libc::flock {
        libc::flock {
            l_type: kind as c_short,
            l_whence: libc::SEEK_SET as c_short,
            l_start: range.start,
            l_len: range.length,
            // Open file description locks demand it.
            l_pid: 0,
        }
    }

    #[allow(unsafe_code)]
    fn fcntl(fd: RawFd, command: c_int, request: &mut libc::flock) -> io::Result<()> {
        // SAFETY: both commands take a pointer to a flock; a number that is not open is answered with an error.
        let code = unsafe { libc::fcntl(fd, command, ptr::from_mut(request)) };
        if code == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::marker::PhantomData;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Instant;

    use crate::error::Result;

    /// Holds nothing on this platform: neither a stray close nor another process that closes is kept from harm.
    pub struct Guard;

    /// Holds nothing on this platform.
    pub struct Opening;

    /// Holds nothing on this platform; SQLite's own lock is the only one.
    pub struct WriterLock<'g>(PhantomData<&'g Guard>);

    /// Holds nothing on this platform; SQLite's own lock keeps others out.
    pub struct Exclusive;

    impl Exclusive {
        /// Does nothing.
        pub fn wipe(&self) {}
    }

    impl Guard {
        /// Succeeds.
        pub fn exclusive(_guard: Arc<Self>, _path: &Path) -> Result<Exclusive> {
            Ok(Exclusive)
        }

        /// Succeeds.
        pub fn opening(_path: &Path) -> Result<Opening> {
            Ok(Opening)
        }

        /// Succeeds.
        pub fn acquire(_path: &Path) -> Result<Arc<Self>> {
            Ok(Arc::new(Self))
        }

        /// Succeeds.
        pub fn lock_writer(&self, _deadline: Instant, _cancelled: &dyn Fn() -> bool) -> Result<WriterLock<'_>> {
            Ok(WriterLock(PhantomData))
        }

        /// Cannot be asked on this platform.
        pub fn readers(&self) -> Result<Vec<u32>> {
            Ok(Vec::new())
        }

        /// Cannot be asked on this platform.
        pub fn in_place(&self, path: &Path) -> Result<bool> {
            Ok(path.exists())
        }

        /// Cannot be asked on this platform.
        pub fn in_use(_path: &Path) -> Result<bool> {
            Ok(false)
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::time::{Duration, Instant};
    use std::{fs, io::Read, thread};

    use rusqlite::Connection;
    use rusqlite::config::DbConfig;

    use super::*;
    use crate::error::ErrorKind;
    use crate::sqlite::fork::tests::alone;
    use crate::sqlite::shm_locks;

    /// Another process, with another SQLite library.
    fn python(script: &str, path: &Path) -> String {
        let output = Command::new("python3").args(["-c", script]).arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// One that says a line when it is ready and goes on.
    fn start_python(script: &str, path: &Path) -> Child {
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"ready\n");
        child
    }

    fn connect(path: &Path) -> Connection {
        shm_locks::install();
        let conn = Connection::open(path).unwrap();
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        let _: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        conn
    }

    fn store(folder: &Path) -> (PathBuf, Connection) {
        let path = folder.join("l.db");
        let conn = connect(&path);
        conn.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES ('first')").unwrap();
        (path, conn)
    }

    fn shm(path: &Path) -> PathBuf {
        path.with_file_name("l.db-shm")
    }

    fn stray_close(path: &Path) {
        drop(fs::read(path).unwrap());
    }

    fn insert(conn: &Connection, row: &str) {
        conn.execute("INSERT INTO t VALUES (?1)", [row]).unwrap();
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(30)
    }

    fn never() -> bool {
        false
    }

    const ROWS: &str = "
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1])
assert conn.execute('PRAGMA integrity_check').fetchone() == ('ok',)
print(*[row[0] for row in conn.execute('SELECT x FROM t ORDER BY rowid')])
";
    const COMMITS: &str = "
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.1)
try:
    conn.execute('BEGIN IMMEDIATE')
    conn.execute(\"INSERT INTO t VALUES ('other')\")
    conn.execute('COMMIT')
    print('committed')
except sqlite3.OperationalError as error:
    print(error)
";
    /// What the last process may do: leave WAL, which needs the database exclusively.
    const LEAVES_WAL: &str = "
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.1)
try:
    print(conn.execute('PRAGMA journal_mode = DELETE').fetchone()[0])
except sqlite3.OperationalError as error:
    print(error)
";
    /// Tries a write lock on a byte of `-shm`: POSIX as SQLite does, or OFD as the guard does.
    fn try_byte(path: &Path, command: &str, byte: u32) -> String {
        let script = format!(
            "
import fcntl, struct, sys
with open(sys.argv[1] + '-shm', 'r+b') as file:
    try:
        fcntl.fcntl(file, {command}, struct.pack('hhqqixxxx', fcntl.F_WRLCK, 0, {byte}, 1, 0))
        print('locked')
    except BlockingIOError:
        print('refused')
"
        );
        python(&script.replace("F_OFD_SETLK", &libc::F_OFD_SETLK.to_string()), path)
    }

    /// Tries what the last process locks before it removes the log.
    fn try_exclusive(path: &Path) -> String {
        let script = "
import fcntl, struct, sys
with open(sys.argv[1], 'r+b') as file:
    try:
        fcntl.fcntl(file, fcntl.F_SETLK, struct.pack('hhqqixxxx', fcntl.F_WRLCK, 0, 0x40000002, 510, 0))
        print('locked')
    except BlockingIOError:
        print('refused')
";
        python(script, path)
    }

    /// Another process closes as if it were the last one, after a stray close here.
    fn stray_close_of_the_database(guarded: bool) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (path, conn) = store(folder.path());
        let guard = guarded.then(|| Guard::acquire(&path).unwrap());
        stray_close(&path);
        assert_eq!(python(COMMITS, &path), "committed");
        insert(&conn, "acknowledged");
        let seen = python(ROWS, &path);
        drop(conn);
        drop(guard);
        seen
    }

    #[test]
    fn a_stray_close_of_the_database_loses_nothing() {
        assert_eq!(stray_close_of_the_database(true), "first other acknowledged");
        // Without the guard it does, so this test can fail.
        assert_eq!(stray_close_of_the_database(false), "first other");
    }

    #[test]
    fn the_locks_outlast_a_stray_close_and_end_with_the_last_store() {
        let folder = tempfile::tempdir().unwrap();
        let (path, conn) = store(folder.path());
        let (a, b) = (Guard::acquire(&path).unwrap(), Guard::acquire(&path).unwrap());
        assert!(Arc::ptr_eq(&a, &b));
        stray_close(&path);
        stray_close(&shm(&path));
        drop(a);
        assert_eq!(try_byte(&path, "fcntl.F_SETLK", 128), "refused");
        assert_eq!(python(LEAVES_WAL, &path), "database is locked");
        drop(conn);
        assert_eq!(python(LEAVES_WAL, &path), "database is locked");
        drop(b);
        assert_eq!(try_byte(&path, "fcntl.F_SETLK", 128), "locked");
        assert_eq!(python(LEAVES_WAL, &path), "delete");
    }

    #[test]
    fn no_file_closes_while_another_store_is_being_opened() {
        for kept in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (path, first) = store(folder.path());
            let guard = Guard::acquire(&path).unwrap();
            let opening = kept.then(|| Guard::opening(&path).unwrap());
            let second = connect(&path);
            drop(first);
            drop(guard);
            // Without the opening it closes, and takes the lock of the connection along; so this test can fail.
            assert_eq!(try_exclusive(&path), if kept { "refused" } else { "locked" });
            if kept {
                let guard = Guard::acquire(&path).unwrap();
                drop(opening);
                stray_close(&path);
                assert_eq!(python(LEAVES_WAL, &path), "database is locked");
                drop(second);
                drop(guard);
                assert_eq!(python(LEAVES_WAL, &path), "delete");
            }
        }
    }

    #[test]
    fn a_process_that_is_about_to_close_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, conn) = store(folder.path());
        // Else the connection's own lock would stand in its way.
        stray_close(&path);
        let script = "
import fcntl, struct, sys, time
with open(sys.argv[1], 'r+b') as file:
    fcntl.fcntl(file, fcntl.F_SETLK, struct.pack('hhqqixxxx', fcntl.F_WRLCK, 0, 0x40000002, 510, 0))
    print('ready', flush=True)
    time.sleep(0.3)
";
        let mut other = start_python(script, &path);
        let began = now();
        let guard = Guard::acquire(&path).unwrap();
        assert!(began.elapsed() > Duration::from_millis(100));
        other.wait().unwrap();
        drop(conn);
        drop(guard);
    }

    #[test]
    fn writers_exclude_each_other_among_threads_and_processes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _conn) = store(folder.path());
        let guard = Guard::acquire(&path).unwrap();
        let turn = guard.lock_writer(now(), &never).unwrap();
        assert_eq!(guard.lock_writer(soon(), &never).err().unwrap().kind(), ErrorKind::Locked);
        assert_eq!(guard.lock_writer(soon(), &|| true).err().unwrap().kind(), ErrorKind::Cancelled);
        assert_eq!(try_byte(&path, "F_OFD_SETLK", 136), "refused");
        stray_close(&shm(&path));
        assert_eq!(try_byte(&path, "F_OFD_SETLK", 136), "refused");
        drop(turn);
        assert_eq!(try_byte(&path, "F_OFD_SETLK", 136), "locked");

        let script = "
import fcntl, struct, sys, time
with open(sys.argv[1] + '-shm', 'r+b') as file:
    fcntl.fcntl(file, fcntl.F_SETLK, struct.pack('hhqqixxxx', fcntl.F_WRLCK, 0, 136, 1, 0))
    print('ready', flush=True)
    time.sleep(0.3)
";
        let mut other = start_python(script, &path);
        assert_eq!(guard.lock_writer(soon(), &never).err().unwrap().kind(), ErrorKind::Locked);
        // Nothing is left behind by the one that gave up.
        assert_eq!(try_byte(&path, "F_OFD_SETLK", 137), "locked");
        drop(guard.lock_writer(now() + Duration::from_secs(5), &never).unwrap());
        other.wait().unwrap();
    }

    const READS: &str = "
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute('BEGIN')
conn.execute('SELECT count(*) FROM t').fetchall()
print('ready', flush=True)
sys.stdin.read()
";

    #[test]
    fn who_reads_is_known_by_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let (path, conn) = store(folder.path());
        let guard = Guard::acquire(&path).unwrap();
        assert!(guard.readers().unwrap().is_empty());
        let mut other = start_python(READS, &path);
        assert_eq!(guard.readers().unwrap(), [other.id()]);
        insert(&conn, "since");
        conn.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        // Not by locks that any close drops.
        stray_close(&shm(&path));
        let mut both = [other.id(), std::process::id()];
        let mut found = guard.readers().unwrap();
        both.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, both);
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(guard.readers().unwrap(), [std::process::id()]);
    }

    #[test]
    fn files_in_use_and_files_that_were_replaced_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, conn) = store(folder.path());
        let elsewhere = folder.path().join("elsewhere.db");
        assert!(!Guard::in_use(&elsewhere).unwrap());
        drop(conn);
        assert!(!Guard::in_use(&path).unwrap());
        let mut other = start_python(READS, &path);
        assert!(Guard::in_use(&path).unwrap());
        other.kill().unwrap();
        other.wait().unwrap();
        let conn = connect(&path);
        let guard = Guard::acquire(&path).unwrap();
        assert!(Guard::in_use(&path).unwrap() && guard.in_place(&path).unwrap());
        fs::copy(&path, &elsewhere).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        assert!(!guard.in_place(&path).unwrap());
        drop(conn);
    }

    #[test]
    fn a_file_that_was_open_before_is_refused() {
        alone("sqlite::guard::tests::a_file_is_open_before");
    }

    #[test]
    #[ignore = "run by its namesake, alone"]
    fn a_file_is_open_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.db");
        let before = Connection::open(&path).unwrap();
        before.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        let opening = Guard::opening(&path).unwrap();
        let conn = connect(&path);
        assert_eq!(Guard::acquire(&path).err().unwrap().kind(), ErrorKind::Conflict);
        // What it took as it was it gives back as it was.
        before.execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
        assert_eq!(python(COMMITS, &path), "committed");
        drop(before);
        drop(conn);
        let conn = connect(&path);
        let guard = Guard::acquire(&path).unwrap();
        drop((opening, conn, guard));
    }

    #[test]
    fn threads_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _conn) = store(folder.path());
        let guard = Guard::acquire(&path).unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _turn = guard.lock_writer(now() + Duration::from_secs(30), &never).unwrap();
                        assert_eq!(inside.fetch_add(1, order), 0);
                        thread::yield_now();
                        inside.fetch_sub(1, order);
                    }
                });
            }
        });
    }

    #[test]
    fn links_are_followed_as_sqlite_follows_them() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _conn) = store(folder.path());
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let _linked = connect(&link);
        let (a, b) = (Guard::acquire(&link).unwrap(), Guard::acquire(&path).unwrap());
        assert!(Arc::ptr_eq(&a, &b));
    }

    #[test]
    fn what_is_not_there_is_refused_and_nothing_is_inherited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.db");
        assert_eq!(Guard::acquire(&path).err().unwrap().kind(), ErrorKind::NotFound);
        assert_eq!(Guard::opening(&path).err().unwrap().kind(), ErrorKind::NotFound);
        fs::write(&path, []).unwrap();
        assert_eq!(Guard::acquire(&path).err().unwrap().kind(), ErrorKind::Internal);
        let conn = connect(&path);
        let _guard = Guard::acquire(&path).unwrap();
        let script = "
import os, sys
links = [os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')]
print(sum(link.startswith(os.path.realpath(sys.argv[1])) for link in links))
";
        assert_eq!(python(script, &path), "0");
        drop(conn);
    }
}
