//! What a derived index knows as of one change of the feed: a snapshot, what came since, and what of both is gone.
//!
//! A view never changes. The next one shares its segments and adds a small one for what is new; small segments are merged
//! as they grow in number, so that following costs the logarithm of what there is to follow.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use rusqlite::Connection;

use super::build::{Built, Reading};
use super::file::{Header, Moment, Sections, Sink};
use crate::error::Result;
use crate::sqlite::tables::changes::{self, RowChange};
use crate::sqlite::tables::chunks;

/// What a snapshot is of: a living table. Of another generation it is another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub kind: u32,
    pub collection_id: i64,
    /// 0 for a text index.
    pub space_id: i64,
    pub generation: i64,
}

impl Header {
    /// What it is of.
    pub fn identity(&self) -> Identity {
        let Self { kind, collection_id, space_id, generation, .. } = *self;
        Identity { kind, collection_id, space_id, generation }
    }
}

/// A kind of derived index: how rows become segments.
pub trait Kind: Send + Sync + Sized + 'static {
    /// The number of the kind, and of the form of its sections; another form is not read.
    const KIND: u32;
    const FORM: u32;
    /// What its files and its figures are called.
    const NAME: &'static str;
    /// The table that it follows.
    type Of: Clone + Eq + Hash + Send + Sync;
    /// Rows, and what answers questions about them. It never changes.
    type Segment: Send + Sync;
    /// Positions of a segment whose rows are gone.
    type Dead: Dead<Self::Segment>;

    fn identity(of: &Self::Of) -> Identity;
    /// Whether it is still the living table, in the snapshot of `conn`.
    fn lives(conn: &Connection, of: &Self::Of) -> Result<bool>;
    /// An upper bound of its rows, soon known.
    fn stored(conn: &Connection, of: &Self::Of) -> Result<u64>;
    /// Bytes that a file of so many rows may have, about, without their content.
    fn file_bytes(of: &Self::Of, rows: u64) -> u64;
    /// Bytes of the heap that a build of so many rows takes, about, with the snapshot itself where that is not on the disk,
    /// and without their content.
    fn heap_bytes(of: &Self::Of, rows: u64, on_disk: bool) -> u64;
    /// Bytes that the content of all rows may have in a file, about, and twice on the heap of a build, where the number of
    /// rows does not tell.
    fn content_bytes(_conn: &Connection, _of: &Self::Of) -> Result<u64> {
        Ok(0)
    }
    /// How many rows a segment has.
    fn len(segment: &Self::Segment) -> usize;
    /// The place of a row in a segment, where rows ascend.
    fn position(segment: &Self::Segment, row: i64) -> Option<usize>;
    /// The greatest row of a segment.
    fn last_row(segment: &Self::Segment) -> Option<i64>;
    /// Fails where a segment can be read no more, whose rows would seem not to be there.
    fn check(_segment: &Self::Segment) -> Result<()> {
        Ok(())
    }
    /// Bytes of the heap.
    fn held(segment: &Self::Segment) -> usize;
    /// A segment of the first `limit` rows after a row and of some before it, as they are now, and how many of those after
    /// it there were.
    fn tail(
        conn: &Connection,
        of: &Self::Of,
        after: i64,
        before: &[i64],
        limit: usize,
    ) -> Result<(Self::Segment, usize)>;
    /// One segment of what lives in several.
    fn merge(of: &Self::Of, parts: &[Part<Self>]) -> Result<Self::Segment>;
    /// Writes a snapshot of all rows up to one.
    fn build(of: &Self::Of, reading: &mut Reading<'_>, sink: &mut dyn Sink) -> Result<Built>;
    /// Reads what was written.
    fn open(of: &Self::Of, header: &Header, sections: Sections) -> Result<Self::Segment>;
}

/// A set of positions, one bit for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    /// Adds a position.
    pub fn insert(&mut self, position: usize) {
        let (word, bit) = (position / 64, 1 << (position % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.count += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// The lowest position first; those beyond the last word are not in it.
    pub fn words(&self) -> &[u64] {
        &self.words
    }
}

/// A set of positions, of which a greater one is made.
pub trait Dead<S>: Default + Send + Sync {
    /// How many.
    fn count(&self) -> usize;
    fn contains(&self, position: usize) -> bool;
    /// Bytes of the heap.
    fn held(&self) -> usize;
    /// These and others.
    ///
    /// # Errors
    /// Those of a segment that can be read no more.
    fn with(&self, segment: &S, positions: &[usize]) -> Result<Self>;
}

impl<S> Dead<S> for Bits {
    fn count(&self) -> usize {
        self.count
    }

    fn contains(&self, position: usize) -> bool {
        self.words.get(position / 64).is_some_and(|word| word & (1 << (position % 64)) != 0)
    }

    fn held(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    fn with(&self, _segment: &S, positions: &[usize]) -> Result<Self> {
        let mut all = self.clone();
        positions.iter().for_each(|&position| all.insert(position));
        Ok(all)
    }
}

/// A segment and what of it is gone.
pub struct Part<K: Kind> {
    pub segment: Arc<K::Segment>,
    pub dead: Arc<K::Dead>,
}

impl<K: Kind> Clone for Part<K> {
    fn clone(&self) -> Self {
        Self { segment: Arc::clone(&self.segment), dead: Arc::clone(&self.dead) }
    }
}

impl<K: Kind> Part<K> {
    /// All of it lives.
    pub fn new(segment: K::Segment) -> Self {
        Self { segment: Arc::new(segment), dead: Arc::default() }
    }
}

/// How much is read at once.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Rows that are new.
    pub after: usize,
    /// Rows that were there and have something new.
    pub before: usize,
}

/// What comes after a view.
pub enum Next<K: Kind> {
    There(View<K>),
    /// It lacks rows that are newer than its last, and may not be searched.
    Underway(View<K>),
    /// There is more to read than the limit.
    Far,
    /// The file's history is another one.
    Foreign,
}

/// What is known as of one change.
pub struct View<K: Kind> {
    /// The last change that it followed.
    pub head: Moment,
    /// No reader of an older state may use it: its snapshot saw everything up to here.
    pub since: Moment,
    /// As of which change its snapshot is.
    pub snapshot_change: i64,
    /// The greatest rowid of a chunk that it looked at.
    pub last_row: i64,
    /// The snapshot, then what came after it, the older and larger segments first.
    pub parts: Vec<Part<K>>,
}

impl<K: Kind> Clone for View<K> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone(), ..*self }
    }
}

impl<K: Kind> View<K> {
    /// A snapshot alone.
    pub fn of_snapshot(header: &Header, segment: K::Segment) -> Self {
        Self {
            head: header.begun,
            since: header.ended,
            snapshot_change: header.ended.0,
            last_row: header.last_row,
            parts: vec![Part::new(segment)],
        }
    }

    /// Rows of the snapshot, dead ones too.
    pub fn snapshot_rows(&self) -> usize {
        self.parts.first().map_or(0, |part| K::len(&part.segment))
    }

    /// Rows that came since.
    pub fn tail_rows(&self) -> usize {
        self.parts.iter().skip(1).map(|part| K::len(&part.segment)).sum()
    }

    /// Rows of any segment that are gone.
    pub fn dead_rows(&self) -> usize {
        self.parts.iter().map(|part| part.dead.count()).sum()
    }

    /// Bytes of the heap.
    pub fn held(&self) -> usize {
        held([self].into_iter())
    }

    /// Whether the history that `conn` reads is the one that this was made of, up to where it was.
    pub fn is_past_of(&self, conn: &Connection) -> Result<bool> {
        Ok(changes::has(conn, self.head)? && (self.since == self.head || changes::has(conn, self.since)?))
    }

    /// Whether there is more to read up to `head` than so many rows.
    pub fn is_far(&self, conn: &Connection, of: &K::Of, head: Moment, rows: usize) -> Result<bool> {
        /// Rows of the feed that are passed over in the time that one of the table takes, about.
        const CHANGES: usize = 32;
        let changes = usize::try_from(head.0.saturating_sub(self.head.0)).unwrap_or(0);
        if changes > rows.saturating_mul(CHANGES) {
            return Ok(true);
        }
        let collection_id = K::identity(of).collection_id;
        Ok(chunks::count_after(conn, collection_id, self.last_row, rows.saturating_add(1))? > rows)
    }

    /// The view as of `head`, which `conn` reads and which comes after this one, with the first `limit` rows of those that
    /// are new.
    pub fn follow(&self, conn: &Connection, of: &K::Of, head: Moment, limit: Limit) -> Result<Next<K>> {
        if !self.is_past_of(conn)? {
            return Ok(Next::Foreign);
        }
        let identity = K::identity(of);
        let mut parts = self.parts.clone();
        let (mut before, mut gone) = (Vec::new(), Vec::new());
        for change in changes::rows_since(conn, self.head.0, identity.collection_id)? {
            match change {
                RowChange::Gone(row) => gone.push(row),
                RowChange::Embedded { space_id, row_id } => {
                    if space_id == identity.space_id && row_id <= self.last_row && !knows::<K>(&parts, row_id) {
                        before.push(row_id);
                    }
                }
            }
        }
        bury::<K>(&mut parts, &gone)?;
        before.sort_unstable();
        before.dedup();
        if before.len() > limit.before {
            return Ok(Next::Far);
        }
        let (new, read) = K::tail(conn, of, self.last_row, &before, limit.after)?;
        let whole = read < limit.after;
        // Of the whole, what other collections have is not looked at again.
        let last_row = if whole { chunks::last_row(conn)? } else { K::last_row(&new).unwrap_or(0) }.max(self.last_row);
        if K::len(&new) > 0 {
            parts.push(Part::new(new));
            merge_small::<K>(of, &mut parts)?;
        }
        let snapshot_change = self.snapshot_change;
        let view = Self { head, since: head, snapshot_change, last_row, parts };
        Ok(if whole { Next::There(view) } else { Next::Underway(view) })
    }
}

/// Bytes of the heap of several views, of which each part counts once.
pub fn held<'v, K: Kind>(views: impl Iterator<Item = &'v View<K>>) -> usize {
    let (mut segments, mut dead) = (HashSet::new(), HashSet::new());
    let parts = views.flat_map(|view| &view.parts);
    let held = parts.map(|part| {
        let segment = if segments.insert(Arc::as_ptr(&part.segment)) { K::held(&part.segment) } else { 0 };
        segment + if dead.insert(Arc::as_ptr(&part.dead)) { part.dead.held() } else { 0 }
    });
    held.sum()
}

/// Whether a row is in a segment, dead or alive.
fn knows<K: Kind>(parts: &[Part<K>], row: i64) -> bool {
    parts.iter().any(|part| K::position(&part.segment, row).is_some())
}

/// Marks rows as gone wherever they are.
///
/// # Errors
/// Those of a segment that can be read no more: no row that is gone may be found for that.
pub(super) fn bury<K: Kind>(parts: &mut [Part<K>], gone: &[i64]) -> Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    for part in parts {
        K::check(&part.segment)?;
        let position = |&row: &i64| K::position(&part.segment, row).filter(|&position| !part.dead.contains(position));
        let positions: Vec<usize> = gone.iter().filter_map(position).collect();
        if !positions.is_empty() {
            part.dead = Arc::new(part.dead.with(&part.segment, &positions)?);
        }
    }
    Ok(())
}

/// Keeps every segment after the snapshot at least twice as large as the next.
fn merge_small<K: Kind>(of: &K::Of, parts: &mut Vec<Part<K>>) -> Result<()> {
    let rows = |part: &Part<K>| K::len(&part.segment);
    let mut first = parts.len() - 1;
    let mut sum = rows(&parts[first]);
    while first > 1 && rows(&parts[first - 1]) < 2 * sum {
        first -= 1;
        sum += rows(&parts[first]);
    }
    if first + 1 < parts.len() {
        let merged = K::merge(of, &parts[first..])?;
        parts.truncate(first);
        if K::len(&merged) > 0 {
            parts.push(Part::new(merged));
        }
    }
    Ok(())
}
