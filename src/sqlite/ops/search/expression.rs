//! From the text of a keyword search to an expression of FTS5.

use std::collections::BinaryHeap;

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::KeywordPlan;
use crate::request::Syntax;
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tokenizer::{TokenizerSpec, Word, Words};
use crate::text_index::{Operator, Phrase, Query};

/// What FTS5 passes over between the words of an expression.
const FTS5_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The same question twice.
pub(super) struct Asked {
    /// To FTS5.
    pub plan: KeywordPlan,
    /// To a derived index, where that can answer it.
    pub query: Option<Query>,
}

/// What to ask of the text index. Each word is given as it stands in the text, since a stem may have another stem, and
/// quoted, so that none is syntax.
pub(super) fn plan(
    conn: &Connection,
    table: FtsTable,
    spec: &TokenizerSpec,
    syntax: Syntax,
    text: &str,
) -> Result<Asked> {
    if syntax == Syntax::Fts5 {
        let text = text.trim_matches(FTS5_SPACE);
        check(text)?;
        // Of white space FTS5 would say that it is no expression, and of an empty text that nothing matches.
        return Ok(Asked { plan: KeywordPlan { expression: text.to_owned(), dropped: 0 }, query: None });
    }
    let text = &*spec.without_nul(text);
    let (mut found, operator) = match syntax {
        Syntax::Natural => (spec.words(text)?, " OR "),
        Syntax::Prefix => (spec.words_to_the_last(text)?, " AND "),
        Syntax::Phrase => (spec.phrase(text)?, " AND "),
        Syntax::All | Syntax::Fts5 => (spec.whole_words(text)?, " AND "),
    };
    let last = if syntax == Syntax::Prefix { found.words.pop() } else { None };
    let most = limits::QUERY_WORDS - usize::from(last.is_some());
    let Words { words, unheard } = found;
    let (words, dropped) = rarest(conn, table, words, most, syntax == Syntax::Natural)?;
    let mut terms: Vec<String> = words.iter().map(quoted).collect();
    terms.extend(last.as_ref().map(|word| quoted(word) + "*"));
    let plan = KeywordPlan { expression: terms.join(operator), dropped: unheard + dropped };
    let mut phrases: Vec<Phrase> = words.into_iter().map(|word| Phrase { tokens: word.terms, prefix: false }).collect();
    phrases.extend(last.map(|word| Phrase { tokens: word.terms, prefix: true }));
    let operator = if syntax == Syntax::Natural { Operator::Or } else { Operator::And };
    Ok(Asked { plan, query: Some(Query { operator, phrases }) })
}

fn check(expression: &str) -> Result<()> {
    if expression.len() > limits::FTS5_QUERY_BYTES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "the FTS5 query has {} bytes; at most {} are allowed, and syntax=\"natural\" takes any length",
                expression.len(),
                limits::FTS5_QUERY_BYTES
            ),
        ));
    }
    // FTS5 would read up to it and no further.
    if expression.contains('\0') {
        return Err(syntax_error("it holds a NUL character"));
    }
    // FTS5 would take it for a question about its cursors, and answer with no row of the index.
    if expression.starts_with('*') {
        return Err(syntax_error("it begins with *, which stands behind a word"));
    }
    Ok(())
}

/// An expression that FTS5 refused, and what it said.
pub(super) fn syntax_error(why: &str) -> Error {
    Error::new(
        ErrorKind::QuerySyntax,
        format!("the query is not an expression of FTS5: {why}; syntax=\"natural\" takes any text"),
    )
}

fn quoted(word: &Word<'_>) -> String {
    format!("\"{}\"", word.text.replace('"', "\"\""))
}

/// Of more than `most` words those that the fewest rows hold, in their order, and how many were left out. Where any word
/// may match, one that is nowhere is left out before the others and counts for nothing.
fn rarest<'t>(
    conn: &Connection,
    table: FtsTable,
    words: Vec<Word<'t>>,
    most: usize,
    any: bool,
) -> Result<(Vec<Word<'t>>, usize)> {
    /// Beyond so many rows a word is as common as any.
    const COMMON: u32 = 20_000;
    if words.len() <= most {
        return Ok((words, 0));
    }
    // A long word is likely a rare one. The sooner the rare ones are known, the less of the others must be counted.
    let mut places: Vec<usize> = (0..words.len()).collect();
    places.sort_by_key(|&place| std::cmp::Reverse(words[place].text.len()));
    let mut kept: BinaryHeap<(u32, usize)> = BinaryHeap::with_capacity(most + 1);
    let mut nowhere = 0;
    for place in places {
        let cap = match kept.peek() {
            Some(&(most_rows, _)) if kept.len() == most => COMMON.min(most_rows + 1),
            _ => COMMON,
        };
        let rows = fts::count(conn, table, &quoted(&words[place]), cap)?;
        if any && rows == 0 {
            nowhere += 1;
            continue;
        }
        kept.push((rows, place));
        if kept.len() > most {
            kept.pop();
        }
    }
    let dropped = words.len() - nowhere - kept.len();
    let mut keep = vec![false; words.len()];
    kept.into_iter().for_each(|(_, place)| keep[place] = true);
    let words = words.into_iter().zip(keep).filter_map(|(word, keep)| keep.then_some(word)).collect();
    Ok((words, dropped))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index over these texts, by rowid from 1.
    fn index(texts: &[String]) -> (Connection, FtsTable) {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE VIRTUAL TABLE fts_1_1 USING fts5(content)").unwrap();
        for text in texts {
            conn.execute("INSERT INTO fts_1_1 (content) VALUES (?1)", [text]).unwrap();
        }
        (conn, FtsTable { collection_id: 1, generation: 1 })
    }

    fn plan_of(tokenizer: &str, syntax: Syntax, text: &str) -> (String, usize) {
        let (conn, table) = index(&[]);
        let spec = TokenizerSpec::parse(tokenizer).unwrap();
        let KeywordPlan { expression, dropped } = plan(&conn, table, &spec, syntax, text).unwrap().plan;
        (expression, dropped)
    }

    #[test]
    fn the_words_are_quoted_and_joined() {
        let plan = |syntax, text| plan_of("porter unicode61", syntax, text).0;
        assert_eq!(plan(Syntax::Natural, "what OR \"what\" NEAR(?"), r#""what" OR "OR" OR "NEAR""#);
        assert_eq!(plan(Syntax::All, "a\0b* -c"), r#""a" AND "b" AND "c""#);
        assert_eq!(plan(Syntax::Phrase, " say \"no\", col:x "), r#""say ""no"", col:x""#);
        assert_eq!(plan(Syntax::Prefix, "quick quick fo"), r#""quick" AND "fo"*"#);
        assert_eq!(plan(Syntax::Prefix, "fox quick fox"), r#""fox" AND "quick" AND "fox"*"#);
        for syntax in [Syntax::Natural, Syntax::All, Syntax::Phrase, Syntax::Prefix] {
            assert_eq!(plan(syntax, " ?! \0"), "");
        }
        let plan = |syntax, text| plan_of("trigram", syntax, text);
        assert_eq!(plan(Syntax::Natural, "ab 向量数据"), (r#""向量数" OR "量数据""#.into(), 1));
        assert_eq!(plan(Syntax::Prefix, "abc de"), (r#""abc"*"#.into(), 1));
    }

    #[test]
    fn the_rarest_words_stay_in_their_order() {
        let most = limits::QUERY_WORDS;
        // Word i is in the texts i, i + 1, ...: the later the rarer.
        let words: Vec<String> = (0..200).map(|i| format!("w{i}")).collect();
        let texts: Vec<String> = (0..200).map(|i| words[..=i].join(" ")).collect();
        let (conn, table) = index(&texts);
        let spec = TokenizerSpec::parse("unicode61").unwrap();
        let query = format!("nowhere {} never", words.join(" "));
        let found = plan(&conn, table, &spec, Syntax::Natural, &query).unwrap().plan;
        let expected: Vec<String> = words[200 - most..].iter().map(|word| format!("\"{word}\"")).collect();
        assert_eq!(found, KeywordPlan { expression: expected.join(" OR "), dropped: 200 - most });
        // What must be there and is not, stays.
        let found = plan(&conn, table, &spec, Syntax::All, &query).unwrap().plan;
        assert!(found.expression.starts_with("\"nowhere\" AND ") && found.expression.ends_with(" AND \"never\""));
        assert_eq!(found.dropped, 202 - most);
        let found = plan(&conn, table, &spec, Syntax::Prefix, &format!("{query} w")).unwrap().plan;
        assert!(found.expression.ends_with(" AND \"never\" AND \"w\"*"));
        assert_eq!(found.expression.matches(" AND ").count() + 1, most);
    }
}
