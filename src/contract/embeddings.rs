//! Embeddings and the spaces that hold them.

use std::sync::Arc;

use super::{add, document, ids, kind, vectors};
use crate::error::ErrorKind;
use crate::model::{Embeddings, Matrix, Metric};
use crate::request::{CreateSpace, DEFAULT_SPACE, DeleteEmbeddings, DeleteSpace, SetEmbeddings};
use crate::store::Store;

pub(super) fn embeddings(store: &dyn Store) {
    let chunk_ids = add(store, vec![document("a", "one"), document("b", "two")], None).unwrap().chunk_ids;
    let set = |rows: &[[f32; 2]]| {
        store.set_embeddings(SetEmbeddings {
            collection: "c".into(),
            chunk_ids: chunk_ids.clone(),
            embeddings: vectors(rows).unwrap(),
            space: DEFAULT_SPACE.into(),
        })
    };
    set(&[[1.0, 0.0], [0.0, 1.0]]).unwrap();
    set(&[[1.0, 0.0], [3.0, 4.0]]).unwrap();
    let read = store.get_embeddings("c", &chunk_ids, DEFAULT_SPACE).unwrap();
    assert_eq!((read.values, read.dimension), (vec![1.0, 0.0, 3.0, 4.0], 2));
    assert_eq!(kind(set(&[[0.0, 0.0], [1.0, 1.0]])), ErrorKind::InvalidVector);
    assert_eq!(kind(set(&[[1.0, 0.0]])), ErrorKind::InvalidVector);
    let three = Embeddings::new(Arc::new(Matrix::new(vec![1.0; 3], 3).unwrap())).unwrap();
    assert_eq!(kind(add(store, vec![document("x", "x")], Some(three))), ErrorKind::DimensionMismatch);
    let delete =
        |ids: Vec<String>| DeleteEmbeddings { collection: "c".into(), chunk_ids: ids, space: DEFAULT_SPACE.into() };
    assert_eq!(store.delete_embeddings(delete(vec![chunk_ids[0].clone(), "none".into()])).unwrap(), 1);
    assert_eq!(store.delete_embeddings(delete(vec![chunk_ids[0].clone()])).unwrap(), 0);
    assert_eq!(kind(store.get_embeddings("c", &chunk_ids, DEFAULT_SPACE)), ErrorKind::NotFound);
    assert_eq!(kind(store.get_embeddings("c", &ids(&["none"]), DEFAULT_SPACE)), ErrorKind::DocumentNotFound);
    assert_eq!(store.count("c", None).unwrap(), 2);
}

pub(super) fn spaces(store: &dyn Store) {
    let new = |name: &str| CreateSpace {
        collection: "c".into(),
        name: name.into(),
        dimension: None,
        metric: Metric::Ip,
        model: Some("other".into()),
    };
    store.create_space(new("other")).unwrap();
    assert_eq!(kind(store.create_space(new("other"))), ErrorKind::Conflict);
    let chunk_ids = add(store, vec![document("a", "a")], vectors(&[[1.0, 0.0]])).unwrap().chunk_ids;
    let wide = Embeddings::new(Arc::new(Matrix::new(vec![1.0, 2.0, 3.0], 3).unwrap())).unwrap();
    let set =
        SetEmbeddings { collection: "c".into(), chunk_ids: chunk_ids.clone(), embeddings: wide, space: "other".into() };
    store.set_embeddings(set).unwrap();
    assert_eq!(store.get_embeddings("c", &chunk_ids, "other").unwrap().values, [1.0, 2.0, 3.0]);
    let names: Vec<String> = store.list_spaces("c").unwrap().into_iter().map(|space| space.name).collect();
    assert_eq!(names, [DEFAULT_SPACE, "other"]);
    // A new vector in one space leaves those of the others.
    let set = SetEmbeddings {
        collection: "c".into(),
        chunk_ids: chunk_ids.clone(),
        embeddings: vectors(&[[0.0, 1.0]]).unwrap(),
        space: DEFAULT_SPACE.into(),
    };
    store.set_embeddings(set).unwrap();
    assert_eq!(store.get_embeddings("c", &chunk_ids, "other").unwrap().values, [1.0, 2.0, 3.0]);
    let delete = |name: &str| DeleteSpace { collection: "c".into(), name: name.into() };
    store.delete_space(delete("other")).unwrap();
    assert_eq!(kind(store.delete_space(delete("other"))), ErrorKind::NotFound);
    assert_eq!(kind(store.delete_space(delete(DEFAULT_SPACE))), ErrorKind::Argument);
}
