/// What a store does about one record of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It belongs to a collection that was deleted after it.
    Drop,
    /// It is what the store has.
    Same,
    /// The store has something later.
    Older,
    /// The store has something later of that id; the uri was this document's until then, and whoever had it before goes.
    OlderWithUri { evict: bool },
    /// The uri belongs to a later document: the id becomes its alias.
    Alias,
    /// It takes the place of what the store has. `evict`: another document had the uri and goes.
    Put { evict: bool },
    /// What the store has goes, and it remembers that.
    Bury { evict: bool },
}
