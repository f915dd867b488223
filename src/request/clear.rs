/// Deletes every document of a collection.
#[derive(Debug, Clone)]
pub struct Clear {
    pub collection: String,
}
