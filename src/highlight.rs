//! Marks the words of a query in a text, and cuts out the part that holds most of them. Pure.

use std::ops::Range;

/// Stands where a snippet was cut.
const ELLIPSIS: &str = "…";
/// Characters of a run without white space that still count as one word; scripts without spaces have longer ones.
const LONG_RUN: usize = 48;
/// Characters that count as one word inside a longer run.
const PIECE: usize = 6;

/// The text with `before` and `after` around every mark.
///
/// `marks` are byte ranges, ascending and apart. One that is out of order or does not stand on characters is left out.
pub fn highlight(text: &str, marks: &[Range<usize>], before: &str, after: &str) -> String {
    let mut out = String::with_capacity(text.len() + marks.len() * (before.len() + after.len()));
    push_marked(&mut out, text, 0..text.len(), marks, before, after);
    out
}

/// About `words` words around the densest group of marks, highlighted; from the beginning when there are none.
pub fn snippet(text: &str, marks: &[Range<usize>], words: usize, before: &str, after: &str) -> String {
    let spans = word_spans(text);
    let words = words.max(1);
    let Some(last) = spans.last() else { return String::new() };
    let (first, end) = if spans.len() <= words { (0, spans.len()) } else { densest(&spans, marks, words) };
    let (mut start_byte, mut end_byte) = (spans[first].start, spans[end - 1].end);
    // A mark is never cut in two.
    for mark in marks {
        if mark.start < start_byte && start_byte < mark.end {
            start_byte = mark.start;
        }
        if mark.start < end_byte && end_byte < mark.end {
            end_byte = mark.end;
        }
    }
    let mut out = String::new();
    if start_byte > spans[0].start {
        out.push_str(ELLIPSIS);
    }
    push_marked(&mut out, text, start_byte..end_byte, marks, before, after);
    if end_byte < last.end {
        out.push_str(ELLIPSIS);
    }
    out
}

fn push_marked(out: &mut String, text: &str, range: Range<usize>, marks: &[Range<usize>], before: &str, after: &str) {
    let mut at = range.start;
    for mark in marks {
        if mark.start < at || mark.end > range.end || mark.is_empty() {
            continue;
        }
        let (Some(gap), Some(word)) = (text.get(at..mark.start), text.get(mark.clone())) else { continue };
        out.push_str(gap);
        out.push_str(before);
        out.push_str(word);
        out.push_str(after);
        at = mark.end;
    }
    out.push_str(text.get(at..range.end).unwrap_or_default());
}

/// Byte ranges of the words of a text; a run too long to be a word is cut into pieces.
fn word_spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for word in text.split_whitespace() {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        if word.len() <= LONG_RUN || word.chars().count() <= LONG_RUN {
            spans.push(start..start + word.len());
            continue;
        }
        let mut cuts: Vec<usize> = word.char_indices().map(|(at, _)| start + at).step_by(PIECE).collect();
        cuts.push(start + word.len());
        spans.extend(cuts.windows(2).map(|pair| pair[0]..pair[1]));
    }
    spans
}

/// The first and the end word of the window with most marks, its marks in its middle. There are more spans than words.
fn densest(spans: &[Range<usize>], marks: &[Range<usize>], words: usize) -> (usize, usize) {
    let mut counts = vec![0_usize; spans.len()];
    for mark in marks {
        let word = spans.partition_point(|span| span.end <= mark.start);
        if let Some(count) = counts.get_mut(word) {
            *count += 1;
        }
    }
    let mut inside: usize = counts[..words].iter().sum();
    let (mut best, mut first) = (inside, 0);
    for start in 1..=spans.len() - words {
        inside = inside + counts[start + words - 1] - counts[start - 1];
        if inside > best {
            (best, first) = (inside, start);
        }
    }
    let window = &counts[first..first + words];
    let (Some(left), Some(right)) = (window.iter().position(|&n| n > 0), window.iter().rposition(|&n| n > 0)) else {
        return (0, words);
    };
    let spare = words - (right - left + 1);
    let start = (first + left).saturating_sub(spare / 2).min(spans.len() - words);
    (start, start + words)
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    /// Every occurrence of each word.
    fn marks(text: &str, words: &[&str]) -> Vec<Range<usize>> {
        let mut found: Vec<_> =
            words.iter().flat_map(|w| text.match_indices(w).map(|(at, m)| at..at + m.len())).collect();
        found.sort_by_key(|range| range.start);
        found
    }

    #[test]
    fn every_mark_is_wrapped() {
        let text = "Der Fuß läuft, der Fuß ruht.";
        assert_eq!(
            highlight(text, &marks(text, &["Fuß"]), "<b>", "</b>"),
            "Der <b>Fuß</b> läuft, der <b>Fuß</b> ruht."
        );
        assert_eq!(highlight(text, &[], "<b>", "</b>"), text);
        assert_eq!(highlight("", &[], "<", ">"), "");
    }

    #[test]
    fn marks_that_make_no_sense_are_left_out() {
        let text = "äöü";
        assert_eq!(highlight(text, &[1..2, 4..99, 2..2], "[", "]"), text);
        assert_eq!(highlight(text, &[2..4, 0..2], "[", "]"), "ä[ö]ü");
    }

    #[test]
    fn a_short_text_is_whole() {
        let text = "  one two three ";
        assert_eq!(snippet(text, &marks(text, &["two"]), 3, "[", "]"), "one [two] three");
        assert_eq!(snippet("", &[], 3, "[", "]"), "");
        assert_eq!(snippet(" \n", &[], 3, "[", "]"), "");
    }

    #[test]
    fn the_densest_group_is_shown_in_the_middle() {
        let mut words = vec!["fill"; 40];
        words[3] = "hit";
        words[20] = "hit";
        words[22] = "hit";
        let text = words.join(" ");
        let shown = snippet(&text, &marks(&text, &["hit"]), 7, "[", "]");
        assert_eq!(shown, "…fill fill [hit] fill [hit] fill fill…");
    }

    #[test]
    fn without_marks_it_is_the_beginning() {
        assert_eq!(snippet("a b c d e", &[], 2, "[", "]"), "a b…");
    }

    #[test]
    fn the_ends_are_kept_inside_the_text() {
        let text = "hit b c d e f";
        assert_eq!(snippet(text, &marks(text, &["hit"]), 3, "[", "]"), "[hit] b c…");
        let text = "a b c d e hit";
        assert_eq!(snippet(text, &marks(text, &["hit"]), 3, "[", "]"), "…d e [hit]");
    }

    #[test]
    fn scripts_without_spaces_are_cut_too_and_marks_stay_whole() {
        let text = format!("{}検索エンジン{}", "あ".repeat(301), "い".repeat(300));
        let shown = snippet(&text, &marks(&text, &["検索エンジン"]), 4, "[", "]");
        assert!(shown.contains("[検索エンジン]") && shown.chars().count() < 60, "{shown}");
        assert!(shown.starts_with('…') && shown.ends_with('…'), "{shown}");
    }

    #[test]
    fn the_window_has_the_words_asked_for() {
        let text = (0..200).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ");
        for at in 0..200 {
            let shown = snippet(&text, &marks(&text, &[&format!("w{at} ")]), 9, "", "");
            assert_eq!(shown.split_whitespace().count(), 9, "{shown}");
        }
    }
}
