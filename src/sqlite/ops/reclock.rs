use crate::error::Result;
use crate::hlc::Hlc;
use crate::limits;
use crate::sqlite::tables::{changes, meta, replicas};
use crate::sqlite::txn::Txn;

/// Gives what this replica stamped further ahead than a peer would take, and none is known to have, moments from now on,
/// in the same order. Says of how many changes.
pub fn run(txn: &mut Txn<'_>) -> Result<u64> {
    let conn = txn.conn;
    let (clock, own) = (meta::clock(conn)?, replicas::own(conn)?);
    let limit = Hlc { millis: txn.now.millis() + limits::CLOCK_SKEW_MILLIS, counter: u16::MAX, replica: own };
    let acknowledged = replicas::acknowledged(conn)?.unwrap_or(Hlc::zero(own));
    let first = acknowledged.max(limit);
    if clock <= first {
        return Ok(0);
    }
    let old = replicas::stamps_after(conn, first)?;
    // After everything that keeps its moment, and after what a peer would take for known.
    let kept = replicas::latest_but(conn, first)?.unwrap_or(acknowledged);
    let mut next = Hlc { replica: own, ..kept }.max(acknowledged);
    let mut pairs = Vec::with_capacity(old.len());
    for stamp in old {
        next = next.tick(txn.now.millis());
        pairs.push((stamp, next));
    }
    let clock = next.tick(txn.now.millis());
    txn.set_clock(clock);
    // Who comes back with one of these took what was given up here: it would take what is written now for known.
    replicas::give_up_marks(conn, clock)?;
    let restamped = replicas::restamp(conn, &pairs, txn.now)?;
    changes::renew_tags(conn, txn.stamp())?;
    Ok(restamped)
}
