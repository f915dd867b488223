//! Rows on their way into a segment, and at once searchable.
//!
//! The occurrences of a term go to a chain of slices in one arena, each slice twice as long as the one before it: for each
//! row how far it is from the last, then the places in it (each as what it is beyond the one before), then 0. So memory is
//! about what the segment will need, and nothing is moved as it grows.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::segment::Sections;
use super::writer::Writer;
use super::{ROWS, bm25, cut};
use crate::error::{Error, ErrorKind, Result};

/// Content bytes of the first slice of a chain and of the longest. Behind them each slice has 4 for its follower.
const FIRST: usize = 8;
const LONGEST: usize = 4096;
const LINK: usize = 4;

/// What is known of a term.
#[derive(Debug, Clone, Copy)]
struct Term {
    /// Where its bytes are.
    at: u32,
    len: u16,
    /// log2 of the present slice's content bytes.
    slice: u8,
    /// Bytes left in the present slice.
    left: u16,
    /// Where its chain begins, and where the next byte goes.
    chain: u32,
    next: u32,
    /// Rows that hold it.
    rows: u32,
    /// The last of them, and the place behind the last occurrence there.
    row: u32,
    place: u32,
}

/// The rows of a term, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Occurrences {
    pub rows: Vec<u32>,
    pub counts: Vec<u32>,
    /// Of all rows, one behind the other.
    pub places: Vec<u32>,
}

impl Occurrences {
    fn clear(&mut self) {
        self.rows.clear();
        self.counts.clear();
        self.places.clear();
    }
}

/// Takes rows in ascending order, and makes a segment of them.
pub struct Builder {
    hasher: RandomState,
    table: HashTable<u32>,
    terms: Vec<Term>,
    bytes: Vec<u8>,
    arena: Vec<u8>,
    rows: Vec<i64>,
    /// Tokens of all rows up to and with each.
    ends: Vec<u64>,
    length_codes: Vec<u8>,
    /// Tokens of the present row.
    length: u32,
    /// Set where the arena or a row is full.
    full: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Without rows.
    pub fn new() -> Self {
        Self {
            hasher: RandomState::default(),
            table: HashTable::new(),
            terms: Vec::new(),
            bytes: Vec::new(),
            arena: Vec::new(),
            rows: Vec::new(),
            ends: Vec::new(),
            length_codes: Vec::new(),
            length: 0,
            full: false,
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of memory it holds, about.
    pub fn memory(&self) -> usize {
        self.arena.capacity()
            + self.bytes.capacity()
            + self.terms.capacity() * size_of::<Term>()
            + self.table.capacity() * (size_of::<u32>() + 1)
            + self.rows.capacity() * 2 * size_of::<u64>()
    }

    /// Takes the next token of the present row. A token that FTS5 would cut is cut.
    pub fn token(&mut self, token: &[u8]) {
        let token = cut(token);
        let row = self.rows.len() as u32;
        let place = self.length;
        // Slices are looked for in 4 GiB.
        self.full |= self.arena.len() > u32::MAX as usize - 2 * LONGEST
            || self.bytes.len() > u32::MAX as usize - token.len()
            || place == u32::MAX - 1
            || row as usize >= ROWS;
        if self.full {
            return;
        }
        self.length += 1;
        let hash = self.hasher.hash_one(token);
        let (terms, bytes) = (&self.terms, &self.bytes);
        let text = |index: u32| {
            let term = &terms[index as usize];
            &bytes[term.at as usize..][..usize::from(term.len)]
        };
        let index = match self.table.find(hash, |&index| text(index) == token) {
            Some(&index) => index,
            None => {
                let index = self.terms.len() as u32;
                self.table.insert_unique(hash, index, |&other| self.hasher.hash_one(text(other)));
                self.new_term(token);
                index
            }
        };
        let term = &mut self.terms[index as usize];
        let mut code = Code::default();
        if term.rows == 0 || term.row != row {
            if term.rows > 0 {
                code.put(0);
            }
            code.put(row - if term.rows > 0 { term.row } else { 0 });
            term.rows += 1;
            term.row = row;
            term.place = 0;
        }
        code.put(place - term.place + 1);
        term.place = place + 1;
        append(&mut self.arena, term, code.bytes());
    }

    fn new_term(&mut self, token: &[u8]) {
        let chain = self.arena.len();
        self.arena.resize(chain + FIRST + LINK, 0);
        self.terms.push(Term {
            at: self.bytes.len() as u32,
            len: token.len() as u16,
            slice: FIRST.ilog2() as u8,
            left: FIRST as u16,
            chain: chain as u32,
            next: chain as u32,
            rows: 0,
            row: 0,
            place: 0,
        });
        self.bytes.extend_from_slice(token);
    }

    /// Ends the present row, all of whose tokens were given.
    ///
    /// # Errors
    /// `Internal` unless ids ascend; `Limit` where 4 GiB are full.
    pub fn end_row(&mut self, id: i64) -> Result<()> {
        if self.full {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the text index holds {} rows in memory, and no more will fit; finish it sooner", self.rows()),
            ));
        }
        if self.rows.last().is_some_and(|&last| last >= id) {
            return Err(Error::internal(format!("row {id} comes behind a later one into the text index")));
        }
        self.rows.push(id);
        self.ends.push(self.tokens(self.rows() - 1) + u64::from(self.length));
        self.length_codes.push(bm25::length_code(self.length));
        self.length = 0;
        Ok(())
    }

    /// Makes a segment of all ended rows.
    ///
    /// # Errors
    /// `Limit` where a term has more postings than a segment can hold.
    pub fn finish(&self) -> Result<Sections> {
        self.finish_first(self.rows())
    }

    /// Makes a segment of the first `rows` rows.
    ///
    /// # Errors
    /// As [`Builder::finish`].
    pub fn finish_first(&self, rows: usize) -> Result<Sections> {
        let rows = rows.min(self.rows());
        let mut order: Vec<(u64, u32)> =
            (0..self.terms.len() as u32).map(|index| (beginning(self.text(index)), index)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.text(a.1).cmp(self.text(b.1))));
        let lengths = (0..rows).map(|position| self.length(position)).collect();
        let mut writer = Writer::new(self.rows[..rows].to_vec(), lengths)?;
        let mut found = Occurrences::default();
        for (_, index) in order {
            self.read(index, rows as u32, &mut found);
            if !found.rows.is_empty() {
                writer.push(self.text(index), &found.rows, &found.counts, &found.places)?;
            }
        }
        Ok(writer.finish())
    }

    /// The id of the row at a position.
    pub fn row(&self, position: usize) -> Option<i64> {
        self.rows.get(position).copied()
    }

    /// The position of a row, or where it would be.
    pub fn position(&self, row: i64) -> std::result::Result<usize, usize> {
        self.rows.binary_search(&row)
    }

    /// The tokens of the row at a position; 0 beyond the last.
    pub fn length(&self, position: usize) -> u32 {
        (self.tokens((position + 1).min(self.rows())) - self.tokens(position.min(self.rows()))) as u32
    }

    /// The tokens of the first `rows` rows.
    pub(super) fn tokens(&self, rows: usize) -> u64 {
        rows.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0)
    }

    /// The code of the length of each row.
    pub(super) fn length_codes(&self) -> &[u8] {
        &self.length_codes
    }

    fn text(&self, index: u32) -> &[u8] {
        let term = &self.terms[index as usize];
        &self.bytes[term.at as usize..][..usize::from(term.len)]
    }

    /// The occurrences of a term in the first `rows` rows.
    pub(super) fn occurrences(&self, term: &[u8], rows: u32) -> Occurrences {
        let mut found = Occurrences::default();
        if let Some(&index) = self.table.find(self.hasher.hash_one(term), |&index| self.text(index) == term) {
            self.read(index, rows, &mut found);
        }
        found
    }

    /// The occurrences of every term with that beginning.
    pub(super) fn with_prefix(&self, prefix: &[u8], rows: u32) -> Vec<Occurrences> {
        let mut all = Vec::new();
        for index in 0..self.terms.len() as u32 {
            if self.text(index).starts_with(prefix) {
                let mut found = Occurrences::default();
                self.read(index, rows, &mut found);
                all.push(found);
            }
        }
        all
    }

    fn read(&self, index: u32, rows: u32, found: &mut Occurrences) {
        found.clear();
        let term = &self.terms[index as usize];
        let mut chain = Chain { arena: &self.arena, at: term.chain, slice: FIRST, left: FIRST, end: term.next };
        let mut row = 0;
        while let Some(delta) = chain.next() {
            row += delta;
            if row >= rows {
                return;
            }
            found.rows.push(row);
            let before = found.places.len();
            let mut place = 0;
            while let Some(beyond @ 1..) = chain.next() {
                place += beyond;
                found.places.push(place - 1);
            }
            found.counts.push((found.places.len() - before) as u32);
        }
    }
}

/// The first bytes of a term as a number: most comparisons end there.
fn beginning(term: &[u8]) -> u64 {
    let mut eight = [0; 8];
    let len = term.len().min(8);
    eight[..len].copy_from_slice(&term[..len]);
    u64::from_be_bytes(eight)
}

/// The few numbers of one occurrence.
#[derive(Default)]
struct Code {
    bytes: [u8; 16],
    len: usize,
}

impl Code {
    fn put(&mut self, mut number: u32) {
        while number >= 0x80 {
            self.bytes[self.len] = number as u8 | 0x80;
            self.len += 1;
            number >>= 7;
        }
        self.bytes[self.len] = number as u8;
        self.len += 1;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn append(arena: &mut Vec<u8>, term: &mut Term, bytes: &[u8]) {
    for &byte in bytes {
        if term.left == 0 {
            let size = (2usize << term.slice).min(LONGEST);
            let slice = arena.len();
            arena[term.next as usize..][..LINK].copy_from_slice(&(slice as u32).to_le_bytes());
            arena.resize(slice + size + LINK, 0);
            term.slice = size.ilog2() as u8;
            term.left = size as u16;
            term.next = slice as u32;
        }
        arena[term.next as usize] = byte;
        term.next += 1;
        term.left -= 1;
    }
}

/// Reads what was appended.
struct Chain<'a> {
    arena: &'a [u8],
    at: u32,
    slice: usize,
    left: usize,
    end: u32,
}

impl Chain<'_> {
    fn byte(&mut self) -> Option<u8> {
        if self.at == self.end {
            return None;
        }
        if self.left == 0 {
            let link = self.arena.get(self.at as usize..)?.first_chunk::<LINK>()?;
            self.at = u32::from_le_bytes(*link);
            self.slice = (self.slice * 2).min(LONGEST);
            self.left = self.slice;
        }
        let byte = *self.arena.get(self.at as usize)?;
        self.at += 1;
        self.left -= 1;
        Some(byte)
    }

    fn next(&mut self) -> Option<u32> {
        let mut number = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(builder: &mut Builder, row: i64, words: &str) -> Result<()> {
        words.split(' ').filter(|word| !word.is_empty()).for_each(|word| builder.token(word.as_bytes()));
        builder.end_row(row)
    }

    #[test]
    fn the_first_rows_are_as_if_no_other_followed() {
        let texts: Vec<String> = (0..300)
            .map(|row| format!("all {} {} all w{}", row % 7, "many ".repeat(row % 40), row * 31 % 90))
            .collect();
        let mut whole = Builder::new();
        let mut parts = Vec::new();
        for (row, text) in texts.iter().enumerate() {
            with(&mut whole, row as i64, text).unwrap();
            if row == 150 {
                parts.push((151, whole.finish().unwrap()));
            }
        }
        whole.token(b"not ended");
        parts.push((300, whole.finish().unwrap()));
        for (rows, sections) in parts {
            assert_eq!(whole.finish_first(rows).unwrap(), sections);
            let found = whole.occurrences(b"all", rows as u32);
            assert_eq!((found.rows.len(), found.places.len()), (rows, 2 * rows));
        }
        let many = whole.occurrences(b"many", 50);
        assert_eq!((many.rows.len(), many.counts[38], many.places.last()), (48, 39, Some(&10)));
        assert_eq!(whole.with_prefix(b"w1", 300).iter().map(|found| found.rows.len()).sum::<usize>(), 36);
    }

    #[test]
    fn rows_ascend() {
        let mut builder = Builder::new();
        with(&mut builder, 5, "a b").unwrap();
        assert_eq!(with(&mut builder, 5, "c").unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!((builder.rows(), builder.row(0), builder.length(0), builder.length(9)), (1, Some(5), 2, 0));
    }

    #[test]
    fn a_long_token_is_cut_as_fts5_cuts_it() {
        let mut builder = Builder::new();
        builder.token(&[b'x'; super::super::TOKEN_BYTES + 9]);
        builder.end_row(1).unwrap();
        assert_eq!(builder.occurrences(&[b'x'; super::super::TOKEN_BYTES], 1).rows, [0]);
    }
}
