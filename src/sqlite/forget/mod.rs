//! Deletion that is proven: what was deleted is removed from every file of the store, and then looked for in all of
//! them.
//!
//! ```text
//! ops/forget.rs      one transaction: deletes, and takes pieces of what it deletes: the traces
//! derived            snapshots of the collection go, beside the file and in memory
//! writer/purge.rs    text index and file are written anew, the log is emptied
//! search.rs          every file is searched, byte by byte
//! living.rs          what was found is dropped where content that is there has it, too
//! ```
//!
//! The transaction comes first and stays; whatever fails after it, another call goes on from there.

mod living;
mod search;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::derived;
use super::lock;
use super::opened::Opened;
use super::pulse::{Pulse, cancelled};
use super::tables::collections;
use super::txn::Progress;
use super::watched::watched;
use crate::error::{Error, Result};
use crate::model::ForgetReport;
use crate::request::{Forget, Forgotten, Write, Written};
use crate::store::Watch;
use crate::traces::Traces;

const PAUSE: Duration = Duration::from_millis(20);
/// Steps of a call, for its progress.
const STEPS: u64 = 4;

/// What earlier calls deleted, and could not prove to be gone.
#[derive(Clone, Default)]
pub struct Unproven {
    traces: Traces,
    /// As they were given.
    ids: BTreeSet<String>,
}

impl Unproven {
    fn extend(&mut self, others: Self) {
        self.traces.extend(others.traces);
        self.ids.extend(others.ids);
    }
}

/// Forgets documents of an open store.
pub fn run(
    opened: &Opened,
    request: Forget,
    timeout: Duration,
    unproven: &Mutex<Unproven>,
    watch: &mut dyn Watch,
) -> Result<ForgetReport> {
    let began = Instant::now();
    let ids = request.document_ids.clone().unwrap_or_default();
    let mut steps = Steps { watch, step: 0 };
    let written = opened.writer()?.write(vec![Write::Forget(request)], &mut steps)?.pop();
    let Some(Written::Forgotten(forgotten)) = written else {
        return Err(Error::internal(format!("a deletion was answered by {written:?}")));
    };
    let Forgotten { collection_id, documents, chunks, embeddings, relations, cached_embeddings, traces, missing } =
        *forgotten;
    let mut owed = std::mem::take(&mut *unproven.lock());
    let missing = missing.into_iter().filter(|id| !owed.ids.contains(id)).collect();
    owed.traces.extend(traces);
    owed.ids.extend(ids);
    let searched = remove(opened, collection_id, &owed.traces, timeout, &mut steps).map_err(|error| {
        unproven.lock().extend(owed.clone());
        error.context(
            "the documents are deleted, but files may still hold some of their content; when what is in the way is \
             gone, call forget again, if only with an empty list of ids: it goes on from there",
        )
    })?;
    if !searched.remains.is_empty() {
        unproven.lock().extend(Unproven { traces: searched.left, ids: owed.ids });
    }
    Ok(ForgetReport {
        documents,
        chunks,
        embeddings,
        relations,
        cached_embeddings,
        traces: owed.traces.len() as u64,
        shared: searched.shared,
        searched_files: searched.files,
        searched_bytes: searched.bytes,
        remains: searched.remains,
        missing,
        kept: kept(&opened.file),
        took: began.elapsed(),
    })
}

fn remove(
    opened: &Opened,
    collection_id: i64,
    traces: &Traces,
    timeout: Duration,
    steps: &mut Steps<'_>,
) -> Result<search::Searched> {
    let derived = &opened.readers.derived;
    steps.next()?;
    remove_snapshots(opened, collection_id, timeout, steps)?;
    steps.next()?;
    opened.writer()?.purge(collection_id, steps)?;
    steps.next()?;
    let mut searched = verify(opened, traces, steps)?;
    // Another collection may have had the same content before.
    let others: BTreeSet<i64> =
        searched.remains.iter().filter_map(|residue| derived::collection_of(&residue.file)).collect();
    for other in &others {
        remove_snapshots(opened, *other, timeout, steps)?;
    }
    if !others.is_empty() {
        searched = verify(opened, traces, steps)?;
    }
    derived.look_about();
    Ok(searched)
}

fn remove_snapshots(opened: &Opened, collection_id: i64, timeout: Duration, steps: &mut Steps<'_>) -> Result<()> {
    let deadline = Instant::now() + timeout;
    // Snapshots of collections that are gone would be removed, some time.
    let mut others: BTreeSet<i64> =
        opened.readers.read(collections::list)?.into_iter().map(|collection| collection.id).collect();
    others.remove(&collection_id);
    opened.readers.derived.forget_collection(&opened.file, collection_id, &others, &mut || {
        if !steps.keep_going(0, 0) {
            return Err(cancelled());
        }
        if Instant::now() >= deadline {
            return Err(lock::timed_out().context("another process builds an index"));
        }
        thread::sleep(PAUSE);
        Ok(())
    })
}

/// Searches every file, and then what is there, on connections of their own.
fn verify(opened: &Opened, traces: &Traces, watch: &mut dyn Watch) -> Result<search::Searched> {
    watched(watch, |progress| {
        let pulse = Pulse::new(None, Arc::<Progress>::clone(progress));
        let (readers, encrypted) = (&opened.readers, opened.cipher.is_some());
        let search = |conn: &Connection| search::run(conn, &opened.file, encrypted, traces, progress);
        let found = readers.apart_while(&pulse, search)?;
        readers.apart_while(&pulse, |conn| search::judge(conn, found, progress))
    })
}

/// What this library or an older version of it may have left beside the file: it is the user's to keep or to remove.
fn kept(file: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_copy = |other: &str| {
        let own = other.strip_prefix(&*name);
        own.is_some_and(|rest| (rest.starts_with(".format-") && rest.ends_with(".bak")) || rest.starts_with("-rekey"))
            || other.starts_with(".ragstore-backup-")
            || other.starts_with(".ragstore-repair-")
    };
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| is_copy(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// The progress of all steps together, each a part of the same length.
struct Steps<'w> {
    watch: &'w mut dyn Watch,
    step: u64,
}

impl Steps<'_> {
    fn next(&mut self) -> Result<()> {
        self.step += 1;
        if self.keep_going(0, 0) { Ok(()) } else { Err(cancelled()) }
    }
}

impl Watch for Steps<'_> {
    fn keep_going(&mut self, done: u64, total: u64) -> bool {
        const PARTS: u64 = 100;
        let part = (done.min(total) * PARTS).checked_div(total).unwrap_or(0);
        self.watch.keep_going(self.step * PARTS + part, STEPS * PARTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;
    use crate::contract::forget::{fill_telling, nearest};
    use crate::request::{Checkpoint, Delete, Derived as Place, IndexAt, Key, Open, Operation};
    use crate::sqlite::SqliteStore;
    use crate::sqlite::tables::fts::FtsTable;
    use crate::sqlite::tables::fts_terms;
    use crate::store::{Store, Unwatched};
    use crate::traces::Kind;

    fn request(ids: &[&str]) -> Forget {
        let document_ids = Some(ids.iter().map(ToString::to_string).collect());
        Forget { collection: "c".to_owned(), document_ids, filter: None }
    }

    /// Deletes, and leaves the files as they are: what the search is to find.
    fn delete_only(store: &SqliteStore, ids: &[&str]) -> Box<Forgotten> {
        let written = store.write(vec![Write::Forget(request(ids))], &mut Unwatched).unwrap().pop().unwrap();
        let Written::Forgotten(forgotten) = written else { panic!("{written:?}") };
        forgotten
    }

    fn kinds(store: &SqliteStore, traces: &Traces) -> BTreeSet<&'static str> {
        let searched = verify(&store.opened().unwrap(), traces, &mut Unwatched).unwrap();
        searched.remains.iter().map(|residue| residue.kind).collect()
    }

    fn all() -> BTreeSet<&'static str> {
        [Kind::Text, Kind::Metadata, Kind::Hash, Kind::Term, Kind::Vector].map(Kind::as_str).into()
    }

    /// The control: the search finds what is there, of each kind, in the file and in the log, encrypted or not.
    #[test]
    fn what_is_left_is_found_until_it_is_removed() {
        let keys: &[Option<Key>] =
            if cfg!(feature = "encryption") { &[None, Some(Key::raw(&[7; 32]).unwrap())] } else { &[None] };
        for key in keys {
            for moved in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let open = Open { key: key.clone(), derived: Place::Off, ..Open::file(folder.path().join("a.db")) };
                let store = SqliteStore::open(&open).unwrap();
                fill_telling(&store, 200);
                if moved {
                    let truncate = Operation::Checkpoint(Checkpoint::Truncate);
                    store.operate(truncate, &mut Unwatched).unwrap();
                }
                let forgotten = delete_only(&store, &["telling7", "telling8"]);
                assert_eq!((forgotten.documents, forgotten.chunks, forgotten.embeddings), (2, 2, 2));
                let found = kinds(&store, &forgotten.traces);
                // vec0 overwrites a vector as it deletes it; the log has it until it is moved.
                let mut expected = all();
                if moved || key.is_some() {
                    expected.remove("vector");
                }
                let missing: Vec<_> = expected.difference(&found).collect();
                assert!(missing.is_empty() || key.is_some(), "{missing:?} of {found:?}, moved {moved}");
                assert!(!found.is_empty(), "moved {moved}");
                let report = store.forget(request(&[]), &mut Unwatched).unwrap();
                assert!(report.ok(), "{report:?}");
                assert_eq!(kinds(&store, &forgotten.traces), BTreeSet::new());
                assert_eq!(nearest(&store, 9), "telling9");
                store.close().unwrap();
            }
        }
    }

    /// Of terms that begin alike, a page has the beginning once: no search of its bytes finds them.
    #[test]
    fn terms_of_another_collection_go_too() {
        let folder = tempfile::tempdir().unwrap();
        let open = Open { derived: Place::Off, ..Open::file(folder.path().join("a.db")) };
        let store = SqliteStore::open(&open).unwrap();
        fill_telling(&store, 50);
        store.create_collection(contract::collection("other")).unwrap();
        for number in 0..20 {
            let document = contract::document(&format!("other{number}"), &format!("common zyzzyva{number}"));
            contract::add_to(&store, "other", vec![document], None).unwrap();
        }
        store.operate(Operation::Optimize, &mut Unwatched).unwrap();
        let document_ids = Some(vec!["other7".to_owned()]);
        let delete = Delete { collection: "other".into(), document_ids, chunk_ids: None, uris: None, filter: None };
        store.delete(delete).unwrap();
        let table = FtsTable { collection_id: 2, generation: 1 };
        let all_live = || {
            let opened = store.opened().unwrap();
            watched(&mut Unwatched, |progress| {
                let pulse = Pulse::new(None, Arc::<Progress>::clone(progress));
                opened.readers.apart_while(&pulse, |conn| fts_terms::all_live(conn, table))
            })
            .unwrap()
        };
        assert!(!all_live());
        assert!(store.forget(request(&["telling7"]), &mut Unwatched).unwrap().ok());
        assert!(all_live());
        store.close().unwrap();
    }

    /// What a snapshot holds is found there.
    #[test]
    fn snapshots_are_searched() {
        let folder = tempfile::tempdir().unwrap();
        // It is not built anew by itself.
        let index_at = Some(IndexAt { rows: 1, tail: usize::MAX, wait: true });
        let open = Open { index_at, ..Open::file(folder.path().join("a.db")) };
        let store = SqliteStore::open(&open).unwrap();
        fill_telling(&store, 200);
        // Builds them.
        store.operate(Operation::Optimize, &mut Unwatched).unwrap();
        let forgotten = delete_only(&store, &["telling7"]);
        let searched = verify(&store.opened().unwrap(), &forgotten.traces, &mut Unwatched).unwrap();
        let kinds: BTreeSet<_> = searched
            .remains
            .iter()
            .filter(|residue| residue.file.extension().is_some_and(|extension| extension == "index"))
            .map(|residue| residue.kind)
            .collect();
        assert_eq!(kinds, BTreeSet::from(["code", "term", "vector"]), "{:?}", searched.remains);
        // What remains is what is looked for again.
        assert!(searched.left.len() < forgotten.traces.len());
        let again = verify(&store.opened().unwrap(), &searched.left, &mut Unwatched).unwrap();
        assert_eq!(again.remains, searched.remains);
        assert!(store.forget(request(&[]), &mut Unwatched).unwrap().ok());
        let after = verify(&store.opened().unwrap(), &forgotten.traces, &mut Unwatched).unwrap();
        assert_eq!(after.remains, []);
        store.close().unwrap();
    }
}
