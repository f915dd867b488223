//! What has expired is not there.

use serde_json::json;

use super::search::near;
use super::{Test, add, add_as, answer, chunk, document, filter, ids, kind, nothing, object, search, vectors};
use crate::error::ErrorKind;
use crate::model::{Metadata, NewChunk, NewDocument, OnConflict, Timestamp};
use crate::request::{
    Accuracy, AddChunks, DEFAULT_SPACE, Delete, DocumentKey, Expire, GetDocument, ListDocuments, MetadataMode, Mode,
    Neighbors, Search, SearchBatch, SearchStore, Syntax, UpdateMetadata,
};
use crate::store::{Store, Uninterrupted};

pub const TESTS: [(&str, Test); 3] =
    [("expired_reads", expired_reads), ("expired_writes", expired_writes), ("expire", expire)];

fn past() -> Option<Timestamp> {
    Some(Timestamp(Timestamp::now().0 - 1_000_000))
}

fn later() -> Option<Timestamp> {
    Some(Timestamp(Timestamp::now().0 + 3_600_000_000))
}

/// Document a has expired; of b the middle one of three chunks has; d goes on for an hour.
fn three(store: &dyn Store) {
    let part = |id: &str, expires_at| NewChunk { expires_at, ..chunk(id, "fox") };
    let a = NewDocument {
        expires_at: past(),
        chunks: Some(vec![part("a1", None), part("a2", later())]),
        ..document("a", "fox")
    };
    let b = NewDocument {
        chunks: Some(vec![part("b1", None), part("b2", past()), part("b3", later())]),
        ..document("b", "fox")
    };
    let d = NewDocument { expires_at: later(), chunks: Some(vec![part("d1", None)]), ..document("d", "fox") };
    let rows = [[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.4], [1.0, 0.5]];
    let all = [a, b, d].into_iter().map(|document| NewDocument { metadata: object(json!({ "x": 1 })), ..document });
    add(store, all.collect(), vectors(&rows)).unwrap();
}

fn expired_reads(store: &dyn Store) {
    three(store);
    let there = ["b1", "b3", "d1"];
    let words = Mode::Keyword { text: "fox".into(), syntax: Syntax::Natural, space: DEFAULT_SPACE.into() };
    let both = Mode::Hybrid {
        text: "fox".into(),
        vector: vec![1.0, 0.0],
        space: DEFAULT_SPACE.into(),
        fusion: crate::request::Fusion::default(),
        candidates: None,
    };
    for mode in [near(1.0, 0.0), words.clone(), both] {
        for among in [None, filter(json!({ "x": 1 })), filter(json!({ "id": { "$ne": "none" } }))] {
            let mut found = answer(store, &Search { filter: among, ..Search::new("c", mode.clone(), 9) }).unwrap();
            found.hits.sort_by(|a, b| a.id.cmp(&b.id));
            assert_eq!(found.hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), there);
        }
    }
    assert_eq!(search(store, near(1.0, 0.0), 1, None), ["b"]);
    let grouped = Search { group_size: Some(9), window: Some((2, 2)), ..Search::new("c", near(1.0, 0.0), 9) };
    let hits = answer(store, &grouped).unwrap();
    assert_eq!(hits.hits[0].text.as_deref(), Some("fox\nfox"));
    assert!(hits.complete && hits.hits.len() == 3);
    for among in [None, filter(json!({ "x": 1 }))] {
        assert_eq!(store.count("c", among.as_ref()).unwrap(), 3);
        assert_eq!(store.count_documents("c", among.as_ref()).unwrap(), 2);
        let list = ListDocuments { collection: "c".into(), filter: among.clone(), limit: 9, after: None, offset: 0 };
        let listed: Vec<_> = store.list_documents(&list).unwrap().into_iter().map(|document| document.id).collect();
        assert_eq!(listed, ["d", "b"]);
        let batch = SearchBatch {
            collection: "c".into(),
            vectors: vec![1.0, 0.0],
            dimension: 2,
            space: DEFAULT_SPACE.into(),
            k: 9,
            filter: among.clone(),
            accuracy: Accuracy::default(),
        };
        let answers = store.search_batch(&batch, std::sync::Arc::new(Uninterrupted)).unwrap();
        assert_eq!(answers[0].hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), there);
        let whole = SearchStore { collections: None, mode: words.clone(), k: 9, filter: among, timeout: None };
        assert_eq!(store.search_store(&whole, std::sync::Arc::new(Uninterrupted)).unwrap().hits.len(), 3);
    }
    let found = store.get("c", &ids(&["a1", "a2", "b1", "b2", "b3", "d1"])).unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true, false, true, true]);
    let get = |id: &str| {
        let request = GetDocument { collection: "c".into(), key: DocumentKey::Id(id.into()) };
        store.get_document(&request).unwrap().is_some()
    };
    assert!(!get("a") && get("b") && get("d"));
    let names = |document: &str| {
        store.get_chunks("c", document).unwrap().into_iter().map(|chunk| chunk.id).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((names("a"), names("b")), (String::new(), "b1 b3".into()));
    assert!(store.get_chunk_by_index("c", "b", 1).unwrap().is_none());
    assert!(store.get_chunk_by_index("c", "b", 2).unwrap().is_some());
    let around = |id: &str| {
        let request = Neighbors { collection: "c".into(), chunk_id: id.into(), before: 1, after: 1 };
        store.neighbors(&request).unwrap().len()
    };
    assert_eq!((around("a1"), around("b1"), around("b2")), (0, 2, 0));
    assert_eq!(kind(store.get_embeddings("c", &ids(&["a1"]), DEFAULT_SPACE)), ErrorKind::DocumentNotFound);
    store
        .create_index(
            crate::request::CreateIndex { collection: "c".into(), field: "x".into() },
            &mut crate::store::Unwatched,
        )
        .unwrap();
    assert_eq!(store.count("c", filter(json!({ "x": 1 })).as_ref()).unwrap(), 3);
}

fn expired_writes(store: &dyn Store) {
    three(store);
    let delete = |request| store.delete(Delete { ..request }).unwrap();
    assert_eq!(delete(Delete { chunk_ids: Some(ids(&["a1", "b2", "none"])), ..nothing() }), 0);
    assert_eq!(delete(Delete { document_ids: Some(ids(&["a"])), ..nothing() }), 0);
    let update = |document_ids, filter| {
        store.update_metadata(UpdateMetadata {
            collection: "c".into(),
            metadata: Metadata::empty(),
            chunk_ids: None,
            document_ids,
            filter,
            mode: MetadataMode::Merge,
        })
    };
    assert_eq!(update(None, filter(json!({ "x": 1 }))).unwrap(), 3);
    assert_eq!(kind(update(Some(ids(&["a"])), None)), ErrorKind::DocumentNotFound);
    let more =
        AddChunks { collection: "c".into(), document_id: "a".into(), chunks: vec![chunk("a9", "x")], embeddings: None };
    assert_eq!(kind(store.add_chunks(more)), ErrorKind::DocumentNotFound);
    // What has expired is no conflict: its names are free.
    assert_eq!(store.unchanged("c", &[document("a", "fox")]).unwrap(), [false]);
    let again = NewDocument { chunks: Some(vec![chunk("a1", "new"), chunk("b2", "new")]), ..document("a", "new") };
    let result = add_as(store, vec![again], None, OnConflict::Error).unwrap();
    assert_eq!((result.added, result.replaced), (1, 0));
    assert_eq!(store.get("c", &ids(&["a1", "a2", "b2"])).unwrap().iter().flatten().count(), 2);
    assert_eq!(store.count("c", None).unwrap(), 5);
}

fn expire(store: &dyn Store) {
    three(store);
    let expire = || store.expire(Expire { collection: "c".into() }).unwrap();
    assert_eq!((expire(), expire()), (2, 0));
    assert_eq!(search(store, near(1.0, 0.0), 9, None), ["b", "b", "d"]);
    let all = store.get_chunks("c", "b").unwrap();
    assert_eq!(all.iter().map(|chunk| chunk.index).collect::<Vec<_>>(), [0, 2]);
}
