/// Deletes the relations from one id to another.
#[derive(Debug, Clone)]
pub struct Unrelate {
    pub collection: String,
    pub source: String,
    pub target: String,
    /// `None`: of any type.
    pub kind: Option<String>,
}
