//! Which way a search goes, and how hard it tries.
//!
//! The figures were measured (docs/adr/0016): widths at 59,000 embeddings of real texts, where the graph finds less
//! than among as many generated vectors, and what it costs to compare a vector on each way.

/// What a caller wants of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Only what is proved to be the nearest.
    pub exact: bool,
    /// Else, the share of the nearest that is to be found on average, below 1.
    pub recall: f64,
}

/// The way of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// Over all codes of the selection.
    Scan,
    /// Over the graph, keeping `width` nodes.
    Graph { width: usize },
}

/// The way of a search, and how many candidates it rescores; without a number, as many as a proof takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub road: Road,
    pub rescored: Option<usize>,
}

/// Vectors from which on a graph is worth its time to build and its memory: a scan takes a third of a millisecond.
pub const GRAPH_ROWS: usize = 1 << 15;

/// Recall, and the width that reaches it: so many nodes, and so many more for each neighbour wanted.
const WIDTHS: [(f64, f64, f64); 6] =
    [(0.9, 6.0, 1.0), (0.95, 14.0, 1.0), (0.98, 40.0, 1.4), (0.99, 70.0, 1.8), (0.995, 92.0, 2.9), (0.999, 300.0, 6.0)];
/// Vectors of the measurement. Each time there are twice as many, widths grow by `GROWTH` of themselves.
const MEASURED_ROWS: f64 = 59_000.0;
const GROWTH: f64 = 0.1;

/// The time of comparing one vector of a walk, and one of a scan far from the last, by one of a scan in order.
const WALKED: f64 = 5.0;
const APART: f64 = 2.2;

/// The nodes that a walk over all of `rows` vectors keeps to find `k` at a recall; none where no width is sure to.
fn width(rows: usize, k: usize, recall: f64) -> Option<usize> {
    let above = WIDTHS.iter().position(|&(reached, ..)| recall <= reached)?;
    let (high, base, each) = WIDTHS[above];
    let at_high = base + each * k as f64;
    // Between two of the table by the logarithm of what is missed.
    let nodes = match above.checked_sub(1).map(|below| WIDTHS[below]) {
        Some((low, base, each)) if recall > low => {
            let at_low = base + each * k as f64;
            let part = ((1.0 - low) / (1.0 - recall)).ln() / ((1.0 - low) / (1.0 - high)).ln();
            at_low + part * (at_high - at_low)
        }
        _ => at_high,
    };
    let doublings = (rows as f64 / MEASURED_ROWS).log2().max(0.0);
    Some((nodes * (1.0 + GROWTH * doublings)).ceil() as usize)
}

/// Vectors that a walk of some width compares.
fn compared(width: usize) -> f64 {
    200.0 + 9.0 * width as f64
}

/// The plan of a search for `k` among `live` of `rows` vectors, which have a graph or not.
pub fn plan(rows: usize, live: usize, k: usize, setting: Setting, graph: bool) -> Plan {
    let scan = Plan { road: Road::Scan, rescored: None };
    if setting.exact || live == 0 {
        return scan;
    }
    // A proof takes few more than k, unless float32 itself can hardly tell the vectors apart.
    let scan = Plan { rescored: Some((10 * k).max(1_000)), ..scan };
    let Some(width) = width(rows, k, setting.recall).filter(|_| graph) else { return scan };
    // So many that the part of them that is in the selection is as wide as is needed.
    let width = (width as f64 * rows as f64 / live as f64).ceil();
    let scanned = (APART * live as f64).min(rows as f64);
    if WALKED * compared(width as usize) >= scanned {
        return scan;
    }
    Plan { road: Road::Graph { width: width as usize }, rescored: Some(k + k / 2 + 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn road(rows: usize, live: usize, k: usize, recall: f64) -> Road {
        plan(rows, live, k, Setting { exact: false, recall }, true).road
    }

    #[test]
    fn widths_are_those_of_the_table_and_grow() {
        assert_eq!(road(59_000, 59_000, 10, 0.99), Road::Graph { width: 88 });
        assert_eq!(road(59_000, 59_000, 100, 0.99), Road::Graph { width: 250 });
        assert_eq!(road(118_000, 118_000, 10, 0.99), Road::Graph { width: 97 });
        assert_eq!(road(118_000, 59_000, 10, 0.99), Road::Graph { width: 194 });
        let widths: Vec<usize> =
            (0..=99).filter_map(|part| width(100_000, 10, 0.9 + 0.001 * f64::from(part))).collect();
        assert_eq!(widths.len(), 100);
        assert!(widths.is_sorted() && widths[0] < widths[50]);
        assert_eq!(width(59_000, 10, 0.1), width(59_000, 10, 0.9));
    }

    #[test]
    fn what_a_graph_cannot_promise_is_scanned() {
        assert_eq!(road(59_000, 59_000, 10, 0.9999), Road::Scan);
        assert_eq!(road(59_000, 59_000, 10, 1.0), Road::Scan);
        assert_eq!(road(59_000, 59_000, 10, f64::NAN), Road::Scan);
        let exact = Setting { exact: true, recall: 0.9 };
        assert_eq!(plan(1 << 20, 1 << 20, 10, exact, true), Plan { road: Road::Scan, rescored: None });
        assert_eq!(plan(1 << 20, 1 << 20, 10, Setting { exact: false, recall: 0.9 }, false).road, Road::Scan);
    }

    #[test]
    fn few_are_scanned_and_many_are_not() {
        assert_eq!(road(100_000, 0, 10, 0.99), Road::Scan);
        assert_eq!(road(100_000, 1_000, 10, 0.99), Road::Scan);
        assert_ne!(road(100_000, 50_000, 10, 0.99), Road::Scan);
        assert_eq!(road(2_000, 2_000, 10, 0.99), Road::Scan);
        assert_ne!(road(GRAPH_ROWS, GRAPH_ROWS, 10, 0.99), Road::Scan);
        assert_eq!(road(50_000, 50_000, 4096, 0.99), Road::Scan);
    }
}
