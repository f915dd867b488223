/// Drops the index of a metadata field.
#[derive(Debug, Clone)]
pub struct DropIndex {
    pub collection: String,
    /// As it was given to `CreateIndex`.
    pub field: String,
}
