//! The rows in which tokens stand one behind the other.

use super::bits::BLOCK;
use super::builder::Occurrences;
use super::dictionary;
use super::lists::{Loose, Packed};
use super::positions::{Places, Run};
use super::postings::Postings;
use super::query::{OrHalt, Part, Work};
use crate::error::Result;

/// A row that may hold the phrase: the places where it may begin.
struct Candidate {
    row: u32,
    /// Where they are among all.
    start: usize,
    end: usize,
}

/// The rows of a part with the phrase, and how often each has it. FTS5 counts phrases that overlap, each.
pub(super) fn of(part: &Part<'_>, tokens: &[Vec<u8>], prefix: bool, work: &mut Work<'_>) -> OrHalt<Loose> {
    let whole = if prefix { tokens.len() - 1 } else { tokens.len() };
    let mut terms = Vec::with_capacity(whole);
    for (offset, token) in tokens[..whole].iter().enumerate() {
        match Term::of(part, super::cut(token))? {
            Some(term) => terms.push((offset as u32, term)),
            None => return Ok(Loose::default()),
        }
    }
    // The rarest leaves the fewest rows to the others.
    terms.sort_by_key(|(_, term)| term.len());
    let mut terms = terms.into_iter();
    let Some((offset, mut rarest)) = terms.next() else { return Ok(Loose::default()) };
    let mut others: Vec<(u32, Term<'_>)> = terms.collect();

    let mut found = Loose::default();
    let mut candidates = Vec::new();
    let mut starts: Vec<u32> = Vec::new();
    let mut places = Vec::new();
    'rows: for index in 0..rarest.len() {
        let Some(row) = rarest.row(index)? else { break };
        work.spend(1 + others.len())?;
        for (_, term) in &mut others {
            if !term.holds(row)? {
                continue 'rows;
            }
        }
        let before = starts.len();
        rarest.places(row, &mut places)?;
        starts.extend(places.iter().filter_map(|place| place.checked_sub(offset)));
        for (offset, term) in &mut others {
            if starts.len() == before {
                break;
            }
            term.places(row, &mut places)?;
            keep_common(&mut starts, before, &places, *offset);
        }
        if starts.len() == before {
            continue;
        }
        if prefix {
            candidates.push(Candidate { row, start: before, end: starts.len() });
        } else {
            found.rows.push(row);
            found.counts.push((starts.len() - before) as u32);
            starts.clear();
        }
    }
    match tokens.last() {
        Some(last) if prefix => continued(part, super::cut(last), whole as u32, &candidates, &starts, work),
        _ => Ok(found),
    }
}

/// Of `starts` from `from` on, keeps those that `places` has `offset` behind them. Both ascend.
fn keep_common(starts: &mut Vec<u32>, from: usize, places: &[u32], offset: u32) {
    let (mut kept, mut at) = (from, 0);
    for index in from..starts.len() {
        let Some(wanted) = starts[index].checked_add(offset) else { break };
        while places.get(at).is_some_and(|&place| place < wanted) {
            at += 1;
        }
        if places.get(at) == Some(&wanted) {
            starts[kept] = starts[index];
            kept += 1;
        }
    }
    starts.truncate(kept);
}

/// Those of the candidates that go on with a token of that beginning. At one place there is one token, so the terms are
/// counted one by one.
fn continued(
    part: &Part<'_>,
    prefix: &[u8],
    offset: u32,
    candidates: &[Candidate],
    starts: &[u32],
    work: &mut Work<'_>,
) -> OrHalt<Loose> {
    let mut counts = vec![0u32; candidates.len()];
    let mut places = Vec::new();
    for mut term in Term::with_prefix(part, prefix)? {
        let mut count = |index: usize, term: &mut Term<'_>| -> Result<()> {
            let Some(candidate) = candidates.get(index) else { return Ok(()) };
            term.places(candidate.row, &mut places)?;
            let here = &starts[candidate.start..candidate.end];
            let hits = places.iter().filter_map(|place| place.checked_sub(offset));
            counts[index] += hits.filter(|start| here.binary_search(start).is_ok()).count() as u32;
            Ok(())
        };
        work.spend(1 + term.len().min(candidates.len()))?;
        if term.len() < candidates.len() {
            for index in 0..term.len() {
                let Some(row) = term.row(index)? else { break };
                if let Ok(index) = candidates.binary_search_by_key(&row, |candidate| candidate.row) {
                    count(index, &mut term)?;
                }
            }
        } else {
            for (index, candidate) in candidates.iter().enumerate() {
                if term.holds(candidate.row)? {
                    count(index, &mut term)?;
                }
            }
        }
    }
    let mut found = Loose::default();
    for (candidate, &count) in candidates.iter().zip(&counts).filter(|(_, count)| **count > 0) {
        found.rows.push(candidate.row);
        found.counts.push(count);
    }
    Ok(found)
}

/// A term of a part with its places.
enum Term<'a> {
    Packed {
        list: Packed<'a>,
        places: Places<'a>,
        /// The run of the block that was asked for last, and how many places there are before those of each row.
        run: Option<(usize, Run<'a>)>,
        before: Vec<u64>,
    },
    Loose {
        occurrences: Occurrences,
        /// Where the places of each row begin.
        starts: Vec<usize>,
    },
}

impl<'a> Term<'a> {
    fn of(part: &Part<'a>, token: &[u8]) -> Result<Option<Self>> {
        Ok(match part {
            Part::Sealed { segment, .. } => match dictionary::find(segment, token)? {
                Some(term) => Some(Self::packed(part, &term)?),
                None => None,
            },
            Part::Growing { builder, rows, .. } => Some(Self::loose(builder.occurrences(token, *rows as u32))),
        })
    }

    fn with_prefix(part: &Part<'a>, prefix: &[u8]) -> Result<Vec<Self>> {
        match part {
            Part::Sealed { segment, .. } => {
                dictionary::with_prefix(segment, prefix)?.iter().map(|term| Self::packed(part, term)).collect()
            }
            Part::Growing { builder, rows, .. } => {
                Ok(builder.with_prefix(prefix, *rows as u32).into_iter().map(Self::loose).collect())
            }
        }
    }

    fn packed(part: &Part<'a>, term: &dictionary::Term) -> Result<Self> {
        match part {
            Part::Sealed { segment, .. } => Ok(Self::Packed {
                list: Packed::new(Postings::of(segment, term)?),
                places: Places::of(segment, term)?,
                run: None,
                before: Vec::new(),
            }),
            Part::Growing { .. } => Ok(Self::loose(Occurrences::default())),
        }
    }

    fn loose(occurrences: Occurrences) -> Self {
        let starts = occurrences.counts.iter().scan(0, |next, &count| {
            let start = *next;
            *next += count as usize;
            Some(start)
        });
        Self::Loose { starts: starts.collect(), occurrences }
    }

    fn len(&self) -> usize {
        match self {
            Term::Packed { list, .. } => list.postings.count(),
            Term::Loose { occurrences, .. } => occurrences.rows.len(),
        }
    }

    /// Its row of that index, which is asked for in order.
    fn row(&mut self, index: usize) -> Result<Option<u32>> {
        Ok(match self {
            Term::Packed { list, .. } => list.load(index / BLOCK)?.positions().get(index % BLOCK).copied(),
            Term::Loose { occurrences, .. } => occurrences.rows.get(index).copied(),
        })
    }

    fn holds(&mut self, row: u32) -> Result<bool> {
        Ok(match self {
            Term::Packed { list, .. } => list.find(row)?.is_some(),
            Term::Loose { occurrences, .. } => occurrences.rows.binary_search(&row).is_ok(),
        })
    }

    /// The places in a row, in place of what `into` has.
    fn places(&mut self, row: u32, into: &mut Vec<u32>) -> Result<()> {
        into.clear();
        match self {
            Term::Packed { list, places, run, before } => {
                let Some((block, place)) = list.find(row)? else { return Ok(()) };
                let counts = list.load(block)?.counts();
                let here = match run {
                    Some((of, here)) if *of == block => *here,
                    _ => {
                        before.clear();
                        before.extend(counts.iter().scan(0, |next, &count| {
                            let here = *next;
                            *next += u64::from(count);
                            Some(here)
                        }));
                        run.insert((block, places.run(block)?)).1
                    }
                };
                here.read(before[place], counts[place], into)
            }
            Term::Loose { occurrences, starts } => {
                if let Ok(place) = occurrences.rows.binary_search(&row) {
                    let start = starts[place];
                    into.extend_from_slice(&occurrences.places[start..start + occurrences.counts[place] as usize]);
                }
                Ok(())
            }
        }
    }
}
