//! Ranking by BM25.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::Ranked;
use crate::error::Result;
use crate::filter::Filter;
use crate::limits;
use crate::model::Leg;
use crate::sqlite::filter_sql;
use crate::sqlite::sql;
use crate::sqlite::tables::collections::CollectionRow;
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tokenizer::TokenizerSpec;

pub(super) fn rank(
    conn: &Connection,
    collection: &CollectionRow,
    text: &str,
    k: usize,
    filter: Option<&Filter>,
) -> Result<Vec<Ranked>> {
    let table = FtsTable { collection_id: collection.id, generation: collection.fts_generation };
    let spec = TokenizerSpec::parse(&collection.tokenizer)?;
    let Some(expression) = natural(conn, table, &spec, text)? else { return Ok(Vec::new()) };
    let name = table.name();
    let mut values = vec![Value::Text(expression), Value::Integer(i64::try_from(k).unwrap_or(i64::MAX))];
    let query = match filter {
        None => {
            format!("SELECT rowid, rank FROM {name} WHERE {name} MATCH ?1 ORDER BY rank, rowid LIMIT ?2")
        }
        Some(filter) => {
            let condition = filter_sql::condition(filter, values.len() + 1);
            values.extend(condition.values);
            // CROSS JOIN keeps the text index outermost, so that the filter is asked of matching chunks alone.
            format!(
                "SELECT f.rowid, f.rank FROM {name} f CROSS JOIN chunks c ON c.id = f.rowid
                 CROSS JOIN documents d ON d.id = c.document_id
                 WHERE f.{name} MATCH ?1 AND {} ORDER BY f.rank, f.rowid LIMIT ?2",
                condition.sql
            )
        }
    };
    let rows: Vec<(i64, f64)> =
        sql::query_all(conn, &query, params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let ranked = |(place, (chunk_id, rank)): (usize, (i64, f64))| {
        // FTS5 gives the better the smaller.
        let leg = Leg { rank: place as u32 + 1, score: -rank };
        Ranked { chunk_id, score: leg.score, distance: None, vector: None, keyword: Some(leg) }
    };
    Ok(rows.into_iter().enumerate().map(ranked).collect())
}

/// The words of a natural query, any of which may match, each quoted so that none is syntax. Of more than
/// [`limits::QUERY_WORDS`] the rarest stay. `None` when there is no word.
fn natural(conn: &Connection, table: FtsTable, spec: &TokenizerSpec, text: &str) -> Result<Option<String>> {
    /// Beyond so many rows a word is as common as any.
    const COMMON: u32 = 20_000;
    let mut words: Vec<String> = spec.words(text)?.into_iter().filter_map(quoted).collect();
    if words.len() > limits::QUERY_WORDS {
        let count = |(place, word): (usize, String)| Ok((fts::count(conn, table, &word, COMMON)?, place, word));
        let mut counted: Vec<(u32, usize, String)> = words.into_iter().enumerate().map(count).collect::<Result<_>>()?;
        // A word that is nowhere ranks nothing.
        counted.retain(|(count, ..)| *count > 0);
        counted.sort_unstable();
        counted.truncate(limits::QUERY_WORDS);
        words = counted.into_iter().map(|(.., word)| word).collect();
    }
    Ok(if words.is_empty() { None } else { Some(words.join(" OR ")) })
}

fn quoted(word: &str) -> Option<String> {
    // FTS5 reads its expression as a C string.
    (!word.contains('\0')).then(|| format!("\"{}\"", word.replace('"', "\"\"")))
}
