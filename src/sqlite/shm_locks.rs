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
//! A forked child shares the open file description, and with it the locks. So the child opens each `-shm` anew, in the
//! place of the descriptor that it inherited. SQLite's counts of what is held are zero in a child that may use it (see
//! `fork.rs`), so it lacks nothing then but the deadman switch, which the guard takes.
//!
//! Linux with 64 bits only, where SQLite's `struct flock` is libc's. Elsewhere nothing is changed.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use linux::{held, inherit, install};
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub use other::{held, inherit, install};

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[allow(unsafe_code)]
mod linux {
    use std::ffi::{CStr, c_char, c_int, c_short, c_void};
    use std::fs::File;
    use std::io::Write;
    use std::mem::{self, ManuallyDrop};
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::ptr;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

    use rusqlite::ffi;

    /// UNIX_SHM_BASE to UNIX_SHM_DMS.
    const FIRST: libc::off_t = 120;
    const END: libc::off_t = 129;

    /// Descriptors by their number, in pages that are made when needed and never freed, so that a child reads them
    /// without a lock. Linux gives no number beyond these unless it is told to.
    const PAGE: usize = 1 << 10;
    static PAGES: [AtomicPtr<[Entry; PAGE]>; 1 << 10] = [const { AtomicPtr::new(ptr::null_mut()) }; 1 << 10];

    /// A descriptor through which SQLite has `-shm` open.
    struct Entry {
        open: AtomicBool,
        device: AtomicU64,
        number: AtomicU64,
    }

    /// Gives SQLite the system calls. To be called before a store is opened; a file that is open already keeps its
    /// locks as they are.
    pub fn install() {
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
    }

    /// Whether SQLite has this `-shm` open with locks that a stray close cannot drop.
    pub fn held(device: u64, number: u64) -> bool {
        entries().any(|(_, entry)| {
            entry.open.load(Ordering::Acquire)
                && entry.device.load(Ordering::Relaxed) == device
                && entry.number.load(Ordering::Relaxed) == number
        })
    }

    /// In a forked child: lets go of the parent's open file descriptions. Says whether SQLite has others in their place.
    ///
    /// Only system calls and atomics, as the child of a process with threads may use.
    pub fn inherit() -> bool {
        let mut whole = true;
        for (fd, entry) in entries().filter(|(_, entry)| entry.open.load(Ordering::Acquire)) {
            if !reopen(fd) {
                // What the parent holds must not outlive it here.
                entry.open.store(false, Ordering::Release);
                // SAFETY: the number is that of a file of SQLite, which this process uses no more.
                unsafe { libc::close(fd) };
                whole = false;
            }
        }
        whole
    }

    /// Also of a file that was removed since.
    fn reopen(fd: c_int) -> bool {
        let mut path = [0; 32];
        if write!(&mut path[..31], "/proc/self/fd/{fd}").is_err() {
            return false;
        }
        // SAFETY: the path ends with a zero; the numbers are this process's, and `new` is used by nobody else.
        unsafe {
            let mode = libc::fcntl(fd, libc::F_GETFL) & libc::O_ACCMODE;
            let new = libc::open(path.as_ptr().cast::<c_char>(), mode | libc::O_CLOEXEC);
            if new < 0 {
                return false;
            }
            let placed = libc::dup3(new, fd, libc::O_CLOEXEC);
            libc::close(new);
            placed == fd
        }
    }

    /// As SQLite opens files. It opens `-shm` by the path of the database, to which it adds this.
    unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
        // SAFETY: SQLite gives a path that ends with a zero.
        let (fd, path) = unsafe { (libc::open(path, flags, mode), CStr::from_ptr(path)) };
        if fd >= 0 && path.to_bytes().ends_with(b"-shm") {
            remember(fd);
        }
        fd
    }

    unsafe extern "C" fn close(fd: c_int) -> c_int {
        if entry(fd).is_some_and(|entry| entry.open.swap(false, Ordering::AcqRel)) {
            // Closing is not enough while a process that is just being spawned has a copy.
            let mut all = libc::flock {
                l_type: libc::F_UNLCK as c_short,
                l_whence: libc::SEEK_SET as c_short,
                l_start: FIRST,
                l_len: END - FIRST,
                l_pid: 0,
            };
            // SAFETY: the command takes a pointer to a flock.
            unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw mut all) };
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
        if by_description != command && entry(fd).is_some_and(|entry| entry.open.load(Ordering::Acquire)) {
            let request = argument.cast::<libc::flock>();
            // SAFETY: with these commands SQLite gives a flock of its own, relative to the beginning of the file.
            unsafe {
                if (*request).l_start >= FIRST && (*request).l_start + (*request).l_len <= END {
                    // SQLite leaves it as it was in memory, and these commands demand zero.
                    (*request).l_pid = 0;
                    return libc::fcntl(fd, by_description, request);
                }
            }
        }
        // SAFETY: what the caller asked for.
        unsafe { libc::fcntl(fd, command, argument) }
    }

    /// Where there is no memory for it the file is not remembered, and the guard refuses it.
    fn remember(fd: c_int) {
        // SAFETY: the number is open, and is not closed here.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
        if let Some(entry) = make(fd)
            && let Ok(metadata) = file.metadata()
        {
            entry.device.store(metadata.dev(), Ordering::Relaxed);
            entry.number.store(metadata.ino(), Ordering::Relaxed);
            entry.open.store(true, Ordering::Release);
        }
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

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod other {
    /// Changes nothing on this platform.
    pub fn install() {}

    /// Nothing can be said on this platform.
    pub fn held(_device: u64, _number: u64) -> bool {
        true
    }

    /// There is nothing to let go of.
    pub fn inherit() -> bool {
        true
    }
}
