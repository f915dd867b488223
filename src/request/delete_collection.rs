/// Deletes a collection with all it holds.
#[derive(Debug, Clone)]
pub struct DeleteCollection {
    pub name: String,
}
