//! The relations that walks follow.

use rusqlite::Connection;

use super::shared::is_there;
use crate::error::Result;
use crate::graph::Step;
use crate::model::{Direction, Timestamp};
use crate::sqlite::tables::{expiry, relations};

/// Those of a collection, in one snapshot, whose ends have not expired.
pub struct Steps<'a> {
    conn: &'a Connection,
    collection_id: i64,
    direction: Direction,
    /// `None`: of any type.
    kinds: Option<&'a [String]>,
    now: Timestamp,
    /// Whether anything has expired.
    expired: bool,
}

impl<'a> Steps<'a> {
    pub fn new(
        conn: &'a Connection,
        collection_id: i64,
        direction: Direction,
        kinds: Option<&'a [String]>,
        now: Timestamp,
    ) -> Result<Self> {
        Ok(Self { conn, collection_id, direction, kinds, now, expired: expiry::any(conn, now)? })
    }

    /// Those that lead on from some ids.
    pub fn of(&self, ids: &[String]) -> Result<Vec<Step>> {
        let mut steps = relations::steps(self.conn, self.collection_id, ids, self.direction, self.kinds)?;
        if self.expired {
            let mut there = Vec::with_capacity(steps.len());
            for step in steps {
                if self.is_there(&step.from)? && self.is_there(&step.to)? {
                    there.push(step);
                }
            }
            steps = there;
        }
        Ok(steps)
    }

    fn is_there(&self, id: &str) -> Result<bool> {
        is_there(self.conn, self.collection_id, id, self.now)
    }
}
