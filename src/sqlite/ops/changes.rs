use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::model::Change;
use crate::request::Changes;
use crate::sqlite::tables::changes;

/// A follower that is further behind than the feed goes is told so: it would miss changes.
pub fn run(conn: &Connection, request: &Changes) -> Result<Vec<Change>> {
    let last = changes::last(conn)?;
    let first = changes::ends(conn)?.map_or(last + 1, |(first, _)| first);
    if request.since < first - 1 || request.since > last {
        let why = if request.since > last {
            format!("the last change is {last}; it is of another store, or of another state of this one")
        } else {
            format!("the feed begins after change {}: optimize() forgot what was before", first - 1)
        };
        return Err(Error::new(
            ErrorKind::Sync,
            format!(
                "since is {}, and {why}; start over: take last_change(), read what the collections hold, and go on with \
                 the changes since it",
                request.since
            ),
        ));
    }
    changes::after(conn, request.since, request.limit)
}
