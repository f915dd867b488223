//! The rows of a part that hold a phrase: as they are packed, or as numbers in memory.

use super::bits::BLOCK;
use super::builder::Occurrences;
use super::dead::Dead;
use super::dictionary::{self, Term};
use super::phrases;
use super::postings::{Block, Postings};
use super::query::{OrHalt, Part, Phrase, Work};
use crate::error::Result;

/// The postings of a phrase in one part.
pub(super) enum List<'a> {
    /// Those of a term that many rows hold. Dead rows are among them.
    Packed(Packed<'a>),
    /// Without dead rows.
    Loose(Loose),
}

/// Rows and how often each holds the phrase.
#[derive(Debug, Default)]
pub(super) struct Loose {
    pub rows: Vec<u32>,
    pub counts: Vec<u32>,
}

impl Loose {
    /// Drops the dead.
    pub fn living(mut self, dead: &Dead) -> Self {
        if dead.count() > 0 {
            let alive: Vec<bool> = self.rows.iter().map(|&row| !dead.contains(row)).collect();
            let mut flags = alive.iter();
            self.rows.retain(|_| flags.next().copied().unwrap_or(false));
            let mut flags = alive.iter();
            self.counts.retain(|_| flags.next().copied().unwrap_or(false));
        }
        self
    }
}

/// A packed list, and the block that was read last.
pub(super) struct Packed<'a> {
    pub postings: Postings<'a>,
    block: Box<Block>,
    /// Which block that is.
    at: Option<usize>,
    /// Where in it the last search ended: the next one is near, most of the time.
    near: usize,
}

impl<'a> Packed<'a> {
    /// Before its first block.
    pub fn new(postings: Postings<'a>) -> Self {
        Self { postings, block: Box::default(), at: None, near: 0 }
    }

    /// Finds a position: the number of its block, and its place there.
    #[inline]
    pub fn find(&mut self, position: u32) -> Result<Option<(usize, usize)>> {
        let from = match self.at.zip(self.block.positions().first()) {
            Some((at, &first)) if first <= position => {
                let last = self.block.positions().last().copied().unwrap_or(0);
                if position > last { at + 1 } else { at }
            }
            _ => 0,
        };
        let block = if self.at == Some(from) { from } else { self.postings.block_of(position, from) };
        if block >= self.postings.blocks() {
            return Ok(None);
        }
        self.load(block)?;
        let positions = self.block.positions();
        let (mut low, mut step) = (0, 1);
        let mut high = 0;
        if positions.get(self.near).is_some_and(|&here| here <= position) {
            (low, high) = (self.near, self.near);
        }
        while positions.get(high).is_some_and(|&here| here < position) {
            low = high + 1;
            high += step;
            step *= 2;
        }
        high = high.min(positions.len());
        self.near = low + positions[low..high].partition_point(|&here| here < position);
        Ok((positions.get(self.near) == Some(&position)).then_some((block, self.near)))
    }

    /// How often the row at a position holds the term.
    #[inline]
    pub fn count(&mut self, position: u32) -> Result<u32> {
        Ok(self.find(position)?.map_or(0, |(_, place)| self.block.counts[place]))
    }

    /// Reads a block unless it is there.
    pub fn load(&mut self, block: usize) -> Result<&Block> {
        if self.at != Some(block) {
            self.at = None;
            self.postings.read(block, &mut self.block)?;
            self.at = Some(block);
            self.near = 0;
        }
        Ok(&self.block)
    }
}

impl List<'_> {
    /// Nothing.
    pub fn none() -> Self {
        List::Loose(Loose::default())
    }

    /// How many postings it has.
    pub fn len(&self) -> usize {
        match self {
            List::Packed(packed) => packed.postings.count(),
            List::Loose(loose) => loose.rows.len(),
        }
    }

    /// How often the row at a position holds the phrase.
    #[inline]
    pub fn count(&mut self, position: u32) -> Result<u32> {
        match self {
            List::Packed(packed) => packed.count(position),
            List::Loose(loose) => Ok(loose.rows.binary_search(&position).map_or(0, |place| loose.counts[place])),
        }
    }
}

/// The list of a phrase in a part, and how many living rows are in it.
pub(super) fn of<'a>(part: &Part<'a>, phrase: &Phrase, work: &mut Work<'_>) -> OrHalt<(List<'a>, u64)> {
    let loose = match (phrase.tokens.as_slice(), part) {
        ([], _) => Loose::default(),
        ([token], Part::Sealed { segment, dead }) if !phrase.prefix => {
            let Some(term) = dictionary::find(segment, super::cut(token))? else { return Ok((List::none(), 0)) };
            if term.count >= BLOCK {
                let postings = Postings::of(segment, &term)?;
                let gone = dead.with_term(super::cut(token), |some| holding(postings, some))?;
                return Ok((List::Packed(Packed::new(postings)), (term.count as u64).saturating_sub(gone)));
            }
            all(Postings::of(segment, &term)?)?
        }
        ([token], Part::Growing { builder, rows, .. }) if !phrase.prefix => {
            let Occurrences { rows, counts, .. } = builder.occurrences(super::cut(token), *rows as u32);
            Loose { rows, counts }
        }
        ([token], _) => prefix(part, super::cut(token), work)?,
        (tokens, _) => phrases::of(part, tokens, phrase.prefix, work)?,
    };
    work.spend(loose.rows.len())?;
    let loose = loose.living(part.dead());
    let count = loose.rows.len() as u64;
    Ok((List::Loose(loose), count))
}

/// All postings of a term.
pub(super) fn all(postings: Postings<'_>) -> Result<Loose> {
    let mut loose = Loose::default();
    let mut block = Block::default();
    for index in 0..postings.blocks() {
        postings.read(index, &mut block)?;
        loose.rows.extend_from_slice(block.positions());
        loose.counts.extend_from_slice(block.counts());
    }
    Ok(loose)
}

/// How many of some positions, which ascend, hold a term.
fn holding(postings: Postings<'_>, some: &[u32]) -> Result<u64> {
    let mut packed = Packed::new(postings);
    let mut count = 0;
    for &position in some {
        count += u64::from(packed.find(position)?.is_some());
    }
    Ok(count)
}

/// The rows with a token of that beginning, and how many of such tokens each has.
fn prefix(part: &Part<'_>, prefix: &[u8], work: &mut Work<'_>) -> OrHalt<Loose> {
    let mut sum = Sum::new(part.rows());
    match part {
        Part::Sealed { segment, .. } => {
            let terms: Vec<Term> = dictionary::with_prefix(segment, prefix)?;
            sum.expect(terms.iter().map(|term| term.count).fold(0, usize::saturating_add));
            let mut block = Block::default();
            for term in &terms {
                let postings = Postings::of(segment, term)?;
                for index in 0..postings.blocks() {
                    postings.read(index, &mut block)?;
                    sum.add(block.positions(), block.counts());
                    work.spend(block.len)?;
                }
            }
        }
        Part::Growing { builder, rows, .. } => {
            let found = builder.with_prefix(prefix, *rows as u32);
            sum.expect(found.iter().map(|occurrences| occurrences.rows.len()).sum());
            for Occurrences { rows, counts, .. } in found {
                sum.add(&rows, &counts);
                work.spend(rows.len())?;
            }
        }
    }
    Ok(sum.finish())
}

/// Sums counts by row: over all rows where many are to come, else by sorting.
struct Sum {
    rows: usize,
    dense: Vec<u32>,
    pairs: Vec<(u32, u32)>,
}

impl Sum {
    fn new(rows: usize) -> Self {
        Self { rows, dense: Vec::new(), pairs: Vec::new() }
    }

    fn expect(&mut self, postings: usize) {
        if postings >= self.rows / 16 {
            self.dense = vec![0; self.rows];
        }
    }

    fn add(&mut self, rows: &[u32], counts: &[u32]) {
        for (&row, &count) in rows.iter().zip(counts) {
            match self.dense.get_mut(row as usize) {
                Some(sum) => *sum = sum.saturating_add(count),
                None => self.pairs.push((row, count)),
            }
        }
    }

    fn finish(mut self) -> Loose {
        let mut loose = Loose::default();
        for (row, &count) in (0..).zip(&self.dense) {
            if count > 0 {
                loose.rows.push(row);
                loose.counts.push(count);
            }
        }
        self.pairs.sort_unstable();
        for (row, count) in self.pairs {
            match loose.counts.last_mut() {
                Some(sum) if loose.rows.last() == Some(&row) => *sum = sum.saturating_add(count),
                _ => {
                    loose.rows.push(row);
                    loose.counts.push(count);
                }
            }
        }
        loose
    }
}
