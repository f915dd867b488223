//! Ranking by BM25.

use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, ffi, params_from_iter};

use super::Ranked;
use super::expression::{self, Asked};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::model::{KeywordPlan, Leg, Timestamp};
use crate::request::Syntax;
use crate::sqlite::derived::{Followed, Living, TextRequest, TextView};
use crate::sqlite::filter_sql::{self, Documents};
use crate::sqlite::pulse::Pulse;
use crate::sqlite::sql;
use crate::sqlite::tables::collections::CollectionRow;
use crate::sqlite::tables::expiry;
use crate::sqlite::tables::fts::FtsTable;
use crate::sqlite::tables::vectors::Rows;
use crate::text_index::Allowed;

/// The k best, and what was asked for them.
pub struct KeywordLeg {
    pub ranked: Vec<Ranked>,
    pub plan: KeywordPlan,
    /// False where the timeout cut it.
    pub complete: bool,
    pub took: Duration,
    /// Where a derived index gave them.
    pub index: Option<Followed>,
}

impl Default for KeywordLeg {
    /// A leg that the timeout cut.
    fn default() -> Self {
        let plan = KeywordPlan { expression: String::new(), dropped: 0 };
        Self { ranked: Vec::new(), plan, complete: false, took: Duration::ZERO, index: None }
    }
}

/// Which of the chunks that hold the words are ranked.
#[derive(Clone, Copy)]
pub struct Among<'a> {
    /// An index that may be asked, and the rows that it may give.
    pub index: Option<(&'a TextView, Rows<'a>)>,
    pub filter: Option<&'a Filter>,
    /// Those that are there at that moment; `None` where nothing has expired.
    pub alive_at: Option<Timestamp>,
}

pub fn rank(
    conn: &Connection,
    pulse: &Pulse,
    collection: &CollectionRow,
    text: &str,
    syntax: Syntax,
    k: usize,
    among: Among<'_>,
) -> Result<KeywordLeg> {
    let began = pulse.elapsed();
    let table = FtsTable { collection_id: collection.id, generation: collection.fts_generation };
    let spec = collection.spec()?;
    let Asked { plan, query } = expression::plan(conn, table, &spec, syntax, text)?;
    if plan.expression.is_empty() {
        return Ok(KeywordLeg {
            ranked: Vec::new(),
            plan,
            complete: true,
            took: pulse.elapsed().saturating_sub(began),
            index: None,
        });
    }
    if let Some((query, (view, rows))) = query.zip(among.index) {
        let keep_going = || pulse.beats();
        let living = match rows {
            Rows::All => None,
            Rows::Only(set) => Some(Living { only: Some(set), without: None }),
            Rows::Without(set) => Some(Living { only: None, without: Some(set) }),
        };
        let allowed = living.as_ref().map(|living| living as &dyn Allowed);
        let request = TextRequest { query: &query, k, allowed, keep_going: &keep_going };
        if !keep_going() {
            return Ok(KeywordLeg { plan, ..KeywordLeg::default() });
        }
        if let Some((found, followed)) = view.search(&request)? {
            let hits: Vec<(i64, f64)> = found.hits.iter().map(|hit| (hit.row, hit.score)).collect();
            let (complete, took) = (found.complete, pulse.elapsed().saturating_sub(began));
            return Ok(KeywordLeg { ranked: ranked(&hits), plan, complete, took, index: Some(followed) });
        }
    }
    let name = table.name();
    let mut values = vec![Value::Text(plan.expression.clone()), Value::Integer(i64::try_from(k).unwrap_or(i64::MAX))];
    let mut conditions = Vec::new();
    if let Some(filter) = among.filter {
        let indexes = filter_sql::indexes(conn, collection.id)?;
        let condition = filter_sql::condition(filter, &indexes, Documents::Joined, values.len() + 1);
        values.extend(condition.values);
        conditions.push(condition.sql);
    }
    if let Some(now) = among.alive_at {
        values.push(Value::Integer(now.0));
        conditions.push(expiry::alive(values.len()));
    }
    let query = if conditions.is_empty() {
        // FTS5's own ordering by rank alone sorts every row; this keeps the k best, and is the quicker by a third.
        format!("SELECT rowid, rank FROM {name} WHERE {name} MATCH ?1 ORDER BY rank, rowid LIMIT ?2")
    } else {
        // CROSS JOIN keeps the text index outermost, so that the rest is asked of matching chunks alone.
        format!(
            "SELECT f.rowid, f.rank FROM {name} f CROSS JOIN chunks c ON c.id = f.rowid
             CROSS JOIN documents d ON d.id = c.document_id
             WHERE f.{name} MATCH ?1 AND {} ORDER BY f.rank, f.rowid LIMIT ?2",
            conditions.join(" AND ")
        )
    };
    let mut statement = sql::prepare(conn, &query)?;
    let rows: Vec<(i64, f64)> = statement
        // FTS5 gives the better the smaller.
        .query_map(params_from_iter(values), |row| Ok((row.get(0)?, -row.get::<_, f64>(1)?)))?
        .collect::<rusqlite::Result<_>>()
        .map_err(|error| refused(error, syntax))?;
    let took = pulse.elapsed().saturating_sub(began);
    Ok(KeywordLeg { ranked: ranked(&rows), plan, complete: true, took, index: None })
}

/// Rows with their scores as a ranking.
fn ranked(rows: &[(i64, f64)]) -> Vec<Ranked> {
    let ranked = |(place, &(chunk_id, score)): (usize, &(i64, f64))| {
        let leg = Leg { rank: place as u32 + 1, score };
        Ranked { chunk_id, rank: leg.rank, score: leg.score, distance: None, vector: None, keyword: Some(leg) }
    };
    rows.iter().enumerate().map(ranked).collect()
}

/// FTS5 reads its expression when the first row is asked for, and has no code of its own for one that is wrong.
fn refused(error: rusqlite::Error, syntax: Syntax) -> Error {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(why))
            if syntax == Syntax::Fts5 && code.extended_code == ffi::SQLITE_ERROR =>
        {
            expression::syntax_error(&why)
        }
        other => other.into(),
    }
}
