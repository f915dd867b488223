//! The file of a snapshot: a header, then sections, each with a checksum for every block of it.
//!
//! | bytes | |
//! |---|---|
//! | 0..4096 | the header: what the snapshot is of, as of which change, and where its sections are; its own checksum last |
//! | then | the sections and the checksums of their blocks, each from a multiple of 64 on |
//!
//! Numbers are little-endian. A file is written under a temporary name, synced, and renamed; no byte of it changes after
//! that. `docs/storage.md` has every field.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use super::bytes::{ALIGNMENT, Aligned, SUM, Section, Sums, checksum, damaged, map};
use crate::error::{Error, Result};

const MAGIC: [u8; 16] = *b"ragstore index\n\0";
/// Of the header and the sections' frame.
const VERSION: u32 = 1;
pub const HEADER: usize = 4096;
/// Where the table of sections begins, and the bytes of one entry.
const TABLE: usize = 256;
const ENTRY: usize = 64;
const NAME: usize = 16;
const MOST_SECTIONS: usize = (HEADER - SUM - TABLE) / ENTRY;
/// The logarithms of a block's bytes that make sense.
const SHIFTS: std::ops::RangeInclusive<u32> = 12..=24;

/// A change of the feed: its number and the tag of its commit.
pub type Moment = (i64, i64);

/// What a snapshot is of, and as of when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Which kind of index, and in which form its sections are.
    pub kind: u32,
    pub form: u32,
    pub store_id: [u8; 16],
    pub collection_id: i64,
    /// 0 for a text index.
    pub space_id: i64,
    /// Of the space's vec0 table, or of the collection's FTS5 table.
    pub generation: i64,
    /// The rows were read from this change on; whoever follows begins after it.
    pub begun: Moment,
    /// Everything up to this change was seen. A reader of an older state must not use it.
    pub ended: Moment,
    /// The greatest rowid of a chunk at `begun`: greater ones are new to it.
    pub last_row: i64,
    pub rows: u64,
    /// What the kind has to say of its sections.
    pub notes: [u64; 8],
}

/// Where the parts of a snapshot go, one after the other.
pub trait Sink {
    /// Begins a section, whose blocks have `1 << shift` bytes.
    fn begin(&mut self, name: &'static str, shift: u32) -> Result<()>;
    /// Appends to the section that was begun last.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Ends the section that was begun last, and gives it to be read.
    fn read_back(&mut self, read: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

impl dyn Sink + '_ {
    /// A section at once.
    pub fn put(&mut self, name: &'static str, shift: u32, bytes: &[u8]) -> Result<()> {
        self.begin(name, shift)?;
        self.write(bytes)
    }
}

/// Sections on the heap.
#[derive(Default)]
pub struct Heap {
    sections: Vec<(&'static str, Aligned)>,
}

impl Sink for Heap {
    fn begin(&mut self, name: &'static str, _shift: u32) -> Result<()> {
        self.sections.push((name, Aligned::default()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (_, section) = self.sections.last_mut().ok_or_else(|| Error::internal("no section was begun"))?;
        section.push(bytes);
        Ok(())
    }

    fn read_back(&mut self, read: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        read(self.sections.last().map(|(_, section)| section.as_slice()).unwrap_or_default())
    }
}

impl Heap {
    /// What was written.
    pub fn finish(self) -> Sections {
        let section = |(name, bytes): (&'static str, Aligned)| (name.to_owned(), Section::heap(bytes));
        Sections { name: "in memory".to_owned(), all: self.sections.into_iter().map(section).collect() }
    }
}

/// Bytes of one write: as much as one entry of the page table maps on x86-64.
const PIECE: usize = 2 << 20;

/// A file that is written in whole pieces from multiples of them on: kernels that keep files in large pages then map them
/// as such, and a search that jumps about in its index waits less for the page table.
struct Pieces {
    file: File,
    /// Bytes that were written, and those that wait.
    written: usize,
    waiting: Vec<u8>,
}

impl Pieces {
    /// Where the next byte goes.
    fn at(&self) -> usize {
        self.written + self.waiting.len()
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = PIECE - self.at() % PIECE;
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            self.waiting.extend_from_slice(now);
            bytes = rest;
            if now.len() == room {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.waiting)?;
        self.written += self.waiting.len();
        self.waiting.clear();
        Ok(())
    }
}

/// Writes a file, which has no header until it is finished.
pub struct Writer {
    pieces: Pieces,
    entries: Vec<Entry>,
    /// The bytes of a block that is not full.
    block: Vec<u8>,
    /// Of the blocks of the section that is open.
    sums: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    name: [u8; NAME],
    offset: usize,
    length: usize,
    sums: usize,
    shift: u32,
    /// Of the checksums of its blocks.
    sum: [u8; SUM],
}

impl Writer {
    /// Into an empty file.
    pub fn new(file: File) -> Result<Self> {
        let mut pieces = Pieces { file, written: 0, waiting: Vec::with_capacity(PIECE) };
        pieces.write(&[0; HEADER])?;
        Ok(Self { pieces, entries: Vec::new(), block: Vec::new(), sums: Vec::new() })
    }

    /// Ends the section that is open, writes the header and syncs. Returns the bytes of the file.
    pub fn finish(mut self, header: &Header) -> Result<u64> {
        self.end()?;
        self.pieces.flush()?;
        let Pieces { mut file, written, .. } = self.pieces;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&encode(header, &self.entries, written))?;
        file.sync_all()?;
        Ok(written as u64)
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut entry) = self.entries.pop_if(|entry| entry.sums == 0) else { return Ok(()) };
        if !self.block.is_empty() {
            self.flush()?;
        }
        entry.length = self.pieces.at() - entry.offset;
        self.pad()?;
        entry.sums = self.pieces.at();
        entry.sum = checksum(&self.sums);
        self.pieces.write(&self.sums)?;
        self.pad()?;
        self.sums.clear();
        self.entries.push(entry);
        Ok(())
    }

    fn pad(&mut self) -> Result<()> {
        let rest = self.pieces.at().next_multiple_of(ALIGNMENT) - self.pieces.at();
        self.pieces.write(&[0; ALIGNMENT][..rest])
    }

    fn flush(&mut self) -> Result<()> {
        self.sums.extend(checksum(&self.block));
        self.pieces.write(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

impl Sink for Writer {
    fn begin(&mut self, name: &'static str, shift: u32) -> Result<()> {
        self.end()?;
        if name.len() > NAME || self.entries.len() == MOST_SECTIONS || !SHIFTS.contains(&shift) {
            return Err(Error::internal(format!("section {name:?} cannot be written")));
        }
        let mut padded = [0; NAME];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        self.entries.push(Entry { name: padded, offset: self.pieces.at(), length: 0, sums: 0, shift, sum: [0; SUM] });
        self.block.reserve(1 << shift);
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let shift = self.entries.last().ok_or_else(|| Error::internal("no section was begun"))?.shift;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min((1 << shift) - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == 1 << shift {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn read_back(&mut self, read: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.end()?;
        let Some(entry) = self.entries.last() else { return read(&[]) };
        self.pieces.flush()?;
        let map = map(&self.pieces.file)?;
        read(map.get(entry.offset..entry.offset + entry.length).unwrap_or_default())
    }
}

/// The sections of a snapshot by name.
pub struct Sections {
    /// Of the snapshot, for messages.
    pub name: String,
    all: Vec<(String, Section)>,
}

impl Sections {
    /// Takes a section.
    ///
    /// # Errors
    /// `Corrupt` where there is none of that name.
    pub fn take(&mut self, name: &str) -> Result<Section> {
        let place = self.all.iter().position(|(own, _)| own == name);
        let place = place.ok_or_else(|| damaged(&self.name, &format!("it has no section {name:?}")))?;
        Ok(self.all.swap_remove(place).1)
    }
}

/// Reads the header of a file.
///
/// # Errors
/// `Corrupt` where it is not the header of a snapshot, whole, in a version that this library writes.
pub fn read_header(path: &Path) -> Result<Header> {
    let name = name_of(path);
    let mut bytes = vec![0; HEADER];
    let mut file = File::open(path)?;
    file.read_exact(&mut bytes).map_err(|_| damaged(&name, "it is too short"))?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    Ok(decode(&name, &bytes, length)?.0)
}

/// Gives a file that nobody reads yet another header, and syncs it. Returns its bytes.
pub fn restamp(path: &Path, header: &Header) -> Result<u64> {
    let name = name_of(path);
    let mut bytes = vec![0; HEADER];
    let mut file = File::options().read(true).write(true).open(path)?;
    file.read_exact(&mut bytes).map_err(|_| damaged(&name, "it is too short"))?;
    let length = file.metadata()?.len();
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    let (_, entries) = decode(&name, &bytes, size)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&encode(header, &entries, size))?;
    file.sync_all()?;
    Ok(length)
}

/// Maps a file and checks all but the bytes of its sections, which are checked when they are read.
///
/// # Errors
/// `Corrupt` where it is not a snapshot, whole, in a version that this library writes.
pub fn open(path: &Path) -> Result<(Header, Sections)> {
    let name = name_of(path);
    let file = File::open(path)?;
    // Of the file that is open, whatever has the name now.
    let map = map(&file)?;
    let bytes = map.get(..HEADER).ok_or_else(|| damaged(&name, "it is too short"))?;
    let (header, entries) = decode(&name, bytes, map.len())?;
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let blocks = entry.length.div_ceil(1 << entry.shift);
        let sums = map.get(entry.sums..entry.sums + blocks * SUM).unwrap_or_default();
        if checksum(sums) != entry.sum {
            return Err(damaged(&name, "the checksums of a section are not those that were written"));
        }
        let (sums, _) = sums.as_chunks::<SUM>();
        let sums = Sums::new(name.clone(), entry.shift, sums.to_vec());
        let text = String::from_utf8_lossy(&entry.name).trim_end_matches('\0').to_owned();
        all.push((text, Section::mapped(map.clone(), entry.offset..entry.offset + entry.length, sums)));
    }
    Ok((header, Sections { name, all }))
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn encode(header: &Header, entries: &[Entry], length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend(MAGIC);
    for number in [VERSION, header.kind, header.form, entries.len() as u32] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(header.store_id);
    let Header { collection_id, space_id, generation, begun, ended, last_row, .. } = *header;
    for number in [collection_id, space_id, generation, begun.0, begun.1, ended.0, ended.1, last_row] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(header.rows.to_le_bytes());
    bytes.extend((length as u64).to_le_bytes());
    header.notes.iter().for_each(|note| bytes.extend(note.to_le_bytes()));
    bytes.resize(TABLE, 0);
    for entry in entries {
        bytes.extend(entry.name);
        for number in [entry.offset, entry.length, entry.sums] {
            bytes.extend((number as u64).to_le_bytes());
        }
        bytes.extend(u64::from(entry.shift).to_le_bytes());
        bytes.extend(entry.sum);
    }
    bytes.resize(HEADER - SUM, 0);
    let sum = checksum(&bytes);
    bytes.extend(sum);
    bytes
}

/// Numbers one behind the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((now, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *now
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.take())
    }

    fn size(&mut self) -> usize {
        usize::try_from(self.u64()).unwrap_or(usize::MAX)
    }
}

fn decode(name: &str, bytes: &[u8], length: usize) -> Result<(Header, Vec<Entry>)> {
    let (body, sum) = bytes.split_at(bytes.len().saturating_sub(SUM));
    let mut fields = Fields(body);
    if fields.take() != MAGIC {
        return Err(damaged(name, "it is no snapshot"));
    }
    if checksum(body) != sum {
        return Err(damaged(name, "its header is not the one that was written"));
    }
    if fields.u32() != VERSION {
        return Err(damaged(name, "another version of ragstore wrote it"));
    }
    let (kind, form, sections) = (fields.u32(), fields.u32(), fields.u32() as usize);
    let header = Header {
        kind,
        form,
        store_id: fields.take(),
        collection_id: fields.i64(),
        space_id: fields.i64(),
        generation: fields.i64(),
        begun: (fields.i64(), fields.i64()),
        ended: (fields.i64(), fields.i64()),
        last_row: fields.i64(),
        rows: fields.u64(),
        notes: {
            if fields.size() != length {
                return Err(damaged(name, "it has another length than was written"));
            }
            std::array::from_fn(|_| fields.u64())
        },
    };
    if sections > MOST_SECTIONS || header.begun.0 > header.ended.0 {
        return Err(damaged(name, "its header makes no sense"));
    }
    let mut fields = Fields(body.get(TABLE..).unwrap_or_default());
    let mut entries = Vec::with_capacity(sections);
    for _ in 0..sections {
        let entry = Entry {
            name: fields.take(),
            offset: fields.size(),
            length: fields.size(),
            sums: fields.size(),
            shift: u32::try_from(fields.u64()).unwrap_or(u32::MAX),
            sum: fields.take(),
        };
        let within = |start: usize, bytes: Option<usize>| -> Option<Range<usize>> {
            let range = start..start.checked_add(bytes?)?;
            (start >= HEADER && start.is_multiple_of(ALIGNMENT) && range.end <= length).then_some(range)
        };
        let fits = SHIFTS.contains(&entry.shift)
            && within(entry.offset, Some(entry.length)).is_some()
            && within(entry.sums, entry.length.div_ceil(1 << entry.shift).checked_mul(SUM)).is_some();
        if !fits {
            return Err(damaged(name, "a section lies outside it"));
        }
        entries.push(entry);
    }
    Ok((header, entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn header() -> Header {
        Header {
            kind: 1,
            form: 2,
            store_id: [7; 16],
            collection_id: 3,
            space_id: 4,
            generation: 5,
            begun: (6, -7),
            ended: (8, i64::MIN),
            last_row: 9,
            rows: 10,
            notes: [1, 2, 3, 4, 5, 6, 7, u64::MAX],
        }
    }

    fn write(path: &Path, numbers: u32) -> (Vec<u8>, Vec<u8>) {
        let (long, short) = ((0..numbers).flat_map(u32::to_le_bytes).collect::<Vec<u8>>(), b"short".to_vec());
        let mut writer = Writer::new(File::create(path).unwrap()).unwrap();
        writer.begin("long", 12).unwrap();
        long.chunks(777).for_each(|bytes| writer.write(bytes).unwrap());
        writer.begin("none", 12).unwrap();
        writer.begin("short", 16).unwrap();
        writer.write(&short).unwrap();
        let length = writer.finish(&header()).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().len(), length);
        (long, short)
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        // The second is longer than a piece.
        for numbers in [20_000, 1_200_000] {
            read_as_written(&path, numbers);
        }
    }

    fn read_as_written(path: &Path, numbers: u32) {
        let (long, short) = write(path, numbers);
        let (read, mut sections) = open(path).unwrap();
        assert_eq!(read, header());
        assert_eq!(read_header(path).unwrap(), header());
        for (name, bytes) in [("short", &short), ("long", &long), ("none", &Vec::new())] {
            let section = sections.take(name).unwrap();
            assert_eq!(section.all().unwrap(), bytes);
            assert_eq!(section.unchecked().as_ptr() as usize % ALIGNMENT, 0);
        }
        assert_eq!(sections.take("long").err().unwrap().kind(), ErrorKind::Corrupt);
        let mut heap = Heap::default();
        heap.begin("long", 12).unwrap();
        heap.write(&long).unwrap();
        assert_eq!(heap.finish().take("long").unwrap().all().unwrap(), long);
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_found() {
        // All of a small one, and some of one whose sections have several blocks.
        damage(1_200, 1, 1);
        damage(20_000, 997, 37);
    }

    fn damage(numbers: u32, truncations: usize, flips: usize) {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("s"), folder.path().join("t"));
        write(&path, numbers);
        let bytes = std::fs::read(&path).unwrap();
        let read = |bytes: &[u8]| -> Result<()> {
            std::fs::write(&other, bytes).unwrap();
            let (header, mut sections) = open(&other)?;
            assert_eq!(header, self::header());
            ["long", "none", "short"].iter().try_for_each(|name| sections.take(name)?.all().map(drop))
        };
        read(&bytes).unwrap();
        for length in (0..bytes.len()).step_by(truncations).chain([HEADER - 1, HEADER, bytes.len() - 1]) {
            // Nothing of a file of no bytes can be mapped.
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        let (_, entries) = decode("s", &bytes[..HEADER], bytes.len()).unwrap();
        // Between the parts are bytes that nobody reads.
        let read_bytes = |at: &usize| {
            let parts = entries.iter().flat_map(|entry| {
                let sums = entry.length.div_ceil(1 << entry.shift) * SUM;
                [entry.offset..entry.offset + entry.length, entry.sums..entry.sums + sums]
            });
            *at < HEADER || parts.into_iter().any(|part| part.contains(at))
        };
        for at in (0..bytes.len()).step_by(flips).filter(read_bytes) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(read(&flipped).unwrap_err().kind(), ErrorKind::Corrupt, "{at}");
        }
    }
}
