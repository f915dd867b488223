//! One ranking of a collection: a leg, or two that are fused.

use std::cell::OnceCell;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use super::vector::Way;
use super::{keyword, vector};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::fusion;
use crate::limits;
use crate::model::{KeywordPlan, Leg, Timestamp};
use crate::request::{Accuracy, Fusion, Mode, Syntax};
use crate::sqlite::derived::TextView;
use crate::sqlite::failpoints::{Site, reach};
use crate::sqlite::pulse::Pulse;
use crate::sqlite::readers::Readers;
use crate::sqlite::row_set::RowSet;
use crate::sqlite::tables::collections::CollectionRow;
use crate::sqlite::tables::expiry;
use crate::sqlite::tables::vectors::Rows;

/// A candidate before its row is read.
#[derive(Debug, Clone, Copy)]
pub struct Ranked {
    pub chunk_id: i64,
    /// From 1.
    pub rank: u32,
    pub score: f64,
    pub distance: Option<f64>,
    pub vector: Option<Leg>,
    pub keyword: Option<Leg>,
}

/// The best of a collection, best first, and how they were found.
pub struct Ranking {
    pub ranked: Vec<Ranked>,
    /// False where a timeout cut it short.
    pub complete: bool,
    /// Nothing is left to rank: more depth would find no more.
    pub exhausted: bool,
    pub keyword: Option<KeywordPlan>,
    /// Chunks that match the filter, and the time to find them.
    pub filter: Option<(u64, Duration)>,
    pub near: Option<LegPlan>,
    pub found: Option<LegPlan>,
    /// Both legs ran at the same time.
    pub concurrent: bool,
    /// The legs are the true best of the collection.
    pub exact: bool,
}

/// How one leg went.
#[derive(Debug, Clone, Copy)]
pub struct LegPlan {
    pub candidates: usize,
    pub took: Duration,
    /// Where there was something to look at; of the leg of words, an index alone.
    pub way: Option<Way>,
}

/// Ranks one collection in one snapshot, at any depth.
pub struct Ranker<'a> {
    pub conn: &'a Connection,
    pub pulse: &'a Arc<Pulse>,
    pub collection: &'a CollectionRow,
    readers: &'a Readers,
    filter: Option<&'a Filter>,
    accuracy: Accuracy,
    /// What the filter lets through, found once.
    allowed: OnceCell<(Arc<RowSet>, Duration)>,
    /// The moment that decides what has expired.
    pub now: Timestamp,
    /// What has, if anything.
    expired: Option<RowSet>,
}

impl<'a> Ranker<'a> {
    pub fn new(
        conn: &'a Connection,
        readers: &'a Readers,
        pulse: &'a Arc<Pulse>,
        collection: &'a CollectionRow,
        filter: Option<&'a Filter>,
        accuracy: Accuracy,
    ) -> Result<Self> {
        let now = Timestamp::now();
        let expired = expiry::chunks(conn, collection.id, now)?;
        Ok(Self { conn, pulse, collection, readers, filter, accuracy, allowed: OnceCell::new(), now, expired })
    }

    /// The `depth` best.
    pub fn rank(&self, mode: &Mode, depth: usize) -> Result<Ranking> {
        match mode {
            Mode::Vector { vector, space, .. } => {
                let leg = self.near(vector, space, depth)?;
                if leg.ranked.is_empty() && !leg.complete {
                    return Err(interrupted());
                }
                Ok(Ranking { exhausted: leg.ranked.len() < depth, complete: leg.complete, ..self.of(Some(leg), None) })
            }
            Mode::Keyword { text, syntax, .. } => {
                let leg = self.found(text, *syntax, depth)?;
                self.pulse.check()?;
                if leg.ranked.is_empty() && !leg.complete {
                    return Err(interrupted());
                }
                Ok(Ranking { exhausted: leg.ranked.len() < depth, complete: leg.complete, ..self.of(None, Some(leg)) })
            }
            Mode::Hybrid { text, vector, space, fusion, candidates } => {
                let each = candidates.unwrap_or(limits::CANDIDATES).max(depth);
                let (near, found, concurrent) = self.both(text, vector, space, each)?;
                let exhausted = near.ranked.len() < each && found.ranked.len() < each;
                let complete = near.complete && found.complete;
                let ranked = fuse([&near.ranked, &found.ranked], *fusion, depth);
                Ok(Ranking { ranked, exhausted, complete, concurrent, ..self.of(Some(near), Some(found)) })
            }
        }
    }

    /// The leg of distance.
    pub fn near(&self, vector: &[f32], space: &str, depth: usize) -> Result<vector::VectorLeg> {
        let rows = self.rows()?;
        let leg = {
            let reader = (self.conn, &self.readers.derived);
            vector::rank(reader, self.pulse, self.collection, (vector, space), depth, (rows, self.accuracy))?
        };
        self.pulse.check()?;
        Ok(leg)
    }

    /// The leg of words.
    pub fn found(&self, text: &str, syntax: Syntax, depth: usize) -> Result<keyword::KeywordLeg> {
        reach(Site::Search);
        let index = self.texts(syntax)?;
        keyword::rank(self.conn, self.pulse, self.collection, text, syntax, depth, self.among(index.as_ref())?)
    }

    /// The index of words, where it is of use.
    fn texts(&self, syntax: Syntax) -> Result<Option<TextView>> {
        if syntax == Syntax::Fts5 { Ok(None) } else { self.readers.derived.texts(self.conn, self.collection) }
    }

    /// Both legs on one snapshot, at the same time where a second connection is free.
    fn both(
        &self,
        text: &str,
        vector: &[f32],
        space: &str,
        depth: usize,
    ) -> Result<(vector::VectorLeg, keyword::KeywordLeg, bool)> {
        let (near, found, concurrent) = match self.readers.beside(self.conn, self.pulse)? {
            Some(beside) => {
                let collection = self.collection;
                let pulse = self.pulse;
                let index = self.texts(Syntax::Natural)?;
                let among = self.among(index.as_ref())?;
                thread::scope(|scope| -> Result<_> {
                    // It does not count as inside SQLite for a fork, which waits for the calling thread anyway.
                    let words =
                        thread::Builder::new().name("ragstore keyword".into()).spawn_scoped(scope, move || {
                            reach(Site::Keywords);
                            keyword::rank(beside.conn()?, pulse, collection, text, Syntax::Natural, depth, among)
                        })?;
                    let near = self.near(vector, space, depth);
                    let found = words.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    Ok((near, found, true))
                })?
            }
            None => (self.near(vector, space, depth), self.found(text, Syntax::Natural, depth), false),
        };
        let (near, found) = (self.in_time(near)?, self.in_time(found)?);
        if found.is_none() && near.as_ref().is_none_or(|leg| leg.ranked.is_empty() && !leg.complete) {
            return Err(interrupted());
        }
        Ok((near.unwrap_or_default(), found.unwrap_or_default(), concurrent))
    }

    /// What the timeout cut has nothing to give; another leg or an earlier ranking may.
    pub fn in_time<T>(&self, leg: Result<T>) -> Result<Option<T>> {
        match leg {
            Err(error) if error.kind() == ErrorKind::Cancelled && self.pulse.late() => Ok(None),
            leg => leg.map(Some),
        }
    }

    /// What is asked of a chunk beside its words.
    fn among<'i>(&'i self, index: Option<&'i TextView>) -> Result<keyword::Among<'i>> {
        // A set of rows is of no use to FTS5, and may cost more than asking of each row that holds the words.
        let index = index.map(|index| Ok::<_, Error>((index, self.rows()?))).transpose()?;
        Ok(keyword::Among { index, filter: self.filter, alive_at: self.expired.as_ref().map(|_| self.now) })
    }

    /// The rows that may be found.
    fn rows(&self) -> Result<Rows<'_>> {
        Ok(match (self.allowed()?, &self.expired) {
            (Some(allowed), _) => Rows::Only(allowed),
            (None, Some(expired)) => Rows::Without(expired),
            (None, None) => Rows::All,
        })
    }

    fn allowed(&self) -> Result<Option<&RowSet>> {
        let Some(filter) = self.filter else { return Ok(None) };
        if self.allowed.get().is_none() {
            let began = self.pulse.elapsed();
            let mut rows = self.readers.row_sets.chunks(self.conn, self.collection.id, filter)?;
            if let Some(expired) = &self.expired {
                rows = Arc::new(rows.difference(expired));
            }
            let _ = self.allowed.set((rows, self.pulse.elapsed().saturating_sub(began)));
        }
        Ok(self.allowed.get().map(|(rows, _)| &**rows))
    }

    fn of(&self, near: Option<vector::VectorLeg>, found: Option<keyword::KeywordLeg>) -> Ranking {
        let plan = |candidates: usize, took, way| LegPlan { candidates, took, way };
        let index = |leg: &keyword::KeywordLeg| leg.index.map(Way::Index);
        let exact = near.as_ref().is_none_or(|leg| leg.exact);
        let near_plan = near.as_ref().map(|leg| plan(leg.ranked.len(), leg.took, leg.way));
        let found_plan = found.as_ref().map(|leg| plan(leg.ranked.len(), leg.took, index(leg)));
        let (found, keyword) = found.map(|leg| (leg.ranked, leg.plan)).unzip();
        Ranking {
            ranked: near.map(|leg| leg.ranked).or(found).unwrap_or_default(),
            complete: true,
            exhausted: false,
            keyword,
            filter: self.allowed.get().map(|(rows, took)| (rows.len(), *took)),
            near: near_plan,
            found: found_plan,
            concurrent: false,
            exact,
        }
    }
}

/// What SQLite says when a statement is interrupted; the pulse knows why.
pub fn interrupted() -> Error {
    Error::new(ErrorKind::Cancelled, "interrupted")
}

/// One ranking of two: by vector, by keyword.
pub fn fuse(legs: [&[Ranked]; 2], fusion: Fusion, k: usize) -> Vec<Ranked> {
    let keys = legs.map(|leg| leg.iter().map(|ranked| ranked.chunk_id).collect::<Vec<_>>());
    let lists = [keys[0].as_slice(), keys[1].as_slice()];
    let fused = match fusion {
        Fusion::ReciprocalRank { k, weights } => fusion::reciprocal_rank(lists, k, weights),
        Fusion::Weighted { weights } => {
            let scores = legs.map(|leg| leg.iter().map(|ranked| ranked.score).collect::<Vec<_>>());
            fusion::weighted(lists, [&scores[0], &scores[1]], weights)
        }
    };
    let ranked = |(place, fused): (usize, fusion::Fused)| {
        let [vector, keyword] = [0, 1].map(|leg: usize| fused.places[leg].map(|place| &legs[leg][place]));
        Ranked {
            chunk_id: fused.key,
            rank: place as u32 + 1,
            score: fused.score,
            distance: vector.and_then(|ranked| ranked.distance),
            vector: vector.and_then(|ranked| ranked.vector),
            keyword: keyword.and_then(|ranked| ranked.keyword),
        }
    };
    fused.into_iter().take(k).enumerate().map(ranked).collect()
}
