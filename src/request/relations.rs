use crate::model::Direction;

/// The relations of one chunk or document, or all of a collection.
#[derive(Debug, Clone)]
pub struct Relations {
    pub collection: String,
    /// `None`: of all of them.
    pub id: Option<String>,
    pub direction: Direction,
    /// `None`: of any type.
    pub kind: Option<String>,
}
