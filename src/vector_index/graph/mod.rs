//! A navigable graph over coded vectors: HNSW (Malkov and Yashunin, "Efficient and robust approximate nearest neighbor
//! search using hierarchical navigable small world graphs", IEEE TPAMI 2018).
//!
//! Every vector is a node of level 0 and has up to [`LINKS`] links there, but for those whose codes another has: links
//! among copies would lead nowhere, so the first is the node and the others are listed as its copies. One node in 16 is
//! on level 1 as well, one in 256 on level 2, and so on; there it has up to [`UPPER_LINKS`]. The nodes of the upper
//! levels are numbered by *slots*, the highest first, so that a node has one slot on all its levels, level l has the
//! first `counts[l]` slots, and slot 0 is where every search enters.
//!
//! As numbers of 32 bits, little-endian, each part from a multiple of 64 bytes:
//!
//! ```text
//! version, rows, LINKS, UPPER_LINKS, copies, levels, counts of levels 1 to 10
//! hardness                     how hard its vectors are to find: 6 factors, 6 of what is compared; float32
//! rows * LINKS                 links of level 0: positions, then NONE
//! counts[1]                    the position of each slot
//! counts[l] * UPPER_LINKS      links of level l: slots, then NONE; one part for each level
//! copies * 2                   the position of a node and that of a copy of it, ascending
//! ```

mod build;
mod copies;
mod hardness;
mod limit;
mod prune;
mod repair;
mod search;
#[cfg(test)]
mod tests;
mod threads;
mod view;
mod walk;

pub use build::{Effort, build};
pub use hardness::told_apart;
pub use limit::Slack;
pub use search::{Searcher, Sought, Walked};
pub use threads::threads;
pub use view::{Graph, GraphView};
pub use walk::Pool;

/// Links of a node on level 0. The last place is kept for repairs.
pub const LINKS: usize = 32;
/// Links of a node on each level above, and those that a new node chooses on any level.
pub const UPPER_LINKS: usize = 16;
/// Levels above level 0.
const LEVELS: usize = 10;
/// A place without a link.
const NONE: u32 = u32::MAX;
/// Numbers of 32 bits in a cache line.
const LINE: usize = 16;
/// What the parts are, and what they mean.
const VERSION: u32 = 2;
/// Nodes that can be numbered.
const ROWS: usize = 1 << 31;
