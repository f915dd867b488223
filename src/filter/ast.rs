use crate::model::Timestamp;

/// A condition on a chunk.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of them; with none, every chunk.
    And(Vec<Filter>),
    /// The field has this value.
    Compare(Field, Comparison, Literal),
    /// The field has one of these values.
    In(Field, Vec<Literal>),
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A column of the chunk or of its document.
    Column(Column),
    /// Keys into the metadata, outermost first; the chunk's value before its document's.
    Metadata(Vec<String>),
}

/// Columns that have a name in filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Id,
    DocumentId,
    Uri,
    Index,
    CreatedAt,
    UpdatedAt,
    ContentType,
}

impl Column {
    /// The column of that name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "document_id" => Self::DocumentId,
            "uri" => Self::Uri,
            "index" => Self::Index,
            "created_at" => Self::CreatedAt,
            "updated_at" => Self::UpdatedAt,
            "content_type" => Self::ContentType,
            _ => return None,
        })
    }
}

/// How a value stands to another of its type; values of different types never match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Gt,
    Gte,
    Lt,
    Lte,
}

/// A value with its type. A boolean is not a number.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// Only for the columns that hold times.
    Time(Timestamp),
}
