//! The words of a text as FTS5 sees them: for queries and for highlights.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use super::ffi::Fts5Tokenizer;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

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

/// A piece of a text that FTS5 reads as these terms, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word<'t> {
    pub text: &'t str,
    pub terms: Vec<Vec<u8>>,
}

/// The words of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words<'t> {
    pub words: Vec<Word<'t>>,
    /// What the index cannot be asked for: pieces without a token, and tokens beyond the limit of a phrase.
    pub unheard: usize,
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
        // It is kept for whoever asks next, which is mostly this thread.
        spec.instance()?;
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

    fn is_trigram(&self) -> bool {
        self.args.iter().any(|arg| arg == "trigram")
    }

    /// The text without NUL characters, which end an expression of FTS5. No tokenizer sees a difference: NUL parts words,
    /// and between trigrams it is passed over.
    pub fn without_nul<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match text.contains('\0') {
            false => Cow::Borrowed(text),
            true => Cow::Owned(text.replace('\0', if self.is_trigram() { "" } else { " " })),
        }
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

    /// The different words of a text, in order, any of which is worth finding.
    ///
    /// A trigram tokenizer has no words of its own. There white space parts them, and in scripts that are written
    /// without it every three characters are one.
    pub fn words<'t>(&self, text: &'t str) -> Result<Words<'t>> {
        if !self.is_trigram() {
            return self.tokens_as_words(text);
        }
        let pieces = text.split_whitespace().flat_map(|word| {
            runs(word).flat_map(|(run, spaceless)| if spaceless { windows(run) } else { vec![trimmed(run)] })
        });
        self.pieces_as_words(pieces)
    }

    /// The different words of a text, in order, all of which must be found. Under a trigram tokenizer white space parts
    /// them.
    pub fn whole_words<'t>(&self, text: &'t str) -> Result<Words<'t>> {
        if !self.is_trigram() {
            return self.tokens_as_words(text);
        }
        self.pieces_as_words(text.split_whitespace().map(trimmed))
    }

    /// As [`TokenizerSpec::whole_words`], with the last word of the text at the end even where it is there already.
    pub fn words_to_the_last<'t>(&self, text: &'t str) -> Result<Words<'t>> {
        let mut found = self.whole_words(text)?;
        let last = if self.is_trigram() {
            self.pieces_as_words(text.split_whitespace().next_back().map(trimmed).into_iter())?.words.pop()
        } else {
            self.tokens(text)?.pop().map(|Token { term, at }| Word { text: &text[at], terms: vec![term] })
        };
        if let Some(last) = last
            && found.words.last().is_some_and(|word| word.terms != last.terms)
        {
            found.words.push(last);
        }
        Ok(found)
    }

    /// The text itself as one word, if it has a token.
    pub fn phrase<'t>(&self, text: &'t str) -> Result<Words<'t>> {
        // What is white space to Unicode may be part of a word to a tokenizer, and every character is part of a trigram.
        self.pieces_as_words(std::iter::once(if self.is_trigram() { text.trim() } else { text }))
    }

    fn tokens_as_words<'t>(&self, text: &'t str) -> Result<Words<'t>> {
        let mut seen = HashSet::new();
        let mut words = Vec::new();
        for Token { term, at } in self.tokens(text)? {
            if seen.insert(term.clone()) {
                words.push(Word { text: &text[at], terms: vec![term] });
            }
        }
        Ok(Words { words, unheard: 0 })
    }

    fn pieces_as_words<'t>(&self, pieces: impl Iterator<Item = &'t str>) -> Result<Words<'t>> {
        let mut seen = HashSet::new();
        let mut found = Words::default();
        for piece in pieces {
            let mut tokens = self.tokens(piece)?;
            if tokens.len() > limits::PHRASE_TOKENS {
                found.unheard += tokens.len() - limits::PHRASE_TOKENS;
                tokens.truncate(limits::PHRASE_TOKENS);
            }
            let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
                found.unheard += usize::from(!piece.is_empty());
                continue;
            };
            let at = first.at.start..last.at.end;
            let terms: Vec<Vec<u8>> = tokens.into_iter().map(|token| token.term).collect();
            if seen.insert(terms.clone()) {
                found.words.push(Word { text: &piece[at], terms });
            }
        }
        Ok(found)
    }

    /// The tokenizer itself, of this thread.
    pub fn instance(&self) -> Result<Rc<Fts5Tokenizer>> {
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

/// Scripts whose words are not parted by white space, or, as in Korean, carry endings that a trigram had better not
/// depend on.
fn is_spaceless(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0FFF // Thai, Lao, Tibetan
        | 0x1000..=0x109F // Myanmar
        | 0x1780..=0x17FF // Khmer
        | 0x3005..=0x3007 | 0x3041..=0x30FF | 0x31F0..=0x31FF // Kana
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF // Han
        | 0xAC00..=0xD7AF // Hangul
        | 0xFF66..=0xFF9F // half-width Kana
    )
}

/// The parts of a word in scripts with white space and without.
fn runs(word: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let spaceless = is_spaceless(rest.chars().next()?);
        let end = rest.find(|c| is_spaceless(c) != spaceless).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        rest = behind;
        Some((run, spaceless))
    })
}

/// Every three characters; a shorter run as it is.
fn windows(run: &str) -> Vec<&str> {
    let mut at: Vec<usize> = run.char_indices().map(|(at, _)| at).collect();
    at.push(run.len());
    if at.len() <= 4 {
        return vec![run];
    }
    at.windows(4).map(|four| &run[four[0]..four[3]]).collect()
}

/// The word without the punctuation around it, unless that leaves too little: `C++` stays.
fn trimmed(word: &str) -> &str {
    let inner = word.trim_matches(|c: char| !c.is_alphanumeric());
    if inner.is_empty() || (inner.chars().nth(2).is_none() && word.chars().nth(2).is_some()) { word } else { inner }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'t>(words: &Words<'t>) -> Vec<&'t str> {
        words.words.iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_are_those_of_fts5() {
        let porter = TokenizerSpec::parse("porter unicode61").unwrap();
        let words = porter.words("What's running? RUNS, runs; naïve 北京\0x").unwrap();
        assert_eq!(texts(&words), ["What", "s", "running", "naïve", "北京", "x"]);
        assert_eq!(words.words[2].terms, [b"run"]);
        assert_eq!(porter.words("?! \u{301}").unwrap(), Words::default());
    }

    #[test]
    fn trigrams_make_words_of_white_space_and_of_three_characters_without() {
        let trigram = TokenizerSpec::parse("trigram").unwrap();
        let words = trigram.words("abc  (def) abc, ABC std::io C++ of").unwrap();
        assert_eq!((texts(&words), words.unheard), (vec!["abc", "def", "std::io", "C++"], 1));
        let words = trigram.words("向量数据库，と is 北京").unwrap();
        assert_eq!(texts(&words), ["向量数", "量数据", "数据库"]);
        assert_eq!(words.unheard, 4);
        assert_eq!(texts(&trigram.whole_words("向量数据库 fox?").unwrap()), ["向量数据库", "fox"]);
        assert_eq!(texts(&trigram.phrase(" the fox? ").unwrap()), ["the fox?"]);
        assert_eq!(trigram.phrase("ab").unwrap(), Words { words: Vec::new(), unheard: 1 });
    }

    #[test]
    fn a_phrase_is_cut_on_a_whole_token() {
        for (name, token) in [("unicode61", "ä "), ("trigram", "ä")] {
            let spec = TokenizerSpec::parse(name).unwrap();
            let text = token.repeat(1000);
            let phrase = spec.phrase(&text).unwrap();
            assert_eq!(phrase.words[0].terms.len(), limits::PHRASE_TOKENS);
            assert_eq!(spec.tokens(phrase.words[0].text).unwrap().len(), limits::PHRASE_TOKENS);
            assert!(phrase.unheard > 700);
        }
    }

    #[test]
    fn no_tokenizer_sees_that_nul_is_gone() {
        for name in ["porter unicode61", "ascii", "trigram", "trigram remove_diacritics 1"] {
            let spec = TokenizerSpec::parse(name).unwrap();
            let terms = |text: &str| -> Vec<Vec<u8>> {
                spec.tokens(text).unwrap().into_iter().map(|token| token.term).collect()
            };
            for text in ["running\0fast", "\0\0ab\0cdé\0", "a\0b\0c"] {
                assert_eq!(terms(&spec.without_nul(text)), terms(text), "{name} {text:?}");
            }
        }
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
}
