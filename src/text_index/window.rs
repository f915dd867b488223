//! The best rows with any of the phrases, without looking at most of the others.
//!
//! A part is cut into windows of positions. Of each list a bound is known in each window, from the bounds of its blocks
//! (Ding and Suel, SIGIR 2011); windows are taken from the most promising on, and the rest is left when no window can hold
//! a row that is good enough (Mallia, Suel and Tonellotto, SIGIR 2024). Within a window, lists whose bounds together do
//! not reach the k-th best score cannot bring a row among the best by themselves (MaxScore: Turtle and Flood, 1995): the
//! others are summed for all rows of the window, these are asked about what is left.

use super::bm25;
use super::lists::List;
use super::postings::Block;
use super::query::{OrHalt, Work};
use super::search::{PartSearch, Scored};
use crate::error::Result;

/// Positions of a window.
const WINDOW: usize = 1 << 11;
/// Windows that are looked at first for their bounds: they bring the k-th best score near to what it will be. The others
/// follow in order, so that no block is read twice.
const FIRST: usize = 2;
/// Sums that are looked at together.
const STRIDE: usize = 16;
/// Postings that are summed in the time in which one is looked for.
const SEEK: usize = 8;
/// A list that adds less than this share of the k-th best score is not asked before the score itself is computed.
const NEGLIGIBLE: f32 = 1e-4;

/// A window as it is dealt with.
struct Window {
    base: usize,
    /// How many positions of it there are.
    len: usize,
    sums: Box<[f32; WINDOW]>,
    codes: Box<[u8; WINDOW]>,
    candidates: Vec<Candidate>,
}

/// The lists with a bound in a window, from the least to the greatest.
struct Order {
    lists: Vec<usize>,
    /// What the first so many add together at most.
    slacks: Vec<f32>,
    /// How many of the first are not summed.
    optional: usize,
}

impl Order {
    fn new(bounds: &[f32], threshold: f32) -> Self {
        let mut lists: Vec<usize> = (0..bounds.len()).filter(|&list| bounds[list] > 0.0).collect();
        lists.sort_unstable_by(|&a, &b| bounds[a].total_cmp(&bounds[b]));
        let mut slacks = vec![0.0];
        slacks.extend(lists.iter().scan(0.0, |sum, &list| {
            *sum += bounds[list];
            Some(*sum)
        }));
        let optional = slacks[1..].iter().take_while(|&&slack| slack < threshold).count();
        Self { lists, slacks, optional }
    }

    /// What the lists that are not summed add at most.
    fn slack(&self) -> f32 {
        self.slacks[self.optional]
    }

    /// A block whose bound is less than this brings no row to the threshold, whatever the others add.
    fn least(&self, bound: f32, threshold: f32) -> f32 {
        let total = self.slacks[self.lists.len()];
        // The sum was rounded, perhaps by more than one of the others adds.
        threshold - (total - bound + total * 1e-5)
    }
}

/// A position that may be among the best, and what it has at most from the lists that were asked.
struct Candidate {
    position: u32,
    sum: f32,
}

impl Window {
    /// How many sums are not below `least`.
    fn above(&self, least: f32) -> usize {
        let least = least.max(f32::MIN_POSITIVE);
        self.sums.iter().map(|&sum| u32::from(sum >= least)).sum::<u32>() as usize
    }
}

impl PartSearch<'_, '_> {
    /// Looks for the best of the rows that any list holds.
    pub(super) fn any(&mut self, lists: &mut [Scored<'_>], work: &mut Work<'_>) -> OrHalt<()> {
        let count = self.part.rows().div_ceil(WINDOW);
        // Of each window the bound of each list.
        let mut bounds = vec![0.0f32; count * lists.len()];
        for (index, scored) in lists.iter().enumerate() {
            work.spend(scored.list.len() / 16)?;
            self.bound(scored, |window, bound| {
                if let Some(most) = bounds.get_mut(window * lists.len() + index) {
                    *most = most.max(bound);
                }
            })?;
        }
        let mut order: Vec<(f32, usize)> =
            bounds.chunks(lists.len().max(1)).map(|of| of.iter().sum()).zip(0..).collect();
        order.retain(|&(bound, _)| bound > 0.0);
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut window = Window {
            base: 0,
            len: 0,
            sums: Box::new([0.0; WINDOW]),
            codes: Box::new([0; WINDOW]),
            candidates: Vec::new(),
        };
        if let Some(others) = order.get_mut(FIRST..) {
            others.sort_unstable_by_key(|&(_, index)| index);
        }
        for (bound, index) in order {
            if bound < self.threshold() {
                continue;
            }
            window.base = index * WINDOW;
            window.len = WINDOW.min(self.part.rows() - window.base);
            self.window(lists, &bounds[index * lists.len()..][..lists.len()], &mut window, work)?;
        }
        Ok(())
    }

    /// Gives bounds of what a list adds in windows, some of them several times.
    fn bound(&self, scored: &Scored<'_>, mut give: impl FnMut(usize, f32)) -> Result<()> {
        let idf = scored.idf as f32;
        let codes = self.part.length_codes();
        let exact = |rows: &[u32], counts: &[u32], give: &mut dyn FnMut(usize, f32)| {
            for (&row, &count) in rows.iter().zip(counts) {
                let code = codes.get(row as usize).copied().unwrap_or(0);
                give(row as usize / WINDOW, idf * self.bounds.of(count, code));
            }
        };
        match &scored.list {
            List::Loose(loose) => exact(&loose.rows, &loose.counts, &mut give),
            List::Packed(packed) => {
                let postings = &packed.postings;
                if postings.blocks() > postings.whole() {
                    let mut rest = Block::default();
                    postings.read(postings.whole(), &mut rest)?;
                    exact(rest.positions(), rest.counts(), &mut give);
                }
                let mut first = 0;
                for block in 0..postings.whole() {
                    let bound = idf * self.block_bounds[usize::from(postings.bound(block))];
                    let last = (postings.last(block) as usize).min(self.part.rows()) / WINDOW;
                    (first..=last).for_each(|window| give(window, bound));
                    first = last;
                }
            }
        }
        Ok(())
    }

    fn window(
        &mut self,
        lists: &mut [Scored<'_>],
        bounds: &[f32],
        window: &mut Window,
        work: &mut Work<'_>,
    ) -> OrHalt<()> {
        let mut threshold = self.threshold();
        let mut order = Order::new(bounds, threshold);
        if order.optional == order.lists.len() {
            return Ok(());
        }
        let codes = self.part.length_codes().get(window.base..window.base + window.len).unwrap_or_default();
        window.codes[..codes.len()].copy_from_slice(codes);
        for &index in &order.lists[order.optional..] {
            self.sum(&mut lists[index], order.least(bounds[index], threshold), window, work)?;
        }
        // The others are summed as well as long as that takes less than asking them about each position that is left.
        while order.optional > 0 {
            let index = order.lists[order.optional - 1];
            let here = lists[index].list.len() * WINDOW / self.part.rows();
            if bounds[index] < threshold * NEGLIGIBLE || window.above(threshold - order.slack()) * SEEK < here {
                break;
            }
            self.sum(&mut lists[index], order.least(bounds[index], threshold), window, work)?;
            order.optional -= 1;
        }
        work.spend(window.len / STRIDE)?;
        self.collect(window, threshold - order.slack());
        let lacking = self.top.lacking();
        if lacking > 0 && window.candidates.len() > lacking {
            // The first that come would do, but those with the greatest sums leave fewer of the others.
            window.candidates.select_nth_unstable_by(lacking - 1, |a, b| b.sum.total_cmp(&a.sum));
            for candidate in window.candidates.drain(..lacking) {
                self.score(lists, candidate.position)?;
            }
            threshold = self.threshold();
            window.candidates.retain(|candidate| candidate.sum + order.slack() >= threshold);
            window.candidates.sort_unstable_by_key(|candidate| candidate.position);
        }
        self.ask(lists, bounds, &order, window, work)?;
        // The strongest come first, so that fewer of the others are computed.
        window.candidates.sort_unstable_by(|a, b| b.sum.total_cmp(&a.sum));
        for candidate in &window.candidates {
            if candidate.sum + order.slack() < self.threshold() {
                break;
            }
            work.spend(lists.len())?;
            self.score(lists, candidate.position)?;
        }
        Ok(())
    }

    /// Asks the lists that were not summed about each candidate, the weightiest first, and drops those that are too weak.
    fn ask(
        &self,
        lists: &mut [Scored<'_>],
        bounds: &[f32],
        order: &Order,
        window: &mut Window,
        work: &mut Work<'_>,
    ) -> OrHalt<()> {
        let threshold = self.threshold();
        for place in (0..order.optional).rev() {
            let index = order.lists[place];
            if window.candidates.is_empty() || bounds[index] < threshold * NEGLIGIBLE {
                break;
            }
            work.spend(window.candidates.len())?;
            let scored = &mut lists[index];
            let idf = scored.idf as f32;
            for candidate in &mut window.candidates {
                let count = scored.list.count(candidate.position)?;
                if count > 0 {
                    let code = window.codes[candidate.position as usize % WINDOW];
                    candidate.sum += idf * self.bounds.of(count, code);
                }
            }
            window.candidates.retain(|candidate| candidate.sum + order.slacks[place] >= threshold);
        }
        Ok(())
    }

    /// Adds what a list adds in the window. A block may be left out whose bound is less than `least`.
    fn sum(&self, scored: &mut Scored<'_>, least: f32, window: &mut Window, work: &mut Work<'_>) -> OrHalt<()> {
        let idf = scored.idf as f32;
        let end = window.base + window.len;
        match &mut scored.list {
            List::Loose(loose) => {
                let first = loose.rows.partition_point(|&row| (row as usize) < window.base);
                let last = loose.rows.partition_point(|&row| (row as usize) < end);
                work.spend(last - first)?;
                for (&row, &count) in loose.rows[first..last].iter().zip(&loose.counts[first..last]) {
                    let place = row as usize % WINDOW;
                    window.sums[place] += idf * self.bounds.of(count, window.codes[place]);
                }
            }
            List::Packed(packed) => {
                let postings = packed.postings;
                for index in postings.block_of(window.base as u32, 0)..postings.blocks() {
                    let is_whole = index < postings.whole();
                    if !is_whole || idf * self.block_bounds[usize::from(postings.bound(index))] >= least {
                        let block = packed.load(index)?;
                        work.spend(block.len)?;
                        let positions = block.positions();
                        let first = positions.partition_point(|&position| (position as usize) < window.base);
                        let last = positions.partition_point(|&position| (position as usize) < end);
                        let counts = &block.counts()[first..last];
                        for (&position, &count) in positions[first..last].iter().zip(counts) {
                            let place = position as usize % WINDOW;
                            window.sums[place] += idf * self.bounds.of(count, window.codes[place]);
                        }
                    }
                    if !is_whole || postings.last(index) as usize + 1 >= end {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes the positions whose sum is not below `least` and that may be found, and clears the sums.
    fn collect(&self, window: &mut Window, least: f32) {
        let least = least.max(f32::MIN_POSITIVE);
        let is_partial = self.allowed.is_some() || self.part.dead().count() > 0;
        window.candidates.clear();
        for (stride, sums) in window.sums[..window.len.next_multiple_of(STRIDE)].chunks_exact(STRIDE).enumerate() {
            if !sums.iter().fold(false, |any, &sum| any | (sum >= least)) {
                continue;
            }
            for (place, &sum) in sums.iter().enumerate().filter(|&(_, &sum)| sum >= least) {
                let position = (window.base + stride * STRIDE + place) as u32;
                if !is_partial || self.may_be_found(position) {
                    window.candidates.push(Candidate { position, sum });
                }
            }
        }
        window.sums.fill(0.0);
    }
}

/// The bound of each byte that a block may have for one.
pub(super) fn block_bounds(written: f64, average: f64) -> [f32; 256] {
    let mut bounds = [0.0; 256];
    for (code, bound) in (0..=u8::MAX).zip(&mut bounds) {
        *bound = bm25::block_bound(code, written, average);
    }
    bounds
}
