//! Pieces of what is to be gone, and the search for them in bytes.
//!
//! A *trace* is a piece of a text, a vector or a code: 16 bytes, or 8 of what is shorter than that. The pieces
//! themselves are kept, not their hashes, so that what is found is what was looked for. They are taken at a stride:
//! whatever is left of a content, in one run of at least `stride + 15` bytes, holds one of them.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// Bytes of a piece, and of one of what is shorter.
const LONG: usize = 16;
const SHORT: usize = 8;
/// A closer stride would find no more than a few bytes less. A number of a vector has as many.
const LEAST: usize = 4;
/// Different bytes of a piece that says something: one number again and again, as in zeros or in a vector of ones, is
/// in every file.
const TELLING: [u32; 2] = [5, 4];

/// What a trace is a piece of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Text,
    /// Of documents, of chunks and of relations.
    Metadata,
    /// Of a content.
    Hash,
    /// An indexed word.
    Term,
    Vector,
    /// A vector as an index quantises it.
    Code,
}

impl Kind {
    /// As callers see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Metadata => "metadata",
            Self::Hash => "hash",
            Self::Term => "term",
            Self::Vector => "vector",
            Self::Code => "code",
        }
    }
}

/// A trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Piece {
    Long(u128),
    Short(u64),
}

/// Pieces of what is to be gone.
#[derive(Clone, Default, PartialEq)]
pub struct Traces {
    long: HashMap<u128, Kind, RandomState>,
    short: HashMap<u64, Kind, RandomState>,
}

/// Of what was deleted, no word is to end in a message.
impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Traces({})", self.len())
    }
}

/// The stride at which so many bytes become about so many pieces, and no less than [`LEAST`].
pub fn stride(bytes: u64, pieces: usize) -> usize {
    usize::try_from(bytes.div_ceil(pieces.max(1) as u64)).unwrap_or(usize::MAX).max(LEAST)
}

/// Whether a piece has enough different bytes to be known by.
fn tells(piece: &[u8]) -> bool {
    let mut seen = [0u64; 4];
    piece.iter().for_each(|&byte| seen[usize::from(byte >> 6)] |= 1 << (byte & 63));
    let different: u32 = seen.iter().map(|bits| bits.count_ones()).sum();
    different >= TELLING[usize::from(piece.len() < LONG)]
}

fn long(bytes: &[u8], at: usize) -> Option<u128> {
    bytes.get(at..)?.first_chunk().map(|piece| u128::from_le_bytes(*piece))
}

fn short(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|piece| u64::from_le_bytes(*piece))
}

impl Traces {
    /// Takes the pieces of a content, of which the first and the last are always among them. What has fewer than 8
    /// bytes, or too few different ones, has none.
    pub fn add(&mut self, kind: Kind, bytes: &[u8], stride: usize) {
        let length = if bytes.len() < LONG { SHORT } else { LONG };
        let Some(last) = bytes.len().checked_sub(length) else { return };
        for at in (0..last).step_by(stride.max(1)).chain([last]) {
            if !tells(&bytes[at..at + length]) {
                continue;
            }
            if length == LONG {
                long(bytes, at).map(|piece| self.long.entry(piece).or_insert(kind));
            } else {
                short(bytes, at).map(|piece| self.short.entry(piece).or_insert(kind));
            }
        }
    }

    /// With others.
    pub fn extend(&mut self, others: Self) {
        self.long.extend(others.long);
        self.short.extend(others.short);
    }

    /// Only those.
    #[must_use]
    pub fn only(&self, pieces: impl Iterator<Item = Piece>) -> Self {
        let mut some = Self::default();
        for piece in pieces {
            match piece {
                Piece::Long(piece) => self.long.get(&piece).map(|kind| some.long.insert(piece, *kind)).map(drop),
                Piece::Short(piece) => self.short.get(&piece).map(|kind| some.short.insert(piece, *kind)).map(drop),
            };
        }
        some
    }

    /// All but those.
    #[must_use]
    pub fn without(&self, pieces: &HashSet<Piece, RandomState>) -> Self {
        let mut others = self.clone();
        others.long.retain(|piece, _| !pieces.contains(&Piece::Long(*piece)));
        others.short.retain(|piece, _| !pieces.contains(&Piece::Short(*piece)));
        others
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.long.len() + self.short.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any is of that kind.
    pub fn any(&self, kind: Kind) -> bool {
        self.long.values().chain(self.short.values()).any(|other| *other == kind)
    }
}

/// Two bits of one word of many for each of some numbers: nearly all of what is looked at ends here.
struct Sieve {
    words: Vec<u64>,
    shift: u32,
}

impl Sieve {
    fn new(numbers: impl ExactSizeIterator<Item = u64>) -> Self {
        const WORDS: std::ops::RangeInclusive<usize> = 1 << 6..=1 << 19;
        let wanted = (numbers.len() / 4).clamp(*WORDS.start(), *WORDS.end()).next_power_of_two();
        let mut sieve = Self { words: vec![0; wanted], shift: 64 - wanted.trailing_zeros() };
        for number in numbers {
            let (word, bits) = sieve.place(number);
            sieve.words[word] |= bits;
        }
        sieve
    }

    #[inline]
    fn place(&self, number: u64) -> (usize, u64) {
        let hash = number.wrapping_mul(SPREAD);
        let bit = |below: u32| 1 << ((hash >> (self.shift - below)) & 63);
        ((hash >> self.shift) as usize, bit(6) | bit(12))
    }

    #[inline]
    fn holds(&self, number: u64) -> bool {
        let (word, bits) = self.place(number);
        self.words[word] & bits == bits
    }
}

/// The golden ratio spreads what differs in a few bits over all of them.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of both halves: texts have one of them in common more often than not.
#[inline]
fn folded(piece: u128) -> u64 {
    (piece as u64).wrapping_mul(SPREAD).rotate_left(32) ^ (piece >> 64) as u64
}

/// Looks for traces in bytes that come in blocks, also across the ends of those.
pub struct Finder<'t> {
    traces: &'t Traces,
    long: Sieve,
    /// Often there is none.
    short: Option<Sieve>,
    /// The last bytes of what came before.
    before: Vec<u8>,
}

impl<'t> Finder<'t> {
    pub fn new(traces: &'t Traces) -> Self {
        let long = Sieve::new(traces.long.keys().map(|piece| folded(*piece)));
        let short = (!traces.short.is_empty()).then(|| Sieve::new(traces.short.keys().copied()));
        Self { traces, long, short, before: Vec::new() }
    }

    /// What comes next has nothing to do with what came before.
    pub fn begin(&mut self) {
        self.before.clear();
    }

    /// Says what a block holds.
    pub fn block(&mut self, bytes: &[u8], found: &mut dyn FnMut(Piece, Kind)) {
        let known = self.before.len();
        let joined = bytes.len().min(LONG - 1);
        if known > 0 {
            let mut seam = std::mem::take(&mut self.before);
            seam.extend_from_slice(&bytes[..joined]);
            // What ends before the seam was found then.
            (0..known).for_each(|at| self.at(&seam, at, known, found));
            self.before = seam;
        } else {
            self.before.extend_from_slice(&bytes[..joined]);
        }
        for (at, window) in bytes.windows(LONG).enumerate() {
            let Some(piece) = window.first_chunk() else { continue };
            let piece = u128::from_le_bytes(*piece);
            let short = self.short.as_ref().is_some_and(|sieve| sieve.holds(piece as u64));
            if short || self.long.holds(folded(piece)) {
                self.at(bytes, at, 0, found);
            }
        }
        let rest = bytes.len().saturating_sub(LONG - 1)..bytes.len();
        rest.for_each(|at| self.at(bytes, at, 0, found));
        self.before.extend_from_slice(&bytes[joined.max(bytes.len().saturating_sub(LONG - 1))..]);
        let excess = self.before.len().saturating_sub(LONG - 1);
        self.before.drain(..excess);
    }

    /// The pieces that begin at a place and end after another.
    #[inline]
    fn at(&self, bytes: &[u8], at: usize, after: usize, found: &mut dyn FnMut(Piece, Kind)) {
        if let Some(sieve) = &self.short
            && at + SHORT > after
            && let Some(piece) = short(bytes, at)
            && sieve.holds(piece)
            && let Some(kind) = self.traces.short.get(&piece)
        {
            found(Piece::Short(piece), *kind);
        }
        if at + LONG > after
            && let Some(piece) = long(bytes, at)
            && self.long.holds(folded(piece))
            && let Some(kind) = self.traces.long.get(&piece)
        {
            found(Piece::Long(piece), *kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without order.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn bytes(&mut self, length: usize) -> Vec<u8> {
            (0..length).map(|_| (self.next() >> 32) as u8).collect()
        }
    }

    fn find(traces: &Traces, blocks: &[&[u8]]) -> Vec<Piece> {
        let (mut finder, mut all) = (Finder::new(traces), Vec::new());
        blocks.iter().for_each(|block| finder.block(block, &mut |piece, _| all.push(piece)));
        all
    }

    #[test]
    fn whatever_is_left_of_a_content_holds_a_piece_of_it() {
        let mut random = Random(7);
        for round in 0..300 {
            let (size, stride) = (16 + random.next() as usize % 3000, 16 + random.next() as usize % 200);
            let content = random.bytes(size);
            let mut traces = Traces::default();
            traces.add(Kind::Text, &content, stride);
            let rest = (stride + LONG - 1).min(content.len());
            let from = random.next() as usize % (content.len() - rest + 1);
            let mut file = random.bytes(500);
            file.extend_from_slice(&content[from..from + rest]);
            file.extend(random.bytes(500));
            assert!(!find(&traces, &[&file]).is_empty(), "round {round}");
            assert!(find(&traces, &[&random.bytes(5000)]).is_empty());
        }
    }

    #[test]
    fn blocks_of_any_size_are_one_stream() {
        let mut random = Random(11);
        for _ in 0..100 {
            let mut traces = Traces::default();
            let contents: Vec<Vec<u8>> = [8, 9, 15, 16, 17, 40, 100].map(|length| random.bytes(length)).to_vec();
            contents.iter().for_each(|content| traces.add(Kind::Text, content, 16));
            let mut stream = Vec::new();
            for content in &contents {
                stream.extend(random.bytes(30));
                stream.extend_from_slice(content);
            }
            let whole = find(&traces, &[&stream]);
            assert_eq!(whole.len(), traces.len());
            let (mut blocks, mut rest) = (Vec::new(), stream.as_slice());
            while !rest.is_empty() {
                let (block, after) = rest.split_at((random.next() as usize % 20).min(rest.len()));
                (rest, _) = (after, blocks.push(block));
            }
            let mut parts = find(&traces, &blocks);
            let mut all = whole;
            for pieces in [&mut parts, &mut all] {
                pieces.sort_by_key(|piece| match piece {
                    Piece::Long(piece) => (*piece, 1),
                    Piece::Short(piece) => (u128::from(*piece), 0),
                });
            }
            assert_eq!(parts, all);
        }
    }

    #[test]
    fn what_begins_anew_does_not_go_on_with_what_came_before() {
        let mut traces = Traces::default();
        traces.add(Kind::Text, b"0123456789abcdef", 16);
        let (mut finder, mut found) = (Finder::new(&traces), 0);
        finder.block(b"0123456789", &mut |_, _| found += 1);
        finder.begin();
        finder.block(b"abcdef", &mut |_, _| found += 1);
        assert_eq!(found, 0);
        finder.begin();
        finder.block(b"0123456789", &mut |_, _| found += 1);
        finder.block(b"abcdef", &mut |_, _| found += 1);
        assert_eq!(found, 1);
    }

    #[test]
    fn what_says_nothing_is_not_looked_for() {
        let mut traces = Traces::default();
        traces.add(Kind::Vector, &[0; 400], 16);
        traces.add(Kind::Vector, bytemuck::cast_slice(&[1f32; 100]), 16);
        traces.add(Kind::Text, b"short", 16);
        traces.add(Kind::Text, &[b'-'; 12], 16);
        assert!(traces.is_empty());
        traces.add(Kind::Term, b"quokkas!", 16);
        traces.add(Kind::Vector, bytemuck::cast_slice(&[0.1f32, 0.2, 0.3, 0.4, 0.5]), 16);
        assert_eq!(traces.len(), 3);
        assert!(traces.any(Kind::Term) && traces.any(Kind::Vector) && !traces.any(Kind::Code));
        let some = traces.only([Piece::Short(u64::from_le_bytes(*b"quokkas!")), Piece::Short(3)].into_iter());
        assert_eq!(some.len(), 1);
        let found = std::iter::once(Piece::Short(u64::from_le_bytes(*b"quokkas!"))).collect();
        assert_eq!(traces.without(&found).len(), 2);
        assert_eq!(format!("{traces:?}"), "Traces(3)");
    }

    #[test]
    fn many_bytes_make_no_more_pieces_than_wanted() {
        assert_eq!(stride(100, 1000), 4);
        let stride = stride(1_000_000, 1000);
        let mut traces = Traces::default();
        traces.add(Kind::Text, &Random(3).bytes(1_000_000), stride);
        assert!((999..=1001).contains(&traces.len()), "{}", traces.len());
    }
}
