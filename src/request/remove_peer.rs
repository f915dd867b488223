/// Forgets a peer. What it sent stays.
#[derive(Debug, Clone)]
pub struct RemovePeer {
    pub name: String,
}
