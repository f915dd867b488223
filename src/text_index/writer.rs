//! Makes a segment: first all its rows, then all its terms in order.

use super::bm25;
use super::dictionary::DictionaryWriter;
use super::segment::{FORMAT, META_BYTES, Sections};
use super::{ROWS, positions, postings};
use crate::error::{Error, ErrorKind, Result};
use crate::row_ids;

/// A segment being written.
pub(super) struct Writer {
    rows: Vec<i64>,
    lengths: Vec<u32>,
    average: f64,
    dictionary: DictionaryWriter,
    postings: Vec<u8>,
    positions: Vec<u8>,
}

impl Writer {
    /// Takes the rows, which ascend, and the number of tokens of each.
    pub fn new(rows: Vec<i64>, lengths: Vec<u32>) -> Result<Self> {
        if rows.len() > ROWS {
            return Err(Error::new(ErrorKind::Limit, "a segment of the text index has more than 2^31 rows"));
        }
        let tokens: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        Ok(Self {
            average: tokens as f64 / rows.len() as f64,
            rows,
            lengths,
            dictionary: DictionaryWriter::default(),
            postings: Vec::new(),
            positions: Vec::new(),
        })
    }

    /// Takes a term: the positions of the rows that hold it, how often each does, and the places in all of them, one row
    /// behind the other.
    pub fn push(&mut self, term: &[u8], rows: &[u32], counts: &[u32], places: &[u32]) -> Result<()> {
        let bound = |rows: &[u32], counts: &[u32]| {
            let parts = rows.iter().zip(counts).map(|(&row, &count)| {
                let length = self.lengths.get(row as usize).copied().unwrap_or(0);
                bm25::part(1.0, count, length, self.average)
            });
            bm25::block_code(parts.fold(0.0, f64::max))
        };
        postings::write(rows, counts, bound, &mut self.postings)?;
        positions::write(counts, places, &mut self.positions)?;
        self.dictionary.push(term, rows.len(), [self.postings.len(), self.positions.len()]);
        Ok(())
    }

    /// The segment.
    pub fn finish(self) -> Sections {
        let row_ids::Written { first, width, bytes: rows } = row_ids::write(&self.rows);
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let length_bytes: usize = match longest {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        };
        let tokens: u64 = self.lengths.iter().map(|&length| u64::from(length)).sum();

        let mut meta = Vec::with_capacity(META_BYTES);
        meta.extend_from_slice(&FORMAT.to_le_bytes());
        meta.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        meta.extend_from_slice(&tokens.to_le_bytes());
        meta.extend_from_slice(&first.to_le_bytes());
        meta.extend_from_slice(&(width as u64 | (length_bytes as u64) << 8).to_le_bytes());

        let mut lengths = Vec::with_capacity(self.lengths.len() * length_bytes);
        for length in &self.lengths {
            lengths.extend_from_slice(&length.to_le_bytes()[..length_bytes]);
        }
        let codes = self.lengths.iter().map(|&length| bm25::length_code(length)).collect();
        let DictionaryWriter { index, terms, .. } = self.dictionary;
        Sections::new([meta, rows, lengths, codes, index, terms, self.postings, self.positions])
    }
}
