use crate::model::{NewStateEntry, OnConflict};

/// Takes in state values of an export. What has expired is left out.
#[derive(Debug, Clone)]
pub struct ImportState {
    pub entries: Vec<NewStateEntry>,
    /// What happens to a key that has another value.
    pub on_conflict: OnConflict,
}
