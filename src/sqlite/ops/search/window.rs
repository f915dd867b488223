//! A hit with its neighbors as one passage.

use rusqlite::{Connection, MAIN_DB, params};

use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;
use crate::sqlite::sql;

/// Consecutive chunks of one document.
#[derive(Debug, PartialEq, Eq)]
pub struct Passage {
    pub text: String,
    /// Characters of the document's text, where every chunk has them.
    pub chars: Option<(u64, u64)>,
}

struct Part {
    text: Option<String>,
    chars: Option<(u64, u64)>,
    bytes: Option<(u64, u64)>,
}

/// A chunk with those before and after it: cut out of the document's text where all of them have their
/// place in it, and put together from their own texts elsewhere. `None` where none has a text.
pub fn passage(
    conn: &Connection,
    chunk_id: i64,
    (before, after): (u64, u64),
    now: Timestamp,
) -> Result<Option<Passage>> {
    let place = "SELECT document_id, chunk_index FROM chunks WHERE id = ?1";
    let (document_id, index): (i64, u64) =
        sql::query_one(conn, place, [chunk_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let parts: Vec<Part> = sql::query_all(
        conn,
        "SELECT content, char_start, char_end, byte_start, byte_end FROM chunks
         WHERE document_id = ?1 AND chunk_index BETWEEN ?2 AND ?3
         AND (expires_at IS NULL OR expires_at > ?4) ORDER BY chunk_index",
        params![document_id, index.saturating_sub(before), index.saturating_add(after), now.0],
        |row| Ok(Part { text: row.get(0)?, chars: sql::range(row, 1)?, bytes: sql::range(row, 3)? }),
    )?;
    let chars = hull(parts.iter().map(|part| part.chars));
    if let Some(bytes) = hull(parts.iter().map(|part| part.bytes))
        && let Some(text) = cut(conn, document_id, bytes)?
    {
        return Ok(Some(Passage { text, chars }));
    }
    Ok(joined(&parts).map(|text| Passage { text, chars }))
}

/// From the first to the last of all ranges; `None` unless every part has one.
fn hull(ranges: impl Iterator<Item = Option<(u64, u64)>>) -> Option<(u64, u64)> {
    let all: Vec<(u64, u64)> = ranges.collect::<Option<_>>()?;
    Some((all.iter().map(|range| range.0).min()?, all.iter().map(|range| range.1).max()?))
}

/// A part of the document's text, read without the rest of it.
fn cut(conn: &Connection, document_id: i64, (start, end): (u64, u64)) -> Result<Option<String>> {
    let has_text = "SELECT raw_content IS NOT NULL FROM documents WHERE id = ?1";
    if !sql::query_one(conn, has_text, [document_id], |row| row.get::<_, bool>(0))? {
        return Ok(None);
    }
    let corrupt = || Error::new(ErrorKind::Corrupt, "the place of a chunk is outside its document; run repair()");
    let place = |at: u64| usize::try_from(at).map_err(|_| corrupt());
    let (start, end) = (place(start)?, place(end)?);
    let blob = conn.blob_open(MAIN_DB, "documents", "raw_content", document_id, true)?;
    if start > end || end > blob.len() {
        return Err(corrupt());
    }
    let mut bytes = vec![0; end - start];
    blob.read_at_exact(&mut bytes, start)?;
    String::from_utf8(bytes).map(Some).map_err(|_| corrupt())
}

/// Texts one after the other: what two have in common once, and a line break where something may lie between.
fn joined(parts: &[Part]) -> Option<String> {
    let mut text = String::new();
    let mut end: Option<u64> = None;
    for part in parts {
        let Some(own) = &part.text else { continue };
        match (end, part.chars) {
            _ if text.is_empty() => text.push_str(own),
            (Some(end), Some((start, _))) if start <= end => {
                let common = usize::try_from(end - start).unwrap_or(usize::MAX);
                text.extend(own.chars().skip(common));
            }
            _ => {
                text.push('\n');
                text.push_str(own);
            }
        }
        // A chunk may lie inside the one before it.
        end = part.chars.map(|chars| chars.1.max(end.unwrap_or(0)));
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str, chars: Option<(u64, u64)>) -> Part {
        Part { text: Some(text.into()), chars, bytes: None }
    }

    #[test]
    fn what_chunks_have_in_common_comes_once() {
        let parts = [part("äbcd", Some((0, 4))), part("cdef", Some((2, 6))), part("xy", Some((9, 11)))];
        assert_eq!(joined(&parts).unwrap(), "äbcdef\nxy");
        let nested = [part("abcdef", Some((0, 6))), part("bc", Some((1, 3))), part("efgh", Some((4, 8)))];
        assert_eq!(joined(&nested).unwrap(), "abcdefgh");
        assert_eq!(joined(&[part("a", None), part("b", None)]).unwrap(), "a\nb");
        assert_eq!(joined(&[Part { text: None, chars: None, bytes: None }]), None);
    }

    #[test]
    fn a_hull_needs_every_range() {
        assert_eq!(hull([Some((4, 9)), Some((2, 5))].into_iter()), Some((2, 9)));
        assert_eq!(hull([Some((4, 9)), None].into_iter()), None);
        assert_eq!(hull(std::iter::empty()), None);
    }
}
