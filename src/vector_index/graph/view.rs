//! The graph as bytes, and the same read in place.

use crate::error::Result;
use crate::vector_index::aligned::Aligned;
use crate::vector_index::choose::{Hardness, RECALLS};
use crate::vector_index::graph::walk::Adjacency;
use crate::vector_index::graph::{LEVELS, LINE, LINKS, NONE, ROWS, UPPER_LINKS, VERSION};
use crate::vector_index::kernels::prefetch;
use crate::vector_index::section::{Section, damaged, numbers};

/// Where the parts of a graph begin, in numbers of 32 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub rows: usize,
    /// Levels above level 0.
    pub levels: usize,
    /// Nodes of levels 1, 2, ...
    pub counts: [usize; LEVELS],
    /// Vectors that are copies of nodes.
    pub copies: usize,
}

impl Layout {
    const HARDNESS_AT: usize = LINE;
    const LINKS_AT: usize = 2 * LINE;

    /// From the numbers of nodes on each level, the lowest first.
    pub(super) fn new(rows: usize, copies: usize, upper: &[usize]) -> Result<Self> {
        let falling = upper.is_sorted_by(|a, b| a >= b) && upper.first().is_none_or(|&first| first <= rows);
        if rows > ROWS || copies > rows || upper.len() > LEVELS || !falling || upper.contains(&0) {
            return Err(damaged("the levels of its graph are none"));
        }
        Ok(Self::of(rows, copies, upper))
    }

    /// The same, of numbers that are known to be right.
    pub(super) fn of(rows: usize, copies: usize, upper: &[usize]) -> Self {
        let mut counts = [0; LEVELS];
        counts.iter_mut().zip(upper).for_each(|(place, &count)| *place = count);
        Self { rows, levels: upper.len(), counts, copies }
    }

    fn slots_at(&self) -> usize {
        Self::LINKS_AT + self.rows * LINKS
    }

    fn upper_at(&self, level: usize) -> usize {
        let first = self.slots_at() + self.counts[0].next_multiple_of(LINE);
        first + self.counts[..level - 1].iter().map(|count| count * UPPER_LINKS).sum::<usize>()
    }

    fn copies_at(&self) -> usize {
        self.upper_at(self.levels + 1)
    }

    /// All of it.
    pub(super) fn size(&self) -> usize {
        self.copies_at() + 2 * self.copies
    }
}

/// A graph on the heap.
pub struct Graph {
    bytes: Aligned,
}

impl Graph {
    /// From its layout and its parts: the links of level 0, the positions of the slots, the links of each level,
    /// copies; and how hard its vectors are to find.
    pub(super) fn new(
        layout: &Layout,
        links: &[u32],
        slots: &[u32],
        upper: &[Vec<u32>],
        copies: &[[u32; 2]],
        hardness: Hardness,
    ) -> Result<Self> {
        let mut bytes = Aligned::new(0, layout.size() * size_of::<u32>());
        let words: &mut [u32] = bytemuck::try_cast_slice_mut(bytes.as_mut_slice())
            .map_err(|error| crate::error::Error::internal(format!("a graph cannot be laid out: {error}")))?;
        let header = [layout.rows, LINKS, UPPER_LINKS, layout.copies, layout.levels].into_iter().chain(layout.counts);
        words[0] = VERSION;
        words[1..].iter_mut().zip(header).for_each(|(word, number)| *word = number as u32);
        let hardness = hardness.factor.into_iter().chain(hardness.compared).map(f32::to_bits);
        words[Layout::HARDNESS_AT..].iter_mut().zip(hardness).for_each(|(word, number)| *word = number);
        words[Layout::LINKS_AT..][..links.len()].copy_from_slice(links);
        words[layout.slots_at()..][..slots.len()].copy_from_slice(slots);
        for (level, links) in upper.iter().enumerate() {
            words[layout.upper_at(level + 1)..][..links.len()].copy_from_slice(links);
        }
        words[layout.copies_at()..].copy_from_slice(copies.as_flattened());
        Ok(Self { bytes })
    }

    /// The bytes, to be written to a file and given to [`GraphView::open`].
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

/// A graph, read in place. Every link is checked when it is followed.
#[derive(Clone, Copy)]
pub struct GraphView<'a> {
    section: Section<'a>,
    words: &'a [u32],
    layout: Layout,
    hardness: Hardness,
}

impl<'a> GraphView<'a> {
    /// Of `rows` vectors.
    pub fn open(section: Section<'a>, rows: usize) -> Result<Self> {
        let header: &[u32] = numbers(section.get(0..Layout::LINKS_AT * size_of::<u32>())?)?;
        let words: &[u32] = numbers(section.unchecked())?;
        let expected = [VERSION, rows as u32, LINKS as u32, UPPER_LINKS as u32];
        let (copies, levels) = (header[4] as usize, header[5] as usize);
        if header[..4] != expected || levels > LEVELS {
            return Err(damaged("its graph is of another kind"));
        }
        let counts: Vec<usize> = header[6..6 + levels].iter().map(|&count| count as usize).collect();
        let layout = Layout::new(rows, copies, &counts)?;
        if layout.size() != words.len() {
            return Err(damaged("its graph has a wrong size"));
        }
        let (factor, compared) = header[Layout::HARDNESS_AT..].split_at(RECALLS);
        let number = |words: &[u32], place: usize| f32::from_bits(words[place]);
        let hardness = Hardness {
            factor: std::array::from_fn(|place| number(factor, place)),
            compared: std::array::from_fn(|place| number(compared, place)),
        };
        let sound = |numbers: [f32; RECALLS]| numbers.into_iter().all(|number| number > 0.0);
        if !sound(hardness.factor) || !sound(hardness.compared) {
            return Err(damaged("how hard its vectors are to find is no number"));
        }
        Ok(Self { section, words, layout, hardness })
    }

    /// How hard its vectors are to find.
    pub fn hardness(&self) -> &Hardness {
        &self.hardness
    }

    /// How many vectors it has.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// All copies, each after its node.
    pub(super) fn copies(&self) -> Result<Copies<'a>> {
        let all = self.numbers(self.layout.copies_at(), 2 * self.layout.copies)?;
        Ok(Copies(all.as_chunks().0))
    }

    /// Levels above level 0.
    pub(super) fn levels(&self) -> usize {
        self.layout.levels
    }

    /// The links of one level.
    pub(super) fn level(&self, level: usize) -> Level<'_, 'a> {
        let (start, places, nodes) = match level {
            0 => (Layout::LINKS_AT, LINKS, self.layout.rows),
            _ => (self.layout.upper_at(level), UPPER_LINKS, self.layout.counts[level - 1]),
        };
        Level { graph: self, start, places, nodes, upper: level > 0 }
    }

    fn numbers(&self, start: usize, count: usize) -> Result<&'a [u32]> {
        let found = self.words.get(start..start + count).ok_or_else(|| damaged("its graph has fewer nodes"))?;
        if count > 0 {
            self.section.check(start * size_of::<u32>()..(start + count) * size_of::<u32>())?;
        }
        Ok(found)
    }
}

/// Nodes and their copies, ascending.
pub(super) struct Copies<'a>(&'a [[u32; 2]]);

impl Copies<'_> {
    /// The copies of a node.
    pub(super) fn of(&self, node: u32) -> impl Iterator<Item = u32> {
        let start = self.0.partition_point(|copy| copy[0] < node);
        self.0[start..].iter().take_while(move |copy| copy[0] == node).map(|copy| copy[1])
    }
}

/// One level of a graph.
pub(super) struct Level<'g, 'a> {
    graph: &'g GraphView<'a>,
    start: usize,
    places: usize,
    nodes: usize,
    upper: bool,
}

impl Adjacency for Level<'_, '_> {
    fn nodes(&self) -> usize {
        self.nodes
    }

    #[inline]
    fn neighbors(&self, node: u32, out: &mut Vec<u32>) -> Result<()> {
        if node as usize >= self.nodes {
            return Err(damaged("its graph links to a node that it does not have"));
        }
        let links = self.graph.numbers(self.start + node as usize * self.places, self.places)?;
        out.extend(links.iter().take_while(|&&link| link != NONE));
        Ok(())
    }

    #[inline]
    fn position(&self, node: u32) -> Result<u32> {
        if !self.upper {
            return Ok(node);
        }
        if node as usize >= self.nodes {
            return Err(damaged("its graph links to a slot that it does not have"));
        }
        let position = self.graph.numbers(self.graph.layout.slots_at() + node as usize, 1)?[0];
        if position as usize >= self.graph.layout.rows {
            return Err(damaged("its graph links to a vector that it does not have"));
        }
        Ok(position)
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        let start = self.start + node as usize * self.places;
        if let Some(links) = self.graph.words.get(start..start + self.places) {
            prefetch(links);
        }
    }
}
