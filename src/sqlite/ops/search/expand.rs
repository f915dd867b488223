//! Neighbors of hits in the graph of their collection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde_json::json;

use super::plan::{Plan, millis};
use super::rank::{Ranked, interrupted};
use super::select::Candidate;
use super::{read, widened};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::graph::{self, Seed, Walk};
use crate::limits;
use crate::model::{Hit, Timestamp};
use crate::request::{Expand, Search};
use crate::sqlite::filter_sql::{self, Condition, Documents, Indexes};
use crate::sqlite::ops::steps::Steps;
use crate::sqlite::pulse::Pulse;
use crate::sqlite::sql;
use crate::sqlite::tables::collections::CollectionRow;
use crate::sqlite::tables::expiry::{chunk_alive, document_alive};
use crate::sqlite::tables::relations;

/// Ids whose chunks are looked up at a time.
const TOGETHER: usize = 64;

/// Refuses what no walk could follow.
pub fn check(expand: &Expand) -> Result<()> {
    let Expand { depth, weight, min_strength, limit, .. } = expand;
    let refused = |kind, key: &str, why: String| Err(Error::new(kind, format!("expand[{key:?}] is {why}")));
    if !(1..=limits::GRAPH_DEPTH).contains(depth) {
        let why = format!("{depth}; from 1 to {} relations are followed one after the other", limits::GRAPH_DEPTH);
        return refused(ErrorKind::Argument, "depth", why);
    }
    if !(*weight > 0.0 && *weight <= 1.0) {
        return refused(ErrorKind::Argument, "weight", format!("{weight}; it is more than 0, and at most 1"));
    }
    if !(0.0..=1.0).contains(min_strength) {
        return refused(ErrorKind::Argument, "min_strength", format!("{min_strength}; it is from 0 to 1"));
    }
    match limit {
        Some(0) => refused(ErrorKind::Argument, "limit", "0; ask for at least one neighbor".into()),
        Some(limit) if *limit > limits::K => {
            refused(ErrorKind::Limit, "limit", format!("{limit}; at most {} neighbors are added", limits::K))
        }
        _ => Ok(()),
    }
}

/// Hits with their neighbors, which stand before the first hit that scores less. Hits keep their order, and those of one
/// document stay together where they are grouped.
pub fn merged(hits: Vec<Hit>, neighbors: Vec<Hit>, grouped: bool) -> Vec<Hit> {
    let mut all: Vec<Hit> = Vec::with_capacity(hits.len() + neighbors.len());
    let mut neighbors = neighbors.into_iter().peekable();
    let mut document: Option<String> = None;
    for hit in hits {
        if !grouped || document.as_ref() != Some(&hit.document_id) {
            while let Some(neighbor) = neighbors.next_if(|neighbor| neighbor.score > hit.score) {
                all.push(neighbor);
            }
        }
        if grouped {
            document = Some(hit.document_id.clone());
        }
        all.push(hit);
    }
    all.extend(neighbors);
    all
}

/// What is left of a hit's score at the end of a way that passes on such a share of it: never more than the score.
fn lessened(score: f64, share: f64) -> f64 {
    // A share of nothing is nothing, also of a score that is infinite.
    if score < 0.0 {
        score * (2.0 - share)
    } else if share == 0.0 {
        0.0
    } else {
        score * share
    }
}

/// Where the ways from hits begin: at the ids of their chunks and documents, those of the greatest score in class 0. The
/// scores of the classes come with them.
fn seeds(hits: &[&Hit]) -> (Vec<Seed>, Vec<f64>) {
    let mut scores: Vec<f64> = hits.iter().map(|hit| hit.score).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.dedup();
    let mut classes: HashMap<&str, usize> = HashMap::new();
    let mut ids: Vec<&str> = Vec::new();
    for hit in hits {
        let class = scores.partition_point(|&score| score > hit.score);
        for id in [hit.id.as_str(), hit.document_id.as_str()] {
            let best = classes.entry(id).or_insert_with(|| {
                ids.push(id);
                class
            });
            *best = class.min(*best);
        }
    }
    let seeds = ids.into_iter().map(|id| Seed { id: id.to_owned(), class: classes[id] }).collect();
    (seeds, scores)
}

/// The snapshot in which neighbors are looked for.
pub struct Around<'a> {
    pub conn: &'a Connection,
    pub collection: &'a CollectionRow,
    pub pulse: &'a Pulse,
    /// The moment that decides what has expired.
    pub now: Timestamp,
}

/// A chunk that a way leads to.
struct Found {
    chunk_id: i64,
    score: f64,
    path: Vec<String>,
}

impl Around<'_> {
    /// Those of the hits, best first. There are none where the timeout comes before they are found.
    pub fn neighbors(
        &self,
        request: &Search,
        expand: &Expand,
        hits: &[Candidate],
        plan: &mut Plan,
        complete: &mut bool,
    ) -> Result<Vec<Hit>> {
        let began = self.pulse.elapsed();
        let hits: Vec<&Hit> = hits.iter().filter_map(|candidate| candidate.hit.as_ref()).collect();
        let (seeds, scores) = seeds(&hits);
        let mut reached = 0;
        let mut neighbors = Vec::new();
        match self.walk(request, expand, &hits, &seeds, &scores, &mut reached) {
            Ok(found) => neighbors = self.pulse.spare(|| self.read(request, found))?,
            Err(error) if error.kind() == ErrorKind::Cancelled && self.pulse.late() => *complete = false,
            Err(error) => return Err(error),
        }
        let took = self.pulse.elapsed().saturating_sub(began);
        let (seeds, added) = (seeds.len(), neighbors.len());
        plan.note("expand", || json!({ "seeds": seeds, "found": reached, "added": added, "ms": millis(took) }));
        Ok(neighbors)
    }

    /// Of several ways to a chunk the one that leaves most of a score counts, then the shortest; so are chunks ordered,
    /// those that are alike by rowid.
    fn walk(
        &self,
        request: &Search,
        expand: &Expand,
        hits: &[&Hit],
        seeds: &[Seed],
        scores: &[f64],
        reached: &mut usize,
    ) -> Result<Vec<Found>> {
        if hits.is_empty() || !relations::any(self.conn)? {
            return Ok(Vec::new());
        }
        let Expand { depth, weight, kinds, direction, min_strength, limit } = expand;
        let walk = Walk { depth: *depth, min_strength: *min_strength };
        let steps = Steps::new(self.conn, self.collection.id, *direction, kinds.as_deref(), self.now)?;
        let reach = graph::walk(seeds, walk, |from| if self.pulse.beats() { steps.of(from) } else { Err(interrupted()) })?;
        let score = |way: &graph::Way<'_>| lessened(scores[way.class], weight * way.strength);
        let mut ways: Vec<(f64, graph::Way<'_>)> = reach.ways().map(|way| (score(&way), way)).collect();
        ways.sort_by(|(one, a), (other, b)| {
            other.total_cmp(one).then(a.depth.cmp(&b.depth)).then(a.id.cmp(b.id)).then(a.class.cmp(&b.class))
        });
        let mut seen = HashSet::new();
        ways.retain(|(_, way)| seen.insert(way.id));
        *reached = ways.len();

        let limit = limit.unwrap_or(request.k);
        let mut given: HashSet<String> = hits.iter().map(|hit| hit.id.clone()).collect();
        let mut found: Vec<Found> = Vec::new();
        let mut rest = ways.as_slice();
        while !rest.is_empty() && found.len() < limit {
            // What is alike is looked up together, since its order is that of the rowids.
            let mut together = rest.len().min(TOGETHER);
            let alike = |a: &(f64, graph::Way<'_>), b: &(f64, graph::Way<'_>)| a.0 == b.0 && a.1.depth == b.1.depth;
            while together < rest.len() && alike(&rest[together - 1], &rest[together]) {
                together += 1;
            }
            let (now, later) = rest.split_at(together);
            rest = later;
            let ids: Vec<&str> = now.iter().map(|(_, way)| way.id).collect();
            let chunks = self.chunks(&ids, request.filter.as_ref())?;
            let mut chunks: Vec<_> = now.iter().zip(chunks).filter_map(|(way, chunk)| Some((way, chunk?))).collect();
            chunks.sort_by(|((one, a), (row, _)), ((other, b), (next, _))| {
                other.total_cmp(one).then(a.depth.cmp(&b.depth)).then(row.cmp(next)).then(a.id.cmp(b.id))
            });
            for ((score, way), (chunk_id, uid)) in chunks {
                if given.insert(uid) {
                    found.push(Found { chunk_id, score: *score, path: reach.path(way) });
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// For each id the rowid and the name of the chunk that it is, or else of the first one of the document that it is,
    /// of those that are there and that the filter lets through.
    fn chunks(&self, ids: &[&str], filter: Option<&Filter>) -> Result<Vec<Option<(i64, String)>>> {
        let matches = match filter {
            Some(filter) => filter_sql::condition(filter, &Indexes::new(), Documents::Joined, 4),
            None => Condition { sql: "1".into(), values: Vec::new(), documents: false },
        };
        let (condition, chunk_alive, document_alive) = (&matches.sql, chunk_alive(3), document_alive(3));
        let mut found: Vec<Option<(i64, String)>> = vec![None; ids.len()];
        let as_chunks = format!(
            "SELECT j.key, c.id, c.uid FROM json_each(?2) j
             CROSS JOIN chunks c ON c.collection_id = ?1 AND c.uid = j.value
             CROSS JOIN documents d ON d.id = c.document_id
             WHERE {chunk_alive} AND {document_alive} AND {condition}"
        );
        let as_documents = format!(
            "SELECT j.key, f.id, f.uid FROM json_each(?2) j
             CROSS JOIN documents d ON d.collection_id = ?1 AND d.uid = j.value
             CROSS JOIN chunks f ON f.id = (
                 SELECT c.id FROM chunks c WHERE c.document_id = d.id AND {chunk_alive} AND {condition}
                 ORDER BY c.chunk_index LIMIT 1)
             WHERE {document_alive}"
        );
        for text in [as_chunks, as_documents] {
            let places: Vec<usize> = (0..ids.len()).filter(|&place| found[place].is_none()).collect();
            if places.is_empty() {
                break;
            }
            let asked: Vec<&str> = places.iter().map(|&place| ids[place]).collect();
            let mut values = vec![
                Value::Integer(self.collection.id),
                Value::Text(json!(asked).to_string()),
                Value::Integer(self.now.0),
            ];
            values.extend(matches.values.iter().cloned());
            let rows = sql::query_all(self.conn, &text, params_from_iter(values), |row| {
                Ok((row.get::<_, usize>(0)?, (row.get(1)?, row.get(2)?)))
            })?;
            for (key, chunk) in rows {
                if let Some(&place) = places.get(key) {
                    found[place] = Some(chunk);
                }
            }
        }
        Ok(found)
    }

    /// The rows of chunks.
    fn read(&self, request: &Search, found: Vec<Found>) -> Result<Vec<Hit>> {
        let ranked = |found: &Found| Ranked {
            chunk_id: found.chunk_id,
            rank: 0,
            score: found.score,
            distance: None,
            vector: None,
            keyword: None,
        };
        let mut candidates: Vec<Candidate> = found.iter().map(|found| Candidate::new(ranked(found))).collect();
        let name: Arc<str> = Arc::from(self.collection.name.as_str());
        read(self.conn, request, &name, &mut candidates, self.now)?;
        let hits = candidates.into_iter().filter_map(widened).zip(found);
        Ok(hits.map(|(hit, found)| Hit { rank: None, path: Some(found.path), ..hit }).collect())
    }
}
