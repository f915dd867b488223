//! What a process keeps of its parent's stores after `fork()`: nothing.
//!
//! The child must not use, close or lock with what it inherited. Whether it may open the same file anew is a question to
//! SQLite's inherited table of open files (os_unix.c, `inodeList`), which says what the *parent* had:
//!
//! - Its mutexes, of the table, of shared memory, of allocation, are free only if no thread was inside SQLite. Its
//!   counts of shared-memory locks (`aLock`) are then all zero, because only transactions hold those, and so are true
//!   of the child, which inherits no POSIX lock. Those on `-shm` are not POSIX locks; the child lets go of them by
//!   putting another descriptor in the place of the one that holds them (`shm_locks.rs`).
//! - It says that the process holds SHARED on the database and the deadman byte of `-shm`. The child holds neither and
//!   SQLite will never take them. The guard takes both with descriptors of its own, in such a child before SQLite
//!   reads.
//! - It keeps the parent's mapping of `-shm`, also after everyone else closed and deleted that file. The guard compares
//!   the mapped file with the one at the path and refuses the child where they differ or where it shrank. Reads and
//!   writes of inherited descriptors name their offset (pread, pwrite), so a shared position does not matter.
//! - Its counts never reach zero, so the child never truncates or deletes as the last one, and never drops a lock that
//!   way; descriptors it would close are parked and used again. The random generator reseeds when the pid changes.
//!
//! So a fork waits for a quiet moment, and a child that was forked in an unquiet one opens nothing. The count of
//! activities is itself the record: the child reads in its copy whether the moment was quiet, so a fork in C that runs
//! none of the hooks is judged as well, at the first call that checks the pid. Until that call such a child keeps the
//! guards' descriptors, and with them the parent's locks should the parent end; and a POSIX lock that other code in it
//! took on the file meanwhile is dropped when they close. The hooks, which run at once, leave neither.
//!
//! Only atomics here: the child has one thread, and a lock that another one held is never released in it. This rules
//! out parking_lot too, whose table of waiting threads is shared by all its locks.

use std::cell::Cell;
use std::marker::PhantomData;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use super::shm_locks;
use crate::error::{Error, ErrorKind, Result};

/// How long a fork waits for reads and writes under way.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_micros(50);

/// Added to [`STATE`] by each fork that waits or runs; below it are counted the activities.
const FORK: u64 = 1 << 32;

/// Activities, and forks that keep new ones out.
static STATE: AtomicU64 = AtomicU64::new(0);
/// Forks that this process was born of since the library was first used.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// The process that the state here belongs to; 0 before the first use.
static PID: AtomicU32 = AtomicU32::new(0);
/// The process that last began to take the state over.
static HEIR: AtomicU32 = AtomicU32::new(0);
/// Whether this process was forked while its parent, or a parent of that, was inside SQLite, or could not take locks of
/// its own.
static TAINTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Activities of this thread, and the generation in which they began.
    static DEPTH: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// A stretch inside SQLite. One thread may have several; none may wait for another thread's.
pub struct Activity {
    generation: u64,
    /// It is counted with its thread.
    _not_send: PhantomData<*const ()>,
}

/// Begins a stretch inside SQLite: a transaction, a read, opening or closing a connection. Whoever may be in a forked
/// child calls [`ForkToken::check`] or [`check_open`] before.
pub fn enter() -> Activity {
    loop {
        let generation = GENERATION.load(Ordering::Acquire);
        let depth = depth(generation);
        let state = STATE.load(Ordering::Relaxed);
        // A thread that is inside must not wait for a fork that waits for it.
        if state >= FORK && depth == 0 {
            thread::sleep(PAUSE);
            // Or the fork was the parent's, and this is the child.
            current();
        } else if STATE.compare_exchange_weak(state, state + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            DEPTH.set((generation, depth + 1));
            return Activity { generation, _not_send: PhantomData };
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        // In a child the count began anew.
        if self.generation == GENERATION.load(Ordering::Acquire) {
            DEPTH.set((self.generation, depth(self.generation).saturating_sub(1)));
            STATE.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn activities(state: u64) -> u64 {
    state & (FORK - 1)
}

fn depth(generation: u64) -> u32 {
    let (began, depth) = DEPTH.get();
    if began == generation { depth } else { 0 }
}

/// Where a store was opened.
#[derive(Debug, Clone, Copy)]
pub struct ForkToken {
    pid: u32,
    generation: u64,
}

impl ForkToken {
    /// Of this process.
    pub fn new() -> Self {
        let generation = current();
        Self { pid: process::id(), generation }
    }

    /// Refuses use in another process.
    pub fn check(self) -> Result<()> {
        if current() == self.generation {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Fork,
            format!(
                "the store was opened in process {} and is used in its fork {}; open the path again there",
                self.pid,
                process::id()
            ),
        ))
    }
}

/// Refuses to open anything in a child that was forked in an unquiet moment.
pub fn check_open() -> Result<()> {
    current();
    if TAINTED.load(Ordering::Acquire) {
        return Err(Error::new(
            ErrorKind::Fork,
            "this process was forked while its parent was reading or writing a store, or when no more files could be \
             opened, which leaves SQLite's locks unusable in it; use the \"spawn\" or \"forkserver\" start method, or fork before opening",
        ));
    }
    Ok(())
}

/// Before a fork, in the parent: keeps new activities out and waits for those under way.
pub fn before() {
    let generation = current();
    STATE.fetch_add(FORK, Ordering::SeqCst);
    if depth(generation) > 0 {
        // It would wait for itself.
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    while activities(STATE.load(Ordering::SeqCst)) > 0 && Instant::now() < deadline {
        thread::sleep(PAUSE);
    }
}

/// After a fork, or after one that failed, in the parent: lets activities in again.
pub fn after_in_parent() {
    // Without a `before` there is nothing to undo.
    let _ = STATE.fetch_update(Ordering::SeqCst, Ordering::Relaxed, |state| state.checked_sub(FORK));
}

/// After a fork, in the child: the guards' descriptors close, and the parent's stores are foreign.
pub fn after_in_child() {
    current();
}

/// The generation of this process. The first call after a fork, of whichever thread, makes the state the child's own.
pub fn current() -> u64 {
    let pid = process::id();
    while PID.load(Ordering::Acquire) != pid {
        let heir = HEIR.load(Ordering::Acquire);
        if heir == pid {
            // Another thread is at it.
            thread::yield_now();
        } else if HEIR.compare_exchange(heir, pid, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            if PID.load(Ordering::Acquire) == 0 {
                watch_forks();
            } else {
                inherit();
            }
            PID.store(pid, Ordering::Release);
        }
    }
    GENERATION.load(Ordering::Acquire)
}

/// Has every child that the C library forks let go of what it inherited, also where its parent did not wait for a quiet
/// moment.
#[cfg(unix)]
#[allow(unsafe_code)]
fn watch_forks() {
    extern "C" fn child() {
        after_in_child();
    }
    // SAFETY: what runs in the child is made of system calls and atomics. Failing for want of memory, the first call of
    // the child does the same.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(child)) };
}

/// There are no forks on this platform.
#[cfg(not(unix))]
fn watch_forks() {}

fn inherit() {
    if activities(STATE.swap(0, Ordering::SeqCst)) > 0 {
        TAINTED.store(true, Ordering::Release);
    }
    #[cfg(target_os = "linux")]
    {
        descriptors::inherit();
        // Second: that left numbers free.
        if !shm_locks::inherit() {
            TAINTED.store(true, Ordering::Release);
        }
    }
    GENERATION.fetch_add(1, Ordering::AcqRel);
}

#[cfg(target_os = "linux")]
pub use descriptors::{Inode, PerProcess, Slot, inode};

#[cfg(target_os = "linux")]
mod descriptors {
    use std::fs::{File, Metadata};
    use std::mem::ManuallyDrop;
    use std::os::fd::{FromRawFd, IntoRawFd, RawFd};
    use std::os::unix::fs::MetadataExt;
    use std::ptr;
    use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU64, Ordering};

    use super::current;

    /// Device and number.
    pub type Inode = (u64, u64);

    /// A list that only grows, so that a child finds every descriptor without a lock.
    static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());

    const FREE: u8 = 0;
    const LIVE: u8 = 1;
    /// Closed in this child, whose SQLite still has the shared memory mapped.
    const INHERITED: u8 = 2;

    /// The descriptors of one guard, which a forked child closes. Changed under the guards' own lock, or in a child.
    pub struct Slot {
        next: Option<&'static Self>,
        state: AtomicU8,
        files: [Named; 2],
        /// Of an inherited `-shm` at the fork.
        length: AtomicU64,
    }

    struct Named {
        fd: AtomicI32,
        device: AtomicU64,
        number: AtomicU64,
    }

    impl Slot {
        /// The database in a slot.
        pub const DATABASE: usize = 0;
        /// Its `-shm`.
        pub const SHM: usize = 1;

        /// An empty slot. An inherited one is remembered and not used anew.
        pub fn take() -> &'static Self {
            let slot = slots().find(|slot| slot.state.load(Ordering::Acquire) == FREE).unwrap_or_else(|| {
                let empty = || Named { fd: AtomicI32::new(-1), device: AtomicU64::new(0), number: AtomicU64::new(0) };
                let slot = Box::leak(Box::new(Self {
                    next: slots().next(),
                    state: AtomicU8::new(FREE),
                    files: [empty(), empty()],
                    length: AtomicU64::new(0),
                }));
                SLOTS.store(ptr::from_mut(slot), Ordering::Release);
                slot
            });
            slot.state.store(LIVE, Ordering::Release);
            slot
        }

        /// Keeps a file, which closes only with the slot.
        pub fn keep(&self, which: usize, file: File) {
            let name = file.metadata().map_or((0, 0), |metadata| inode(&metadata));
            self.files[which].device.store(name.0, Ordering::Relaxed);
            self.files[which].number.store(name.1, Ordering::Relaxed);
            self.files[which].fd.store(file.into_raw_fd(), Ordering::Release);
        }

        /// Negative if there is none.
        pub fn fd(&self, which: usize) -> RawFd {
            self.files[which].fd.load(Ordering::Acquire)
        }

        /// What the file is, also after it was closed.
        pub fn name(&self, which: usize) -> Inode {
            (self.files[which].device.load(Ordering::Relaxed), self.files[which].number.load(Ordering::Relaxed))
        }

        /// How much of `-shm` SQLite may have mapped at the fork.
        pub fn length(&self) -> u64 {
            self.length.load(Ordering::Relaxed)
        }

        /// The file itself, to be used and not closed.
        pub fn file(&self, which: usize) -> Option<ManuallyDrop<File>> {
            borrowed(self.fd(which))
        }

        /// Closes the files.
        pub fn free(&self) {
            self.close(FREE);
        }

        fn close(&self, state: u8) {
            for file in &self.files {
                drop(borrowed(file.fd.swap(-1, Ordering::AcqRel)).map(ManuallyDrop::into_inner));
            }
            self.state.store(state, Ordering::Release);
        }

        /// What a parent of this process had of `database` when it forked.
        pub fn inherited(database: Inode) -> impl Iterator<Item = &'static Self> {
            slots().filter(move |slot| {
                slot.state.load(Ordering::Acquire) == INHERITED && slot.name(Self::DATABASE) == database
            })
        }
    }

    /// Closes what the parent had. That drops nothing of the parent's: its POSIX locks are not the child's, and open
    /// file description locks live until the last copy closes. The other way about, a copy that stayed open would hold
    /// the locks of a parent that ended.
    pub fn inherit() {
        for slot in slots().filter(|slot| slot.state.load(Ordering::Acquire) == LIVE) {
            // Not knowing it counts as more than any.
            let length = borrowed(slot.fd(Slot::SHM)).and_then(|file| file.metadata().ok());
            slot.length.store(length.map_or(u64::MAX, |metadata| metadata.len()), Ordering::Relaxed);
            slot.close(INHERITED);
        }
    }

    pub fn inode(metadata: &Metadata) -> Inode {
        (metadata.dev(), metadata.ino())
    }

    fn slots() -> impl Iterator<Item = &'static Slot> {
        std::iter::successors(leaked(SLOTS.load(Ordering::Acquire)), |slot| slot.next)
    }

    #[allow(unsafe_code)]
    fn borrowed(fd: RawFd) -> Option<ManuallyDrop<File>> {
        // SAFETY: a number in a slot is open and the slot's alone; who takes it out may close it, others do not.
        (fd >= 0).then(|| ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }))
    }

    /// A value that each process makes for itself. A child leaves its parent's, which may be locked or half changed at the
    /// moment of the fork, where it is.
    pub struct PerProcess<T: 'static>(AtomicPtr<(u64, T)>);

    impl<T: Default + Sync> PerProcess<T> {
        /// Not made yet.
        pub const fn new() -> Self {
            Self(AtomicPtr::new(ptr::null_mut()))
        }

        /// The value of this process.
        pub fn get(&self) -> &'static T {
            let generation = current();
            loop {
                let old = self.0.load(Ordering::Acquire);
                if let Some((made, value)) = leaked(old)
                    && *made == generation
                {
                    return value;
                }
                let new = Box::into_raw(Box::new((generation, T::default())));
                // One that came second stays behind, unused.
                let _ = self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    #[allow(unsafe_code)]
    fn leaked<T>(pointer: *const T) -> Option<&'static T> {
        // SAFETY: private to this file, and all that is passed is null or comes from a box that is never freed or changed.
        unsafe { pointer.as_ref() }
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(unsafe_code)]
pub mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use rusqlite::Connection;
    use rusqlite::config::DbConfig;

    use super::super::guard::Guard;
    use super::*;

    /// Runs a test that is ignored otherwise in a process of its own. Each test of forks does, so that no other test is
    /// inside SQLite meanwhile.
    pub fn alone(test: &str) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--test-threads=1", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    macro_rules! each_alone {
        ($($name:ident)*) => { mod run { $(#[test] fn $name() { super::alone(concat!("sqlite::fork::tests::", stringify!($name))) })* } };
    }

    each_alone! {
        a_quiet_child_opens_the_file_anew
        a_child_of_a_busy_parent_opens_nothing
        a_child_keeps_no_lock_of_a_parent_that_ended
        a_child_whose_shared_memory_was_replaced_is_refused
        a_fork_without_hooks_is_noticed
        a_child_and_its_parent_exclude_each_other
        a_child_that_cannot_open_the_shared_memory_anew_is_refused
        forks_under_load_neither_hang_nor_lose
    }

    const OK: i32 = 0;
    const WATCHDOG: u32 = 20;

    /// How a process forks.
    #[derive(Clone, Copy, PartialEq)]
    enum By {
        /// As a binding has its runtime do it.
        Hooks,
        /// As code in C does.
        CLibrary,
        /// Behind the back of the C library too.
        Kernel,
    }

    fn start(by: By, child: impl FnOnce() -> bool) -> libc::pid_t {
        if by == By::Hooks {
            before();
        }
        // SAFETY: the child calls what a child of this library may call, and leaves by _exit.
        let pid = unsafe {
            if by == By::Kernel {
                libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t
            } else {
                libc::fork()
            }
        };
        if pid != 0 {
            if by == By::Hooks {
                after_in_parent();
            }
            return pid;
        }
        // SAFETY: ends a child that hangs.
        unsafe { libc::alarm(WATCHDOG) };
        if by == By::Hooks {
            after_in_child();
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the child without running the parent's destructors.
        unsafe { libc::_exit(if matches!(done, Ok(true)) { OK } else { 1 }) }
    }

    fn wait(pid: libc::pid_t) -> i32 {
        let mut status = 0;
        // SAFETY: waits for a child of this process.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1000 + libc::WTERMSIG(status) }
    }

    /// As a store does it.
    struct Mini {
        token: ForkToken,
        conn: Connection,
        guard: Arc<Guard>,
    }

    impl Mini {
        fn open(path: &Path) -> Result<Self> {
            check_open()?;
            let _activity = enter();
            let _opening = Guard::opening(path)?;
            let conn = Connection::open(path).unwrap();
            conn.busy_timeout(Duration::from_secs(10)).unwrap();
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
            conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (x)").unwrap();
            let guard = Guard::acquire(path)?;
            Ok(Self { token: ForkToken::new(), conn, guard })
        }

        fn turn(&self) -> impl Sized {
            self.guard.lock_writer(Instant::now() + Duration::from_secs(10), &|| false).unwrap()
        }

        fn insert(&self, row: &str) -> Result<()> {
            self.token.check()?;
            let _turn = self.turn();
            let _activity = enter();
            self.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
            self.conn.execute("INSERT INTO t VALUES (?1)", [row]).unwrap();
            self.conn.execute_batch("COMMIT").unwrap();
            Ok(())
        }

        fn count(&self) -> i64 {
            let _activity = enter();
            self.conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
        }
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.db");
        fs::write(&path, []).unwrap();
        (folder, path)
    }

    fn python(script: &str, path: &Path) -> String {
        let output = Command::new("python3").args(["-c", script]).arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    const LEAVES_WAL: &str = "
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.1)
try:
    print(conn.execute('PRAGMA journal_mode = DELETE').fetchone()[0])
except sqlite3.OperationalError as error:
    print(error)
";
    const CHECKS: &str = "
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1])
print(conn.execute('PRAGMA integrity_check').fetchone()[0], conn.execute('SELECT count(*) FROM t').fetchone()[0])
";

    fn is_fork<T>(result: Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == ErrorKind::Fork)
    }

    /// Descriptors of `-shm`: two of SQLite, one of each guard.
    fn descriptors(path: &Path) -> usize {
        let shm = path.with_file_name("l.db-shm");
        let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| *link == shm).count()
    }

    #[test]
    #[ignore = "run by its namesake, alone"]
    fn a_quiet_child_opens_the_file_anew() {
        let (_folder, path) = file();
        let store = Mini::open(&path).unwrap();
        store.insert("parent").unwrap();
        // Held across the fork and after the child.
        let turn = store.turn();
        let pid = start(By::Hooks, || {
            assert!(is_fork(store.insert("parent's store")));
            assert!(is_fork(store.guard.lock_writer(Instant::now(), &|| false).map(drop)));
            assert!(is_fork(store.guard.readers().map(drop)));
            assert_eq!(descriptors(&path), 2);
            // SQLite will not lock; so the guard does before it reads.
            let opening = Guard::opening(&path).unwrap();
            assert_eq!(descriptors(&path), 3);
            drop(opening);
            assert_eq!(descriptors(&path), 2);
            let mine = Mini::open(&path).unwrap();
            assert_eq!(descriptors(&path), 3);
            assert_eq!(mine.count(), 1);
            mine.insert("child").unwrap();
            let again = Mini::open(&path).unwrap();
            drop(mine);
            again.insert("child, again").unwrap();
            true
        });
        thread::sleep(Duration::from_millis(200));
        assert_eq!(store.count(), 1);
        drop(turn);
        assert_eq!(wait(pid), OK);
        assert_eq!(store.count(), 3);
        store.insert("parent, afterwards").unwrap();
        // The child's end took nothing of the parent's.
        drop(fs::read(&path).unwrap());
        assert_eq!(python(LEAVES_WAL, &path), "database is locked");
        assert_eq!(python(CHECKS, &path), "ok 4");
    }

    #[test]
    #[ignore = "run by its namesake, alone"]
    fn a_child_of_a_busy_parent_opens_nothing() {
        let (_folder, path) = file();
        let store = Mini::open(&path).unwrap();
        let inside = enter();
        // By the thread that forks: it cannot wait for itself.
        let began = Instant::now();
        assert_eq!(wait(start(By::Hooks, || is_fork(check_open()) && is_fork(Mini::open(&path)))), OK);
        assert!(began.elapsed() < PATIENCE);
        drop(inside);
        assert_eq!(wait(start(By::Hooks, || check_open().is_ok())), OK);

        // By another, which goes on for longer than a fork waits.
        let (stop, running) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let _activity = enter();
                running.store(true, Ordering::SeqCst);
                while !stop.load(Ordering::SeqCst) {
                    thread::sleep(PAUSE);
                }
            });
            while !running.load(Ordering::SeqCst) {
                thread::sleep(PAUSE);
            }
            let grandchild = || wait(start(By::Hooks, || is_fork(check_open()))) == OK;
            assert_eq!(wait(start(By::Hooks, || is_fork(check_open()) && grandchild())), OK);
            stop.store(true, Ordering::SeqCst);
        });
        // Or for less.
        thread::scope(|scope| {
            running.store(false, Ordering::SeqCst);
            scope.spawn(|| {
                let _activity = enter();
                running.store(true, Ordering::SeqCst);
                thread::sleep(PATIENCE / 4);
            });
            while !running.load(Ordering::SeqCst) {
                thread::sleep(PAUSE);
            }
            assert_eq!(wait(start(By::Hooks, || Mini::open(&path).unwrap().insert("child").is_ok())), OK);
        });
        store.insert("parent").unwrap();
        assert_eq!(python(CHECKS, &path), "ok 2");
    }

    #[test]
    #[ignore = "run by its namesake, alone"]
    fn a_child_keeps_no_lock_of_a_parent_that_ended() {
        for by in [By::Hooks, By::CLibrary, By::Kernel] {
            let (_folder, path) = file();
            fs::write(path.with_file_name("orphan"), []).unwrap();
            let parent = start(By::Hooks, || {
                let store = Mini::open(&path).unwrap();
                let turn = store.turn();
                store.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
                let orphan = start(by, || {
                    thread::sleep(Duration::from_secs(2));
                    true
                });
                let mut file = fs::File::create(path.with_file_name("orphan")).unwrap();
                write!(file, "{orphan}").unwrap();
                // It ends as a crash does: nothing is unlocked.
                std::mem::forget(turn);
                std::mem::forget(store);
                true
            });
            assert_eq!(wait(parent), OK);
            let store = Mini::open(&path).unwrap();
            let soon = Instant::now() + Duration::from_millis(300);
            // Where nothing of the process notices the fork the orphan does keep them, so this test can fail.
            assert_eq!(store.guard.lock_writer(soon, &|| false).is_ok(), by != By::Kernel);
            store.conn.busy_timeout(Duration::from_millis(300)).unwrap();
            assert_eq!(store.conn.execute_batch("BEGIN IMMEDIATE").is_ok(), by != By::Kernel);
        }
    }

    #[test]
    #[ignore = "run by its namesake, alone"]
    fn a_child_whose_shared_memory_was_replaced_is_refused() {
        // Ends as a crash does; the second truncates -shm, as the first process that opens the file does.
        let empties = "
import os, sqlite3, sys
conn = sqlite3.connect(sys.argv[1])
conn.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()
os._exit(0)
";
        for case in ["kept", "removed", "shrunk"] {
            let (_folder, path) = file();
            let store = Mini::open(&path).unwrap();
            store.insert("parent").unwrap();
            if case == "shrunk" {
                // More frames than one part of -shm has room for.
                store.conn.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF").unwrap();
                (0..4500).for_each(|_| store.insert("parent").unwrap());
            }
            let go = path.with_file_name("go");
            let pid = start(By::Hooks, || {
                while !go.exists() {
                    thread::sleep(PAUSE);
                }
                let opened = Mini::open(&path);
                if case != "kept" {
                    return is_fork(opened);
                }
                let mine = opened.unwrap();
                // Nobody else has it open: only the guard keeps the last one from thinking that it is alone.
                assert_eq!(python(LEAVES_WAL, &path), "database is locked");
                mine.insert("child").unwrap();
                mine.count() == 2
            });
            drop(store.conn);
            drop(store.guard);
            match case {
                "removed" => {
                    assert_eq!(python(LEAVES_WAL, &path), "delete");
                    drop(Mini::open(&path).unwrap());
                }
                "shrunk" => (0..2).for_each(|_| drop(python(empties, &path))),
                _ => {}
            }
            fs::write(&go, []).unwrap();
            assert_eq!(wait(pid), OK, "{case}");
            assert!(python(CHECKS, &path).starts_with("ok "), "{case}");
        }
    }

    #[test]
    #[ignore = "run by its namesake, alone"]
    fn a_fork_without_hooks_is_noticed() {
        let (_folder, path) = file();
        let store = Mini::open(&path).unwrap();
        for by in [By::CLibrary, By::Kernel] {
            let quiet =
                || is_fork(store.insert("parent's store")) && Mini::open(&path).unwrap().insert("child").is_ok();
            assert_eq!(wait(start(by, quiet)), OK);
            let inside = enter();
            assert_eq!(wait(start(by, || is_fork(Mini::open(&path)))), OK);
            drop(inside);
        }
        // Another thread was about to fork: the child waits for nobody.
        before();
        assert_eq!(wait(start(By::CLibrary, || Mini::open(&path).unwrap().insert("child").is_ok())), OK);
        after_in_parent();
        // Dropping what was the parent's closes nothing.
        let Mini { conn, guard, .. } = store;
        let drops = || {
            drop(guard);
            descriptors(&path) == 2
        };
        assert_eq!(wait(start(By::CLibrary, drops)), OK);
        drop(conn);
        assert_eq!(python(CHECKS, &path), "ok 3");
    }

    #[test]
    #[ignore = "run by its namesake, alone"]
    fn a_child_and_its_parent_exclude_each_other() {
        let (_folder, path) = file();
        let store = Mini::open(&path).unwrap();
        let (begun, refused) = (path.with_file_name("begun"), path.with_file_name("refused"));
        let until = |path: &Path| {
            while !path.exists() {
                thread::sleep(PAUSE);
            }
        };
        let pid = start(By::Hooks, || {
            let mine = Mini::open(&path).unwrap();
            // Without the guard's turn, as a library that has none.
            let _activity = enter();
            mine.conn.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES ('child')").unwrap();
            fs::write(&begun, []).unwrap();
            until(&refused);
            mine.conn.execute_batch("COMMIT").is_ok()
        });
        until(&begun);
        store.conn.busy_timeout(Duration::ZERO).unwrap();
        assert!(store.conn.execute_batch("BEGIN IMMEDIATE").is_err());
        fs::write(&refused, []).unwrap();
        assert_eq!(wait(pid), OK);
        store.insert("parent").unwrap();
        assert_eq!(store.count(), 2);
    }

    #[test]
    #[ignore = "run by its namesake, alone"]
    fn a_child_that_cannot_open_the_shared_memory_anew_is_refused() {
        let (_folder, path) = file();
        let store = Mini::open(&path).unwrap();
        let limit = |numbers: u64| {
            let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: both calls take a pointer to an rlimit.
            unsafe {
                assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits), 0);
                limits.rlim_cur = numbers.min(limits.rlim_max);
                assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits), 0);
            }
        };
        limit(0);
        let pid = start(By::Hooks, || {
            limit(256);
            descriptors(&path) == 1 && is_fork(Mini::open(&path))
        });
        limit(256);
        assert_eq!(wait(pid), OK);
        store.insert("parent").unwrap();
    }

    #[test]
    #[ignore = "run by its namesake, alone"]
    fn forks_under_load_neither_hang_nor_lose() {
        let (_folder, path) = file();
        let _first = Mini::open(&path).unwrap();
        let forks: u32 = std::env::var("RAGSTORE_FORKS").map_or(100, |n| n.parse().unwrap());
        let stop = AtomicBool::new(false);
        let written = AtomicU32::new(0);
        let mut refused = 0;
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let store = Mini::open(&path).unwrap();
                    while !stop.load(Ordering::SeqCst) {
                        store.insert("parent").unwrap();
                        store.count();
                        written.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            for _ in 0..forks {
                thread::sleep(Duration::from_millis(2));
                let child = || check_open().is_ok() && Mini::open(&path).unwrap().insert("child").is_ok();
                match wait(start(By::Hooks, child)) {
                    OK => {
                        written.fetch_add(1, Ordering::SeqCst);
                    }
                    1 => refused += 1,
                    signal => panic!("a child ended with {signal}"),
                }
            }
            stop.store(true, Ordering::SeqCst);
        });
        assert_eq!(refused, 0);
        assert_eq!(python(CHECKS, &path), format!("ok {}", written.load(Ordering::SeqCst)));
    }
}
