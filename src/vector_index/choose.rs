//! Which way a search goes, and how hard it tries.

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

/// The plan of a search for `k` among `live` of `rows` vectors.
pub fn plan(_rows: usize, _live: usize, k: usize, setting: Setting, graph: bool) -> Plan {
    if setting.exact || !graph {
        return Plan { road: Road::Scan, rescored: None };
    }
    Plan { road: Road::Graph { width: k.max(64) }, rescored: Some(2 * k) }
}
