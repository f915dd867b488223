/// Declares a metadata field that filters use often: its values are kept in an index.
#[derive(Debug, Clone)]
pub struct CreateIndex {
    pub collection: String,
    /// Keys with dots between them.
    pub field: String,
}
