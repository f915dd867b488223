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
    /// Over all codes of the selection, to a proof.
    Scan,
    /// Over the graph, keeping `width` nodes, and for distances not farther than a slack.
    Graph { width: usize, slack: Option<Slack> },
}

/// Vectors from which on a graph is worth its time to build and its memory: a scan takes a third of a millisecond.
pub const GRAPH_ROWS: usize = 1 << 15;

/// A recall, and how far a walk goes that reaches it for [`NEIGHBORS`]: the share by which the square of a distance may
/// be above that of the last wanted, and how many vectors it then compares on average.
struct Measured {
    recall: f64,
    share: [f64; 3],
    compared: [f64; 3],
    /// The nodes that it keeps where products lead it: the first number, and so many more for each neighbour wanted.
    width: (f64, f64),
}

const NEIGHBORS: [f64; 3] = [10.0, 100.0, 1_000.0];

const fn measured(recall: f64, share: [f64; 3], compared: [f64; 3], width: (f64, f64)) -> Measured {
    Measured { recall, share, compared, width }
}

const MEASURED: [Measured; RECALLS] = [
    measured(0.9, [0.035, 0.0, 0.0], [340.0, 1_300.0, 8_400.0], (6.0, 1.0)),
    measured(0.95, [0.075, 0.01, 0.0], [440.0, 1_400.0, 8_400.0], (14.0, 1.0)),
    measured(0.98, [0.12, 0.045, 0.005], [600.0, 1_970.0, 8_600.0], (40.0, 1.4)),
    measured(0.99, [0.16, 0.075, 0.023], [850.0, 2_650.0, 10_000.0], (70.0, 1.8)),
    measured(0.995, [0.2, 0.1, 0.045], [1_200.0, 3_350.0, 12_000.0], (92.0, 2.9)),
    measured(0.999, [0.3, 0.165, 0.09], [2_600.0, 5_800.0, 17_000.0], (300.0, 6.0)),
];

/// Recalls that were measured.
pub(super) const RECALLS: usize = 6;

/// Nodes that a walk with a slack may keep, so many more for each neighbour wanted, and the most: one that would keep
/// more is given up, because keeping them in order takes longer than a scan.
const KEPT: (f64, f64) = (1_000.0, 8.0);
const MOST_KEPT: f64 = 4_000.0;

/// Vectors of the measurement. Each time there are twice as many, slacks and widths grow by `GROWTH` of themselves, and
/// what is compared by `MORE_COMPARED`.
const MEASURED_ROWS: f64 = 59_000.0;
const GROWTH: f64 = 0.1;
const MORE_COMPARED: f64 = 0.25;

/// The time of comparing one vector of a walk, and one of a scan far from the last, by one of a scan in order.
const WALKED: f64 = 5.0;
const APART: f64 = 2.2;

/// How far walks over the vectors of one graph must go for ten neighbours, against those of the table: vectors without
/// clusters, whose distances hardly differ, are harder to find than embeddings of texts. By recalls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hardness {
    /// Slacks of the table, or widths, are to be multiplied by this.
    pub factor: [f32; RECALLS],
    /// What a walk then compares, by what the table says.
    pub compared: [f32; RECALLS],
}

impl Default for Hardness {
    /// That of the table.
    fn default() -> Self {
        Self { factor: [1.0; RECALLS], compared: [1.0; RECALLS] }
    }
}

/// How a walk goes, and how many vectors it compares.
pub(super) struct Walk {
    pub width: f64,
    pub slack: Option<Slack>,
    pub compared: f64,
}

/// The recalls that were measured.
pub(super) fn recalls() -> [f64; RECALLS] {
    MEASURED.map(|measured| measured.recall)
}

/// A walk over `rows` vectors that finds `k` of the share that is selected, at a recall; none where none is sure to.
pub(super) fn walk(
    metric: Metric,
    rows: usize,
    share: f64,
    k: usize,
    recall: f64,
    hardness: &Hardness,
) -> Option<Walk> {
    let above = MEASURED.iter().position(|measured| recall <= measured.recall)?;
    let below = above.checked_sub(1).filter(|&below| recall > MEASURED[below].recall);
    // Between two of the table by the logarithm of what is missed.
    let between = |of: &dyn Fn(usize) -> f64| match below {
        Some(below) => {
            let [low, high] = [below, above].map(|at| 1.0 - MEASURED[at].recall);
            let part = (low / (1.0 - recall)).ln() / (low / high).ln();
            of(below) + part * (of(above) - of(below))
        }
        None => of(above),
    };
    let doublings = (rows as f64 / MEASURED_ROWS).log2().max(0.0);
    let growth = 1.0 + GROWTH * doublings;
    // Fewer are no easier to find.
    let near = k.max(NEIGHBORS[0] as usize);
    // Among so many the selected are these.
    let neighbors = near as f64 / share;
    let harder = between(&|at| f64::from(hardness.compared[at]));
    if metric == Metric::Ip {
        let width = between(&|at| {
            let (base, each) = MEASURED[at].width;
            (base + each * k as f64) * f64::from(hardness.factor[at])
        });
        let width = width * growth / share;
        return Some(Walk { width, slack: None, compared: (200.0 + 9.0 * width) * harder });
    }
    let beyond = (neighbors / NEIGHBORS[2]).max(1.0);
    let compared = between(&|place| at(neighbors, MEASURED[place].compared.map(f64::ln))).exp();
    // What is harder for ten is by as much for more, of which the table says little or nothing.
    let slack = between(&|place| {
        let Measured { share, .. } = &MEASURED[place];
        at(neighbors, *share) + share[0] * (f64::from(hardness.factor[place]) - 1.0)
    });
    Some(Walk {
        width: ((KEPT.0 + KEPT.1 * k as f64) / share).min(MOST_KEPT.max(4.0 * k as f64)),
        slack: Some(Slack { near, share: (slack * growth) as f32 }),
        compared: compared * beyond * (1.0 + MORE_COMPARED * doublings) * harder,
    })
}

/// What was measured for [`NEIGHBORS`], between two of them by the logarithm.
fn at(neighbors: f64, measured: [f64; 3]) -> f64 {
    let place = (neighbors / NEIGHBORS[0]).log10().clamp(0.0, 2.0);
    let from = if place < 1.0 { 0 } else { 1 };
    measured[from] + (place - from as f64) * (measured[from + 1] - measured[from])
}

/// The way of a search for `k` among `live` of `rows` vectors, which have a graph.
pub fn plan(metric: Metric, rows: usize, live: usize, k: usize, setting: Setting, hardness: &Hardness) -> Road {
    if setting.exact || live == 0 {
        return Road::Scan;
    }
    let walk = walk(metric, rows, live as f64 / rows as f64, k, setting.recall, hardness);
    match walk.filter(|walk| WALKED * walk.compared < scanned(rows, live)) {
        Some(walk) => Road::Graph { width: walk.width.ceil() as usize, slack: walk.slack },
        None => Road::Scan,
    }
}

/// What a scan takes, in vectors of a scan of all.
fn scanned(rows: usize, live: usize) -> f64 {
    (APART * live as f64).min(rows as f64)
}

/// What a walk takes that is given up, and the scan after it, in vectors of a walk.
pub(super) fn given_up(rows: usize) -> f64 {
    scanned(rows, rows) / WALKED
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Hardness = Hardness { factor: [1.0; RECALLS], compared: [1.0; RECALLS] };

    fn road(rows: usize, live: usize, k: usize, recall: f64) -> Road {
        plan(Metric::Cosine, rows, live, k, Setting { exact: false, recall }, &TABLE)
    }

    /// The way of a walk: what it keeps, what it wants, and the slack in thousandths.
    fn walked(rows: usize, live: usize, k: usize, recall: f64) -> (usize, usize, i32) {
        let Road::Graph { width, slack: Some(slack) } = road(rows, live, k, recall) else { panic!("a scan") };
        (width, slack.near, (slack.share * 1e3).round() as i32)
    }

    #[test]
    fn walks_are_those_of_the_table_and_grow() {
        assert_eq!(walked(59_000, 59_000, 10, 0.99), (1_080, 10, 160));
        assert_eq!(walked(59_000, 59_000, 1, 0.99), (1_008, 10, 160));
        assert_eq!(walked(59_000, 59_000, 100, 0.99), (1_800, 100, 75));
        assert_eq!(walked(118_000, 118_000, 10, 0.99), (1_080, 10, 176));
        // As far as to find twenty of all, and with room for more.
        assert_eq!(walked(118_000, 59_000, 10, 0.99), (2_160, 10, 148));
        let shares: Vec<i32> =
            (0..=99).map(|part| walked(100_000, 100_000, 10, 0.9 + 0.001 * f64::from(part)).2).collect();
        assert!(shares.is_sorted() && shares[0] < shares[50]);
        assert_eq!(road(59_000, 59_000, 10, 0.1), road(59_000, 59_000, 10, 0.9));
    }

    #[test]
    fn products_have_no_slack() {
        let setting = Setting { exact: false, recall: 0.99 };
        let of = |rows, live| plan(Metric::Ip, rows, live, 10, setting, &TABLE);
        assert_eq!(of(59_000, 59_000), Road::Graph { width: 88, slack: None });
        assert_eq!(of(118_000, 118_000), Road::Graph { width: 97, slack: None });
        assert_eq!(of(118_000, 59_000), Road::Graph { width: 194, slack: None });
    }

    #[test]
    fn what_is_harder_is_walked_farther_or_scanned() {
        let setting = Setting { exact: false, recall: 0.99 };
        let hard = Hardness { factor: [1.5; RECALLS], compared: [2.0; RECALLS] };
        let of = |metric, k, hardness| plan(metric, 59_000, 59_000, k, setting, hardness);
        let share = |k| match of(Metric::L2, k, &hard) {
            Road::Graph { slack: Some(slack), .. } => (slack.share * 1e3).round(),
            other => panic!("{other:?}"),
        };
        assert_eq!([share(10), share(100)], [240.0, 155.0]);
        assert_eq!(of(Metric::Ip, 10, &hard), Road::Graph { width: 132, slack: None });
        let harder = Hardness { compared: [20.0; RECALLS], ..hard };
        assert_eq!(of(Metric::Cosine, 10, &harder), Road::Scan);
        let never = Hardness { compared: [f32::INFINITY; RECALLS], ..hard };
        assert_eq!(of(Metric::Ip, 10, &never), Road::Scan);
    }

    #[test]
    fn what_a_graph_cannot_promise_is_scanned() {
        assert_eq!(road(59_000, 59_000, 10, 0.9999), Road::Scan);
        assert_eq!(road(59_000, 59_000, 10, 1.0), Road::Scan);
        assert_eq!(road(59_000, 59_000, 10, f64::NAN), Road::Scan);
        let exact = Setting { exact: true, recall: 0.9 };
        assert_eq!(plan(Metric::L2, 1 << 20, 1 << 20, 10, exact, &TABLE), Road::Scan);
    }

    #[test]
    fn few_are_scanned_and_many_are_not() {
        assert_eq!(road(100_000, 0, 10, 0.99), Road::Scan);
        assert_eq!(road(100_000, 1_000, 10, 0.99), Road::Scan);
        assert_eq!(road(100_000, 3_000, 1, 0.99), Road::Scan);
        assert_ne!(road(100_000, 50_000, 10, 0.99), Road::Scan);
        assert_eq!(road(2_000, 2_000, 10, 0.99), Road::Scan);
        assert_ne!(road(GRAPH_ROWS, GRAPH_ROWS, 10, 0.99), Road::Scan);
        assert_eq!(road(50_000, 50_000, 4096, 0.99), Road::Scan);
    }
}
