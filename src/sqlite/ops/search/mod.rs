mod expression;
mod hits;
mod keyword;
mod vector;

use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::fusion;
use crate::limits;
use crate::model::{Hits, Leg, Marker};
use crate::request::{Mode, Search, Syntax};
use crate::sqlite::marker::QueryMarker;
use crate::sqlite::tables::collections;
use crate::sqlite::tokenizer::TokenizerSpec;

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
    let (ranked, asked, plan) = match &request.mode {
        Mode::Vector { vector, space } => {
            (vector::rank(conn, &collection, vector, space, request.k, filter)?, None, None)
        }
        Mode::Keyword { text, syntax } => {
            let found = keyword::rank(conn, &collection, text, *syntax, request.k, filter)?;
            (found.ranked, Some((text, *syntax)), Some(found.plan))
        }
        Mode::Hybrid { text, vector, space, rrf_k, candidates } => {
            let depth = candidates.unwrap_or(limits::CANDIDATES).max(request.k).min(limits::K);
            let near = vector::rank(conn, &collection, vector, space, depth, filter)?;
            let found = keyword::rank(conn, &collection, text, Syntax::Natural, depth, filter)?;
            let fused = fuse(&[near, found.ranked], *rrf_k, request.k);
            (fused, Some((text, Syntax::Natural)), Some(found.plan))
        }
    };
    let marker = match asked {
        Some((text, syntax)) => {
            let spec = TokenizerSpec::parse(&collection.tokenizer)?;
            Some(Arc::new(QueryMarker::new(spec, syntax, text)) as Arc<dyn Marker>)
        }
        None => None,
    };
    let hits = ranked.into_iter().map(|ranked| hits::read(conn, ranked)).collect::<Result<_>>()?;
    Ok(Hits { hits, exact: true, complete: true, took: began.elapsed(), keyword: plan, marker })
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
