//! One segment of several, without their dead rows. Nothing is tokenized again.

use super::dead::Dead;
use super::dictionary::{Term, Terms};
use super::positions::Places;
use super::postings::{Block, Postings};
use super::query::{Halt, OrHalt, Work};
use super::segment::{Sections, Segment};
use super::writer::Writer;
use super::{ROWS, damaged};
use crate::error::{Error, ErrorKind, Result};

/// The place of a dead row in the new segment.
const GONE: u32 = u32::MAX;

/// Merges segments whose rows ascend from each to the next. `None` where `keep_going`, which is asked now and then, says
/// no.
///
/// # Errors
/// `Corrupt` where a segment is damaged; `Internal` where rows do not ascend; `Limit` where they are too many for one
/// segment.
pub fn merge(parts: &[(Segment<'_>, &Dead)], keep_going: &mut dyn FnMut() -> bool) -> Result<Option<Sections>> {
    match merged(parts, &mut Work::new(keep_going)) {
        Ok(sections) => Ok(Some(sections)),
        Err(Halt::Stopped) => Ok(None),
        Err(Halt::Failed(error)) => Err(error),
    }
}

fn merged(parts: &[(Segment<'_>, &Dead)], work: &mut Work<'_>) -> OrHalt<Sections> {
    let (mut rows, mut lengths): (Vec<i64>, Vec<u32>) = (Vec::new(), Vec::new());
    let mut places = Vec::with_capacity(parts.len());
    for (segment, dead) in parts {
        let mut new = Vec::with_capacity(segment.rows());
        let first = rows.len();
        for position in 0..segment.rows() as u32 {
            if dead.contains(position) {
                new.push(GONE);
                continue;
            }
            let row = segment.row(position).zip(segment.length(position));
            let (row, length) = row.ok_or_else(|| damaged("a row"))?;
            if rows.last().is_some_and(|&last| last >= row) {
                if rows.len() > first {
                    return Err(damaged("the order of its rows").into());
                }
                return Err(
                    Error::internal(format!("row {row} comes behind a later one as segments are merged")).into()
                );
            }
            if rows.len() == ROWS {
                let text = "the segments of the text index are too many rows for one";
                return Err(Error::new(ErrorKind::Limit, text).into());
            }
            new.push(rows.len() as u32);
            rows.push(row);
            lengths.push(length);
        }
        work.spend(segment.rows())?;
        places.push(new);
    }
    let mut writer = Writer::new(rows, lengths)?;

    let mut terms = Vec::with_capacity(parts.len());
    for (segment, _) in parts {
        let mut all = Terms::all(segment)?;
        terms.push(all.advance()?.then_some(all));
    }
    let mut gathered = Gathered::default();
    let mut term: Vec<u8> = Vec::new();
    let mut is_first = true;
    while let Some(least) = terms.iter().flatten().map(Terms::term).min() {
        if !is_first && least <= term.as_slice() {
            return Err(damaged("the order of its terms").into());
        }
        is_first = false;
        term.clear();
        term.extend_from_slice(least);
        gathered.clear();
        for ((segment, _), (terms, new)) in parts.iter().zip(terms.iter_mut().zip(&places)) {
            let Some(here) = terms.as_mut().filter(|here| here.term() == term) else { continue };
            gathered.take(segment, here.found(), new, work)?;
            if !here.advance()? {
                *terms = None;
            }
        }
        if !gathered.rows.is_empty() {
            writer.push(&term, &gathered.rows, &gathered.counts, &gathered.places)?;
        }
    }
    Ok(writer.finish())
}

/// The living rows of a term.
#[derive(Default)]
struct Gathered {
    rows: Vec<u32>,
    counts: Vec<u32>,
    places: Vec<u32>,
    block: Block,
}

impl Gathered {
    fn clear(&mut self) {
        self.rows.clear();
        self.counts.clear();
        self.places.clear();
    }

    fn take(&mut self, segment: &Segment<'_>, term: &Term, new: &[u32], work: &mut Work<'_>) -> OrHalt<()> {
        let (postings, places) = (Postings::of(segment, term)?, Places::of(segment, term)?);
        for index in 0..postings.blocks() {
            postings.read(index, &mut self.block)?;
            let run = places.run(index)?;
            let mut before = 0;
            for (&position, &count) in self.block.positions().iter().zip(self.block.counts()) {
                let position = new.get(position as usize).copied().unwrap_or(GONE);
                if position != GONE {
                    run.read(before, count, &mut self.places)?;
                    self.rows.push(position);
                    self.counts.push(count);
                }
                before += u64::from(count);
            }
            work.spend(self.block.len)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, trusted};
    use super::*;

    fn sections(rows: std::ops::Range<i64>) -> Sections {
        let mut builder = Builder::new();
        for row in rows {
            for word in 0..1 + row % 9 {
                builder.token(format!("w{}", row * word % 37).as_bytes());
            }
            builder.end_row(row).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn parts_make_what_would_have_been_written_at_once() {
        let parts = [sections(1..200), sections(200..201), sections(201..900)];
        let none = Dead::none();
        let segments = parts.each_ref().map(|part| (Segment::open(part.refs(), &trusted).unwrap(), &none));
        assert_eq!(merge(&segments, &mut || true).unwrap().unwrap(), sections(1..900));
        assert_eq!(merge(&[], &mut || true).unwrap().unwrap(), Builder::new().finish().unwrap());
    }

    #[test]
    fn the_dead_leave_no_trace() {
        let whole = sections(1..900);
        let segment = Segment::open(whole.refs(), &trusted).unwrap();
        let dead = Dead::none().with((499..899).map(|position| (position, segment.length(position).unwrap())));
        assert_eq!(merge(&[(segment, &dead)], &mut || true).unwrap().unwrap(), sections(1..500));
    }

    #[test]
    fn it_stops_when_told_and_refuses_rows_out_of_order() {
        let (low, high) = (sections(0..20_000), sections(20_000..20_010));
        let none = Dead::none();
        let [low, high] = [&low, &high].map(|part| (Segment::open(part.refs(), &trusted).unwrap(), &none));
        assert_eq!(merge(&[low, high], &mut || false).unwrap(), None);
        assert_eq!(merge(&[high, low], &mut || true).unwrap_err().kind(), ErrorKind::Internal);
    }
}
