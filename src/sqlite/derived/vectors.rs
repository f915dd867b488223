//! The vectors of a space: `vector_index` over what a view knows of them.

use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::build::{Built, Reading, cancelled};
use super::bytes::{Section, damaged};
use super::file::{Header, Heap, Sections, Sink};
use super::view::{Bits, Dead, Identity, Kind, Part, View};
use crate::error::Result;
use crate::request::Accuracy;
use crate::row_ids::{self, RowIds};
use crate::sqlite::neighbor::Neighbor;
use crate::sqlite::row_set::RowSet;
use crate::sqlite::tables::vectors::{self, Rows, VectorTable, Walk};
use crate::top_k::TopK;
use crate::vector_index::graph::{self, Effort};
use crate::vector_index::{
    self, Among, CodesBuilder, CodesView, GRAPH_ROWS, GraphView, Pool, Selection, Setting, Typical, VectorIndex,
};

/// Rows read in one transaction of a build.
const SLICE: usize = 4096;
/// Blocks of the sections that are read whole, and of the vectors, of which few are: a block is checked when one of them
/// is read for the first time.
const WHOLE: u32 = 18;
const SOME: u32 = 12;
/// Candidates among which a node's links are chosen.
const CANDIDATES: usize = 100;
/// A filter that lets through fewer than one row in so many names them, and is no bit for each.
const FEW: u64 = 64;

/// Vectors as a kind of index.
pub struct Vectors;

/// The living table of a space, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorsOf {
    pub collection_id: i64,
    pub table: VectorTable,
}

impl std::hash::Hash for VectorsOf {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Vectors::identity(self).hash(state);
    }
}

/// Rows and their vectors, their codes and, where there are many, a graph over those.
pub struct Segment {
    rows: Section,
    /// The first of them, and the bytes of each.
    rows_from: (i64, usize),
    vectors: Section,
    codes: Section,
    factors: Section,
    graph: Option<Section>,
    /// What the vectors are like, where there is a graph.
    typical: Option<Typical>,
    pool: Pool,
    len: usize,
    of: VectorTable,
}

impl Segment {
    fn open(of: VectorTable, rows: u64, notes: [u64; 8], mut sections: Sections) -> Result<Self> {
        let mut segment = Self {
            rows: sections.take("rows")?,
            rows_from: (notes[2].cast_signed(), usize::try_from(notes[3]).unwrap_or(usize::MAX)),
            vectors: sections.take("vectors")?,
            codes: sections.take("codes")?,
            factors: sections.take("factors")?,
            graph: sections.take("graph").ok(),
            typical: None,
            pool: Pool::new(),
            len: usize::try_from(rows).unwrap_or(usize::MAX),
            of,
        };
        segment.rows.all()?;
        if segment.rows().len() != segment.len || !segment.rows().ascend() {
            return Err(damaged(&sections.name, "its rows are not those that were written"));
        }
        let codes = segment.codes()?;
        segment.typical = segment.graph.is_some().then(|| codes.typical(of.dimension));
        segment.index()?;
        Ok(segment)
    }

    /// None of them where they are not those that were written, which is seen when it is opened.
    fn rows(&self) -> RowIds<'_> {
        let (first, width) = self.rows_from;
        RowIds::open(first, width, self.rows.unchecked(), self.len).unwrap_or_default()
    }

    /// All of it but the vectors themselves is read by a search sooner or later, and is checked the first time.
    fn codes(&self) -> Result<CodesView<'_>> {
        self.codes.all()?;
        self.factors.all()?;
        let (codes, factors) = (trusted(&self.codes), trusted(&self.factors));
        CodesView::open(codes, factors, self.len, self.of.dimension, self.of.metric)
    }

    fn index(&self) -> Result<VectorIndex<'_>> {
        let graph = match self.graph.as_ref().zip(self.typical) {
            Some((graph, typical)) => {
                graph.all()?;
                Some((GraphView::open(trusted(graph), self.len)?, typical))
            }
            None => None,
        };
        Ok(VectorIndex::new(self.codes()?, graph, &self.pool))
    }

    fn vector(&self, position: usize) -> Result<&[f32]> {
        let bytes = self.of.dimension * size_of::<f32>();
        let range = position * bytes..(position + 1) * bytes;
        self.vectors.check(range.clone())?;
        let bytes = self.vectors.unchecked().get(range);
        bytes
            .and_then(|bytes| bytemuck::try_cast_slice(bytes).ok())
            .ok_or_else(|| damaged("of vectors", "a vector is missing"))
    }
}

/// What was checked.
fn trusted(section: &Section) -> vector_index::Section<'_> {
    vector_index::Section::trusted(section.unchecked())
}

/// Writes the sections of rows that come one after the other.
struct Writing<'s> {
    sink: &'s mut dyn Sink,
    rows: Vec<i64>,
}

impl<'s> Writing<'s> {
    fn begin(sink: &'s mut dyn Sink) -> Result<Self> {
        sink.begin("vectors", SOME)?;
        Ok(Self { sink, rows: Vec::new() })
    }

    fn push(&mut self, row: i64, vector: &[f32]) -> Result<()> {
        self.rows.push(row);
        self.sink.write(bytemuck::cast_slice(vector))
    }

    /// Codes what was written, and builds a graph from so many rows on.
    fn finish(self, of: VectorTable, graph_from: usize, progress: &(dyn Fn(usize) -> bool + Sync)) -> Result<Built> {
        let Self { sink, rows } = self;
        let mut codes = CodesBuilder::new(of.dimension, of.metric, rows.len());
        sink.read_back(&mut |vectors| {
            let vectors: &[f32] = bytemuck::try_cast_slice(vectors).unwrap_or_default();
            vectors.chunks_exact(of.dimension).enumerate().try_for_each(|(place, vector)| {
                let goes_on = !place.is_multiple_of(SLICE) || progress(0);
                if goes_on { codes.push(vector) } else { Err(cancelled()) }
            })
        })?;
        let codes = codes.finish()?;
        let row_ids::Written { first, width, bytes } = row_ids::write(&rows);
        sink.put("rows", WHOLE, &bytes)?;
        sink.put("codes", WHOLE, codes.components())?;
        sink.put("factors", WHOLE, codes.factors())?;
        if rows.len() >= graph_from {
            let (components, factors) = (codes.components(), codes.factors());
            let section = vector_index::Section::trusted;
            let view = CodesView::open(section(components), section(factors), rows.len(), of.dimension, of.metric)?;
            let typical = view.typical(of.dimension);
            if graph::told_apart(&view, typical)? {
                let effort = Effort { candidates: CANDIDATES, threads: graph::threads() };
                sink.put("graph", WHOLE, graph::build(&view, typical, effort, progress)?.bytes())?;
            }
        }
        Ok(Built { rows: rows.len() as u64, notes: notes(of, first, width) })
    }
}

/// Bytes beside its components that a row takes, about: its number, and from so many rows on its links.
fn links(rows: u64) -> u64 {
    if rows >= GRAPH_ROWS as u64 { 256 } else { 24 }
}

/// What the header says of the sections beside their number of rows.
fn notes(of: VectorTable, first: i64, width: usize) -> [u64; 8] {
    [of.dimension as u64, of.metric as u64, first.cast_unsigned(), width as u64, 0, 0, 0, 0]
}

/// A segment of what came after a snapshot. It has no graph: rows come faster than links.
fn on_heap(of: VectorTable, fill: impl FnOnce(&mut Writing<'_>) -> Result<()>) -> Result<Segment> {
    let mut heap = Heap::default();
    let mut writing = Writing::begin(&mut heap)?;
    fill(&mut writing)?;
    let built = writing.finish(of, usize::MAX, &|_| true)?;
    Segment::open(of, built.rows, built.notes, heap.finish())
}

impl Kind for Vectors {
    const KIND: u32 = 1;
    const FORM: u32 = 3;
    const NAME: &'static str = "vectors";
    type Of = VectorsOf;
    type Segment = Segment;
    type Dead = Bits;

    fn identity(of: &VectorsOf) -> Identity {
        Identity {
            kind: Self::KIND,
            collection_id: of.collection_id,
            space_id: of.table.space_id,
            generation: of.table.generation,
        }
    }

    fn lives(conn: &Connection, of: &VectorsOf) -> Result<bool> {
        vectors::lives(conn, of.table)
    }

    fn stored(conn: &Connection, of: &VectorsOf) -> Result<u64> {
        vectors::stored(conn, of.table)
    }

    fn file_bytes(of: &VectorsOf, rows: u64) -> u64 {
        // Four bytes and one for each component, and for each row its number and its links.
        rows.saturating_mul(5 * of.table.dimension as u64 + links(rows))
    }

    fn heap_bytes(of: &VectorsOf, rows: u64, on_disk: bool) -> u64 {
        // Codes, links and numbers are made on the heap, and stay there where there is no disk.
        let made = rows.saturating_mul(of.table.dimension as u64 + links(rows));
        if on_disk { made } else { made.saturating_add(Self::file_bytes(of, rows)) }
    }

    fn len(segment: &Segment) -> usize {
        segment.len
    }

    fn position(segment: &Segment, row: i64) -> Option<usize> {
        segment.rows().position(row).ok()
    }

    fn last_row(segment: &Segment) -> Option<i64> {
        segment.rows().last()
    }

    fn held(segment: &Segment) -> usize {
        let Segment { rows, vectors, codes, factors, graph, pool, .. } = segment;
        let sections = [rows, vectors, codes, factors].into_iter().chain(graph);
        sections.map(Section::held).sum::<usize>() + pool.bytes()
    }

    fn tail(conn: &Connection, of: &VectorsOf, after: i64, before: &[i64], limit: usize) -> Result<(Segment, usize)> {
        let mut walk = Walk::new(conn, of.table);
        let mut read = 0;
        let segment = on_heap(of.table, |writing| {
            for &row in before {
                walk.range((row - 1, row), 1, &mut |row, vector| writing.push(row, vector))?;
            }
            read = walk.range((after, i64::MAX), limit, &mut |row, vector| writing.push(row, vector))?;
            Ok(())
        })?;
        Ok((segment, read))
    }

    fn merge(of: &VectorsOf, parts: &[Part<Self>]) -> Result<Segment> {
        let mut living: Vec<(i64, usize, usize)> = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            let rows = part.segment.rows().iter().enumerate();
            let lives = |at: usize| !Dead::<Segment>::contains(&*part.dead, at);
            living.extend(rows.filter(|(at, _)| lives(*at)).map(|(at, row)| (row, place, at)));
        }
        living.sort_unstable();
        on_heap(of.table, |writing| {
            living.iter().try_for_each(|&(row, place, at)| writing.push(row, parts[place].segment.vector(at)?))
        })
    }

    fn build(of: &VectorsOf, reading: &mut Reading<'_>, sink: &mut dyn Sink) -> Result<Built> {
        let progress = reading.progress;
        let rows = reading.stored;
        progress.total.store(if rows >= GRAPH_ROWS as u64 { 2 * rows } else { rows }, Ordering::Relaxed);
        let mut writing = Writing::begin(sink)?;
        let (mut after, through) = (i64::MIN, reading.last_row);
        loop {
            let read = reading.slice(|conn| {
                let from = after;
                Walk::new(conn, of.table).range((from, through), SLICE, &mut |row, vector| {
                    after = row;
                    writing.push(row, vector)
                })
            })?;
            let done = writing.rows.len();
            progress.done.store(done as u64, Ordering::Relaxed);
            if read < SLICE {
                return writing.finish(of.table, GRAPH_ROWS, &|linked| {
                    progress.done.fetch_max((done + linked) as u64, Ordering::Relaxed);
                    progress.check().is_ok()
                });
            }
        }
    }

    fn open(of: &VectorsOf, header: &Header, sections: Sections) -> Result<Segment> {
        if header.notes[..2] != notes(of.table, 0, 0)[..2] {
            return Err(damaged(&sections.name, "it is of vectors of another dimension or metric"));
        }
        Segment::open(of.table, header.rows, header.notes, sections)
    }
}

/// What is asked of an index of vectors.
pub struct Request<'r> {
    pub queries: &'r [&'r [f32]],
    pub k: usize,
    pub rows: Rows<'r>,
    pub accuracy: Accuracy,
    pub keep_going: &'r dyn Fn() -> bool,
}

/// What it found.
pub struct Found {
    /// Of each query, nearest first, ties by rowid.
    pub neighbors: Vec<Vec<Neighbor>>,
    pub exact: bool,
    pub complete: bool,
    /// Vectors of which the codes were compared, and those of which all was.
    pub compared: u64,
    pub rescored: u64,
    /// "graph" or "codes", as the snapshot was searched.
    pub road: &'static str,
}

/// The `k` nearest to each query.
pub fn search(view: &View<Vectors>, request: &Request<'_>) -> Result<Found> {
    let Request { queries, k, rows, accuracy, keep_going } = *request;
    let mut best: Vec<TopK<Neighbor>> = queries.iter().map(|_| TopK::new(k)).collect();
    let mut all = Found { neighbors: Vec::new(), exact: true, complete: true, compared: 0, rescored: 0, road: "codes" };
    for (place, part) in view.parts.iter().enumerate() {
        let segment = &part.segment;
        // What came since is little, and is looked at as a whole.
        let exact = accuracy.exact || place > 0;
        let setting = Setting { exact, recall: accuracy.recall };
        let dead = part.dead.words();
        let (bits, positions, left_out);
        let selection = match rows {
            Rows::All => Selection::new(segment.len, Among::All, dead)?,
            Rows::Only(set) if set.len().saturating_mul(FEW) < segment.len as u64 => {
                positions = places(segment, set);
                Selection::new(segment.len, Among::Positions(&positions), dead)?
            }
            Rows::Only(set) => {
                bits = set.bits_of(segment.rows());
                Selection::new(segment.len, Among::Bits(&bits), dead)?
            }
            Rows::Without(set) => {
                let places = places(segment, set).into_iter().map(|place| place as usize).collect::<Vec<_>>();
                left_out = Dead::<Segment>::with(&*part.dead, segment, &places)?;
                Selection::new(segment.len, Among::All, left_out.words())?
            }
        };
        if selection.is_empty() {
            continue;
        }
        let verify = |range| segment.vectors.check(range);
        let vectors = vector_index::Section::verified(segment.vectors.unchecked(), &verify);
        let mut vectors = vector_index::Vectors::open(vectors, segment.len, segment.of.dimension)?;
        let index = segment.index()?;
        let found = index.search(&mut vectors, queries, k, setting, &selection, &mut || keep_going())?;
        if found.iter().any(|found| found.walked) {
            all.road = "graph";
        }
        for (found, best) in found.into_iter().zip(&mut best) {
            all.exact &= found.exact;
            all.complete &= found.complete;
            all.compared += found.compared;
            all.rescored += found.rescored;
            for neighbor in found.neighbors {
                if let Some(row) = segment.rows().get(neighbor.position as usize) {
                    best.offer(Neighbor { chunk_id: row, distance: neighbor.distance });
                }
            }
        }
        if !all.complete {
            break;
        }
    }
    all.neighbors = best.into_iter().map(TopK::into_sorted).collect();
    Ok(all)
}

/// The positions of the rows of a set, ascending.
fn places(segment: &Segment, set: &RowSet) -> Vec<u32> {
    let (rows, mut from) = (segment.rows(), 0);
    let mut places = Vec::new();
    for row in set.iter() {
        match rows.position_from(from, row) {
            Ok(place) => {
                places.push(place as u32);
                from = place + 1;
            }
            Err(place) => from = place,
        }
    }
    places
}
