/// Reads the change feed.
#[derive(Debug, Clone, Copy)]
pub struct Changes {
    /// Changes after that one.
    pub since: i64,
    pub limit: usize,
}
