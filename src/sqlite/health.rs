//! How a store fares: what can be told without reading what it holds.

use std::path::Path;
use std::sync::Arc;

use super::file_system;
use super::guard::{self, Guard};
use super::log;
use super::migrate::{self, Header};
use super::opened::Opened;
use super::writer::Writer;
use crate::error::{ErrorKind, Result};
use crate::limits;
use crate::model::{Health, IndexStats, Status};

/// Of the store that was opened at a path. There is no guard for an ephemeral store, whose file nobody else knows.
pub fn run(opened: &Opened, asked: Option<&Path>) -> Result<Health> {
    let Opened { readers, writer, file, .. } = opened;
    let guard = opened.guard.lock().clone();
    let guard = guard.as_ref();
    let mut health = Health::new();
    writing(&mut health, writer.as_ref());
    log_length(&mut health, guard, file);
    disk(&mut health, file);
    if let Some(path) = asked {
        locks(&mut health, guard, path)?;
    }
    if let Ok(indexes) = readers.read(|conn| readers.derived.stats(conn)) {
        indexes.iter().for_each(|index| index_of(&mut health, index));
    }
    match readers.read(migrate::state) {
        Ok(Header::Current) => {}
        Ok(Header::Older | Header::Empty) => health.add(
            Status::Unhealthy,
            "the file is of an older format than when it was opened: it was replaced or restored",
            "close the store and open it again",
        ),
        Err(error) if error.kind() == ErrorKind::SchemaTooNew => health.add(
            Status::Unhealthy,
            "a newer version of ragstore upgraded the file while this one had it open",
            "close the store, and open it with that version",
        ),
        Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Fork) => return Err(error),
        Err(error) if error.kind() == ErrorKind::Locked => health.add(
            Status::Degraded,
            format!("the file could not be read in time: {}", error.message()),
            "open with more readers=, or find what keeps it locked",
        ),
        Err(error) => health.add(
            Status::Unhealthy,
            format!("the file cannot be read: {}", error.message()),
            "restore a backup, or see what check() and repair() make of it",
        ),
    }
    Ok(health)
}

fn writing(health: &mut Health, writer: Option<&Writer>) {
    let Some(writer) = writer else { return };
    if let Some(panic) = &*writer.status.poison.lock() {
        health.add(
            Status::Unhealthy,
            format!("the writer stopped after a panic: {panic}"),
            "close the store and open it again, and report the panic",
        );
    }
    if let Some(failure) = &*writer.status.checkpoint_failure.lock() {
        health.add(
            Status::Degraded,
            format!("the write-ahead log could not be moved into the file: {failure}"),
            "see to the disk; nothing is lost, and the next write tries again",
        );
    }
}

fn log_length(health: &mut Health, guard: Option<&Arc<Guard>>, file: &Path) {
    let bytes = log::length(file);
    if bytes <= limits::LOG_WARNING_BYTES {
        return;
    }
    let readers = guard.and_then(|guard| guard.readers().ok()).unwrap_or_default();
    let by = if readers.is_empty() { String::new() } else { format!("; {} reads a snapshot", log::named(&readers)) };
    let status = if bytes < limits::LOG_BYTES { Status::Degraded } else { Status::Unhealthy };
    health.add(
        status,
        format!(
            "the write-ahead log has {} MiB; from {} MiB on writes are refused{by}",
            bytes >> 20,
            limits::LOG_BYTES >> 20
        ),
        "end the read that keeps it from being moved into the file; checkpoint(\"truncate\") or the next write moves it",
    );
}

fn index_of(health: &mut Health, index: &IndexStats) {
    let Some(problem) = &index.problem else { return };
    let of = match &index.space {
        Some(space) => format!("the vectors of collection {:?}, space {space:?}", index.collection),
        None => format!("the texts of collection {:?}", index.collection),
    };
    health.add(
        Status::Degraded,
        format!("there is no new index of {of}: {problem}"),
        "nothing is lost, and every answer is right, only later: free room on the disk or raise memory_limit=, and \
         optimize() builds it",
    );
}

fn disk(health: &mut Health, file: &Path) {
    if let Some(free) = file.parent().and_then(file_system::free)
        && free < limits::LOW_DISK_BYTES
    {
        // Less than what one commit and the index of the log may take.
        let status = if free < limits::LOW_DISK_BYTES / 16 { Status::Unhealthy } else { Status::Degraded };
        health.add(
            status,
            format!("the disk has {} MiB free", free >> 20),
            "free some; optimize() gives back what deletes left, and deleting the embedding cache its vectors",
        );
    }
}

fn locks(health: &mut Health, guard: Option<&Arc<Guard>>, path: &Path) -> Result<()> {
    if !guard::AVAILABLE {
        health.add(
            Status::Degraded,
            "this platform has no locks that another close of the file in this process cannot drop",
            "let nothing else in this process open the store's files while it is open",
        );
    } else if let Some(guard) = guard
        && !guard.in_place(path)?
    {
        health.add(
            Status::Unhealthy,
            "the files at the path are not those that are open: they were replaced, moved or deleted",
            "close the store; writes since then are in the old file",
        );
    }
    Ok(())
}
