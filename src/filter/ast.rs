use crate::model::Timestamp;

/// A condition on a chunk. It is true or false, never unknown.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of them; with none, every chunk.
    And(Vec<Filter>),
    /// One of them at least.
    Or(Vec<Filter>),
    Not(Box<Filter>),
    /// A test of a field's value.
    Test(Field, Test),
}

/// What is asked of a value. Of an array it is asked of each element, and one that passes is enough. A field that is not
/// there passes nothing but `Exists(false)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Compare(Comparison, Literal),
    /// From the one to the other, both included.
    Between(Literal, Literal),
    /// One of these.
    In(Vec<Literal>),
    /// `%` stands for any characters, `_` for one, and a backslash takes the meaning from what follows it.
    Like {
        pattern: String,
        /// Without regard to case, in any script.
        fold: bool,
    },
    /// An element of an array, or a part of a string.
    Contains(Literal),
    Exists(bool),
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A column of the chunk or of its document.
    Column(Column),
    /// Keys into the metadata, outermost first; a key of the chunk hides that of its document.
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

/// A value with its type. A boolean is not a number, and values of different types are neither equal nor in order. A
/// string that is an ISO 8601 date is one where it is asked for order, and a string where it is asked for equality.
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

impl Literal {
    /// The type that it is compared as: integers and floats are one.
    pub(super) fn unified(&self) -> Self {
        match self {
            Self::Int(value) => Self::Float(*value as f64),
            other => other.clone(),
        }
    }
}

impl Column {
    /// Whether it holds strings.
    pub fn holds_text(self) -> bool {
        matches!(self, Self::Id | Self::DocumentId | Self::Uri | Self::ContentType)
    }
}
