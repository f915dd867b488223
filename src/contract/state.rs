//! What pipelines keep between their runs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Test, kind};
use crate::error::{ErrorKind, Result};
use crate::model::{Expected, Imported, Namespace, NewStateEntry, OnConflict, StateValue, Timestamp};
use crate::request::{DeleteState, ImportState, ScanState, SetState};
use crate::store::Store;

pub const TESTS: [(&str, Test); 4] =
    [("values", values), ("scans", scans), ("expectations", expectations), ("importing_state", importing_state)];

fn namespace(name: &str) -> Namespace {
    Namespace { name: name.into(), local: false }
}

fn value(value: Value) -> StateValue {
    StateValue::from_value(&value).unwrap()
}

fn set(name: &str, key: &str, to: Value) -> SetState {
    SetState {
        namespace: namespace(name),
        entries: vec![(key.into(), value(to))],
        expires_at: None,
        expected: Expected::Anything,
    }
}

fn delete(name: &str, keys: Option<&[&str]>) -> DeleteState {
    let keys = keys.map(|keys| keys.iter().map(|&key| key.to_owned()).collect());
    DeleteState { namespace: namespace(name), keys, expected: Expected::Anything }
}

fn get(store: &dyn Store, name: &str, key: &str) -> Option<String> {
    store.get_state(&namespace(name), key).unwrap().map(|entry| entry.value.as_json().to_owned())
}

fn keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let request =
        ScanState { namespace: namespace("n"), prefix: prefix.into(), after: after.map(str::to_owned), limit };
    store.scan_state(&request).unwrap().into_iter().map(|entry| entry.key).collect()
}

fn values(store: &dyn Store) {
    assert!(store.set_state(set("n", "a", json!({ "b": [1, null] }))).unwrap());
    assert!(store.set_state(set("m", "a", json!(2))).unwrap());
    assert_eq!(get(store, "n", "a").unwrap(), r#"{"b":[1,null]}"#);
    let local = Namespace { local: true, ..namespace("n") };
    assert_eq!(store.get_state(&local, "a").unwrap(), None);
    assert!(store.set_state(SetState { namespace: local.clone(), ..set("n", "a", json!("mine")) }).unwrap());
    store.set_state(set("n", "a", json!(3))).unwrap();
    assert_eq!(get(store, "n", "a").unwrap(), "3");
    assert_eq!(store.get_state(&local, "a").unwrap().unwrap().value, value(json!("mine")));
    assert_eq!(store.delete_state(delete("n", Some(&["a", "none"]))).unwrap(), 1);
    assert_eq!((get(store, "n", "a"), store.count_state(&namespace("n")).unwrap()), (None, 0));
    assert_eq!(get(store, "m", "a").unwrap(), "2");
    // What is expired is not there, and may be set again.
    let past = Some(Timestamp(Timestamp::now().0 - 1));
    store.set_state(SetState { expires_at: past, ..set("n", "old", json!(1)) }).unwrap();
    assert_eq!((get(store, "n", "old"), store.count_state(&namespace("n")).unwrap()), (None, 0));
    assert_eq!(store.delete_state(delete("n", Some(&["old"]))).unwrap(), 0);
    let later = Some(Timestamp(Timestamp::now().0 + 60_000_000));
    store.set_state(SetState { expires_at: later, ..set("n", "old", json!(2)) }).unwrap();
    assert_eq!(store.get_state(&namespace("n"), "old").unwrap().unwrap().expires_at, later);
    let refused = |name: &str, key: &str| kind(store.set_state(set(name, key, json!(1))));
    assert_eq!(refused("", "a"), ErrorKind::Argument);
    assert_eq!(refused("n", &"k".repeat(513)), ErrorKind::Limit);
    assert_eq!(refused("n", "a\0b"), ErrorKind::Argument);
    assert_eq!(kind(store.get_state(&namespace(""), "a")), ErrorKind::Argument);
}

fn scans(store: &dyn Store) {
    for key in ["", "a", "a/1", "a/2", "a/20", "b", "é"] {
        store.set_state(set("n", key, json!(key))).unwrap();
    }
    assert_eq!(keys(store, "", None, 99), ["", "a", "a/1", "a/2", "a/20", "b", "é"]);
    assert_eq!(keys(store, "a/", None, 99), ["a/1", "a/2", "a/20"]);
    assert_eq!(keys(store, "a/", None, 2), ["a/1", "a/2"]);
    assert_eq!(keys(store, "a/", Some("a/2"), 2), ["a/20"]);
    assert_eq!(keys(store, "a/", Some("a"), 1), ["a/1"]);
    assert!(keys(store, "a/", Some("z"), 9).is_empty() && keys(store, "x", None, 9).is_empty());
    assert_eq!(store.delete_state(delete("n", None)).unwrap(), 7);
    assert!(keys(store, "", None, 99).is_empty());
}

fn expectations(store: &dyn Store) {
    let with = |key: &str, to: Value, expected| -> Result<bool> {
        store.set_state(SetState { expected, ..set("n", key, to) })
    };
    assert!(!with("a", json!(1), Expected::Value(value(json!(0)))).unwrap());
    assert!(with("a", json!({ "x": 1, "y": 2 }), Expected::Nothing).unwrap());
    assert!(!with("a", json!(2), Expected::Nothing).unwrap());
    assert!(with("a", json!(3), Expected::Value(value(json!({ "y": 2, "x": 1 })))).unwrap());
    let both = SetState {
        entries: vec![("a".into(), value(json!(9))), ("b".into(), value(json!(9)))],
        expected: Expected::Value(value(json!(3))),
        ..set("n", "", json!(0))
    };
    assert!(!store.set_state(both).unwrap());
    assert_eq!((get(store, "n", "a").unwrap(), get(store, "n", "b")), ("3".to_owned(), None));
    let stale = DeleteState { expected: Expected::Value(value(json!(4))), ..delete("n", Some(&["a"])) };
    assert_eq!(store.delete_state(stale.clone()).unwrap(), 0);
    assert_eq!(store.delete_state(DeleteState { keys: None, ..stale }).unwrap(), 0);
    assert_eq!(get(store, "n", "a").unwrap(), "3");
}

/// Counters that several threads raise lose nothing.
pub(super) fn racing_counters(store: &Arc<dyn Store>, threads: usize, each: usize) {
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..each {
                    loop {
                        let old = store.get_state(&namespace("n"), "count").unwrap().map(|entry| entry.value);
                        let count: u64 = old.as_ref().map_or(0, |value| value.as_json().parse().unwrap());
                        let expected = old.map_or(Expected::Nothing, Expected::Value);
                        if store.set_state(SetState { expected, ..set("n", "count", json!(count + 1)) }).unwrap() {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(get(store.as_ref(), "n", "count").unwrap(), (threads * each).to_string());
}

fn importing_state(store: &dyn Store) {
    let new = |key: &str, to: Value, expires_at| NewStateEntry {
        namespace: namespace("n"),
        key: key.into(),
        value: value(to),
        expires_at,
    };
    let import = |entries: Vec<NewStateEntry>, on_conflict| store.import_state(ImportState { entries, on_conflict });
    let later = Some(Timestamp(Timestamp::now().0 + 3_600_000_000));
    let past = Some(Timestamp(Timestamp::now().0 - 1));
    let all = vec![new("a", json!({ "x": 1, "y": 2 }), later), new("old", json!(1), past)];
    assert_eq!(import(all, OnConflict::Error).unwrap(), [Imported::Stored, Imported::Gone]);
    let kept = store.get_state(&namespace("n"), "a").unwrap().unwrap();
    assert_eq!((kept.expires_at, get(store, "n", "old")), (later, None));
    let change = store.last_change().unwrap();
    let same = new("a", json!({ "y": 2, "x": 1 }), None);
    assert_eq!(import(vec![same], OnConflict::Replace).unwrap(), [Imported::Unchanged]);
    assert_eq!(store.last_change().unwrap(), change);
    let other = || new("a", json!(7), None);
    let refused = import(vec![new("b", json!(1), None), other()], OnConflict::Error).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().starts_with("state 1: the namespace \"n\" has the key \"a\""), "{refused}");
    assert_eq!(get(store, "n", "b"), None, "half of a call");
    assert_eq!(import(vec![other()], OnConflict::Skip).unwrap(), [Imported::Skipped]);
    // What is there and has expired in the export is not taken away.
    assert_eq!(import(vec![new("a", json!(7), past)], OnConflict::Replace).unwrap(), [Imported::Gone]);
    assert_eq!(store.get_state(&namespace("n"), "a").unwrap(), Some(kept));
    assert_eq!(import(vec![other()], OnConflict::Replace).unwrap(), [Imported::Stored]);
    assert_eq!(get(store, "n", "a").unwrap(), "7");
    // What has expired here is not there.
    store.set_state(SetState { expires_at: past, ..set("n", "a", json!(1)) }).unwrap();
    assert_eq!(import(vec![new("a", json!(2), None)], OnConflict::Error).unwrap(), [Imported::Stored]);
    let local = NewStateEntry { namespace: Namespace { local: true, ..namespace("n") }, ..new("a", json!(3), None) };
    assert_eq!(import(vec![local], OnConflict::Error).unwrap(), [Imported::Stored]);
    assert_eq!(get(store, "n", "a").unwrap(), "2");
    assert_eq!(kind(import(vec![new(&"k".repeat(600), json!(1), None)], OnConflict::Skip)), ErrorKind::Limit);
}
