/// What an import did with a relation or a state value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is new, or took the place of the one that was there.
    Stored,
    /// It was there with the same content.
    Unchanged,
    /// The one that was there stays.
    Skipped,
    /// It has expired, or an end of it is not there.
    Gone,
}

impl Imported {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Unchanged => "unchanged",
            Self::Skipped => "skipped",
            Self::Gone => "gone",
        }
    }
}
