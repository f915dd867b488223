//! Deletion that is proven.

use std::sync::Arc;

use serde_json::json;

use super::{Test, add, answer, document, filter, ids, kind, object};
use crate::error::ErrorKind;
use crate::model::{Embeddings, Matrix, NewDocument};
use crate::request::{DEFAULT_SPACE, Forget, Mode, Search};
use crate::store::{Store, Unwatched, Watch};

pub const TESTS: [(&str, Test); 2] = [("forgetting", forgetting), ("stopping", stopping)];

/// Numbers that no two rows share.
const DIMENSION: usize = 24;

/// The embedding of a document of [`fill_telling`].
pub fn telling_vector(number: usize) -> Vec<f32> {
    (0..DIMENSION).map(|place| ((number * DIMENSION + place) as f32 * 0.7).sin()).collect()
}

/// Adds so many documents to collection `c`, each with words, metadata and a vector of its own.
pub fn fill_telling(store: &dyn Store, documents: usize) {
    if store.get_collection("c").is_err() {
        store.create_collection(super::collection("c")).unwrap();
    }
    let telling = |number: usize| NewDocument {
        metadata: object(json!({ "person": format!("the name of person {number} of all") })),
        ..document(
            &format!("telling{number}"),
            &format!("A telling text, number {number} of all, says zyzzyva{number}quokka."),
        )
    };
    let rows: Vec<f32> = (0..documents).flat_map(telling_vector).collect();
    let embeddings = Embeddings::new(Arc::new(Matrix::new(rows, DIMENSION).unwrap())).unwrap();
    add(store, (0..documents).map(telling).collect(), Some(embeddings)).unwrap();
}

/// The nearest to a document of [`fill_telling`].
pub fn nearest(store: &dyn Store, number: usize) -> String {
    let mode = Mode::Vector { vector: telling_vector(number), space: DEFAULT_SPACE.into(), text: None };
    answer(store, &Search::new("c", mode, 1)).unwrap().hits[0].document_id.clone()
}

fn forget(store: &dyn Store, request: Forget, watch: &mut dyn Watch) -> (u64, bool) {
    let report = store.forget(request, watch).unwrap();
    (report.documents, report.ok())
}

fn of(document_ids: &[&str]) -> Forget {
    Forget { collection: "c".into(), document_ids: Some(ids(document_ids)), filter: None }
}

fn forgetting(store: &dyn Store) {
    fill_telling(store, 40);
    assert_eq!(nearest(store, 7), "telling7");
    assert_eq!(forget(store, of(&["telling7", "nobody"]), &mut Unwatched), (1, true));
    assert_eq!(store.count("c", None).unwrap(), 39);
    assert_ne!(nearest(store, 7), "telling7");
    assert_eq!(nearest(store, 8), "telling8");
    let condition = filter(json!({ "person": { "$like": "%person 1%" } }));
    let both = Forget { filter: condition.clone(), ..of(&["telling8", "telling9", "telling10"]) };
    assert_eq!(forget(store, both, &mut Unwatched), (1, true));
    let matching = Forget { document_ids: None, filter: condition, ..of(&[]) };
    assert_eq!(forget(store, matching, &mut Unwatched), (10, true));
    assert_eq!(store.count_documents("c", None).unwrap(), 28);
    assert_eq!(forget(store, of(&[]), &mut Unwatched), (0, true));
    let elsewhere = Forget { collection: "none".into(), ..of(&[]) };
    assert_eq!(kind(store.forget(elsewhere, &mut Unwatched)), ErrorKind::CollectionNotFound);
}

/// Goes on until the documents are deleted.
struct Stop;

impl Watch for Stop {
    fn keep_going(&mut self, done: u64, _total: u64) -> bool {
        done < 100
    }
}

fn stopping(store: &dyn Store) {
    fill_telling(store, 5);
    let error = store.forget(of(&["telling1"]), &mut Stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.message().contains("are deleted"), "{error}");
    assert_eq!(store.count("c", None).unwrap(), 4);
    assert_eq!(forget(store, of(&["telling1"]), &mut Unwatched), (0, true));
}
