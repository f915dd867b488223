//! What a process keeps of its parent's stores after `fork()`: nothing.
//!
//! The child must not use, close or lock with what it inherited. It may open the same file anew, through SQLite's
//! inherited table of open files, only if no thread of the parent was inside SQLite at the moment of the fork: then no
//! mutex of SQLite is held, and its records of shared-memory locks are empty and so true. That table makes the child
//! skip the SHARED lock and the deadman lock, which it believes its process has; the guard that it takes anew holds
//! both. So a fork waits for a quiet moment, and a child that was forked in an unquiet one opens nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{RawRwLock, RwLock, RwLockReadGuard, lock_api};

use super::guard;
use crate::error::{Error, ErrorKind, Result};

/// How long a fork waits for reads and writes under way.
const PATIENCE: Duration = Duration::from_secs(1);

/// Read by whoever is inside SQLite, written by a fork.
static GATE: RwLock<()> = RwLock::new(());
/// Forks that this process was born of since the library was loaded.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// Whether the fork found the gate free; read by the child.
static QUIET: AtomicBool = AtomicBool::new(true);
/// Whether this process was forked while its parent was inside SQLite.
static TAINTED: AtomicBool = AtomicBool::new(false);

/// A stretch inside SQLite. One thread may have several.
pub struct Activity(#[allow(dead_code)] RwLockReadGuard<'static, ()>);

/// Begins a stretch inside SQLite.
pub fn enter() -> Activity {
    // Recursive: a thread that is inside must not wait for a fork that waits for it.
    Activity(GATE.read_recursive())
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
        Self { pid: std::process::id(), generation: GENERATION.load(Ordering::Acquire) }
    }

    /// Refuses use in another process.
    pub fn check(self) -> Result<()> {
        let now = Self::new();
        if now.pid == self.pid && now.generation == self.generation {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Fork,
            format!(
                "the store was opened in process {} and is used in its fork {}; open the path again there",
                self.pid, now.pid
            ),
        ))
    }
}

/// Refuses to open anything in a child that was forked in an unquiet moment.
pub fn check_open() -> Result<()> {
    if TAINTED.load(Ordering::Acquire) {
        return Err(Error::new(
            ErrorKind::Fork,
            "this process was forked while another thread was reading or writing a store, which leaves SQLite's locks \
             unusable in it; use the \"spawn\" or \"forkserver\" start method, or fork before opening",
        ));
    }
    Ok(())
}

/// Before a fork, in the parent: waits for a quiet moment and keeps it.
pub fn before() {
    let gate = GATE.try_write_for(PATIENCE);
    QUIET.store(gate.is_some(), Ordering::Release);
    // Released by hand, on either side of the fork.
    std::mem::forget(gate);
}

/// After a fork, in the parent.
pub fn after_in_parent() {
    reopen_gate();
}

/// After a fork, in the child: the guards' descriptors close, the gate opens, the parent's stores are foreign.
pub fn after_in_child() {
    GENERATION.fetch_add(1, Ordering::AcqRel);
    if !QUIET.load(Ordering::Acquire) {
        TAINTED.store(true, Ordering::Release);
    }
    guard::release_in_child();
    reopen_gate();
}

#[allow(unsafe_code)]
fn reopen_gate() {
    if QUIET.swap(true, Ordering::AcqRel) && GATE.is_locked_exclusive() {
        let raw: &RawRwLock = {
            // SAFETY: the raw lock is used only to undo the write lock that `before` took and forgot.
            unsafe { GATE.raw() }
        };
        // SAFETY: as above; this thread is the one that took it.
        unsafe { lock_api::RawRwLock::unlock_exclusive(raw) };
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    /// Runs `child` in a fork and returns its exit code.
    fn forked(child: impl FnOnce() -> bool) -> i32 {
        before();
        // SAFETY: the child calls what a child of this library may call, and leaves by _exit.
        match unsafe { libc::fork() } {
            0 => {
                after_in_child();
                let code = i32::from(!child());
                // SAFETY: ends the child without running the parent's destructors.
                unsafe { libc::_exit(code) }
            }
            pid => {
                after_in_parent();
                let mut status = 0;
                // SAFETY: waits for the child that was just made.
                unsafe { libc::waitpid(pid, &raw mut status, 0) };
                libc::WEXITSTATUS(status)
            }
        }
    }

    #[test]
    fn the_gate_and_the_token_tell_a_child_from_its_parent() {
        let token = ForkToken::new();
        assert_eq!(forked(|| token.check().is_err_and(|e| e.kind() == ErrorKind::Fork) && check_open().is_ok()), 0);
        assert!(token.check().is_ok());
        let inside = enter();
        assert_eq!(forked(|| check_open().is_err_and(|e| e.kind() == ErrorKind::Fork)), 0);
        drop(inside);
        assert!(check_open().is_ok());
        drop(enter());
    }
}
