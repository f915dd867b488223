//! Relations, and walks over them.

use serde_json::json;

use super::{Test, add, add_as, chunk, collection, document, kind, nothing, object};
use crate::error::{ErrorKind, Result};
use crate::model::{Direction, Imported, Metadata, NewDocument, NewRelation, OnConflict};
use crate::request::{Clear, Delete, ImportRelations, Relate, RelatedTo, Relations, Unrelate};
use crate::store::Store;

pub const TESTS: [(&str, Test); 4] = [
    ("relations", relations),
    ("related", related),
    ("relations_of_what_is_deleted", relations_of_what_is_deleted),
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
    assert_eq!(kind(store.related(&RelatedTo { min_strength: f64::NAN, ..walk(&["a"]) })), ErrorKind::Argument);
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
