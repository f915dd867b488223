//! The vectors of a space.

use rusqlite::Connection;

use super::build::{Built, Reading};
use super::bytes::{Section, damaged};
use super::file::{Header, Heap, Sections, Sink};
use super::view::{Bits, Identity, Kind, Part, View};
use crate::error::Result;
use crate::request::Accuracy;
use crate::sqlite::distance::Query;
use crate::sqlite::row_set::RowSet;
use crate::sqlite::tables::vectors::{self, Rows, VectorTable, Walk};
use crate::sqlite::top_k::{Neighbor, TopK};

/// Rows read in one transaction of a build.
const SLICE: usize = 4096;
/// Blocks of the sections that are read whole, and of the vectors, of which some are.
const WHOLE: u32 = 18;
const SOME: u32 = 14;

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

/// Rows and their vectors.
pub struct Segment {
    rows: Section,
    vectors: Section,
    len: usize,
    dimension: usize,
}

impl Segment {
    fn rows(&self) -> &[i64] {
        bytemuck::try_cast_slice(self.rows.unchecked()).unwrap_or_default()
    }

    fn vector(&self, position: usize) -> Result<&[f32]> {
        let bytes = self.dimension * size_of::<f32>();
        self.vectors.check(position * bytes..(position + 1) * bytes)?;
        let numbers: &[f32] = bytemuck::try_cast_slice(self.vectors.unchecked()).unwrap_or_default();
        numbers
            .get(position * self.dimension..(position + 1) * self.dimension)
            .ok_or_else(|| damaged("of vectors", "a vector is missing"))
    }
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

    fn finish(self) -> Result<Built> {
        self.sink.begin("rows", WHOLE)?;
        self.sink.write(bytemuck::cast_slice(&self.rows))?;
        Ok(Built { rows: self.rows.len() as u64, ..Built::default() })
    }
}

fn on_heap(of: &VectorsOf, fill: impl FnOnce(&mut Writing<'_>) -> Result<()>) -> Result<Segment> {
    let mut heap = Heap::default();
    let mut writing = Writing::begin(&mut heap)?;
    fill(&mut writing)?;
    let built = writing.finish()?;
    Segment::open(of, built.rows, heap.finish())
}

impl Segment {
    fn open(of: &VectorsOf, rows: u64, mut sections: Sections) -> Result<Self> {
        let segment = Self {
            rows: sections.take("rows")?,
            vectors: sections.take("vectors")?,
            len: usize::try_from(rows).unwrap_or(usize::MAX),
            dimension: of.table.dimension,
        };
        segment.rows.all()?;
        let bytes = segment.len.checked_mul(segment.dimension * size_of::<f32>());
        if segment.rows().len() != segment.len || bytes != Some(segment.vectors.unchecked().len()) {
            return Err(damaged(&sections.name, "its sections do not fit together"));
        }
        if !segment.rows().is_sorted_by(|a, b| a < b) {
            return Err(damaged(&sections.name, "its rows do not ascend"));
        }
        Ok(segment)
    }
}

impl Kind for Vectors {
    const KIND: u32 = 1;
    const FORM: u32 = 1;
    const NAME: &'static str = "vectors";
    type Of = VectorsOf;
    type Segment = Segment;
    type Cache = ();

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

    fn len(segment: &Segment) -> usize {
        segment.len
    }

    fn position(segment: &Segment, row: i64) -> Option<usize> {
        segment.rows().binary_search(&row).ok()
    }

    fn last_row(segment: &Segment) -> Option<i64> {
        segment.rows().last().copied()
    }

    fn held(segment: &Segment) -> usize {
        segment.rows.held() + segment.vectors.held()
    }

    fn tail(conn: &Connection, of: &VectorsOf, after: i64, before: &[i64], most: usize) -> Result<Option<Segment>> {
        let mut walk = Walk::new(conn, of.table);
        let mut read = before.len();
        let segment = on_heap(of, |writing| {
            for &row in before {
                walk.range((row - 1, row), 1, &mut |row, vector| writing.push(row, vector))?;
            }
            let limit = most.saturating_add(1);
            read += walk.range((after, i64::MAX), limit, &mut |row, vector| writing.push(row, vector))?;
            Ok(())
        })?;
        Ok((read <= most).then_some(segment))
    }

    fn merge(of: &VectorsOf, parts: &[Part<Segment>]) -> Result<Segment> {
        let mut living: Vec<(i64, usize, usize)> = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            let rows = part.segment.rows().iter().enumerate();
            living.extend(rows.filter(|(at, _)| !part.dead.contains(*at)).map(|(at, &row)| (row, place, at)));
        }
        living.sort_unstable();
        on_heap(of, |writing| {
            living.iter().try_for_each(|&(row, place, at)| writing.push(row, parts[place].segment.vector(at)?))
        })
    }

    fn build(of: &VectorsOf, reading: &mut Reading<'_>, sink: &mut dyn Sink) -> Result<Built> {
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
            if read < SLICE {
                return writing.finish();
            }
        }
    }

    fn open(of: &VectorsOf, header: &Header, sections: Sections) -> Result<Segment> {
        Segment::open(of, header.rows, sections)
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
    /// Vectors of the snapshot and of what came since that were compared in float32.
    pub compared: usize,
    pub road: &'static str,
}

/// The `k` nearest to each query.
pub fn search(view: &View<Vectors>, of: &VectorsOf, request: &Request<'_>) -> Result<Found> {
    let Request { queries, k, rows, accuracy: _, keep_going } = *request;
    let mut best: Vec<_> = queries.iter().map(|vector| (Query::new(vector, of.table.metric), TopK::new(k))).collect();
    let mut compared = 0;
    for part in &view.parts {
        for (position, &row) in part.segment.rows().iter().enumerate() {
            if position % 1024 == 0 && !keep_going() {
                return Ok(found(best, false, compared));
            }
            if allows(rows, &part.dead, position, row) {
                let vector = part.segment.vector(position)?;
                compared += 1;
                best.iter_mut().for_each(|(query, best)| best.offer(query.distance(vector), row));
            }
        }
    }
    Ok(found(best, true, compared))
}

fn found(best: Vec<(Query<'_>, TopK)>, complete: bool, compared: usize) -> Found {
    let neighbors = best.into_iter().map(|(_, best)| best.into_sorted()).collect();
    Found { neighbors, exact: true, complete, compared, road: "scan" }
}

fn allows(rows: Rows<'_>, dead: &Bits, position: usize, row: i64) -> bool {
    let allowed = |set: &RowSet| set.contains(row);
    !dead.contains(position)
        && match rows {
            Rows::All => true,
            Rows::Only(set) => allowed(set),
            Rows::Without(set) => !allowed(set),
        }
}
