//! The terms of a segment in order: blocks of them, each term as what it adds to the one before it.

use std::cmp::Ordering;
use std::ops::Range;

use super::bits::{put_varint, take_u32, take_varint, u64_at};
use super::segment::{Section, Segment};
use super::{TOKEN_BYTES, damaged};
use crate::error::Result;

/// Terms of a block.
const TERMS: usize = 32;
/// Of each block: where its terms, their postings and their positions begin.
const ENTRY: usize = 24;

/// What a segment has of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    /// Rows that hold it.
    pub count: usize,
    /// Where its postings are, in their section.
    pub postings: Range<usize>,
    /// Where its positions are, in theirs.
    pub positions: Range<usize>,
}

/// Writes terms, which are given in ascending order.
#[derive(Default)]
pub(super) struct DictionaryWriter {
    pub index: Vec<u8>,
    pub terms: Vec<u8>,
    last: Vec<u8>,
    count: usize,
    at: [usize; 2],
}

impl DictionaryWriter {
    /// Appends a term that `count` rows hold, whose postings and positions end there.
    pub fn push(&mut self, term: &[u8], count: usize, ends: [usize; 2]) {
        if self.count.is_multiple_of(TERMS) {
            for at in [self.terms.len(), self.at[0], self.at[1]] {
                self.index.extend_from_slice(&(at as u64).to_le_bytes());
            }
            self.last.clear();
        }
        let shared = self.last.iter().zip(term).take_while(|(a, b)| a == b).count();
        put_varint(shared as u64, &mut self.terms);
        put_varint((term.len() - shared) as u64, &mut self.terms);
        self.terms.extend_from_slice(&term[shared..]);
        put_varint(count as u64, &mut self.terms);
        for (at, end) in self.at.iter_mut().zip(ends) {
            put_varint((end - *at) as u64, &mut self.terms);
            *at = end;
        }
        self.last.truncate(shared);
        self.last.extend_from_slice(&term[shared..]);
        self.count += 1;
    }
}

/// Goes over terms in order.
pub(super) struct Terms<'a> {
    rest: &'a [u8],
    at: [usize; 2],
    /// Terms read of the present block.
    read: usize,
    term: Vec<u8>,
    found: Term,
}

impl<'a> Terms<'a> {
    /// From the first term of a block on. Past the last block there is none.
    fn of_block(segment: &Segment<'a>, block: usize) -> Result<Self> {
        let index = segment.bytes(Section::TermIndex);
        let mut terms = Self {
            rest: &[],
            at: [0; 2],
            read: 0,
            term: Vec::new(),
            found: Term { count: 0, postings: 0..0, positions: 0..0 },
        };
        if block < index.len() / ENTRY {
            let number = |place: usize| {
                u64_at(index, block * ENTRY + place * 8)
                    .and_then(|number| usize::try_from(number).ok())
                    .ok_or_else(|| damaged("the index of its terms"))
            };
            let at = number(0)?;
            terms.rest = segment.bytes(Section::Terms).get(at..).ok_or_else(|| damaged("the index of its terms"))?;
            terms.at = [number(1)?, number(2)?];
        }
        Ok(terms)
    }

    /// From the first of all terms on.
    pub fn all(segment: &Segment<'a>) -> Result<Self> {
        Self::of_block(segment, 0)
    }

    /// Goes to the next term, if there is one.
    pub fn advance(&mut self) -> Result<bool> {
        if self.rest.is_empty() {
            return Ok(false);
        }
        self.read_one().ok_or_else(|| damaged("a term")).map(|()| true)
    }

    fn read_one(&mut self) -> Option<()> {
        if self.read.is_multiple_of(TERMS) {
            self.term.clear();
        }
        let shared = take_u32(&mut self.rest)? as usize;
        let added = take_u32(&mut self.rest)? as usize;
        if shared > self.term.len() || shared + added > TOKEN_BYTES {
            return None;
        }
        let (added, rest) = self.rest.split_at_checked(added)?;
        self.rest = rest;
        self.term.truncate(shared);
        self.term.extend_from_slice(added);
        let mut number = || usize::try_from(take_varint(&mut self.rest)?).ok();
        let count = number()?;
        let ends = [self.at[0].checked_add(number()?)?, self.at[1].checked_add(number()?)?];
        self.found = Term { count, postings: self.at[0]..ends[0], positions: self.at[1]..ends[1] };
        self.at = ends;
        self.read += 1;
        Some(())
    }

    /// The term it is at.
    pub fn term(&self) -> &[u8] {
        &self.term
    }

    /// What the segment has of it.
    pub fn found(&self) -> &Term {
        &self.found
    }

    /// From the first term on that is not less than this, at which it stands; `None` where all are less.
    pub fn from(segment: &Segment<'a>, term: &[u8]) -> Result<Option<Self>> {
        // Of the blocks that begin with that term or one before it, the last.
        let (mut low, mut high) = (0, segment.bytes(Section::TermIndex).len() / ENTRY);
        while low < high {
            let middle = usize::midpoint(low, high);
            let mut terms = Self::of_block(segment, middle)?;
            match terms.advance()? && terms.term.as_slice() <= term {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let mut terms = Self::of_block(segment, low.saturating_sub(1))?;
        while terms.advance()? {
            if terms.term.as_slice() >= term {
                return Ok(Some(terms));
            }
        }
        Ok(None)
    }
}

/// Finds a term.
pub(super) fn find(segment: &Segment<'_>, term: &[u8]) -> Result<Option<Term>> {
    let found = Terms::from(segment, term)?;
    Ok(found.filter(|terms| terms.term().cmp(term) == Ordering::Equal).map(|terms| terms.found))
}

/// Every term with that beginning.
pub(super) fn with_prefix(segment: &Segment<'_>, prefix: &[u8]) -> Result<Vec<Term>> {
    let mut all = Vec::new();
    let Some(mut terms) = Terms::from(segment, prefix)? else { return Ok(all) };
    while terms.term().starts_with(prefix) {
        all.push(terms.found().clone());
        if !terms.advance()? {
            break;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, trusted};
    use super::*;

    #[test]
    fn terms_are_found_and_no_others() {
        let words: Vec<String> = (0..500).map(|word| format!("{}{word}", ["", "a", "ab", "é"][word % 4])).collect();
        let mut builder = Builder::new();
        for (row, word) in words.iter().enumerate() {
            [b"" as &[u8], b"all", word.as_bytes()].iter().for_each(|token| builder.token(token));
            builder.end_row(row as i64).unwrap();
        }
        let sections = builder.finish().unwrap();
        let segment = Segment::open(sections.refs(), &trusted).unwrap();
        for word in &words {
            assert_eq!(find(&segment, word.as_bytes()).unwrap().unwrap().count, 1, "{word}");
        }
        assert_eq!(find(&segment, b"").unwrap().unwrap().count, 500);
        for word in ["\0", "a", "alll", "ab2x", "zz", "\u{ff}"] {
            assert_eq!(find(&segment, word.as_bytes()).unwrap(), None, "{word}");
        }
        let count = |prefix: &str| with_prefix(&segment, prefix.as_bytes()).unwrap().len();
        let expected = |prefix: &str| {
            words.iter().filter(|word| word.starts_with(prefix)).count()
                + usize::from("".starts_with(prefix))
                + usize::from("all".starts_with(prefix))
        };
        for prefix in ["", "a", "ab1", "é", "é3", "all", "zzz", "4", "\u{ff}"] {
            assert_eq!(count(prefix), expected(prefix), "{prefix}");
        }
        let mut terms = Terms::all(&segment).unwrap();
        let mut all = Vec::new();
        while terms.advance().unwrap() {
            all.push(terms.term().to_vec());
        }
        assert!(all.len() == 502 && all.is_sorted());
    }
}
