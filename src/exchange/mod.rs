//! Ways for changes to come from one store to another, over what every backend does.

mod files;
mod folder;

use std::path::Path;
use std::sync::Arc;

pub use self::folder::sync_folder;
use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Applied, SyncReport, Timestamp};
use crate::request::{ApplyChanges, BatchSource, ExportChanges, LogSync};
use crate::store::{Batches, Store, Watch};
use crate::sync::{BatchKey, ReplicaId, Watermark, ahead_of_clock, hex};

/// Everything newer than a watermark, as one batch.
///
/// # Errors
/// `ClockSkew` where a change of the store itself is ahead of the clock, `Sync` for a receiver that must take a fresh copy,
/// and for one that knows of this store what it was never told.
pub fn export(store: &dyn Store, since: Watermark, key: Option<Arc<BatchKey>>) -> Result<Vec<u8>> {
    let mut batch = Vec::new();
    store.export_changes(&ExportChanges { since, acknowledged: true, key, ..ExportChanges::default() }, &mut batch)?;
    Ok(batch)
}

/// Applies a batch and writes that into the history.
///
/// # Errors
/// `Sync`, `ClockSkew` and `WrongKey`; nothing is applied then.
pub fn apply(
    store: &dyn Store,
    batch: Arc<[u8]>,
    key: Option<Arc<BatchKey>>,
    watch: &mut dyn Watch,
) -> Result<SyncReport> {
    let started_at = Timestamp::now();
    let result = store.apply_changes(ApplyChanges { batch: BatchSource::Bytes(batch), key }, watch);
    let mut report = SyncReport { peer: "a batch".to_owned(), ..SyncReport::default() };
    let source = result.as_ref().ok().map(|applied| applied.source);
    if let Ok(applied) = &result {
        report.peer = hex(&applied.source);
        count(&mut report, applied);
    }
    log(store, &report, started_at, (None, source), result.as_ref().err());
    result.map(|_| report)
}

/// Makes two open stores equal: what each lacks comes from the other.
///
/// # Errors
/// As [`apply`], of either; what was merged before stays.
pub fn sync(own: &dyn Store, other: &dyn Store, watch: &mut dyn Watch) -> Result<SyncReport> {
    let started_at = Timestamp::now();
    let ((me, mine), (peer, theirs)) = (own.watermark()?, other.watermark()?);
    let path = |store: &dyn Store| store.path().map(|path| path.to_string_lossy().into_owned());
    let (here, there) = (path(own), path(other));
    let mut report = SyncReport { peer: there.clone().unwrap_or_else(|| hex(&peer)), ..SyncReport::default() };
    let mut mirrored = SyncReport { peer: here.clone().unwrap_or_else(|| hex(&me)), ..SyncReport::default() };
    let result = if me == peer {
        Err(Error::new(
            ErrorKind::Sync,
            "both stores are the same replica: they are one file, or one is a copy of the other; nothing was applied: \
             call renew_replica() on the copy, then sync again",
        ))
    } else {
        let both = || -> Result<()> {
            // Before either has anything of the other.
            check_clocks("this store", &mine, &theirs)?;
            check_clocks(&format!("the other store ({})", report.peer), &theirs, &mine)?;
            let (sent, applied) = carry(other, mine, own, watch)?;
            mirrored.sent = sent;
            count(&mut report, &applied);
            let (sent, applied) = carry(own, theirs, other, watch)?;
            report.sent = sent;
            report.conflicts += applied.conflicts;
            count(&mut mirrored, &applied);
            Ok(())
        };
        both()
    };
    mirrored.conflicts = report.conflicts;
    log(own, &report, started_at, (there, Some(peer)), result.as_ref().err());
    log(other, &mirrored, started_at, (here, Some(me)), result.as_ref().err());
    result.map(|()| report)
}

/// Refuses what a store has and another lacks, where a clock ran ahead as it was written.
fn check_clocks(whose: &str, has: &Watermark, lacks: &Watermark) -> Result<()> {
    let now = Timestamp::now().millis();
    let ahead = |stamp: &Hlc| stamp.millis > now + limits::CLOCK_SKEW_MILLIS && !lacks.covers(*stamp);
    has.iter().find(ahead).map_or(Ok(()), |stamp| Err(ahead_of_clock(whose, stamp, now)))
}

/// What one store has and a watermark lacks, into another, in batches of bounded size.
fn carry(from: &dyn Store, since: Watermark, to: &dyn Store, watch: &mut dyn Watch) -> Result<(u64, Applied)> {
    let mut into = Into { store: to, watch, batch: Vec::new(), applied: Applied::default() };
    let part_bytes = Some(limits::SYNC_PART_BYTES);
    let exported = from.export_changes(
        &ExportChanges { since, acknowledged: true, part_bytes, ..ExportChanges::default() },
        &mut into,
    )?;
    Ok((exported.sent, into.applied))
}

/// Applies each batch when it is whole.
struct Into<'a> {
    store: &'a dyn Store,
    watch: &'a mut dyn Watch,
    batch: Vec<u8>,
    applied: Applied,
}

impl Batches for Into<'_> {
    fn begin(&mut self) -> Result<()> {
        self.batch.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.batch.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, _last: bool) -> Result<()> {
        let batch = BatchSource::Bytes(std::mem::take(&mut self.batch).into());
        let applied = self.store.apply_changes(ApplyChanges { batch, key: None }, self.watch)?;
        self.applied = add(self.applied, applied);
        Ok(())
    }
}

fn add(sum: Applied, more: Applied) -> Applied {
    Applied {
        received: sum.received + more.received,
        applied: sum.applied + more.applied,
        conflicts: sum.conflicts + more.conflicts,
        source: more.source,
    }
}

fn count(report: &mut SyncReport, applied: &Applied) {
    report.received += applied.received;
    report.applied += applied.applied;
    report.conflicts += applied.conflicts;
}

/// The history is told; what keeps it from being told is no failure of the sync.
fn log(
    store: &dyn Store,
    report: &SyncReport,
    started_at: Timestamp,
    (endpoint, replica): (Option<String>, Option<ReplicaId>),
    error: Option<&Error>,
) {
    let error = error.map(|error| error.message().to_owned());
    let _ = store.log_sync(LogSync { report: report.clone(), started_at, endpoint, replica, error });
}

/// A folder as a peer names it.
fn endpoint(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
