//! The form of a batch, version 1. All numbers are little-endian.
//!
//! ```text
//! preamble   "RAGSYNC" 1   flags (1: encrypted)   where encrypted: salt (16), batch id (16), key check (16)
//! frame      kind (1 stored, 2 LZ4, 0 the last)   stored length (4)   plain length (4)   stored bytes   seal (16)
//! ```
//!
//! Frames hold whole records. The seal of a plain frame is BLAKE3 over the seal before it, the frame's head and its bytes;
//! the first one is over the preamble. That of an encrypted frame is of ChaCha20-Poly1305, whose nonce is the number of the
//! frame and whose associated data is the preamble and the frame's head. So no frame can be missing, moved, or of another
//! batch. The last frame says how many records there were and whether it is the last batch of its export.

use std::io::{Read, Write};

use super::damaged;
use super::encoding::{Decoder, Encoder};
use super::key::{BatchKey, Cipher};
use super::record::{Header, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

const MAGIC: &[u8; 8] = b"RAGSYNC\x01";
const ENCRYPTED: u8 = 1;
const SEAL: usize = 16;
const HEAD: usize = 9;
const LAST: u8 = 0;
const STORED: u8 = 1;
const LZ4: u8 = 2;

/// What keeps frames in their place.
enum Seal {
    Plain([u8; SEAL]),
    Cipher { cipher: Cipher, number: u64, preamble: Vec<u8> },
}

impl Seal {
    /// The bytes of a frame after its head.
    fn close(&mut self, head: &[u8; HEAD], stored: &[u8]) -> Result<Vec<u8>> {
        match self {
            Seal::Plain(before) => {
                *before = chain(before, head, stored);
                Ok([stored, before].concat())
            }
            Seal::Cipher { cipher, number, preamble } => {
                let sealed = cipher.seal(*number, stored, &[preamble, head.as_slice()].concat())?;
                *number += 1;
                Ok(sealed)
            }
        }
    }

    fn open(&mut self, head: &[u8; HEAD], mut sealed: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Seal::Plain(before) => {
                let stored = sealed.len() - SEAL;
                let expected = chain(before, head, &sealed[..stored]);
                if sealed[stored..] != expected {
                    return Err(damaged("a frame does not have its checksum"));
                }
                *before = expected;
                sealed.truncate(stored);
                Ok(sealed)
            }
            Seal::Cipher { cipher, number, preamble } => {
                let stored = cipher.open(*number, &sealed, &[preamble, head.as_slice()].concat())?;
                *number += 1;
                Ok(stored)
            }
        }
    }
}

fn chain(before: &[u8; SEAL], head: &[u8], stored: &[u8]) -> [u8; SEAL] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(head).update(stored);
    short(&hasher.finalize())
}

fn short(hash: &blake3::Hash) -> [u8; SEAL] {
    let mut bytes = [0; SEAL];
    bytes.copy_from_slice(&hash.as_bytes()[..SEAL]);
    bytes
}

fn seal_of(preamble: &[u8], key: Option<(&BatchKey, [u8; 16], [u8; 16])>) -> (Seal, Option<[u8; 16]>) {
    match key {
        None => (Seal::Plain(short(&blake3::hash(preamble))), None),
        Some((key, salt, batch)) => {
            let (cipher, check) = key.cipher(salt, batch);
            (Seal::Cipher { cipher, number: 0, preamble: preamble.to_vec() }, Some(check))
        }
    }
}

/// The salt of an encrypted batch; `None` of a plain one.
///
/// # Errors
/// As [`BatchReader::open`].
pub fn salt(input: &mut dyn Read) -> Result<Option<[u8; 16]>> {
    let mut start = [0; 9];
    read_exact(input, &mut start)?;
    check_start(&start)?;
    if start[8] & ENCRYPTED == 0 {
        return Ok(None);
    }
    let mut salt = [0; 16];
    read_exact(input, &mut salt)?;
    Ok(Some(salt))
}

/// The header of a batch.
///
/// # Errors
/// As [`BatchReader::open`] and [`BatchReader::frame`].
pub fn header(input: Box<dyn Read + '_>, key: Option<&BatchKey>) -> Result<Header> {
    let mut reader = BatchReader::open(input, key)?;
    let frame = reader.frame()?.unwrap_or_default();
    match Decoder::new(&frame).record()? {
        Some(Record::Header(header)) => Ok(header),
        _ => Err(damaged("it has no header")),
    }
}

fn check_start(start: &[u8; 9]) -> Result<()> {
    if start[..7] != MAGIC[..7] {
        return Err(Error::new(ErrorKind::Sync, "it is no batch of changes; give what export_changes returned"));
    }
    if start[7] != MAGIC[7] {
        return Err(Error::new(
            ErrorKind::Sync,
            format!("the batch is of version {}, this version of ragstore reads {}; upgrade it", start[7], MAGIC[7]),
        ));
    }
    if start[8] > ENCRYPTED { Err(damaged("its flags are unknown")) } else { Ok(()) }
}

/// Random bytes.
fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| Error::new(ErrorKind::Io, format!("no random bytes: {e}")))?;
    Ok(bytes)
}

/// Writes a batch.
pub struct BatchWriter<W> {
    out: W,
    seal: Seal,
    records: Encoder,
    count: u64,
    written: usize,
}

impl<W: Write> BatchWriter<W> {
    /// Writes the preamble. `salt` is drawn where it is not given.
    ///
    /// # Errors
    /// Of the writer.
    pub fn new(mut out: W, key: Option<&BatchKey>, salt: Option<[u8; 16]>) -> Result<Self> {
        let mut preamble = MAGIC.to_vec();
        preamble.push(if key.is_some() { ENCRYPTED } else { 0 });
        let seal = match key {
            None => seal_of(&preamble, None).0,
            Some(key) => {
                let salt = salt.map_or_else(random, Ok)?;
                let batch = random()?;
                preamble.extend(salt);
                preamble.extend(batch);
                let (seal, check) = seal_of(&preamble, Some((key, salt, batch)));
                preamble.extend(check.unwrap_or_default());
                seal
            }
        };
        out.write_all(&preamble)?;
        Ok(Self { out, seal, records: Encoder::default(), count: 0, written: preamble.len() })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// `Limit` for one that no frame can hold; those of the writer.
    pub fn record(&mut self, record: &Record<'_>) -> Result<()> {
        let before = self.records.len();
        record.encode(&mut self.records);
        self.count += 1;
        if self.records.len() - before > limits::SYNC_FRAME_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "a change takes {} bytes of a batch; at most {} are allowed: it has too many embedding spaces",
                    self.records.len() - before,
                    limits::SYNC_FRAME_BYTES
                ),
            ));
        }
        if self.records.len() < limits::SYNC_FRAME_FULL {
            return Ok(());
        }
        // Whole records, and none with those before it where all would be too much.
        if self.records.len() > limits::SYNC_FRAME_BYTES {
            let last = self.records.split_off(before);
            self.flush()?;
            self.records = last;
        }
        self.flush()
    }

    /// Writes a frame as it is, for tests of what no store writes.
    ///
    /// # Errors
    /// Of the writer.
    pub fn raw(&mut self, frame: &[u8]) -> Result<()> {
        self.frame(STORED, frame, frame.len())
    }

    /// What the last frame will say, for the same.
    pub fn set_count(&mut self, count: u64) {
        self.count = count;
    }

    /// Bytes that were written, about.
    pub fn bytes(&self) -> usize {
        self.written + self.records.len()
    }

    /// How many records there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn flush(&mut self) -> Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        let plain = self.records.take();
        let packed = lz4_flex::block::compress(&plain);
        let worth = packed.len() + packed.len() / 16 < plain.len()
            && plain.len() <= packed.len().saturating_mul(limits::SYNC_COMPRESSION);
        if worth { self.frame(LZ4, &packed, plain.len()) } else { self.frame(STORED, &plain, plain.len()) }
    }

    fn frame(&mut self, kind: u8, stored: &[u8], plain: usize) -> Result<()> {
        let length = |bytes: usize| u32::try_from(bytes).map_err(|_| Error::internal("a frame is too long"));
        let mut head = [kind; HEAD];
        head[1..5].copy_from_slice(&length(stored.len())?.to_le_bytes());
        head[5..].copy_from_slice(&length(plain)?.to_le_bytes());
        let sealed = self.seal.close(&head, stored)?;
        self.out.write_all(&head)?;
        self.out.write_all(&sealed)?;
        self.written += HEAD + sealed.len();
        Ok(())
    }

    /// Writes what is left and the last frame. `last`: no other batch of the same export comes after it.
    ///
    /// # Errors
    /// Of the writer, which is given back.
    pub fn finish(mut self, last: bool) -> (W, Result<()>) {
        let mut end = self.count.to_le_bytes().to_vec();
        end.push(u8::from(last));
        let length = end.len();
        let result = self.flush().and_then(|()| self.frame(LAST, &end, length));
        (self.out, result)
    }

    /// Where it is written to.
    pub fn output(&mut self) -> &mut W {
        &mut self.out
    }
}

/// Reads a batch, a frame at a time. Nothing is allocated by a number that was not compared with its limit.
pub struct BatchReader<'r> {
    input: Box<dyn Read + 'r>,
    seal: Seal,
    end: Option<(u64, bool)>,
}

impl<'r> BatchReader<'r> {
    /// Reads the preamble.
    ///
    /// # Errors
    /// `Sync` for what is no batch of this version, `WrongKey` where it is encrypted otherwise than by this key.
    pub fn open(mut input: Box<dyn Read + 'r>, key: Option<&BatchKey>) -> Result<Self> {
        let mut start = [0; 9];
        read_exact(&mut *input, &mut start)?;
        check_start(&start)?;
        let mut preamble = start.to_vec();
        let wrong = |what: &str| Err(Error::new(ErrorKind::WrongKey, format!("{what}; nothing was applied")));
        let seal = match (start[8] & ENCRYPTED != 0, key) {
            (false, None) => seal_of(&preamble, None).0,
            (false, Some(_)) => return wrong("a key was given and the batch is not encrypted; ask for one that is"),
            (true, None) => return wrong("the batch is encrypted; give the key that it was exported with"),
            (true, Some(key)) => {
                let mut rest = [0; 48];
                read_exact(&mut *input, &mut rest)?;
                let (mut salt, mut batch) = ([0; 16], [0; 16]);
                salt.copy_from_slice(&rest[..16]);
                batch.copy_from_slice(&rest[16..32]);
                preamble.extend(&rest[..32]);
                let (seal, check) = seal_of(&preamble, Some((key, salt, batch)));
                if check.as_ref().is_none_or(|check| check != &rest[32..]) {
                    return wrong("the key is not the one that the batch was exported with");
                }
                seal
            }
        };
        Ok(Self { input, seal, end: None })
    }

    /// The records of the next frame; `None` after the last.
    ///
    /// # Errors
    /// `Sync` for what was not written so, and for a batch that goes on after its end.
    pub fn frame(&mut self) -> Result<Option<Vec<u8>>> {
        if self.end.is_some() {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        read_exact(&mut *self.input, &mut head)?;
        let length = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (kind, stored, plain) = (head[0], length(1), length(5));
        let packed = kind == LZ4;
        if kind > LZ4 || stored == 0 || (!packed && stored != plain) {
            return Err(damaged("a frame has no head"));
        }
        if stored > limits::SYNC_FRAME_BYTES
            || plain > limits::SYNC_FRAME_BYTES
            || plain > stored.saturating_mul(limits::SYNC_COMPRESSION)
        {
            return Err(Error::new(
                ErrorKind::Sync,
                format!(
                    "a frame of the batch has {stored} bytes and says that it holds {plain}; at most {} bytes are allowed, \
                     and {} times as many as are stored; nothing was applied",
                    limits::SYNC_FRAME_BYTES,
                    limits::SYNC_COMPRESSION
                ),
            ));
        }
        // As much as there is: what a number promises may not come.
        let mut sealed = Vec::new();
        let wanted = stored + SEAL;
        (&mut *self.input).take(wanted as u64).read_to_end(&mut sealed)?;
        if sealed.len() != wanted {
            return Err(damaged("it ends within a frame"));
        }
        let stored = self.seal.open(&head, sealed)?;
        match kind {
            LAST => self.finish(&stored),
            LZ4 => {
                let records = lz4_flex::block::decompress(&stored, plain);
                match records {
                    Ok(records) if records.len() == plain => Ok(Some(records)),
                    _ => Err(damaged("a frame does not hold what its head says")),
                }
            }
            _ => Ok(Some(stored)),
        }
    }

    fn finish(&mut self, end: &[u8]) -> Result<Option<Vec<u8>>> {
        let (Some((count, [last @ (0 | 1)])), 9) = (end.split_first_chunk::<8>(), end.len()) else {
            return Err(damaged("its last frame is none"));
        };
        if self.input.read(&mut [0])? != 0 {
            return Err(damaged("it goes on after its end"));
        }
        self.end = Some((u64::from_le_bytes(*count), *last == 1));
        Ok(None)
    }

    /// How many records there are by the last frame, and whether it is the last batch of its export. After the last frame.
    pub fn end(&self) -> Option<(u64, bool)> {
        self.end
    }
}

fn read_exact(input: &mut dyn Read, out: &mut [u8]) -> Result<()> {
    input.read_exact(out).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("it is cut off"),
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hlc::Hlc;
    use crate::sync::record::StateRecord;

    fn key(byte: u8) -> BatchKey {
        BatchKey::new(crate::request::Key::raw(&[byte; 32]).unwrap())
    }

    fn state(key: &str, value: &str) -> Vec<u8> {
        let stamp = Hlc { millis: 5, counter: 1, replica: [1; 16] };
        let mut out = Encoder::default();
        let record = StateRecord { stamp, namespace: "n", key, value, expires_at: None, updated_at: 1 };
        Record::State(record).encode(&mut out);
        out.take()
    }

    fn write(values: &[String], key: Option<&BatchKey>) -> Vec<u8> {
        let stamp = Hlc { millis: 5, counter: 1, replica: [1; 16] };
        let mut bytes = Vec::new();
        let mut writer = BatchWriter::new(&mut bytes, key, None).unwrap();
        for value in values {
            let record = StateRecord { stamp, namespace: "n", key: "k", value, expires_at: None, updated_at: 1 };
            writer.record(&Record::State(record)).unwrap();
        }
        writer.finish(true).1.unwrap();
        bytes
    }

    fn read(bytes: &[u8], key: Option<&BatchKey>) -> Result<Vec<u8>> {
        let mut reader = BatchReader::open(Box::new(bytes), key)?;
        let mut all = Vec::new();
        while let Some(frame) = reader.frame()? {
            all.extend(frame);
        }
        Ok(all)
    }

    fn values() -> Vec<String> {
        (0..40i64).map(|i| (0..15_000).map(|n| format!("{} ", n * n % 997 * (i + 3))).collect()).collect()
    }

    #[test]
    fn what_is_written_is_read_in_frames() {
        let key = key(1);
        let expected: Vec<u8> = values().iter().flat_map(|value| state("k", value)).collect();
        for key in [None, Some(&key)] {
            let bytes = write(&values(), key);
            assert!(bytes.len() < expected.len() / 2, "compressed");
            assert_eq!(read(&bytes, key).unwrap(), expected);
            let mut reader = BatchReader::open(Box::new(bytes.as_slice()), key).unwrap();
            let mut frames = 0;
            while let Some(frame) = reader.frame().unwrap() {
                assert!(frame.len() < 2 * limits::SYNC_FRAME_FULL);
                frames += 1;
            }
            assert!(frames > 1);
            assert_eq!(reader.end(), Some((40, true)));
        }
    }

    #[test]
    fn every_byte_counts() {
        let key = key(1);
        for key in [None, Some(&key)] {
            let bytes = write(&["{}".to_owned(), "1".to_owned()], key);
            for at in 0..bytes.len() {
                let mut mutant = bytes.clone();
                mutant[at] ^= 1 << (at % 8);
                let kind = read(&mutant, key).unwrap_err().kind();
                assert!(matches!(kind, ErrorKind::Sync | ErrorKind::WrongKey), "byte {at}: {kind:?}");
                assert_eq!(read(&bytes[..at], key).unwrap_err().kind(), ErrorKind::Sync, "cut at {at}");
            }
            let longer = [bytes.as_slice(), &[0]].concat();
            assert_eq!(read(&longer, key).unwrap_err().kind(), ErrorKind::Sync);
        }
    }

    #[test]
    fn keys_are_told_from_damage() {
        let (key, other) = (key(1), key(2));
        let (plain, encrypted) = (write(&values(), None), write(&values(), Some(&key)));
        for (bytes, key) in [(&plain, Some(&key)), (&encrypted, Some(&other)), (&encrypted, None)] {
            assert_eq!(read(bytes, key).unwrap_err().kind(), ErrorKind::WrongKey);
        }
        assert_eq!(salt(&mut plain.as_slice()).unwrap(), None);
        assert!(salt(&mut encrypted.as_slice()).unwrap().is_some());
    }

    #[test]
    fn what_would_expand_too_much_is_refused_before_memory_is_taken() {
        let mut bytes = MAGIC.to_vec();
        bytes.push(0);
        for (stored, plain) in [(1u32, u32::MAX), (u32::MAX, u32::MAX), (100, 100 * 65)] {
            let mut bomb = bytes.clone();
            bomb.push(LZ4);
            bomb.extend(stored.to_le_bytes());
            bomb.extend(plain.to_le_bytes());
            bomb.extend([0; 200]);
            let error = read(&bomb, None).unwrap_err();
            assert!(error.kind() == ErrorKind::Sync && error.message().contains("at most"), "{error}");
        }
    }
}
