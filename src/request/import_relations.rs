use crate::model::{NewRelation, OnConflict};

/// Takes in relations of an export. One of which an end is not there is left out.
#[derive(Debug, Clone)]
pub struct ImportRelations {
    pub collection: String,
    pub relations: Vec<NewRelation>,
    /// What happens to one that is there with another strength or other metadata.
    pub on_conflict: OnConflict,
}
