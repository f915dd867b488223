use std::sync::Arc;
use std::time::Instant;

use super::search::{check_k, nearest, scan_of};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Metric, RecallReport};
use crate::request::{Accuracy, CheckRecall};
use crate::sqlite::neighbor::Neighbor;
use crate::sqlite::pulse::Pulse;
use crate::sqlite::readers::Readers;
use crate::sqlite::tables::vectors::{self, Reader, Rows};
use crate::sqlite::tables::{collections, spaces};

/// Searches whose true answers come from the tables: an index that lacks rows agrees with itself.
const FROM_TABLE: usize = 4;

/// Searches as any other, in one snapshot: stored vectors, drawn at random, are asked for their neighbours, themselves
/// left out.
pub fn run(readers: &Readers, request: &CheckRecall, pulse: &Arc<Pulse>) -> Result<RecallReport> {
    check_k(request.k)?;
    if request.sample == 0 {
        return Err(Error::new(ErrorKind::Argument, "sample is 0; ask for at least one vector"));
    }
    readers.read_while(pulse, |conn| {
        let collection = collections::require(conn, &request.collection)?;
        let space = spaces::require(conn, collection.id, &request.space)?;
        let none = || {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "space {:?} of collection {:?} has fewer than two embeddings; add some",
                    space.name, collection.name
                ),
            )
        };
        let table = space.table().ok_or_else(none)?;
        let rows = vectors::sample(conn, table, request.sample)?;
        let reader = (conn, &readers.derived);
        let ask = |vector: &[f32], accuracy| -> Result<_> {
            let began = Instant::now();
            let found = nearest(reader, pulse, (collection.id, table), &[vector], request.k + 1, Rows::All, accuracy)?;
            if !found.complete {
                return Err(interrupted());
            }
            let millis = began.elapsed().as_secs_f64() * 1e3;
            Ok((found.neighbors.into_iter().next().unwrap_or_default(), millis, scan_of(Some(found.way))))
        };
        let (mut shares, mut times, mut exact_times, mut scan) = (Vec::new(), Vec::new(), Vec::new(), "none");
        let mut blobs = Reader::new(conn, table);
        for row in rows {
            let mut vector = vec![0.0; table.dimension];
            // A sum of products has no nearest to itself, but every other metric has.
            if !blobs.read(row, &mut vector)? || (table.metric == Metric::Cosine && vector.iter().all(|x| *x == 0.0)) {
                continue;
            }
            let accuracy = Accuracy { exact: false, recall: request.recall };
            let (given, millis, way) = ask(&vector, accuracy)?;
            let (mut truth, exact_millis, _) = ask(&vector, Accuracy::EXACT)?;
            if shares.len() < FROM_TABLE {
                let found = vectors::search(conn, table, &[&vector], request.k + 1, Rows::All, &|| pulse.beats())?;
                truth = found.neighbors.into_iter().next().filter(|_| found.complete).ok_or_else(interrupted)?;
            }
            if let Some(share) = share(row, &given, &truth, request.k) {
                shares.push(share);
                times.push(millis);
                exact_times.push(exact_millis);
                scan = way;
            }
        }
        let sample = shares.len();
        let recall = mean(&shares).ok_or_else(none)?;
        Ok(RecallReport {
            recall,
            interval: interval(&shares, recall),
            sample,
            k: request.k,
            millis: median(&mut times),
            exact_millis: median(&mut exact_times),
            scan,
        })
    })
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Cancelled, "interrupted")
}

/// The share of the true neighbours of a row among those given. What is as near as the last of them is as good.
fn share(row: i64, given: &[Neighbor], truth: &[Neighbor], k: usize) -> Option<f64> {
    let others = |found: &[Neighbor]| -> Vec<f32> {
        found.iter().filter(|neighbor| neighbor.chunk_id != row).take(k).map(|neighbor| neighbor.distance).collect()
    };
    let (given, truth) = (others(given), others(truth));
    let last = truth.last()?;
    Some(given.iter().filter(|distance| *distance <= last).count() as f64 / truth.len() as f64)
}

fn mean(shares: &[f64]) -> Option<f64> {
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Wilson's interval. The hits of one query stand and fall together, so they count as so many independent ones as have
/// their variance; where none varies, each query counts as one.
fn interval(shares: &[f64], recall: f64) -> (f64, f64) {
    const Z: f64 = 1.96;
    let queries = shares.len() as f64;
    let variance =
        shares.iter().map(|share| (share - recall).powi(2)).sum::<f64>() / (queries - 1.0).max(1.0) / queries;
    let trials = if variance > 0.0 { (recall * (1.0 - recall) / variance).max(queries) } else { queries };
    let centre = recall + Z * Z / (2.0 * trials);
    let reach = Z * (recall * (1.0 - recall) / trials + Z * Z / (4.0 * trials * trials)).sqrt();
    let scale = 1.0 + Z * Z / trials;
    // Rounding must not leave the mean outside.
    (((centre - reach) / scale).clamp(0.0, recall), ((centre + reach) / scale).clamp(recall, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_mean_and_narrows_with_the_sample() {
        let all = |n: usize| interval(&vec![1.0; n], 1.0);
        assert!(all(200).0 > 0.98 && all(200).0 < 0.99 && all(200).1 > 0.9999);
        assert!(all(20).0 < all(200).0);
        let shares: Vec<f64> = (0..200).map(|i| if i % 10 == 0 { 0.9 } else { 1.0 }).collect();
        let (low, high) = interval(&shares, 0.99);
        assert!(low > 0.98 && low < 0.99 && high > 0.99 && high < 0.996, "{low} {high}");
    }

    #[test]
    fn a_tie_with_the_last_is_as_good() {
        let found = |all: &[(i64, f32)]| -> Vec<Neighbor> {
            all.iter().map(|&(chunk_id, distance)| Neighbor { chunk_id, distance }).collect()
        };
        let truth = found(&[(1, 0.0), (2, 1.0), (3, 2.0)]);
        assert_eq!(share(1, &found(&[(1, 0.0), (2, 1.0), (9, 2.0)]), &truth, 2), Some(1.0));
        assert_eq!(share(1, &found(&[(2, 1.0), (9, 3.0)]), &truth, 2), Some(0.5));
        assert_eq!(share(1, &[], &found(&[(1, 0.0)]), 2), None);
    }
}
