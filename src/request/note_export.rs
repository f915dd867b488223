use crate::hlc::Hlc;

/// Remembers, before an export, up to when it says that all is in it, and what the receiver knows of this replica.
#[derive(Debug, Clone, Copy)]
pub struct NoteExport {
    pub acknowledged: Option<Hlc>,
}
