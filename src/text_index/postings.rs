//! The rows that hold a term, and how often each does.
//!
//! Postings are in blocks of 128. Of a whole block a directory says its last position, where it ends, the bits of its
//! numbers and a bound of what any of its rows adds to a score. What is left over, often all there is, is in varints.

use super::bits::{BLOCK, pack, packed_bytes, put_varint, take_u32, take_varint, u32_at, unpack, width};
use super::damaged;
use super::dictionary::Term;
use super::segment::{Section, Segment};
use crate::error::{Error, ErrorKind, Result};

/// Of each whole block: its last position and its end (4 bytes each), bits of positions, bits of counts, bound.
const ENTRY: usize = 11;

/// Postings of a block as they are read.
#[derive(Clone)]
pub(super) struct Block {
    pub positions: [u32; BLOCK],
    pub counts: [u32; BLOCK],
    pub len: usize,
}

impl Default for Block {
    fn default() -> Self {
        Self { positions: [0; BLOCK], counts: [0; BLOCK], len: 0 }
    }
}

impl Block {
    /// The positions.
    pub fn positions(&self) -> &[u32] {
        &self.positions[..self.len]
    }

    /// How often each of them holds the term.
    pub fn counts(&self) -> &[u32] {
        &self.counts[..self.len]
    }
}

/// Appends postings. `bound` gives the bound of some of them in a byte.
pub(super) fn write(
    positions: &[u32],
    counts: &[u32],
    bound: impl Fn(&[u32], &[u32]) -> u8,
    out: &mut Vec<u8>,
) -> Result<()> {
    let whole = positions.len() / BLOCK;
    let directory = out.len();
    let data = directory + whole * ENTRY;
    out.resize(data, 0);
    let mut before = None;
    let mut deltas = [0; BLOCK];
    let mut less = [0; BLOCK];
    for block in 0..whole {
        let range = block * BLOCK..(block + 1) * BLOCK;
        let (positions, counts) = (&positions[range.clone()], &counts[range]);
        for (i, (&position, &count)) in positions.iter().zip(counts).enumerate() {
            deltas[i] = position - before.map_or(0, |before: u32| before + 1);
            less[i] = count - 1;
            before = Some(position);
        }
        let bits = [width(deltas), width(less)];
        pack(&deltas, bits[0], out);
        pack(&less, bits[1], out);
        let end = u32::try_from(out.len() - data)
            .map_err(|_| Error::new(ErrorKind::Limit, "a term has more than 4 GiB of postings in the text index"))?;
        let entry = &mut out[directory + block * ENTRY..][..ENTRY];
        entry[..4].copy_from_slice(&positions[BLOCK - 1].to_le_bytes());
        entry[4..8].copy_from_slice(&end.to_le_bytes());
        entry[8..].copy_from_slice(&[bits[0] as u8, bits[1] as u8, bound(positions, counts)]);
    }
    for (&position, &count) in positions.iter().zip(counts).skip(whole * BLOCK) {
        let delta = position - before.map_or(0, |before| before + 1);
        before = Some(position);
        // The last bit says that there is a count above 1.
        put_varint(u64::from(delta) << 1 | u64::from(count > 1), out);
        if count > 1 {
            put_varint(u64::from(count) - 2, out);
        }
    }
    Ok(())
}

/// The postings of a term.
#[derive(Clone, Copy)]
pub(super) struct Postings<'a> {
    segment: &'a Segment<'a>,
    directory: &'a [u8],
    data: &'a [u8],
    /// Where the data begins in its section.
    at: usize,
    count: usize,
}

impl<'a> Postings<'a> {
    /// Those of a term of the segment.
    pub fn of(segment: &'a Segment<'a>, term: &Term) -> Result<Self> {
        let bytes = segment.range(Section::Postings, term.postings.clone())?;
        let whole = term.count / BLOCK;
        if term.count == 0 || term.count > segment.rows() {
            return Err(damaged("the number of a term's rows"));
        }
        let directory = whole * ENTRY;
        if directory > bytes.len() {
            return Err(damaged("a directory of postings"));
        }
        segment.verify(Section::Postings, term.postings.start..term.postings.start + directory)?;
        let (directory, data) = bytes.split_at(directory);
        Ok(Self { segment, directory, data, at: term.postings.start + directory.len(), count: term.count })
    }

    /// Rows that hold the term.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Blocks with an entry in the directory.
    pub fn whole(&self) -> usize {
        self.directory.len() / ENTRY
    }

    /// Blocks, of which the last may have no entry.
    pub fn blocks(&self) -> usize {
        self.count.div_ceil(BLOCK)
    }

    fn number(&self, block: usize, place: usize) -> u32 {
        u32_at(self.directory, block * ENTRY + place).unwrap_or(0)
    }

    /// The last position of a whole block.
    #[inline]
    pub fn last(&self, block: usize) -> u32 {
        self.number(block, 0)
    }

    /// The bound of a whole block, in its byte.
    #[inline]
    pub fn bound(&self, block: usize) -> u8 {
        self.directory.get(block * ENTRY + 10).copied().unwrap_or(u8::MAX)
    }

    /// The first block from `from` on that may hold a position.
    pub fn block_of(&self, position: u32, from: usize) -> usize {
        let (mut low, mut high) = (from, from + 1);
        // Near, most of the time.
        while high < self.whole() && self.last(high - 1) < position {
            low = high;
            high += high - from;
        }
        high = high.min(self.whole());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.last(middle) < position {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// Reads a block. Its positions ascend and are positions of the segment; what has not both is an error.
    pub fn read(&self, block: usize, into: &mut Block) -> Result<()> {
        let whole = self.whole();
        let start = if block == 0 { 0 } else { self.number(block - 1, 4) as usize };
        let end = if block < whole { self.number(block, 4) as usize } else { self.data.len() };
        let mut bytes = self.data.get(start..end).ok_or_else(|| damaged("where postings end"))?;
        self.segment.verify(Section::Postings, self.at + start..self.at + end)?;
        let before = if block == 0 { None } else { Some(self.last(block - 1)) };
        let first = before.map_or(0, |before| u64::from(before) + 1);
        if block < whole {
            into.len = BLOCK;
            let entry = block * ENTRY;
            let bits = [u32::from(self.directory[entry + 8]), u32::from(self.directory[entry + 9])];
            let read = unpack(bytes, bits[0], &mut into.positions)
                .and_then(|()| bytes.get(packed_bytes(bits[0])..))
                .and_then(|bytes| unpack(bytes, bits[1], &mut into.counts));
            read.ok_or_else(|| damaged("a block of postings"))?;
            let mut next = first;
            for position in &mut into.positions {
                let here = next + u64::from(*position);
                next = here + 1;
                *position = here as u32;
            }
            into.counts.iter_mut().for_each(|count| *count = count.saturating_add(1));
            if next != u64::from(self.last(block)) + 1 || next > self.segment.rows() as u64 {
                return Err(damaged("the positions of a block"));
            }
            return Ok(());
        }
        into.len = self.count % BLOCK;
        let mut next = first;
        for (position, count) in into.positions.iter_mut().zip(&mut into.counts).take(into.len) {
            let mut read = || {
                let delta = take_varint(&mut bytes)?;
                let count = if delta & 1 == 1 { take_u32(&mut bytes)?.checked_add(2)? } else { 1 };
                Some((next.checked_add(delta >> 1)?, count))
            };
            let (here, times) = read().ok_or_else(|| damaged("postings"))?;
            if here >= self.segment.rows() as u64 {
                return Err(damaged("a position among postings"));
            }
            next = here + 1;
            *position = here as u32;
            *count = times;
        }
        Ok(())
    }
}
