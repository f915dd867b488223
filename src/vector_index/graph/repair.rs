//! Every vector is found: a new graph does not lead to all of them.
//!
//! First each vector is searched for. Where a search does not end at it, it is linked to from where it ends. Then all
//! that can be reached is walked over, and what is left is linked to from what can be. One place of each node is free
//! for that.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::error::Result;
use crate::vector_index::graph::build::{Building, cancelled};
use crate::vector_index::graph::threads::portions;
use crate::vector_index::graph::walk::{Adjacency, Scratch};
use crate::vector_index::query::Probe;

/// Nodes that a vector's own search keeps: fewer than any search for a caller does.
const WIDTH: usize = 24;
/// Times that what was not found is searched for again.
const ROUNDS: usize = 3;

/// Makes every vector reachable, and found by its own search.
pub(super) fn repair(
    building: &Building<'_>,
    threads: NonZero<usize>,
    progress: &(dyn Fn(usize) -> bool + Sync),
) -> Result<()> {
    let rows = building.order.len();
    let go_on = || if progress(rows) { Ok(()) } else { Err(cancelled()) };
    let mut lost = building.order.clone();
    for _ in 0..ROUNDS {
        let (not_found, linked) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        portions(0..lost.len(), threads, Scratch::default, &|from, to, scratch: &mut Scratch| {
            for &position in &lost[from..to] {
                if !found(building, position, scratch)? {
                    not_found.lock().push(position);
                    linked.fetch_add(usize::from(link(building, position, scratch)), Ordering::Relaxed);
                }
            }
            go_on()
        })?;
        lost = not_found.into_inner();
        if lost.is_empty() || linked.into_inner() == 0 {
            break;
        }
    }
    reach(building, &go_on)
}

/// Searches for a vector; `scratch` has where it ended. Gives the key that the vector itself has there.
fn look(building: &Building<'_>, position: u32, width: usize, scratch: &mut Scratch) -> Result<f32> {
    let codes = building.codes;
    let probe = Probe::of_row(codes, position)?;
    let entry = building.enter(&probe, 0, scratch)?;
    scratch.walk(&building.growing(0), codes, &probe, entry, width, &mut (), &mut || true)?;
    probe.key_at(codes, position)
}

/// Whether the search for a vector finds it, or so many that are as near that it need not.
fn found(building: &Building<'_>, position: u32, scratch: &mut Scratch) -> Result<bool> {
    let own = look(building, position, WIDTH, scratch)?;
    let others = scratch.nearest.len() == WIDTH && scratch.nearest.last().is_some_and(|last| last.key() <= own);
    Ok(others || scratch.nearest.iter().any(|scored| scored.node() == position))
}

/// Links to the vector from the nearest that was found and has a place.
fn link(building: &Building<'_>, position: u32, scratch: &Scratch) -> bool {
    let level = building.growing(0);
    scratch.nearest.iter().any(|scored| scored.node() != position && level.append(scored.node(), position))
}

/// Links to what the entry of level 0 does not lead to.
pub(super) fn reach(building: &Building<'_>, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
    let Some(&entry) = building.order.first() else { return Ok(()) };
    let mut reached = vec![false; building.codes.rows()];
    spread(building, entry, &mut reached)?;
    let mut scratch = Scratch::default();
    for &position in &building.order {
        if reached[position as usize] {
            continue;
        }
        go_on()?;
        let (mut width, mut linked) = (WIDTH, false);
        while !linked && width < 4 * building.order.len() {
            look(building, position, width, &mut scratch)?;
            linked = link(building, position, &scratch);
            width *= 4;
        }
        spread(building, position, &mut reached)?;
    }
    Ok(())
}

/// Marks all that a node of level 0 leads to.
fn spread(building: &Building<'_>, from: u32, reached: &mut [bool]) -> Result<()> {
    let level = building.growing(0);
    let (mut next, mut links) = (vec![from], Vec::new());
    reached[from as usize] = true;
    while let Some(node) = next.pop() {
        links.clear();
        level.neighbors(node, &mut links)?;
        for &link in &links {
            if !std::mem::replace(&mut reached[link as usize], true) {
                next.push(link);
            }
        }
    }
    Ok(())
}
