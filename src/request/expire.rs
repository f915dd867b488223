/// Removes what has expired in a collection.
#[derive(Debug, Clone)]
pub struct Expire {
    pub collection: String,
}
