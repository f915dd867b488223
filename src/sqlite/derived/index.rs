//! One derived index in this process: its views, and how it is to be built.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::build::{Progress, Reading, check_room, snapshot};
use super::file::{Header, Heap};
use super::folder::{self, Folder, Found};
use super::view::{Identity, Kind, Limit, Next, View};
use super::views::Views;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::IndexStats;
use crate::request::IndexAt;
use crate::sqlite::tables::changes;

/// How long a folder without a snapshot is not looked into again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a build that failed is not tried again.
const REST: Duration = Duration::from_secs(30);

/// How often a folder is listed whose snapshots go before they are opened.
const LISTINGS: usize = 3;
/// How long after a search what is new is still read before the next one.
const ASKED: Duration = Duration::from_secs(60);

/// When an index is worth building, and when a snapshot worth building anew.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// Rows from which on there is an index.
    pub rows: u64,
    /// Rows below which it goes: they may come and go about the number that is worth one.
    pub few: u64,
    /// Rows after the snapshot, or gone from it, from which on it is built anew, ...
    pub tail: usize,
    /// ... but no fewer than one in so many of its own.
    pub share: usize,
    /// Rows that a search reads to catch up; beyond, SQLite answers until that was done in the background.
    pub step: usize,
    /// Rows that are caught up with, where they are no more than a quarter of the snapshot's; beyond, it is built anew.
    pub reach: usize,
    /// Searches wait for a build.
    pub wait: bool,
}

impl From<IndexAt> for Thresholds {
    fn from(at: IndexAt) -> Self {
        Self { rows: at.rows, few: 0, tail: at.tail, share: usize::MAX, wait: at.wait, ..Self::default() }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { rows: 2_000, few: 1_000, tail: 2_000, share: 10, step: 1_000, reach: 20_000, wait: false }
    }
}

/// Where snapshots go.
#[derive(Debug, Clone)]
pub enum Place {
    Memory,
    Folder(Folder),
}

/// What an index says of itself.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Where its snapshot is; `None` on the heap.
    pub path: Option<PathBuf>,
    pub file_bytes: u64,
    /// Why the last snapshot was dropped.
    pub damaged: Option<String>,
    /// Why the last build failed.
    pub failed: Option<String>,
    /// When it failed.
    failed_at: Option<Instant>,
    looked_at: Option<Instant>,
}

/// Of one table.
pub struct Index<K: Kind> {
    pub of: K::Of,
    pub views: Views<K>,
    /// Held by who makes the next view.
    following: Mutex<()>,
    pub status: Mutex<Status>,
    pub progress: Progress,
    /// Builds under way.
    building: AtomicUsize,
    /// When a search asked it last.
    pub asked: Mutex<Option<Instant>>,
}

/// What a search is given.
pub struct Looked<K: Kind> {
    pub view: Option<Arc<View<K>>>,
    /// A build would pay.
    pub wants_build: bool,
}

impl<K: Kind> Index<K> {
    pub fn new(of: K::Of) -> Self {
        Self {
            of,
            views: Views::default(),
            following: Mutex::default(),
            status: Mutex::default(),
            progress: Progress::default(),
            building: AtomicUsize::new(0),
            asked: Mutex::default(),
        }
    }

    /// What it knows as of the state that `conn` reads. It reads what is new, or, where there is no snapshot yet, looks for
    /// one in the folder.
    pub fn look(&self, conn: &Connection, place: &Place, thresholds: Thresholds) -> Result<Looked<K>> {
        let Some(head) = changes::head(conn)? else { return Ok(Looked { view: None, wants_build: false }) };
        if let Some(view) = self.views.at(head) {
            return Ok(Looked { wants_build: wants_build(&view, thresholds), view: Some(view) });
        }
        let _following = self.following.lock();
        if let Some(view) = self.views.at(head) {
            return Ok(Looked { wants_build: wants_build(&view, thresholds), view: Some(view) });
        }
        if self.views.is_empty() {
            self.find(conn, place)?;
        }
        let Some(before) = self.views.before(head) else {
            // A reader that is late, or a table without a snapshot.
            let wants_build = self.views.is_empty() && K::stored(conn, &self.of)? >= thresholds.rows;
            return Ok(Looked { view: None, wants_build });
        };
        if before.is_far(conn, &self.of, head, thresholds.step)? {
            return Ok(Looked { view: None, wants_build: true });
        }
        let limit = Limit { after: usize::MAX, before: thresholds.step };
        match before.follow(conn, &self.of, head, limit)? {
            Next::There(view) => {
                let view = Arc::new(view);
                let wants_build = wants_build(&view, thresholds);
                self.views.keep(Arc::clone(&view));
                return Ok(Looked { view: Some(view), wants_build });
            }
            Next::Foreign => self.views.clear(),
            Next::Underway(_) | Next::Far => {}
        }
        Ok(Looked { view: None, wants_build: true })
    }

    /// The view as of the last change, a slice of rows at a time, so that neither the log nor a fork waits for long, and
    /// searches go on meanwhile; `None` where that is too far, or where the history is another one.
    fn catch_up(&self, conn: &Connection, from: &View<K>, job: &Job<'_>) -> Result<Option<View<K>>> {
        const SLICE: usize = 2_048;
        let reach = job.thresholds.reach.max(from.snapshot_rows() / 4);
        let room = job.memory.saturating_add(from.held());
        let limit = Limit { after: SLICE, before: reach };
        let mut view = from.clone();
        loop {
            self.progress.check()?;
            let next = snapshot(conn, |conn| match changes::head(conn)? {
                Some(head) if head.0 >= view.head.0 && K::lives(conn, &self.of)? => {
                    view.follow(conn, &self.of, head, limit)
                }
                _ => Ok(Next::Foreign),
            })?;
            match next {
                Next::There(next) => {
                    check_room(next.held() as u64, room)?;
                    return Ok(Some(next));
                }
                Next::Underway(next) if next.tail_rows() <= reach.saturating_add(from.tail_rows()) => {
                    check_room(next.held() as u64, room)?;
                    view = next;
                }
                _ => return Ok(None),
            }
        }
    }

    /// Reads what is new before a search has to, where one has asked lately. What is far is left to a build.
    pub fn follow(&self, conn: &Connection, job: &Job<'_>) -> Result<()> {
        if self.asked.lock().is_none_or(|at| at.elapsed() > ASKED) {
            return Ok(());
        }
        let Some(latest) = self.views.latest() else { return Ok(()) };
        let far = snapshot(conn, |conn| match changes::head(conn)? {
            Some(head) => latest.is_far(conn, &self.of, head, job.thresholds.reach),
            None => Ok(true),
        })?;
        if !far && let Some(view) = self.catch_up(conn, &latest, job)? {
            self.keep_after(&latest, view);
        }
        Ok(())
    }

    /// Keeps what comes after a view, unless a later snapshot took its place meanwhile.
    fn keep_after(&self, before: &View<K>, view: View<K>) {
        let _following = self.following.lock();
        let stands = self.views.latest().is_some_and(|latest| latest.snapshot_change == before.snapshot_change);
        if stands && self.views.at(view.head).is_none() {
            self.views.keep(Arc::new(view));
        }
    }

    /// Catches up, and says whether a new snapshot would pay.
    fn is_due(&self, conn: &Connection, job: &Job<'_>) -> Result<bool> {
        if !snapshot(conn, |conn| K::lives(conn, &self.of))? {
            return Ok(false);
        }
        let due =
            |view: &View<K>| wants_build(view, job.thresholds) || (job.full && view.tail_rows() + view.dead_rows() > 0);
        if let Some(latest) = self.views.latest() {
            match self.catch_up(conn, &latest, job) {
                Ok(Some(view)) => {
                    let due = due(&view);
                    self.keep_after(&latest, view);
                    return Ok(due);
                }
                Ok(None) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Limit) => return Err(error),
                Err(error) => self.damaged(&error),
            }
        }
        let Looked { view, wants_build } = snapshot(conn, |conn| self.look(conn, job.place, job.thresholds))?;
        Ok(wants_build || view.is_some_and(|view| due(&view)))
    }

    /// Drops what is over the memory limit; SQLite answers.
    pub fn over_limit(&self) {
        self.views.clear();
        self.failed(&Error::new(ErrorKind::Limit, "it is over the memory limit"));
    }

    /// Drops a snapshot that is damaged; SQLite answers until there is another.
    pub fn damaged(&self, error: &Error) {
        self.views.clear();
        self.status.lock().damaged = Some(error.message().to_owned());
    }

    /// Takes the snapshot that another process built, or this one before.
    fn find(&self, conn: &Connection, place: &Place) -> Result<()> {
        let Place::Folder(folder) = place else { return Ok(()) };
        {
            let mut status = self.status.lock();
            if status.damaged.is_some() || status.looked_at.is_some_and(|at| at.elapsed() < PAUSE) {
                return Ok(());
            }
            status.looked_at = Some(Instant::now());
        }
        self.adopt(conn, folder, None).map(drop)
    }

    /// Takes the latest snapshot of the folder that is as of a later change than `than`.
    fn adopt(&self, conn: &Connection, folder: &Folder, than: Option<i64>) -> Result<bool> {
        let store_id = crate::sqlite::tables::meta::store_id(conn)?;
        for _ in 0..LISTINGS {
            let Some(found) = folder.latest::<K>(conn, &self.of, store_id)? else { break };
            if than.is_some_and(|than| found.header.ended.0 <= than) {
                break;
            }
            match self.open(&found) {
                Ok(Some(view)) => {
                    let mut status = self.status.lock();
                    (status.path, status.file_bytes) = (Some(found.path), found.bytes);
                    drop(status);
                    self.views.replace(view);
                    return Ok(true);
                }
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.status.lock().damaged = Some(error.message().to_owned());
                    break;
                }
                Err(error) => {
                    self.failed(&error);
                    break;
                }
            }
        }
        Ok(false)
    }

    /// A snapshot that was listed; `None` where another process removed or replaced it since.
    fn open(&self, found: &Found) -> Result<Option<View<K>>> {
        match Folder::open(&found.path) {
            Ok((header, sections)) if header == found.header => {
                Ok(Some(View::of_snapshot(&header, K::open(&self.of, &header, sections)?)))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Builds a snapshot where that pays, or takes one that another process has built. False where another process is
    /// building.
    pub fn fold(&self, conn: &Connection, job: &Job<'_>) -> Result<bool> {
        let building = Building::new(&self.building);
        let outcome = self.try_fold(conn, job);
        drop(building);
        match &outcome {
            Ok(_) => {
                let mut status = self.status.lock();
                (status.failed, status.failed_at) = (None, None);
            }
            // It was the build that was to end.
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                self.progress.cancelled.store(false, Ordering::Relaxed)
            }
            Err(error) => self.failed(error),
        }
        outcome
    }

    /// Ends a build under way.
    pub fn cancel(&self) {
        self.progress.cancelled.store(true, Ordering::Relaxed);
    }

    /// Notes why a build failed.
    pub fn failed(&self, error: &Error) {
        let mut status = self.status.lock();
        (status.failed, status.failed_at) = (Some(error.message().to_owned()), Some(Instant::now()));
    }

    fn try_fold(&self, conn: &Connection, job: &Job<'_>) -> Result<bool> {
        if !self.is_due(conn, job)? {
            return if job.full { self.restamp(conn, job) } else { Ok(true) };
        }
        let mut turn = None;
        let mut place = job.place.clone();
        if let Place::Folder(folder) = &place {
            match if folder.writable { folder.turn() } else { Err(read_only()) } {
                Ok(None) => return Ok(false),
                Ok(Some(own)) => {
                    let than = self.views.latest().map(|view| view.snapshot_change);
                    // A damaged one would be taken again.
                    let whole = self.status.lock().damaged.is_none();
                    let adopted = whole && snapshot(conn, |conn| self.adopt(conn, folder, than))?;
                    if adopted && !self.is_due(conn, job)? {
                        return Ok(true);
                    }
                    turn = Some(own);
                }
                Err(error) if folder::is_refused(&error) => place = Place::Memory,
                Err(error) => return Err(error),
            }
        }
        let lives = |conn: &Connection| K::lives(conn, &self.of);
        let stored = |conn: &Connection| K::stored(conn, &self.of);
        let Some(mut reading) = Reading::begin(conn, &lives, &stored, &self.progress, job.memory)? else {
            return Ok(true);
        };
        let (store_id, content) = snapshot(conn, |conn| {
            Ok((crate::sqlite::tables::meta::store_id(conn)?, K::content_bytes(conn, &self.of)?))
        })?;
        let mut header = None;
        let rows = reading.stored;
        let on_disk = turn.is_some();
        let needed = K::heap_bytes(&self.of, rows, on_disk).saturating_add(2 * content);
        let own = self.views.held();
        check_room(needed, job.memory.saturating_add(own))?;
        if needed > job.memory as u64 {
            // There is no room for both.
            self.views.clear();
            reading.room = reading.room.saturating_add(own);
        }
        let mut build = |sink: &mut dyn super::file::Sink| {
            let built = K::build(&self.of, &mut reading, sink)?;
            let Identity { kind, collection_id, space_id, generation } = K::identity(&self.of);
            let (begun, ended) = reading.moments();
            let (rows, notes, last_row) = (built.rows, built.notes, reading.last_row);
            let form = K::FORM;
            let made = Header {
                kind,
                form,
                store_id,
                collection_id,
                space_id,
                generation,
                begun,
                ended,
                last_row,
                rows,
                notes,
            };
            header = Some(made.clone());
            Ok(made)
        };
        let (path, bytes, sections) = match (&place, &turn) {
            (Place::Folder(folder), Some(turn)) => {
                let bytes = K::file_bytes(&self.of, rows).saturating_add(content);
                let (path, bytes) = folder.write::<K>(&self.of, bytes, turn, |writer| build(writer))?;
                let (_, sections) = Folder::open(&path)?;
                (Some(path), bytes, sections)
            }
            _ => {
                let mut heap = Heap::default();
                build(&mut heap)?;
                (None, 0, heap.finish())
            }
        };
        let Some(header) = header else { return Err(Error::internal("a snapshot was built without a header")) };
        let view = View::of_snapshot(&header, K::open(&self.of, &header, sections)?);
        check_room(view.held() as u64, job.memory.saturating_add(own))?;
        self.publish(conn, view, job)?;
        {
            let mut status = self.status.lock();
            (status.path, status.file_bytes, status.damaged) = (path.clone(), bytes, None);
        }
        Ok(true)
    }

    /// Says of a snapshot on the disk that nothing came after it for a long time, before the feed forgets what it was built
    /// from.
    fn restamp(&self, conn: &Connection, job: &Job<'_>) -> Result<bool> {
        const BEHIND: i64 = limits::FEED_ROWS as i64 / 2;
        let (Some(view), Place::Folder(folder)) = (self.views.latest(), job.place) else { return Ok(true) };
        let path = self.status.lock().path.clone();
        let (Some(path), true) = (path, folder.writable) else { return Ok(true) };
        if view.tail_rows() + view.dead_rows() > 0 || view.head.0.saturating_sub(view.snapshot_change) < BEHIND {
            return Ok(true);
        }
        let Some(turn) = folder.turn()? else { return Ok(false) };
        let stands = snapshot(conn, |conn| Ok(K::lives(conn, &self.of)? && view.is_past_of(conn)?))?;
        if !stands || self.views.latest().is_none_or(|latest| !Arc::ptr_eq(&latest, &view)) {
            return Ok(true);
        }
        let (path, bytes) = folder.restamp::<K>(&self.of, &turn, &path, |header| Header {
            begun: view.head,
            ended: view.head,
            last_row: view.last_row,
            ..header
        })?;
        let mut status = self.status.lock();
        (status.path, status.file_bytes) = (Some(path), bytes);
        drop(status);
        self.views.replace(View { snapshot_change: view.head.0, ..View::clone(&view) });
        Ok(true)
    }

    /// The view with a new snapshot takes the place of those with the old one, as far on as they were.
    fn publish(&self, conn: &Connection, view: View<K>, job: &Job<'_>) -> Result<()> {
        let caught_up = match self.catch_up(conn, &view, job) {
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            // Without it, the snapshot is good for all the same.
            caught_up => caught_up.ok().flatten().filter(|later| later.head != view.head),
        };
        let _following = self.following.lock();
        self.views.replace(view);
        if let Some(later) = caught_up {
            self.views.keep(Arc::new(later));
        }
        Ok(())
    }

    /// Whether a build failed so recently that another is not tried.
    pub fn is_resting(&self) -> bool {
        self.status.lock().failed_at.is_some_and(|at| at.elapsed() < REST)
    }

    /// How it fares.
    pub fn stats(&self) -> IndexStats {
        let view = self.views.latest();
        let number = |figure: usize| figure as u64;
        let status = self.status.lock();
        let (done, total) = (self.progress.done.load(Ordering::Relaxed), self.progress.total.load(Ordering::Relaxed));
        IndexStats {
            change: view.as_ref().map(|view| view.snapshot_change),
            rows: view.as_ref().map_or(0, |view| number(view.snapshot_rows())),
            tail: view.as_ref().map_or(0, |view| number(view.tail_rows())),
            dead: view.as_ref().map_or(0, |view| number(view.dead_rows())),
            file_bytes: status.file_bytes,
            memory_bytes: number(self.views.held()),
            building: (self.building.load(Ordering::Acquire) > 0).then_some((done.min(total), total)),
            problem: status.failed.clone().or_else(|| status.damaged.clone()),
            ..IndexStats::default()
        }
    }
}

/// Counts a build, also one that panics.
struct Building<'b>(&'b AtomicUsize);

impl<'b> Building<'b> {
    fn new(builds: &'b AtomicUsize) -> Self {
        builds.fetch_add(1, Ordering::AcqRel);
        Self(builds)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a build needs to know beside its index.
pub struct Job<'j> {
    pub place: &'j Place,
    pub thresholds: Thresholds,
    /// Build wherever a snapshot does not hold everything.
    pub full: bool,
    /// Bytes that it may take of the heap.
    pub memory: usize,
}

fn read_only() -> Error {
    Error::new(ErrorKind::Io, "a store that only reads makes no files")
}

fn wants_build<K: Kind>(view: &View<K>, thresholds: Thresholds) -> bool {
    view.tail_rows() + view.dead_rows() > thresholds.tail.max(view.snapshot_rows() / thresholds.share)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::contract;
    use crate::request::{Open, Operation};
    use crate::sqlite::SqliteStore;
    use crate::sqlite::derived::text::Texts;
    use crate::sqlite::derived::texts_of;
    use crate::sqlite::open::{self, Caches};
    use crate::sqlite::tables::{collections, meta};
    use crate::store::{Store, Unwatched};

    #[test]
    fn a_snapshot_that_another_process_removes_is_no_damage() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a.db");
        let index_at = Some(IndexAt { rows: 1, tail: 0, wait: true });
        let store = SqliteStore::open(&Open { index_at, ..Open::file(&path) }).unwrap();
        contract::fill(&store, 9);
        store.operate(Operation::Optimize, &mut Unwatched).unwrap();
        let conn = open::reader(&path, None, Duration::ZERO, Caches::of(&Open::ephemeral())).unwrap();
        let index = Index::<Texts>::new(texts_of(&collections::list(&conn).unwrap()[0]).unwrap());
        let folder = Folder::of(&path, true);
        let latest = || folder.latest::<Texts>(&conn, &index.of, meta::store_id(&conn).unwrap()).unwrap();
        let found = latest().unwrap();
        assert!(index.open(&found).unwrap().is_some());
        let bytes = fs::read(&found.path).unwrap();
        // Replaced by one of another state, then removed.
        let later = Header { begun: (0, 7), ..found.header.clone() };
        super::super::file::restamp(&found.path, &later).unwrap();
        assert!(index.open(&found).unwrap().is_none());
        fs::remove_file(&found.path).unwrap();
        assert!(index.open(&found).unwrap().is_none());
        assert!(!index.adopt(&conn, &folder, None).unwrap());
        assert_eq!(index.stats().problem, None);
        // What is damaged is told.
        fs::write(&found.path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(index.open(&found).err().unwrap().kind(), ErrorKind::Corrupt);
        fs::write(&found.path, &bytes).unwrap();
        assert!(index.adopt(&conn, &folder, None).unwrap());
    }
}
