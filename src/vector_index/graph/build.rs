//! Making a graph, on several threads.
//!
//! The level of a vector comes from a hash of its position, so it is known before the first is inserted: the vectors of
//! the highest levels go first, and slot 0 is the entry from the beginning. A node is linked to by others only when it
//! has its own links on all its levels. Links are atomic numbers: one who walks reads them without a lock, and reads
//! some links of before and some of after when they change, each of which is a node; one who changes the links of a
//! node holds its lock. What threads that insert at the same time do not see of each other, `repair.rs` mends.
//!
//! For ip, too, the links are those of the greatest products, though a product is no distance: the graph leads to long
//! vectors and from there to others (Morozov and Babenko, "Non-metric similarity graphs for maximum inner product
//! search", NeurIPS 2018). By measurement it finds as much as for cosine; one that links by angle, or by the distance
//! of vectors made equally long by one more component, does not.

use std::num::NonZero;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::vector_index::choose::Hardness;
use crate::vector_index::codes::{CodesView, Typical};
use crate::vector_index::graph::copies::copies;
use crate::vector_index::graph::hardness::{self, SAMPLE};
use crate::vector_index::graph::prune::Prune;
use crate::vector_index::graph::repair;
use crate::vector_index::graph::threads::portions;
use crate::vector_index::graph::view::{Graph, Layout};
use crate::vector_index::graph::walk::{Adjacency, Scored, Scratch};
use crate::vector_index::graph::{LEVELS, LINKS, NONE, ROWS, UPPER_LINKS};
use crate::vector_index::query::Probe;

/// Nodes that are inserted before other threads join in.
const ALONE: usize = 512;

/// How much is spent on a graph.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Candidates among which a node's links are chosen; the paper's efConstruction.
    pub candidates: usize,
    /// Threads that build.
    pub threads: NonZero<usize>,
}

/// A graph over all vectors of `codes`, which are like `typical`.
///
/// `progress` is told, from any of the threads, how many nodes are in; when it says no, the error is `Cancelled`.
pub fn build(
    codes: &CodesView<'_>,
    typical: Typical,
    effort: Effort,
    progress: &(dyn Fn(usize) -> bool + Sync),
) -> Result<Graph> {
    let (building, hardness) = grown(codes, typical, effort, progress)?;
    repair::repair(&building, effort.threads, progress)?;
    building.finish(hardness)
}

/// A graph that has every node, and was not repaired.
pub(super) fn grown<'a>(
    codes: &'a CodesView<'a>,
    typical: Typical,
    effort: Effort,
    progress: &(dyn Fn(usize) -> bool + Sync),
) -> Result<(Building<'a>, Hardness)> {
    if codes.rows() > ROWS {
        let message = format!("{} vectors are too many for one graph, which has up to {ROWS}", codes.rows());
        return Err(Error::new(ErrorKind::Limit, message));
    }
    let building = Building::new(codes, effort.candidates.max(UPPER_LINKS))?;
    let done = AtomicUsize::new(0);
    let insert = |from: usize, to: usize, worker: &mut Worker| -> Result<()> {
        for place in from..to {
            building.insert(place, worker)?;
        }
        let inserted = done.fetch_add(to - from, Ordering::Relaxed) + to - from;
        if progress(inserted) { Ok(()) } else { Err(cancelled()) }
    };
    let rows = building.order.len();
    let known = rows.saturating_sub(SAMPLE);
    portions(0..known.min(ALONE), NonZero::<usize>::MIN, Worker::new, &insert)?;
    portions(known.min(ALONE)..known, effort.threads, Worker::new, &insert)?;
    let go_on = || progress(done.load(Ordering::Relaxed));
    let hardness = hardness::measure(&building, typical, building.order.split_at(known), effort.threads, &go_on)?;
    portions(known..rows, effort.threads, Worker::new, &insert)?;
    Ok((building, hardness))
}

pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "building a vector index was stopped")
}

/// SplitMix64 (Steele et al., OOPSLA 2014), one step.
fn hash(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Each level has one in 16 of the nodes of the level below, by four bits of the hash.
fn level(position: u32) -> usize {
    (hash(u64::from(position)).trailing_zeros() as usize / 4).min(LEVELS)
}

/// A graph that grows.
pub(super) struct Building<'a> {
    pub codes: &'a CodesView<'a>,
    pub layout: Layout,
    candidates: usize,
    /// Positions of the nodes in the order of insertion; those of upper levels first, whose places are their slots.
    pub order: Vec<u32>,
    /// Level 0 and those above.
    levels: Vec<Vec<AtomicU32>>,
    locks: Vec<Mutex<()>>,
    copies: Vec<[u32; 2]>,
}

/// What a thread that inserts has for itself.
struct Worker {
    scratch: Scratch,
    prune: Prune,
    chosen: Vec<Vec<Scored>>,
    probe: Option<Probe>,
    back: Back,
}

/// What changing the links of another node takes.
pub(super) struct Back {
    probe: Option<Probe>,
    prune: Prune,
    links: Vec<u32>,
    positions: Vec<u32>,
    scored: Vec<Scored>,
    kept: Vec<Scored>,
}

impl Back {
    fn new() -> Self {
        let (links, positions, scored, kept) = Default::default();
        Self { probe: None, prune: Prune::new(), links, positions, scored, kept }
    }
}

impl Worker {
    fn new() -> Self {
        let chosen = vec![Vec::new(); LEVELS + 1];
        Self { scratch: Scratch::default(), prune: Prune::new(), chosen, probe: None, back: Back::new() }
    }
}

/// One level of a graph that grows.
pub(super) struct Growing<'b, 'a> {
    building: &'b Building<'a>,
    level: usize,
}

impl Growing<'_, '_> {
    fn places(&self) -> usize {
        if self.level == 0 { LINKS } else { UPPER_LINKS }
    }

    /// The places of a node's links.
    fn links(&self, node: u32) -> &[AtomicU32] {
        let links = self.building.levels[self.level].get(node as usize * self.places()..);
        links.and_then(|links| links.get(..self.places())).unwrap_or_default()
    }

    fn set(&self, node: u32, links: &[Scored]) {
        let links = links.iter().map(|scored| scored.node()).chain(std::iter::repeat(NONE));
        self.links(node).iter().zip(links).for_each(|(place, link)| place.store(link, Ordering::Relaxed));
    }

    /// Links a node in the first free place of another; false when that has none, or had it before.
    pub(super) fn append(&self, from: u32, to: u32) -> bool {
        let _lock = self.building.lock(self, from);
        for place in self.links(from) {
            match place.load(Ordering::Relaxed) {
                NONE => {
                    place.store(to, Ordering::Relaxed);
                    return true;
                }
                link if link == to => return false,
                _ => {}
            }
        }
        false
    }
}

impl Adjacency for Growing<'_, '_> {
    fn nodes(&self) -> usize {
        self.building.levels[self.level].len() / self.places()
    }

    fn neighbors(&self, node: u32, out: &mut Vec<u32>) -> Result<()> {
        let links = self.links(node).iter().map(|place| place.load(Ordering::Relaxed));
        out.extend(links.take_while(|&link| link != NONE));
        Ok(())
    }

    fn position(&self, node: u32) -> Result<u32> {
        Ok(if self.level == 0 { node } else { self.building.order[node as usize] })
    }
}

impl<'a> Building<'a> {
    fn new(codes: &'a CodesView<'a>, candidates: usize) -> Result<Self> {
        let rows = codes.rows();
        let copies = copies(codes)?;
        let mut is_node = vec![true; rows];
        copies.iter().for_each(|&[_, copy]| is_node[copy as usize] = false);
        let mut order: Vec<u32> = (0..rows as u32).filter(|&position| is_node[position as usize]).collect();
        // The highest first; within a level in the order of a hash, so that neighbours in a document do not come one
        // after the other and all parts of the space grow together.
        order
            .sort_by_cached_key(|&position| (std::cmp::Reverse(level(position)), hash(u64::from(position) ^ u64::MAX)));
        // Where there are no levels above, a search enters at position 0.
        if order.first().is_some_and(|&position| level(position) == 0) {
            order.sort_unstable();
        }
        let highest = order.first().map_or(0, |&position| level(position));
        let counts: Vec<usize> =
            (1..=highest).map(|at| order.partition_point(|&position| level(position) >= at)).collect();
        let (layout, sizes) = (Layout::of(rows, copies.len(), &counts), counts.iter().map(|count| count * UPPER_LINKS));
        let empty = |places: usize| (0..places).map(|_| AtomicU32::new(NONE)).collect();
        let levels = std::iter::once(rows * LINKS).chain(sizes).map(empty).collect();
        let locks = (0..rows).map(|_| Mutex::new(())).collect();
        Ok(Self { codes, layout, candidates, order, levels, locks, copies })
    }

    pub(super) fn growing(&self, level: usize) -> Growing<'_, 'a> {
        Growing { building: self, level }
    }

    fn lock(&self, level: &Growing<'_, '_>, node: u32) -> Option<parking_lot::MutexGuard<'_, ()>> {
        level.position(node).ok().and_then(|position| self.locks.get(position as usize)).map(Mutex::lock)
    }

    /// Where a search for the probe comes to on `level`, from the highest.
    pub(super) fn enter(&self, probe: &Probe, level: usize, scratch: &mut Scratch) -> Result<Scored> {
        let mut entry = Scored::new(probe.key_at(self.codes, self.order[0])?, 0);
        for above in (level + 1..=self.layout.levels).rev() {
            entry = scratch.descend(&self.growing(above), self.codes, probe, entry)?;
        }
        Ok(self.on(level, entry))
    }

    /// A node of the level above, or of the same above 0, as a node of `level`.
    fn on(&self, level: usize, entry: Scored) -> Scored {
        if level == 0 && self.layout.levels > 0 {
            Scored::new(entry.key(), self.order[entry.node() as usize])
        } else if level == 0 {
            Scored::new(entry.key(), self.order[0])
        } else {
            entry
        }
    }

    fn insert(&self, place: usize, worker: &mut Worker) -> Result<()> {
        let Worker { scratch, prune, chosen, probe, back } = worker;
        let position = self.order[place];
        if place == 0 {
            return Ok(());
        }
        let probe = match probe {
            Some(probe) => {
                probe.turn_to(self.codes, position)?;
                probe
            }
            none => none.insert(Probe::of_row(self.codes, position)?),
        };
        let top = level(position).min(self.layout.levels);
        let mut entry = self.enter(probe, top, scratch)?;
        for level in (0..=top).rev() {
            let growing = self.growing(level);
            scratch.walk(&growing, self.codes, probe, entry, self.candidates, &mut (), &mut || true)?;
            let position_of = |node| growing.position(node);
            prune.choose(self.codes, &position_of, &scratch.nearest, UPPER_LINKS, &mut chosen[level])?;
            if let (Some(&nearest), 1..) = (scratch.nearest.first(), level) {
                entry = self.on(level - 1, nearest);
            }
        }
        let node = |level: usize| if level == 0 { position } else { place as u32 };
        for (level, chosen) in chosen.iter().enumerate().take(top + 1) {
            self.growing(level).set(node(level), chosen);
        }
        for (level, chosen) in chosen.iter().enumerate().take(top + 1) {
            for &scored in chosen {
                self.link_back(level, scored, node(level), back)?;
            }
        }
        Ok(())
    }

    /// Links `from` to `to`, too, and chooses among its links when they are too many.
    fn link_back(&self, level: usize, from: Scored, to: u32, back: &mut Back) -> Result<()> {
        let growing = self.growing(level);
        let (key, from) = (from.key(), from.node());
        let _lock = self.lock(&growing, from);
        back.links.clear();
        growing.neighbors(from, &mut back.links)?;
        // The last place of level 0 is the repairs'.
        let most = if level == 0 { LINKS - 1 } else { UPPER_LINKS };
        if back.links.len() < most {
            if let Some(place) = growing.links(from).get(back.links.len()) {
                place.store(to, Ordering::Relaxed);
            }
            return Ok(());
        }
        let position = growing.position(from)?;
        let probe = match &mut back.probe {
            Some(probe) => {
                probe.turn_to(self.codes, position)?;
                probe
            }
            none => none.insert(Probe::of_row(self.codes, position)?),
        };
        back.positions.clear();
        for &link in &back.links {
            back.positions.push(growing.position(link)?);
        }
        let mut keys = [0.0; LINKS];
        probe.keys(self.codes, &back.positions, &mut keys[..back.positions.len()])?;
        back.scored.clear();
        back.scored.extend(back.links.iter().zip(keys).map(|(&link, key)| Scored::new(key, link)));
        back.scored.push(Scored::new(key, to));
        back.scored.sort_unstable();
        back.prune.choose(self.codes, &|node| growing.position(node), &back.scored, most, &mut back.kept)?;
        growing.set(from, &back.kept);
        Ok(())
    }

    pub(super) fn finish(self, hardness: Hardness) -> Result<Graph> {
        let mut levels = self.levels.into_iter();
        let plain = |level: Vec<AtomicU32>| level.into_iter().map(AtomicU32::into_inner).collect::<Vec<u32>>();
        let links = levels.next().map(plain).unwrap_or_default();
        let upper: Vec<Vec<u32>> = levels.map(plain).collect();
        Graph::new(&self.layout, &links, &self.order[..self.layout.counts[0]], &upper, &self.copies, hardness)
    }
}
