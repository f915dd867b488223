//! What replicas exchange and how they merge, without a backend.
//!
//! A replica knows by a [`Watermark`] how much of each other's changes it has. An export is everything that is newer than
//! a watermark, as a [`batch`] of [`record`]s; [`merge`] says what becomes of each of them.

pub mod batch;
pub mod encoding;
mod key;
pub mod merge;
mod plan;
pub mod record;
mod watermark;

pub use key::BatchKey;
pub use plan::Action;
pub use watermark::{ReplicaId, Watermark, hex, stale};

use crate::error::{Error, ErrorKind};
use crate::hlc::Hlc;

/// A change that no peer would take yet, and whose it is.
pub fn ahead_of_clock(whose: &str, stamp: Hlc, now_millis: u64) -> Error {
    Error::new(
        ErrorKind::ClockSkew,
        format!(
            "a change of {whose} is {} seconds ahead of this machine's clock, and no peer would take it; set the clock \
             right, and where it ran ahead before, call reclock() on that store",
            stamp.millis.saturating_sub(now_millis) / 1000
        ),
    )
}

/// What is wrong with a batch, and what to do.
fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Sync, format!("the batch is damaged: {what}; nothing was applied: export and send it again"))
}
