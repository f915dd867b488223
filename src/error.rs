//! One error type for every layer. The binding maps each [`ErrorKind`] to one Python exception.

use std::fmt;

/// What went wrong, in the words a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An argument is outside what the call accepts.
    Argument,
    /// Something named in the call is not there.
    NotFound,
    /// The named collection is not there.
    CollectionNotFound,
    /// The named document or chunk is not there.
    DocumentNotFound,
    /// An id or uri is taken.
    Conflict,
    /// A collection or space of that name exists with other properties.
    CollectionExists,
    /// A vector has another dimension than its space.
    DimensionMismatch,
    /// A vector holds NaN, infinity, or only zeros under cosine; or rows and chunks differ in number.
    InvalidVector,
    /// A filter is not well formed.
    Filter,
    /// A raw full-text query is not well formed.
    QuerySyntax,
    /// Input is over a limit of [`crate::limits`].
    Limit,
    /// The file, or a part of it, does not hold what it must.
    Corrupt,
    /// The file was written by a newer version.
    SchemaTooNew,
    /// The key does not open the file.
    WrongKey,
    /// Another writer held the file for longer than the timeout.
    Locked,
    /// A search ran past its timeout.
    QueryTimeout,
    /// The disk or the quota is full.
    StoreFull,
    /// The write-ahead log reached its cap.
    WalFull,
    /// A clock is too far ahead.
    ClockSkew,
    /// A sync batch cannot be applied.
    Sync,
    /// The store was opened in another process, before a fork.
    Fork,
    /// The store is closed.
    Closed,
    /// The store is read-only.
    ReadOnly,
    /// The caller asked to stop.
    Cancelled,
    /// The file lies on a network file system.
    NetworkFilesystem,
    /// The operating system refused.
    Io,
    /// A defect of this library.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tests that hold other lists against this one.
    pub const ALL: [ErrorKind; 27] = [
        ErrorKind::Argument,
        ErrorKind::NotFound,
        ErrorKind::CollectionNotFound,
        ErrorKind::DocumentNotFound,
        ErrorKind::Conflict,
        ErrorKind::CollectionExists,
        ErrorKind::DimensionMismatch,
        ErrorKind::InvalidVector,
        ErrorKind::Filter,
        ErrorKind::QuerySyntax,
        ErrorKind::Limit,
        ErrorKind::Corrupt,
        ErrorKind::SchemaTooNew,
        ErrorKind::WrongKey,
        ErrorKind::Locked,
        ErrorKind::QueryTimeout,
        ErrorKind::StoreFull,
        ErrorKind::WalFull,
        ErrorKind::ClockSkew,
        ErrorKind::Sync,
        ErrorKind::Fork,
        ErrorKind::Closed,
        ErrorKind::ReadOnly,
        ErrorKind::Cancelled,
        ErrorKind::NetworkFilesystem,
        ErrorKind::Io,
        ErrorKind::Internal,
    ];
}

/// An error with a message that says what was given, what was expected and what to do.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of `kind` with a message for people.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A broken invariant of our own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, without the kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with `context: ` in front of its message.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self { kind: self.kind, message: format!("{context}: {}", self.message) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let kind = match error.kind() {
            // A file may also be as large as its process may make it.
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge => {
                ErrorKind::StoreFull
            }
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self::new(kind, error.to_string())
    }
}

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_goes_in_front_and_keeps_the_kind() {
        let error = Error::new(ErrorKind::Limit, "too long").context("document 3");
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(error.to_string(), "document 3: too long");
    }

    #[test]
    fn a_full_disk_keeps_its_name() {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        for kind in [StorageFull, QuotaExceeded, FileTooLarge] {
            assert_eq!(Error::from(std::io::Error::from(kind)).kind(), ErrorKind::StoreFull);
        }
    }
}
