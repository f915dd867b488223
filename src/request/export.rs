/// Reads whole collections, all of one snapshot.
#[derive(Debug, Clone, Default)]
pub struct Export {
    /// By name; `None` is every one.
    pub collections: Option<Vec<String>>,
}
