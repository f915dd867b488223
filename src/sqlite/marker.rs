//! Marks what a keyword search looked for in the texts it found.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use super::tokenizer::{Token, TokenizerSpec};
use crate::error::Result;
use crate::model::Marker;
use crate::request::Syntax;

/// Marks the words of one query. They are taken apart when the first text is marked.
pub struct QueryMarker {
    spec: TokenizerSpec,
    syntax: Syntax,
    query: String,
    patterns: OnceLock<Result<Patterns>>,
}

impl QueryMarker {
    pub fn new(spec: TokenizerSpec, syntax: Syntax, query: &str) -> Self {
        Self { spec, syntax, query: query.to_owned(), patterns: OnceLock::new() }
    }
}

impl Marker for QueryMarker {
    fn marks(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let patterns = self.patterns.get_or_init(|| Patterns::of(&self.spec, self.syntax, &self.query));
        let patterns = patterns.as_ref().map_err(Clone::clone)?;
        let tokens = self.spec.tokens(text)?;
        let mut marks: Vec<Range<usize>> = Vec::new();
        // Tokens before it are marked already.
        let mut next = 0;
        for first in 0..tokens.len() {
            let end = first + patterns.longest_at(&tokens[first..]);
            for token in tokens.get(next.max(first)..end).unwrap_or_default() {
                match marks.last_mut() {
                    // Trigrams overlap.
                    Some(last) if token.at.start < last.end => last.end = last.end.max(token.at.end),
                    _ => marks.push(token.at.clone()),
                }
            }
            next = next.max(end);
        }
        Ok(marks)
    }
}

/// Terms that stand together; the last may be the beginning of a longer one.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    terms: Vec<Vec<u8>>,
    prefix: bool,
}

impl Pattern {
    fn starts(&self, tokens: &[Token]) -> bool {
        let Some((last, exact)) = self.terms.split_last() else { return false };
        let Some(ending) = tokens.get(exact.len()) else { return false };
        let ends = if self.prefix { ending.term.starts_with(last) } else { ending.term == *last };
        ends && exact.iter().zip(tokens).all(|(term, token)| *term == token.term)
    }
}

#[derive(Debug, Default)]
struct Patterns {
    by_first_term: HashMap<Vec<u8>, Vec<Pattern>>,
    /// Of one term, which is the beginning of others.
    beginnings: Vec<Pattern>,
}

impl Patterns {
    fn of(spec: &TokenizerSpec, syntax: Syntax, query: &str) -> Result<Self> {
        let query = spec.without_nul(query);
        let words = match syntax {
            Syntax::Natural => spec.words(&query)?,
            Syntax::All => spec.whole_words(&query)?,
            Syntax::Phrase => spec.phrase(&query)?,
            Syntax::Prefix => spec.words_to_the_last(&query)?,
            Syntax::Fts5 => return Self::of_expression(spec, &query),
        };
        let mut patterns = Self::default();
        let last = words.words.len().saturating_sub(1);
        for (place, word) in words.words.into_iter().enumerate() {
            patterns.insert(Pattern { terms: word.terms, prefix: syntax == Syntax::Prefix && place == last });
        }
        Ok(patterns)
    }

    fn of_expression(spec: &TokenizerSpec, expression: &str) -> Result<Self> {
        let mut patterns = Self::default();
        for Phrase { text, prefix } in phrases(expression) {
            let terms = spec.tokens(&text)?.into_iter().map(|token| token.term).collect();
            patterns.insert(Pattern { terms, prefix });
        }
        Ok(patterns)
    }

    fn insert(&mut self, pattern: Pattern) {
        match pattern.terms.first() {
            None => {}
            Some(_) if pattern.prefix && pattern.terms.len() == 1 => self.beginnings.push(pattern),
            Some(first) => self.by_first_term.entry(first.clone()).or_default().push(pattern),
        }
    }

    /// How many tokens from the first on belong to a pattern.
    fn longest_at(&self, tokens: &[Token]) -> usize {
        let first = tokens.first().and_then(|token| self.by_first_term.get(&token.term));
        let candidates = first.into_iter().flatten().chain(&self.beginnings);
        candidates.filter(|pattern| pattern.starts(tokens)).map(|pattern| pattern.terms.len()).max().unwrap_or(0)
    }
}

/// What an expression of FTS5 looks up, as far as it can be told without its grammar.
#[derive(Debug, PartialEq, Eq)]
struct Phrase {
    text: String,
    prefix: bool,
}

/// The strings and bare words of an expression. Operators, the columns before a colon and the distance of a NEAR are none.
fn phrases(expression: &str) -> Vec<Phrase> {
    let mut found: Vec<Phrase> = Vec::new();
    let mut rest = expression;
    // Behind a "+", a string continues the one before it.
    let (mut joined, mut distance) = (false, false);
    while let Some(c) = rest.chars().next() {
        if let Some(mut inner) = rest.strip_prefix('"') {
            let mut text = String::new();
            while let Some((part, behind)) = inner.split_once('"') {
                text.push_str(part);
                inner = behind;
                match inner.strip_prefix('"') {
                    Some(behind) => {
                        text.push('"');
                        inner = behind;
                    }
                    None => break,
                }
            }
            rest = inner;
            push(&mut found, text, &mut joined);
        } else if is_bare(c) {
            let end = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            rest = behind;
            let column = rest.trim_start().starts_with(':');
            let operator = matches!(word, "AND" | "OR" | "NOT") || (word == "NEAR" && rest.starts_with('('));
            if !column && !operator && !distance {
                push(&mut found, word.to_owned(), &mut joined);
            }
        } else {
            match c {
                '{' => rest = rest.split_once('}').map_or("", |(_, behind)| behind),
                '+' => joined = true,
                '*' => found.last_mut().into_iter().for_each(|phrase| phrase.prefix = true),
                _ => {}
            }
            if c != '{' {
                rest = &rest[c.len_utf8()..];
            }
        }
        distance = c == ',' || (distance && c.is_whitespace());
    }
    found
}

/// A character of FTS5's bare words.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '\u{1a}' || !c.is_ascii()
}

fn push(found: &mut Vec<Phrase>, text: String, joined: &mut bool) {
    match found.last_mut() {
        Some(last) if std::mem::take(joined) => {
            last.text.push(' ');
            last.text.push_str(&text);
        }
        _ => found.push(Phrase { text, prefix: false }),
    }
    *joined = false;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked<'t>(tokenizer: &str, syntax: Syntax, query: &str, text: &'t str) -> Vec<&'t str> {
        let marker = QueryMarker::new(TokenizerSpec::parse(tokenizer).unwrap(), syntax, query);
        marker.marks(text).unwrap().into_iter().map(|at| &text[at]).collect()
    }

    #[test]
    fn marks_follow_the_stem() {
        let text = "Running an index: café runs";
        assert_eq!(marked("porter unicode61", Syntax::Natural, "indexes, run", text), ["Running", "index", "runs"]);
        assert_eq!(marked("porter unicode61", Syntax::All, "CAFE", text), ["café"]);
    }

    #[test]
    fn a_phrase_is_marked_where_it_stands_whole() {
        let text = "the fox, a quick brown fox; quick fox: brown";
        assert_eq!(marked("unicode61", Syntax::Phrase, "Quick, brown", text), ["quick", "brown"]);
        assert_eq!(marked("unicode61", Syntax::Phrase, "brown quick", text), [""; 0]);
    }

    #[test]
    fn the_last_word_of_a_prefix_goes_on() {
        let text = "Stores store a restored storage";
        assert_eq!(marked("unicode61", Syntax::Prefix, "a stor", text), ["Stores", "store", "a", "storage"]);
        assert_eq!(marked("unicode61", Syntax::Prefix, "stor a", text), ["a"]);
        assert_eq!(marked("unicode61", Syntax::Prefix, "store a store", text), ["Stores", "store", "a"]);
    }

    #[test]
    fn trigrams_are_marked_as_the_substrings_they_make() {
        let text = "an index of fox: 向量数据库";
        assert_eq!(marked("trigram", Syntax::Natural, "dex fox?", text), ["dex", "fox"]);
        assert_eq!(marked("trigram", Syntax::Natural, "关系数据库", text), ["数据库"]);
        assert_eq!(marked("trigram", Syntax::Phrase, "of fox", text), ["of fox"]);
    }

    #[test]
    fn an_expression_is_marked_by_its_phrases() {
        let text = "one two three AND NEAR content 5 onerous";
        let marked = |query| marked("unicode61", Syntax::Fts5, query, text);
        assert_eq!(marked("content : one AND {content} : \"two three\""), ["one", "two", "three"]);
        assert_eq!(marked("NEAR(one three, 5) OR two"), ["one", "two", "three"]);
        assert_eq!(marked("one + two OR \"three two\""), ["one", "two"]);
        assert_eq!(marked("on * NOT \"x\"\"y\""), ["one", "onerous"]);
        for odd in ["", "\"", "{", "+", "*", "a +", "+ a", "NEAR", ",", "\"a\"\"", "{a", "\u{1a}", "北京 + :"] {
            marked(odd);
        }
    }
}
