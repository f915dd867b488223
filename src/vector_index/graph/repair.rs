//! Every vector is found: those that a new graph does not lead to are linked to from where a search for them ends.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::vector_index::graph::build::{Building, cancelled, portions};
use crate::vector_index::graph::walk::{Probe, Scratch};

/// Nodes that a vector's own search keeps: fewer than any search for a caller does.
const WIDTH: usize = 24;
/// Times that all are searched for. Links that repair one may not reach another; the second time finds next to none.
const ROUNDS: usize = 3;

/// Searches for each vector, and links those that are not found.
pub(super) fn repair(
    building: &Building<'_>,
    threads: NonZero<usize>,
    progress: &(dyn Fn(usize) -> bool + Sync),
) -> Result<()> {
    let rows = building.codes.rows();
    let mut lost: Vec<u32> = (0..rows as u32).collect();
    for _ in 0..ROUNDS {
        let found_none = parking_lot::Mutex::new(Vec::new());
        let linked = AtomicUsize::new(0);
        portions(0..lost.len(), threads, Scratch::default, &|from, to, scratch: &mut Scratch| {
            for &position in &lost[from..to] {
                if !found(building, position, scratch)? {
                    found_none.lock().push(position);
                    linked.fetch_add(usize::from(link(building, position, scratch)), Ordering::Relaxed);
                }
            }
            if progress(rows) { Ok(()) } else { Err(cancelled()) }
        })?;
        lost = found_none.into_inner();
        if lost.is_empty() || linked.into_inner() == 0 {
            break;
        }
    }
    Ok(())
}

/// Whether a search for the vector finds it, or one whose codes are the same.
fn found(building: &Building<'_>, position: u32, scratch: &mut Scratch) -> Result<bool> {
    let codes = building.codes;
    let probe = Probe::of_row(codes, position, building.lifts)?;
    let entry = building.enter(&probe, 0, scratch)?;
    scratch.walk(&building.growing(0), codes, &probe, entry, WIDTH, &mut || true)?;
    let own = probe.key(codes, position)?;
    // Among many copies of one vector any answer is as good.
    let copies = scratch.nearest.len() == WIDTH && scratch.nearest.last().is_some_and(|last| last.key() <= own);
    Ok(copies || scratch.nearest.iter().any(|scored| scored.node() == position))
}

/// Links the vector from the nearest that was found and has a place.
fn link(building: &Building<'_>, position: u32, scratch: &Scratch) -> bool {
    let level = building.growing(0);
    scratch.nearest.iter().any(|scored| level.append(scored.node(), position))
}
