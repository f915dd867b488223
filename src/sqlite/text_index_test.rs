//! The text index against FTS5: the same rows, in the same order, with the same scores.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::tokenizer::{TokenizerSpec, Word};
use crate::random::Random;
use crate::request::Syntax;
use crate::text_index::{
    Allowed, Builder, Dead, Hit, Operator, Part, Phrase, Query, Sections, Segment, frequency, merge, search, totals,
    trusted,
};

const WORDS: [&str; 24] = [
    "the",
    "of",
    "running",
    "runs",
    "Run",
    "index",
    "indexes",
    "café",
    "cafe",
    "naïve",
    "北京大学",
    "数据库",
    "データ",
    "don't",
    "x",
    "Straße",
    "ΑΘΗΝΑ",
    "snake_case",
    "C++",
    "a-b-c",
    "ﬁle",
    "e\u{301}a",
    "data",
    "database",
];

fn text(random: &mut Random) -> String {
    let words = match random.below(12) {
        0 => 0,
        1 => 400,
        _ => 1 + random.below(40),
    };
    let mut text = String::new();
    for _ in 0..words {
        let word = random.rare(220);
        match WORDS.get(word) {
            Some(word) => text.push_str(word),
            None => text.push_str(&format!("w{word}")),
        }
        text.push_str([" ", " ", " ", ", ", "\n", ""][random.below(6)]);
    }
    text
}

/// The same rows in FTS5 and in an index of several parts.
struct Both {
    conn: Connection,
    spec: TokenizerSpec,
    sealed: Vec<(Sections, Dead)>,
    growing: (Builder, Dead),
    rows: Vec<i64>,
    texts: Vec<String>,
}

impl Both {
    fn new(tokenizer: &str, seed: u64, sizes: &[usize]) -> Self {
        let mut random = Random::new(seed);
        let conn = Connection::open_in_memory().unwrap();
        let spec = TokenizerSpec::parse(tokenizer).unwrap();
        let text_of_spec = spec.as_text().replace('"', "\"\"");
        conn.execute_batch(&format!("CREATE VIRTUAL TABLE t USING fts5(content, tokenize=\"{text_of_spec}\")"))
            .unwrap();
        let mut both = Self { conn, spec, sealed: vec![], growing: Default::default(), rows: vec![], texts: vec![] };
        let mut row = -40;
        for (index, &size) in sizes.iter().enumerate() {
            let mut builder = Builder::new();
            for _ in 0..size {
                row += 1 + random.rare(9) as i64;
                let text = match random.below(15) {
                    0 if !both.texts.is_empty() => both.texts[random.below(both.texts.len())].clone(),
                    _ => text(&mut random),
                };
                both.conn.execute("INSERT INTO t (rowid, content) VALUES (?1, ?2)", params![row, text]).unwrap();
                for token in both.spec.tokens(&text).unwrap() {
                    builder.token(&token.term);
                }
                builder.end_row(row).unwrap();
                both.rows.push(row);
                both.texts.push(text);
            }
            if index + 1 == sizes.len() {
                both.growing.0 = builder;
            } else {
                both.sealed.push((builder.finish().unwrap(), Dead::none()));
            }
        }
        both
    }

    /// Deletes about one row in `every`.
    fn delete(&mut self, random: &mut Random, every: usize) {
        let gone: BTreeSet<i64> = self.rows.iter().copied().filter(|_| random.below(every) == 0).collect();
        for row in &gone {
            self.conn.execute("DELETE FROM t WHERE rowid = ?1", [row]).unwrap();
        }
        self.rows.retain(|row| !gone.contains(row));
        for (sections, dead) in &mut self.sealed {
            let segment = Segment::open(sections.refs(), &trusted).unwrap();
            let found = gone.iter().filter_map(|&row| segment.position(row).ok());
            *dead = dead.with(found.map(|position| (position, segment.length(position).unwrap())));
        }
        let (builder, dead) = &mut self.growing;
        let found = gone.iter().filter_map(|&row| builder.position(row).ok());
        *dead = dead.with(found.map(|position| (position as u32, builder.length(position))));
    }

    /// Makes one segment of all parts.
    fn fold(&mut self) {
        let (builder, dead) = std::mem::take(&mut self.growing);
        self.sealed.push((builder.finish().unwrap(), dead));
        let merged = {
            let parts: Vec<(Segment<'_>, &Dead)> = self
                .sealed
                .iter()
                .map(|(sections, dead)| (Segment::open(sections.refs(), &trusted).unwrap(), dead))
                .collect();
            merge(&parts, &mut || true).unwrap().unwrap()
        };
        self.sealed = vec![(merged, Dead::none())];
    }

    fn with_parts<T>(&self, run: impl FnOnce(&[Part<'_>]) -> T) -> T {
        let segments: Vec<Segment<'_>> =
            self.sealed.iter().map(|(sections, _)| Segment::open(sections.refs(), &trusted).unwrap()).collect();
        let mut parts: Vec<Part<'_>> =
            segments.iter().zip(&self.sealed).map(|(segment, (_, dead))| Part::Sealed { segment, dead }).collect();
        let (builder, dead) = &self.growing;
        parts.push(Part::Growing { builder, rows: builder.rows(), dead });
        run(&parts)
    }

    /// What is asked of FTS5, and the same of the index.
    fn query(&self, syntax: Syntax, text: &str) -> (String, Query) {
        let text = &*self.spec.without_nul(text);
        let found = match syntax {
            Syntax::Natural => self.spec.words(text),
            Syntax::Prefix => self.spec.words_to_the_last(text),
            Syntax::Phrase => self.spec.phrase(text),
            Syntax::All | Syntax::Fts5 => self.spec.whole_words(text),
        };
        let words = found.unwrap().words;
        let operator = if syntax == Syntax::Natural { Operator::Or } else { Operator::And };
        let last = words.len().wrapping_sub(1);
        let is_prefix = |index| syntax == Syntax::Prefix && index == last;
        let quoted = |(index, word): (usize, &Word<'_>)| {
            format!("\"{}\"{}", word.text.replace('"', "\"\""), if is_prefix(index) { "*" } else { "" })
        };
        let expression: Vec<String> = words.iter().enumerate().map(quoted).collect();
        let phrase = |(index, word): (usize, Word<'_>)| Phrase { tokens: word.terms, prefix: is_prefix(index) };
        let query = Query { operator, phrases: words.into_iter().enumerate().map(phrase).collect() };
        (expression.join(if operator == Operator::Or { " OR " } else { " AND " }), query)
    }

    fn fts5(&self, expression: &str) -> Vec<Hit> {
        if expression.is_empty() {
            return Vec::new();
        }
        let text = "SELECT rowid, rank FROM t WHERE t MATCH ?1 ORDER BY rank, rowid";
        let mut statement = self.conn.prepare_cached(text).unwrap();
        let hit = |row: &rusqlite::Row<'_>| Ok(Hit { row: row.get(0)?, score: -row.get::<_, f64>(1)? });
        statement.query_map([expression], hit).unwrap().map(Result::unwrap).collect()
    }

    /// Asks both.
    fn compare(&self, random: &mut Random, syntax: Syntax, text: &str) -> usize {
        let (expression, query) = self.query(syntax, text);
        self.compare_query(random, &expression, &query)
    }

    /// Asks both for a phrase whose last token may go on.
    fn compare_prefix_of_phrase(&self, random: &mut Random, text: &str) -> usize {
        let (expression, mut query) = self.query(Syntax::Phrase, text);
        let Some(phrase) = query.phrases.first_mut() else { return 0 };
        phrase.prefix = true;
        self.compare_query(random, &format!("{expression} *"), &query)
    }

    fn compare_query(&self, random: &mut Random, expression: &str, query: &Query) -> usize {
        let expected = self.fts5(expression);
        self.with_parts(|parts| {
            let some = 1 + random.below(1000);
            for k in [1, 1 + random.below(60), if random.below(4) == 0 { expected.len() + 1 } else { 10 }] {
                let found = search(parts, query, k, None, &mut || true).unwrap();
                assert!(found.complete);
                same(&found.hits, &expected[..k.min(expected.len())], expression);
                let every = [2, 20, 200][random.below(3)];
                let allowed: BTreeSet<i64> = self
                    .rows
                    .iter()
                    .copied()
                    .filter(|row| (row.unsigned_abs() as usize * some).is_multiple_of(every))
                    .collect();
                let found = search(parts, query, k, Some(&Set(&allowed)), &mut || true).unwrap();
                let expected: Vec<Hit> =
                    expected.iter().copied().filter(|hit| allowed.contains(&hit.row)).take(k).collect();
                same(&found.hits, &expected, expression);
            }
            for phrase in query.phrases.iter().take(3) {
                let alone = Query { operator: Operator::Or, phrases: vec![phrase.clone()] };
                let all = search(parts, &alone, usize::MAX, None, &mut || true).unwrap();
                assert_eq!(frequency(parts, phrase).unwrap(), all.hits.len() as u64);
            }
        });
        expected.len()
    }
}

struct Set<'a>(&'a BTreeSet<i64>);

impl Allowed for Set<'_> {
    fn contains(&self, row: i64) -> bool {
        self.0.contains(&row)
    }

    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn rows(&self) -> Vec<i64> {
        self.0.iter().copied().collect()
    }
}

#[track_caller]
fn same(found: &[Hit], expected: &[Hit], expression: &str) {
    let rows = |hits: &[Hit]| hits.iter().map(|hit| hit.row).collect::<Vec<_>>();
    assert_eq!(rows(found), rows(expected), "{expression}");
    for (found, expected) in found.iter().zip(expected) {
        let near = (found.score - expected.score).abs() <= 1e-12 * expected.score.abs();
        // Where a compiler may multiply and add in one step, C and Rust may round differently.
        let same = found.score.to_bits() == expected.score.to_bits() || (cfg!(not(target_arch = "x86_64")) && near);
        assert!(same, "{expression}: {found:?} {expected:?}");
    }
}

fn ask(both: &Both, random: &mut Random, times: usize) -> [usize; 4] {
    let mut seen = [0; 4];
    for _ in 0..times {
        let mut query = match random.below(3) {
            0 => text(random).chars().take(1 + random.below(90)).collect(),
            _ => {
                // A piece of a text that is, or was, there.
                let characters: Vec<char> = both.texts[random.below(both.texts.len())].chars().collect();
                let start = random.below(characters.len().max(1));
                characters[start..].iter().take(1 + random.below(50)).collect::<String>()
            }
        };
        if random.below(8) == 0 {
            query.push_str(" nowhere zzzz");
        }
        let piece: String = query.chars().take(2 + random.below(9)).collect();
        for (syntax, seen) in [Syntax::Natural, Syntax::All, Syntax::Phrase, Syntax::Prefix].into_iter().zip(&mut seen)
        {
            *seen += both.compare(random, syntax, if syntax == Syntax::Phrase { &piece } else { &query });
        }
        both.compare_prefix_of_phrase(random, &piece);
    }
    seen
}

fn check(tokenizer: &str, seed: u64, sizes: &[usize]) {
    let mut random = Random::new(seed);
    let mut both = Both::new(tokenizer, seed, sizes);
    let mut seen = ask(&both, &mut random, 8);
    for every in [50, 5] {
        both.delete(&mut random, every);
        let count: u64 = both.conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(both.with_parts(totals).rows, count);
        ask(&both, &mut random, 8).into_iter().zip(&mut seen).for_each(|(more, seen)| *seen += more);
    }
    both.fold();
    ask(&both, &mut random, 8).into_iter().zip(&mut seen).for_each(|(more, seen)| *seen += more);
    assert!(seen.iter().all(|&seen| seen > 20), "{seen:?}");
    // Several terms of a row begin so.
    for word in ["w3", "w17", "w20", "w21"] {
        assert!(both.compare(&mut random, Syntax::Prefix, word) > 0 || tokenizer == "trigram");
        for first in ["the", "of", "w3"] {
            both.compare_prefix_of_phrase(&mut random, &format!("{first} {}", &word[..2]));
        }
    }
}

#[test]
fn porter_is_answered_as_fts5_answers() {
    check("porter unicode61", 0x1234_5678, &[6500, 500, 60]);
}

#[test]
fn unicode61_with_options_is_answered_as_fts5_answers() {
    check("unicode61 remove_diacritics 2 tokenchars '-_'", 0x2345_6789, &[2500, 2500, 60]);
}

#[test]
fn trigram_is_answered_as_fts5_answers() {
    check("trigram", 0x3456_789a, &[2100, 300, 60]);
}

#[test]
fn ascii_is_answered_as_fts5_answers() {
    check("ascii", 0x4567_89ab, &[600, 4500, 60]);
}

#[test]
fn few_rows_are_answered_as_fts5_answers() {
    for seed in 1..25 {
        let mut random = Random::new(seed * 7919);
        let mut both = Both::new("porter unicode61", seed * 104_729, &[1 + random.below(5), random.below(3), 1]);
        ask(&both, &mut random, 5);
        both.delete(&mut random, 3);
        ask(&both, &mut random, 5);
    }
}

#[test]
fn a_query_of_64_words_is_answered_as_fts5_answers() {
    let both = Both::new("porter unicode61", 99, &[4000, 500, 40]);
    let words: Vec<String> = (0..80).map(|word| format!("w{}", 24 + word * 2)).collect();
    let mut random = Random::new(5);
    assert!(both.compare(&mut random, Syntax::Natural, &words[..64].join(" ")) > 3000);
    both.compare(&mut random, Syntax::All, &words[..64].join(" "));
}
