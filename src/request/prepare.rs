//! What an `Add` or `AddChunks` holds once it is checked: every default filled in, every span and hash computed. No
//! backend is needed for this, so it runs on the caller's thread, before the writer sees the call.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{ContentHash, HashedChunk, Metadata, NewChunk, NewDocument, Span, Timestamp, check_id, check_name};

/// A document ready to be stored.
#[derive(Debug)]
pub struct PreparedDocument<'a> {
    pub id: Option<&'a str>,
    pub uri: Option<&'a str>,
    pub text: Option<&'a str>,
    pub content_type: &'a str,
    pub metadata: &'a Metadata,
    pub content_hash: ContentHash,
    pub chunks: Vec<PreparedChunk<'a>>,
    pub expires_at: Option<Timestamp>,
}

/// A chunk ready to be stored.
#[derive(Debug)]
pub struct PreparedChunk<'a> {
    pub id: Option<&'a str>,
    pub text: Option<&'a str>,
    pub text_hash: Option<ContentHash>,
    pub metadata: Cow<'a, Metadata>,
    pub span: Option<Span>,
    pub token_count: Option<u64>,
    pub expires_at: Option<Timestamp>,
}

/// Checks a document against the limits and computes its spans and hashes.
///
/// # Errors
/// `Argument` and `Limit`, naming the chunk.
pub fn prepare_document(document: &NewDocument) -> Result<PreparedDocument<'_>> {
    if let Some(id) = &document.id {
        check_id("document id", id)?;
    }
    if let Some(uri) = &document.uri {
        check_name("uri", uri)?;
    }
    check_name("content_type", &document.content_type)?;
    check_text("text", document.text.as_deref())?;
    let text = document.text.as_deref();
    let chunks = match &document.chunks {
        Some(chunks) => prepare_chunks(chunks, text)?,
        None => vec![whole(text, document.expires_at)],
    };
    let hashed = chunks.iter().map(|chunk| HashedChunk {
        text: chunk.text,
        chars: chunk.span.map(|span| span.chars),
        metadata: &chunk.metadata,
    });
    let content_hash = ContentHash::of(text, &document.content_type, &document.metadata, hashed)?;
    Ok(PreparedDocument {
        id: document.id.as_deref(),
        uri: document.uri.as_deref(),
        text,
        content_type: &document.content_type,
        metadata: &document.metadata,
        content_hash,
        chunks,
        expires_at: document.expires_at,
    })
}

/// Checks the chunks of a document with that text and computes their spans and hashes.
///
/// # Errors
/// `Argument` and `Limit`, naming the chunk.
pub fn prepare_chunks<'a>(chunks: &'a [NewChunk], text: Option<&'a str>) -> Result<Vec<PreparedChunk<'a>>> {
    let mut starts = text.map(Cursor::new);
    let mut ends = text.map(Cursor::new);
    let prepare = |(index, chunk)| {
        prepare_chunk(chunk, text, starts.as_mut().zip(ends.as_mut()))
            .map_err(|e: Error| e.context(format!("chunk {index}")))
    };
    chunks.iter().enumerate().map(prepare).collect()
}

fn prepare_chunk<'a>(
    chunk: &'a NewChunk,
    text: Option<&'a str>,
    cursors: Option<(&mut Cursor<'a>, &mut Cursor<'a>)>,
) -> Result<PreparedChunk<'a>> {
    if let Some(id) = &chunk.id {
        check_id("chunk id", id)?;
    }
    check_text("text", chunk.text.as_deref())?;
    if let Some((start, end)) = chunk.chars
        && start > end
    {
        return Err(Error::new(ErrorKind::Argument, format!("start is {start} and end {end}; start comes first")));
    }
    let span = match (chunk.chars, cursors) {
        (None, _) => None,
        (Some(chars), None) => Some(Span { chars, bytes: None, lines: None }),
        (Some(chars), Some((start, end))) => {
            let over = |at: u64| {
                Error::new(
                    ErrorKind::Argument,
                    format!(
                        "its span {}..{} passes the end of the document's text, which has {at} characters",
                        chars.0, chars.1
                    ),
                )
            };
            start.go(chars.0).map_err(over)?;
            end.go(chars.1).map_err(over)?;
            let last_line = if chars.1 > chars.0 { end.line_before() } else { start.line };
            Some(Span {
                chars,
                bytes: Some((start.byte as u64, end.byte as u64)),
                lines: Some((start.line, last_line)),
            })
        }
    };
    let text = match (&chunk.text, text, span.and_then(|span| span.bytes)) {
        (Some(own), _, _) => Some(own.as_str()),
        (None, Some(text), Some((start, end))) => Some(&text[start as usize..end as usize]),
        (None, _, _) => None,
    };
    Ok(PreparedChunk {
        id: chunk.id.as_deref(),
        text,
        text_hash: text.map(ContentHash::of_text),
        metadata: Cow::Borrowed(&chunk.metadata),
        span,
        token_count: chunk.token_count,
        expires_at: chunk.expires_at,
    })
}

/// The one chunk of a document that was given without chunks.
fn whole(text: Option<&str>, expires_at: Option<Timestamp>) -> PreparedChunk<'_> {
    let span = text.map(|text| {
        let lines = 1 + newlines(text.strip_suffix('\n').unwrap_or(text));
        Span { chars: (0, characters(text)), bytes: Some((0, text.len() as u64)), lines: Some((1, lines)) }
    });
    PreparedChunk {
        id: None,
        text,
        text_hash: text.map(ContentHash::of_text),
        metadata: Cow::Owned(Metadata::empty()),
        span,
        token_count: None,
        expires_at,
    }
}

fn check_text(what: &str, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) if text.len() > limits::TEXT_BYTES => Err(Error::new(
            ErrorKind::Limit,
            format!(
                "{what} has {} bytes of UTF-8; at most {} are allowed, and nothing is cut silently: split it first",
                text.len(),
                limits::TEXT_BYTES
            ),
        )),
        _ => Ok(()),
    }
}

fn newlines(text: &str) -> u64 {
    text.bytes().filter(|&byte| byte == b'\n').count() as u64
}

fn characters(text: &str) -> u64 {
    text.chars().count() as u64
}

/// A place in a text, known by character, byte and line; cheap to move forward.
struct Cursor<'a> {
    text: &'a str,
    ascii: bool,
    char: u64,
    byte: usize,
    line: u64,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, ascii: text.is_ascii(), char: 0, byte: 0, line: 1 }
    }

    /// Moves to a character, or says how many there are when that is past the end.
    fn go(&mut self, char: u64) -> std::result::Result<(), u64> {
        if char < self.char {
            *self = Self { ascii: self.ascii, ..Self::new(self.text) };
        }
        let rest = &self.text[self.byte..];
        let ahead = char - self.char;
        let bytes = if self.ascii {
            usize::try_from(ahead).ok().filter(|&bytes| bytes <= rest.len())
        } else {
            let mut left = ahead;
            let found = rest.char_indices().find(|_| {
                let here = left == 0;
                left = left.saturating_sub(1);
                here
            });
            found.map(|(at, _)| at).or((characters(rest) == ahead).then_some(rest.len()))
        };
        let bytes = bytes.ok_or_else(|| characters(self.text))?;
        self.line += newlines(&rest[..bytes]);
        self.byte += bytes;
        self.char = char;
        Ok(())
    }

    /// The line of the character before this place.
    fn line_before(&self) -> u64 {
        self.line - u64::from(self.text[..self.byte].ends_with('\n'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(chars: (u64, u64)) -> NewChunk {
        NewChunk {
            id: None,
            text: None,
            metadata: Metadata::empty(),
            chars: Some(chars),
            token_count: None,
            expires_at: None,
        }
    }

    #[test]
    fn spans_agree_with_a_plain_count() {
        for text in ["", "plain\nascii\n\ntext", "naïve\n北京 🦀\r\nend\n", "\n\n"] {
            let count = text.chars().count() as u64;
            let all: Vec<NewChunk> = (0..=count).flat_map(|a| (a..=count).map(move |b| chunk((a, b)))).collect();
            for (new, prepared) in all.iter().zip(prepare_chunks(&all, Some(text)).unwrap()) {
                let (start, end) = new.chars.unwrap();
                let before: String = text.chars().take(start as usize).collect();
                let slice: String = text.chars().skip(start as usize).take((end - start) as usize).collect();
                assert_eq!(prepared.text, Some(slice.as_str()));
                let span = prepared.span.unwrap();
                assert_eq!(span.bytes.unwrap(), (before.len() as u64, (before.len() + slice.len()) as u64));
                let first = 1 + newlines(&before);
                let last = first + newlines(slice.strip_suffix('\n').unwrap_or(&slice));
                assert_eq!(span.lines.unwrap(), (first, last), "{text:?} {start}..{end}");
            }
        }
    }

    #[test]
    fn spans_past_the_end_are_refused() {
        for text in ["ascii", "naïve"] {
            let error = prepare_chunks(&[chunk((0, 2)), chunk((3, 6))], Some(text)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
            assert!(error.message().contains("chunk 1") && error.message().contains("5 characters"), "{error}");
        }
        assert!(prepare_chunks(&[chunk((4, 2))], None).is_err());
    }

    #[test]
    fn a_document_without_chunks_is_one() {
        let document = NewDocument {
            id: None,
            uri: None,
            text: Some("a\nb\n".into()),
            content_type: "text/plain".into(),
            metadata: Metadata::empty(),
            chunks: None,
            expires_at: None,
        };
        let prepared = prepare_document(&document).unwrap();
        let explicit = NewDocument { chunks: Some(vec![chunk((0, 4))]), ..document.clone() };
        let explicit = prepare_document(&explicit).unwrap();
        assert_eq!(prepared.content_hash, explicit.content_hash);
        assert_eq!(prepared.chunks[0].span, explicit.chunks[0].span);
        let long = NewDocument { text: Some("x".repeat(limits::TEXT_BYTES + 1)), ..document };
        assert_eq!(prepare_document(&long).unwrap_err().kind(), ErrorKind::Limit);
    }
}
