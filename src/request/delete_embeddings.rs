/// Deletes the embeddings of chunks in one space; the chunks stay.
#[derive(Debug, Clone)]
pub struct DeleteEmbeddings {
    pub collection: String,
    pub chunk_ids: Vec<String>,
    pub space: String,
}
