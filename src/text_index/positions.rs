//! Where in its rows a term stands: for phrases, in a section of its own that nothing else reads.
//!
//! Of each block of postings one run of numbers of one width: the first place in a row as it is, the others as what lies
//! between. So the places in one row are read without those in the rows before it.

use std::ops::Range;

use super::bits::{BLOCK, in_run, pack_run, u32_at, width};
use super::damaged;
use super::dictionary::Term;
use super::segment::{Section, Segment};
use crate::error::{Error, ErrorKind, Result};

/// Appends the places of a term, those of all its rows one behind the other; a row has as many as `counts` says.
pub(super) fn write(counts: &[u32], places: &[u32], out: &mut Vec<u8>) -> Result<()> {
    let blocks = counts.len().div_ceil(BLOCK);
    let directory = out.len();
    // A single block needs no directory.
    let data = directory + if blocks > 1 { blocks * 4 } else { 0 };
    out.resize(data, 0);
    let mut rest = places;
    let mut run = Vec::new();
    for (block, counts) in counts.chunks(BLOCK).enumerate() {
        run.clear();
        for &count in counts {
            let (here, behind) = rest.split_at(count as usize);
            rest = behind;
            run.push(here[0]);
            run.extend(here.windows(2).map(|pair| pair[1] - pair[0] - 1));
        }
        // Of no width, a run would have no end that a reader could check.
        let bits = width(run.iter().copied()).max(1);
        out.push(bits as u8);
        pack_run(&run, bits, out);
        if blocks > 1 {
            let end = u32::try_from(out.len() - data)
                .map_err(|_| Error::new(ErrorKind::Limit, "a term has more than 4 GiB of places in the text index"))?;
            out[directory + block * 4..][..4].copy_from_slice(&end.to_le_bytes());
        }
    }
    Ok(())
}

/// The places of a term.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    segment: &'a Segment<'a>,
    directory: &'a [u8],
    data: &'a [u8],
    at: usize,
}

/// Those in the rows of one block of postings.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    bits: u32,
    numbers: &'a [u8],
}

impl<'a> Places<'a> {
    /// Those of a term of the segment.
    pub fn of(segment: &'a Segment<'a>, term: &Term) -> Result<Self> {
        let bytes = segment.range(Section::Positions, term.positions.clone())?;
        let blocks = term.count.div_ceil(BLOCK);
        let directory = if blocks > 1 { blocks * 4 } else { 0 };
        if directory > bytes.len() {
            return Err(damaged("a directory of places"));
        }
        segment.verify(Section::Positions, term.positions.start..term.positions.start + directory)?;
        let (directory, data) = bytes.split_at(directory);
        Ok(Self { segment, directory, data, at: term.positions.start + directory.len() })
    }

    /// Those in the rows of a block.
    pub fn run(&self, block: usize) -> Result<Run<'a>> {
        let range: Option<Range<usize>> = if self.directory.is_empty() {
            Some(0..self.data.len())
        } else {
            let start = if block == 0 { Some(0) } else { u32_at(self.directory, (block - 1) * 4) };
            start.zip(u32_at(self.directory, block * 4)).map(|(start, end)| start as usize..end as usize)
        };
        let bytes = range.clone().and_then(|range| self.data.get(range));
        let (Some((&bits, numbers)), Some(range)) = (bytes.and_then(<[u8]>::split_first), range) else {
            return Err(damaged("where places end"));
        };
        self.segment.verify(Section::Positions, self.at + range.start..self.at + range.end)?;
        // Checked after the bytes were.
        if !(1..=32).contains(&bits) {
            return Err(damaged("the width of places"));
        }
        Ok(Run { bits: u32::from(bits), numbers })
    }
}

impl Run<'_> {
    /// Appends the places in one row: `count` of them, behind `before` of the rows before it.
    pub fn read(&self, before: u64, count: u32, out: &mut Vec<u32>) -> Result<()> {
        let mut next = 0u32;
        for index in before..before.saturating_add(u64::from(count)) {
            let place = in_run(self.numbers, self.bits, index).and_then(|number| number.checked_add(next));
            let behind = place.and_then(|place| place.checked_add(1));
            next = behind.ok_or_else(|| damaged("a place"))?;
            out.push(next - 1);
        }
        Ok(())
    }
}
