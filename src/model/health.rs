/// How a store fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Healthy,
    /// It works, and something wants to be looked at.
    Degraded,
    /// Some of it does not work.
    Unhealthy,
}

impl Status {
    /// As callers see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// Why a store is not healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub what: String,
    pub what_to_do: String,
}

/// How a store fares, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub status: Status,
    pub reasons: Vec<Reason>,
}

impl Health {
    /// Nothing was found yet.
    pub fn new() -> Self {
        Self { status: Status::Healthy, reasons: Vec::new() }
    }

    /// Adds a reason; the worst status stands.
    pub fn add(&mut self, status: Status, what: impl Into<String>, what_to_do: impl Into<String>) {
        self.status = self.status.max(status);
        self.reasons.push(Reason { what: what.into(), what_to_do: what_to_do.into() });
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}
