//! Whole collections, read from one snapshot.

use super::{add, add_as, chunk, collection, document, ids, kind, vectors};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::EXPORT_PAGE_ROWS;
use crate::model::{
    Imported, Metadata, Namespace, NewDocument, NewRelation, NewStateEntry, OnConflict, Relation, StateEntry,
    StateValue, Timestamp,
};
use crate::request::{
    Clear, CreateIndex, CreateSpace, DEFAULT_SPACE, DeleteEmbeddings, Export, ImportRelations, ImportState,
};
use crate::store::{ExportedCollection, ExportedPage, Exporter, Store, Unwatched};

#[derive(Default)]
struct Kept<'a> {
    collections: Vec<ExportedCollection>,
    pages: Vec<ExportedPage>,
    relations: Vec<Vec<Relation>>,
    state: Vec<Vec<(Namespace, StateEntry)>>,
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

    fn relations(&mut self, relations: Vec<Relation>) -> Result<()> {
        assert!(self.state.is_empty());
        self.relations.push(relations);
        Ok(())
    }

    fn state(&mut self, entries: Vec<(Namespace, StateEntry)>) -> Result<()> {
        self.state.push(entries);
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
    let documents = EXPORT_PAGE_ROWS + 7;
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

pub(super) fn relations_and_state(store: &dyn Store) {
    let past = Some(Timestamp(Timestamp::now().0 - 1));
    let many = EXPORT_PAGE_ROWS + 3;
    let chunks = (0..=many).map(|i| chunk(&format!("c{i}"), "text")).collect();
    add(store, vec![NewDocument { chunks: Some(chunks), ..document("d", "text") }], None).unwrap();
    let relation = |source: &str, target: &str| NewRelation {
        source: source.into(),
        target: target.into(),
        kind: "next".into(),
        strength: 0.5,
        metadata: Metadata::empty(),
    };
    let relations = (0..many).map(|i| relation(&format!("c{}", i + 1), &format!("c{i}"))).collect();
    let import = |relations| ImportRelations { collection: "c".into(), relations, on_conflict: OnConflict::Error };
    assert_eq!(store.import_relations(import(relations)).unwrap().len(), many);
    // Its end expires after it was related.
    add(store, vec![document("mortal", "text")], None).unwrap();
    let outcome = store.import_relations(import(vec![relation("d", "mortal")])).unwrap();
    assert_eq!(outcome, [Imported::Stored]);
    let expired = NewDocument { expires_at: past, ..document("mortal", "other") };
    add_as(store, vec![expired], None, OnConflict::Replace).unwrap();
    let entry = |name: &str, local, key: &str, expires_at| NewStateEntry {
        namespace: Namespace { name: name.into(), local },
        key: key.into(),
        value: StateValue::from_stored("[1]".into()),
        expires_at,
    };
    let keys = (0..many).map(|i| entry("n", false, &format!("k{i:05}"), None));
    let others = [entry("n", true, "k", None), entry("m", true, "", None), entry("n", false, "gone", past)];
    let import = ImportState { entries: keys.chain(others).collect(), on_conflict: OnConflict::Error };
    store.import_state(import).unwrap();

    let mut kept = Kept::default();
    store.export(&Export::default(), &mut kept).unwrap();
    assert!(kept.relations.len() > 1 && kept.state.len() > 1, "one page");
    let found: Vec<Relation> = kept.relations.concat();
    assert_eq!(found.len(), many);
    assert!(found.iter().enumerate().all(|(i, r)| r.target == format!("c{i}") && r.strength == 0.5));
    let found: Vec<(Namespace, StateEntry)> = kept.state.concat();
    let names: Vec<String> = found.iter().map(|(of, entry)| format!("{}{}/{}", of.name, of.local, entry.key)).collect();
    let between = (0..many).map(|i| format!("nfalse/k{i:05}"));
    assert!(names.into_iter().eq(["mtrue/".to_owned()].into_iter().chain(between).chain(["ntrue/k".to_owned()])));
    assert!(found.iter().all(|(_, entry)| entry.value.as_json() == "[1]"));

    // State is of no collection.
    let mut kept = Kept::default();
    store.export(&Export { collections: Some(ids(&["c"])) }, &mut kept).unwrap();
    assert_eq!((kept.relations.concat().len(), kept.state.len()), (many, 0));
}
