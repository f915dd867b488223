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
use crate::graph::{self, Reach, Seed, Walk, Way};
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

/// Where the ways from hits begin: at the ids of their chunks and of their documents.
fn seeds(hits: &[&Hit]) -> Vec<Seed> {
    let mut scores: HashMap<&str, f64> = HashMap::new();
    let mut ids: Vec<&str> = Vec::new();
    for hit in hits {
        for id in [hit.id.as_str(), hit.document_id.as_str()] {
            let score = scores.entry(id).or_insert_with(|| {
                ids.push(id);
                hit.score
            });
            *score = score.max(hit.score);
        }
    }
    ids.into_iter().map(|id| Seed { id: id.to_owned(), score: scores[id] }).collect()
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
        let seeds = seeds(&hits);
        let mut reached = 0;
        let mut look = || -> Result<Vec<Found>> {
            if hits.is_empty() || !relations::any(self.conn)? {
                return Ok(Vec::new());
            }
            let reach = self.walk(expand, &seeds)?;
            let ways = reach.best();
            reached = ways.len();
            self.found(request.filter.as_ref(), &hits, (&reach, &ways), expand.limit.unwrap_or(request.k))
        };
        let mut neighbors = Vec::new();
        match look() {
            Ok(found) => neighbors = self.pulse.spare(|| self.read(request, found))?,
            Err(error) if error.kind() == ErrorKind::Cancelled && self.pulse.late() => *complete = false,
            Err(error) => return Err(error),
        }
        let took = self.pulse.elapsed().saturating_sub(began);
        let (seeds, added) = (seeds.len(), neighbors.len());
        plan.note("expand", || json!({ "seeds": seeds, "found": reached, "added": added, "ms": millis(took) }));
        Ok(neighbors)
    }

    fn walk(&self, expand: &Expand, seeds: &[Seed]) -> Result<Reach> {
        let Expand { depth, weight, kinds, direction, min_strength, .. } = expand;
        let steps = Steps::new(self.conn, self.collection.id, *direction, kinds.as_deref(), self.now)?;
        let walk = Walk { depth: *depth, min_strength: *min_strength };
        let worth = |score, strength| lessened(score, weight * strength);
        graph::walk(seeds, walk, worth, |from| if self.pulse.beats() { steps.of(from) } else { Err(interrupted()) })
    }

    /// The chunks at the ends of ways, each once and no hit, those that are alike by rowid.
    fn found(
        &self,
        filter: Option<&Filter>,
        hits: &[&Hit],
        (reach, ways): (&Reach, &[Way<'_>]),
        limit: usize,
    ) -> Result<Vec<Found>> {
        let mut given: HashSet<String> = hits.iter().map(|hit| hit.id.clone()).collect();
        let mut found: Vec<Found> = Vec::new();
        let mut rest = ways;
        while !rest.is_empty() && found.len() < limit {
            if !self.pulse.beats() {
                return Err(interrupted());
            }
            // What is alike is looked up together, since its order is that of the rowids.
            let mut together = rest.len().min(TOGETHER);
            while together < rest.len() && rest[together - 1].order(&rest[together]).is_eq() {
                together += 1;
            }
            let (now, later) = rest.split_at(together);
            rest = later;
            let ids: Vec<&str> = now.iter().map(|way| way.id).collect();
            let chunks = self.chunks(&ids, filter)?;
            let mut chunks: Vec<_> = now.iter().zip(chunks).filter_map(|(way, chunk)| Some((way, chunk?))).collect();
            // A chunk may come by its own id and by its document's: they are in the order of the ids already.
            chunks.sort_by(|(a, (row, _)), (b, (next, _))| a.order(b).then(row.cmp(next)));
            for (way, (chunk_id, uid)) in chunks {
                if given.insert(uid) {
                    found.push(Found { chunk_id, score: way.worth, path: reach.path(way) });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Metadata;

    fn hit(id: &str, document: &str, score: f64) -> Hit {
        Hit {
            collection: "c".into(),
            id: id.into(),
            text: None,
            score,
            rank: None,
            distance: None,
            document_id: document.into(),
            uri: None,
            index: 0,
            chars: None,
            metadata: Metadata::empty(),
            vector: None,
            keyword: None,
            path: None,
        }
    }

    fn ids(hits: &[Hit]) -> String {
        hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_neighbor_never_scores_more_than_its_hit() {
        assert_eq!([lessened(0.8, 0.25), lessened(0.8, 1.0), lessened(0.8, 0.0)], [0.2, 0.8, 0.0]);
        assert_eq!([lessened(-0.5, 0.25), lessened(-0.5, 1.0), lessened(-0.5, 0.0)], [-0.875, -0.5, -1.0]);
        assert_eq!([lessened(0.0, 0.5), lessened(f64::INFINITY, 0.0)], [0.0, 0.0]);
        for (score, share) in [(f64::INFINITY, 0.5), (f64::NEG_INFINITY, 0.5), (1e308, 0.999), (-1e308, 1e-9)] {
            assert!(lessened(score, share) <= score);
        }
    }

    #[test]
    fn a_document_begins_with_the_best_score_of_its_hits() {
        let hits = [hit("a1", "a", 0.5), hit("b1", "b", 0.9), hit("a2", "a", 0.9), hit("d", "d", -1.0)];
        let found = seeds(&hits.iter().collect::<Vec<_>>());
        let found: Vec<(&str, f64)> = found.iter().map(|seed| (seed.id.as_str(), seed.score)).collect();
        assert_eq!(found, [("a1", 0.5), ("a", 0.9), ("b1", 0.9), ("b", 0.9), ("a2", 0.9), ("d", -1.0)]);
    }

    #[test]
    fn a_neighbor_stands_before_the_first_hit_that_scores_less() {
        let neighbors = || vec![hit("p", "p", 0.9), hit("q", "q", 0.5), hit("r", "r", 0.1)];
        let sorted = vec![hit("a", "a", 0.9), hit("b", "b", 0.5), hit("d", "d", 0.4)];
        assert_eq!(ids(&merged(sorted, neighbors(), false)), "a p b q d r");
        // Hits keep the order that diversity gave them.
        let chosen = vec![hit("a", "a", 0.95), hit("b", "b", 0.2), hit("d", "d", 0.8)];
        assert_eq!(ids(&merged(chosen, neighbors(), false)), "a p q b d r");
        let groups = vec![hit("a1", "a", 0.95), hit("a2", "a", 0.3), hit("b1", "b", 0.45), hit("b2", "b", 0.05)];
        assert_eq!(ids(&merged(groups, neighbors(), true)), "a1 a2 p q b1 b2 r");
        assert_eq!(ids(&merged(Vec::new(), neighbors(), true)), "p q r");
    }
}
