use std::sync::Arc;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::fusion;
use crate::limits;
use crate::model::{Hit, Hits, Leg, Marker, Metadata, Metric, check_vector};
use crate::request::{Mode, Search};
use crate::sqlite::filter_sql;
use crate::sqlite::row_set::RowSet;
use crate::sqlite::sql;
use crate::sqlite::tables::collections::{self, CollectionRow};
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::{spaces, vectors};
use crate::sqlite::tokenizer::{QueryMarker, TokenizerSpec};

/// A candidate before its row is read.
struct Ranked {
    chunk_id: i64,
    score: f64,
    distance: Option<f64>,
    vector: Option<Leg>,
    keyword: Option<Leg>,
}

pub fn run(conn: &Connection, request: &Search) -> Result<Hits> {
    let began = Instant::now();
    check_k(request.k)?;
    let collection = collections::require(conn, &request.collection)?;
    let filter = request.filter.as_ref();
    let (ranked, text) = match &request.mode {
        Mode::Vector { vector, space } => (by_vector(conn, &collection, vector, space, request.k, filter)?, None),
        Mode::Keyword { text } => (by_keyword(conn, &collection, text, request.k, filter)?, Some(text)),
        Mode::Hybrid { text, vector, space, rrf_k, candidates } => {
            let depth = candidates.unwrap_or(limits::CANDIDATES).max(request.k).min(limits::K);
            let legs = [
                by_vector(conn, &collection, vector, space, depth, filter)?,
                by_keyword(conn, &collection, text, depth, filter)?,
            ];
            (fuse(&legs, *rrf_k, request.k), Some(text))
        }
    };
    let marker = match text {
        Some(text) => {
            let spec = TokenizerSpec::parse(&collection.tokenizer)?;
            Some(Arc::new(QueryMarker::new(spec, text)?) as Arc<dyn Marker>)
        }
        None => None,
    };
    let hits = ranked.into_iter().map(|ranked| read_hit(conn, ranked)).collect::<Result<_>>()?;
    Ok(Hits { hits, exact: true, complete: true, took: began.elapsed(), marker })
}

/// The chunks of a collection that match a filter.
pub fn matching(conn: &Connection, collection_id: i64, filter: &Filter) -> Result<RowSet> {
    let condition = filter_sql::condition(filter, 2);
    let text = format!(
        "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.collection_id = ?1 AND {}",
        condition.sql
    );
    let mut values = vec![Value::Integer(collection_id)];
    values.extend(condition.values);
    let mut rows: Vec<i64> = sql::query_all(conn, &text, params_from_iter(values), |row| row.get(0))?;
    rows.sort_unstable();
    Ok(RowSet::from_sorted(&rows))
}

fn check_k(k: usize) -> Result<()> {
    match k {
        0 => Err(Error::new(ErrorKind::Argument, "k is 0; ask for at least one hit")),
        k if k > limits::K => {
            Err(Error::new(ErrorKind::Limit, format!("k is {k}; at most {} hits are given at once", limits::K)))
        }
        _ => Ok(()),
    }
}

fn by_vector(
    conn: &Connection,
    collection: &CollectionRow,
    vector: &[f32],
    space: &str,
    k: usize,
    filter: Option<&Filter>,
) -> Result<Vec<Ranked>> {
    let space = spaces::require(conn, collection.id, space)?;
    check_query(vector, space.metric)?;
    space.check_dimension(vector.len())?;
    let Some(table) = space.table() else { return Ok(Vec::new()) };
    let allowed = filter.map(|filter| matching(conn, collection.id, filter)).transpose()?;
    let found = vectors::search(conn, table, vector, k, allowed.as_ref())?;
    let rank = |(place, neighbor): (usize, crate::sqlite::top_k::Neighbor)| {
        let distance = f64::from(neighbor.distance);
        let score = space.metric.score(distance);
        Ranked {
            chunk_id: neighbor.chunk_id,
            score,
            distance: Some(distance),
            vector: Some(Leg { rank: place as u32 + 1, score }),
            keyword: None,
        }
    };
    Ok(found.into_iter().enumerate().map(rank).collect())
}

fn check_query(vector: &[f32], metric: Metric) -> Result<()> {
    if vector.is_empty() || vector.len() > limits::DIMENSION {
        return Err(Error::new(
            ErrorKind::InvalidVector,
            format!("the query vector has {} components; from 1 to {} are allowed", vector.len(), limits::DIMENSION),
        ));
    }
    check_vector(vector, metric).map_err(|e| e.context("the query vector"))
}

fn by_keyword(
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
    let rank = |(place, (chunk_id, rank)): (usize, (i64, f64))| {
        // FTS5 gives the better the smaller.
        let leg = Leg { rank: place as u32 + 1, score: -rank };
        Ranked { chunk_id, score: leg.score, distance: None, vector: None, keyword: Some(leg) }
    };
    Ok(rows.into_iter().enumerate().map(rank).collect())
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

fn fuse(legs: &[Vec<Ranked>; 2], rrf_k: u32, k: usize) -> Vec<Ranked> {
    let keys = legs.each_ref().map(|leg| leg.iter().map(|ranked| ranked.chunk_id).collect::<Vec<_>>());
    let fused = fusion::reciprocal_rank([&keys[0], &keys[1]], rrf_k);
    let rank = |fused: fusion::Fused| {
        let [vector, keyword] = [0, 1].map(|leg: usize| fused.places[leg].map(|place| &legs[leg][place]));
        Ranked {
            chunk_id: fused.key,
            score: fused.score,
            distance: vector.and_then(|ranked| ranked.distance),
            vector: vector.and_then(|ranked| ranked.vector),
            keyword: keyword.and_then(|ranked| ranked.keyword),
        }
    };
    fused.into_iter().take(k).map(rank).collect()
}

fn read_hit(conn: &Connection, ranked: Ranked) -> Result<Hit> {
    let Ranked { chunk_id, score, distance, vector, keyword } = ranked;
    let mut statement = sql::prepare(
        conn,
        "SELECT c.uid, c.content, d.uid, d.source_uri, c.chunk_index, c.char_start, c.char_end, c.metadata, d.metadata
         FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.id = ?1",
    )?;
    let mut rows = statement.query(params![chunk_id])?;
    let row = rows.next()?.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, format!("an index names chunk row {chunk_id}, which is not there; run repair()"))
    })?;
    Ok(Hit {
        id: row.get(0)?,
        text: row.get(1)?,
        score,
        distance,
        document_id: row.get(2)?,
        uri: row.get(3)?,
        index: row.get(4)?,
        chars: sql::range(row, 5)?,
        metadata: merged(row.get(8)?, row.get(7)?)?,
        vector,
        keyword,
    })
}

/// A chunk's metadata over its document's, as filters see them.
fn merged(document: String, chunk: String) -> Result<Metadata> {
    match (document.as_str(), chunk.as_str()) {
        (_, "{}") => Ok(Metadata::from_stored(document)),
        ("{}", _) => Ok(Metadata::from_stored(chunk)),
        _ => Metadata::from_stored(document).merged(&Metadata::from_stored(chunk)),
    }
}
