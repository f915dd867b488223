//! What a document has beside the content that its hash covers: when it expires, its embeddings, and how many tokens its
//! chunks have.

use rusqlite::Connection;

use crate::error::Result;
use crate::hlc::Hlc;
use crate::sqlite::ops::shared::Target;
use crate::sqlite::tables::vectors::Reader;
use crate::sqlite::tables::{chunks, documents};

/// A digest of it. Two documents of one content are the same if their digests are.
pub(super) struct Beside(blake3::Hasher);

impl Beside {
    fn new(expires_at: Option<i64>) -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.time(expires_at);
        digest
    }

    fn time(&mut self, time: Option<i64>) {
        self.0.update(&[u8::from(time.is_some())]);
        self.0.update(&time.unwrap_or(0).to_le_bytes());
    }

    fn number(&mut self, number: Option<u64>) {
        self.0.update(&[u8::from(number.is_some())]);
        self.0.update(&number.unwrap_or(0).to_le_bytes());
    }

    /// The next chunk of the document. `vectors` are by the name of their space.
    fn chunk(&mut self, expires_at: Option<i64>, token_count: Option<u64>, mut vectors: Vec<(&str, &[u8])>) {
        self.time(expires_at);
        self.number(token_count);
        vectors.sort_unstable();
        self.0.update(&vectors.len().to_le_bytes());
        for (space, vector) in vectors {
            for part in [space.as_bytes(), vector] {
                self.0.update(&part.len().to_le_bytes());
                self.0.update(part);
            }
        }
    }

    /// Of a document that is stored.
    pub fn stored(conn: &Connection, target: &Target, row: i64) -> Result<Self> {
        let mut digest = Self::new(documents::by_row(conn, row)?.expires_at.map(|at| at.0));
        let tables = target.spaces.iter().filter_map(|space| Some((space.name.as_str(), space.table()?)));
        let mut readers: Vec<_> =
            tables.map(|(name, table)| (name, Reader::new(conn, table), vec![0f32; table.dimension])).collect();
        let counts = chunks::token_counts(conn, row)?;
        for (chunk, token_count) in chunks::of_document(conn, row)?.into_iter().zip(counts) {
            let mut given = Vec::with_capacity(readers.len());
            for (name, reader, vector) in &mut readers {
                if reader.read(chunk.id, vector)? {
                    given.push((*name, bytemuck::cast_slice::<f32, u8>(vector)));
                }
            }
            digest.chunk(chunk.expires_at.map(|at| at.0), token_count, given);
        }
        Ok(digest)
    }
}

/// Two documents of one id or of one uri, written without knowing of each other, that have the same content.
pub(super) struct Twins {
    /// Under which it is listed, if they differ.
    pub uid: String,
    own: Beside,
    pub own_stamp: Hlc,
    other: Beside,
    pub other_stamp: Hlc,
    /// When the document of the batch expires.
    expires_at: Option<i64>,
}

impl Twins {
    pub fn new(uid: String, own: Beside, own_stamp: Hlc, expires_at: Option<i64>, other_stamp: Hlc) -> Self {
        Self { uid, own, own_stamp, other: Beside::new(expires_at), other_stamp, expires_at }
    }

    /// The next chunk of the batch.
    pub fn chunk(&mut self, expires_at: Option<i64>, token_count: Option<u64>, vectors: Vec<(&str, &[u8])>) {
        let ends = [expires_at, self.expires_at];
        self.other.chunk(ends.into_iter().flatten().min(), token_count, vectors);
    }

    /// Once all chunks came.
    pub fn differ(&self) -> bool {
        self.own.0.finalize() != self.other.0.finalize()
    }
}
