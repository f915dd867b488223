//! Embedders: what they made is kept, for the model that it is said to be of, and for the chunks that have a text.

use std::sync::Arc;

use super::{Test, add, add_as, collection, document, ids, kind, vectors};
use crate::error::{ErrorKind, Result};
use crate::model::{Embeddings, Matrix, NewChunk, OnConflict};
use crate::request::{
    AddChunks, CacheEmbeddings, CachedEmbeddings, ClearEmbeddingCache, CreateCollection, CreateSpace, DEFAULT_SPACE,
    DeleteCollection, SetModel,
};
use crate::store::{Cached, Store};

pub const TESTS: [(&str, Test); 4] =
    [("cache", cache), ("models", models), ("some_chunks", some_chunks), ("kept", kept)];

fn put(store: &dyn Store, model: &str, texts: &[&str], rows: &[[f32; 2]], limit: u64) -> Result<()> {
    let embeddings = vectors(rows).unwrap();
    store.cache_embeddings(CacheEmbeddings { model: model.into(), texts: ids(texts), embeddings, limit })
}

fn look_up(store: &dyn Store, space: &str, model: Option<&str>, texts: &[&str]) -> Result<Cached> {
    store.cached_embeddings(&CachedEmbeddings {
        collection: "c".into(),
        space: space.into(),
        model: model.map(str::to_owned),
        texts: ids(texts),
        dimension: None,
    })
}

fn set_model(store: &dyn Store, model: &str) -> Result<()> {
    store.set_model(SetModel { collection: "c".into(), model: model.into() })
}

fn cache(store: &dyn Store) {
    put(store, "m", &["a", "b"], &[[1.0, 2.0], [3.0, 4.0]], u64::MAX).unwrap();
    put(store, "m", &["a"], &[[9.0, 9.0]], u64::MAX).unwrap();
    let found = look_up(store, DEFAULT_SPACE, Some("m"), &["b", "none", "a"]).unwrap();
    assert_eq!((found.found, found.vectors.values), (vec![0, 2], vec![3.0, 4.0, 1.0, 2.0]));
    assert_eq!((found.vectors.dimension, found.model.as_deref()), (2, Some("m")));
    // What no model is named for is not looked up, nor what another made.
    assert!(look_up(store, DEFAULT_SPACE, None, &["a"]).unwrap().found.is_empty());
    assert!(look_up(store, DEFAULT_SPACE, Some("n"), &["a"]).unwrap().found.is_empty());
    // Another dimension is another vector; the newest is meant where the space has none.
    let wide = Embeddings::new(Arc::new(Matrix::new(vec![1.0; 3], 3).unwrap())).unwrap();
    let wide = CacheEmbeddings { model: "m".into(), texts: ids(&["a"]), embeddings: wide.clone(), limit: u64::MAX };
    store.cache_embeddings(wide.clone()).unwrap();
    let found = look_up(store, DEFAULT_SPACE, Some("m"), &["a", "b"]).unwrap();
    assert_eq!((found.found, found.vectors.dimension), (vec![0], 3));
    add(store, vec![document("a", "a")], vectors(&[[1.0, 0.0]])).unwrap();
    let found = look_up(store, DEFAULT_SPACE, Some("m"), &["a", "b"]).unwrap();
    assert_eq!((found.found, found.vectors.dimension), (vec![0, 1], 2));
    // It outlives the collection, and is bounded.
    store.delete_collection(DeleteCollection { name: "c".into() }).unwrap();
    store.create_collection(CreateCollection { model: Some("m".into()), ..collection("c") }).unwrap();
    assert_eq!(look_up(store, DEFAULT_SPACE, None, &["b"]).unwrap().found, [0]);
    put(store, "m", &["d", "e"], &[[1.0, 2.0], [3.0, 4.0]], 20).unwrap();
    let found = look_up(store, DEFAULT_SPACE, None, &["a", "b", "d", "e"]).unwrap();
    assert_eq!(found.found, [2, 3]);
    // What cannot be compared is not kept, and nothing of its call is.
    assert_eq!(kind(put(store, "m", &["f", "g"], &[[1.0, 2.0], [f32::NAN, 0.0]], 99)), ErrorKind::InvalidVector);
    assert_eq!(kind(put(store, "m", &["f"], &[[1.0, 2.0], [1.0, 0.0]], 99)), ErrorKind::InvalidVector);
    assert_eq!(kind(put(store, "", &["f"], &[[1.0, 2.0]], 99)), ErrorKind::Argument);
    assert!(look_up(store, DEFAULT_SPACE, None, &["f", "g"]).unwrap().found.is_empty());
    put(store, "n", &["d"], &[[1.0, 2.0]], u64::MAX).unwrap();
    let clear = |model: Option<&str>, texts: Option<&[&str]>| {
        store
            .clear_embedding_cache(ClearEmbeddingCache { model: model.map(str::to_owned), texts: texts.map(ids) })
            .unwrap()
    };
    assert_eq!((clear(Some("x"), None), clear(Some("m"), Some(&["d", "none"]))), (0, 1));
    assert!(look_up(store, DEFAULT_SPACE, None, &["d"]).unwrap().found.is_empty());
    assert_eq!((clear(None, Some(&["d", "e"])), clear(None, None)), (2, 0));
}

fn models(store: &dyn Store) {
    assert_eq!(look_up(store, DEFAULT_SPACE, None, &[]).unwrap().model, None);
    set_model(store, "m").unwrap();
    set_model(store, "m").unwrap();
    let refused = set_model(store, "n").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::CollectionExists);
    assert!(refused.message().contains("model m") && refused.message().contains("and n"), "{refused}");
    assert_eq!(kind(set_model(store, "")), ErrorKind::Argument);
    assert_eq!(store.get_collection("c").unwrap().spaces[0].model.as_deref(), Some("m"));
    // exist_ok names the model of a collection that has none.
    store.create_collection(collection("d")).unwrap();
    let named = CreateCollection { model: Some("m".into()), exist_ok: true, ..collection("d") };
    assert_eq!(store.create_collection(named.clone()).unwrap().spaces[0].model.as_deref(), Some("m"));
    assert_eq!(store.create_collection(named).unwrap(), store.get_collection("d").unwrap());
    let space = |name: &str, model: Option<&str>| CreateSpace {
        collection: "c".into(),
        name: name.into(),
        dimension: Some(2),
        metric: crate::model::Metric::L2,
        model: model.map(str::to_owned),
    };
    store.create_space(space("other", Some("n"))).unwrap();
    store.create_space(space("open", None)).unwrap();
    let refused = look_up(store, "other", None, &[]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::CollectionExists);
    assert!(refused.message().contains("\"n\"") && refused.message().contains("\"m\""), "{refused}");
    assert_eq!(look_up(store, "other", Some("n"), &[]).unwrap().model.as_deref(), Some("n"));
    assert_eq!(look_up(store, "open", None, &[]).unwrap().model.as_deref(), Some("m"));
    assert_eq!(kind(look_up(store, DEFAULT_SPACE, Some("n"), &[])), ErrorKind::CollectionExists);
    assert_eq!(kind(look_up(store, "none", None, &[])), ErrorKind::NotFound);
}

fn some_chunks(store: &dyn Store) {
    let rows = |rows: &[[f32; 2]], given: &[bool]| Some(vectors(rows).unwrap().of_chunks(given).unwrap());
    let all = vec![document("a", "a"), document("b", "b"), document("d", "d")];
    let stored = add(store, all.clone(), rows(&[[1.0, 0.0], [0.0, 1.0]], &[true, false, true])).unwrap().chunk_ids;
    let of = |ids: &[String]| store.get_embeddings("c", ids, DEFAULT_SPACE);
    assert_eq!(of(&[stored[0].clone(), stored[2].clone()]).unwrap().values, [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(kind(of(&stored[1..2])), ErrorKind::NotFound);
    // What is not said of a chunk is no difference; what is said and stored otherwise is.
    let again = add(store, all.clone(), rows(&[[1.0, 0.0]], &[true, false, false])).unwrap();
    assert_eq!(again.unchanged, 3);
    assert_eq!(kind(add(store, all.clone(), rows(&[[1.0, 0.0]], &[false, true, false]))), ErrorKind::Conflict);
    assert_eq!(kind(add(store, all, rows(&[[1.0, 0.0]], &[true, false]))), ErrorKind::InvalidVector);
    let chunk = |text: &str| NewChunk { id: None, ..super::chunk("x", text) };
    let more = AddChunks {
        collection: "c".into(),
        document_id: "b".into(),
        chunks: vec![chunk("1"), chunk("2")],
        embeddings: rows(&[[0.5, 0.5]], &[false, true]),
    };
    let more = store.add_chunks(more).unwrap();
    assert_eq!(of(&more[1..]).unwrap().values, [0.5, 0.5]);
    assert_eq!(kind(of(&more[..1])), ErrorKind::NotFound);
}

fn kept(store: &dyn Store) {
    add(store, vec![document("a", "one")], None).unwrap();
    let asked = [document("a", "one"), document("a", "two"), document("z", "one")];
    assert_eq!(store.kept("c", &asked, OnConflict::Replace).unwrap(), [true, false, false]);
    assert_eq!(store.kept("c", &asked, OnConflict::Error).unwrap(), [true, false, false]);
    assert_eq!(store.kept("c", &asked, OnConflict::Skip).unwrap(), [true, true, false]);
    let skipped = add_as(store, asked.to_vec(), None, OnConflict::Skip).unwrap();
    assert_eq!((skipped.unchanged, skipped.skipped, skipped.added), (1, 1, 1));
}
