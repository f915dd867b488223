use std::fmt;

/// The part of a store that a problem is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// Which version of ragstore the file is for.
    Format,
    /// Pages, trees and indexes: what SQLite's own check sees.
    File,
    /// Which tables, views and indexes there are.
    Schema,
    Collections,
    Documents,
    Chunks,
    /// The text indexes.
    Text,
    /// The stored vectors.
    Vectors,
    /// The indexes of metadata.
    Fields,
    /// The change feed, the tombstones and the clock.
    Feed,
    EmbeddingCache,
    Relations,
    State,
}

impl Area {
    /// As callers see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Area::Format => "format",
            Area::File => "file",
            Area::Schema => "schema",
            Area::Collections => "collections",
            Area::Documents => "documents",
            Area::Chunks => "chunks",
            Area::Text => "text",
            Area::Vectors => "vectors",
            Area::Fields => "fields",
            Area::Feed => "feed",
            Area::EmbeddingCache => "embedding_cache",
            Area::Relations => "relations",
            Area::State => "state",
        }
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub area: Area,
    /// A sentence that names the table and the row.
    pub what: String,
    /// Whether repair rebuilds it without loss.
    pub repairable: bool,
}

/// What a check found. Nothing found is a sound store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Of each area the first ones; what there is beyond is counted in one more.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// Whether everything holds.
    pub fn ok(&self) -> bool {
        self.problems.is_empty()
    }
}
