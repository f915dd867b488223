//! How hard the vectors of a graph are to find, measured while it is built: the last that are to be inserted are searched
//! for before they are, so that they are to the graph what a query is.
//!
//! Vectors that are in it are easier to find than any query, since the walk comes to their links.

use std::num::NonZero;

use parking_lot::Mutex;

use crate::error::Result;
use crate::vector_index::choose::{Hardness, RECALLS, Walk, given_up, recalls, walk};
use crate::vector_index::codes::{CodesView, Typical};
use crate::vector_index::graph::build::{Building, cancelled};
use crate::vector_index::graph::limit::Slackened;
use crate::vector_index::graph::threads::portions;
use crate::vector_index::graph::walk::{End, Scratch};
use crate::vector_index::query::{Probe, error_of_row};
use crate::vector_index::selection::Selection;

/// Vectors that are searched for, for so many neighbours each.
pub(super) const SAMPLE: usize = 256;
const NEIGHBORS: usize = 10;
/// Nodes below which a walk is a scan: there is nothing to measure.
const LEAST: usize = 1_024;
/// What is tried until the recall is reached.
const FACTORS: [f32; 15] = [1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 14.0, 20.0];
/// Deviations of the mean by which the recall of a sample may be below what is wanted.
const DOUBT: f64 = 1.0;

/// Whether codes tell the near from the rest, so that links by them lead somewhere: of some vectors, whether the half of
/// others that is farther is so by more than the codes' errors.
pub fn told_apart(codes: &CodesView<'_>, typical: Typical) -> Result<bool> {
    const PROBES: usize = 32;
    const OTHERS: usize = 512;
    let rows = codes.rows();
    let spread = |count: usize| (0..count.min(rows)).map(move |place| (place * rows / count.min(rows)) as u32);
    let others: Vec<u32> = spread(OTHERS).collect();
    let mut keys = vec![0.0; others.len()];
    let mut told = 0;
    for position in spread(PROBES) {
        Probe::of_row(codes, position)?.keys(codes, &others, &mut keys)?;
        let mut others = keys.clone();
        others.sort_unstable_by(f32::total_cmp);
        // Copies of one vector say nothing, and the first may be the vector itself.
        others.dedup();
        let nearest = others.get(1).copied().unwrap_or_default();
        let middle = others.get(others.len() / 2).copied().unwrap_or_default();
        told += usize::from(middle - nearest > 2.0 * error_of_row(codes, position, typical));
    }
    Ok(2 * told >= PROBES.min(rows))
}

/// The shares found of what is near, and what it took.
#[derive(Default)]
struct Sampled {
    found: f64,
    squares: f64,
    compared: f64,
    walks: f64,
}

/// Searches for `sample` among `known`, which alone are in the graph.
pub(super) fn measure(
    building: &Building<'_>,
    typical: Typical,
    (known, sample): (&[u32], &[u32]),
    threads: NonZero<usize>,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Hardness> {
    if known.len() < LEAST || sample.is_empty() {
        return Ok(Hardness::default());
    }
    let farthest = Mutex::new(vec![0.0; sample.len()]);
    portions(0..sample.len(), threads, Vec::new, &|from, to, keys: &mut Vec<f32>| {
        for (at, &position) in (from..to).zip(&sample[from..to]) {
            if !go_on() {
                return Err(cancelled());
            }
            keys.resize(known.len(), 0.0);
            Probe::of_row(building.codes, position)?.keys(building.codes, known, keys)?;
            let (_, last, _) = keys.select_nth_unstable_by(NEIGHBORS - 1, f32::total_cmp);
            farthest.lock()[at] = *last;
        }
        Ok(())
    })?;
    let farthest = farthest.into_inner();
    let mut hardness = Hardness::default();
    for (place, recall) in recalls().into_iter().enumerate() {
        hardness.compared[place] = f32::INFINITY;
        for factor in FACTORS {
            let tried = Hardness { factor: [factor; RECALLS], compared: [1.0; RECALLS] };
            let metric = building.codes.metric();
            let Some(way) = walk(metric, known.len(), 1.0, NEIGHBORS, recall, &tried) else { break };
            let Sampled { found, squares, compared, walks } =
                sampled(building, typical, (sample, &farthest), &way, threads, go_on)?;
            let (mean, of_squares) = (found / walks, squares / walks);
            let deviation = ((of_squares - mean * mean).max(0.0) / walks).sqrt();
            if mean + DOUBT * deviation >= recall {
                hardness.factor[place] = factor;
                hardness.compared[place] = (compared / walks / way.compared) as f32;
                break;
            }
        }
    }
    Ok(hardness)
}

/// Walks for each of the sample.
fn sampled(
    building: &Building<'_>,
    typical: Typical,
    (sample, farthest): (&[u32], &[f32]),
    way: &Walk,
    threads: NonZero<usize>,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Sampled> {
    let (codes, level) = (building.codes, building.growing(0));
    let everything = Selection::all(codes.rows());
    let width = way.width.ceil() as usize;
    let all = Mutex::new(Sampled::default());
    portions(0..sample.len(), threads, Scratch::default, &|from, to, scratch: &mut Scratch| {
        for (&position, &farthest) in sample[from..to].iter().zip(&farthest[from..to]) {
            if !go_on() {
                return Err(cancelled());
            }
            let probe = Probe::of_row(codes, position)?;
            let error = error_of_row(codes, position, typical);
            scratch.compared = 0;
            let entry = building.enter(&probe, 0, scratch)?;
            let slackened =
                way.slack.and_then(|slack| Slackened::new(slack, probe.metric, error, codes.rows(), &everything));
            let end = match slackened {
                Some(mut limit) => scratch.walk(&level, codes, &probe, entry, width, &mut limit, &mut || true),
                None => scratch.walk(&level, codes, &probe, entry, width, &mut (), &mut || true),
            }?;
            let mut all = all.lock();
            all.walks += 1.0;
            all.compared += scratch.compared as f64;
            let near = scratch.nearest.iter().take(NEIGHBORS);
            let share = if end == End::Full {
                // A scan follows.
                all.compared += given_up(codes.rows());
                1.0
            } else {
                near.filter(|scored| scored.key() <= farthest).count() as f64 / NEIGHBORS as f64
            };
            all.found += share;
            all.squares += share * share;
        }
        Ok(())
    })?;
    Ok(all.into_inner())
}
