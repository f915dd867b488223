//! Cutting a text into chunks along its structure, with offsets into the original.
//!
//! The splitter that finds the boundaries looks from each cut to the end of what it was given, which makes it
//! quadratic in the length of a text and worse in its white space (40 kB took 84 s). So it is given windows of bounded
//! length, and the time is linear in the text.

use std::ops::Range;

use text_splitter::{Characters, ChunkConfig, MarkdownSplitter, TextSplitter};

use crate::error::{Error, ErrorKind, Result};

/// No window is shorter than this many bytes, unless its text is.
const WINDOW: usize = 16 * 1024;
/// Shorter runs of white space are left to the splitter.
const GAP: usize = 256;

/// What kind of structure the cuts follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Syntax {
    /// Runs of line ends, sentences, words, characters.
    #[default]
    Text,
    /// CommonMark's blocks and inline elements first, then as for text.
    Markdown,
}

/// One piece of a text. Both ranges are half-open and name the same piece: characters, as Python slices a string, and
/// bytes of UTF-8, as Rust does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
    /// First byte.
    pub byte_start: usize,
    /// One past the last byte.
    pub byte_end: usize,
}

/// Cuts `text` into pieces of at most `size` characters, at the highest boundary that fits.
///
/// Every character that is not white space is in at least one piece. White space around a piece is left out, except
/// the indentation of Markdown. With `overlap`, a piece may repeat up to that many characters of the one before it,
/// white space at their edges not counted.
pub fn split(text: &str, size: usize, overlap: usize, syntax: Syntax) -> Result<Vec<Piece>> {
    split_in_windows(text, size, overlap, syntax, WINDOW)
}

fn split_in_windows(text: &str, size: usize, overlap: usize, syntax: Syntax, window: usize) -> Result<Vec<Piece>> {
    if size == 0 {
        return Err(Error::new(ErrorKind::Argument, "size is 0: a piece holds at least 1 character"));
    }
    if overlap >= size {
        return Err(Error::new(
            ErrorKind::Argument,
            format!("overlap is {overlap} and size is {size}: the overlap must be smaller than the size"),
        ));
    }
    let config = ChunkConfig::new(size)
        .with_overlap(overlap)
        .map_err(|error| Error::new(ErrorKind::Argument, error.to_string()))?;
    let mut ranges = Vec::new();
    match syntax {
        Syntax::Text => {
            let splitter = TextSplitter::new(config);
            for block in blocks(text, size) {
                split_text(&splitter, text, block, size, window, &mut ranges);
            }
        }
        Syntax::Markdown => {
            let splitter = MarkdownSplitter::new(config);
            for block in blocks(text, size) {
                for part in markdown_windows(text, block, window.max(size.saturating_mul(32))) {
                    for (at, piece) in splitter.chunk_indices(&text[part.clone()]) {
                        push(&mut ranges, part.start + at..part.start + at + piece.len());
                    }
                }
            }
        }
    }
    Ok(with_characters(text, ranges))
}

/// The parts of `text` between long runs of white space. A run of `size` characters fits inside no piece, so nothing
/// is lost by never showing the splitter one.
fn blocks(text: &str, size: usize) -> Vec<Range<usize>> {
    let longest = size.max(GAP);
    let mut blocks = Vec::new();
    let (mut start, mut end, mut run) = (0, 0, 0);
    for (at, character) in text.char_indices() {
        if character.is_whitespace() {
            run += 1;
            continue;
        }
        if run >= longest {
            if end > start {
                blocks.push(start..end);
            }
            start = at;
        }
        run = 0;
        end = at + character.len_utf8();
    }
    if end > start {
        blocks.push(start..end);
    }
    blocks
}

/// Cuts one block of plain text. The pieces near a window's end may depend on what lies beyond it: they are dropped,
/// and the next window begins where the first of them did.
fn split_text(
    splitter: &TextSplitter<Characters>,
    text: &str,
    block: Range<usize>,
    size: usize,
    window: usize,
    ranges: &mut Vec<Range<usize>>,
) {
    let margin = size.saturating_mul(8); // two pieces of the widest characters
    let mut start = block.start;
    let mut length = window.max(margin.saturating_mul(4));
    loop {
        let end = floor_boundary(text, start.saturating_add(length).min(block.end));
        let settled = if end == block.end { end } else { end.saturating_sub(margin) };
        let first = ranges.len();
        let mut next = None;
        for (at, piece) in splitter.chunk_indices(&text[start..end]) {
            let range = start + at..start + at + piece.len();
            if range.end > settled {
                next = Some(range.start);
                break;
            }
            push(ranges, range);
        }
        match next {
            Some(next) if next > start && ranges.len() > first => start = next,
            _ if end == block.end => return,
            _ => length = length.saturating_mul(2),
        }
    }
}

/// Adds a range that says something new. One that repeats text may begin with indentation before the last one's start:
/// that is left out, so that starts and ends only move forwards.
fn push(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last() {
        Some(last) if range.end <= last.end => {}
        Some(last) => ranges.push(range.start.max(last.start)..range.end),
        None => ranges.push(range),
    }
}

/// Cuts a block of Markdown into windows of at least `window` bytes, outside fenced code where possible: at the next
/// heading, failing that after the next blank line, failing that at the next line.
fn markdown_windows(text: &str, block: Range<usize>, window: usize) -> Vec<Range<usize>> {
    let mut windows = Vec::new();
    let mut start = block.start;
    let mut at = block.start;
    let mut fence: Option<&str> = None;
    let mut blank_before = false;
    for line in text[block.clone()].split_inclusive('\n') {
        let length = at - start;
        let content = line.trim();
        let fits = match length / window.max(1) {
            0 => false,
            1 => fence.is_none() && heading(content),
            2 | 3 => fence.is_none() && blank_before,
            _ => true,
        };
        if fits {
            windows.push(start..at);
            start = at;
            fence = None;
        }
        match fence {
            Some(open) if content.starts_with(open) => fence = None,
            None => fence = ["```", "~~~"].into_iter().find(|marker| content.starts_with(marker)),
            Some(_) => {}
        }
        blank_before = content.is_empty();
        at += line.len();
    }
    // One line may be of any length: what is left of it, and it, are cut anywhere.
    windows.push(start..block.end);
    windows.into_iter().flat_map(|part| bounded(text, part, window.saturating_mul(8))).collect()
}

fn heading(line: &str) -> bool {
    let marks = line.len() - line.trim_start_matches('#').len();
    (1..=6).contains(&marks) && line[marks..].starts_with(' ')
}

/// `part`, cut into ranges of at most `length` bytes.
fn bounded(text: &str, part: Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = part.start;
    std::iter::from_fn(move || {
        let from = start;
        start = floor_boundary(text, from.saturating_add(length).min(part.end));
        (from < start).then_some(from..start)
    })
}

/// The last character boundary at or before `at`.
fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Adds character offsets in one pass: starts and ends each only move forwards, so each keeps a cursor.
fn with_characters(text: &str, ranges: Vec<Range<usize>>) -> Vec<Piece> {
    let mut start = Cursor { text, byte: 0, character: 0 };
    let mut end = start;
    ranges
        .into_iter()
        .map(|range| Piece {
            start: start.advance(range.start),
            end: end.advance(range.end),
            byte_start: range.start,
            byte_end: range.end,
        })
        .collect()
}

#[derive(Clone, Copy)]
struct Cursor<'text> {
    text: &'text str,
    byte: usize,
    character: usize,
}

impl Cursor<'_> {
    /// The number of characters before `byte`.
    fn advance(&mut self, byte: usize) -> usize {
        self.character += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.character
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const BOTH: [Syntax; 2] = [Syntax::Text, Syntax::Markdown];

    /// The pieces' texts, after holding every promise of [`split`] against them.
    fn checked(text: &str, size: usize, overlap: usize, syntax: Syntax) -> Vec<&str> {
        checked_in_windows(text, size, overlap, syntax, WINDOW)
    }

    fn checked_in_windows(text: &str, size: usize, overlap: usize, syntax: Syntax, window: usize) -> Vec<&str> {
        let pieces = split_in_windows(text, size, overlap, syntax, window).expect("valid arguments");
        let characters: Vec<char> = text.chars().collect();
        let mut covered = vec![false; characters.len()];
        let mut last = (0, 0);
        for piece in &pieces {
            let bytes = &text[piece.byte_start..piece.byte_end];
            let slice: String = characters[piece.start..piece.end].iter().collect();
            assert_eq!(bytes, slice, "byte and character offsets differ in {text:?}");
            assert!(piece.start < piece.end, "an empty piece in {text:?}");
            assert!(piece.end - piece.start <= size, "{bytes:?} is over {size} in {text:?}");
            assert!(piece.start >= last.0 && piece.end > last.1, "out of order in {text:?}");
            if piece.start < last.1 {
                let repeated: String = characters[piece.start..last.1].iter().collect();
                assert!(repeated.trim().chars().count() <= overlap, "more than {overlap} repeated in {text:?}");
            }
            covered[piece.start..piece.end].fill(true);
            last = (piece.start, piece.end);
        }
        for (index, character) in characters.iter().enumerate() {
            assert!(covered[index] || character.is_whitespace(), "{character:?} at {index} is lost in {text:?}");
        }
        pieces.iter().map(|piece| &text[piece.byte_start..piece.byte_end]).collect()
    }

    #[test]
    fn nothing_gives_no_pieces() {
        for syntax in BOTH {
            assert!(checked("", 10, 0, syntax).is_empty());
            assert!(checked(" \r\n\t\u{3000} ", 2, 1, syntax).is_empty());
        }
    }

    #[test]
    fn a_text_that_fits_is_one_piece() {
        assert_eq!(checked("  One. Two.\n\nThree.\n", 100, 0, Syntax::Text), ["One. Two.\n\nThree."]);
    }

    #[test]
    fn cuts_fall_on_the_highest_boundary_that_fits() {
        let text = "First paragraph, first sentence. Its second.\n\nThe second paragraph.";
        assert_eq!(
            checked(text, 50, 0, Syntax::Text),
            ["First paragraph, first sentence. Its second.", "The second paragraph."]
        );
        assert_eq!(
            checked(text, 35, 0, Syntax::Text),
            ["First paragraph, first sentence.", "Its second.\n\nThe second paragraph."]
        );
        assert_eq!(checked("abcdefgh", 3, 0, Syntax::Text), ["abc", "def", "gh"]);
    }

    #[test]
    fn offsets_count_characters() {
        let text = "日本語の文。 Größe über alles.\r\nНаука 👩‍👩‍👧‍👦 e\u{301}tude 🇫🇷!";
        for syntax in BOTH {
            for size in 1..=text.chars().count() {
                for overlap in [0, size / 3, size - 1] {
                    checked(text, size, overlap, syntax);
                }
            }
        }
        let pieces = split("äöü 👍 ok", 3, 0, Syntax::Text).unwrap();
        assert_eq!(pieces[0], Piece { start: 0, end: 3, byte_start: 0, byte_end: 6 });
        assert_eq!(pieces[1], Piece { start: 4, end: 5, byte_start: 7, byte_end: 11 });
        assert_eq!(pieces[2], Piece { start: 6, end: 8, byte_start: 12, byte_end: 14 });
    }

    #[test]
    fn carriage_returns_are_line_ends() {
        assert_eq!(
            checked("one two\r\n\r\nthree four\r\nfive", 12, 0, Syntax::Text),
            ["one two", "three four", "five"]
        );
    }

    #[test]
    fn markdown_keeps_a_heading_with_its_text() {
        let text = "# One\n\nAlpha beta.\n\n# Two\n\n- gamma\n- delta\n\n```\ncode here\n```\n";
        assert_eq!(checked(text, 24, 0, Syntax::Markdown)[0], "# One\n\nAlpha beta.");
        for size in 1..=text.len() {
            checked(text, size, size / 2, Syntax::Markdown);
        }
    }

    #[test]
    fn overlap_repeats_the_end_of_the_piece_before() {
        let pieces = checked("one two three four five six", 13, 5, Syntax::Text);
        assert_eq!(pieces, ["one two three", "three four", "four five six"]);
    }

    #[test]
    fn any_text_keeps_every_promise() {
        let alphabet: Vec<char> = "ab .,\n\r\t#*-_`>|[]()<1é日\u{301}\u{200d}👩🇫\u{a0}\u{2028}\0".chars().collect();
        let mut random = Random::new(1);
        for _ in 0..2_000 {
            let text: String = (0..random.below(60)).map(|_| alphabet[random.below(alphabet.len())]).collect();
            let size = 1 + random.below(20);
            let overlap = random.below(size);
            let window = 1 + random.below(40);
            for syntax in BOTH {
                checked(&text, size, overlap, syntax);
                checked_in_windows(&text, size, overlap, syntax, window);
            }
        }
    }

    #[test]
    fn windows_do_not_move_the_cuts_of_a_text() {
        let text =
            "One sentence. Another, longer sentence is here!\n\nA paragraph of its own. Déjà vu 日本語。\n".repeat(60);
        for (size, overlap) in [(10, 0), (40, 0), (40, 15), (90, 30)] {
            let whole = split_in_windows(&text, size, overlap, Syntax::Text, usize::MAX).unwrap();
            assert_eq!(split_in_windows(&text, size, overlap, Syntax::Text, 1).unwrap(), whole);
        }
    }

    #[test]
    fn markdown_windows_end_before_a_heading_and_never_in_a_fence() {
        let section = "# Title\n\n```sh\n# a comment\n```\n\nText.\n\n";
        let text = section.repeat(50);
        let windows = markdown_windows(&text, 0..text.len(), 100);
        assert!(windows.len() > 10);
        for window in &windows {
            assert!(text[window.clone()].starts_with("# Title"));
        }
        assert_eq!(windows.iter().map(|window| &text[window.clone()]).collect::<String>(), text);
        let line = "x".repeat(5_000);
        assert!(markdown_windows(&line, 0..line.len(), 100).iter().all(|window| window.len() <= 800));
    }

    #[test]
    fn long_white_space_costs_nothing() {
        for filler in [" ", "\n", " \n", "\r\n"] {
            let text = format!("first{}second{}", filler.repeat(100_000), filler.repeat(100_000));
            for syntax in BOTH {
                let pieces = split(&text, 1_000, 200, syntax).unwrap();
                assert_eq!(pieces.len(), 2);
                assert_eq!(&text[pieces[1].byte_start..pieces[1].byte_end], "second");
            }
        }
    }

    #[test]
    fn sizes_that_cannot_work_are_refused() {
        for (size, overlap) in [(0, 0), (10, 10), (10, 11)] {
            let error = split("text", size, overlap, Syntax::Text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
        }
    }
}
