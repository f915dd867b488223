//! Whole collections, read from one snapshot.

use super::{add, collection, document, ids, kind, vectors};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::EXPORT_PAGE_DOCUMENTS;
use crate::request::{Clear, CreateIndex, CreateSpace, DEFAULT_SPACE, DeleteEmbeddings, Export};
use crate::store::{ExportedCollection, ExportedPage, Exporter, Store, Unwatched};

#[derive(Default)]
struct Kept<'a> {
    collections: Vec<ExportedCollection>,
    pages: Vec<ExportedPage>,
    /// Called before the first page is kept.
    meanwhile: Option<&'a dyn Fn() -> Result<()>>,
}

impl Exporter for Kept<'_> {
    fn collection(&mut self, collection: ExportedCollection) -> Result<()> {
        self.collections.push(collection);
        Ok(())
    }

    fn page(&mut self, page: ExportedPage) -> Result<()> {
        self.meanwhile.take().map_or(Ok(()), |call| call())?;
        self.pages.push(page);
        Ok(())
    }
}

pub(super) fn snapshot(store: &dyn Store) {
    store.create_collection(collection("empty")).unwrap();
    let space = CreateSpace {
        collection: "c".into(),
        name: "other".into(),
        dimension: None,
        metric: crate::model::Metric::L2,
        model: None,
    };
    store.create_space(space).unwrap();
    store.create_index(CreateIndex { collection: "c".into(), field: "doc".into() }, &mut Unwatched).unwrap();
    let documents = EXPORT_PAGE_DOCUMENTS + 7;
    let all = (0..documents).map(|i| document(&format!("d{i}"), "some text")).collect();
    let chunks = add(store, all, vectors(&vec![[1.0, 0.5]; documents])).unwrap().chunk_ids;
    let without =
        DeleteEmbeddings { collection: "c".into(), chunk_ids: vec![chunks[1].clone()], space: DEFAULT_SPACE.into() };
    store.delete_embeddings(without).unwrap();
    let clear = || store.clear(Clear { collection: "c".into() });
    let mut kept = Kept { meanwhile: Some(&clear), ..Kept::default() };
    store.export(&Export::default(), &mut kept).unwrap();
    assert_eq!(store.count("c", None).unwrap(), 0, "the writer waited");
    let names: Vec<&str> = kept.collections.iter().map(|found| found.info.name.as_str()).collect();
    assert_eq!(names, ["c", "empty"]);
    assert_eq!((kept.collections[0].documents, kept.collections[0].chunks), (documents as u64, documents as u64));
    assert_eq!(kept.collections[0].indexes, ["doc"]);
    assert!(kept.pages.len() > 1, "one page");
    let found = kept.pages.iter().flat_map(|page| &page.documents).map(|(document, _)| document.id.clone());
    assert!(found.eq((0..documents).map(|i| format!("d{i}"))));
    let given: Vec<bool> = kept.pages.iter().flat_map(|page| page.embeddings[0].given.clone()).collect();
    assert!(given.iter().enumerate().all(|(chunk, &given)| given == (chunk != 1)));
    for page in &kept.pages {
        let [default, other] = page.embeddings.as_slice() else { panic!("one for each space") };
        assert_eq!(default.vectors.values.len(), 2 * default.given.iter().filter(|given| **given).count());
        assert!(default.vectors.values.chunks_exact(2).all(|row| row == [1.0, 0.5]));
        assert!(other.vectors.values.is_empty() && other.given.len() == page.documents.len());
    }
}

pub(super) fn choosing(store: &dyn Store) {
    store.create_collection(collection("other")).unwrap();
    add(store, vec![document("a", "a")], None).unwrap();
    let export = |names: &[&str]| Export { collections: Some(ids(names)) };
    let mut kept = Kept::default();
    store.export(&export(&["other"]), &mut kept).unwrap();
    assert_eq!((kept.collections.len(), kept.pages.len()), (1, 0));
    assert_eq!(kind(store.export(&export(&["none"]), &mut kept)), ErrorKind::CollectionNotFound);
    let full = || Err(Error::new(ErrorKind::StoreFull, "the disk is full"));
    let mut kept = Kept { meanwhile: Some(&full), ..Kept::default() };
    assert_eq!(kind(store.export(&Export::default(), &mut kept)), ErrorKind::StoreFull);
    let close = || store.close();
    let mut kept = Kept { meanwhile: Some(&close), ..Kept::default() };
    assert_eq!(kind(store.export(&Export::default(), &mut kept)), ErrorKind::Closed);
}
