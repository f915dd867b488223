//! How records are written: one byte for their kind and the fields in order. Numbers are LEB128, text and bytes have their
//! length before them, stamps have 24 bytes.

use super::record::{
    ChunkRecord, ChunkText, CollectionRecord, DocumentRecord, Header, Record, RelationRecord, SpaceRecord, StateRecord,
};
use super::{Watermark, damaged};
use crate::error::Result;
use crate::hlc::Hlc;
use crate::limits;

/// Of a replica in a header.
const OLD: u8 = 4;

/// Records one after the other.
#[derive(Debug, Default)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, which are gone from here then.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn split_off(&mut self, at: usize) -> Self {
        Self(self.0.split_off(at))
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63) as u64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn stamp(&mut self, stamp: Hlc) {
        self.0.extend(stamp.to_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }

    fn watermark(&mut self, mark: &Watermark) {
        self.number(mark.len() as u64);
        mark.iter().for_each(|stamp| self.stamp(stamp));
    }
}

impl Record<'_> {
    /// Appends the record.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Record::Header(header) => {
                out.0.push(1);
                out.0.extend(header.source);
                out.watermark(&header.upto);
                // Most of it is the same.
                let known = |stamp: &Hlc| header.since.get(stamp.replica);
                for stamp in header.upto.iter() {
                    let old = if header.old.contains(&stamp.replica) { OLD } else { 0 };
                    match known(&stamp) {
                        None => out.0.push(old),
                        Some(since) if since == stamp => out.0.push(old | 1),
                        Some(since) => {
                            out.0.push(old | 2);
                            out.stamp(since);
                        }
                    }
                }
                out.watermark(&header.forgotten);
                out.number(header.marks.len() as u64);
                header.marks.iter().for_each(|mark| out.0.extend(&mark.to_bytes()[..8]));
                out.0.extend(header.export);
                out.number(header.part);
            }
            Record::Collection(record) => {
                out.0.push(2);
                out.text(record.name);
                out.stamp(record.stamp);
                out.optional(record.floor, Encoder::stamp);
                out.optional(record.description, Encoder::text);
                out.text(record.settings);
                out.text(record.tokenizer);
                out.signed(record.created_at);
                out.number(record.spaces.len() as u64);
                for space in &record.spaces {
                    out.text(space.name);
                    out.stamp(space.stamp);
                    out.optional(space.floor, Encoder::stamp);
                    out.optional(space.dimension, Encoder::number);
                    out.text(space.metric);
                    out.optional(space.model, Encoder::text);
                    out.signed(space.created_at);
                }
            }
            Record::CollectionFloor { name, stamp } => {
                out.0.push(3);
                out.text(name);
                out.stamp(*stamp);
            }
            Record::SpaceFloor { collection, name, stamp } => {
                out.0.push(4);
                out.number(*collection);
                out.text(name);
                out.stamp(*stamp);
            }
            Record::Document(record) => {
                out.0.push(5);
                out.number(record.collection);
                out.text(record.uid);
                out.optional(record.uri, Encoder::text);
                out.stamp(record.stamp);
                out.text(record.content_type);
                out.optional(record.text, Encoder::text);
                out.text(record.metadata);
                out.0.extend(record.content_hash);
                out.signed(record.created_at);
                out.signed(record.updated_at);
                out.optional(record.expires_at, Encoder::signed);
                out.number(record.chunks);
            }
            Record::Chunk(record) => {
                out.0.push(6);
                out.text(record.uid);
                out.number(record.index);
                match record.text {
                    ChunkText::None => out.0.push(0),
                    ChunkText::Span => out.0.push(1),
                    ChunkText::Own(text) => {
                        out.0.push(2);
                        out.text(text);
                    }
                }
                out.optional(record.chars, |out, (start, end)| {
                    out.number(start);
                    out.number(end);
                });
                out.optional(record.token_count, Encoder::number);
                out.text(record.metadata);
                out.optional(record.expires_at, Encoder::signed);
                out.number(record.vectors.len() as u64);
                for (space, vector) in &record.vectors {
                    out.number(*space);
                    out.bytes(vector);
                }
            }
            Record::DocumentTombstone { collection, uid, stamp, alias } => {
                out.0.push(7);
                out.number(*collection);
                out.text(uid);
                out.stamp(*stamp);
                out.optional(*alias, Encoder::text);
            }
            Record::UriTombstone { collection, uri, stamp } => {
                out.0.push(8);
                out.number(*collection);
                out.text(uri);
                out.stamp(*stamp);
            }
            Record::Relation(record) => {
                out.0.push(9);
                out.number(record.collection);
                out.stamp(record.stamp);
                out.text(record.source);
                out.text(record.target);
                out.text(record.kind);
                out.0.extend(record.strength.to_le_bytes());
                out.text(record.metadata);
                out.signed(record.created_at);
            }
            Record::RelationTombstone { collection, uid, stamp } => {
                out.0.push(10);
                out.number(*collection);
                out.text(uid);
                out.stamp(*stamp);
            }
            Record::State(record) => {
                out.0.push(11);
                out.stamp(record.stamp);
                out.text(record.namespace);
                out.text(record.key);
                out.text(record.value);
                out.optional(record.expires_at, Encoder::signed);
                out.signed(record.updated_at);
            }
            Record::PastCollection { name } => {
                out.0.push(13);
                out.text(name);
            }
            Record::StateTombstone { uid, stamp } => {
                out.0.push(12);
                out.text(uid);
                out.stamp(*stamp);
            }
        }
    }
}

/// Takes records off the front of a frame.
#[derive(Debug)]
pub struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub fn new(frame: &'a [u8]) -> Self {
        Self(frame)
    }

    /// The next record; `None` at the end of the frame.
    ///
    /// # Errors
    /// `Sync` where it is none.
    pub fn record(&mut self) -> Result<Option<Record<'a>>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let [kind] = self.array()?;
        Ok(Some(match kind {
            1 => Record::Header(self.header()?),
            2 => Record::Collection(self.collection()?),
            3 => Record::CollectionFloor { name: self.text()?, stamp: self.stamp()? },
            4 => Record::SpaceFloor { collection: self.number()?, name: self.text()?, stamp: self.stamp()? },
            5 => Record::Document(DocumentRecord {
                collection: self.number()?,
                uid: self.text()?,
                uri: self.optional(Self::text)?,
                stamp: self.stamp()?,
                content_type: self.text()?,
                text: self.optional(Self::text)?,
                metadata: self.text()?,
                content_hash: self.array()?,
                created_at: self.signed()?,
                updated_at: self.signed()?,
                expires_at: self.optional(Self::signed)?,
                chunks: self.number()?,
            }),
            6 => Record::Chunk(self.chunk()?),
            7 => Record::DocumentTombstone {
                collection: self.number()?,
                uid: self.text()?,
                stamp: self.stamp()?,
                alias: self.optional(Self::text)?,
            },
            8 => Record::UriTombstone { collection: self.number()?, uri: self.text()?, stamp: self.stamp()? },
            9 => Record::Relation(RelationRecord {
                collection: self.number()?,
                stamp: self.stamp()?,
                source: self.text()?,
                target: self.text()?,
                kind: self.text()?,
                strength: f64::from_le_bytes(self.array()?),
                metadata: self.text()?,
                created_at: self.signed()?,
            }),
            10 => Record::RelationTombstone { collection: self.number()?, uid: self.text()?, stamp: self.stamp()? },
            11 => Record::State(StateRecord {
                stamp: self.stamp()?,
                namespace: self.text()?,
                key: self.text()?,
                value: self.text()?,
                expires_at: self.optional(Self::signed)?,
                updated_at: self.signed()?,
            }),
            12 => Record::StateTombstone { uid: self.text()?, stamp: self.stamp()? },
            13 => Record::PastCollection { name: self.text()? },
            other => return Err(damaged(format_args!("{other} is no kind of record"))),
        }))
    }

    fn header(&mut self) -> Result<Header> {
        let source = self.array()?;
        let upto = self.watermark()?;
        let mut since = Watermark::default();
        let mut old = Vec::new();
        for stamp in upto.iter() {
            let [flags] = self.array()?;
            if flags & OLD != 0 {
                old.push(stamp.replica);
            }
            match flags & !OLD {
                0 => {}
                1 => since.raise(stamp),
                2 => {
                    let earlier = self.stamp()?;
                    if earlier.replica != stamp.replica || !upto.covers(earlier) {
                        return Err(damaged("it begins after its end"));
                    }
                    since.raise(earlier);
                }
                _ => return Err(damaged("its header is none")),
            }
        }
        let forgotten = self.watermark()?;
        let count = self.count(limits::SYNC_MARKS_SENT, "marks")?;
        let mut marks = Vec::with_capacity(count);
        for _ in 0..count {
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&self.array::<8>()?);
            bytes[8..].copy_from_slice(&source);
            marks.push(Hlc::from_bytes(&bytes)?);
        }
        Ok(Header { source, since, upto, forgotten, old, marks, export: self.array()?, part: self.number()? })
    }

    fn watermark(&mut self) -> Result<Watermark> {
        let count = self.count(limits::SYNC_REPLICAS, "replicas")?;
        (0..count).map(|_| self.stamp()).collect()
    }

    fn collection(&mut self) -> Result<CollectionRecord<'a>> {
        let (name, stamp, floor) = (self.text()?, self.stamp()?, self.optional(Self::stamp)?);
        let description = self.optional(Self::text)?;
        let (settings, tokenizer, created_at) = (self.text()?, self.text()?, self.signed()?);
        let count = self.count(limits::SYNC_COLLECTIONS, "spaces")?;
        let mut spaces = Vec::new();
        for _ in 0..count {
            spaces.push(SpaceRecord {
                name: self.text()?,
                stamp: self.stamp()?,
                floor: self.optional(Self::stamp)?,
                dimension: self.optional(Self::number)?,
                metric: self.text()?,
                model: self.optional(Self::text)?,
                created_at: self.signed()?,
            });
        }
        Ok(CollectionRecord { name, stamp, floor, description, settings, tokenizer, created_at, spaces })
    }

    fn chunk(&mut self) -> Result<ChunkRecord<'a>> {
        let (uid, index) = (self.text()?, self.number()?);
        let text = match self.array()? {
            [0] => ChunkText::None,
            [1] => ChunkText::Span,
            [2] => ChunkText::Own(self.text()?),
            _ => return Err(damaged("the text of a chunk is none")),
        };
        let chars = self.optional(|this| Ok((this.number()?, this.number()?)))?;
        let token_count = self.optional(Self::number)?;
        let metadata = self.text()?;
        let expires_at = self.optional(Self::signed)?;
        let count = self.count(limits::SYNC_COLLECTIONS, "vectors")?;
        let mut vectors = Vec::new();
        for _ in 0..count {
            vectors.push((self.number()?, self.bytes()?));
        }
        Ok(ChunkRecord { uid, index, text, chars, token_count, metadata, expires_at, vectors })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| damaged("a record is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a number is too large"))
    }

    fn count(&mut self, most: usize, what: &str) -> Result<usize> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(damaged(format_args!("it says that there are {count} {what}; at most {most} are allowed"))),
        }
    }

    fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| damaged("a record is cut off"))?)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged("a text is no UTF-8"))
    }

    fn stamp(&mut self) -> Result<Hlc> {
        Hlc::from_bytes(self.take(24)?)
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.array()? {
            [0] => Ok(None),
            [1] => read(self).map(Some),
            _ => Err(damaged("a field is neither there nor absent")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Hlc {
        Hlc { millis, counter: 3, replica: [9; 16] }
    }

    fn all() -> Vec<Record<'static>> {
        let other = Hlc { replica: [4; 16], ..at(70) };
        vec![
            Record::Header(Header {
                source: [9; 16],
                since: [at(50), other].into_iter().collect(),
                upto: [at(60), other, Hlc { replica: [2; 16], ..at(1) }].into_iter().collect(),
                forgotten: [at(1)].into_iter().collect(),
                old: vec![[4; 16]],
                marks: vec![at(5), at(50)],
                export: [8; 16],
                part: 3,
            }),
            Record::Collection(CollectionRecord {
                name: "c",
                stamp: at(1),
                floor: Some(at(0)),
                description: None,
                settings: "{}",
                tokenizer: "trigram",
                created_at: -5,
                spaces: vec![SpaceRecord {
                    name: "default",
                    stamp: at(2),
                    floor: None,
                    dimension: Some(3),
                    metric: "l2",
                    model: Some("m"),
                    created_at: i64::MIN,
                }],
            }),
            Record::CollectionFloor { name: "gone", stamp: at(2) },
            Record::SpaceFloor { collection: 0, name: "s", stamp: at(3) },
            Record::Document(DocumentRecord {
                collection: 0,
                uid: "d",
                uri: Some("u"),
                stamp: at(4),
                content_type: "text/plain",
                text: Some("text"),
                metadata: "{}",
                content_hash: [5; 32],
                created_at: 1,
                updated_at: i64::MAX,
                expires_at: Some(-1),
                chunks: 2,
            }),
            Record::Chunk(ChunkRecord {
                uid: "k",
                index: u64::MAX,
                text: ChunkText::Own("own"),
                chars: Some((0, 300)),
                token_count: Some(128),
                metadata: "{\"a\":1}",
                expires_at: None,
                vectors: vec![(0, &[0, 0, 128, 63])],
            }),
            Record::DocumentTombstone { collection: 0, uid: "x", stamp: at(5), alias: Some("u") },
            Record::UriTombstone { collection: 0, uri: "v", stamp: at(6) },
            Record::Relation(RelationRecord {
                collection: 0,
                stamp: at(7),
                source: "a",
                target: "b",
                kind: "cites",
                strength: 0.25,
                metadata: "{}",
                created_at: 9,
            }),
            Record::RelationTombstone { collection: 0, uid: "[]", stamp: at(8) },
            Record::State(StateRecord {
                stamp: at(9),
                namespace: "n",
                key: "",
                value: "null",
                expires_at: Some(3),
                updated_at: 4,
            }),
            Record::StateTombstone { uid: "[\"n\",\"k\"]", stamp: at(10) },
            Record::PastCollection { name: "gone" },
        ]
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let mut out = Encoder::default();
        all().iter().for_each(|record| record.encode(&mut out));
        let bytes = out.take();
        let mut decoder = Decoder::new(&bytes);
        let mut read = Vec::new();
        while let Some(record) = decoder.record().unwrap() {
            read.push(record);
        }
        assert_eq!(read, all());
    }

    #[test]
    fn what_is_no_record_is_refused_and_nothing_panics() {
        for record in all() {
            let mut out = Encoder::default();
            record.encode(&mut out);
            let bytes = out.take();
            for end in 1..bytes.len() {
                assert!(Decoder::new(&bytes[..end]).record().is_err(), "{record:?} cut at {end}");
            }
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut mutant = bytes.clone();
                    mutant[at] ^= 1 << bit;
                    let _ = Decoder::new(&mutant).record();
                }
            }
        }
        for huge in [[1u8; 1].as_slice(), &[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert!(Decoder::new(huge).record().is_err());
        }
    }
}
