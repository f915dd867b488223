//! The one thread that writes. It takes writes from a bounded queue, commits those that may share a commit as one, and
//! acknowledges each after the commit. Operations on the file run on it too, never inside a transaction of others.

mod log;
mod operate;
mod purge;
mod renew;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, bounded};
use parking_lot::Mutex;
use rusqlite::Connection;

use super::cipher::Cipher;
use super::fork;
use super::guard::Guard;
use super::lock;
use super::open::{Caches, Synchronous};
use super::ops::{self, Step};
use super::page_cache::PageCache;
use super::readers::closed;
use super::txn::{self, Progress, Txn};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Source};
use crate::limits;
use crate::request::{Operation, Write, Written};
use crate::store::Watch;

/// How often a waiting caller looks at its progress and at signals.
const TICK: Duration = Duration::from_millis(50);
/// How long the writer waits for as many writes as shared the last commit. Less than one sync of a fast disk.
const GATHER: Duration = Duration::from_micros(100);
enum Command {
    Write(Job),
    Operate(Task),
    Close,
}

/// What runs between transactions.
enum Work {
    Operation(Operation),
    /// Of a collection, what was deleted.
    Purge(i64),
}

/// Work on the file and who waits for it.
struct Task {
    work: Work,
    progress: Arc<Progress>,
    reply: Sender<Result<()>>,
}

/// What others may know of the writer while it works.
#[derive(Debug, Default)]
pub struct Status {
    /// What a panic said. Nothing is written after it.
    pub poison: Mutex<Option<String>>,
    /// Why the log was last not moved, where that was no reader.
    pub checkpoint_failure: Mutex<Option<String>>,
    pub checkpoints: AtomicU64,
    /// Of the write connection's page cache.
    pub cache: PageCache,
}

struct Job {
    writes: Vec<Write>,
    progress: Arc<Progress>,
    reply: Sender<Result<Vec<Written>>>,
}

impl Job {
    /// Whether it is small enough to wait for others, and they for it.
    fn may_share(&self) -> bool {
        const DOCUMENTS: usize = 64;
        self.writes.iter().all(|write| match write {
            Write::Add(add) => {
                add.documents.len() <= DOCUMENTS
                    && add.embeddings.as_ref().is_none_or(|e| e.bytes() <= limits::SHARED_COMMIT_BYTES)
            }
            Write::AddChunks(add) => {
                add.chunks.len() <= DOCUMENTS
                    && add.embeddings.as_ref().is_none_or(|e| e.bytes() <= limits::SHARED_COMMIT_BYTES)
            }
            Write::CacheEmbeddings(cache) => cache.embeddings.bytes() <= limits::SHARED_COMMIT_BYTES,
            Write::SetEmbeddings(set) => set.chunk_ids.len() <= DOCUMENTS,
            Write::DeleteEmbeddings(delete) => delete.chunk_ids.len() <= DOCUMENTS,
            Write::SetState(set) => set.entries.len() <= DOCUMENTS,
            Write::ImportRelations(import) => import.relations.len() <= DOCUMENTS,
            Write::ImportState(import) => import.entries.len() <= DOCUMENTS,
            Write::DeleteState(delete) => delete.keys.as_ref().is_some_and(|keys| keys.len() <= DOCUMENTS),
            Write::AddPeer(_)
            | Write::CreateCollection(_)
            | Write::CreateSpace(_)
            | Write::LogSync(_)
            | Write::NoteExport(_)
            | Write::Relate(_)
            | Write::RemovePeer(_)
            | Write::SetModel(_)
            | Write::Unrelate(_) => true,
            Write::ApplyChanges(_)
            | Write::Clear(_)
            | Write::ClearEmbeddingCache(_)
            | Write::Delete(_)
            | Write::CreateIndex(_)
            | Write::DeleteCollection(_)
            | Write::DropIndex(_)
            | Write::Expire(_)
            | Write::DeleteSpace(_)
            | Write::Forget(_)
            | Write::Reclock
            | Write::RenewReplica
            | Write::Repair
            | Write::SetTokenizer(_)
            | Write::UpdateMetadata(_) => false,
        })
    }

    fn cancelled(&self) -> bool {
        self.progress.cancelled.load(Ordering::Relaxed)
    }

    /// The caller may have gone only by a panic of its own; there is nobody to tell then.
    fn answer(self, result: Result<Vec<Written>>) {
        let Self { writes, reply, progress: _ } = self;
        // A caller's array is no longer touched once it has its answer.
        drop(writes);
        let _ = reply.send(result);
    }
}

/// How a writer works.
#[derive(Clone)]
pub struct Config {
    pub path: PathBuf,
    pub cipher: Option<Arc<Cipher>>,
    pub synchronous: Synchronous,
    pub timeout: Duration,
    pub caches: Caches,
    pub source: Source,
}

/// The callers' side. The connection and the thread are made when first needed: a store that only reads opens sooner.
pub struct Writer {
    config: Config,
    running: Mutex<Option<Running>>,
    /// Changed under the lock of `running`.
    closed: AtomicBool,
    /// Let go with the connection.
    guard: Mutex<Option<Arc<Guard>>>,
    /// Shared with the thread.
    pub status: Arc<Status>,
}

struct Running {
    queue: Sender<Command>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// With a connection where there is one already. An ephemeral store has no guard: nobody else knows its file, and
    /// nobody needs it afterwards.
    pub fn new(config: Config, guard: Option<Arc<Guard>>, conn: Option<Connection>) -> Result<Self> {
        let (running, closed, guard, status) =
            (Mutex::new(None), AtomicBool::new(false), Mutex::new(guard), Arc::default());
        let writer = Self { config, running, closed, guard, status };
        if let Some(conn) = conn {
            let running = writer.start(conn)?;
            *writer.running.lock() = Some(running);
        }
        Ok(writer)
    }

    fn start(&self, mut conn: Connection) -> Result<Running> {
        let (queue, commands) = bounded(limits::QUEUE);
        let log = Arc::new(AtomicUsize::new(0));
        renew::count_log(&mut conn, &log)?;
        let name = self.config.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let worker = Worker {
            conn,
            config: self.config.clone(),
            guard: self.guard.lock().clone(),
            commands,
            log,
            next: None,
            expected: 1,
            distrusted: Cell::new(false),
            status: Arc::clone(&self.status),
            stuck: Cell::new(false),
            warned: false,
            committing: Cell::new(false),
        };
        let thread = thread::Builder::new().name(format!("ragstore {name}")).spawn(move || worker.run())?;
        Ok(Running { queue, thread })
    }

    fn queue(&self) -> Result<Sender<Command>> {
        let mut running = self.running.lock();
        if let Some(running) = &*running {
            return Ok(running.queue.clone());
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(closed());
        }
        let conn = {
            let _activity = fork::enter();
            self.config.open()?
        };
        let started = self.start(conn)?;
        Ok(running.insert(started).queue.clone())
    }

    /// Queues writes that are committed as one and waits for their outcome.
    pub fn write(&self, writes: Vec<Write>, watch: &mut dyn Watch) -> Result<Vec<Written>> {
        self.ask(|progress, reply| Command::Write(Job { writes, progress, reply }), watch)
    }

    /// Queues an operation and waits for its end.
    pub fn operate(&self, operation: Operation, watch: &mut dyn Watch) -> Result<()> {
        self.work(Work::Operation(operation), watch)
    }

    /// Queues the removal of what pages and the log still hold of what a collection deleted, and waits for its end.
    pub fn purge(&self, collection_id: i64, watch: &mut dyn Watch) -> Result<()> {
        self.work(Work::Purge(collection_id), watch)
    }

    fn work(&self, work: Work, watch: &mut dyn Watch) -> Result<()> {
        self.ask(|progress, reply| Command::Operate(Task { work, progress, reply }), watch)
    }

    /// Writes and operations that wait for their turn.
    pub fn queued(&self) -> usize {
        self.running.lock().as_ref().map_or(0, |running| running.queue.len())
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(Arc<Progress>, Sender<Result<T>>) -> Command,
        watch: &mut dyn Watch,
    ) -> Result<T> {
        let queue = self.queue()?;
        let progress = Arc::new(Progress::default());
        let (reply, outcome) = bounded(1);
        let mut command = command(Arc::clone(&progress), reply);
        loop {
            match queue.send_timeout(command, TICK) {
                Ok(()) => break,
                Err(SendTimeoutError::Timeout(back)) => command = back,
                Err(SendTimeoutError::Disconnected(_)) => return Err(closed()),
            }
            if !watch.keep_going(0, 0) {
                return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller; nothing was stored"));
            }
        }
        loop {
            match outcome.recv_timeout(TICK) {
                Ok(result) => {
                    if result.is_ok() {
                        let total = progress.total.load(Ordering::Relaxed);
                        // Committed: the wish to stop comes too late, and is the caller's to see.
                        let _ = watch.keep_going(total, total);
                    }
                    return result;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let (done, total) = (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
                    // The last of it is done when all of it is committed.
                    let done = done.min(total.saturating_sub(1));
                    if !progress.cancelled.load(Ordering::Relaxed) && !watch.keep_going(done, total) {
                        progress.cancelled.store(true, Ordering::Relaxed);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    // Closed between the check and the queue.
                    return Err(closed());
                }
            }
        }
    }

    /// Lets the queued writes finish, moves the log into the file and ends the thread.
    pub fn close(&self) {
        let mut running = self.running.lock();
        self.closed.store(true, Ordering::Relaxed);
        if let Some(Running { queue, thread }) = running.take() {
            let _ = queue.send(Command::Close);
            // The worker catches panics, and what it could not do it has told its callers.
            let _ = thread.join();
        }
        drop(self.guard.lock().take());
    }

    /// Lets go of the thread: after a fork it exists in the parent only.
    pub fn forget(&self) {
        if let Some(mut running) = self.running.try_lock() {
            std::mem::forget(running.take());
        }
        if let Some(mut guard) = self.guard.try_lock() {
            std::mem::forget(guard.take());
        }
    }
}

struct Worker {
    conn: Connection,
    config: Config,
    guard: Option<Arc<Guard>>,
    commands: Receiver<Command>,
    /// Pages in the log as of the last commit.
    log: Arc<AtomicUsize>,
    /// Taken from the queue, but not with the group before it.
    next: Option<Command>,
    /// Writes that shared the last commit.
    expected: usize,
    /// The connection met an I/O error since it was opened.
    distrusted: Cell<bool>,
    status: Arc<Status>,
    /// A reader kept the log from being moved for as long as a write may wait; the next does not wait again.
    stuck: Cell<bool>,
    /// It was told that the log grows.
    warned: bool,
    /// What the last write was to store may be stored.
    committing: Cell<bool>,
}

enum Failure {
    /// Of no write in particular; running them apart would not help.
    Shared(Error),
    /// Of one of the writes, or of their commit.
    Own(Error),
}

impl Worker {
    fn run(mut self) {
        let mut closing = false;
        loop {
            let command = match self.next.take() {
                Some(command) => command,
                None => match self.commands.recv() {
                    Ok(command) => command,
                    Err(_) => Command::Close,
                },
            };
            let handled = catch_unwind(AssertUnwindSafe(|| match command {
                Command::Write(job) => self.write(job),
                Command::Operate(task) => self.operate(task),
                Command::Close => closing = true,
            }));
            if closing {
                break;
            }
            // Those who wait are told with what was caught nearer to it; here nobody waits.
            if let Err(panic) = handled {
                self.poison(panic.as_ref(), "every call has its answer");
            }
            self.status.cache.count(&self.conn);
        }
        if self.guard.is_some() && self.renew().is_ok() {
            self.truncate_log();
        }
        // Dropped before the guard, whose files may close only after SQLite's.
        {
            let _activity = fork::enter();
            drop(self.conn);
        }
        drop(self.guard);
    }

    fn write(&mut self, job: Job) {
        let group = self.gather(job);
        self.expected = group.len();
        self.commit(group);
        self.tend_log();
    }

    /// The write with those that wait behind it and may share its commit.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let shared = first.may_share();
        let mut group = vec![first];
        let deadline = Instant::now() + GATHER;
        while shared && group.len() < limits::COMMIT_GROUP {
            let command = match self.commands.try_recv() {
                Ok(command) => Ok(command),
                Err(TryRecvError::Empty) if group.len() < self.expected => {
                    self.commands.recv_deadline(deadline).map_err(drop)
                }
                Err(_) => Err(()),
            };
            match command {
                Ok(Command::Write(job)) if job.may_share() => group.push(job),
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(()) => break,
            }
        }
        group
    }

    fn commit(&mut self, group: Vec<Job>) {
        if let Some(error) = self.poisoned() {
            group.into_iter().for_each(|job| job.answer(Err(error.clone())));
            return;
        }
        match self.renew().map_err(Failure::Shared).and_then(|()| self.guarded(&group)) {
            Ok(outcomes) => group.into_iter().zip(outcomes).for_each(|(job, outcome)| job.answer(Ok(outcome))),
            Err(Failure::Own(_)) if group.len() > 1 && self.poisoned().is_none() => {
                // One victim does not take the others along.
                group.into_iter().for_each(|job| self.commit(vec![job]));
            }
            Err(Failure::Own(error) | Failure::Shared(error)) => {
                group.into_iter().for_each(|job| job.answer(Err(error.clone())));
            }
        }
    }

    fn poisoned(&self) -> Option<Error> {
        let poison = self.status.poison.lock();
        let message = poison.as_ref()?;
        Some(Error::internal(format!("the writer stopped after a panic ({message}); open the store again")))
    }

    fn guarded(&mut self, group: &[Job]) -> std::result::Result<Vec<Vec<Written>>, Failure> {
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(group)));
        attempt.unwrap_or_else(|panic| {
            let outcome = if self.committing.get() {
                "what the call was to store may be stored; open the store again and look"
            } else {
                "nothing of the call was stored"
            };
            Err(Failure::Shared(self.poison(panic.as_ref(), outcome)))
        })
    }

    /// Rolls back after a panic; nothing is written any more.
    fn poison(&self, panic: &(dyn std::any::Any + Send), outcome: &str) -> Error {
        let message = panic_message(panic);
        lock::rollback(&self.conn);
        let error = Error::internal(format!("the writer panicked: {message}; {outcome}"));
        self.tell(Event::WriterPanicked);
        *self.status.poison.lock() = Some(message);
        error
    }

    /// One transaction over all writes.
    fn attempt(&self, group: &[Job]) -> std::result::Result<Vec<Vec<Written>>, Failure> {
        self.committing.set(false);
        let steps: Vec<Vec<Step<'_>>> = group
            .iter()
            .map(|job| job.writes.iter().map(Step::prepare).collect::<Result<_>>())
            .collect::<Result<_>>()
            .map_err(Failure::Own)?;
        let cancelled = || group.iter().all(Job::cancelled);
        self.make_room(&cancelled).map_err(Failure::Shared)?;
        let deadline = Instant::now() + self.config.timeout;
        let begun = txn::begin(&self.conn, self.guard.as_deref(), deadline, &cancelled);
        let _locked = begun.map_err(|error| Failure::Shared(self.examine(error)))?;
        let result = match self.transaction(group, &steps) {
            Ok((txn, outcomes)) => self.finish(txn).map(|()| outcomes),
            Err(error) => Err(Failure::Own(self.examine(error))),
        };
        if result.is_err() {
            lock::rollback(&self.conn);
            if !self.conn.is_autocommit() {
                self.distrusted.set(true);
            }
        }
        result
    }

    /// Everything but the commit.
    fn transaction(&self, group: &[Job], steps: &[Vec<Step<'_>>]) -> Result<(Txn<'_>, Vec<Vec<Written>>)> {
        if group.iter().any(|job| job.writes.iter().any(|write| matches!(write, Write::Repair))) {
            ops::repair::ensure_clock(&self.conn)?;
        }
        let mut txn = Txn::new(&self.conn)?;
        let mut outcomes = Vec::with_capacity(group.len());
        for (job, steps) in group.iter().zip(steps) {
            let run = |step| ops::run(&mut txn, step, &job.progress);
            outcomes.push(steps.iter().map(run).collect::<Result<Vec<Written>>>()?);
        }
        Ok((txn, outcomes))
    }

    /// A fork waits for it: the queue of events must not be inherited half changed.
    fn tell(&self, event: Event) {
        let _activity = fork::enter();
        self.config.source.tell(event);
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
