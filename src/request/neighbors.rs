/// Reads a chunk with those before and after it in its document.
#[derive(Debug, Clone)]
pub struct Neighbors {
    pub collection: String,
    pub chunk_id: String,
    pub before: usize,
    pub after: usize,
}
