use crate::model::{Expected, Namespace};

/// Deletes state values.
#[derive(Debug, Clone)]
pub struct DeleteState {
    pub namespace: Namespace,
    /// `None`: all of them.
    pub keys: Option<Vec<String>>,
    /// What each of them must be before.
    pub expected: Expected,
}
