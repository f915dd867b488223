//! Indexes that answer sooner, derived from the tables that always can answer (`docs/architecture.md`).
//!
//! ```text
//! answer = best of (snapshot as of a change, exact scan of what came since) minus what is gone since
//! ```
//!
//! A *snapshot* is a file or an array on the heap; a *view* is a snapshot with what came since, as of exactly the state
//! that a reader reads. Where there is none that fits, SQLite alone answers, so nothing here is ever needed for an answer,
//! and everything may be deleted at any time.

mod build;
mod bytes;
mod family;
mod file;
mod fold;
mod folder;
mod index;
mod text;
mod vectors;
mod view;
mod views;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use self::build::snapshot;
use self::family::Family;
use self::fold::{Fold, Folding};
use self::folder::Folder;
pub use self::index::Thresholds;
use self::index::{Index, Job, Looked, Place};
pub use self::text::{Living, Request as TextRequest};
use self::text::{Texts, TextsOf};
use self::vectors::Vectors;
pub use self::vectors::{Found, Request, VectorsOf};
use self::view::{Identity, Kind, View};
use crate::error::{Error, ErrorKind, Result};
use crate::model::IndexStats;
use crate::request::{Derived as Where, Open};
use crate::sqlite::cipher::Cipher;
use crate::sqlite::open::Caches;
use crate::sqlite::row_sets::RowSets;
use crate::sqlite::tables::collections::CollectionRow;
use crate::sqlite::tables::fts::FtsTable;
use crate::sqlite::tables::vectors::{self as vector_table, VectorTable};
use crate::sqlite::tables::{collections, meta, spaces};
use crate::text_index;

/// The indexes of one store in this process. Clones are the same.
#[derive(Clone)]
pub struct Derived {
    shared: Option<Arc<Shared>>,
    /// Of the store: half of it is for indexes and sets of filters.
    pub memory_limit: Option<usize>,
    /// Sets of filters, which are kept with or without indexes.
    pub row_sets: Arc<RowSets>,
}

/// What searches and the thread that builds share.
pub struct Shared {
    file: PathBuf,
    cipher: Option<Arc<Cipher>>,
    timeout: Duration,
    caches: Caches,
    place: Place,
    thresholds: Thresholds,
    /// Bytes of the heap for all of it.
    memory: Option<usize>,
    row_sets: Arc<RowSets>,
    vectors: Family<Vectors>,
    texts: Family<Texts>,
    folding: Folding,
}

/// Where the snapshots of a store live. The one place that decides it.
fn place(request: &Open, file: &Path) -> Option<Place> {
    // The sections are arrays of numbers as this processor has them, and what an encrypted store holds is not to be on the
    // disk in the clear.
    let beside = cfg!(target_endian = "little") && request.path.is_some() && request.key.is_none();
    match request.derived {
        Where::Off => None,
        Where::Auto if beside => Some(Place::Folder(Folder::of(file, !request.read_only))),
        Where::Auto | Where::Memory => Some(Place::Memory),
    }
}

/// Removes the snapshots beside a file.
pub fn remove(file: &Path) -> Result<()> {
    Folder::of(file, true)
        .remove()
        .map_err(|error| error.context("indexes that are not encrypted lie beside the store and cannot be removed"))
}

/// Where the snapshots of the store in a file are.
pub fn folder(file: &Path) -> PathBuf {
    Folder::of(file, false).path
}

/// The snapshots beside a file, also unfinished ones.
pub fn files(file: &Path) -> Vec<PathBuf> {
    Folder::of(file, false).all()
}

/// The collection of which a snapshot is, where its header can be read.
pub fn collection_of(path: &Path) -> Option<i64> {
    file::read_header(path).ok().map(|header| header.collection_id)
}

/// The length of a snapshot's header, where it can be read: names and numbers that say nothing of the content.
pub fn header_length(path: &Path) -> Option<u64> {
    file::read_header(path).ok().map(|_| file::HEADER as u64)
}

/// How an answer of an index came about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Followed {
    /// The change as of which the snapshot is.
    pub change: i64,
    pub snapshot_rows: usize,
    pub tail_rows: usize,
    pub dead_rows: usize,
    /// Rows that were looked at, and vectors that were compared as they are and not by their codes.
    pub compared: u64,
    pub rescored: u64,
    /// How it went through the rows.
    pub road: &'static str,
}

impl Followed {
    fn of<K: Kind>(view: &View<K>, compared: u64, road: &'static str) -> Self {
        Self {
            change: view.snapshot_change,
            snapshot_rows: view.snapshot_rows(),
            tail_rows: view.tail_rows(),
            dead_rows: view.dead_rows(),
            compared,
            rescored: 0,
            road,
        }
    }
}

impl Derived {
    /// For a store that is opened so.
    pub fn new(request: &Open, file: &Path, cipher: Option<Arc<Cipher>>, caches: Caches) -> Self {
        let memory = request.memory_limit.map(|limit| limit / 2);
        let row_sets = Arc::new(RowSets::within(memory));
        let shared = place(request, file).map(|place| {
            Arc::new(Shared {
                file: file.to_owned(),
                cipher,
                timeout: request.timeout,
                caches,
                place,
                thresholds: request.index_at.map_or_else(Thresholds::default, Thresholds::from),
                memory,
                row_sets: Arc::clone(&row_sets),
                vectors: Family::default(),
                texts: Family::default(),
                folding: Folding::default(),
            })
        });
        Self { shared, memory_limit: request.memory_limit, row_sets }
    }

    /// The nearest vectors, as of the state that `conn` reads; `None` where SQLite is to answer.
    pub fn nearest(
        &self,
        conn: &Connection,
        collection_id: i64,
        table: VectorTable,
        request: &Request<'_>,
    ) -> Result<Option<(Found, Followed)>> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let of = VectorsOf { collection_id, table };
        let index = shared.vectors.of(&of);
        let Some(view) = shared.view(conn, &index)? else { return Ok(None) };
        match vectors::search(&view, request) {
            Ok(found) => {
                let followed = Followed { rescored: found.rescored, ..Followed::of(&view, found.compared, found.road) };
                Ok(Some((found, followed)))
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            Err(error) => {
                shared.damaged(&index, &error);
                Ok(None)
            }
        }
    }

    /// The text index of a collection as of the state that `conn` reads; `None` where SQLite is to answer.
    pub fn texts(&self, conn: &Connection, collection: &CollectionRow) -> Result<Option<TextView>> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let index = shared.texts.of(&texts_of(collection)?);
        let view = shared.view(conn, &index)?;
        Ok(view.map(|view| TextView { shared: Arc::clone(shared), index, view }))
    }

    /// Notes that a write dropped tables, whose snapshots may go.
    pub fn dropped(&self) {
        if let Some(shared) = &self.shared
            && (shared.has_any() || matches!(&shared.place, Place::Folder(folder) if folder.exists()))
        {
            shared.folding.look_about(shared);
        }
    }

    /// Notes that a write added rows.
    pub fn wrote(&self, rows: u64) {
        if let Some(shared) = &self.shared {
            shared.folding.wrote(shared, rows);
        }
    }

    /// Builds everything in full and waits for it.
    pub fn fold_all(&self, keep_going: &mut dyn FnMut() -> bool) -> Result<()> {
        self.shared.as_ref().map_or(Ok(()), |shared| shared.fold_all(keep_going))
    }

    /// Bytes of the heap of all indexes.
    pub fn held(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.held())
    }

    /// How those indexes fare that this process has looked at, of tables that `conn` sees.
    pub fn stats(&self, conn: &Connection) -> Result<Vec<IndexStats>> {
        let Some(shared) = &self.shared else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for collection in collections::list(conn)? {
            let named = |stats| IndexStats { collection: collection.name.clone(), ..stats };
            all.extend(shared.texts.find(&texts_of(&collection)?).map(|index| named(index.stats())));
            for space in spaces::list(conn, collection.id)? {
                let Some(table) = space.table() else { continue };
                let index = shared.vectors.find(&VectorsOf { collection_id: collection.id, table });
                let named = |stats| IndexStats { space: Some(space.name.clone()), ..named(stats) };
                all.extend(index.map(|index| named(index.stats())));
            }
        }
        // Of a table with few rows nobody wants one.
        all.retain(|stats| stats.change.is_some() || stats.building.is_some() || stats.problem.is_some());
        Ok(all)
    }

    /// Removes what was derived of a collection, in memory and beside the file, wherever this store keeps its own, and
    /// what is beside it of collections that are none of the others: what is built after that is of what is there then.
    /// A build of this process ends; [`Self::look_about`] begins it again.
    pub fn forget_collection(
        &self,
        file: &Path,
        collection_id: i64,
        others: &BTreeSet<i64>,
        wait: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let drop_views = || {
            if let Some(shared) = &self.shared {
                // Whatever it builds, the turn is its.
                shared.folding.cancel();
                shared.vectors.forget(collection_id);
                shared.texts.forget(collection_id);
            }
        };
        drop_views();
        let mut wait = || {
            drop_views();
            wait()
        };
        Folder::of(file, true).forget(others, &mut wait)?;
        // A search may have found the old ones meanwhile.
        drop_views();
        Ok(())
    }

    /// Has a look at what there is to build.
    pub fn look_about(&self) {
        if let Some(shared) = &self.shared {
            shared.folding.look_about(shared);
        }
    }

    /// Ends what is being built.
    pub fn close(&self) {
        if let Some(shared) = &self.shared {
            shared.vectors.cancel();
            shared.texts.cancel();
            shared.folding.close();
        }
    }

    /// After a fork: the thread is the parent's.
    pub fn forget(&self) {
        if let Some(shared) = &self.shared {
            shared.folding.forget();
        }
    }
}

/// A text index as of one state.
pub struct TextView {
    shared: Arc<Shared>,
    index: Arc<Index<Texts>>,
    view: Arc<View<Texts>>,
}

impl TextView {
    /// The best rows; `None` where SQLite is to answer.
    pub fn search(&self, request: &TextRequest<'_>) -> Result<Option<(text_index::Found, Followed)>> {
        match text::search(&self.view, request) {
            Ok(found) => {
                let followed = Followed::of(&self.view, found.looked, "postings");
                Ok(Some((found, followed)))
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            Err(error) => {
                self.shared.damaged(&self.index, &error);
                Ok(None)
            }
        }
    }
}

impl Shared {
    fn has_view(&self) -> bool {
        self.vectors.has_view() || self.texts.has_view()
    }

    fn has_any(&self) -> bool {
        !self.vectors.is_empty() || !self.texts.is_empty()
    }

    /// What an index knows as of the state that `conn` reads. Where it knows nothing, SQLite answers.
    fn view<K: Kind>(self: &Arc<Self>, conn: &Connection, index: &Arc<Index<K>>) -> Result<Option<Arc<View<K>>>> {
        *index.asked.lock() = Some(Instant::now());
        match index.look(conn, &self.place, self.thresholds) {
            // What came since is on the heap, too.
            Ok(looked) if (looked.view.is_some() || looked.wants_build) && !self.has_room() => {
                index.over_limit();
                if looked.view.is_some() { Ok(None) } else { self.built(conn, index, looked) }
            }
            Ok(looked) => self.built(conn, index, looked),
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                // It may take longer than any search has time for.
                self.folding.request(self, Arc::<Index<K>>::clone(index));
                Err(error)
            }
            Err(error) => {
                // What is wrong with the tables themselves, SQLite will say.
                self.damaged(index, &error);
                Ok(None)
            }
        }
    }

    /// The view, and a build where one would pay.
    fn built<K: Kind>(
        self: &Arc<Self>,
        conn: &Connection,
        index: &Arc<Index<K>>,
        looked: Looked<K>,
    ) -> Result<Option<Arc<View<K>>>> {
        if !looked.wants_build {
            return Ok(looked.view);
        }
        if self.thresholds.wait {
            let done = self.folding.request_full(self, Arc::<Index<K>>::clone(index));
            // A build that fails leaves SQLite to answer, as it would without waiting.
            drop(done.recv());
            return Ok(index.look(conn, &self.place, self.thresholds)?.view);
        }
        self.folding.request(self, Arc::<Index<K>>::clone(index));
        Ok(looked.view)
    }

    fn damaged<K: Kind>(self: &Arc<Self>, index: &Arc<Index<K>>, error: &Error) {
        index.damaged(error);
        self.folding.request(self, Arc::<Index<K>>::clone(index));
    }

    /// Bytes of the heap that are left.
    fn room(&self) -> usize {
        self.memory.map_or(usize::MAX, |memory| memory.saturating_sub(self.held() + self.row_sets.held()))
    }

    fn held(&self) -> usize {
        self.vectors.held() + self.texts.held()
    }

    /// Whether any is left. What is only kept for later goes first.
    fn has_room(&self) -> bool {
        if self.room() > 0 {
            return true;
        }
        self.thin();
        self.room() > 0
    }

    /// Lets go of what nobody needs now.
    fn thin(&self) {
        self.row_sets.clear();
        self.vectors.thin();
        self.texts.thin();
    }

    /// Reads what is new to the indexes that searches ask.
    fn follow(&self, conn: &Connection) {
        let job = Job { place: &self.place, thresholds: self.thresholds, full: false, memory: self.room() };
        self.texts.follow(conn, &job);
        self.vectors.follow(conn, &job);
    }

    /// Removes the snapshots of tables that are there no more or have fewer rows than so many, of other histories, and those
    /// that have a later one.
    fn sweep(&self, conn: &Connection, rows: u64) -> Result<()> {
        let living = snapshot(conn, |conn| living(conn, rows))?;
        self.vectors.retain(&living);
        self.texts.retain(&living);
        let Place::Folder(folder) = &self.place else { return Ok(()) };
        // Its lock comes before the snapshot: what another process wrote before is of a state that is seen here.
        let Some(turn) = folder.existing_turn()? else { return Ok(()) };
        snapshot(conn, |conn| {
            let living = self::living(conn, rows)?;
            let store_id = meta::store_id(conn)?;
            let mut latest: HashMap<Identity, i64> = HashMap::new();
            let mut wanted = HashSet::new();
            for (path, header) in folder.headers() {
                let identity = header.identity();
                let change = header.ended.0;
                if header.store_id == store_id && living.contains(&identity) && folder::is_past(conn, &header)? {
                    let first = latest.entry(identity).or_insert(change);
                    *first = change.max(*first);
                    wanted.insert((path, identity, change));
                }
            }
            wanted.retain(|(_, identity, change)| latest.get(identity) == Some(change));
            let paths: HashSet<&Path> = wanted.iter().map(|(path, ..)| path.as_path()).collect();
            folder.sweep(&turn, &|path| paths.contains(path));
            Ok(())
        })
    }

    /// The indexes that are worth having.
    fn worthwhile(&self, conn: &Connection) -> Result<Vec<Arc<dyn Fold>>> {
        let mut found: Vec<Arc<dyn Fold>> = Vec::new();
        for collection in collections::list(conn)? {
            let of = texts_of(&collection)?;
            if Texts::stored(conn, &of)? >= self.thresholds.rows {
                found.push(self.texts.of(&of));
            }
            for table in spaces::list(conn, collection.id)?.iter().filter_map(spaces::SpaceRow::table) {
                let of = VectorsOf { collection_id: collection.id, table };
                if Vectors::stored(conn, &of)? >= self.thresholds.rows {
                    found.push(self.vectors.of(&of));
                }
            }
        }
        Ok(found)
    }
}

fn texts_of(collection: &CollectionRow) -> Result<TextsOf> {
    let table = FtsTable { collection_id: collection.id, generation: collection.fts_generation };
    Ok(TextsOf { table, tokenizer: collection.spec()? })
}

/// What has at least so many rows.
fn living(conn: &Connection, rows: u64) -> Result<HashSet<Identity>> {
    let mut living = HashSet::new();
    for collection in collections::list(conn)? {
        let of = texts_of(&collection)?;
        if Texts::stored(conn, &of)? >= rows {
            living.insert(Texts::identity(&of));
        }
        for table in spaces::list(conn, collection.id)?.iter().filter_map(spaces::SpaceRow::table) {
            if vector_table::count(conn, table)? >= rows {
                living.insert(Vectors::identity(&VectorsOf { collection_id: collection.id, table }));
            }
        }
    }
    Ok(living)
}
