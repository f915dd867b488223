//! Every operator of the filter language, on fields with an index and without.

use serde_json::{Value, json};

use super::{add, collection, document, filter, kind, object, vectors};
use crate::error::ErrorKind;
use crate::model::NewDocument;
use crate::request::{Clear, CreateIndex, Delete, DropIndex, MetadataMode, UpdateMetadata};
use crate::store::{Store, Unwatched};

const FIELDS: [&str; 4] = ["n", "name", "tags", "at.day"];

fn fill(store: &dyn Store) {
    let one = |id: &str, metadata: Value| NewDocument { metadata: object(metadata), ..document(id, "some text") };
    let all = vec![
        one("a", json!({ "n": 1, "name": "Straße", "tags": ["x", "y"], "at": { "day": "2024-01-31" } })),
        one("b", json!({ "n": 2.5, "name": "strand", "tags": [], "at": { "day": "2024-02-01T00:00:00+02:00" } })),
        one("d", json!({ "n": true, "name": null, "tags": "xy" })),
        one("e", json!({ "n": "1", "at": 3 })),
    ];
    add(store, all, vectors(&[[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])).unwrap();
}

fn matching(store: &dyn Store, where_: Value) -> String {
    let filter = filter(where_.clone());
    let found = super::search(store, super::search::near(1.0, 0.0), 10, filter.clone());
    assert_eq!(store.count("c", filter.as_ref()).unwrap(), found.len() as u64, "{where_}");
    assert_eq!(store.count_documents("c", filter.as_ref()).unwrap(), found.len() as u64, "{where_}");
    let words = super::search(store, super::keyword::natural("text"), 10, filter);
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids.concat()
    };
    assert_eq!(sorted(words), sorted(found.clone()), "{where_}");
    sorted(found)
}

fn operators_hold(store: &dyn Store) {
    for (where_, expected) in [
        (json!({}), "abde"),
        (json!({ "n": 1 }), "a"),
        (json!({ "n": { "$eq": true } }), "d"),
        (json!({ "n": { "$ne": 1 } }), "bde"),
        (json!({ "n": { "$gt": 1 } }), "b"),
        (json!({ "n": { "$gte": 1.0, "$lt": 2.5 } }), "a"),
        (json!({ "n": { "$lte": 2.5 } }), "ab"),
        (json!({ "n": { "$between": [1, 2.5] } }), "ab"),
        (json!({ "n": { "$in": [2.5, "1", null] } }), "be"),
        (json!({ "n": { "$nin": [2.5, "1"] } }), "ad"),
        (json!({ "name": { "$like": "str%" } }), "b"),
        (json!({ "name": { "$ilike": "STR%" } }), "ab"),
        (json!({ "name": null }), "d"),
        (json!({ "name": { "$exists": true } }), "abd"),
        (json!({ "name": { "$exists": false } }), "e"),
        (json!({ "tags": "x" }), "a"),
        (json!({ "tags": { "$contains": "x" } }), "ad"),
        (json!({ "tags": { "$exists": true } }), "abd"),
        (json!({ "at.day": { "$lt": "2024-02-01" } }), "ab"),
        (json!({ "at.day": { "$gt": "2024-01-31T12:00:00Z" } }), "b"),
        (json!({ "at.day": { "$exists": false } }), "de"),
        (json!({ "$and": [{ "n": { "$gt": 0 } }, { "tags": "y" }] }), "a"),
        (json!({ "$or": [{ "n": 1 }, { "name": null }] }), "ad"),
        (json!({ "$not": { "$or": [{ "n": 1 }, { "name": null }] } }), "be"),
        (json!({ "n": { "$not": { "$gt": 1 } } }), "ade"),
        (json!({ "document_id": { "$in": ["a", "e"] }, "index": 0 }), "ae"),
        (json!({ "uri": { "$like": "file:_" }, "content_type": { "$contains": "plain" } }), "abde"),
        (json!({ "created_at": { "$gt": "2020-01-01" }, "updated_at": { "$exists": true } }), "abde"),
    ] {
        assert_eq!(matching(store, where_.clone()), expected, "{where_}");
    }
}

fn declare(store: &dyn Store, field: &str) -> bool {
    store.create_index(CreateIndex { collection: "c".into(), field: field.into() }, &mut Unwatched).unwrap()
}

pub(super) fn operators(store: &dyn Store) {
    fill(store);
    operators_hold(store);
    for field in FIELDS {
        assert!(declare(store, field) && !declare(store, field));
    }
    operators_hold(store);
}

pub(super) fn indexes(store: &dyn Store) {
    for field in FIELDS {
        declare(store, field);
    }
    fill(store);
    operators_hold(store);
    let change = UpdateMetadata {
        collection: "c".into(),
        metadata: object(json!({ "n": 7 })),
        chunk_ids: None,
        document_ids: Some(vec!["a".into()]),
        filter: None,
        mode: MetadataMode::Merge,
    };
    store.update_metadata(change).unwrap();
    assert_eq!(matching(store, json!({ "n": 1 })), "");
    assert_eq!(matching(store, json!({ "n": { "$gte": 2 } })), "ab");
    let delete = Delete {
        collection: "c".into(),
        chunk_ids: None,
        document_ids: None,
        uris: None,
        filter: filter(json!({ "n": { "$gte": 7 } })),
    };
    assert_eq!(store.delete(delete).unwrap(), 1);
    assert_eq!(matching(store, json!({ "n": { "$gte": 2 } })), "b");
    let drop_index = |field: &str| store.drop_index(DropIndex { collection: "c".into(), field: field.into() });
    drop_index("n").unwrap();
    assert_eq!(kind(drop_index("n")), ErrorKind::NotFound);
    assert_eq!(matching(store, json!({ "n": { "$gte": 2 } })), "b");
    store.clear(Clear { collection: "c".into() }).unwrap();
    assert_eq!(matching(store, json!({ "name": { "$exists": true } })), "");
    fill(store);
    operators_hold(store);
    for field in ["id", "$or", "a..b", ""] {
        let request = CreateIndex { collection: "c".into(), field: field.into() };
        assert_eq!(kind(store.create_index(request, &mut Unwatched)), ErrorKind::Argument, "{field:?}");
    }
    store.create_collection(collection("other")).unwrap();
    assert_eq!(store.count("other", filter(json!({ "n": 1 })).as_ref()).unwrap(), 0);
}
