/// Names the embedding model of a collection's default space, where none is named yet.
#[derive(Debug, Clone)]
pub struct SetModel {
    pub collection: String,
    pub model: String,
}
