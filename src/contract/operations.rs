//! Operations on the file change no answer.

use serde_json::json;

use super::{add, answer, collection, document, filter, kind, vectors};
use crate::error::ErrorKind;
use crate::model::{Hits, NewDocument, OnConflict, Status};
use crate::request::{
    Accuracy, Add, Backup, Checkpoint, CreateIndex, DEFAULT_SPACE, Delete, Mode, Operation, Search, Syntax,
};
use crate::store::{Store, Unwatched, Watch};

const EVERY: [Operation; 6] = [
    Operation::Checkpoint(Checkpoint::Passive),
    Operation::Checkpoint(Checkpoint::Full),
    Operation::Checkpoint(Checkpoint::Restart),
    Operation::Checkpoint(Checkpoint::Truncate),
    Operation::Optimize,
    Operation::Vacuum,
];

/// Documents with holes between them, replaced and deleted ones.
fn churned(store: &dyn Store) {
    let all = |from: usize, to: usize, text: &str| -> Vec<NewDocument> {
        (from..to).map(|i| document(&format!("d{i:03}"), &format!("{text} word{}", i % 7))).collect()
    };
    let rows = |from: usize, to: usize| -> Vec<[f32; 2]> {
        (from..to).map(|i| [(i as f32).cos(), (i as f32 * 1.3).sin() + 0.01]).collect()
    };
    store.create_index(CreateIndex { collection: "c".into(), field: "doc".into() }, &mut Unwatched).unwrap();
    add(store, all(0, 600, "first"), vectors(&rows(0, 600))).unwrap();
    for _ in 0..2 {
        let request = Add {
            collection: "c".into(),
            documents: all(100, 400, "second"),
            embeddings: vectors(&rows(100, 400)),
            on_conflict: OnConflict::Replace,
            space: DEFAULT_SPACE.into(),
        };
        store.add(request, &mut Unwatched).unwrap();
    }
    let gone = Some(filter(json!({ "doc": { "$lt": "d050" } })).unwrap());
    store.delete(Delete { filter: gone, ..super::nothing() }).unwrap();
}

/// Hits by every road, with their rows.
fn answers(store: &dyn Store) -> Vec<String> {
    let near = || Mode::Vector { vector: vec![0.3, 0.8], space: DEFAULT_SPACE.into(), text: None };
    let word = || Mode::Keyword { text: "word3".into(), syntax: Syntax::Natural, space: DEFAULT_SPACE.into() };
    let told = |hits: Hits| format!("{:?}", hits.hits);
    let mut all = Vec::new();
    for mode in [near(), word()] {
        for filter in [None, filter(json!({ "doc": { "$gt": "d300" } }))] {
            let request = Search { filter, accuracy: Accuracy::EXACT, ..Search::new("c", mode.clone(), 1000) };
            all.push(told(answer(store, &request).unwrap()));
        }
    }
    all.push(format!("{}", store.count("c", None).unwrap()));
    all
}

pub(super) fn no_answer_changes(store: &dyn Store) {
    churned(store);
    let before = answers(store);
    for operation in EVERY {
        store.operate(operation, &mut Unwatched).unwrap();
        assert_eq!(answers(store), before, "{operation:?}");
    }
    add(store, vec![document("new", "word3")], vectors(&[[1.0, 0.0]])).unwrap();
    assert_ne!(answers(store), before);
}

pub(super) fn numbers(store: &dyn Store) {
    let empty = store.stats().unwrap();
    assert_eq!((empty.collections, empty.documents, empty.chunks, empty.embeddings), (1, 0, 0, 0));
    churned(store);
    store.create_collection(collection("other")).unwrap();
    let full = store.stats().unwrap();
    assert_eq!((full.collections, full.documents, full.chunks, full.embeddings), (2, 550, 550, 550));
    assert!(full.vector_bytes >= 550 * 2 * 4 && full.text_index_bytes > 0 && full.field_index_bytes > 0);
    assert!(full.file_bytes + full.log_bytes > full.vector_bytes);
    store.operate(Operation::Optimize, &mut Unwatched).unwrap();
    let after = store.stats().unwrap();
    assert!(after.vector_bytes < full.vector_bytes && after.text_index_bytes <= full.text_index_bytes);
    assert_eq!(after.free_bytes, 0);
    assert!(after.checkpoints > 0 && after.cache_hits > full.cache_hits && after.readers_open > 0);
}

pub(super) fn fares_well(store: &dyn Store) {
    let health = store.health().unwrap();
    // A disk may be nearly full where this runs; nothing else may be amiss.
    assert!(health.reasons.iter().all(|reason| reason.what.contains("free")), "{health:?}");
    if health.reasons.is_empty() {
        assert_eq!(health.status, Status::Healthy);
    }
}

pub(super) fn backups(store: &dyn Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    churned(store);
    let refused = |path: &std::path::Path| kind(store.backup(&Backup { path: path.into() }, &mut Unwatched));
    assert_eq!(refused(folder.path()), ErrorKind::Argument);
    assert_eq!(refused(&folder.path().join("none/backup")), ErrorKind::NotFound);
    store.backup(&Backup { path: path.clone() }, &mut Unwatched).unwrap();
    let first = std::fs::read(&path).unwrap();

    /// Stops at the first look.
    struct Stop;
    impl Watch for Stop {
        fn keep_going(&mut self, _done: u64, _total: u64) -> bool {
            false
        }
    }
    // Whether the wish is seen in time is a matter of luck; the file is whole either way.
    match store.backup(&Backup { path: path.clone() }, &mut Stop) {
        Ok(()) => {}
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            assert_eq!(std::fs::read(&path).unwrap(), first);
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["backup"]);
}
