mod expand;
mod expression;
mod hits;
mod keyword;
mod plan;
mod rank;
mod select;
mod vector;
mod window;

use std::sync::Arc;

use rusqlite::Connection;

use self::expand::Around;
pub use self::hits::Reading;
use self::plan::Plan;
pub use self::plan::scan_of;
use self::rank::Ranking;
pub use self::rank::{Ranked, Ranker, fuse, interrupted};
use self::select::Candidate;
pub use self::vector::{check_query, nearest, ranked};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{Hit, Hits, Marker, Timestamp};
use crate::request::{Fusion, Mode, Search};
use crate::sqlite::marker::QueryMarker;
use crate::sqlite::pulse::Pulse;
use crate::sqlite::readers::Readers;
use crate::sqlite::tables::collections::{self, CollectionRow};

/// What one snapshot says.
struct Found {
    candidates: Vec<Candidate>,
    neighbors: Vec<Hit>,
    ranking: Ranking,
    marker: Option<Arc<dyn Marker>>,
}

pub fn run(readers: &Readers, request: &Search, pulse: &Arc<Pulse>) -> Result<Hits> {
    check(request)?;
    let name: Arc<str> = Arc::from(request.collection.as_str());
    let mut plan = Plan::new(request.explain);
    let Found { mut candidates, mut neighbors, mut ranking, marker } = readers.read_while(pulse, |conn| {
        let collection = collections::require(conn, &request.collection)?;
        let ranker = Ranker::new(conn, readers, pulse, &collection, request.filter.as_ref(), request.accuracy)?;
        let (mut ranking, mut candidates) = select::candidates(&ranker, request, &mut plan)?;
        pulse.spare(|| plan.timed("read", pulse, |_| read(conn, request, &name, &mut candidates, ranker.now)))?;
        let mut neighbors = Vec::new();
        if let Some(expand) = &request.expand
            && request.rerank.is_none()
        {
            let around = Around { conn, collection: &collection, pulse, now: ranker.now };
            neighbors = around.neighbors(request, expand, &candidates, &mut plan, &mut ranking.complete)?;
        }
        let marker = request.mode.text().map(|(text, syntax)| marker(&collection, text, syntax)).transpose()?;
        Ok(Found { candidates, neighbors, ranking, marker })
    })?;
    if let Some(rerank) = &request.rerank {
        // The caller's function may take its time: no snapshot waits for it.
        let query = request.mode.text().map_or("", |(text, _)| text);
        plan.timed("rerank", pulse, |_| select::rerank(&mut candidates, rerank, query, request.min_score))?;
        candidates = select::select(candidates, request, &mut plan, pulse, &mut ranking.complete)?;
        if let Some(expand) = &request.expand {
            neighbors = readers.read_while(pulse, |conn| {
                // What is gone by now has no neighbors.
                let Some(collection) = collections::find(conn, &request.collection)? else { return Ok(Vec::new()) };
                let around = Around { conn, collection: &collection, pulse, now: Timestamp::now() };
                around.neighbors(request, expand, &candidates, &mut plan, &mut ranking.complete)
            })?;
        }
    }
    pulse.check()?;
    let hits = candidates.into_iter().filter_map(widened).collect();
    Ok(Hits {
        hits: expand::merged(hits, neighbors, request.group_size.is_some()),
        exact: ranking.exact,
        complete: ranking.complete,
        took: pulse.elapsed(),
        plan: plan.finish(request, &ranking),
        keyword: ranking.keyword,
        markers: marker.map(|marker| (name, marker)).into_iter().collect(),
    })
}

/// The rows of the candidates, and around them what their texts are widened to in the end.
fn read(
    conn: &Connection,
    request: &Search,
    name: &Arc<str>,
    candidates: &mut [Candidate],
    now: Timestamp,
) -> Result<()> {
    let mut hits = Reading::new(conn, request.include)?;
    for candidate in candidates {
        candidate.hit = Some(hits.read(candidate.ranked, name)?);
        if let Some(around) = request.window
            && request.include.text
        {
            candidate.passage = window::passage(conn, candidate.ranked.chunk_id, around, now)?;
        }
    }
    Ok(())
}

fn widened(candidate: Candidate) -> Option<Hit> {
    let mut hit = candidate.hit?;
    if let Some(passage) = candidate.passage {
        (hit.text, hit.chars) = (Some(passage.text), passage.chars);
    }
    Some(hit)
}

/// Marks the words of a query as the tokenizer of a collection sees them.
pub fn marker(collection: &CollectionRow, text: &str, syntax: crate::request::Syntax) -> Result<Arc<dyn Marker>> {
    let spec = collection.spec()?;
    Ok(Arc::new(QueryMarker::new(spec, syntax, text)))
}

fn check(request: &Search) -> Result<()> {
    check_k(request.k)?;
    let refused = |message: String| Err(Error::new(ErrorKind::Argument, message));
    if let Some(lambda) = request.mmr
        && !(0.0..=1.0).contains(&lambda)
    {
        return refused(format!("mmr is {lambda}; it is a weight from 0 (diversity) to 1 (relevance)"));
    }
    if let Some(score) = request.min_score
        && score.is_nan()
    {
        return refused("min_score is NaN; give a number".into());
    }
    if let Some(size) = request.group_size
        && !(1..=limits::WINDOW).contains(&size)
    {
        return refused(format!("group_size is {size}; it is from 1 to {}", limits::WINDOW));
    }
    if let Some(expand) = &request.expand {
        expand::check(expand)?;
    }
    if let Some((before, after)) = request.window
        && before.max(after) > limits::WINDOW as u64
    {
        return refused(format!("window is ({before}, {after}); each side is at most {}", limits::WINDOW));
    }
    let least = request.k.saturating_mul(request.group_size.unwrap_or(1));
    if (request.mmr.is_some() || request.rerank.is_some()) && least > limits::K {
        return refused(format!(
            "k times group_size is {least}; mmr and rerank choose from at most {} hits",
            limits::K
        ));
    }
    if let Some(fetch_k) = request.fetch_k
        && !(least..=limits::K).contains(&fetch_k)
    {
        let times = if request.group_size.is_some() { "k times group_size" } else { "k" };
        return refused(format!("fetch_k is {fetch_k}; it is from {times}, {least}, to {}", limits::K));
    }
    if request.rerank.is_some() && request.mode.text().is_none() {
        return refused("rerank takes a query text, and the search has only a vector; give text too".into());
    }
    if request.rerank.is_some() && !request.include.text {
        return refused("rerank takes texts, and include leaves them out; include \"text\"".into());
    }
    if let Mode::Hybrid { fusion, .. } = &request.mode {
        check_fusion(fusion)?;
    }
    Ok(())
}

/// Refuses a number of hits that is not given.
pub fn check_k(k: usize) -> Result<()> {
    match k {
        0 => Err(Error::new(ErrorKind::Argument, "k is 0; ask for at least one hit")),
        k if k > limits::K => {
            Err(Error::new(ErrorKind::Limit, format!("k is {k}; at most {} hits are given at once", limits::K)))
        }
        _ => Ok(()),
    }
}

/// Refuses weights that weigh nothing.
pub fn check_fusion(fusion: &Fusion) -> Result<()> {
    let (Fusion::ReciprocalRank { weights, .. } | Fusion::Weighted { weights }) = fusion;
    if weights.iter().all(|weight| (0.0..=limits::WEIGHT).contains(weight)) && weights.iter().sum::<f64>() > 0.0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Argument,
        format!(
            "weights are {} for vector and {} for keyword; they are from 0 to {}, and not both 0",
            weights[0],
            weights[1],
            limits::WEIGHT
        ),
    ))
}
