//! The documents and the chunks: types, JSON, hashes, and where chunks stand in their document's text.

use rusqlite::{Connection, Row};

use super::{Checker, Remedy, Stride, is_object};
use crate::error::Result;
use crate::model::{Area, ContentHash, HashedChunk, Metadata, Span, Timestamp, check_id};
use crate::sqlite::sql;

/// Characters between two marks of [`Places`].
const STEP: u64 = 256;

/// Finds places in a text by character.
pub struct Places<'t> {
    text: &'t str,
    /// The byte of every so many-th character, and the newlines before it.
    marks: Vec<(usize, u64)>,
    chars: u64,
}

impl<'t> Places<'t> {
    pub fn new(text: &'t str) -> Self {
        let (mut marks, mut chars, mut lines) = (Vec::new(), 0, 0);
        for (byte, c) in text.char_indices() {
            if chars % STEP == 0 {
                marks.push((byte, lines));
            }
            chars += 1;
            lines += u64::from(c == '\n');
        }
        if chars % STEP == 0 {
            marks.push((text.len(), lines));
        }
        Self { text, marks, chars }
    }

    /// The byte of a character, or of the end, and the newlines before it.
    fn at(&self, char: u64) -> Option<(usize, u64)> {
        if char > self.chars {
            return None;
        }
        let &(byte, lines) = self.marks.get(usize::try_from(char / STEP).ok()?)?;
        let left = usize::try_from(char % STEP).ok()?;
        let rest = &self.text[byte..];
        let bytes = rest.char_indices().nth(left).map_or(rest.len(), |(at, _)| at);
        Some((byte + bytes, lines + rest[..bytes].bytes().filter(|byte| *byte == b'\n').count() as u64))
    }

    /// The whole place that two characters name; `None` where the text does not have them.
    pub fn span(&self, (start, end): (u64, u64)) -> Option<Span> {
        if start > end {
            return None;
        }
        let (first, line) = self.at(start)?;
        let (last, _) = self.at(end)?;
        let last_line = if end > start { self.at(end - 1)?.1 } else { line };
        Some(Span {
            chars: (start, end),
            bytes: Some((first as u64, last as u64)),
            lines: Some((line + 1, last_line + 1)),
        })
    }
}

/// Six columns from `first` on as a place. `Err` where they are none.
fn place(row: &Row<'_>, first: usize) -> std::result::Result<Option<Span>, ()> {
    let column = |at: usize| row.get::<_, Option<u64>>(first + at).map_err(drop);
    let range = |at: usize| match (column(at)?, column(at + 1)?) {
        (None, None) => Ok(None),
        (Some(start), Some(end)) if start <= end => Ok(Some((start, end))),
        _ => Err(()),
    };
    match (range(0)?, range(2)?, range(4)?) {
        (None, None, None) => Ok(None),
        (Some(chars), bytes, lines) if bytes.is_some() == lines.is_some() => Ok(Some(Span { chars, bytes, lines })),
        _ => Err(()),
    }
}

/// Whether the place of a chunk is what its characters say.
fn same_places(places: Option<&Places<'_>>, stored: Span) -> bool {
    match places {
        None => stored.bytes.is_none() && stored.lines.is_none(),
        Some(places) => places.span(stored.chars) == Some(stored),
    }
}

/// Every document with what is inside of it.
pub fn documents(checker: &mut Checker<'_>) -> Result<()> {
    let conn = checker.conn;
    let content = if checker.quick { "NULL, '{}'" } else { "raw_content, metadata" };
    let mut statement = sql::prepare(
        conn,
        &format!(
            "SELECT id, uid, content_hash, content_type, source_uri, created_at, updated_at, expires_at, {content}
             FROM documents ORDER BY id"
        ),
    )?;
    let mut rows = statement.query([])?;
    let mut stride = Stride::default();
    while let Some(row) = rows.next()? {
        stride.row(checker)?;
        let Ok(id) = row.get::<_, i64>(0) else { continue };
        let times = [row.get::<_, Option<i64>>(5), row.get(6), row.get(7)];
        let (Ok(uid), Ok(hash), Ok(content_type), Ok(_), Ok(text), [Ok(Some(created)), Ok(Some(updated)), Ok(expires)]) = (
            row.get::<_, String>(1),
            row.get::<_, [u8; 32]>(2),
            row.get::<_, String>(3),
            row.get::<_, Option<String>>(4),
            row.get::<_, Option<String>>(8),
            times,
        ) else {
            let what = format!("documents row {id} does not have the types of its columns");
            checker.findings.broken(Area::Documents, what);
            continue;
        };
        if check_id("id", &uid).is_err()
            || [Some(created), Some(updated), expires].into_iter().flatten().any(|t| !Timestamp(t).is_datetime())
        {
            checker.findings.broken(Area::Documents, format!("documents row {id}: its id or a time is out of bounds"));
        }
        if checker.quick {
            continue;
        }
        let metadata = match row.get::<_, String>(9).map_err(|e| e.to_string()).and_then(|m| is_object(&m).map(|()| m))
        {
            Ok(metadata) => Some(Metadata::from_stored(metadata)),
            Err(why) => {
                let what = format!("documents row {id} ({uid:?}): metadata is no JSON object: {why}");
                checker.findings.lossy(Area::Documents, what, Remedy::DocumentMetadata(id));
                None
            }
        };
        inside(checker, id, &uid, ContentHash(hash), (text.as_deref(), &content_type, metadata.as_ref()))?;
    }
    Ok(())
}

/// What of a chunk its document's hash covers.
type Kept = (Option<String>, Metadata, Option<(u64, u64)>);

/// The chunks of a document against its text and its hash.
fn inside(
    checker: &mut Checker<'_>,
    id: i64,
    uid: &str,
    stored: ContentHash,
    (text, content_type, metadata): (Option<&str>, &str, Option<&Metadata>),
) -> Result<()> {
    let conn = checker.conn;
    let places = text.map(Places::new);
    let mut statement = sql::prepare(
        conn,
        "SELECT id, content, metadata, char_start, char_end, byte_start, byte_end, line_start, line_end
         FROM chunks WHERE document_id = ?1 ORDER BY chunk_index",
    )?;
    let mut rows = statement.query([id])?;
    let mut all: Vec<Kept> = Vec::new();
    let mut whole = true;
    let mut stride = Stride::default();
    while let Some(row) = rows.next()? {
        stride.row(checker)?;
        let chunk = row.get::<_, i64>(0).unwrap_or_default();
        let chars = match place(row, 3) {
            Ok(None) => None,
            Ok(Some(span)) if same_places(places.as_ref(), span) => Some(span.chars),
            Ok(Some(span)) => {
                let what = format!("chunks row {chunk}: its place in the text of documents row {id} is not there");
                // What its characters name, the bytes and lines follow from.
                if places.as_ref().is_none_or(|places| places.span(span.chars).is_some()) {
                    checker.findings.repairable(Area::Chunks, what, Remedy::Places(chunk));
                } else {
                    checker.findings.lossy(Area::Chunks, what, Remedy::Places(chunk));
                }
                Some(span.chars)
            }
            Err(()) => {
                whole = false;
                let what = format!("chunks row {chunk}: its place in the text is no place");
                checker.findings.lossy(Area::Chunks, what, Remedy::Places(chunk));
                continue;
            }
        };
        match (row.get(1), row.get::<_, String>(2)) {
            (Ok(content), Ok(metadata)) => all.push((content, Metadata::from_stored(metadata), chars)),
            // The pass over the chunks names it.
            _ => whole = false,
        }
    }
    let chunks =
        all.iter().map(|(text, metadata, chars)| HashedChunk { text: text.as_deref(), chars: *chars, metadata });
    if whole
        && let Some(metadata) = metadata
        && let Ok(hash) = ContentHash::of(text, content_type, metadata, chunks)
        && hash != stored
    {
        let what = format!("documents row {id} ({uid:?}): its content hash is not that of its content");
        checker.findings.broken(Area::Documents, what);
    }
    Ok(())
}

/// Every chunk by itself, and whether it is in the collection of its document.
pub fn chunks(checker: &mut Checker<'_>) -> Result<()> {
    apart(checker)?;
    let conn = checker.conn;
    let content = if checker.quick { "NULL, '{}'" } else { "content, metadata" };
    let mut statement = sql::prepare(
        conn,
        &format!(
            "SELECT id, uid, chunk_index, content_hash, token_count, expires_at, {content} FROM chunks ORDER BY id"
        ),
    )?;
    let mut rows = statement.query([])?;
    let mut stride = Stride::default();
    while let Some(row) = rows.next()? {
        stride.row(checker)?;
        let Ok(id) = row.get::<_, i64>(0) else { continue };
        let (Ok(uid), Ok(_), Ok(hash), Ok(_), Ok(expires), Ok(content)) = (
            row.get::<_, String>(1),
            row.get::<_, u64>(2),
            row.get::<_, Option<[u8; 32]>>(3),
            row.get::<_, Option<u64>>(4),
            row.get::<_, Option<i64>>(5),
            row.get::<_, Option<String>>(6),
        ) else {
            let what = format!("chunks row {id} does not have the types of its columns");
            checker.findings.broken(Area::Chunks, what);
            continue;
        };
        if check_id("id", &uid).is_err() || expires.is_some_and(|t| !Timestamp(t).is_datetime()) {
            checker.findings.broken(Area::Chunks, format!("chunks row {id}: its id or a time is out of bounds"));
        }
        if checker.quick {
            continue;
        }
        if content.as_deref().map(ContentHash::of_text) != hash.map(ContentHash) {
            let what = format!("chunks row {id} ({uid:?}): its content hash is not that of its text");
            checker.findings.broken(Area::Chunks, what);
        }
        if let Err(why) = row.get::<_, String>(7).map_err(|e| e.to_string()).and_then(|text| is_object(&text)) {
            let what = format!("chunks row {id} ({uid:?}): metadata is no JSON object: {why}");
            checker.findings.lossy(Area::Chunks, what, Remedy::ChunkMetadata(id));
        }
    }
    Ok(())
}

/// Chunks in another collection than their document.
fn apart(checker: &mut Checker<'_>) -> Result<()> {
    let text = "SELECT c.id, d.id FROM chunks c JOIN documents d ON d.id = c.document_id
                WHERE c.collection_id IS NOT d.collection_id";
    let conn: &Connection = checker.conn;
    let mut statement = sql::prepare(conn, text)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (chunk, document): (i64, i64) = (row.get(0)?, row.get(1)?);
        let what = format!("chunks row {chunk} is in another collection than its documents row {document}");
        checker.findings.lossy(Area::Chunks, what, Remedy::Orphans);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NewChunk;
    use crate::request::prepare_chunks;

    #[test]
    fn places_are_those_that_were_stored() {
        let long = "añb\n".repeat(300);
        for text in ["", "a", "\n", "a\nb", "naïve\nÅ\n", "日本\n語\n\n", long.as_str()] {
            let places = Places::new(text);
            let chars = text.chars().count() as u64;
            for start in (0..=chars).step_by(1 + chars as usize / 40) {
                for end in (start..=chars).step_by(1 + chars as usize / 40) {
                    let chunk = NewChunk {
                        id: None,
                        text: None,
                        metadata: Metadata::empty(),
                        chars: Some((start, end)),
                        token_count: None,
                        expires_at: None,
                    };
                    let stored = prepare_chunks(&[chunk], Some(text)).unwrap()[0].span;
                    assert_eq!(places.span((start, end)), stored, "{text:?} {start}..{end}");
                }
            }
            assert_eq!(places.span((0, chars + 1)), None);
            assert_eq!(places.span((chars + 1, chars + 1)), None);
        }
        assert_eq!(Places::new("abc").span((2, 1)), None);
    }
}
