//! From the ranking to the hits: how deep to rank, and which of the ranked to give.

use std::collections::HashMap;

use rusqlite::params;
use serde_json::json;

use super::plan::Plan;
use super::rank::{Ranked, Ranker, Ranking, interrupted};
use super::window::Passage;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::mmr;
use crate::model::{Hit, Metric};
use crate::request::{Mode, Rerank, Search};
use crate::sqlite::pulse::Pulse;
use crate::sqlite::sql;
use crate::sqlite::tables::spaces;
use crate::sqlite::tables::vectors::Reader;
use crate::vector_index::Query;

/// One that may become a hit.
pub struct Candidate {
    pub ranked: Ranked,
    /// The rowid of its document, where hits are grouped.
    document: Option<i64>,
    /// Its vector with the metric of the space, where diversity asks for it and it has one.
    vector: Option<(Vec<f32>, Metric)>,
    pub hit: Option<Hit>,
    /// What the text of the hit is widened to.
    pub passage: Option<Passage>,
}

impl Candidate {
    /// Of a row that is not read yet.
    pub fn new(ranked: Ranked) -> Self {
        Self { ranked, document: None, vector: None, hit: None, passage: None }
    }

    fn score(&self) -> f64 {
        self.hit.as_ref().map_or(self.ranked.score, |hit| hit.score)
    }
}

/// The hits before they are read; where they are to be reranked, all among which the hits are.
pub fn candidates(ranker: &Ranker<'_>, request: &Search, plan: &mut Plan) -> Result<(Ranking, Vec<Candidate>)> {
    let pulse = ranker.pulse;
    let (mut ranking, mut candidates) = match request.group_size {
        Some(size) => of_documents(ranker, request, size)?,
        None => {
            let ranking = ranker.rank(&request.mode, pool(request))?;
            let candidates = of(&ranking, request);
            (ranking, candidates)
        }
    };
    if request.mmr.is_some() {
        pulse.spare(|| read_vectors(ranker, request.mode.space(), &mut candidates))?;
    }
    if request.rerank.is_none() {
        candidates = select(candidates, request, plan, pulse, &mut ranking.complete)?;
    }
    Ok((ranking, candidates))
}

/// Whether hits are chosen from more than the k best.
fn chooses(request: &Search) -> bool {
    request.mmr.is_some() || request.rerank.is_some()
}

/// The hits that are given, or chosen from.
fn pool(request: &Search) -> usize {
    if !chooses(request) {
        return request.k;
    }
    let least = request.k.saturating_mul(request.group_size.unwrap_or(1));
    request.fetch_k.unwrap_or((5 * request.k).max(limits::FETCH).max(least)).min(limits::K)
}

fn of(ranking: &Ranking, request: &Search) -> Vec<Candidate> {
    let wanted =
        |ranked: &&Ranked| request.rerank.is_some() || request.min_score.is_none_or(|least| ranked.score >= least);
    ranking.ranked.iter().filter(wanted).copied().map(Candidate::new).collect()
}

/// Ranks deeper until the candidates hold what is asked of documents.
fn of_documents(ranker: &Ranker<'_>, request: &Search, size: usize) -> Result<(Ranking, Vec<Candidate>)> {
    let pulse = ranker.pulse;
    let pool = pool(request);
    let mut depth = pool;
    let mut before: Option<(Ranking, Vec<Candidate>)> = None;
    loop {
        let ranking = ranker.in_time(ranker.rank(&request.mode, depth))?;
        let (mut ranking, mut candidates) = match (ranking, before) {
            // Less deep, but the best of all.
            (Some(Ranking { complete: false, .. }) | None, Some((mut ranking, candidates))) => {
                ranking.complete = false;
                return Ok((ranking, candidates));
            }
            (Some(ranking), _) => {
                let candidates = of(&ranking, request);
                (ranking, candidates)
            }
            (None, None) => return Err(interrupted()),
        };
        // What the least score left out is better than all that more depth would find, but for fused scores.
        let least = candidates.len() < ranking.ranked.len() && !matches!(request.mode, Mode::Hybrid { .. });
        let enough = pulse.spare(|| {
            read_documents(ranker, &mut candidates)?;
            if chooses(request) {
                candidates = shared(std::mem::take(&mut candidates), pool, pool / request.k);
                return Ok(candidates.len() == pool);
            }
            enough(ranker, &candidates, request.k, size)
        })?;
        if enough || ranking.exhausted || !ranking.complete || least {
            return Ok((ranking, candidates));
        }
        if depth >= limits::GROUP_DEPTH {
            ranking.complete = false;
            return Ok((ranking, candidates));
        }
        depth = (4 * depth).min(limits::GROUP_DEPTH);
        before = Some((ranking, candidates));
    }
}

fn read_documents(ranker: &Ranker<'_>, candidates: &mut [Candidate]) -> Result<()> {
    for candidate in candidates {
        let document = "SELECT document_id FROM chunks WHERE id = ?1";
        let id = candidate.ranked.chunk_id;
        candidate.document = sql::query_optional(ranker.conn, document, [id], |row| row.get(0))?;
    }
    Ok(())
}

/// The first `pool` with at most `share` of one document: `pool / share` documents at least, where there are so many.
fn shared(candidates: Vec<Candidate>, pool: usize, share: usize) -> Vec<Candidate> {
    let mut counts: HashMap<i64, usize> = HashMap::new();
    let within = |candidate: &Candidate| {
        let count = counts.entry(candidate.document.unwrap_or_default()).or_default();
        *count += 1;
        *count <= share
    };
    candidates.into_iter().filter(within).take(pool).collect()
}

/// Whether the candidates hold `k` documents, and of each of the first `k` as many chunks as are wanted or as it has.
fn enough(ranker: &Ranker<'_>, candidates: &[Candidate], k: usize, size: usize) -> Result<bool> {
    let mut counts: HashMap<i64, usize> = HashMap::new();
    let mut documents = Vec::new();
    for document in candidates.iter().filter_map(|candidate| candidate.document) {
        let count = counts.entry(document).or_default();
        *count += 1;
        if *count == 1 && documents.len() < k {
            documents.push(document);
        }
    }
    if documents.len() < k {
        return Ok(false);
    }
    for document in documents {
        let found = counts.get(&document).copied().unwrap_or_default();
        if found < size {
            let count = "SELECT count(*) FROM (SELECT 1 FROM chunks WHERE document_id = ?1
                         AND (expires_at IS NULL OR expires_at > ?3) LIMIT ?2)";
            let has: usize =
                sql::query_one(ranker.conn, count, params![document, size, ranker.now.0], |row| row.get(0))?;
            if found < has {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn read_vectors(ranker: &Ranker<'_>, space: &str, candidates: &mut [Candidate]) -> Result<()> {
    let Some(table) = spaces::require(ranker.conn, ranker.collection.id, space)?.table() else { return Ok(()) };
    let mut reader = Reader::new(ranker.conn, table);
    for candidate in candidates {
        let mut vector = vec![0.0; table.dimension];
        if reader.read(candidate.ranked.chunk_id, &mut vector)? {
            candidate.vector = Some((vector, table.metric));
        }
    }
    Ok(())
}

/// Gives the hits new scores and their order.
pub fn rerank(candidates: &mut Vec<Candidate>, rerank: &Rerank, query: &str, min_score: Option<f64>) -> Result<()> {
    let texts: Vec<&str> = candidates
        .iter()
        .map(|candidate| candidate.hit.as_ref().and_then(|hit| hit.text.as_deref()).unwrap_or_default())
        .collect();
    if texts.is_empty() {
        return Ok(());
    }
    let scores = rerank.scores(query, &texts)?;
    let refused = |what: String| {
        let given = candidates.len();
        let message =
            format!("rerank was given {given} texts and returned {what}; give one finite number for each text");
        Err(Error::new(ErrorKind::Argument, message))
    };
    if scores.len() != candidates.len() {
        return refused(format!("{} scores", scores.len()));
    }
    if let Some(place) = scores.iter().position(|score| !score.is_finite()) {
        return refused(format!("{} for text {place}", scores[place]));
    }
    for (candidate, score) in candidates.iter_mut().zip(scores) {
        if let Some(hit) = &mut candidate.hit {
            hit.score = score;
        }
    }
    candidates.retain(|candidate| min_score.is_none_or(|least| candidate.score() >= least));
    candidates.sort_by(|a, b| b.score().total_cmp(&a.score()));
    Ok(())
}

/// Those that are given, in their order.
pub fn select(
    mut candidates: Vec<Candidate>,
    request: &Search,
    plan: &mut Plan,
    pulse: &Pulse,
    complete: &mut bool,
) -> Result<Vec<Candidate>> {
    if let Some(lambda) = request.mmr {
        let wanted = if request.group_size.is_some() { candidates.len() } else { request.k };
        let among = candidates.len();
        candidates = plan.timed("mmr", pulse, |_| Ok(diverse(candidates, request, lambda, wanted, pulse)))?;
        *complete &= pulse.beats();
        plan.note("fetch", || json!({ "candidates": among }));
    }
    if let Some(size) = request.group_size {
        candidates = grouped(candidates, request.k, size);
    } else {
        candidates.truncate(request.k);
    }
    Ok(candidates)
}

/// By relevance and diversity. A vector search has both on the scale of its metric; other scores are brought to [0, 1].
fn diverse(candidates: Vec<Candidate>, request: &Search, lambda: f64, wanted: usize, pulse: &Pulse) -> Vec<Candidate> {
    let mut relevance: Vec<f64> = candidates.iter().map(Candidate::score).collect();
    if request.rerank.is_some() || !matches!(request.mode, Mode::Vector { .. }) {
        let low = relevance.iter().copied().fold(f64::INFINITY, f64::min);
        let high = relevance.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for score in &mut relevance {
            *score = if high > low { (*score - low) / (high - low) } else { 1.0 };
        }
    }
    let similarity = |a: usize, b: usize| match (&candidates[a].vector, &candidates[b].vector) {
        (Some((a, metric)), Some((b, _))) => metric.score(f64::from(Query::new(a, *metric).distance(b))),
        // Nothing is known of their likeness.
        _ => 0.0,
    };
    let order = mmr::select(&relevance, similarity, lambda, wanted, || pulse.beats());
    let mut left: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| left[place].take()).collect()
}

/// The first `k` documents, each with its first `size` chunks, together.
fn grouped(candidates: Vec<Candidate>, k: usize, size: usize) -> Vec<Candidate> {
    let mut place: HashMap<i64, usize> = HashMap::new();
    let mut groups: Vec<Vec<Candidate>> = Vec::new();
    for candidate in candidates {
        let Some(document) = candidate.document else { continue };
        let next = place.len();
        let group = *place.entry(document).or_insert(next);
        if group == groups.len() {
            groups.push(Vec::new());
        }
        if group < k && groups[group].len() < size {
            groups[group].push(candidate);
        }
    }
    groups.into_iter().take(k).flatten().collect()
}
