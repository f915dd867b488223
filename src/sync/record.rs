//! What a batch holds. `encoding` says how it is written.

use super::{ReplicaId, Watermark};
use crate::hlc::Hlc;

/// One record. Those of a document's chunks follow it.
#[derive(Debug, Clone, PartialEq)]
pub enum Record<'a> {
    Header(Header),
    Collection(CollectionRecord<'a>),
    /// Nothing of a collection from before that moment is left.
    CollectionFloor {
        name: &'a str,
        stamp: Hlc,
    },
    /// No vector of a space from before that moment is left.
    SpaceFloor {
        collection: u64,
        name: &'a str,
        stamp: Hlc,
    },
    Document(DocumentRecord<'a>),
    Chunk(ChunkRecord<'a>),
    /// A document is not there, or it is one whose uri belongs to another.
    DocumentTombstone {
        collection: u64,
        uid: &'a str,
        stamp: Hlc,
        alias: Option<&'a str>,
    },
    /// A uri is of no document from before that moment.
    UriTombstone {
        collection: u64,
        uri: &'a str,
        stamp: Hlc,
    },
    Relation(RelationRecord<'a>),
    RelationTombstone {
        collection: u64,
        uid: &'a str,
        stamp: Hlc,
    },
    State(StateRecord<'a>),
    StateTombstone {
        uid: &'a str,
        stamp: Hlc,
    },
    /// A collection that is gone, of which something later than its end is remembered. It has a place as others have.
    PastCollection {
        name: &'a str,
    },
}

/// The first record of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    pub source: ReplicaId,
    /// One who knows this can apply the batch,
    pub since: Watermark,
    /// and knows this then, with the other batches of the same export.
    pub upto: Watermark,
    /// The latest deletion by each replica that the source forgot.
    pub forgotten: Watermark,
    /// Replicas that the source knew before the latest of these.
    pub old: Vec<ReplicaId>,
    /// Moments up to which the source told others before that they have everything of it, the latest.
    pub marks: Vec<Hlc>,
    pub export: [u8; 16],
    /// Which batch of the export it is, from 0.
    pub part: u64,
}

/// A collection as it is, with its spaces. Every batch that is not empty has all of them; others name them by their place.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionRecord<'a> {
    pub name: &'a str,
    pub stamp: Hlc,
    /// Nothing in it is from before that moment.
    pub floor: Option<Hlc>,
    pub description: Option<&'a str>,
    pub settings: &'a str,
    pub tokenizer: &'a str,
    pub created_at: i64,
    pub spaces: Vec<SpaceRecord<'a>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SpaceRecord<'a> {
    pub name: &'a str,
    pub stamp: Hlc,
    pub floor: Option<Hlc>,
    pub dimension: Option<u64>,
    pub metric: &'a str,
    pub model: Option<&'a str>,
    pub created_at: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DocumentRecord<'a> {
    pub collection: u64,
    pub uid: &'a str,
    pub uri: Option<&'a str>,
    pub stamp: Hlc,
    pub content_type: &'a str,
    pub text: Option<&'a str>,
    pub metadata: &'a str,
    pub content_hash: [u8; 32],
    pub created_at: i64,
    pub updated_at: i64,
    pub expires_at: Option<i64>,
    /// How many records of chunks follow.
    pub chunks: u64,
}

/// The text of a chunk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ChunkText<'a> {
    None,
    /// The part of its document's text that its span names.
    Span,
    Own(&'a str),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ChunkRecord<'a> {
    pub uid: &'a str,
    pub index: u64,
    pub text: ChunkText<'a>,
    pub chars: Option<(u64, u64)>,
    pub token_count: Option<u64>,
    pub metadata: &'a str,
    pub expires_at: Option<i64>,
    /// The place of a space in its collection, and float32 of it.
    pub vectors: Vec<(u64, &'a [u8])>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RelationRecord<'a> {
    pub collection: u64,
    pub stamp: Hlc,
    pub source: &'a str,
    pub target: &'a str,
    pub kind: &'a str,
    pub strength: f64,
    pub metadata: &'a str,
    pub created_at: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StateRecord<'a> {
    pub stamp: Hlc,
    pub namespace: &'a str,
    pub key: &'a str,
    pub value: &'a str,
    pub expires_at: Option<i64>,
    pub updated_at: i64,
}
