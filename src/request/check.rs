/// Looks at everything that must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Check {
    /// Leaves out what reads all content.
    pub quick: bool,
}
