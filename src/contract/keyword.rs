//! Search by words.

use serde_json::json;

use super::{Never, add, answer, document, filter, ids, kind, nothing, search, vectors};
use crate::error::ErrorKind;
use crate::model::NewDocument;
use crate::request::{DEFAULT_SPACE, Delete, Fusion, Mode, Search, SetTokenizer, Syntax};
use crate::store::{Store, Unwatched};

pub(super) fn natural(text: &str) -> Mode {
    keyword(text, Syntax::Natural)
}

fn keyword(text: &str, syntax: Syntax) -> Mode {
    Mode::Keyword { text: text.into(), syntax, space: DEFAULT_SPACE.into() }
}

pub(super) fn text_search(store: &dyn Store) {
    assert!(search(store, natural("anything"), 3, None).is_empty());
    let all = vec![
        document("a", "The quick brown fox"),
        document("b", "Foxes run; the fox is quick, and quick again"),
        document("d", "nothing of it, but 北京 and naïve"),
    ];
    add(store, all, vectors(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])).unwrap();
    let mut both = search(store, natural("what is a QUICK fox?"), 5, None);
    both.sort();
    assert_eq!(both, ["a", "b", "d"].map(str::to_owned)[..2]);
    assert_eq!(search(store, natural("naive 北京"), 5, None), ["d"]);
    for odd in ["", "?", "\"", "a\0b", "AND OR NOT", "NEAR(", "*", "col:x", "^x", "\u{202e}\u{0}\u{ffff}", "'; DROP"] {
        search(store, natural(odd), 5, None);
    }
    let long: String = (0..3000).map(|i| format!("w{i} ")).chain(["the ".into(), "fox".into()]).collect();
    assert_eq!(search(store, natural(&long), 1, None).len(), 1);
    assert_eq!(search(store, natural("fox"), 5, filter(json!({ "doc": "a" }))), ["a"]);
    let hybrid = Mode::Hybrid {
        text: "fox".into(),
        vector: vec![1.0, 1.0],
        space: DEFAULT_SPACE.into(),
        fusion: Fusion::default(),
        candidates: None,
    };
    let request = Search::new("c", hybrid, 3);
    let hits = answer(store, &request).unwrap();
    assert_eq!(hits.hits.len(), 3);
    for hit in &hits.hits {
        let leg = |leg: Option<crate::model::Leg>| leg.map_or(0.0, |leg| 1.0 / (60.0 + f64::from(leg.rank)));
        assert!((hit.score - leg(hit.vector) - leg(hit.keyword)).abs() < 1e-12);
    }
    let marker = hits.markers.values().next().unwrap();
    assert_eq!(marker.marks("two foxes").unwrap().first(), Some(&(4..9)));
}

pub(super) fn syntaxes(store: &dyn Store) {
    let all = vec![
        document("a", "The quick brown fox jumps"),
        document("b", "A brown and quick dog; foxes bark"),
        document("d", "quickly said: brown foxglove"),
    ];
    add(store, all, None).unwrap();
    let found = |text: &str, syntax| {
        let mut ids = search(store, keyword(text, syntax), 9, None);
        ids.sort();
        ids.concat()
    };
    for (text, syntax, expected) in [
        ("quick jumping unicorn?", Syntax::Natural, "ab"),
        ("brown fox", Syntax::All, "ab"),
        ("brown fox unicorn", Syntax::All, ""),
        ("Brown, FOX!", Syntax::Phrase, "a"),
        ("fox brown", Syntax::Phrase, ""),
        ("brown quick fox", Syntax::Prefix, "ab"),
        ("brown foxg", Syntax::Prefix, "d"),
        ("brow fox", Syntax::Prefix, ""),
        ("(fox OR foxglove) NOT dog", Syntax::Fts5, "ad"),
        ("\"quick brown\" OR content : bark", Syntax::Fts5, "ab"),
        ("  ", Syntax::Fts5, ""),
    ] {
        assert_eq!(found(text, syntax), expected, "{text:?} as {syntax:?}");
    }
    for syntax in [Syntax::Natural, Syntax::All, Syntax::Phrase, Syntax::Prefix] {
        for odd in
            ["", "?", "\"", "a\0b", "AND OR NOT", "NEAR(", "*", "col:x", "^x", "\u{202e}\u{0}\u{ffff}", "'; DROP"]
        {
            search(store, keyword(odd, syntax), 5, None);
        }
        let long: String = (0..3000).map(|i| format!("w{i} ")).chain(["brown fox".into()]).collect();
        let request = Search::new("c", keyword(&long, syntax), 5);
        let hits = answer(store, &request).unwrap();
        assert_eq!(hits.hits.len(), if syntax == Syntax::Natural { 3 } else { 0 });
        let plan = hits.keyword.unwrap();
        assert_eq!(plan.dropped > 0, syntax != Syntax::Natural, "{syntax:?}");
        assert!(plan.expression.contains('w'));
    }
    let refused = |text: &str| {
        let mode = keyword(text, Syntax::Fts5);
        answer(store, &Search::new("c", mode, 5)).unwrap_err()
    };
    for wrong in
        ["\"open", "a AND", "(a", "uid : a", "fox\0", "*", "*id", "*reads", "NEAR(a b, x)", "a:b:c", "-", "'a'"]
    {
        let error = refused(wrong);
        assert_eq!(error.kind(), ErrorKind::QuerySyntax, "{wrong}");
        assert!(!error.message().contains("fts_"), "{error}");
    }
    assert!(refused("uid : a").message().contains("no such column: uid"));
    assert_eq!(refused(&"a ".repeat(2049)).kind(), ErrorKind::Limit);
    assert_eq!(refused(&"(".repeat(4096)).kind(), ErrorKind::QuerySyntax);
}

pub(super) fn tokenizers(store: &dyn Store) {
    let bare = NewDocument { text: None, uri: None, ..document("empty", "") };
    let all = vec![document("a", "indexes run"), bare, document("b", "向量数据库的索引"), document("d", "an index")];
    add(store, all, None).unwrap();
    let found = |text: &str| {
        let mut ids = search(store, keyword(text, Syntax::Natural), 9, None);
        ids.sort();
        ids.concat()
    };
    assert_eq!((found("index"), found("dex"), found("关系数据库")), ("ad".into(), String::new(), String::new()));
    let set = |tokenizer: &str| {
        let request = SetTokenizer { collection: "c".into(), tokenizer: tokenizer.into() };
        store.set_tokenizer(request, &mut Unwatched)
    };
    for wrong in ["", "snowball", "trigram case_sensitive 7", "unicode61'"] {
        assert_eq!(kind(set(wrong)), ErrorKind::Argument);
    }
    set("trigram").unwrap();
    assert_eq!(store.get_collection("c").unwrap().tokenizer, "trigram");
    assert_eq!((found("index"), found("dex"), found("关系数据库")), ("ad".into(), "ad".into(), "b".into()));
    store.delete(Delete { document_ids: Some(ids(&["d"])), ..nothing() }).unwrap();
    add(store, vec![document("e", "codex")], None).unwrap();
    assert_eq!(found("dex"), "ae");
    set("  unicode61  remove_diacritics '2' ").unwrap();
    set("unicode61 remove_diacritics 2").unwrap();
    assert_eq!((found("index"), found("run"), found("向量数据库的索引")), (String::new(), "a".into(), "b".into()));
    let none = SetTokenizer { collection: "none".into(), tokenizer: "trigram".into() };
    assert_eq!(kind(store.set_tokenizer(none, &mut Unwatched)), ErrorKind::CollectionNotFound);
    let many: Vec<NewDocument> =
        (0..10_000).map(|i| document(&format!("m{i}"), &"many words of text ".repeat(9))).collect();
    add(store, many, None).unwrap();
    let request = SetTokenizer { collection: "c".into(), tokenizer: "trigram".into() };
    assert_eq!(kind(store.set_tokenizer(request, &mut Never)), ErrorKind::Cancelled);
    assert_eq!((found("run"), found("xes")), ("a".into(), String::new()));
}
