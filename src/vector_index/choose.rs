//! Which way a search goes, and how hard it tries.
//!
//! The figures were measured (docs/adr/0016): at 59,000 embeddings of real texts, where the graph finds less than among
//! as many generated vectors, and what it costs to compare a vector on each way.

use crate::model::Metric;
use crate::vector_index::graph::Slack;

/// What a caller wants of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Only what is proved to be the nearest.
    pub exact: bool,
    /// Else, the share of the nearest that is to be found on average, below 1.
    pub recall: f64,
}

/// The way of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Road {
    /// Over all codes of the selection.
    Scan,
    /// Over the graph, keeping `width` nodes, and for distances not farther than a slack.
    Graph { width: usize, slack: Option<Slack> },
}

/// The way of a search, and how many candidates it rescores; without a number, as many as a proof takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    pub road: Road,
    pub rescored: Option<usize>,
}

/// Vectors from which on a graph is worth its time to build and its memory: a scan takes a third of a millisecond.
pub const GRAPH_ROWS: usize = 1 << 15;

/// A recall, and how far a walk goes that reaches it for [`NEIGHBORS`]: the share by which the square of a distance may
/// be above that of the last wanted, and how many vectors it then compares on average.
struct Measured {
    recall: f64,
    share: [f64; 3],
    compared: [f64; 3],
    /// The nodes it keeps: the first number, and so many more for each neighbour wanted.
    width: (f64, f64),
    /// The same without a slack, for inner products.
    width_alone: (f64, f64),
}

const NEIGHBORS: [f64; 3] = [10.0, 100.0, 1_000.0];

const fn measured(
    recall: f64,
    share: [f64; 3],
    compared: [f64; 3],
    width: (f64, f64),
    width_alone: (f64, f64),
) -> Measured {
    Measured { recall, share, compared, width, width_alone }
}

const MEASURED: [Measured; 6] = [
    measured(0.9, [0.035, 0.0, 0.0], [340.0, 1_300.0, 8_400.0], (200.0, 3.0), (6.0, 1.0)),
    measured(0.95, [0.075, 0.01, 0.0], [440.0, 1_400.0, 8_400.0], (200.0, 3.0), (14.0, 1.0)),
    measured(0.98, [0.12, 0.045, 0.005], [600.0, 1_970.0, 8_600.0], (200.0, 3.0), (40.0, 1.4)),
    measured(0.99, [0.16, 0.075, 0.023], [850.0, 2_650.0, 10_000.0], (200.0, 3.0), (70.0, 1.8)),
    measured(0.995, [0.2, 0.1, 0.045], [1_200.0, 3_350.0, 12_000.0], (400.0, 4.0), (92.0, 2.9)),
    measured(0.999, [0.3, 0.165, 0.09], [2_600.0, 5_800.0, 17_000.0], (1_000.0, 8.0), (300.0, 6.0)),
];

/// Vectors of the measurement. Each time there are twice as many, slacks and widths grow by `GROWTH` of themselves, and
/// what is compared by `MORE_COMPARED`.
const MEASURED_ROWS: f64 = 59_000.0;
const GROWTH: f64 = 0.1;
const MORE_COMPARED: f64 = 0.25;

/// The time of comparing one vector of a walk, and one of a scan far from the last, by one of a scan in order.
const WALKED: f64 = 5.0;
const APART: f64 = 2.2;

/// How a walk goes, and how many vectors it compares.
struct Walk {
    width: f64,
    slack: Option<Slack>,
    compared: f64,
}

/// A walk over `rows` vectors that finds `k` of the share that is selected, at a recall; none where none is sure to.
fn walk(metric: Metric, rows: usize, share: f64, k: usize, recall: f64) -> Option<Walk> {
    let above = MEASURED.iter().position(|measured| recall <= measured.recall)?;
    let high = &MEASURED[above];
    let low = above.checked_sub(1).map(|below| &MEASURED[below]).filter(|low| recall > low.recall);
    // Between two of the table by the logarithm of what is missed.
    let between = |of: &dyn Fn(&Measured) -> f64| match low {
        Some(low) => {
            let part = ((1.0 - low.recall) / (1.0 - recall)).ln() / ((1.0 - low.recall) / (1.0 - high.recall)).ln();
            of(low) + part * (of(high) - of(low))
        }
        None => of(high),
    };
    let doublings = (rows as f64 / MEASURED_ROWS).log2().max(0.0);
    let growth = (1.0 + GROWTH * doublings) / share;
    let width = |(base, each): (f64, f64)| (base + each * k as f64) * growth;
    if metric == Metric::Ip {
        let width = between(&|measured| width(measured.width_alone));
        return Some(Walk { width, slack: None, compared: 200.0 + 9.0 * width });
    }
    // Among so many the selected are k.
    let neighbors = k as f64 / share;
    let beyond = (neighbors / NEIGHBORS[2]).max(1.0);
    let compared = between(&|measured| at(neighbors, measured.compared.map(f64::ln)).exp());
    let slack = Slack {
        // Fewer are no easier to find.
        near: k.max(NEIGHBORS[0] as usize),
        share: (between(&|measured| at(neighbors, measured.share)) * (1.0 + GROWTH * doublings)) as f32,
    };
    Some(Walk {
        width: between(&|measured| width(measured.width)),
        slack: Some(slack),
        compared: compared * beyond * (1.0 + MORE_COMPARED * doublings),
    })
}

/// What was measured for [`NEIGHBORS`], between two of them by the logarithm.
fn at(neighbors: f64, measured: [f64; 3]) -> f64 {
    let place = (neighbors / NEIGHBORS[0]).log10().clamp(0.0, 2.0);
    let from = if place < 1.0 { 0 } else { 1 };
    measured[from] + (place - from as f64) * (measured[from + 1] - measured[from])
}

/// The plan of a search for `k` among `live` of `rows` vectors, which have a graph or not.
pub fn plan(metric: Metric, rows: usize, live: usize, k: usize, setting: Setting, graph: bool) -> Plan {
    let scan = Plan { road: Road::Scan, rescored: None };
    if setting.exact || live == 0 {
        return scan;
    }
    // A proof takes few more than k, unless float32 itself can hardly tell the vectors apart.
    let scan = Plan { rescored: Some((10 * k).max(1_000)), ..scan };
    let walk = walk(metric, rows, live as f64 / rows as f64, k, setting.recall).filter(|_| graph);
    let Some(Walk { width, slack, compared }) = walk else { return scan };
    let scanned = (APART * live as f64).min(rows as f64);
    if WALKED * compared >= scanned {
        return scan;
    }
    Plan { road: Road::Graph { width: width.ceil() as usize, slack }, rescored: Some(k + k / 2 + 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn road(rows: usize, live: usize, k: usize, recall: f64) -> Road {
        plan(Metric::Cosine, rows, live, k, Setting { exact: false, recall }, true).road
    }

    /// The way of a walk: what it keeps, what it wants, and the slack in thousandths.
    fn walked(rows: usize, live: usize, k: usize, recall: f64) -> (usize, usize, i32) {
        let Road::Graph { width, slack: Some(slack) } = road(rows, live, k, recall) else { panic!("a scan") };
        (width, slack.near, (slack.share * 1e3).round() as i32)
    }

    #[test]
    fn walks_are_those_of_the_table_and_grow() {
        assert_eq!(walked(59_000, 59_000, 10, 0.99), (230, 10, 160));
        assert_eq!(walked(59_000, 59_000, 1, 0.99), (203, 10, 160));
        assert_eq!(walked(59_000, 59_000, 100, 0.99), (500, 100, 75));
        assert_eq!(walked(118_000, 118_000, 10, 0.99), (254, 10, 176));
        // As far as to find twenty of all, and with room for more.
        assert_eq!(walked(118_000, 59_000, 10, 0.99), (507, 10, 148));
        let shares: Vec<i32> =
            (0..=99).map(|part| walked(100_000, 100_000, 10, 0.9 + 0.001 * f64::from(part)).2).collect();
        assert!(shares.is_sorted() && shares[0] < shares[50]);
        assert_eq!(road(59_000, 59_000, 10, 0.1), road(59_000, 59_000, 10, 0.9));
    }

    #[test]
    fn products_have_no_slack() {
        let of = |rows, live| plan(Metric::Ip, rows, live, 10, Setting { exact: false, recall: 0.99 }, true).road;
        assert_eq!(of(59_000, 59_000), Road::Graph { width: 88, slack: None });
        assert_eq!(of(118_000, 118_000), Road::Graph { width: 97, slack: None });
        assert_eq!(of(118_000, 59_000), Road::Graph { width: 194, slack: None });
    }

    #[test]
    fn what_a_graph_cannot_promise_is_scanned() {
        assert_eq!(road(59_000, 59_000, 10, 0.9999), Road::Scan);
        assert_eq!(road(59_000, 59_000, 10, 1.0), Road::Scan);
        assert_eq!(road(59_000, 59_000, 10, f64::NAN), Road::Scan);
        let of = |setting, graph| plan(Metric::L2, 1 << 20, 1 << 20, 10, setting, graph);
        let exact = Setting { exact: true, recall: 0.9 };
        assert_eq!(of(exact, true), Plan { road: Road::Scan, rescored: None });
        assert_eq!(of(Setting { exact: false, recall: 0.9 }, false).road, Road::Scan);
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
