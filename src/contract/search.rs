//! What a search may ask for beyond the k best.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{add, answer, collection, document, filter, kind, object, search, vectors};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Hits, NewChunk, NewDocument};
use crate::request::{
    Accuracy, DEFAULT_SPACE, Fusion, Include, Mode, Rerank, Search, SearchBatch, SearchStore, Syntax,
};
use crate::store::{Interrupt, Store, Uninterrupted};

pub(super) fn near(x: f32, y: f32) -> Mode {
    Mode::Vector { vector: vec![x, y], space: DEFAULT_SPACE.into(), text: Some("fox".into()) }
}

fn both(text: &str, fusion: Fusion) -> Mode {
    Mode::Hybrid { text: text.into(), vector: vec![1.0, 0.0], space: DEFAULT_SPACE.into(), fusion, candidates: None }
}

fn ids(hits: &Hits) -> Vec<&str> {
    hits.hits.iter().map(|hit| hit.id.as_str()).collect()
}

/// Documents of several chunks; the text of each is the letters of the alphabet in threes.
fn books(store: &dyn Store) {
    let book = |id: &str, chunks: &[&str]| {
        let text = "abcdefghijkl";
        let chunk = |(place, name): (usize, &&str)| NewChunk {
            chars: Some((3 * place as u64, 3 * place as u64 + 3)),
            text: Some(text[3 * place..3 * place + 3].into()),
            ..super::chunk(name, "")
        };
        NewDocument {
            text: Some(text.into()),
            chunks: Some(chunks.iter().enumerate().map(chunk).collect()),
            ..document(id, text)
        }
    };
    let all = vec![book("A", &["a1", "a2", "a3"]), book("B", &["b1"]), book("C", &["c1", "c2"])];
    let rows = [[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.4], [0.0, 1.0]];
    add(store, all, vectors(&rows)).unwrap();
}

pub(super) fn fusions(store: &dyn Store) {
    let all = vec![document("a", "wolf"), document("b", "fox fox"), document("d", "fox and hound")];
    add(store, all, vectors(&[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])).unwrap();
    let hits = answer(store, &Search::new("c", both("fox", Fusion::default()), 3)).unwrap();
    let first = &hits.hits[0];
    assert_eq!(first.document_id, "b");
    let (vector, keyword) = (first.vector.unwrap(), first.keyword.unwrap());
    assert_eq!((vector.rank, keyword.rank, first.rank), (2, 1, Some(1)));
    assert!((first.score - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-12);
    let order = |weights: [f64; 2]| -> Vec<String> {
        [Fusion::Weighted { weights }, Fusion::ReciprocalRank { k: 0, weights }]
            .map(|fusion| search(store, both("fox", fusion), 3, None).remove(0))
            .into()
    };
    assert_eq!(order([1.0, 0.0]), ["a", "a"]);
    assert_eq!(order([0.0, 1.0]), ["b", "b"]);
    for weights in [[0.0, 0.0], [-1.0, 2.0], [f64::NAN, 1.0], [f64::INFINITY, 1.0], [1e308, 1e308]] {
        let request = Search::new("c", both("fox", Fusion::Weighted { weights }), 3);
        assert_eq!(kind(answer(store, &request)), ErrorKind::Argument);
    }
}

pub(super) fn groups(store: &dyn Store) {
    books(store);
    let grouped = |k, size, filter| {
        let request = Search { group_size: Some(size), filter, ..Search::new("c", near(1.0, 0.0), k) };
        let hits = answer(store, &request).unwrap();
        assert!(hits.complete);
        ids(&hits).join(" ")
    };
    assert_eq!(grouped(3, 1, None), "a1 b1 c1");
    assert_eq!(grouped(2, 2, None), "a1 a2 b1");
    assert_eq!(grouped(9, 9, None), "a1 a2 a3 b1 c1 c2");
    assert_eq!(grouped(1, 1, filter(json!({ "doc": { "$gt": "A" } }))), "b1");
    let least = Search { group_size: Some(2), min_score: Some(0.97), ..Search::new("c", near(1.0, 0.0), 9) };
    assert_eq!(ids(&answer(store, &least).unwrap()), ["a1", "a2"]);
    let none = Search { group_size: Some(0), ..least };
    assert_eq!(kind(answer(store, &none)), ErrorKind::Argument);
}

pub(super) fn diversity(store: &dyn Store) {
    books(store);
    let diverse = |lambda| Search { mmr: Some(lambda), ..Search::new("c", near(1.0, 0.0), 2) };
    assert_eq!(ids(&answer(store, &diverse(1.0)).unwrap()), ["a1", "a2"]);
    let hits = answer(store, &diverse(0.4)).unwrap();
    assert_eq!(ids(&hits), ["a1", "c2"]);
    assert_eq!(hits.hits[1].rank, Some(6));
    let narrow = Search { fetch_k: Some(3), ..diverse(0.4) };
    assert_eq!(ids(&answer(store, &narrow).unwrap()), ["a1", "a3"]);
    let words = Search { mmr: Some(0.5), ..Search::new("c", both("abc", Fusion::default()), 3) };
    assert_eq!(answer(store, &words).unwrap().hits.len(), 3);
    for bad in [-0.1, 1.1, f64::NAN] {
        assert_eq!(kind(answer(store, &diverse(bad))), ErrorKind::Argument);
    }
    for fetch_k in [1, 5000] {
        let request = Search { fetch_k: Some(fetch_k), ..diverse(0.5) };
        assert_eq!(kind(answer(store, &request)), ErrorKind::Argument);
    }
}

pub(super) fn windows(store: &dyn Store) {
    books(store);
    let loose = NewDocument {
        text: None,
        chunks: Some(vec![
            super::chunk("l1", "one"),
            super::chunk("l2", "two"),
            NewChunk { text: None, ..super::chunk("l3", "") },
        ]),
        ..document("L", "")
    };
    add(store, vec![loose], vectors(&[[-1.0, 0.1], [-1.0, 0.0], [-1.0, -0.1]])).unwrap();
    let wide = |mode, window| {
        let mut hits = answer(store, &Search { window: Some(window), ..Search::new("c", mode, 1) }).unwrap().hits;
        let hit = hits.remove(0);
        (hit.id, hit.text.unwrap(), hit.chars)
    };
    assert_eq!(wide(near(1.0, 0.1), (0, 0)), ("a2".into(), "def".into(), Some((3, 6))));
    assert_eq!(wide(near(1.0, 0.1), (1, 0)), ("a2".into(), "abcdef".into(), Some((0, 6))));
    assert_eq!(wide(near(1.0, 0.1), (5, 5)), ("a2".into(), "abcdefghi".into(), Some((0, 9))));
    assert_eq!(wide(near(-1.0, 0.0), (1, 1)), ("l2".into(), "one\ntwo".into(), None));
    let far = Search { window: Some((5000, 0)), ..Search::new("c", near(1.0, 0.0), 1) };
    assert_eq!(kind(answer(store, &far)), ErrorKind::Argument);
}

pub(super) fn reranking(store: &dyn Store) {
    books(store);
    let by = |scores: fn(&[&str]) -> Result<Vec<f64>>| {
        let rerank = Rerank::new(move |query, texts| {
            assert_eq!(query, "fox");
            scores(texts)
        });
        Search { rerank: Some(rerank), ..Search::new("c", near(1.0, 0.0), 2) }
    };
    let last_letter =
        |texts: &[&str]| Ok(texts.iter().map(|text| f64::from(*text.as_bytes().last().unwrap())).collect());
    let hits = answer(store, &by(last_letter)).unwrap();
    assert_eq!(ids(&hits), ["a3", "a2"]);
    let first = &hits.hits[0];
    assert_eq!((first.score, first.rank, first.vector.unwrap().rank), (f64::from(b'i'), Some(3), 3));
    let narrow = Search { fetch_k: Some(2), ..by(last_letter) };
    assert_eq!(ids(&answer(store, &narrow).unwrap()), ["a2", "a1"]);
    let least = Search { min_score: Some(f64::from(b'i')), ..by(last_letter) };
    assert_eq!(ids(&answer(store, &least).unwrap()), ["a3"]);
    let grouped = Search { group_size: Some(1), ..by(last_letter) };
    assert_eq!(ids(&answer(store, &grouped).unwrap()), ["a3", "c2"]);
    // Texts are widened last: what is ranked is the chunk.
    let wide = answer(store, &Search { window: Some((1, 0)), ..by(last_letter) }).unwrap();
    assert_eq!(ids(&wide), ["a3", "a2"]);
    assert_eq!(wide.hits[1].text.as_deref(), Some("abcdef"));
    let refused = |request: &Search| kind(answer(store, request));
    assert_eq!(refused(&by(|_| Ok(vec![1.0]))), ErrorKind::Argument);
    assert_eq!(refused(&by(|texts| Ok(vec![f64::NAN; texts.len()]))), ErrorKind::Argument);
    assert_eq!(refused(&by(|texts| Ok(vec![f64::INFINITY; texts.len()]))), ErrorKind::Argument);
    assert_eq!(refused(&by(|_| Err(Error::internal("the model broke")))), ErrorKind::Internal);
    let wordless = Mode::Vector { vector: vec![1.0, 0.0], space: DEFAULT_SPACE.into(), text: None };
    assert_eq!(refused(&Search { mode: wordless, ..by(last_letter) }), ErrorKind::Argument);
    let blind = Include { text: false, metadata: true };
    assert_eq!(refused(&Search { include: blind, ..by(last_letter) }), ErrorKind::Argument);
}

/// Grouped hits are chosen from as many as any others, and those hold k documents.
pub(super) fn choosing_groups(store: &dyn Store) {
    books(store);
    let texts = |count: usize, fetch_k| {
        let rerank = Rerank::new(move |_, texts| {
            assert_eq!(texts.len(), count);
            Ok((0..texts.len()).map(|place| place as f64).collect())
        });
        let request =
            Search { rerank: Some(rerank), fetch_k, group_size: Some(1), ..Search::new("c", near(1.0, 0.0), 3) };
        let hits = answer(store, &request).unwrap();
        assert!(hits.complete);
        ids(&hits).join(" ")
    };
    assert_eq!(texts(3, Some(3)), "c1 b1 a1");
    assert_eq!(texts(3, Some(5)), "c1 b1 a1");
    assert_eq!(texts(5, Some(6)), "c2 b1 a2");
    assert_eq!(texts(6, None), "c2 b1 a3");
    let diverse = Search { mmr: Some(0.4), group_size: Some(1), ..Search::new("c", near(1.0, 0.0), 2) };
    assert_eq!(ids(&answer(store, &diverse).unwrap()), ["a1", "c2"]);
    let narrow = Search { fetch_k: Some(3), group_size: Some(2), ..diverse.clone() };
    assert_eq!(kind(answer(store, &narrow)), ErrorKind::Argument);
    let wide = Search { group_size: Some(1000), k: 5, ..diverse };
    assert_eq!(kind(answer(store, &wide)), ErrorKind::Argument);
}

pub(super) fn parts(store: &dyn Store) {
    books(store);
    let with = |text, metadata| {
        let include = Include { text, metadata };
        answer(store, &Search { include, ..Search::new("c", near(1.0, 0.0), 1) }).unwrap().hits.remove(0)
    };
    assert_eq!(with(true, true).text.as_deref(), Some("abc"));
    assert_eq!(with(true, true).metadata, object(json!({ "doc": "A", "chunk": "a1" })));
    assert_eq!((with(false, false).text, with(false, false).metadata), (None, object(json!({}))));
    let least = Search { min_score: Some(0.95), ..Search::new("c", near(1.0, 0.0), 6) };
    assert_eq!(ids(&answer(store, &least).unwrap()), ["a1", "a2", "a3", "b1"]);
    let nan = Search { min_score: Some(f64::NAN), ..least };
    assert_eq!(kind(answer(store, &nan)), ErrorKind::Argument);
}

pub(super) fn plans(store: &dyn Store) {
    books(store);
    let hits = answer(store, &Search::new("c", near(1.0, 0.0), 2)).unwrap();
    assert!(hits.plan.is_none() && hits.keyword.is_none());
    let filter = filter(json!({ "doc": "A" }));
    let request = Search { explain: true, filter, ..Search::new("c", both("abc nowhere", Fusion::default()), 2) };
    let plan = answer(store, &request).unwrap().plan.unwrap();
    assert_eq!(plan["mode"], "hybrid");
    assert_eq!(plan["filter"]["chunks"], 3);
    assert_eq!(plan["vector"]["candidates"], 3);
    assert_eq!(plan["keyword"]["expression"], "\"abc\" OR \"nowhere\"");
    assert_eq!(plan["fusion"]["method"], "rrf");
    for stage in ["filter", "vector", "keyword", "read"] {
        assert!(plan[stage]["ms"].as_f64().unwrap() >= 0.0, "{stage}");
    }
}

struct Never;

impl Interrupt for Never {
    fn keep_going(&self) -> bool {
        false
    }
}

pub(super) fn limits(store: &dyn Store) {
    books(store);
    let late = |mode| Search { timeout: Some(Duration::ZERO), ..Search::new("c", mode, 2) };
    assert_eq!(kind(answer(store, &late(near(1.0, 0.0)))), ErrorKind::QueryTimeout);
    assert_eq!(ids(&answer(store, &Search::new("c", near(1.0, 0.0), 2)).unwrap()), ["a1", "a2"]);
    let patient = Search { timeout: Some(Duration::from_secs(60)), ..Search::new("c", near(1.0, 0.0), 2) };
    let hits = store.search(&patient, Arc::new(Never)).unwrap();
    // Too short to be asked for its wish.
    assert!(hits.complete && hits.hits.len() == 2);
}

pub(super) fn batches(store: &dyn Store) {
    books(store);
    let batch = |vectors: Vec<f32>, k| SearchBatch {
        collection: "c".into(),
        vectors,
        dimension: 2,
        space: DEFAULT_SPACE.into(),
        k,
        filter: filter(json!({ "doc": { "$lt": "C" } })),
        accuracy: Accuracy::default(),
    };
    let answers = store.search_batch(&batch(vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.1], 2), Arc::new(Uninterrupted)).unwrap();
    let found: Vec<_> = answers.iter().map(ids).collect();
    assert_eq!(found, [["a1", "a2"], ["b1", "a3"], ["a2", "a3"]]);
    assert!(store.search_batch(&batch(vec![], 2), Arc::new(Uninterrupted)).unwrap().is_empty());
    let refused = |request: &SearchBatch| store.search_batch(request, Arc::new(Uninterrupted)).unwrap_err();
    assert_eq!(refused(&batch(vec![], 0)).kind(), ErrorKind::Argument);
    let zero = refused(&batch(vec![1.0, 0.0, 0.0, 0.0], 2));
    assert_eq!(zero.kind(), ErrorKind::InvalidVector);
    assert!(zero.message().contains("row 1"), "{zero}");
    assert_eq!(refused(&SearchBatch { dimension: 1, ..batch(vec![1.0], 2) }).kind(), ErrorKind::DimensionMismatch);
}

pub(super) fn whole_store(store: &dyn Store) {
    books(store);
    store.create_collection(collection("empty")).unwrap();
    store.create_collection(collection("more")).unwrap();
    let more = vec![document("m1", "abc"), document("m2", "ghi")];
    super::add_to(store, "more", more, vectors(&[[1.0, 0.05], [-1.0, 0.0]])).unwrap();
    let request = |collections: Option<&[&str]>, mode| SearchStore {
        collections: collections.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
        mode,
        k: 3,
        filter: None,
        timeout: None,
    };
    let found = |request: &SearchStore| -> Vec<String> {
        let hits = store.search_store(request, Arc::new(Uninterrupted)).unwrap();
        hits.hits.iter().map(|hit| format!("{}/{}", hit.collection, hit.document_id)).collect()
    };
    assert_eq!(found(&request(None, near(1.0, 0.0))), ["c/A", "more/m1", "c/A"]);
    let words = Mode::Keyword { text: "abc".into(), syntax: Syntax::Natural, space: DEFAULT_SPACE.into() };
    assert_eq!(found(&request(Some(&["more", "c"]), words.clone())), ["c/A", "more/m1", "c/B"]);
    assert_eq!(found(&request(Some(&["more", "more"]), words.clone())), ["more/m1"]);
    let fused = found(&request(None, both("abc", Fusion::default())));
    assert_eq!(fused[..2], ["c/A", "more/m1"]);
    let hits = store.search_store(&request(None, words), Arc::new(Uninterrupted)).unwrap();
    assert_eq!(hits.markers.len(), 2);
    super::add_to(store, "empty", vec![document("e", "abc")], super::wide(&[[1.0, 0.0, 0.0]])).unwrap();
    let refused = |request: &SearchStore| store.search_store(request, Arc::new(Uninterrupted)).unwrap_err().kind();
    assert_eq!(refused(&request(None, near(1.0, 0.0))), ErrorKind::DimensionMismatch);
    assert_eq!(found(&request(Some(&["c", "more"]), near(1.0, 0.0))).len(), 3);
    assert_eq!(refused(&request(Some(&["nowhere"]), near(1.0, 0.0))), ErrorKind::CollectionNotFound);
}
