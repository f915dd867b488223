//! What every backend must do, as functions over [`Store`]. Each backend's tests run [`run`].

mod embedding_cache;
mod embeddings;
mod expiry;
mod export;
mod filters;
pub mod forget;
mod keyword;
mod operations;
mod relations;
mod search;
mod state;
mod sync;

use std::sync::Arc;

use serde_json::{Map, json};

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::model::{AddResult, Embeddings, Hits, Matrix, Metadata, Metric, NewChunk, NewDocument, OnConflict};
use crate::request::{
    Accuracy, Add, AddChunks, Clear, CreateCollection, DEFAULT_SPACE, Delete, DeleteCollection, DocumentKey,
    GetDocument, ListDocuments, MetadataMode, Mode, Neighbors, Search, UpdateMetadata, Write,
};
use crate::store::{Store, Uninterrupted, Unwatched, Watch};

/// Runs the whole contract; `open` gives an empty store each time, `check` looks behind the contract for leftovers.
pub fn run(open: &dyn Fn() -> Arc<dyn Store>, check: &dyn Fn(&dyn Store)) {
    for (name, test) in TESTS
        .iter()
        .chain(&embedding_cache::TESTS)
        .chain(&expiry::TESTS)
        .chain(&forget::TESTS)
        .chain(&relations::TESTS)
        .chain(&state::TESTS)
    {
        let store = open();
        assert!(store.list_collections().unwrap().is_empty(), "{name} must begin with an empty store");
        store.create_collection(collection("c")).unwrap();
        test(store.as_ref());
        check(store.as_ref());
        store.close().unwrap();
        assert_eq!(store.list_collections().unwrap_err().kind(), ErrorKind::Closed, "{name}");
        store.close().unwrap();
    }
}

/// The same of two stores that exchange changes.
pub fn run_sync(open: &dyn Fn() -> Arc<dyn Store>, check: &dyn Fn(&dyn Store)) {
    for (_, test) in &sync::TESTS {
        let stores = [open(), open()];
        stores[0].create_collection(collection("c")).unwrap();
        crate::exchange::sync(&*stores[0], &*stores[1], &mut Unwatched).unwrap();
        test(&*stores[0], &*stores[1]);
        for store in &stores {
            check(&**store);
            store.close().unwrap();
        }
    }
}

/// What threads do at the same time is done one after the other.
pub fn run_threads(store: &Arc<dyn Store>) {
    state::racing_counters(store, 4, 25);
}

/// Makes collection `c` with so many documents.
pub fn fill(store: &dyn Store, documents: usize) {
    store.create_collection(collection("c")).unwrap();
    let all: Vec<NewDocument> = (0..documents).map(|i| document(&format!("fill{i}"), "some text")).collect();
    add(store, all, vectors(&vec![[1.0, 0.5]; documents])).unwrap();
}

/// Adds one document with these embeddings.
pub fn add_with(store: &dyn Store, id: &str, embeddings: Embeddings) -> Result<AddResult> {
    add(store, vec![document(id, "text")], Some(embeddings))
}

/// Adds documents one by one, the last of them twice with other content, and says how many adds failed.
pub fn add_each(store: &dyn Store, thread: usize, adds: usize) -> usize {
    let one = |i: usize| {
        let (id, text) = if i + 1 == adds { (0, "other") } else { (i, "text") };
        add(store, vec![document(&format!("t{thread}-{id}"), text)], vectors(&[[0.5, 1.0]]))
    };
    (0..adds).filter(|&i| one(i).is_err_and(|e| e.kind() == ErrorKind::Conflict)).count()
}

type Test = fn(&dyn Store);

const TESTS: &[(&str, Test)] = &[
    ("collections", collections),
    ("adding", adding),
    ("conflicts", conflicts),
    ("unchanged", unchanged),
    ("atomicity", atomicity),
    ("embeddings", embeddings::embeddings),
    ("spaces", embeddings::spaces),
    ("chunks", chunks),
    ("documents", documents),
    ("metadata", metadata),
    ("deleting", deleting),
    ("vector_search", vector_search),
    ("text_search", keyword::text_search),
    ("syntaxes", keyword::syntaxes),
    ("tokenizers", keyword::tokenizers),
    ("operators", filters::operators),
    ("indexes", filters::indexes),
    ("fusions", search::fusions),
    ("groups", search::groups),
    ("diversity", search::diversity),
    ("windows", search::windows),
    ("reranking", search::reranking),
    ("choosing_groups", search::choosing_groups),
    ("parts", search::parts),
    ("plans", search::plans),
    ("limits", search::limits),
    ("batches", search::batches),
    ("whole_store", search::whole_store),
    ("exporting", export::snapshot),
    ("exporting_some", export::choosing),
    ("exporting_relations_and_state", export::relations_and_state),
    ("no_answer_changes", operations::no_answer_changes),
    ("numbers", operations::numbers),
    ("fares_well", operations::fares_well),
    ("backups", operations::backups),
];

/// A collection with the default space.
pub fn collection(name: &str) -> CreateCollection {
    CreateCollection {
        name: name.into(),
        dimension: None,
        metric: Metric::Cosine,
        tokenizer: "porter unicode61".into(),
        description: None,
        settings: Map::new(),
        model: None,
        exist_ok: false,
    }
}

pub fn document(id: &str, text: &str) -> NewDocument {
    NewDocument {
        id: Some(id.into()),
        uri: Some(format!("file:{id}")),
        text: Some(text.into()),
        content_type: "text/plain".into(),
        metadata: object(json!({ "doc": id })),
        chunks: None,
        expires_at: None,
    }
}

fn chunk(id: &str, text: &str) -> NewChunk {
    NewChunk {
        id: Some(id.into()),
        text: Some(text.into()),
        metadata: object(json!({ "chunk": id })),
        chars: None,
        token_count: Some(3),
        expires_at: None,
    }
}

fn object(value: serde_json::Value) -> Metadata {
    Metadata::from_map(value.as_object().unwrap()).unwrap()
}

fn filter(value: serde_json::Value) -> Option<Filter> {
    Some(Filter::parse(value.as_object().unwrap()).unwrap())
}

fn vectors(rows: &[[f32; 2]]) -> Option<Embeddings> {
    Some(Embeddings::new(Arc::new(Matrix::new(rows.concat(), 2).unwrap())).unwrap())
}

fn wide(rows: &[[f32; 3]]) -> Option<Embeddings> {
    Some(Embeddings::new(Arc::new(Matrix::new(rows.concat(), 3).unwrap())).unwrap())
}

fn ids(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn add(store: &dyn Store, documents: Vec<NewDocument>, embeddings: Option<Embeddings>) -> Result<AddResult> {
    add_as(store, documents, embeddings, OnConflict::Error)
}

pub fn add_to(
    store: &dyn Store,
    collection: &str,
    documents: Vec<NewDocument>,
    embeddings: Option<Embeddings>,
) -> Result<AddResult> {
    let (on_conflict, space) = (OnConflict::Error, DEFAULT_SPACE.into());
    store.add(Add { collection: collection.into(), documents, embeddings, on_conflict, space }, &mut Unwatched)
}

fn add_as(
    store: &dyn Store,
    documents: Vec<NewDocument>,
    embeddings: Option<Embeddings>,
    on_conflict: OnConflict,
) -> Result<AddResult> {
    let request = Add { collection: "c".into(), documents, embeddings, on_conflict, space: DEFAULT_SPACE.into() };
    store.add(request, &mut Unwatched)
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.map_err(|e: Error| e.kind()).expect_err("an error was expected")
}

fn collections(store: &dyn Store) {
    let settings = json!({ "owner": "me" }).as_object().unwrap().clone();
    let asked = CreateCollection {
        dimension: Some(2),
        metric: Metric::L2,
        description: Some("papers".into()),
        settings: settings.clone(),
        model: Some("m".into()),
        ..collection("papers")
    };
    let made = store.create_collection(asked.clone()).unwrap();
    assert_eq!(store.get_collection("papers").unwrap(), made);
    assert_eq!((made.settings, made.description.as_deref()), (settings, Some("papers")));
    assert_eq!((made.spaces[0].dimension, made.spaces[0].metric), (Some(2), Metric::L2));
    assert_eq!(kind(store.create_collection(asked.clone())), ErrorKind::CollectionExists);
    store.create_collection(CreateCollection { exist_ok: true, ..asked.clone() }).unwrap();
    for other in [
        CreateCollection { dimension: Some(3), ..asked.clone() },
        CreateCollection { metric: Metric::Ip, ..asked.clone() },
        CreateCollection { tokenizer: "trigram".into(), ..asked.clone() },
        CreateCollection { model: Some("n".into()), ..asked },
    ] {
        let other = CreateCollection { exist_ok: true, ..other };
        assert_eq!(kind(store.create_collection(other)), ErrorKind::CollectionExists);
    }
    let names: Vec<String> = store.list_collections().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["c", "papers"]);
    add(store, vec![document("a", "x")], None).unwrap();
    store.delete_collection(DeleteCollection { name: "c".into() }).unwrap();
    assert_eq!(kind(store.get_collection("c")), ErrorKind::CollectionNotFound);
    assert_eq!(kind(store.delete_collection(DeleteCollection { name: "c".into() })), ErrorKind::CollectionNotFound);
    store.create_collection(collection("c")).unwrap();
    assert_eq!(store.count("c", None).unwrap(), 0);
}

fn adding(store: &dyn Store) {
    let mut chunked = document("b", "naïve text");
    let span = |start, end| NewChunk { id: None, text: None, chars: Some((start, end)), ..chunk("x", "") };
    chunked.chunks = Some(vec![span(0, 5), span(6, 10), chunk("own", "other")]);
    let result = add(store, vec![document("a", "one"), chunked], vectors(&[[1.0, 0.0]; 4])).unwrap();
    assert_eq!((result.added, result.chunk_ids.len()), (2, 4));
    assert_eq!(result.document_ids, ["a", "b"]);
    let stored = store.get_chunks("c", "b").unwrap();
    let texts: Vec<&str> = stored.iter().map(|chunk| chunk.text.as_deref().unwrap()).collect();
    assert_eq!(texts, ["naïve", "text", "other"]);
    assert_eq!(stored[1].span.unwrap().bytes, Some((7, 11)));
    assert_eq!(stored.iter().map(|chunk| chunk.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((store.count("c", None).unwrap(), store.count_documents("c", None).unwrap()), (4, 2));
    // Neither text nor embedding is needed.
    let bare = NewDocument { text: None, uri: None, id: None, ..document("x", "") };
    add(store, vec![bare], None).unwrap();
    assert_eq!(kind(add(store, vec![document("z", "z")], vectors(&[]))), ErrorKind::InvalidVector);
}

fn conflicts(store: &dyn Store) {
    add(store, vec![document("a", "one")], vectors(&[[1.0, 0.0]])).unwrap();
    let other = || document("a", "two");
    assert_eq!(kind(add(store, vec![other()], None)), ErrorKind::Conflict);
    let skipped = add_as(store, vec![other()], None, OnConflict::Skip).unwrap();
    assert_eq!((skipped.skipped, skipped.document_ids.as_slice()), (1, ["a".to_owned()].as_slice()));
    let created = document_of(store, "a").created_at;
    let replaced = add_as(store, vec![other()], None, OnConflict::Replace).unwrap();
    assert_eq!(replaced.replaced, 1);
    assert_eq!(document_of(store, "a").text.as_deref(), Some("two"));
    assert_eq!(document_of(store, "a").created_at, created);
    assert_eq!(kind(store.get_embeddings("c", &replaced.chunk_ids, DEFAULT_SPACE)), ErrorKind::NotFound);
    // The uri alone is a name too, and the id that was not given stays.
    let by_uri = NewDocument { id: None, ..document("a", "three") };
    assert_eq!(add_as(store, vec![by_uri], None, OnConflict::Replace).unwrap().document_ids, ["a"]);
    add(store, vec![document("b", "b")], None).unwrap();
    let both = NewDocument { uri: Some("file:a".into()), ..document("b", "new") };
    assert_eq!(kind(add_as(store, vec![both], None, OnConflict::Replace)), ErrorKind::Conflict);
    let mut taken = document("d", "d");
    taken.chunks = Some(vec![chunk("same", "1"), chunk("same", "2")]);
    assert_eq!(kind(add(store, vec![taken], None)), ErrorKind::Conflict);
}

fn document_of(store: &dyn Store, id: &str) -> crate::model::Document {
    let request = GetDocument { collection: "c".into(), key: DocumentKey::Id(id.into()) };
    store.get_document(&request).unwrap().unwrap()
}

fn unchanged(store: &dyn Store) {
    let a = || document("a", "one");
    add(store, vec![a()], vectors(&[[1.0, 0.0]])).unwrap();
    for policy in [OnConflict::Error, OnConflict::Replace, OnConflict::Skip] {
        assert_eq!(add_as(store, vec![a()], None, policy).unwrap().unchanged, 1);
        assert_eq!(add_as(store, vec![a()], vectors(&[[1.0, 0.0]]), policy).unwrap().unchanged, 1);
    }
    let replaced = add_as(store, vec![a()], vectors(&[[0.0, 1.0]]), OnConflict::Replace).unwrap();
    assert_eq!(replaced.replaced, 1);
    let asked = [a(), document("a", "two"), document("z", "one"), NewDocument { id: None, ..a() }];
    assert_eq!(store.unchanged("c", &asked).unwrap(), [true, false, false, true]);
    let update = UpdateMetadata {
        collection: "c".into(),
        metadata: object(json!({ "k": 1 })),
        chunk_ids: None,
        document_ids: Some(ids(&["a"])),
        filter: None,
        mode: MetadataMode::Merge,
    };
    store.update_metadata(update).unwrap();
    assert_eq!(store.unchanged("c", &[a()]).unwrap(), [false]);
}

struct Never;

impl Watch for Never {
    fn keep_going(&mut self, _done: u64, _total: u64) -> bool {
        false
    }
}

fn atomicity(store: &dyn Store) {
    add(store, vec![document("a", "one")], None).unwrap();
    let bad = vec![document("b", "b"), document("a", "other")];
    assert_eq!(kind(add(store, bad, None)), ErrorKind::Conflict);
    let nan = add(store, vec![document("b", "b"), document("d", "d")], vectors(&[[1.0, 0.0], [f32::NAN, 0.0]]));
    assert_eq!(kind(nan), ErrorKind::InvalidVector);
    assert_eq!(store.count_documents("c", None).unwrap(), 1);
    let one = |id: &str| {
        Write::Add(Add {
            collection: "c".into(),
            documents: vec![document(id, id)],
            embeddings: None,
            on_conflict: OnConflict::Error,
            space: DEFAULT_SPACE.into(),
        })
    };
    assert_eq!(kind(store.write(vec![one("x"), one("y"), one("a")], &mut Unwatched)), ErrorKind::Conflict);
    assert_eq!(store.count_documents("c", None).unwrap(), 1);
    assert_eq!(store.write(vec![one("x"), one("y")], &mut Unwatched).unwrap().len(), 2);
    let many: Vec<NewDocument> = (0..20_000).map(|i| document(&format!("m{i}"), "many words of text")).collect();
    let request = Add {
        collection: "c".into(),
        documents: many,
        embeddings: None,
        on_conflict: OnConflict::Error,
        space: DEFAULT_SPACE.into(),
    };
    assert_eq!(kind(store.add(request, &mut Never)), ErrorKind::Cancelled);
    assert_eq!(store.count_documents("c", None).unwrap(), 3);
}

fn chunks(store: &dyn Store) {
    let mut new = document("a", "text");
    new.chunks = Some((0..4).map(|i| chunk(&format!("a{i}"), &format!("part {i}"))).collect());
    add(store, vec![new], None).unwrap();
    let more = |document: &str| AddChunks {
        collection: "c".into(),
        document_id: document.into(),
        chunks: vec![chunk("a4", "part 4")],
        embeddings: vectors(&[[1.0, 0.0]]),
    };
    assert_eq!(store.add_chunks(more("a")).unwrap(), ["a4"]);
    assert_eq!(kind(store.add_chunks(more("a"))), ErrorKind::Conflict);
    assert_eq!(kind(store.add_chunks(more("none"))), ErrorKind::DocumentNotFound);
    let got = store.get("c", &ids(&["a2", "none", "a0"])).unwrap();
    let got: Vec<Option<&str>> = got.iter().map(|chunk| chunk.as_ref().map(|chunk| chunk.id.as_str())).collect();
    assert_eq!(got, [Some("a2"), None, Some("a0")]);
    let around = |id: &str, before, after| -> Vec<String> {
        let request = Neighbors { collection: "c".into(), chunk_id: id.into(), before, after };
        store.neighbors(&request).unwrap().into_iter().map(|chunk| chunk.id).collect()
    };
    assert_eq!(around("a2", 1, 1), ["a1", "a2", "a3"]);
    assert_eq!(around("a0", 5, 0), ["a0"]);
    assert!(around("none", 1, 1).is_empty());
    let delete = Delete { chunk_ids: Some(ids(&["a1"])), ..nothing() };
    assert_eq!(store.delete(delete).unwrap(), 1);
    assert_eq!(around("a2", 1, 9), ["a0", "a2", "a3", "a4"]);
    assert_eq!(store.get_chunk_by_index("c", "a", 2).unwrap().unwrap().id, "a2");
    assert!(store.get_chunk_by_index("c", "a", 1).unwrap().is_none());
    assert!(store.get_chunks("c", "none").unwrap().is_empty());
}

fn nothing() -> Delete {
    Delete { collection: "c".into(), chunk_ids: None, document_ids: None, uris: None, filter: None }
}

fn documents(store: &dyn Store) {
    let all: Vec<NewDocument> = ["a", "b", "d", "e"].map(|id| document(id, id)).into();
    add(store, all, None).unwrap();
    add(store, vec![NewDocument { chunks: Some(vec![]), ..document("empty", "") }], None).unwrap();
    let list = |request: ListDocuments| -> Vec<String> {
        store.list_documents(&request).unwrap().into_iter().map(|document| document.id).collect()
    };
    let plain = ListDocuments { collection: "c".into(), filter: None, limit: 100, after: None, offset: 0 };
    assert_eq!(list(plain.clone()), ["empty", "e", "d", "b", "a"]);
    assert_eq!(list(ListDocuments { limit: 2, after: Some("e".into()), ..plain.clone() }), ["d", "b"]);
    assert_eq!(list(ListDocuments { offset: 4, ..plain.clone() }), ["a"]);
    let some = filter(json!({ "doc": { "$in": ["a", "empty"] } }));
    assert_eq!(list(ListDocuments { filter: some.clone(), ..plain.clone() }), ["empty", "a"]);
    assert_eq!(store.count_documents("c", some.as_ref()).unwrap(), 2);
    assert_eq!(store.count("c", some.as_ref()).unwrap(), 1);
    let lost = ListDocuments { after: Some("none".into()), ..plain };
    assert_eq!(kind(store.list_documents(&lost)), ErrorKind::DocumentNotFound);
    let hash = document_of(store, "b").content_hash;
    for key in [DocumentKey::Uri("file:b".into()), DocumentKey::ContentHash(hash)] {
        let found = store.get_document(&GetDocument { collection: "c".into(), key }).unwrap();
        assert_eq!(found.unwrap().id, "b");
    }
    let none = GetDocument { collection: "c".into(), key: DocumentKey::Id("none".into()) };
    assert!(store.get_document(&none).unwrap().is_none());
}

fn metadata(store: &dyn Store) {
    let mut new = document("a", "x");
    new.chunks = Some(vec![chunk("a0", "x"), chunk("a1", "y")]);
    add(store, vec![new, document("b", "z")], None).unwrap();
    let update = |metadata| UpdateMetadata {
        collection: "c".into(),
        metadata: object(metadata),
        chunk_ids: None,
        document_ids: None,
        filter: None,
        mode: MetadataMode::Merge,
    };
    let by_id = UpdateMetadata { chunk_ids: Some(ids(&["a0"])), ..update(json!({ "n": 1 })) };
    assert_eq!(store.update_metadata(by_id).unwrap(), 1);
    let metadata_of = |id: &str| store.get("c", &ids(&[id])).unwrap().remove(0).unwrap().metadata;
    assert_eq!(metadata_of("a0"), object(json!({ "chunk": "a0", "n": 1 })));
    let by_filter = UpdateMetadata {
        filter: filter(json!({ "doc": "a" })),
        mode: MetadataMode::Replace,
        ..update(json!({ "n": 2 }))
    };
    assert_eq!(store.update_metadata(by_filter).unwrap(), 2);
    assert_eq!(metadata_of("a1"), object(json!({ "n": 2 })));
    let by_document = UpdateMetadata { document_ids: Some(ids(&["b"])), ..update(json!({ "doc": "new" })) };
    assert_eq!(store.update_metadata(by_document).unwrap(), 1);
    assert_eq!(store.count("c", filter(json!({ "doc": "new" })).as_ref()).unwrap(), 1);
    let missing = UpdateMetadata { chunk_ids: Some(ids(&["a0", "none"])), ..update(json!({ "n": 3 })) };
    assert_eq!(kind(store.update_metadata(missing)), ErrorKind::DocumentNotFound);
    assert_eq!(metadata_of("a0"), object(json!({ "n": 2 })));
}

fn deleting(store: &dyn Store) {
    let all = ["a", "b", "d", "e", "f"].map(|id| document(id, &format!("word {id}")));
    let chunk_ids = add(store, all.into(), vectors(&[[1.0, 0.5]; 5])).unwrap().chunk_ids;
    // A document goes with its last chunk.
    let by_chunk = Delete { chunk_ids: Some(vec![chunk_ids[0].clone(), "none".into()]), ..nothing() };
    assert_eq!(store.delete(by_chunk).unwrap(), 1);
    assert_eq!(store.count_documents("c", None).unwrap(), 4);
    let named = Delete { document_ids: Some(ids(&["b", "none"])), uris: Some(ids(&["file:d"])), ..nothing() };
    assert_eq!(store.delete(named).unwrap(), 2);
    let narrowed = Delete { document_ids: Some(ids(&["e", "f"])), filter: filter(json!({ "doc": "e" })), ..nothing() };
    assert_eq!(store.delete(narrowed).unwrap(), 1);
    assert_eq!(store.delete(Delete { filter: filter(json!({ "doc": "none" })), ..nothing() }).unwrap(), 0);
    assert_eq!(store.count("c", None).unwrap(), 1);
    store.clear(Clear { collection: "c".into() }).unwrap();
    assert_eq!((store.count("c", None).unwrap(), store.count_documents("c", None).unwrap()), (0, 0));
    assert!(search(store, keyword::natural("word"), 5, None).is_empty());
    add(store, vec![document("a", "word again")], vectors(&[[1.0, 0.0]])).unwrap();
    assert_eq!(search(store, keyword::natural("word"), 5, None).len(), 1);
}

/// A search that nobody interrupts.
fn answer(store: &dyn Store, request: &Search) -> Result<Hits> {
    store.search(request, Arc::new(Uninterrupted))
}

fn search(store: &dyn Store, mode: Mode, k: usize, filter: Option<Filter>) -> Vec<String> {
    let request = Search { filter, accuracy: Accuracy::EXACT, ..Search::new("c", mode, k) };
    let hits = answer(store, &request).unwrap();
    assert!(hits.exact && hits.complete);
    assert!(hits.hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    hits.hits.into_iter().map(|hit| hit.document_id).collect()
}

fn vector_search(store: &dyn Store) {
    let near = |x: f32, y: f32| Mode::Vector { vector: vec![x, y], space: DEFAULT_SPACE.into(), text: None };
    assert!(search(store, near(1.0, 0.0), 3, None).is_empty());
    let all: Vec<NewDocument> = ["a", "b", "d", "e"].map(|id| document(id, id)).into();
    add(store, all, vectors(&[[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])).unwrap();
    assert_eq!(search(store, near(3.0, 0.0), 4, None), ["a", "d", "e", "b"]);
    assert_eq!(search(store, near(3.0, 0.0), 2, filter(json!({ "doc": { "$gt": "a" } }))), ["d", "e"]);
    let wrong = |vector: Vec<f32>| {
        let mode = Mode::Vector { vector, space: DEFAULT_SPACE.into(), text: None };
        kind(answer(store, &Search::new("c", mode, 1)))
    };
    assert_eq!(wrong(vec![1.0]), ErrorKind::DimensionMismatch);
    assert_eq!(wrong(vec![f32::INFINITY, 0.0]), ErrorKind::InvalidVector);
    assert_eq!(wrong(vec![0.0, 0.0]), ErrorKind::InvalidVector);
    for (k, expected) in [(0, ErrorKind::Argument), (5000, ErrorKind::Limit)] {
        let request = Search::new("c", near(1.0, 0.0), k);
        assert_eq!(kind(answer(store, &request)), expected);
    }
}
