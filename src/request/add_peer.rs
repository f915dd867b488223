/// Names another store that this one exchanges changes with.
#[derive(Debug, Clone)]
pub struct AddPeer {
    pub name: String,
    /// Where it is: a file, a folder, anything that the caller understands.
    pub endpoint: String,
}
