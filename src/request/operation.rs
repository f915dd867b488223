use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// Work on the file itself, which changes no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Checkpoint(Checkpoint),
    Optimize,
    Vacuum,
}

/// How far the write-ahead log is moved into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// As far as readers let it be moved at this moment.
    Passive,
    /// All of it.
    Full,
    /// All of it, and the next write begins it anew.
    Restart,
    /// All of it, and it is empty afterwards.
    Truncate,
}

impl Checkpoint {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passive => "passive",
            Self::Full => "full",
            Self::Restart => "restart",
            Self::Truncate => "truncate",
        }
    }
}

impl FromStr for Checkpoint {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "passive" => Self::Passive,
            "full" => Self::Full,
            "restart" => Self::Restart,
            "truncate" => Self::Truncate,
            other => {
                return Err(Error::new(
                    ErrorKind::Argument,
                    format!("mode is {other:?}; it is one of \"passive\", \"full\", \"restart\", \"truncate\""),
                ));
            }
        })
    }
}
