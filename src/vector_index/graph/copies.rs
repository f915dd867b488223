//! Vectors that have the same codes.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::Result;
use crate::vector_index::codes::CodesView;

/// Each vector whose codes an earlier one has: the earliest, and itself; ascending.
pub(super) fn copies(codes: &CodesView<'_>) -> Result<Vec<[u32; 2]>> {
    let same = |position: u32| {
        let (scale, length) = codes.scale_and_length(position);
        codes.row(position).map(|row| (row, scale.to_bits(), length.to_bits()))
    };
    let mut hashed = Vec::with_capacity(codes.rows());
    for position in 0..codes.rows() as u32 {
        let mut hasher = DefaultHasher::new();
        same(position)?.hash(&mut hasher);
        hashed.push((hasher.finish(), position));
    }
    hashed.sort_unstable();
    let mut copies = Vec::new();
    for run in hashed.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        let first = same(run[0].1)?;
        for &(_, position) in &run[1..] {
            // Others of the same hash stay nodes.
            if same(position)? == first {
                copies.push([run[0].1, position]);
            }
        }
    }
    copies.sort_unstable();
    Ok(copies)
}
