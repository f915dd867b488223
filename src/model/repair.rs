use std::path::PathBuf;

use super::Problem;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was made anew, one sentence each.
    pub rebuilt: Vec<String>,
    /// Rows that were read out of a damaged file, by what they are.
    pub salvaged: Vec<(String, u64)>,
    /// What could not be kept, one sentence each: of each kind the first ones by name, and how many there are.
    pub lost: Vec<String>,
    /// What a check finds afterwards.
    pub problems: Vec<Problem>,
    /// The file that is sound now; `None` for an ephemeral store.
    pub path: Option<PathBuf>,
}
