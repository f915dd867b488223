//! The texts of a collection: `text_index` over what a view knows of them.

use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::build::{Built, Progress, Reading, cancelled, check_room};
use super::bytes::{Section, damaged};
use super::file::{Header, Heap, Sections, Sink};
use super::view::{Dead as Positions, Identity, Kind, Part, View};
use crate::error::{Error, Result};
use crate::sqlite::row_set::RowSet;
use crate::sqlite::tables::chunks;
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tokenizer::TokenizerSpec;
use crate::text_index::{self, Allowed, Builder, Dead, Query};

/// Rows read in one transaction of a build.
const SLICE: usize = 2048;
/// Bytes of postings on the heap before they become a segment, or a third of the room that there is.
const PORTION: usize = 256 << 20;
/// Bytes that a row and a word take in a segment, about.
const ROW: u64 = 16;
const WORD: u64 = 3;
/// Blocks of the sections that are read whole, and of those of which some is read.
const WHOLE: u32 = 18;
const SOME: u32 = 14;

/// Texts as a kind of index.
pub struct Texts;

/// The living text index of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextsOf {
    pub table: FtsTable,
    pub tokenizer: TokenizerSpec,
}

impl std::hash::Hash for TextsOf {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Texts::identity(self).hash(state);
    }
}

/// Rows and the words in them.
pub struct Segment {
    sections: [Section; text_index::Section::ALL.len()],
    len: usize,
}

impl Segment {
    fn open(mut sections: Sections) -> Result<Self> {
        let mut all = Vec::with_capacity(text_index::Section::ALL.len());
        for part in text_index::Section::ALL {
            let section = sections.take(part.name())?;
            if !part.is_lazy() {
                section.all()?;
            }
            all.push(section);
        }
        let all = <[Section; text_index::Section::ALL.len()]>::try_from(all);
        let all = all.map_err(|_| Error::internal("a text index has another number of sections"))?;
        let mut segment = Self { sections: all, len: 0 };
        segment.len = segment.with(|index| Ok(index.rows()))?;
        Ok(segment)
    }

    fn verify(&self, section: text_index::Section, range: std::ops::Range<usize>) -> Result<()> {
        self.sections[section as usize].check(range)
    }

    fn bytes(&self) -> [&[u8]; text_index::Section::ALL.len()] {
        self.sections.each_ref().map(Section::unchecked)
    }

    fn with<T>(&self, read: impl FnOnce(text_index::Segment<'_>) -> Result<T>) -> Result<T> {
        let verify = |section, range| self.verify(section, range);
        read(text_index::Segment::open(self.bytes(), &verify)?)
    }
}

impl Positions<Segment> for Dead {
    fn count(&self) -> usize {
        Dead::count(self)
    }

    fn contains(&self, position: usize) -> bool {
        Dead::contains(self, position as u32)
    }

    fn held(&self) -> usize {
        self.memory()
    }

    fn with(&self, segment: &Segment, positions: &[usize]) -> Result<Self> {
        segment.with(|index| {
            let lengths = positions.iter().map(|&position| position as u32);
            Ok(Dead::with(self, lengths.map(|position| (position, index.length(position).unwrap_or(0)))))
        })
    }
}

/// Writes what text_index made.
fn put(sink: &mut dyn Sink, made: &text_index::Sections) -> Result<()> {
    text_index::Section::ALL
        .iter()
        .try_for_each(|&part| sink.put(part.name(), if part.is_lazy() { SOME } else { WHOLE }, made.bytes(part)))
}

fn on_heap(made: &text_index::Sections) -> Result<Segment> {
    let mut heap = Heap::default();
    put(&mut heap, made)?;
    Segment::open(heap.finish())
}

/// Adds rows in a range to a builder, so many and until it has so many bytes, and says how many there were.
fn read(
    conn: &Connection,
    of: &TextsOf,
    range: (i64, i64),
    (most, portion): (usize, usize),
    builder: &mut Builder,
    last: &mut i64,
) -> Result<usize> {
    let tokenizer = of.tokenizer.instance()?;
    let mut rows = 0;
    chunks::texts(conn, of.table.collection_id, range, most, &mut |row, text| {
        tokenizer.tokenize(text, &mut |term, _, _| builder.token(term))?;
        builder.end_row(row)?;
        (rows, *last) = (rows + 1, row);
        Ok(builder.memory() <= portion)
    })?;
    Ok(rows)
}

/// What a builder has, which is empty then.
fn sealed(builder: &mut Builder) -> Result<Segment> {
    let made = std::mem::take(builder).finish()?;
    on_heap(&made)
}

/// One of several segments without their dead rows.
fn merged(parts: &[(&Segment, &Dead)], progress: Option<&Progress>) -> Result<text_index::Sections> {
    let verifies: Vec<_> =
        parts.iter().map(|(segment, _)| move |section, range| segment.verify(section, range)).collect();
    let mut opened = Vec::with_capacity(parts.len());
    for ((segment, dead), verify) in parts.iter().zip(&verifies) {
        opened.push((text_index::Segment::open(segment.bytes(), verify)?, *dead));
    }
    let mut keep_going = || progress.is_none_or(|progress| progress.check().is_ok());
    text_index::merge(&opened, &mut keep_going)?.ok_or_else(cancelled)
}

impl Kind for Texts {
    const KIND: u32 = 2;
    const FORM: u32 = 2;
    const NAME: &'static str = "text";
    type Of = TextsOf;
    type Segment = Segment;
    type Dead = Dead;

    fn identity(of: &TextsOf) -> Identity {
        let FtsTable { collection_id, generation } = of.table;
        Identity { kind: Self::KIND, collection_id, space_id: 0, generation }
    }

    fn lives(conn: &Connection, of: &TextsOf) -> Result<bool> {
        fts::lives(conn, of.table)
    }

    fn stored(conn: &Connection, of: &TextsOf) -> Result<u64> {
        Ok(fts::totals(conn, of.table)?.0)
    }

    fn file_bytes(_of: &TextsOf, rows: u64) -> u64 {
        rows.saturating_mul(ROW)
    }

    fn heap_bytes(of: &TextsOf, rows: u64, _on_disk: bool) -> u64 {
        // What a segment is made of, and itself.
        2 * Self::file_bytes(of, rows)
    }

    fn content_bytes(conn: &Connection, of: &TextsOf) -> Result<u64> {
        Ok(fts::totals(conn, of.table)?.1.saturating_mul(WORD))
    }

    fn len(segment: &Segment) -> usize {
        segment.len
    }

    fn check(segment: &Segment) -> Result<()> {
        segment.with(|_| Ok(()))
    }

    fn position(segment: &Segment, row: i64) -> Option<usize> {
        let position = segment.with(|index| Ok(index.position(row).ok()));
        position.ok().flatten().map(|position| position as usize)
    }

    fn last_row(segment: &Segment) -> Option<i64> {
        segment.with(|index| Ok((index.rows() as u32).checked_sub(1).and_then(|last| index.row(last)))).ok().flatten()
    }

    fn held(segment: &Segment) -> usize {
        segment.sections.iter().map(Section::held).sum()
    }

    fn tail(conn: &Connection, of: &TextsOf, after: i64, _before: &[i64], limit: usize) -> Result<(Segment, usize)> {
        let mut builder = Builder::new();
        let rows = read(conn, of, (after, i64::MAX), (limit, usize::MAX), &mut builder, &mut 0)?;
        Ok((on_heap(&builder.finish()?)?, rows))
    }

    fn merge(_of: &TextsOf, parts: &[Part<Self>]) -> Result<Segment> {
        let parts: Vec<_> = parts.iter().map(|part| (&*part.segment, &*part.dead)).collect();
        on_heap(&merged(&parts, None)?)
    }

    fn build(of: &TextsOf, reading: &mut Reading<'_>, sink: &mut dyn Sink) -> Result<Built> {
        let progress = reading.progress;
        progress.total.store(reading.stored, Ordering::Relaxed);
        progress.done.store(0, Ordering::Relaxed);
        let (mut after, through, room) = (i64::MIN, reading.last_row, reading.room);
        let most = (SLICE, PORTION.min(room / 3));
        let mut portions: Vec<Segment> = Vec::new();
        let mut builder = Builder::new();
        loop {
            let from = after;
            let rows = reading.slice(|conn| read(conn, of, (from, through), most, &mut builder, &mut after))?;
            progress.done.fetch_add(rows as u64, Ordering::Relaxed);
            if builder.memory() > most.1 {
                portions.push(sealed(&mut builder)?);
                // They are there until they are one.
                let held: usize = portions.iter().map(Self::held).sum();
                check_room(2 * held as u64, room)?;
            } else if rows < SLICE {
                break;
            }
        }
        let made = if portions.is_empty() {
            std::mem::take(&mut builder).finish()?
        } else {
            portions.push(sealed(&mut builder)?);
            let none = Dead::none();
            let all: Vec<_> = portions.iter().map(|portion| (portion, &none)).collect();
            let made = merged(&all, Some(progress))?;
            portions.clear();
            made
        };
        put(sink, &made)?;
        Ok(Built { rows: progress.done.load(Ordering::Relaxed), notes: [0; 8] })
    }

    fn open(_of: &TextsOf, header: &Header, sections: Sections) -> Result<Segment> {
        let name = sections.name.clone();
        let segment = Segment::open(sections)?;
        if segment.len as u64 == header.rows { Ok(segment) } else { Err(damaged(&name, "its rows are too few")) }
    }
}

/// What is asked of a text index.
pub struct Request<'r> {
    pub query: &'r Query,
    pub k: usize,
    /// The rows that may be found.
    pub allowed: Option<&'r dyn Allowed>,
    pub keep_going: &'r dyn Fn() -> bool,
}

/// The `k` best rows.
pub fn search(view: &View<Texts>, request: &Request<'_>) -> Result<text_index::Found> {
    let verifies: Vec<_> =
        view.parts.iter().map(|part| move |section, range| part.segment.verify(section, range)).collect();
    let mut opened = Vec::with_capacity(view.parts.len());
    for (part, verify) in view.parts.iter().zip(&verifies) {
        opened.push(text_index::Segment::open(part.segment.bytes(), verify)?);
    }
    let parts: Vec<_> = opened
        .iter()
        .zip(&view.parts)
        .map(|(segment, part)| text_index::Part::Sealed { segment, dead: &part.dead })
        .collect();
    text_index::search(&parts, request.query, request.k, request.allowed, &mut || (request.keep_going)())
}

/// Rows of a filter, without those that have expired.
pub struct Living<'r> {
    pub only: Option<&'r RowSet>,
    pub without: Option<&'r RowSet>,
}

impl Allowed for Living<'_> {
    fn contains(&self, row: i64) -> bool {
        self.only.is_none_or(|set| set.contains(row)) && self.without.is_none_or(|set| !set.contains(row))
    }

    fn count(&self) -> u64 {
        self.only.map_or(u64::MAX, RowSet::len)
    }

    fn rows(&self) -> Vec<i64> {
        let only = self.only.into_iter().flat_map(RowSet::iter);
        only.filter(|&row| self.without.is_none_or(|set| !set.contains(row))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::derived::view;

    fn part(rows: std::ops::Range<i64>) -> Part<Texts> {
        let mut builder = Builder::new();
        for row in rows {
            ["all".to_owned(), format!("word{row}")].iter().for_each(|word| builder.token(word.as_bytes()));
            builder.end_row(row).unwrap();
        }
        Part::new(sealed(&mut builder).unwrap())
    }

    fn view(parts: &[&Part<Texts>]) -> View<Texts> {
        let parts = parts.iter().copied().cloned().collect();
        View { head: (1, 1), since: (1, 1), snapshot_change: 1, last_row: 99, parts }
    }

    #[test]
    fn a_deletion_that_cannot_be_noted_is_an_error() {
        let mut parts = [part(0..5), part(5..9)];
        view::bury::<Texts>(&mut parts, &[3, 4, 5, 99]).unwrap();
        assert_eq!(parts.each_ref().map(|part| part.dead.count()), [2, 1]);
        let nothing = std::array::from_fn(|_| Section::heap(super::super::bytes::Aligned::default()));
        parts[1].segment = std::sync::Arc::new(Segment { sections: nothing, len: 4 });
        assert!(view::bury::<Texts>(&mut parts, &[6]).is_err());
    }

    #[test]
    fn what_views_share_counts_once() {
        let (snapshot, early, late) = (part(0..60), part(60..80), part(80..90));
        let views = [view(&[&snapshot]), view(&[&snapshot, &early]), view(&[&snapshot, &early, &late])];
        let held = |some: &[View<Texts>]| view::held(some.iter());
        assert_eq!(held(&views), views[2].held());
        assert!(held(&views[..1]) < held(&views[..2]) && held(&views[..2]) < held(&views));
        let mut fewer = [snapshot.clone()];
        view::bury::<Texts>(&mut fewer, &[7]).unwrap();
        let with = [view(&[&snapshot]), view(&[&fewer[0]])];
        assert_eq!(held(&with), views[0].held() + fewer[0].dead.held());
    }
}
