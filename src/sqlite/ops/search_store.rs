use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::Connection;

use super::search::{Ranked, Ranker, Reading, check_fusion, check_k, fuse, interrupted, marker};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{Hit, Hits, Leg, Marker};
use crate::request::{Accuracy, Include, Mode, SearchStore};
use crate::sqlite::pulse::Pulse;
use crate::sqlite::readers::Readers;
use crate::sqlite::tables::collections::{self, CollectionRow};
use crate::sqlite::tables::spaces::{self, SpaceRow};

pub fn run(readers: &Readers, request: &SearchStore, pulse: &Arc<Pulse>) -> Result<Hits> {
    check_k(request.k)?;
    let (hits, outcome, markers) = readers.read_while(pulse, |conn| {
        let collections = match &request.collections {
            Some(names) => distinct(names).map(|name| collections::require(conn, name)).collect::<Result<_>>()?,
            None => collections::list(conn)?,
        };
        let all: Vec<Ranker<'_>> = collections
            .iter()
            .map(|collection| {
                Ranker::new(conn, readers, pulse, collection, request.filter.as_ref(), Accuracy::default())
            })
            .collect::<Result<_>>()?;
        let (ranked, outcome) = rank(&all, request)?;
        if ranked.is_empty() && !outcome.complete {
            return Err(interrupted());
        }
        let (hits, markers) = pulse.spare(|| read(conn, request, &collections, ranked))?;
        Ok((hits, outcome, markers))
    })?;
    pulse.check()?;
    let Outcome { complete, exact } = outcome;
    Ok(Hits { hits, exact, complete, took: pulse.elapsed(), keyword: None, plan: None, markers })
}

/// Each name once.
fn distinct(names: &[String]) -> impl Iterator<Item = &String> {
    let mut seen = HashSet::new();
    names.iter().filter(move |name| seen.insert(name.as_str()))
}

type Markers = HashMap<Arc<str>, Arc<dyn Marker>>;

fn read(
    conn: &Connection,
    request: &SearchStore,
    collections: &[CollectionRow],
    ranked: Vec<Placed>,
) -> Result<(Vec<Hit>, Markers)> {
    let mut markers = Markers::new();
    let mut hits = Vec::with_capacity(ranked.len());
    let mut reading = Reading::new(conn, Include::default())?;
    for Placed { ranked, collection } in ranked {
        let collection = &collections[collection];
        let name: Arc<str> = Arc::from(collection.name.as_str());
        hits.push(reading.read(ranked, &name)?);
        if let Some((text, syntax)) = request.mode.text()
            && !markers.contains_key(&name)
        {
            markers.insert(name, marker(collection, text, syntax)?);
        }
    }
    Ok((hits, markers))
}

/// How much of the answer may be relied on.
#[derive(Clone, Copy)]
struct Outcome {
    complete: bool,
    exact: bool,
}

/// A candidate and the place of its collection.
#[derive(Clone, Copy)]
struct Placed {
    ranked: Ranked,
    collection: usize,
}

fn rank(all: &[Ranker<'_>], request: &SearchStore) -> Result<(Vec<Placed>, Outcome)> {
    let k = request.k;
    match &request.mode {
        Mode::Vector { vector, space, .. } => near(all, vector, space, k),
        Mode::Keyword { text, .. } => found(all, request, text, k),
        Mode::Hybrid { text, vector, space, fusion, candidates } => {
            check_fusion(fusion)?;
            let depth = candidates.unwrap_or(limits::CANDIDATES).max(k);
            let (near, mut outcome) = near(all, vector, space, depth)?;
            let (found, Outcome { complete, .. }) = found(all, request, text, depth)?;
            outcome.complete &= complete;
            // Rowids are unique in the store.
            let place: HashMap<i64, usize> =
                near.iter().chain(&found).map(|placed| (placed.ranked.chunk_id, placed.collection)).collect();
            let [near, found] = [near, found].map(|leg| leg.iter().map(|placed| placed.ranked).collect::<Vec<_>>());
            let placed = |ranked: Ranked| Placed { ranked, collection: place[&ranked.chunk_id] };
            Ok((fuse([&near, &found], *fusion, k).into_iter().map(placed).collect(), outcome))
        }
    }
}

/// Merged by distance. A collection without embeddings has nothing to give.
fn near(all: &[Ranker<'_>], vector: &[f32], space: &str, k: usize) -> Result<(Vec<Placed>, Outcome)> {
    let mut first: Option<(&CollectionRow, SpaceRow)> = None;
    let mut merged = Vec::new();
    let mut outcome = Outcome { complete: true, exact: true };
    for (place, ranker) in all.iter().enumerate() {
        let Some(own) = space_of(ranker.conn, ranker.collection, space)? else { continue };
        if own.dimension.is_none() {
            continue;
        }
        if let Some((collection, other)) = &first
            && (other.dimension, other.metric) != (own.dimension, own.metric)
        {
            let told = |collection: &CollectionRow, space: &SpaceRow| {
                format!("{:?} ({} components, {})", collection.name, space.dimension.unwrap_or_default(), space.metric)
            };
            return Err(Error::new(
                ErrorKind::DimensionMismatch,
                format!(
                    "collections {} and {} cannot be ranked by one vector; name those that can in collections=",
                    told(collection, other),
                    told(ranker.collection, &own)
                ),
            ));
        }
        let leg = ranker.near(vector, space, k)?;
        outcome.complete &= leg.complete;
        outcome.exact &= leg.exact;
        merged.extend(leg.ranked.into_iter().map(|ranked| Placed { ranked, collection: place }));
        first.get_or_insert((ranker.collection, own));
    }
    let distance = |placed: &Placed| placed.ranked.distance.unwrap_or(f64::INFINITY);
    merged.sort_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.ranked.chunk_id.cmp(&b.ranked.chunk_id)));
    merged.truncate(k);
    for (place, placed) in merged.iter_mut().enumerate() {
        placed.ranked.rank = place as u32 + 1;
        placed.ranked.vector = Some(Leg { rank: placed.ranked.rank, score: placed.ranked.score });
    }
    Ok((merged, outcome))
}

fn space_of(conn: &Connection, collection: &CollectionRow, name: &str) -> Result<Option<SpaceRow>> {
    Ok(spaces::list(conn, collection.id)?.into_iter().find(|space| space.name == name))
}

/// Merged by rank. The score is 1 / rank, that of the leg BM25.
fn found(all: &[Ranker<'_>], request: &SearchStore, text: &str, k: usize) -> Result<(Vec<Placed>, Outcome)> {
    let syntax = request.mode.text().map_or(crate::request::Syntax::Natural, |(_, syntax)| syntax);
    let mut merged = Vec::new();
    let mut complete = true;
    for (place, ranker) in all.iter().enumerate() {
        let leg = ranker.in_time(ranker.found(text, syntax, k))?.unwrap_or_default();
        complete &= leg.complete;
        merged.extend(leg.ranked.into_iter().map(|ranked| Placed { ranked, collection: place }));
    }
    merged.sort_by_key(|placed| (placed.ranked.rank, placed.ranked.chunk_id));
    merged.truncate(k);
    for (place, placed) in merged.iter_mut().enumerate() {
        placed.ranked.score = 1.0 / f64::from(placed.ranked.rank);
        placed.ranked.rank = place as u32 + 1;
    }
    Ok((merged, Outcome { complete, exact: true }))
}
