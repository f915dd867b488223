//! The text indexes against the texts. FTS5's own comparison is a write; here its terms are read through fts5vocab, in
//! the snapshot of the reader, and compared with what its tokenizer makes of the texts: every term at every place.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;

use rusqlite::Connection;

use super::catalog::Catalog;
use super::{Checker, Remedy, Stride};
use crate::error::Result;
use crate::model::Area;
use crate::sqlite::ffi::Fts5Tokenizer;
use crate::sqlite::sql;
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tokenizer::TokenizerSpec;

/// What FTS5 keeps of a longer term.
const TERM_BYTES: usize = 32_768;

/// A chunk, as its text has it.
struct Expected {
    id: i64,
    /// The sum of the hashes of its terms at their places; what the index has is taken off it.
    sum: u64,
    tokens: u64,
}

/// Every text index.
pub fn indexes(checker: &mut Checker<'_>, catalog: &Catalog) -> Result<()> {
    let mut collections: BTreeMap<i64, Vec<Expected>> = BTreeMap::new();
    for (table, _) in &catalog.texts {
        collections.insert(table.collection_id, Vec::new());
    }
    texts(checker, catalog, &mut collections)?;
    for (table, _) in &catalog.texts {
        let expected = collections.remove(&table.collection_id).unwrap_or_default();
        let remedy = Remedy::Text(table.collection_id);
        if let Err(error) = index(checker, *table, expected) {
            if super::is_outside(&error) {
                return Err(error);
            }
            checker.findings.repairable(
                Area::Text,
                format!("{}: reading ended early: {}", table.name(), sql::plain(&error)),
                remedy,
            );
        }
    }
    Ok(())
}

/// One pass over the chunks of every collection.
fn texts(checker: &mut Checker<'_>, catalog: &Catalog, collections: &mut BTreeMap<i64, Vec<Expected>>) -> Result<()> {
    let conn = checker.conn;
    let tokenizers: HashMap<i64, Rc<Fts5Tokenizer>> = if checker.quick {
        HashMap::new()
    } else {
        let made = |(table, spec): &(FtsTable, TokenizerSpec)| Ok((table.collection_id, spec.instance()?));
        catalog.texts.iter().map(made).collect::<Result<_>>()?
    };
    let content = if checker.quick { "NULL" } else { "content" };
    let mut statement = sql::prepare(conn, &format!("SELECT id, collection_id, {content} FROM chunks ORDER BY id"))?;
    let mut rows = statement.query([])?;
    let mut stride = Stride::default();
    while let Some(row) = rows.next()? {
        stride.row(checker)?;
        let (Ok(id), Ok(collection)) = (row.get::<_, i64>(0), row.get::<_, i64>(1)) else { continue };
        let Some(expected) = collections.get_mut(&collection) else { continue };
        let (mut sum, mut tokens) = (0u64, 0);
        if let (Some(tokenizer), Ok(text)) = (tokenizers.get(&collection), row.get_ref(2)?.as_str()) {
            tokenizer.tokenize(text, &mut |term, _, _| {
                sum = sum.wrapping_add(hash(&term[..term.len().min(TERM_BYTES)], tokens));
                tokens += 1;
            })?;
        }
        expected.push(Expected { id, sum, tokens });
    }
    Ok(())
}

fn hash(term: &[u8], place: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(term);
    hasher.write_u64(place);
    hasher.finish()
}

/// One index: its rows, and without the quick way its terms and its counts.
fn index(checker: &mut Checker<'_>, table: FtsTable, mut expected: Vec<Expected>) -> Result<()> {
    sizes(checker, table, &expected)?;
    if checker.quick {
        return Ok(());
    }
    let conn = checker.conn;
    if fts::totals(conn, table)? != (expected.len() as u64, expected.iter().map(|row| row.tokens).sum()) {
        let what = format!("{}: its totals, from which BM25 counts, are not those of the texts", table.name());
        checker.findings.repairable(Area::Text, what, Remedy::Text(table.collection_id));
    }
    let unknown = terms(checker, table, &mut expected)?;
    for id in unknown {
        let what = format!("{} has words of chunks row {id}, which is not in the collection", table.name());
        checker.findings.repairable(Area::Text, what, Remedy::Text(table.collection_id));
    }
    for row in expected.iter().filter(|row| row.sum != 0) {
        let what = format!("{} has other words for chunks row {} than its text", table.name(), row.id);
        checker.findings.repairable(Area::Text, what, Remedy::Text(table.collection_id));
    }
    checker.done(expected.len() as u64)
}

/// The rows that the index has, and how many tokens it counts in each.
fn sizes(checker: &mut Checker<'_>, table: FtsTable, expected: &[Expected]) -> Result<()> {
    let conn = checker.conn;
    let mut statement = sql::prepare(conn, &format!("SELECT id, sz FROM {}_docsize ORDER BY id", table.name()))?;
    let mut rows = statement.query([])?;
    let mut wanted = expected.iter().peekable();
    let mut stride = Stride::default();
    let missing = |id: i64| format!("chunks row {id} is not in {}", table.name());
    let remedy = || Remedy::Text(table.collection_id);
    while let Some(row) = rows.next()? {
        // Counted by the pass over the terms.
        stride.0 += 1;
        if stride.0.is_multiple_of(super::STRIDE) {
            (checker.keep_going)()?;
        }
        let id: i64 = row.get(0)?;
        while let Some(expected) = wanted.next_if(|expected| expected.id < id) {
            checker.findings.repairable(Area::Text, missing(expected.id), remedy());
        }
        match wanted.next_if(|expected| expected.id == id) {
            None => {
                let what = format!("{} has chunks row {id}, which is not in the collection", table.name());
                checker.findings.repairable(Area::Text, what, remedy());
            }
            Some(expected)
                if !checker.quick
                    && fts::varints(row.get_ref(1)?.as_blob().unwrap_or_default()) != [expected.tokens] =>
            {
                let what = format!("{} counts other words in chunks row {id} than its text has", table.name());
                checker.findings.repairable(Area::Text, what, remedy());
            }
            Some(_) => {}
        }
    }
    for expected in wanted {
        checker.findings.repairable(Area::Text, missing(expected.id), remedy());
    }
    Ok(())
}

/// Takes every term of the index off what is expected, and returns the first rows that nobody expects.
fn terms(checker: &Checker<'_>, table: FtsTable, expected: &mut [Expected]) -> Result<Vec<i64>> {
    const NAME: &str = "temp.ragstore_terms";
    let conn = checker.conn;
    conn.execute_batch(&format!("CREATE VIRTUAL TABLE {NAME} USING fts5vocab(main, {}, instance)", table.name()))?;
    let outcome = take_off(checker, conn, NAME, expected);
    // An own name for one table at a time; on a damaged index it may not be dropped before the snapshot ends.
    let dropped = conn.execute_batch(&format!("DROP TABLE {NAME}"));
    let unknown = outcome?;
    dropped?;
    Ok(unknown)
}

fn take_off(checker: &Checker<'_>, conn: &Connection, name: &str, expected: &mut [Expected]) -> Result<Vec<i64>> {
    /// Terms between two looks at the caller's wish.
    const OFTEN: u64 = 1 << 16;
    let mut statement = conn.prepare(&format!("SELECT term, doc, \"offset\" FROM {name}"))?;
    let mut rows = statement.query([])?;
    let (mut unknown, mut seen) = (Vec::new(), 0u64);
    while let Some(row) = rows.next()? {
        seen += 1;
        if seen.is_multiple_of(OFTEN) {
            (checker.keep_going)()?;
        }
        let id: i64 = row.get(1)?;
        let place = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(u64::MAX);
        match expected.binary_search_by_key(&id, |expected| expected.id) {
            Ok(at) => {
                let term = row.get_ref(0)?.as_bytes().unwrap_or_default();
                expected[at].sum = expected[at].sum.wrapping_sub(hash(term, place));
            }
            Err(_) if unknown.len() <= super::NAMED && unknown.last() != Some(&id) => unknown.push(id),
            Err(_) => {}
        }
    }
    Ok(unknown)
}
