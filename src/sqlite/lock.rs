//! Taking SQLite's write lock with a deadline and a way out.

use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::fork::{self, Activity};
use crate::error::{Error, ErrorKind, Result};

const SHORTEST: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(5);

/// BEGIN IMMEDIATE, tried until `deadline`. The connection must have no busy timeout of its own, or it could not be
/// cancelled.
///
/// Between the attempts a fork may pass; the activity that is returned is that of the transaction.
pub fn begin_immediate(conn: &Connection, deadline: Instant, cancelled: &dyn Fn() -> bool) -> Result<Activity> {
    retry(deadline, cancelled, || {
        let activity = fork::enter();
        conn.execute_batch("BEGIN IMMEDIATE")?;
        Ok(activity)
    })
}

/// Runs `attempt` until nobody else is in its way, or until `deadline`.
pub fn retry_locked<T>(deadline: Instant, attempt: impl FnMut() -> Result<T>) -> Result<T> {
    retry(deadline, &|| false, attempt)
}

fn retry<T>(deadline: Instant, cancelled: &dyn Fn() -> bool, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut pause = SHORTEST;
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Locked => {
                if cancelled() {
                    return Err(Error::new(ErrorKind::Cancelled, "cancelled while waiting for another writer"));
                }
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(timed_out());
                }
                thread::sleep(pause.min(left));
                pause = (pause * 2).min(LONGEST);
            }
            other => return other,
        }
    }
}

/// What a caller reads when another writer held the file too long.
pub fn timed_out() -> Error {
    Error::new(
        ErrorKind::Locked,
        "another process kept the store locked for longer than the timeout; try again, commit in smaller parts there, \
         or open with a longer timeout=",
    )
}

/// Ends a transaction if one is open. Failing to is not fatal: SQLite has then rolled back by itself.
pub fn rollback(conn: &Connection) {
    if !conn.is_autocommit() {
        let _ = conn.execute_batch("ROLLBACK");
    }
}
