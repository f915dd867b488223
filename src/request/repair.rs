use std::path::PathBuf;

/// Rebuilds what can be derived.
#[derive(Debug, Clone, Default)]
pub struct Repair {
    /// A new file that takes what can be read; `None` repairs in place.
    pub to: Option<PathBuf>,
}
