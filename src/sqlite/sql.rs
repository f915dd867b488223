//! SQL helpers: errors, statements and values. User strings are bound, never written into SQL; the only formatted
//! names are those of numbered tables.

use rusqlite::types::{Type, ValueRef};
use rusqlite::{CachedStatement, Connection, Params, Row};

use super::{ffi, migrate};
use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::model::Timestamp;

/// What helps against a damaged file.
const HELP: &str = "; check() says what is damaged, and repair() rebuilds or salvages it";

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        use rusqlite::ffi;
        let kind = match error.sqlite_error_code() {
            Some(Code::DatabaseBusy | Code::DatabaseLocked | Code::FileLockingProtocolFailed) => ErrorKind::Locked,
            Some(Code::DiskFull) => ErrorKind::StoreFull,
            // What would break a constraint is refused before: the rows that it meets are not as they must be.
            Some(Code::DatabaseCorrupt | Code::NotADatabase | Code::ConstraintViolation) => ErrorKind::Corrupt,
            Some(Code::SystemIoFailure)
                if is_of(&error, &[ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_CORRUPTFS]) =>
            {
                ErrorKind::Corrupt
            }
            Some(Code::ReadOnly) => ErrorKind::ReadOnly,
            Some(Code::OperationInterrupted) => ErrorKind::Cancelled,
            Some(Code::SystemIoFailure | Code::CannotOpen | Code::PermissionDenied) => ErrorKind::Io,
            // A damaged row may claim any size.
            Some(Code::TooBig | Code::OutOfMemory) => ErrorKind::Limit,
            _ if is_stored(&error) => ErrorKind::Corrupt,
            _ => passed_on(&error),
        };
        let mut message = format!("SQLite: {error}");
        // It may carry a whole statement.
        if let Some((end, _)) = message.char_indices().nth(500) {
            message.truncate(end);
            message.push('…');
        }
        match error.sqlite_error_code() {
            _ if kind == ErrorKind::Corrupt => message.push_str(HELP),
            Some(Code::OutOfMemory) => {
                message.push_str(": the process has too little, or the file is damaged; check() says")
            }
            _ => {}
        }
        Self::new(kind, message)
    }
}

/// vec0 gives every failure of its own tables one code, and SQLite's words for it at the end of its message.
fn passed_on(error: &rusqlite::Error) -> ErrorKind {
    let message = error.to_string();
    let words = [
        ("database or disk is full", ErrorKind::StoreFull),
        ("disk I/O error", ErrorKind::Io),
        ("unable to open database file", ErrorKind::Io),
        ("attempt to write a readonly database", ErrorKind::ReadOnly),
        ("database disk image is malformed", ErrorKind::Corrupt),
    ];
    if let Some((_, kind)) = words.iter().find(|(words, _)| message.ends_with(words)) {
        return *kind;
    }
    // vec0's own words for what it could not do with its tables. Where it inserts it looks at their sizes first, and hides
    // SQLite's code; where it deletes it does neither, so that this code is that of a block which is too short.
    const BLOCKS: [&str; 6] = [
        "could not write to",
        "could not open",
        "could not read",
        "blob size mismatch",
        "blob read error",
        "size doesn't match",
    ];
    if BLOCKS.iter().any(|words| message.contains(words)) {
        ErrorKind::Corrupt
    } else if ["could not write", "Error commiting"].iter().any(|words| message.contains(words)) {
        ErrorKind::Io
    } else {
        ErrorKind::Internal
    }
}

/// The error of a connection that met it just now, with what the operating system said: SQLite has one code for all that
/// a disk may refuse, and opens for reading what it may not open for writing.
pub fn with_system_error(conn: &Connection, error: Error) -> Error {
    if error.kind() == ErrorKind::ReadOnly {
        if let Ok(Some(why)) = migrate::unwritable(conn) {
            return Error::new(ErrorKind::Corrupt, format!("{why}{HELP}"));
        }
        return Error::new(
            ErrorKind::Io,
            format!(
                "{error}: the system refused to open one of the store's files for writing; check its permissions and how \
                 many files this process has open, then open the store again"
            ),
        );
    }
    if !matches!(error.kind(), ErrorKind::Io | ErrorKind::Internal) {
        return error;
    }
    let Some(system) = ffi::system_error(conn) else { return error };
    let message = format!("{error}: {system}");
    match Error::from(system).kind() {
        ErrorKind::StoreFull => Error::new(ErrorKind::StoreFull, message),
        _ => Error::new(ErrorKind::Io, message),
    }
}

/// The message without what helps, for what is already a part of that.
pub fn plain(error: &Error) -> &str {
    error.message().trim_end_matches(HELP)
}

fn is_of(error: &rusqlite::Error, codes: &[std::ffi::c_int]) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(code, _) if codes.contains(&code.extended_code))
}

/// Whether an error speaks of what is stored: a value of another type than its column's, or a table or a row that must
/// be there. SQLite has no code of its own for the latter.
fn is_stored(error: &rusqlite::Error) -> bool {
    const SAYS: [&str; 11] = [
        "no such table",
        "no such view",
        "no such column",
        "no such rowid",
        "no such module",
        "vtable constructor failed",
        "cannot open value of type",
        "invalid fts5 file format",
        "unsupported file format",
        // Of a header that names another encoding than every store's.
        "attached databases must use the same text encoding",
        // Without a word more: FTS5 met what it cannot read.
        "SQL logic error",
    ];
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::BlobSizeError => true,
        rusqlite::Error::SqliteFailure(code, None) => code.extended_code == rusqlite::ffi::SQLITE_ERROR,
        rusqlite::Error::SqliteFailure(_, Some(message)) | rusqlite::Error::SqlInputError { msg: message, .. } => {
            SAYS.iter().any(|says| message.starts_with(says))
        }
        _ => false,
    }
}

/// A prepared statement, kept by the connection for the next time.
pub fn prepare<'c>(conn: &'c Connection, sql: &str) -> Result<CachedStatement<'c>> {
    Ok(conn.prepare_cached(sql)?)
}

/// Runs a statement and says how many rows it changed.
pub fn execute(conn: &Connection, sql: &str, params: impl Params) -> Result<usize> {
    Ok(prepare(conn, sql)?.execute(params)?)
}

/// The first row, if there is one.
pub fn query_optional<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    let mut statement = prepare(conn, sql)?;
    let mut rows = statement.query(params)?;
    Ok(rows.next()?.map(read).transpose()?)
}

/// The only row.
pub fn query_one<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<T> {
    query_optional(conn, sql, params, read)?
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("a row is missing for: {sql}")))
}

/// Every row.
pub fn query_all<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = prepare(conn, sql)?;
    let rows = statement.query_map(params, read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A time as the file holds it.
pub fn time(value: Option<Timestamp>) -> Option<i64> {
    value.map(|time| time.0)
}

/// A number that is written into the name of a table.
pub fn part_of_name(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    match row.get(column)? {
        number if number < 1 => Err(rusqlite::Error::IntegralValueOutOfRange(column, number)),
        number => Ok(number),
    }
}

/// The number after a generation, for the table that takes its place.
pub fn next_generation(generation: i64) -> Result<i64> {
    let last = || Error::new(ErrorKind::Corrupt, "a table has the last generation there is; salvage: repair(path, to)");
    generation.checked_add(1).ok_or_else(last)
}

/// A column that holds a stamp.
pub fn hlc(row: &Row<'_>, column: usize) -> rusqlite::Result<Hlc> {
    let bytes = row.get_ref(column)?.as_blob()?;
    Hlc::from_bytes(bytes).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, error.into()))
}

/// Two columns that hold a range, or nothing.
pub fn range(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<(u64, u64)>> {
    let (start, end): (Option<u64>, Option<u64>) = (row.get(first)?, row.get(first + 1)?);
    Ok(start.zip(end))
}

/// Bytes of a page. Where there is a key SQLCipher answers in its own stead, and in text.
pub fn page_size(conn: &Connection) -> Result<u64> {
    Ok(conn.query_row("PRAGMA page_size", [], |row| match row.get_ref(0)? {
        ValueRef::Text(text) => {
            let bytes = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            bytes.ok_or_else(|| rusqlite::Error::InvalidColumnType(0, "page_size".to_owned(), Type::Text))
        }
        _ => row.get(0),
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_sqlite_become_kinds() {
        use rusqlite::ffi;
        for (code, kind) in [
            (ffi::SQLITE_FULL, ErrorKind::StoreFull),
            (ffi::SQLITE_BUSY, ErrorKind::Locked),
            (ffi::SQLITE_CORRUPT, ErrorKind::Corrupt),
            (ffi::SQLITE_NOTADB, ErrorKind::Corrupt),
            (ffi::SQLITE_CONSTRAINT, ErrorKind::Corrupt),
            (ffi::SQLITE_IOERR_SHORT_READ, ErrorKind::Corrupt),
            (ffi::SQLITE_IOERR, ErrorKind::Io),
            (ffi::SQLITE_READONLY, ErrorKind::ReadOnly),
            (ffi::SQLITE_MISUSE, ErrorKind::Internal),
        ] {
            assert_eq!(Error::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).kind(), kind);
        }
        let vec0 =
            |text: &str| rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(text.to_owned()));
        let of = |text: &str| Error::from(vec0(text)).kind();
        assert_eq!(of("Could not create '_chunks' shadow table: database or disk is full"), ErrorKind::StoreFull);
        assert_eq!(of("Could not create '_chunks' shadow table: disk I/O error"), ErrorKind::Io);
        assert_eq!(of("Internal sqlite-vec error"), ErrorKind::Internal);
        assert_eq!(of("no such table: chunks"), ErrorKind::Corrupt);
        assert_eq!(of("could not open validity blob for main.vec_1_1_chunks.1"), ErrorKind::Corrupt);
        assert_eq!(of("could not write to rowids blob for main.vec_1_1_chunks.1 at 8"), ErrorKind::Corrupt);
        assert_eq!(of("Internal sqlite-vec error: could not write vector blob on main.vec_1_1.1"), ErrorKind::Io);
    }

    #[test]
    fn what_is_stored_and_is_not_as_it_must_be_is_corrupt() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (-1)").unwrap();
        let kind = |text: &str| query_one(&conn, text, [], |row| row.get::<_, u64>(0)).unwrap_err().kind();
        assert_eq!(kind("SELECT a FROM t"), ErrorKind::Corrupt);
        assert_eq!(kind("SELECT 'text'"), ErrorKind::Corrupt);
        assert_eq!(kind("SELECT CAST(x'ff' AS TEXT)"), ErrorKind::Corrupt);
        assert_eq!(kind("SELECT a FROM absent"), ErrorKind::Corrupt);
        assert_eq!(kind("SELECT FROM"), ErrorKind::Internal);
        let error = Error::from(conn.blob_open(rusqlite::MAIN_DB, "t", "a", 1, true).err().unwrap());
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("repair()"), "{error}");
    }
}
