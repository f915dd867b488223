//! Operations on the file, on the writer's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Command, Task, Work, Worker};
use crate::error::{Error, Result};
use crate::request::{Checkpoint, Operation};
use crate::sqlite::fork;
use crate::sqlite::ops;
use crate::sqlite::optimize::{Desk, Optimize};
use crate::sqlite::readers::closed;
use crate::sqlite::txn::{self, Progress};
use crate::sqlite::vacuum;

/// Rows that have expired, removed in one step.
const EXPIRED: u64 = 1_000;
/// How long an operation that is done waits for readers, so that the file is seen to be smaller.
const PATIENCE: Duration = Duration::from_millis(500);

impl Worker {
    pub(super) fn operate(&mut self, task: Task) {
        let Task { work, progress, reply } = task;
        let outcome = match self.poisoned() {
            Some(error) => Err(error),
            None => catch_unwind(AssertUnwindSafe(|| self.trusted(work, &progress)))
                .unwrap_or_else(|panic| Err(self.poison(panic.as_ref(), "the operation may be done in part"))),
        };
        // The caller may have gone only by a panic of its own.
        let _ = reply.send(outcome);
    }

    /// The operation on a connection that met no I/O error, which an I/O error of the operation ends.
    fn trusted(&mut self, work: Work, progress: &Progress) -> Result<()> {
        self.renew()?;
        // What moving the log met was looked at then.
        let result = match work {
            Work::Operation(operation) => self.run_operation(operation, progress),
            Work::Purge(collection_id) => self.purge(collection_id, progress),
        };
        let result = result.map_err(|error| if self.distrusted.get() { error } else { self.examine(error) });
        if !self.conn.is_autocommit() {
            self.distrusted.set(true);
        }
        result
    }

    fn run_operation(&mut self, operation: Operation, progress: &Progress) -> Result<()> {
        let cancelled = || progress.cancelled.load(Ordering::Relaxed);
        match operation {
            // What readers leave, and what another process is moving, is no failure of this mode.
            Operation::Checkpoint(Checkpoint::Passive) => self.move_log(Checkpoint::Passive, Instant::now()).map(drop),
            Operation::Checkpoint(mode) => self.wait_for_log(mode, Instant::now() + self.config.timeout, &cancelled),
            Operation::Optimize => {
                self.optimize(progress)?;
                self.shrink(&cancelled);
                Ok(())
            }
            Operation::Vacuum => {
                self.make_room(&cancelled)?;
                vacuum::run(self.desk(progress), &self.config.path)?;
                self.shrink(&cancelled);
                Ok(())
            }
        }
    }

    pub(super) fn desk<'w>(&'w self, progress: &'w Progress) -> Desk<'w> {
        Desk { conn: &self.conn, guard: self.guard.as_deref(), timeout: self.config.timeout, progress }
    }

    fn optimize(&mut self, progress: &Progress) -> Result<()> {
        let cancelled = || progress.cancelled.load(Ordering::Relaxed);
        // First: what it leaves is a part of what there is to do.
        loop {
            self.renew()?;
            self.make_room(&cancelled)?;
            let Desk { conn, guard, timeout, progress } = self.desk(progress);
            if txn::transact(conn, guard, timeout, progress, |txn| ops::expire::some(txn, EXPIRED))? == 0 {
                break;
            }
            self.tend_log();
            self.serve()?;
        }
        self.renew()?;
        let mut steps = {
            let _activity = fork::enter();
            let snapshot = self.conn.unchecked_transaction()?;
            let steps = Optimize::plan(&snapshot, progress)?;
            snapshot.finish()?;
            steps
        };
        loop {
            self.renew()?;
            self.make_room(&cancelled)?;
            if !steps.step(self.desk(progress))? {
                return Ok(());
            }
            self.tend_log();
            self.serve()?;
        }
    }

    /// Between two steps: the writes that came meanwhile. What else came waits for the end of the operation.
    pub(super) fn serve(&mut self) -> Result<()> {
        loop {
            let command = match self.next.take() {
                Some(command) => command,
                None => match self.commands.try_recv() {
                    Ok(command) => command,
                    Err(_) => return Ok(()),
                },
            };
            match command {
                Command::Write(job) => self.write(job),
                other => {
                    let closing = matches!(other, Command::Close);
                    self.next = Some(other);
                    return if closing { Err(closed()) } else { Ok(()) };
                }
            }
            if let Some(error) = self.poisoned() {
                return Err(error);
            }
        }
    }

    /// The file becomes smaller when its log is moved. Where a reader is in the way, a later write does it.
    fn shrink(&mut self, cancelled: &dyn Fn() -> bool) {
        if self.renew().is_err() {
            return;
        }
        let _: std::result::Result<(), Error> =
            self.wait_for_log(Checkpoint::Truncate, Instant::now() + PATIENCE.min(self.config.timeout), cancelled);
    }
}
