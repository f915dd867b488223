/// Deletes an embedding space with its embeddings.
#[derive(Debug, Clone)]
pub struct DeleteSpace {
    pub collection: String,
    pub name: String,
}
