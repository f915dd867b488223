use crate::model::{Expected, Namespace, StateValue, Timestamp};

/// Sets state values, all or none of them.
#[derive(Debug, Clone)]
pub struct SetState {
    pub namespace: Namespace,
    pub entries: Vec<(String, StateValue)>,
    /// From then on they are not there.
    pub expires_at: Option<Timestamp>,
    /// What each of them must be before.
    pub expected: Expected,
}
