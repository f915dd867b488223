//! Relations, and walks over them.

use serde_json::json;

use super::search::near;
use super::{Test, add, add_as, answer, chunk, collection, document, filter, kind, nothing, object, vectors};
use crate::error::{ErrorKind, Result};
use crate::model::{Direction, Hit, Imported, Metadata, NewDocument, NewRelation, OnConflict, Timestamp};
use crate::request::{Clear, Delete, Expand, ImportRelations, Relate, RelatedTo, Relations, Rerank, Search, Unrelate};
use crate::store::Store;

pub const TESTS: [(&str, Test); 6] = [
    ("relations", relations),
    ("related", related),
    ("relations_of_what_is_deleted", relations_of_what_is_deleted),
    ("expanding", expanding),
    ("expanding_what_was_reranked", expanding_what_was_reranked),
    ("importing_relations", importing_relations),
];

fn relate(store: &dyn Store, source: &str, target: &str, kind: &str, strength: f64) -> Result<()> {
    store.relate(Relate {
        collection: "c".into(),
        relation: NewRelation {
            source: source.into(),
            target: target.into(),
            kind: kind.into(),
            strength,
            metadata: Metadata::empty(),
        },
    })
}

fn unrelate(store: &dyn Store, source: &str, target: &str, kind: Option<&str>) -> u64 {
    let (collection, kind) = ("c".into(), kind.map(str::to_owned));
    store.unrelate(Unrelate { collection, source: source.into(), target: target.into(), kind }).unwrap()
}

fn of(store: &dyn Store, id: &str, direction: Direction, kind: Option<&str>) -> String {
    let request = Relations { collection: "c".into(), id: Some(id.into()), direction, kind: kind.map(str::to_owned) };
    let found = store.relations(&request).unwrap();
    let edges: Vec<String> = found.iter().map(|r| format!("{}-{}-{}", r.source, r.kind, r.target)).collect();
    edges.join(" ")
}

fn walk(ids: &[&str]) -> RelatedTo {
    RelatedTo {
        collection: "c".into(),
        ids: super::ids(ids),
        depth: 1,
        kinds: None,
        min_strength: 0.0,
        direction: Direction::Out,
        limit: 100,
    }
}

fn reached(store: &dyn Store, request: &RelatedTo) -> String {
    let found = store.related(request).unwrap();
    found.iter().map(|r| r.path.join("-")).collect::<Vec<_>>().join(" ")
}

/// Documents a, b and d of one chunk each; the chunk of a is called a1, and so on.
fn three(store: &dyn Store) {
    let one = |id: &str| NewDocument { chunks: Some(vec![chunk(&format!("{id}1"), "text")]), ..document(id, "text") };
    add(store, vec![one("a"), one("b"), one("d")], None).unwrap();
}

fn relations(store: &dyn Store) {
    three(store);
    relate(store, "a", "b1", "cites", 0.5).unwrap();
    relate(store, "b1", "d", "cites", 1.0).unwrap();
    relate(store, "a", "b1", "like", 0.0).unwrap();
    assert_eq!(of(store, "a", Direction::Out, None), "a-cites-b1 a-like-b1");
    assert_eq!(of(store, "b1", Direction::Both, None), "a-cites-b1 b1-cites-d a-like-b1");
    assert_eq!(of(store, "b1", Direction::In, Some("like")), "a-like-b1");
    assert_eq!(of(store, "none", Direction::Both, None), "");
    let changed = NewRelation {
        metadata: object(json!({ "page": 3 })),
        source: "a".into(),
        target: "b1".into(),
        kind: "cites".into(),
        strength: 0.9,
    };
    store.relate(Relate { collection: "c".into(), relation: changed }).unwrap();
    let request = Relations { collection: "c".into(), id: Some("a".into()), direction: Direction::Out, kind: None };
    let found = store.relations(&request).unwrap();
    assert_eq!((found.len(), found[0].strength), (2, 0.9));
    assert_eq!(found[0].metadata, object(json!({ "page": 3 })));
    assert_eq!(unrelate(store, "a", "b1", Some("none")), 0);
    assert_eq!(unrelate(store, "a", "b1", Some("like")), 1);
    assert_eq!(unrelate(store, "a", "b1", None), 1);
    assert_eq!(of(store, "b1", Direction::Both, None), "b1-cites-d");
    assert_eq!(kind(relate(store, "a", "none", "t", 1.0)), ErrorKind::DocumentNotFound);
    for (target, kind_of, strength) in [("a", "t", 1.0), ("b", "", 1.0), ("b", "t", 1.5), ("b", "t", f64::NAN)] {
        assert_eq!(kind(relate(store, "a", target, kind_of, strength)), ErrorKind::Argument);
    }
    store.create_collection(collection("other")).unwrap();
    let all = Relations { id: None, direction: Direction::Both, ..request.clone() };
    assert_eq!(store.relations(&all).unwrap().len(), 1);
    let elsewhere = Relations { collection: "other".into(), ..request };
    assert!(store.relations(&elsewhere).unwrap().is_empty());
}

fn related(store: &dyn Store) {
    three(store);
    relate(store, "a", "b", "t", 0.5).unwrap();
    relate(store, "b", "d", "t", 0.5).unwrap();
    relate(store, "a", "d1", "u", 0.9).unwrap();
    assert_eq!(reached(store, &walk(&["a"])), "a-d1 a-b");
    assert_eq!(reached(store, &RelatedTo { depth: 2, ..walk(&["a", "none"]) }), "a-d1 a-b a-b-d");
    assert_eq!(reached(store, &RelatedTo { depth: 2, limit: 1, ..walk(&["a"]) }), "a-d1");
    assert_eq!(reached(store, &RelatedTo { depth: 2, min_strength: 0.3, ..walk(&["a"]) }), "a-d1 a-b");
    assert_eq!(reached(store, &RelatedTo { depth: 2, kinds: Some(vec!["t".into()]), ..walk(&["a"]) }), "a-b a-b-d");
    assert_eq!(reached(store, &RelatedTo { depth: 2, direction: Direction::In, ..walk(&["d"]) }), "d-b d-b-a");
    assert_eq!(
        reached(store, &RelatedTo { depth: 3, direction: Direction::Both, ..walk(&["d"]) }),
        "d-b d-b-a d-b-a-d1"
    );
    assert_eq!(kind(store.related(&RelatedTo { depth: 33, ..walk(&["a"]) })), ErrorKind::Argument);
    for min_strength in [-0.1, 1.1, f64::NAN] {
        assert_eq!(kind(store.related(&RelatedTo { min_strength, ..walk(&["a"]) })), ErrorKind::Argument);
    }
}

fn relations_of_what_is_deleted(store: &dyn Store) {
    three(store);
    relate(store, "a1", "b1", "t", 1.0).unwrap();
    relate(store, "b", "d", "t", 1.0).unwrap();
    relate(store, "d", "a1", "t", 1.0).unwrap();
    // A document that is replaced keeps what is related to ids that are there again.
    let again = NewDocument { chunks: Some(vec![chunk("a1", "other")]), ..document("a", "other") };
    add_as(store, vec![again], None, OnConflict::Replace).unwrap();
    assert_eq!(of(store, "a1", Direction::Both, None), "a1-t-b1 d-t-a1");
    let renamed = NewDocument { chunks: Some(vec![chunk("a9", "new")]), ..document("a", "new") };
    add_as(store, vec![renamed], None, OnConflict::Replace).unwrap();
    assert_eq!(of(store, "d", Direction::Both, None), "b-t-d");
    store.delete(Delete { document_ids: Some(vec!["b".into()]), ..nothing() }).unwrap();
    assert_eq!(of(store, "d", Direction::Both, None), "");
    relate(store, "a", "d", "t", 1.0).unwrap();
    store.clear(Clear { collection: "c".into() }).unwrap();
    assert_eq!(of(store, "d", Direction::Both, None), "");
}

/// Documents a, b, d and e of two chunks each, and what relates them: a to b, b to the second chunk of d, that to e.
fn four(store: &dyn Store) {
    let one = |id: &str| {
        let chunks = ["1", "2"].map(|place| chunk(&format!("{id}{place}"), &format!("text {place}")));
        NewDocument { chunks: Some(chunks.into()), ..document(id, "text") }
    };
    let rows = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0], [-0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]];
    add(store, ["a", "b", "d", "e"].map(one).into(), vectors(&rows)).unwrap();
    relate(store, "a", "b", "t", 0.5).unwrap();
    relate(store, "b", "d2", "t", 1.0).unwrap();
    relate(store, "d2", "e", "u", 1.0).unwrap();
}

/// Each hit, after the way to it.
fn told(hits: &[Hit]) -> String {
    let one = |hit: &Hit| match &hit.path {
        Some(path) => format!("{}:{}", path.join("-"), hit.id),
        None => hit.id.clone(),
    };
    hits.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn expanded(k: usize, expand: Expand) -> Search {
    Search { expand: Some(expand), ..Search::new("c", near(1.0, 0.0), k) }
}

fn expanding(store: &dyn Store) {
    four(store);
    let hits = |request: &Search| told(&answer(store, request).unwrap().hits);
    let wide = Expand { depth: 3, limit: Some(9), ..Expand::default() };
    assert_eq!(hits(&expanded(1, Expand::default())), "a1 a-b:b1");
    assert_eq!(hits(&expanded(1, wide.clone())), "a1 a-b:b1 a-b-d2:d2 a-b-d2-e:e1");
    assert_eq!(hits(&expanded(2, Expand { weight: 1.0, ..Expand::default() })), "a1 b1 b-d2:d2");
    let found = answer(store, &expanded(1, wide.clone())).unwrap();
    assert!(found.complete);
    let [hit, neighbor, ..] = found.hits.as_slice() else { panic!("too few") };
    assert_eq!((hit.rank, hit.score, neighbor.score), (Some(1), 1.0, 0.3 * 0.5));
    assert_eq!((neighbor.rank, neighbor.distance, neighbor.vector, neighbor.keyword), (None, None, None, None));
    assert_eq!((neighbor.text.as_deref(), neighbor.document_id.as_str(), neighbor.index), (Some("text 1"), "b", 0));
    // The filter holds for what is given, and not for what a way leads over; a document stands for what it lets through.
    let second = filter(json!({ "index": 1, "doc": { "$ne": "b" } }));
    let least = Search { filter: second, ..expanded(1, wide.clone()) };
    assert_eq!(hits(&least), "a2 a-b-d2:d2 a-b-d2-e:e2");
    let kinds = |kind: &str| Expand { kinds: Some(vec![kind.into()]), ..wide.clone() };
    assert_eq!(hits(&expanded(1, kinds("t"))), "a1 a-b:b1 a-b-d2:d2");
    assert_eq!(hits(&expanded(1, kinds("u"))), "a1");
    assert_eq!(hits(&expanded(1, Expand { direction: Direction::In, ..wide.clone() })), "a1");
    assert_eq!(hits(&expanded(1, Expand { min_strength: 0.6, ..wide.clone() })), "a1");
    assert_eq!(hits(&expanded(1, Expand { limit: Some(2), ..wide.clone() })), "a1 a-b:b1 a-b-d2:d2");
    let grouped = Search { group_size: Some(2), ..expanded(1, wide.clone()) };
    assert_eq!(hits(&grouped), "a1 a2 a-b:b1 a-b-d2:d2 a-b-d2-e:e1");
    let windowed = Search { window: Some((0, 1)), ..expanded(1, Expand::default()) };
    assert_eq!(answer(store, &windowed).unwrap().hits[1].text.as_deref(), Some("text 1\ntext 2"));
    let plan = answer(store, &Search { explain: true, ..expanded(1, wide.clone()) }).unwrap().plan.unwrap();
    assert_eq!([&plan["expand"]["seeds"], &plan["expand"]["found"], &plan["expand"]["added"]], [2, 3, 3]);
    // What has expired is neither given nor on a way.
    let gone = NewDocument { expires_at: Some(Timestamp(1)), ..document("b", "text") };
    add_as(store, vec![gone], None, OnConflict::Replace).unwrap();
    assert_eq!(hits(&expanded(1, wide.clone())), "a1");
    let refused = |expand: Expand| kind(answer(store, &expanded(1, expand)));
    for depth in [0, 33] {
        assert_eq!(refused(Expand { depth, ..wide.clone() }), ErrorKind::Argument);
    }
    for weight in [0.0, -0.1, 1.1, f64::NAN] {
        assert_eq!(refused(Expand { weight, ..wide.clone() }), ErrorKind::Argument);
    }
    for min_strength in [-0.1, 1.1, f64::NAN] {
        assert_eq!(refused(Expand { min_strength, ..wide.clone() }), ErrorKind::Argument);
    }
    assert_eq!(refused(Expand { limit: Some(0), ..wide.clone() }), ErrorKind::Argument);
    assert_eq!(refused(Expand { limit: Some(5000), ..wide }), ErrorKind::Limit);
}

fn expanding_what_was_reranked(store: &dyn Store) {
    four(store);
    let last = Rerank::new(|_, texts| {
        let place = |text: &&str| if text.ends_with('2') { -1.0 } else { -2.0 };
        Ok(texts.iter().map(place).collect())
    });
    let request = Search { rerank: Some(last), ..expanded(1, Expand { depth: 2, ..Expand::default() }) };
    let found = answer(store, &request).unwrap().hits;
    // A bad score makes a neighbor worse.
    assert_eq!(told(&found), "a2 a-b:b1");
    assert_eq!([found[0].score, found[1].score], [-1.0, -(2.0 - 0.3 * 0.5)]);
}

fn importing_relations(store: &dyn Store) {
    three(store);
    let new = |source: &str, target: &str, strength, metadata: serde_json::Value| NewRelation {
        source: source.into(),
        target: target.into(),
        kind: "cites".into(),
        strength,
        metadata: object(metadata),
    };
    let import = |relations: Vec<NewRelation>, on_conflict| {
        store.import_relations(ImportRelations { collection: "c".into(), relations, on_conflict })
    };
    let first = new("a", "b1", 0.5, json!({ "p": 1, "q": 2 }));
    let outcome = import(vec![first.clone(), new("a", "none", 1.0, json!({}))], OnConflict::Error).unwrap();
    assert_eq!(outcome, [Imported::Stored, Imported::Gone]);
    let change = store.last_change().unwrap();
    let again = new("a", "b1", 0.5, json!({ "q": 2, "p": 1 }));
    assert_eq!(import(vec![again], OnConflict::Replace).unwrap(), [Imported::Unchanged]);
    assert_eq!(store.last_change().unwrap(), change);
    for other in [new("a", "b1", 0.75, json!({ "p": 1, "q": 2 })), new("a", "b1", 0.5, json!({ "p": 1 }))] {
        let both = vec![new("b", "d", 1.0, json!({})), other.clone()];
        let refused = import(both, OnConflict::Error).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.message().starts_with("relation 1: there is a relation"), "{refused}");
        assert_eq!(of(store, "b", Direction::Both, None), "", "half of a call");
        assert_eq!(import(vec![other.clone()], OnConflict::Skip).unwrap(), [Imported::Skipped]);
        assert_eq!(import(vec![other.clone()], OnConflict::Replace).unwrap(), [Imported::Stored]);
        assert_eq!(import(vec![other, first.clone()], OnConflict::Skip).unwrap()[0], Imported::Unchanged);
        import(vec![first.clone()], OnConflict::Replace).unwrap();
    }
    for bad in [new("a", "a", 1.0, json!({})), new("a", "b", f64::NAN, json!({})), new("", "b", 1.0, json!({}))] {
        assert_eq!(kind(import(vec![bad], OnConflict::Skip)), ErrorKind::Argument);
    }
    assert_eq!(of(store, "a", Direction::Both, None), "a-cites-b1");
}
