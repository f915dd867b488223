//! The k best rows of several parts, by the score that FTS5 would give them in one table.

use super::bm25::{self, Bounds};
use super::lists::{self, List};
use super::query::{Allowed, Found, Halt, Hit, Operator, OrHalt, Part, Phrase, Query, Totals, Work};
use super::window;
use crate::error::{Error, Result};
use crate::top_k::TopK;

/// A phrase of the query in one part.
pub(super) struct Scored<'a> {
    pub list: List<'a>,
    pub idf: f64,
}

/// The search in one part.
pub(super) struct PartSearch<'a, 's> {
    pub part: Part<'a>,
    pub average: f64,
    pub bounds: &'s Bounds,
    pub block_bounds: [f32; 256],
    pub allowed: Option<&'s dyn Allowed>,
    pub top: &'s mut TopK<Hit>,
    pub looked: u64,
}

/// The rows and tokens of all parts together, without the dead.
pub fn totals(parts: &[Part<'_>]) -> Totals {
    parts.iter().fold(Totals::default(), |sum, part| Totals {
        rows: sum.rows + (part.rows() as u64).saturating_sub(part.dead().count() as u64),
        tokens: sum.tokens.saturating_add(part.tokens().saturating_sub(part.dead().tokens())),
    })
}

/// How many living rows hold a phrase.
///
/// # Errors
/// `Corrupt` where a segment is damaged.
pub fn frequency(parts: &[Part<'_>], phrase: &Phrase) -> Result<u64> {
    let mut forever = || true;
    let mut work = Work::new(&mut forever);
    let mut count = 0;
    for part in parts {
        match lists::of(part, phrase, &mut work) {
            Ok((_, here)) => count += here,
            Err(Halt::Failed(error)) => return Err(error),
            Err(Halt::Stopped) => return Err(Error::internal("a count was stopped that nobody can stop")),
        }
    }
    Ok(count)
}

/// The `k` best rows. `allowed` says which may be found; they all count for how rare a phrase is, as they do for FTS5.
/// `keep_going` is asked now and then.
///
/// # Errors
/// `Corrupt` where a segment is damaged.
pub fn search(
    parts: &[Part<'_>],
    query: &Query,
    k: usize,
    allowed: Option<&dyn Allowed>,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<Found> {
    let mut top = TopK::new(k);
    let mut looked = 0;
    let complete = match best(parts, query, k, allowed, &mut Work::new(keep_going), &mut top, &mut looked) {
        Ok(()) => true,
        Err(Halt::Stopped) => false,
        Err(Halt::Failed(error)) => return Err(error),
    };
    Ok(Found { hits: top.into_sorted(), complete, looked })
}

fn best(
    parts: &[Part<'_>],
    query: &Query,
    k: usize,
    allowed: Option<&dyn Allowed>,
    work: &mut Work<'_>,
    top: &mut TopK<Hit>,
    looked: &mut u64,
) -> OrHalt<()> {
    let Totals { rows, tokens } = totals(parts);
    if tokens == 0 || k == 0 {
        return Ok(());
    }
    let mut with = vec![0; query.phrases.len()];
    let mut found: Vec<Vec<List<'_>>> = Vec::with_capacity(parts.len());
    for part in parts {
        let mut here = Vec::with_capacity(query.phrases.len());
        for (phrase, with) in query.phrases.iter().zip(&mut with) {
            let (list, count) = lists::of(part, phrase, work)?;
            *with += count;
            here.push(list);
        }
        found.push(here);
    }
    let average = tokens as f64 / rows as f64;
    let bounds = Bounds::new(average);
    let idfs: Vec<f64> = with.iter().map(|&with| bm25::idf(rows, with)).collect();
    let few = allowed.map(|allowed| allowed.count());
    for (&part, here) in parts.iter().zip(found) {
        let mut lists: Vec<Scored<'_>> = here.into_iter().zip(&idfs).map(|(list, &idf)| Scored { list, idf }).collect();
        let written = if let Part::Sealed { segment, .. } = part { segment.average() } else { average };
        let mut search = PartSearch {
            part,
            average,
            bounds: &bounds,
            block_bounds: window::block_bounds(written, average),
            allowed,
            top,
            looked: 0,
        };
        let done = match (query.operator, few) {
            (operator, Some(few)) if is_cheaper_to_walk(few, operator, &lists) => {
                search.walk(operator, &mut lists, work)
            }
            (Operator::Or, _) => search.any(&mut lists, work),
            (Operator::And, _) => search.all(&mut lists, work),
        };
        *looked += search.looked;
        done?;
    }
    Ok(())
}

/// Whether to ask each list about each allowed row, rather than to test each row of the lists.
fn is_cheaper_to_walk(allowed: u64, operator: Operator, lists: &[Scored<'_>]) -> bool {
    /// Postings that can be summed while one is looked for.
    const SEEK: u64 = 16;
    let lens = lists.iter().map(|scored| scored.list.len() as u64);
    match operator {
        Operator::Or => {
            let rare = lists.iter().filter(|scored| scored.idf > 0.1).map(|scored| scored.list.len() as u64);
            allowed.saturating_mul(SEEK * lists.len() as u64) < rare.sum::<u64>()
        }
        Operator::And => allowed.saturating_mul(SEEK) < lens.min().unwrap_or(0),
    }
}

impl PartSearch<'_, '_> {
    /// A row whose bound is below this is not among the best.
    pub(super) fn threshold(&self) -> f32 {
        self.top.worst().map_or(0.0, |worst| bm25::threshold(worst.score))
    }

    /// Whether the row at a position is alive and allowed.
    pub(super) fn may_be_found(&self, position: u32) -> bool {
        !self.part.dead().contains(position)
            && self.allowed.is_none_or(|allowed| self.part.row(position).is_some_and(|row| allowed.contains(row)))
    }

    /// Computes the score of a row, in the order of the phrases.
    pub(super) fn score(&mut self, lists: &mut [Scored<'_>], position: u32) -> Result<()> {
        let Some(row) = self.part.row(position) else { return Ok(()) };
        let length = self.part.length(position);
        let mut score = 0.0;
        for scored in lists {
            score += bm25::part(scored.idf, scored.list.count(position)?, length, self.average);
        }
        self.looked += 1;
        self.top.offer(Hit { row, score });
        Ok(())
    }

    /// Looks for the best of the allowed rows, one by one.
    fn walk(&mut self, operator: Operator, lists: &mut [Scored<'_>], work: &mut Work<'_>) -> OrHalt<()> {
        let Some(allowed) = self.allowed else { return Ok(()) };
        'rows: for row in allowed.rows() {
            let Some(position) = self.part.position(row).filter(|&here| !self.part.dead().contains(here)) else {
                continue;
            };
            work.spend(lists.len())?;
            let mut any = false;
            for scored in lists.iter_mut() {
                let holds = scored.list.count(position)? > 0;
                any |= holds;
                if !holds && operator == Operator::And {
                    continue 'rows;
                }
                if holds && operator == Operator::Or {
                    break;
                }
            }
            if any {
                self.score(lists, position)?;
            }
        }
        Ok(())
    }

    /// Looks for the best of the rows that all lists hold.
    fn all(&mut self, lists: &mut [Scored<'_>], work: &mut Work<'_>) -> OrHalt<()> {
        let mut order: Vec<usize> = (0..lists.len()).collect();
        order.sort_by_key(|&index| lists[index].list.len());
        let Some((&rarest, others)) = order.split_first() else { return Ok(()) };
        // What the others add at most.
        let slack: f32 = others.iter().map(|&index| lists[index].idf as f32 * self.block_bounds[255]).sum();
        let idf = lists[rarest].idf as f32;
        let codes = self.part.length_codes();
        let blocks = match &lists[rarest].list {
            List::Packed(packed) => packed.postings.blocks(),
            List::Loose(_) => 1,
        };
        let mut rows: Vec<u32> = Vec::new();
        let mut counts: Vec<u32> = Vec::new();
        for block in 0..blocks {
            match &mut lists[rarest].list {
                List::Loose(loose) => {
                    rows.clone_from(&loose.rows);
                    counts.clone_from(&loose.counts);
                }
                List::Packed(packed) => {
                    let block = packed.load(block)?;
                    rows.clear();
                    rows.extend_from_slice(block.positions());
                    counts.clear();
                    counts.extend_from_slice(block.counts());
                }
            }
            'rows: for (&position, &count) in rows.iter().zip(&counts) {
                work.spend(1)?;
                let code = codes.get(position as usize).copied().unwrap_or(0);
                if idf * self.bounds.of(count, code) + slack < self.threshold() {
                    continue;
                }
                for &index in others {
                    if lists[index].list.count(position)? == 0 {
                        continue 'rows;
                    }
                }
                if self.may_be_found(position) {
                    self.score(lists, position)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::{Builder, Dead, Section, Segment, damaged, trusted};
    use super::*;
    use crate::error::ErrorKind;

    fn builder(rows: i64) -> Builder {
        let mut builder = Builder::new();
        for row in 0..rows {
            builder.token(b"all");
            (0..row % 5).for_each(|_| builder.token(b"some"));
            builder.token(format!("w{}", row % 100).as_bytes());
            builder.end_row(row).unwrap();
        }
        builder
    }

    fn query(operator: Operator, words: &[&str]) -> Query {
        let phrase = |word: &&str| Phrase { tokens: vec![word.as_bytes().to_vec()], prefix: false };
        Query { operator, phrases: words.iter().map(phrase).collect() }
    }

    #[test]
    fn nothing_is_asked_and_nothing_is_there() {
        let (builder, none) = (builder(10), Dead::none());
        let parts = [Part::Growing { builder: &builder, rows: 10, dead: &none }];
        for (words, k) in [(&["all"][..], 0), (&[], 5), (&["nowhere"], 5)] {
            for operator in [Operator::Or, Operator::And] {
                let found = search(&parts, &query(operator, words), k, None, &mut || true).unwrap();
                assert_eq!(found, Found { hits: vec![], complete: true, looked: 0 });
            }
        }
        let empty = Query { operator: Operator::Or, phrases: vec![Phrase { tokens: vec![], prefix: true }] };
        assert!(search(&parts, &empty, 5, None, &mut || true).unwrap().hits.is_empty());
        assert!(search(&[], &query(Operator::Or, &["all"]), 5, None, &mut || true).unwrap().hits.is_empty());
    }

    #[test]
    fn it_stops_when_told() {
        let sections = builder(30_000).finish().unwrap();
        let segment = Segment::open(sections.refs(), &trusted).unwrap();
        let none = Dead::none();
        let parts = [Part::Sealed { segment: &segment, dead: &none }];
        for operator in [Operator::Or, Operator::And] {
            let words = query(operator, &["all", "some"]);
            assert!(!search(&parts, &words, 40_000, None, &mut || false).unwrap().complete);
            let whole = search(&parts, &words, 40_000, None, &mut || true).unwrap();
            assert_eq!((whole.complete, whole.hits.len() as u64), (true, whole.looked));
        }
    }

    #[test]
    fn bytes_are_verified_before_they_are_read_and_places_are_left_alone() {
        let sections = builder(2000).finish().unwrap();
        let none = Dead::none();
        let seen = Mutex::new(Vec::new());
        let note = |section: Section, range: std::ops::Range<usize>| {
            assert!(section.is_lazy() && range.end <= sections.bytes(section).len());
            seen.lock().unwrap().push(section);
            Ok(())
        };
        let segment = Segment::open(sections.refs(), &note).unwrap();
        let parts = [Part::Sealed { segment: &segment, dead: &none }];
        for words in [&["all", "some"][..], &["w7"], &["some", "w7"]] {
            search(&parts, &query(Operator::Or, words), 10, None, &mut || true).unwrap();
        }
        assert!(seen.lock().unwrap().iter().all(|&section| section == Section::Postings));
        let refuse = |section: Section, _: std::ops::Range<usize>| match section {
            Section::Positions => Err(damaged("places")),
            _ => Ok(()),
        };
        let segment = Segment::open(sections.refs(), &refuse).unwrap();
        let parts = [Part::Sealed { segment: &segment, dead: &none }];
        let mut phrase = query(Operator::Or, &["all"]);
        phrase.phrases[0].tokens.push(b"some".to_vec());
        assert_eq!(search(&parts, &phrase, 10, None, &mut || true).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_view_of_fewer_rows_sees_no_others() {
        let (builder, none) = (builder(500), Dead::none());
        let sections = builder.finish_first(300).unwrap();
        let segment = Segment::open(sections.refs(), &trusted).unwrap();
        let sealed = [Part::Sealed { segment: &segment, dead: &none }];
        let growing = [Part::Growing { builder: &builder, rows: 300, dead: &none }];
        assert_eq!(totals(&sealed), totals(&growing));
        for words in [&["some", "w3", "all"][..], &["w99"]] {
            let words = query(Operator::Or, words);
            let [sealed, growing] =
                [&sealed, &growing].map(|parts| search(parts, &words, 7, None, &mut || true).unwrap().hits);
            assert!(!sealed.is_empty());
            assert_eq!(sealed, growing);
        }
    }
}
