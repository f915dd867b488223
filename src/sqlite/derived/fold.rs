//! The thread that builds snapshots, one at a time, while everyone else reads and writes, and the one that reads what is
//! written before a search has to, also while a snapshot is built.
//!
//! Each is made when there is first something to do, has a connection of its own only while it works, and ends with the
//! store. A build that fails is tried again when a search asks for it, but not at once.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::Shared;
use super::build::{cancelled, snapshot};
use super::index::{Index, Job};
use super::view::{Identity, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::fork;
use crate::sqlite::open;

/// How long a build waits for another process's.
const TURN: Duration = Duration::from_millis(100);
/// How long writers must be quiet before what they wrote is looked at, and how long it waits for that at most.
const QUIET: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);

/// An index of any kind.
pub trait Fold: Send + Sync {
    fn identity(&self) -> Identity;
    /// As [`Index::fold`].
    fn fold(&self, conn: &Connection, job: &Job<'_>) -> Result<bool>;
    /// A build is to begin.
    fn begin(&self);
    /// Ends a build under way.
    fn cancel(&self);
    /// Notes why a build failed.
    fn failed(&self, error: &Error);
    /// Whether a build failed so recently that another is not tried.
    fn is_resting(&self) -> bool;
}

impl<K: Kind> Fold for Index<K> {
    fn identity(&self) -> Identity {
        K::identity(&self.of)
    }

    fn fold(&self, conn: &Connection, job: &Job<'_>) -> Result<bool> {
        Index::fold(self, conn, job)
    }

    fn begin(&self) {
        self.progress.cancelled.store(false, Ordering::Relaxed);
    }

    fn cancel(&self) {
        Index::cancel(self);
    }

    fn failed(&self, error: &Error) {
        Index::failed(self, error);
    }

    fn is_resting(&self) -> bool {
        Index::is_resting(self)
    }
}

struct Task {
    index: Arc<dyn Fold>,
    full: bool,
    /// Who waits for it.
    done: Option<Sender<Result<()>>>,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Rows were written that may want an index.
    survey: bool,
    thread: Option<JoinHandle<()>>,
    /// Views are behind what was written.
    behind: bool,
    follower: Option<JoinHandle<()>>,
    /// What is being built.
    current: Option<Arc<dyn Fold>>,
    closed: bool,
}

/// What the thread has to do.
#[derive(Default)]
pub struct Folding {
    state: Mutex<State>,
    changed: Condvar,
    /// Rows that were written since the last survey.
    written: AtomicU64,
    /// Rows that were written since views were last caught up.
    unfollowed: AtomicU64,
}

impl Folding {
    /// Has an index built, unless that is on its way.
    pub fn request(&self, shared: &Arc<Shared>, index: Arc<dyn Fold>) {
        if index.is_resting() {
            return;
        }
        let mut state = self.state.lock();
        let identity = index.identity();
        let underway = state.tasks.iter().map(|task| &task.index).chain(&state.current);
        if underway.into_iter().any(|other| other.identity() == identity) {
            return;
        }
        state.tasks.push_back(Task { index, full: false, done: None });
        self.wake(shared, &mut state);
    }

    /// Has an index built in full and says when that is done.
    pub fn request_full(&self, shared: &Arc<Shared>, index: Arc<dyn Fold>) -> Receiver<Result<()>> {
        let (sender, done) = bounded(1);
        let mut state = self.state.lock();
        state.tasks.push_back(Task { index, full: true, done: Some(sender) });
        self.wake(shared, &mut state);
        done
    }

    /// Notes that rows were written.
    pub fn wrote(&self, shared: &Arc<Shared>, rows: u64) {
        let written = self.written.fetch_add(rows, Ordering::Relaxed) + rows;
        if written >= shared.thresholds.rows {
            self.look_about(shared);
        }
        // Before there are more than a search reads.
        let many = (shared.thresholds.step / 2) as u64;
        if self.unfollowed.fetch_add(rows, Ordering::Relaxed) + rows >= many {
            self.unfollowed.store(0, Ordering::Relaxed);
            if shared.has_view() {
                self.follow(shared);
            }
        }
    }

    fn follow(&self, shared: &Arc<Shared>) {
        let mut state = self.state.lock();
        if state.closed || std::mem::replace(&mut state.behind, true) {
            return;
        }
        if state.follower.is_none() {
            let worker = Arc::clone(shared);
            // Without a thread searches read what is new, as far as they do.
            state.follower = thread::Builder::new().name("ragstore follow".into()).spawn(move || follow(&worker)).ok();
        }
        self.changed.notify_all();
    }

    /// Has a look at what there is to build, and to remove.
    pub fn look_about(&self, shared: &Arc<Shared>) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.survey, true) {
            self.wake(shared, &mut state);
        }
    }

    fn wake(&self, shared: &Arc<Shared>, state: &mut State) {
        if state.closed {
            state.tasks.clear();
            return;
        }
        if state.thread.is_none() {
            let worker = Arc::clone(shared);
            let spawned = thread::Builder::new().name("ragstore index".into()).spawn(move || run(&worker));
            // Without a thread SQLite goes on answering, and the next search tries again.
            match spawned {
                Ok(thread) => state.thread = Some(thread),
                Err(_) => state.tasks.clear(),
            }
        }
        self.changed.notify_all();
    }

    /// Ends the thread, with what it builds.
    pub fn close(&self) {
        let threads = {
            let mut state = self.state.lock();
            state.closed = true;
            state.tasks.clear();
            if let Some(current) = &state.current {
                current.cancel();
            }
            self.changed.notify_all();
            [state.thread.take(), state.follower.take()]
        };
        for thread in threads.into_iter().flatten() {
            // It catches nothing: a panic of a build ends there.
            let _ = thread.join();
        }
    }

    /// Lets go of the threads: after a fork they are the parent's.
    pub fn forget(&self) {
        if let Some(mut state) = self.state.try_lock() {
            state.closed = true;
            std::mem::forget([state.thread.take(), state.follower.take()]);
        }
    }

    /// Ends the build that is under way.
    pub fn cancel(&self) {
        if let Some(current) = &self.state.lock().current {
            current.cancel();
        }
    }

    fn closed(&self) -> bool {
        self.state.lock().closed
    }
}

enum Next {
    Task(Task),
    Survey,
    End,
}

fn next(folding: &Folding) -> Next {
    let mut state = folding.state.lock();
    loop {
        if state.closed {
            return Next::End;
        }
        if let Some(task) = state.tasks.pop_front() {
            task.index.begin();
            state.current = Some(Arc::clone(&task.index));
            return Next::Task(task);
        }
        if std::mem::take(&mut state.survey) {
            return Next::Survey;
        }
        folding.changed.wait(&mut state);
    }
}

fn run(shared: &Arc<Shared>) {
    let folding = &shared.folding;
    loop {
        match next(folding) {
            Next::End => return,
            Next::Survey => survey(shared),
            Next::Task(task) => {
                let outcome = catch_unwind(AssertUnwindSafe(|| build(shared, &task)));
                let outcome = outcome.unwrap_or_else(|_| {
                    let error = Error::internal("the build of an index panicked; please report it");
                    task.index.failed(&error);
                    Err(error)
                });
                let mut state = folding.state.lock();
                state.current = None;
                match outcome {
                    Ok(false) if !state.closed => {
                        // Another process builds; what it makes is taken when it is done.
                        state.tasks.push_back(task);
                        folding.changed.wait_for(&mut state, TURN);
                    }
                    outcome => {
                        drop(state);
                        if let Some(done) = task.done {
                            let _ = done.send(outcome.map(drop));
                        }
                    }
                }
            }
        }
    }
}

/// Catches up whenever it is told to.
fn follow(shared: &Arc<Shared>) {
    let folding = &shared.folding;
    loop {
        {
            let mut state = folding.state.lock();
            while !state.closed && !std::mem::take(&mut state.behind) {
                folding.changed.wait(&mut state);
            }
            if state.closed {
                return;
            }
        }
        // What cannot be read now is read by whoever searches.
        let Ok(conn) = connect(shared) else { continue };
        shared.follow(&conn);
        let _activity = fork::enter();
        drop(conn);
    }
}

fn build(shared: &Arc<Shared>, task: &Task) -> Result<bool> {
    let conn = connect(shared)?;
    if shared.memory.is_some() {
        shared.thin();
    }
    let job = Job { place: &shared.place, thresholds: shared.thresholds, full: task.full, memory: shared.room() };
    let outcome = task.index.fold(&conn, &job);
    if let Ok(true) = outcome {
        // What is left lying costs room, and the next build removes it.
        let _: Result<()> = shared.sweep(&conn, shared.thresholds.few);
    }
    let _activity = fork::enter();
    drop(conn);
    outcome
}

fn connect(shared: &Shared) -> Result<Connection> {
    let _activity = fork::enter();
    open::reader(&shared.file, shared.cipher.as_deref(), shared.timeout, shared.caches)
}

/// Waits until writers pause, and has built what their rows make worth it.
fn survey(shared: &Arc<Shared>) {
    let folding = &shared.folding;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = folding.written.load(Ordering::Relaxed);
        let mut state = folding.state.lock();
        if state.closed {
            return;
        }
        folding.changed.wait_for(&mut state, QUIET);
        if state.closed {
            return;
        }
        drop(state);
        if folding.written.load(Ordering::Relaxed) == before || Instant::now() >= deadline {
            break;
        }
    }
    folding.written.store(0, Ordering::Relaxed);
    // What cannot be read now is told to whoever searches.
    let Ok(conn) = connect(shared) else { return };
    let indexes = snapshot(&conn, |conn| shared.worthwhile(conn));
    let _: Result<()> = shared.sweep(&conn, shared.thresholds.few);
    {
        let _activity = fork::enter();
        drop(conn);
    }
    for index in indexes.unwrap_or_default() {
        folding.request(shared, index);
    }
}

impl Shared {
    /// Builds everything in full, on the thread, and waits for it. Removes what is not wanted, so that no word of what was
    /// deleted is left.
    pub fn fold_all(self: &Arc<Self>, keep_going: &mut dyn FnMut() -> bool) -> Result<()> {
        let conn = connect(self)?;
        let indexes =
            self.sweep(&conn, self.thresholds.rows).and_then(|()| snapshot(&conn, |conn| self.worthwhile(conn)));
        {
            let _activity = fork::enter();
            drop(conn);
        }
        let indexes = indexes?;
        let mut outcomes = Vec::with_capacity(indexes.len());
        for index in indexes {
            let done = self.folding.request_full(self, Arc::clone(&index));
            loop {
                match done.recv_timeout(TURN / 2) {
                    // A table that was replaced meanwhile has another index.
                    Ok(Err(error)) if error.kind() == ErrorKind::Cancelled && !self.folding.closed() => break,
                    Ok(outcome) => break outcomes.push(outcome),
                    Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                        if !keep_going() {
                            index.cancel();
                            return Err(Error::new(cancelled().kind(), "cancelled by the caller"));
                        }
                        if self.folding.closed() {
                            return Err(crate::sqlite::readers::closed());
                        }
                    }
                    Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
                        return Err(crate::sqlite::readers::closed());
                    }
                }
            }
        }
        // One that cannot be built is no reason to leave the others.
        outcomes.into_iter().collect()
    }
}
