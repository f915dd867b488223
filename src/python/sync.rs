//! `Sync`: what a store exchanges with others. Times are microseconds since the epoch, stamps milliseconds and the replica.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::convert;
use super::errors::guarded;
use super::events::{self, settle};
use super::store::Store;
use super::watch::Watcher;
use crate::error::Result;
use crate::exchange;
use crate::hlc::Hlc;
use crate::model::{SyncReport, Timestamp};
use crate::request::{AddPeer, Changes, RemovePeer};
use crate::store::{self, Watch};
use crate::sync::batch::{BatchReader, BatchWriter};
use crate::sync::{BatchKey, Watermark, hex};

/// Peer, and how many changes were sent, received, applied, and lost.
type Report = (String, u64, u64, u64, u64);
/// Number, entity, op, collection, id, and the stamp.
type ChangeRow = (i64, String, String, Option<String>, Option<String>, u64, String);
/// Name, endpoint, replica, when it was added and last met.
type PeerRow = (String, String, Option<String>, i64, Option<i64>);
/// Times, report and error.
type LogRow = (i64, Option<i64>, Report, Option<String>);
/// Time, collection, entity, id, whether the own change was kept, and both stamps.
type ConflictRow = (i64, Option<String>, String, String, bool, (u64, String), (u64, String));

#[pyclass(frozen, module = "ragstore._ragstore")]
pub(super) struct Sync(Arc<dyn store::Store>);

fn report(report: SyncReport) -> Report {
    (report.peer, report.sent, report.received, report.applied, report.conflicts)
}

fn stamp(stamp: Hlc) -> (u64, String) {
    (stamp.millis, hex(&stamp.replica))
}

/// A passphrase, or bytes.
fn key(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Arc<BatchKey>>> {
    let key = given.map(convert::key).transpose()?;
    Ok(key.map(|key| Arc::new(BatchKey::new(key))))
}

impl Sync {
    /// Runs `body` detached from the interpreter, while signals are looked at.
    fn watched<T: Send>(
        &self,
        py: Python<'_>,
        operation: &'static str,
        body: impl FnOnce(&dyn store::Store, &mut dyn Watch) -> Result<T> + Send,
    ) -> PyResult<T> {
        guarded(|| {
            let mut watcher = Watcher::new(None, 0);
            let store = &*self.0;
            let outcome = py.detach(|| events::timed(operation, || body(store, &mut watcher)));
            settle(py, watcher.finish(py, outcome))
        })
    }

    fn detached<T: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&dyn store::Store) -> Result<T> + Send,
    ) -> PyResult<T> {
        settle(py, guarded(|| Ok(py.detach(|| body(&*self.0))?)))
    }
}

#[pymethods]
impl Sync {
    #[new]
    fn new(store: &Bound<'_, Store>) -> Self {
        Self(store.get().core())
    }

    fn changes(&self, py: Python<'_>, since: i64, limit: usize) -> PyResult<Vec<ChangeRow>> {
        let found = self.detached(py, |store| store.changes(&Changes { since, limit }))?;
        Ok(found
            .into_iter()
            .map(|change| {
                let (millis, replica) = stamp(change.stamp);
                (change.seq, change.entity, change.op, change.collection, change.id, millis, replica)
            })
            .collect())
    }

    fn last_change(&self, py: Python<'_>) -> PyResult<i64> {
        self.detached(py, |store| store.last_change())
    }

    /// The replica that the store is, and what it knows.
    fn watermark(&self, py: Python<'_>) -> PyResult<(String, BTreeMap<String, String>)> {
        let (own, mark) = self.detached(py, |store| store.watermark())?;
        Ok((hex(&own), mark.to_strings()))
    }

    fn export_changes<'py>(
        &self,
        py: Python<'py>,
        since: BTreeMap<String, String>,
        secret: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        guarded(|| {
            let key = key(secret)?;
            let since = Watermark::parse(since.iter().map(|(replica, moment)| (replica.as_str(), moment.as_str())))?;
            let batch = self.watched(py, "export_changes", |store, _| exchange::export(store, since, key))?;
            Ok(PyBytes::new(py, &batch))
        })
    }

    fn apply_changes(&self, py: Python<'_>, batch: &[u8], secret: Option<&Bound<'_, PyAny>>) -> PyResult<Report> {
        guarded(|| {
            let (key, batch) = (key(secret)?, Arc::from(batch));
            let applied = self.watched(py, "apply_changes", |store, watch| exchange::apply(store, batch, key, watch));
            Ok(report(applied?))
        })
    }

    fn sync(&self, py: Python<'_>, other: &Bound<'_, Store>) -> PyResult<Report> {
        let other = other.get().core();
        Ok(report(self.watched(py, "sync", move |store, watch| exchange::sync(store, &*other, watch))?))
    }

    fn sync_folder(&self, py: Python<'_>, path: PathBuf, secret: Option<&Bound<'_, PyAny>>) -> PyResult<Report> {
        guarded(|| {
            let key = key(secret)?;
            let synced =
                self.watched(py, "sync_folder", move |store, watch| exchange::sync_folder(store, &path, key, watch));
            Ok(report(synced?))
        })
    }

    fn renew_replica(&self, py: Python<'_>) -> PyResult<()> {
        self.detached(py, |store| store.renew_replica())
    }

    fn reclock(&self, py: Python<'_>) -> PyResult<u64> {
        self.detached(py, |store| store.reclock())
    }

    fn add_peer(&self, py: Python<'_>, name: String, endpoint: String) -> PyResult<()> {
        self.detached(py, |store| store.add_peer(AddPeer { name, endpoint }))
    }

    fn remove_peer(&self, py: Python<'_>, name: String) -> PyResult<()> {
        self.detached(py, |store| store.remove_peer(RemovePeer { name }))
    }

    fn peers(&self, py: Python<'_>) -> PyResult<Vec<PeerRow>> {
        let found = self.detached(py, |store| store.peers())?;
        let row = |peer: crate::model::Peer| {
            let replica = peer.replica.map(|replica| hex(&replica));
            (peer.name, peer.endpoint, replica, peer.added_at.0, peer.last_synced_at.map(|at| at.0))
        };
        Ok(found.into_iter().map(row).collect())
    }

    fn sync_log(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<LogRow>> {
        let found = self.detached(py, |store| store.sync_log(limit))?;
        let row = |line: crate::model::SyncLog| {
            (line.started_at.0, line.finished_at.map(|at| at.0), report(line.report), line.error)
        };
        Ok(found.into_iter().map(row).collect())
    }

    fn conflicts(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<ConflictRow>> {
        let found = self.detached(py, |store| store.conflicts(limit))?;
        let row = |found: crate::model::Conflict| {
            let (winner, loser) = (stamp(found.winner), stamp(found.loser));
            (found.found_at.0, found.collection, found.entity, found.id, found.kept_own, winner, loser)
        };
        Ok(found.into_iter().map(row).collect())
    }
}

/// The frames of a batch, each some records, for tests of what no store writes.
#[pyfunction]
#[pyo3(name = "_batch_frames")]
pub(super) fn batch_frames<'py>(py: Python<'py>, batch: &[u8]) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    guarded(|| {
        let mut reader = BatchReader::open(Box::new(batch), None)?;
        let mut frames = Vec::new();
        while let Some(frame) = reader.frame()? {
            frames.push(PyBytes::new(py, &frame));
        }
        Ok(frames)
    })
}

/// A batch of such frames, whole and with its checksums.
#[pyfunction]
#[pyo3(name = "_batch_of")]
pub(super) fn batch_of(py: Python<'_>, frames: Vec<Vec<u8>>, count: u64, last: bool) -> PyResult<Bound<'_, PyBytes>> {
    guarded(|| {
        let mut writer = BatchWriter::new(Vec::new(), None, None)?;
        for frame in &frames {
            writer.raw(frame)?;
        }
        writer.set_count(count);
        let (batch, written) = writer.finish(last);
        written?;
        Ok(PyBytes::new(py, &batch))
    })
}

/// Moves the clock of this process, for tests of clocks that differ.
#[pyfunction]
#[pyo3(name = "_shift_clock")]
pub(super) fn shift_clock(micros: i64) {
    Timestamp::shift(micros);
}
