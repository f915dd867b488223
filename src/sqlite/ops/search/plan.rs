//! How the answers of a search were found, for those who ask.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::rank::Ranking;
use super::vector::Way;
use crate::error::Result;
use crate::request::{Fusion, Mode, Search};
use crate::sqlite::derived::Followed;
use crate::sqlite::pulse::Pulse;
use crate::sqlite::tables::vectors::Road;

/// Grows with the search; nothing is written down unless someone asked.
pub struct Plan(Option<Map<String, Value>>);

impl Plan {
    pub fn new(wanted: bool) -> Self {
        Self(wanted.then(Map::new))
    }

    /// Notes a stage.
    pub fn note(&mut self, stage: &str, what: impl FnOnce() -> Value) {
        if let Some(map) = &mut self.0 {
            map.insert(stage.to_owned(), what());
        }
    }

    /// Runs a stage and notes its milliseconds.
    pub fn timed<T>(&mut self, stage: &str, pulse: &Pulse, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let began = pulse.elapsed();
        let result = run(self)?;
        let took = pulse.elapsed().saturating_sub(began);
        self.note(stage, || json!({ "ms": millis(took) }));
        Ok(result)
    }

    /// The whole of it, the question first.
    pub fn finish(self, request: &Search, ranking: &Ranking) -> Option<Map<String, Value>> {
        let stages = self.0?;
        let mut map = Map::new();
        map.insert("mode".into(), request.mode.as_str().into());
        map.insert("k".into(), request.k.into());
        map.insert("candidates".into(), ranking.ranked.len().into());
        if let Some((chunks, took)) = ranking.filter {
            map.insert("filter".into(), json!({ "chunks": chunks, "ms": millis(took) }));
        }
        if let Some(leg) = &ranking.near {
            let scan = scan_of(leg.way);
            let mut note = json!({ "candidates": leg.candidates, "scan": scan, "ms": millis(leg.took) });
            if let Some(Way::Index(followed)) = leg.way {
                note["index"] = index(&followed);
            }
            map.insert("vector".into(), note);
        }
        if let (Some(leg), Some(asked)) = (&ranking.found, &ranking.keyword) {
            let mut note = json!({
                "candidates": leg.candidates,
                "expression": asked.expression,
                "dropped": asked.dropped,
                "ms": millis(leg.took),
            });
            if let Some(Way::Index(followed)) = leg.way {
                note["index"] = index(&followed);
            }
            map.insert("keyword".into(), note);
        }
        if let Mode::Hybrid { fusion, .. } = &request.mode {
            let (method, [vector, keyword]) = match fusion {
                Fusion::ReciprocalRank { weights, .. } => ("rrf", weights),
                Fusion::Weighted { weights } => ("weighted", weights),
            };
            let mut note = json!({
                "method": method,
                "weights": { "vector": vector, "keyword": keyword },
                "concurrent": ranking.concurrent,
            });
            if let Fusion::ReciprocalRank { k, .. } = fusion {
                note["rrf_k"] = (*k).into();
            }
            map.insert("fusion".into(), note);
        }
        map.extend(stages);
        Some(map)
    }
}

/// How vectors were gone through.
pub fn scan_of(way: Option<Way>) -> &'static str {
    match way {
        Some(Way::Table(Road::Rows)) => "rows",
        Some(Way::Table(Road::Blocks)) => "blocks",
        Some(Way::Index(followed)) => followed.road,
        None => "none",
    }
}

/// As of which change a snapshot is, and what else there was to look at.
fn index(followed: &Followed) -> Value {
    json!({
        "change": followed.change,
        "rows": followed.snapshot_rows,
        "tail": followed.tail_rows,
        "dead": followed.dead_rows,
        "compared": followed.compared,
        "rescored": followed.rescored,
    })
}

/// As plans tell them.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
