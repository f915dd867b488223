//! The words of a text as FTS5 sees them: for natural queries and for highlights.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use super::ffi::Fts5Tokenizer;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::Marker;

const BASES: [&str; 3] = ["unicode61", "ascii", "trigram"];
const OPTIONS: [&str; 5] = ["remove_diacritics", "categories", "tokenchars", "separators", "case_sensitive"];

/// A tokenizer that FTS5 has, with its options: a name that is safe to write into a table definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenizerSpec {
    args: Vec<String>,
}

/// One token and the bytes of the text it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub term: Vec<u8>,
    pub at: Range<usize>,
}

impl TokenizerSpec {
    /// Reads `[porter] (unicode61 | ascii | trigram) [option value]...`, values in single quotes where they hold more
    /// than letters and digits.
    ///
    /// # Errors
    /// `Argument` for anything that FTS5 itself does not have.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            Error::new(
                ErrorKind::Argument,
                format!(
                    "tokenizer is {text:?}, {why}; give for example \"porter unicode61\", \
                     \"unicode61 remove_diacritics 2\" or \"trigram\""
                ),
            )
        };
        if text.len() > limits::NAME_BYTES {
            return Err(refused("which is too long"));
        }
        let args = split_words(text).ok_or_else(|| refused("in which a quote is not closed"))?;
        let mut rest = args.iter().map(String::as_str);
        let mut base = rest.next();
        if base == Some("porter") {
            base = rest.next();
        }
        if !base.is_none_or(|base| BASES.contains(&base)) || args.is_empty() {
            return Err(refused("which names no tokenizer of FTS5"));
        }
        while let Some(option) = rest.next() {
            if !OPTIONS.contains(&option) || rest.next().is_none() {
                return Err(refused(&format!("in which {option:?} is no option with a value")));
            }
        }
        let spec = Self { args };
        Fts5Tokenizer::create(&spec.args)?;
        Ok(spec)
    }

    /// The name with its options, as [`TokenizerSpec::parse`] reads it and FTS5 too.
    pub fn as_text(&self) -> String {
        let plain = |arg: &String| !arg.is_empty() && arg.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let words: Vec<String> = self
            .args
            .iter()
            .map(|arg| if plain(arg) { arg.clone() } else { format!("'{}'", arg.replace('\'', "''")) })
            .collect();
        words.join(" ")
    }

    fn splits_words(&self) -> bool {
        !self.args.iter().any(|arg| arg == "trigram")
    }

    /// The tokens of a text, in order.
    pub fn tokens(&self, text: &str) -> Result<Vec<Token>> {
        let tokenizer = self.instance()?;
        let mut tokens = Vec::new();
        tokenizer.tokenize(text, &mut |term, start, end| tokens.push(Token { term: term.to_vec(), at: start..end }))?;
        // A tokenizer that folds characters may report a range that does not end on one.
        tokens.retain(|token| text.get(token.at.clone()).is_some());
        Ok(tokens)
    }

    /// The different words of a natural query, in order: each as a piece of `text`. A trigram tokenizer has no words of
    /// its own, so there white space parts them.
    pub fn words<'t>(&self, text: &'t str) -> Result<Vec<&'t str>> {
        let mut seen = HashSet::new();
        if !self.splits_words() {
            return Ok(text.split_whitespace().filter(|word| seen.insert(word.as_bytes().to_vec())).collect());
        }
        let tokens = self.tokens(text)?;
        Ok(tokens.into_iter().filter(|token| seen.insert(token.term.clone())).map(|token| &text[token.at]).collect())
    }

    fn instance(&self) -> Result<Rc<Fts5Tokenizer>> {
        const KEPT: usize = 8;
        thread_local! {
            static CACHE: RefCell<Vec<(TokenizerSpec, Rc<Fts5Tokenizer>)>> = const { RefCell::new(Vec::new()) };
        }
        CACHE.with_borrow_mut(|cache| {
            if let Some((_, tokenizer)) = cache.iter().find(|(spec, _)| spec == self) {
                return Ok(Rc::clone(tokenizer));
            }
            let tokenizer = Rc::new(Fts5Tokenizer::create(&self.args)?);
            if cache.len() == KEPT {
                cache.remove(0);
            }
            cache.push((self.clone(), Rc::clone(&tokenizer)));
            Ok(tokenizer)
        })
    }
}

fn split_words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let mut word = String::new();
            let mut characters = quoted.char_indices().peekable();
            let end = loop {
                match characters.next()? {
                    (_, '\'') if characters.next_if(|&(_, next)| next == '\'').is_some() => word.push('\''),
                    (at, '\'') => break at,
                    (_, other) => word.push(other),
                }
            };
            words.push(word);
            rest = quoted[end + 1..].trim_start();
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
    }
    Some(words)
}

/// Marks the words of one query.
pub struct QueryMarker {
    spec: TokenizerSpec,
    terms: HashSet<Vec<u8>>,
}

impl QueryMarker {
    /// Keeps the terms of `query`.
    pub fn new(spec: TokenizerSpec, query: &str) -> Result<Self> {
        let terms = spec.tokens(query)?.into_iter().map(|token| token.term).collect();
        Ok(Self { spec, terms })
    }
}

impl Marker for QueryMarker {
    fn marks(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let mut marks: Vec<Range<usize>> = Vec::new();
        for token in self.spec.tokens(text)?.into_iter().filter(|token| self.terms.contains(&token.term)) {
            match marks.last_mut() {
                // Trigrams overlap.
                Some(last) if token.at.start < last.end => last.end = last.end.max(token.at.end),
                _ => marks.push(token.at),
            }
        }
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_fts5() {
        let porter = TokenizerSpec::parse("porter unicode61").unwrap();
        assert_eq!(
            porter.words("What's running? RUNS, runs; naïve 北京\0x").unwrap(),
            ["What", "s", "running", "naïve", "北京", "x"]
        );
        let trigram = TokenizerSpec::parse("trigram").unwrap();
        assert_eq!(trigram.words("abc  def abc").unwrap(), ["abc", "def"]);
    }

    #[test]
    fn only_what_fts5_has_is_accepted() {
        for text in ["porter unicode61", "unicode61 remove_diacritics 2 tokenchars '-_''.'", "ascii", "porter"] {
            let spec = TokenizerSpec::parse(text).unwrap();
            assert_eq!(TokenizerSpec::parse(&spec.as_text()).unwrap(), spec);
        }
        for text in ["", "snowball", "unicode61 remove_diacritics", "unicode61 '", "unicode61 drop 1", "trigram x\" y"]
        {
            assert_eq!(TokenizerSpec::parse(text).unwrap_err().kind(), ErrorKind::Argument, "{text}");
        }
    }

    #[test]
    fn marks_follow_the_stem() {
        let marker = QueryMarker::new(TokenizerSpec::parse("porter unicode61").unwrap(), "indexes, run").unwrap();
        let text = "Running an index: café runs";
        let marked: Vec<&str> = marker.marks(text).unwrap().into_iter().map(|at| &text[at]).collect();
        assert_eq!(marked, ["Running", "index", "runs"]);
    }
}
