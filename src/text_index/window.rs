//! The best rows with any of the phrases, without looking at most of the others.
//!
//! A part is cut into windows of positions. Of each list a bound is known in each window, from the bounds of its blocks
//! (Ding and Suel, SIGIR 2011); windows are taken from the most promising on, and the rest is left when no window can hold
//! a row that is good enough (Mallia, Suel and Tonellotto, SIGIR 2024). Within a window, lists whose bounds together do
//! not reach the k-th best score cannot bring a row among the best by themselves (MaxScore: Turtle and Flood, 1995): the
//! others are summed for all rows of the window, these are asked about what is left.

use super::bm25::{self, Bounds};
use super::lists::List;
use super::postings::{Block, Postings};
use super::query::{OrHalt, Work};
use super::search::{PartSearch, Scored};
use crate::error::Result;

/// Positions of a window.
const WINDOW: usize = 4096;
/// Sums that are looked at together.
const STRIDE: usize = 16;

/// What one list adds at most in each window.
struct Maxima {
    by_window: Vec<f32>,
}

impl PartSearch<'_, '_> {
    /// Looks for the best of the rows that any list holds.
    pub(super) fn any(&mut self, lists: &mut [Scored<'_>], work: &mut Work<'_>) -> OrHalt<()> {
        let rows = self.part.rows();
        let windows = rows.div_ceil(WINDOW);
        let mut maxima = Vec::with_capacity(lists.len());
        for scored in lists.iter() {
            work.spend(scored.list.len() / 16)?;
            maxima.push(self.maxima(scored, windows)?);
        }
        let mut order: Vec<(f32, usize)> = (0..windows)
            .map(|window| (maxima.iter().map(|list| list.by_window[window]).sum(), window))
            .filter(|&(bound, _)| bound > 0.0)
            .collect();
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut sums = vec![0.0f32; WINDOW];
        let mut scratch = Block::default();
        for (bound, window) in order {
            if bound < self.top.threshold() {
                break;
            }
            let bounds: Vec<f32> = maxima.iter().map(|list| list.by_window[window]).collect();
            self.window(lists, &bounds, window, &mut sums, &mut scratch, work)?;
        }
        Ok(())
    }

    fn maxima(&self, scored: &Scored<'_>, windows: usize) -> Result<Maxima> {
        let mut by_window = vec![0.0f32; windows];
        let idf = scored.idf as f32;
        let codes = self.part.length_codes();
        let mut exact = |rows: &[u32], counts: &[u32]| {
            for (&row, &count) in rows.iter().zip(counts) {
                let bound = idf * self.bounds.of(count, codes.get(row as usize).copied().unwrap_or(0));
                if let Some(most) = by_window.get_mut(row as usize / WINDOW) {
                    *most = most.max(bound);
                }
            }
        };
        match &scored.list {
            List::Loose(loose) => exact(&loose.rows, &loose.counts),
            List::Packed(packed) => {
                let postings = &packed.postings;
                if postings.blocks() > postings.whole() {
                    let mut rest = Block::default();
                    postings.read(postings.whole(), &mut rest)?;
                    exact(rest.positions(), rest.counts());
                }
                let mut first = 0;
                for block in 0..postings.whole() {
                    let bound = idf * self.block_bounds[usize::from(postings.bound(block))];
                    let last = postings.last(block) as usize / WINDOW;
                    for most in by_window.iter_mut().take(last + 1).skip(first) {
                        *most = most.max(bound);
                    }
                    first = last;
                }
            }
        }
        Ok(Maxima { by_window })
    }

    fn window(
        &mut self,
        lists: &mut [Scored<'_>],
        bounds: &[f32],
        window: usize,
        sums: &mut [f32],
        scratch: &mut Block,
        work: &mut Work<'_>,
    ) -> OrHalt<()> {
        let base = window * WINDOW;
        let len = WINDOW.min(self.part.rows() - base);
        let sums = &mut sums[..len];
        let codes = self.part.length_codes().get(base..base + len).unwrap_or_default();
        // From the least bound to the greatest; of the first together `slack` is the most.
        let mut order: Vec<usize> = (0..lists.len()).filter(|&list| bounds[list] > 0.0).collect();
        order.sort_unstable_by(|&a, &b| bounds[a].total_cmp(&bounds[b]));
        let threshold = self.top.threshold();
        let mut slack = 0.0;
        let mut optional = 0;
        while optional < order.len() && slack + bounds[order[optional]] < threshold {
            slack += bounds[order[optional]];
            optional += 1;
        }
        let total: f32 = bounds.iter().sum();
        for &index in &order[optional..] {
            let scored = &lists[index];
            let idf = scored.idf as f32;
            let others = total - bounds[index];
            match &scored.list {
                List::Loose(loose) => {
                    let start = loose.rows.partition_point(|&row| (row as usize) < base);
                    let end = loose.rows.partition_point(|&row| (row as usize) < base + len);
                    work.spend(end - start)?;
                    add(sums, codes, base, &loose.rows[start..end], &loose.counts[start..end], idf, self.bounds);
                }
                List::Packed(packed) => {
                    let postings = packed.postings;
                    for block in postings.block_of(base as u32, 0)..postings.blocks() {
                        let is_last = block >= postings.whole() || postings.last(block) as usize >= base + len - 1;
                        if block >= postings.whole()
                            || others + idf * self.block_bounds[usize::from(postings.bound(block))] >= threshold
                        {
                            add_block(sums, codes, base, postings, block, scratch, idf, self.bounds)?;
                            work.spend(scratch.len)?;
                        }
                        if is_last {
                            break;
                        }
                    }
                }
            }
        }
        work.spend(len / STRIDE)?;
        for (stride, chunk) in sums.chunks(STRIDE).enumerate() {
            let least = (self.top.threshold() - slack).max(f32::MIN_POSITIVE);
            if !chunk.iter().fold(false, |any, &sum| any | (sum >= least)) {
                continue;
            }
            for (place, &sum) in chunk.iter().enumerate() {
                let threshold = self.top.threshold();
                if sum < (threshold - slack).max(f32::MIN_POSITIVE) {
                    continue;
                }
                let position = (base + stride * STRIDE + place) as u32;
                let Some(row) = self.may_be_found(position) else { continue };
                if self.may_be_among_the_best(lists, &order[..optional], bounds, position, sum, slack)? {
                    work.spend(lists.len())?;
                    self.score(lists, position, row)?;
                }
            }
        }
        sums.fill(0.0);
        Ok(())
    }

    /// Asks the lists that were not summed, the weightiest first, until the row is known to be too weak.
    fn may_be_among_the_best(
        &mut self,
        lists: &mut [Scored<'_>],
        optional: &[usize],
        bounds: &[f32],
        position: u32,
        sum: f32,
        slack: f32,
    ) -> Result<bool> {
        let threshold = self.top.threshold();
        let code = self.part.length_codes().get(position as usize).copied().unwrap_or(0);
        let mut bound = sum + slack;
        for &index in optional.iter().rev() {
            if bound < threshold {
                return Ok(false);
            }
            // What is left could not make the difference.
            if bounds[index] < threshold * 1e-4 {
                break;
            }
            let scored = &mut lists[index];
            bound -= bounds[index];
            let count = scored.list.count(position)?;
            if count > 0 {
                bound += scored.idf as f32 * self.bounds.of(count, code);
            }
        }
        Ok(bound >= threshold)
    }
}

#[inline]
fn add(sums: &mut [f32], codes: &[u8], base: usize, rows: &[u32], counts: &[u32], idf: f32, bounds: &Bounds) {
    for (&row, &count) in rows.iter().zip(counts) {
        let place = (row as usize).wrapping_sub(base);
        if let (Some(sum), Some(&code)) = (sums.get_mut(place), codes.get(place)) {
            *sum += idf * bounds.of(count, code);
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn add_block(
    sums: &mut [f32],
    codes: &[u8],
    base: usize,
    postings: Postings<'_>,
    block: usize,
    scratch: &mut Block,
    idf: f32,
    bounds: &Bounds,
) -> Result<()> {
    postings.read(block, scratch)?;
    add(sums, codes, base, scratch.positions(), scratch.counts(), idf, bounds);
    Ok(())
}

/// The bound of each byte that a block may have for one.
pub(super) fn block_bounds(written: f64, average: f64) -> [f32; 256] {
    let mut bounds = [0.0; 256];
    for (code, bound) in (0..=u8::MAX).zip(&mut bounds) {
        *bound = bm25::block_bound(code, written, average);
    }
    bounds
}
