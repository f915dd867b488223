//! An immutable segment over its sections: plain bytes, on the heap or mapped.

use std::fmt;
use std::ops::Range;

use super::bits::{u32_at, u64_at};
use super::{ROWS, damaged};
use crate::error::Result;
use crate::row_ids::RowIds;

/// What stands in `Section::Meta` before the counts.
pub(super) const FORMAT: u32 = 2;
pub(super) const META_BYTES: usize = 32;

/// The parts of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// Counts and widths.
    Meta,
    /// The id of each row.
    Rows,
    /// The tokens of each row.
    Lengths,
    /// The same in a byte each, for bounds.
    LengthCodes,
    /// Where blocks of terms begin.
    TermIndex,
    /// The terms.
    Terms,
    /// Which rows hold each term, and how often.
    Postings,
    /// Where in them.
    Positions,
}

impl Section {
    /// All, in the order in which [`Sections`] has them.
    pub const ALL: [Section; 8] = [
        Section::Meta,
        Section::Rows,
        Section::Lengths,
        Section::LengthCodes,
        Section::TermIndex,
        Section::Terms,
        Section::Postings,
        Section::Positions,
    ];

    /// A name for a table of sections.
    pub fn name(self) -> &'static str {
        match self {
            Section::Meta => "meta",
            Section::Rows => "rows",
            Section::Lengths => "lengths",
            Section::LengthCodes => "length_codes",
            Section::TermIndex => "term_index",
            Section::Terms => "terms",
            Section::Postings => "postings",
            Section::Positions => "positions",
        }
    }

    /// Whether the bytes of this section are verified as they are read, and not before the segment is opened.
    pub fn is_lazy(self) -> bool {
        matches!(self, Section::Postings | Section::Positions)
    }
}

/// A segment as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sections {
    bytes: [Vec<u8>; 8],
}

impl Sections {
    pub(super) fn new(bytes: [Vec<u8>; 8]) -> Self {
        Self { bytes }
    }

    /// The bytes of a section.
    pub fn bytes(&self, section: Section) -> &[u8] {
        &self.bytes[section as usize]
    }

    /// The bytes of all.
    pub fn refs(&self) -> [&[u8]; 8] {
        self.bytes.each_ref().map(Vec::as_slice)
    }

    /// Bytes of all together.
    pub fn len(&self) -> usize {
        self.bytes.iter().map(Vec::len).sum()
    }

    /// Whether there is not even a count.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Sees to it that bytes of a lazy section are what was written, before they are read for the first time.
pub type Verify<'a> = dyn Fn(Section, Range<usize>) -> Result<()> + Sync + 'a;

/// For bytes that nobody else could have changed.
pub fn trusted(_: Section, _: Range<usize>) -> Result<()> {
    Ok(())
}

/// A segment to be read. Whatever its bytes say, no call panics or goes on for longer than they are long.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    bytes: [&'a [u8]; 8],
    verify: &'a Verify<'a>,
    tokens: u64,
    ids: RowIds<'a>,
    length_bytes: usize,
}

impl fmt::Debug for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("rows", &self.rows()).field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl<'a> Segment<'a> {
    /// Reads the counts alone, so it can be done for each search.
    ///
    /// # Errors
    /// `Corrupt` where the sections do not belong together.
    pub fn open(bytes: [&'a [u8]; 8], verify: &'a Verify<'a>) -> Result<Self> {
        let meta = bytes[Section::Meta as usize];
        if meta.len() != META_BYTES || u32_at(meta, 0) != Some(FORMAT) {
            return Err(damaged("its format"));
        }
        let number = |at| u64_at(meta, at).ok_or_else(|| damaged("its counts"));
        let rows = usize::try_from(u32_at(meta, 4).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
        let widths = number(24)?;
        let (first, width) = (number(16)?.cast_signed(), (widths & 0xff) as usize);
        let ids = RowIds::open(first, width, bytes[Section::Rows as usize], rows).filter(|_| rows <= ROWS);
        let ids = ids.ok_or_else(|| damaged("the ids of its rows"))?;
        let segment = Self { bytes, verify, tokens: number(8)?, ids, length_bytes: (widths >> 8 & 0xff) as usize };
        let len = |section| segment.bytes(section).len();
        if widths >> 16 != 0
            || !matches!(segment.length_bytes, 1 | 2 | 4)
            || len(Section::Lengths) != rows * segment.length_bytes
            || len(Section::LengthCodes) != rows
        {
            return Err(damaged("the sizes of its sections"));
        }
        Ok(segment)
    }

    #[inline]
    pub(super) fn bytes(&self, section: Section) -> &'a [u8] {
        self.bytes[section as usize]
    }

    pub(super) fn range(&self, section: Section, range: Range<usize>) -> Result<&'a [u8]> {
        self.bytes(section).get(range).ok_or_else(|| damaged("where a term's bytes are"))
    }

    #[inline]
    pub(super) fn verify(&self, section: Section, range: Range<usize>) -> Result<()> {
        (self.verify)(section, range)
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// How many tokens they have together.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The tokens of a row on average.
    pub(super) fn average(&self) -> f64 {
        self.tokens as f64 / self.rows() as f64
    }

    /// The id of the row at a position.
    #[inline]
    pub fn row(&self, position: u32) -> Option<i64> {
        self.ids.get(position as usize)
    }

    /// The position of a row, or where it would be.
    pub fn position(&self, row: i64) -> std::result::Result<u32, u32> {
        self.ids.position(row).map(|position| position as u32).map_err(|position| position as u32)
    }

    /// The tokens of the row at a position.
    #[inline]
    pub fn length(&self, position: u32) -> Option<u32> {
        let (lengths, at) = (self.bytes(Section::Lengths), position as usize);
        match self.length_bytes {
            1 => lengths.get(at).map(|&byte| u32::from(byte)),
            2 => lengths.get(at * 2..at * 2 + 2).map(|two| u32::from(u16::from_le_bytes([two[0], two[1]]))),
            _ => u32_at(lengths, at * 4),
        }
    }

    /// The codes of all lengths.
    #[inline]
    pub(super) fn length_codes(&self) -> &'a [u8] {
        self.bytes(Section::LengthCodes)
    }
}
