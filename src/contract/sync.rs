//! Changes that go from store to store, in batches.

use std::sync::Arc;

use serde_json::json;

use super::{add_as, document, kind, vectors};
use crate::error::{ErrorKind, Result};
use crate::exchange;
use crate::model::{Namespace, NewDocument, OnConflict, StateValue, SyncReport};
use crate::request::{
    AddPeer, ApplyChanges, BatchSource, Changes, Delete, DeleteCollection, DocumentKey, ExportChanges, GetDocument,
    RemovePeer, SetState,
};
use crate::store::{Batches, Store, Unwatched};
use crate::sync::Watermark;

/// Runs with two empty stores.
pub(super) type Test = fn(&dyn Store, &dyn Store);

pub(super) const TESTS: [(&str, Test); 6] = [
    ("everything_travels", everything_travels),
    ("later_changes_stay", later_changes_stay),
    ("batches_are_whole", batches_are_whole),
    ("parts", parts),
    ("uris_merge", uris_merge),
    ("feed_and_peers", feed_and_peers),
];

fn send(from: &dyn Store, to: &dyn Store) -> Result<SyncReport> {
    let batch = exchange::export(from, to.watermark()?.1, None)?;
    exchange::apply(to, batch.into(), None, &mut Unwatched)
}

fn put(store: &dyn Store, documents: Vec<NewDocument>) {
    let rows = vec![[1.0, 0.5]; documents.len()];
    add_as(store, documents, vectors(&rows), OnConflict::Replace).unwrap();
}

fn texts(store: &dyn Store, ids: &[&str]) -> Vec<Option<String>> {
    let get = |id: &&str| {
        let request = GetDocument { collection: "c".into(), key: DocumentKey::Id((*id).into()) };
        store.get_document(&request).unwrap().map(|document| document.text.unwrap())
    };
    ids.iter().map(get).collect()
}

fn delete(store: &dyn Store, id: &str) {
    let request = Delete {
        collection: "c".into(),
        chunk_ids: None,
        document_ids: Some(vec![id.into()]),
        uris: None,
        filter: None,
    };
    assert_eq!(store.delete(request).unwrap(), 1);
}

fn everything_travels(a: &dyn Store, b: &dyn Store) {
    put(a, vec![document("x", "cats purr"), document("y", "dogs bark")]);
    let namespace = Namespace { name: "n".into(), local: false };
    let set = SetState {
        namespace: namespace.clone(),
        entries: vec![("k".into(), StateValue::from_value(&json!({ "v": 1 })).unwrap())],
        expires_at: None,
        expected: crate::model::Expected::Anything,
    };
    a.set_state(set).unwrap();
    let report = exchange::sync(a, b, &mut Unwatched).unwrap();
    assert_eq!((report.sent, report.received, report.conflicts), (4, 0, 0));
    assert_eq!(texts(b, &["x", "y"]), [Some("cats purr".into()), Some("dogs bark".into())]);
    assert_eq!(a.get_chunks("c", "x").unwrap(), b.get_chunks("c", "x").unwrap());
    let chunk = [a.get_chunks("c", "x").unwrap()[0].id.clone()];
    assert_eq!(a.get_embeddings("c", &chunk, "default").unwrap(), b.get_embeddings("c", &chunk, "default").unwrap());
    assert_eq!(a.get_state(&namespace, "k").unwrap(), b.get_state(&namespace, "k").unwrap());
    assert_eq!(exchange::sync(a, b, &mut Unwatched).unwrap().sent, 0);
    a.delete_collection(DeleteCollection { name: "c".into() }).unwrap();
    exchange::sync(b, a, &mut Unwatched).unwrap();
    assert_eq!(kind(b.get_collection("c")), ErrorKind::CollectionNotFound);
    assert_eq!(kind(exchange::sync(a, a, &mut Unwatched)), ErrorKind::Sync);
}

fn later_changes_stay(a: &dyn Store, b: &dyn Store) {
    put(a, vec![document("x", "one")]);
    exchange::sync(a, b, &mut Unwatched).unwrap();
    put(a, vec![document("x", "two")]);
    // The clock of b goes on where it saw a's.
    while b.watermark().unwrap().1.iter().max() <= a.watermark().unwrap().1.iter().max() {
        put(b, vec![document("x", "three"), document("z", "z")]);
        delete(b, "z");
    }
    let report = exchange::sync(a, b, &mut Unwatched).unwrap();
    assert_eq!(report.conflicts, 1);
    assert_eq!(texts(a, &["x", "z"]), texts(b, &["x", "z"]));
    let lost = a.conflicts(9).unwrap();
    assert_eq!((lost.len(), lost[0].id.as_str()), (1, "x"));
    assert!(lost[0].winner > lost[0].loser);
    delete(a, "x");
    assert_eq!(exchange::sync(b, a, &mut Unwatched).unwrap().conflicts, 0);
    assert_eq!(texts(b, &["x"]), [None]);
}

fn batches_are_whole(a: &dyn Store, b: &dyn Store) {
    put(a, (0..50).map(|i| document(&format!("d{i}"), "some text")).collect());
    let batch = exchange::export(a, Watermark::default(), None).unwrap();
    let before = b.watermark().unwrap();
    for at in [0, 9, 60, batch.len() / 2, batch.len() - 1] {
        let mut mutant = batch.clone();
        mutant[at] ^= 0x40;
        for bytes in [mutant, batch[..at].to_vec()] {
            let applied = exchange::apply(b, bytes.into(), None, &mut Unwatched);
            assert!(matches!(kind(applied), ErrorKind::Sync | ErrorKind::WrongKey));
        }
    }
    assert_eq!(b.watermark().unwrap(), before);
    assert_eq!(b.count("c", None).unwrap(), 0);
    let batch: Arc<[u8]> = batch.into();
    assert_eq!(exchange::apply(b, Arc::clone(&batch), None, &mut Unwatched).unwrap().applied, 50);
    assert_eq!(exchange::apply(b, batch, None, &mut Unwatched).unwrap().applied, 0);
    assert_eq!(b.count("c", None).unwrap(), 50);
}

#[derive(Default)]
struct Kept(Vec<Vec<u8>>);

impl Batches for Kept {
    fn begin(&mut self) -> Result<()> {
        self.0.push(Vec::new());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.last_mut().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, _last: bool) -> Result<()> {
        Ok(())
    }
}

fn parts(a: &dyn Store, b: &dyn Store) {
    put(a, (0..30).map(|i| document(&format!("d{i}"), &"text ".repeat(i + 20))).collect());
    let request = ExportChanges { part_bytes: Some(1000), ..ExportChanges::default() };
    let mut kept = Kept::default();
    let exported = a.export_changes(&request, &mut kept).unwrap();
    assert!(kept.0.len() > 2 && exported.parts == kept.0.len() as u64);
    let apply = |part: &Vec<u8>| {
        let batch = BatchSource::Bytes(part.as_slice().into());
        b.apply_changes(ApplyChanges { batch, key: None }, &mut Unwatched)
    };
    assert_eq!(kind(apply(&kept.0[1])), ErrorKind::Sync);
    let (last, first) = kept.0.split_last().unwrap();
    let own = a.watermark().unwrap().0;
    let known = || b.watermark().unwrap().1.get(own);
    let before = known();
    for part in first {
        apply(part).unwrap();
        // Twice does no harm, and nothing is promised before the end.
        apply(part).unwrap();
        assert_eq!(known(), before);
    }
    apply(last).unwrap();
    assert!(known() > before);
    assert_eq!(b.count("c", None).unwrap(), 30);
}

fn uris_merge(a: &dyn Store, b: &dyn Store) {
    put(a, vec![NewDocument { uri: Some("u".into()), ..document("one", "1") }]);
    put(b, vec![NewDocument { uri: Some("u".into()), ..document("two", "2") }]);
    exchange::sync(a, b, &mut Unwatched).unwrap();
    let found = texts(a, &["one", "two"]);
    assert_eq!(found, texts(b, &["one", "two"]));
    assert!(found[0].is_some() && found[0] == found[1], "one of the ids is an alias");
    assert_eq!((a.count("c", None).unwrap(), b.count("c", None).unwrap()), (1, 1));
}

fn feed_and_peers(a: &dyn Store, b: &dyn Store) {
    put(a, vec![document("x", "one")]);
    send(a, b).unwrap();
    let changes = b.changes(&Changes { since: 0, limit: 99 }).unwrap();
    let last = changes.last().unwrap();
    assert_eq!((last.entity.as_str(), last.op.as_str(), last.id.as_deref()), ("document", "put", Some("x")));
    assert_eq!(last.stamp.replica, a.watermark().unwrap().0);
    let after = b.last_change().unwrap();
    assert!(b.changes(&Changes { since: after, limit: 9 }).unwrap().is_empty());
    assert_eq!(kind(b.changes(&Changes { since: after + 1, limit: 9 })), ErrorKind::Sync);
    let peer = || AddPeer { name: "a".into(), endpoint: "somewhere".into() };
    b.add_peer(peer()).unwrap();
    assert_eq!(kind(b.add_peer(peer())), ErrorKind::Conflict);
    assert_eq!(b.peers().unwrap().len(), 1);
    b.remove_peer(RemovePeer { name: "a".into() }).unwrap();
    assert_eq!(kind(b.remove_peer(RemovePeer { name: "a".into() })), ErrorKind::NotFound);
    let log = b.sync_log(9).unwrap();
    // The first is of before the test. With the document came the dimension that it gave its space.
    assert_eq!((log.len(), log[0].report.received, log[0].error.is_none()), (2, 2, true));
    b.renew_replica().unwrap();
    assert_eq!(b.reclock().unwrap(), 0);
}
