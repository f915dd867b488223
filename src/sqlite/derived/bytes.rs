//! The bytes of a snapshot: of the heap, or mapped from a file and checked when they are first read.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memmap2::Mmap;
use twox_hash::XxHash3_128;

use crate::error::{Error, ErrorKind, Result};

/// Every section begins at a multiple of this in its file and in memory: the width of a register and of a cache line.
pub const ALIGNMENT: usize = 64;
/// Bytes of one checksum.
pub const SUM: usize = 16;

/// A checksum of bytes. It protects against accidents, not against whoever can write it.
pub fn checksum(bytes: &[u8]) -> [u8; SUM] {
    XxHash3_128::oneshot(bytes).to_le_bytes()
}

/// A file that is mapped whole, for reading. Nobody writes to a snapshot once it has its name.
#[allow(unsafe_code)]
pub fn map(file: &File) -> Result<Arc<Mmap>> {
    // SAFETY: the bytes of a mapped file are another program's to change, which no lock of ours prevents. Snapshots are
    // written under a temporary name, renamed, and never written to or cut again; a file of that name which its user
    // changes meanwhile may give wrong bytes, which every reader checks, or end the process, as with any mapped file.
    Ok(Arc::new(unsafe { Mmap::map(file) }?))
}

/// Part of an array on the heap that begins at a multiple of [`ALIGNMENT`].
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

// SAFETY: an array of bytes without padding: any bits are a value of it.
#[allow(unsafe_code)]
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above, and it is `Copy`.
#[allow(unsafe_code)]
unsafe impl bytemuck::Pod for Line {}

/// A growing array that begins at a multiple of [`ALIGNMENT`].
#[derive(Default)]
pub struct Aligned {
    lines: Vec<Line>,
    length: usize,
}

impl Aligned {
    /// Appends.
    pub fn push(&mut self, mut bytes: &[u8]) {
        let used = self.length % ALIGNMENT;
        self.length += bytes.len();
        if used > 0
            && let Some(last) = self.lines.last_mut()
        {
            let (now, rest) = bytes.split_at(bytes.len().min(ALIGNMENT - used));
            last.0[used..used + now.len()].copy_from_slice(now);
            bytes = rest;
        }
        let (lines, rest) = bytes.as_chunks::<ALIGNMENT>();
        self.lines.extend(lines.iter().map(|line| Line(*line)));
        if !rest.is_empty() {
            let mut line = [0; ALIGNMENT];
            line[..rest.len()].copy_from_slice(rest);
            self.lines.push(Line(line));
        }
    }

    /// Gives back what it does not need.
    pub fn shrink(&mut self) {
        self.lines.shrink_to_fit();
    }

    /// What it holds.
    pub fn as_slice(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines).get(..self.length).unwrap_or_default()
    }

    /// Bytes of memory.
    pub fn held(&self) -> usize {
        self.lines.capacity() * ALIGNMENT
    }
}

/// One part of a snapshot.
pub struct Section {
    bytes: Bytes,
}

enum Bytes {
    Heap(Aligned),
    Mapped { map: Arc<Mmap>, at: Range<usize>, sums: Sums },
}

/// A checksum for each block of a mapped section, and which blocks were found to have theirs.
pub struct Sums {
    pub name: String,
    /// The logarithm of the bytes of a block.
    pub shift: u32,
    pub sums: Vec<[u8; SUM]>,
    seen: Vec<AtomicU64>,
    /// Every block was.
    all: AtomicBool,
}

impl Sums {
    /// Of a section none of which was read.
    pub fn new(name: String, shift: u32, sums: Vec<[u8; SUM]>) -> Self {
        let seen = (0..sums.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { name, shift, sums, seen, all: AtomicBool::new(false) }
    }

    fn check(&self, bytes: &[u8], range: Range<usize>) -> Result<()> {
        if range.is_empty() || self.all.load(Ordering::Acquire) {
            return Ok(());
        }
        for block in range.start >> self.shift..=(range.end - 1) >> self.shift {
            let (word, bit) = (block / 64, 1 << (block % 64));
            let seen = self.seen.get(word).ok_or_else(|| damaged(&self.name, "a part of it is missing"))?;
            if seen.load(Ordering::Acquire) & bit != 0 {
                continue;
            }
            let start = block << self.shift;
            let end = (start + (1 << self.shift)).min(bytes.len());
            // Two threads may both come to it, with the same outcome.
            let same = bytes.get(start..end).zip(self.sums.get(block));
            if same.is_none_or(|(bytes, sum)| checksum(bytes) != *sum) {
                return Err(damaged(&self.name, "its bytes are not those that were written"));
            }
            seen.fetch_or(bit, Ordering::AcqRel);
        }
        if range == (0..bytes.len()) {
            self.all.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl Section {
    /// Of the heap.
    pub fn heap(mut bytes: Aligned) -> Self {
        bytes.shrink();
        Self { bytes: Bytes::Heap(bytes) }
    }

    /// Of a file.
    pub fn mapped(map: Arc<Mmap>, at: Range<usize>, sums: Sums) -> Self {
        Self { bytes: Bytes::Mapped { map, at, sums } }
    }

    /// The bytes as they are, not checked.
    pub fn unchecked(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Heap(bytes) => bytes.as_slice(),
            Bytes::Mapped { map, at, .. } => map.get(at.clone()).unwrap_or_default(),
        }
    }

    /// Fails with `Corrupt` where a range holds other bytes than were written. What was checked is not checked again.
    pub fn check(&self, range: Range<usize>) -> Result<()> {
        match &self.bytes {
            Bytes::Heap(_) => Ok(()),
            Bytes::Mapped { sums, .. } => sums.check(self.unchecked(), range),
        }
    }

    /// All of it, checked.
    pub fn all(&self) -> Result<&[u8]> {
        let bytes = self.unchecked();
        self.check(0..bytes.len())?;
        Ok(bytes)
    }

    /// Bytes of the heap.
    pub fn held(&self) -> usize {
        match &self.bytes {
            Bytes::Heap(bytes) => bytes.held(),
            Bytes::Mapped { sums, .. } => sums.sums.len() * (SUM + 1),
        }
    }
}

/// The error of a snapshot that is not what was written.
pub fn damaged(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("snapshot {name}: {what}; it is built anew"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_on_the_heap_are_those_that_were_pushed_and_aligned() {
        let all: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        for step in [1, 7, 63, 64, 65, 200, 1000] {
            let mut aligned = Aligned::default();
            all.chunks(step).for_each(|bytes| aligned.push(bytes));
            assert_eq!(aligned.as_slice(), all);
            assert_eq!(aligned.as_slice().as_ptr() as usize % ALIGNMENT, 0);
            aligned.shrink();
            assert!(aligned.held() < 1000 + ALIGNMENT);
        }
        assert!(Aligned::default().as_slice().is_empty());
    }

    #[test]
    fn only_the_blocks_that_are_read_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        let sums: Vec<_> = bytes[64..].chunks(128).map(checksum).collect();
        bytes[64 + 300] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let map = map(&File::open(&path).unwrap()).unwrap();
        let section = Section::mapped(map, 64..1000, Sums::new("f".into(), 7, sums));
        section.check(0..256).unwrap();
        section.check(384..936).unwrap();
        section.check(0..0).unwrap();
        for range in [0..257, 256..257, 383..384, 0..936] {
            assert_eq!(section.check(range).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert!(section.check(936..1100).is_err());
        assert_eq!(section.all().unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(section.unchecked(), &bytes[64..]);
    }
}
