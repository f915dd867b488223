//! The same file opened twice, with derived indexes and without: both must answer alike, whatever was written between,
//! whatever became of the snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::SqliteStore;
use crate::error::Result;
use crate::filter::Filter;
use crate::model::{Embeddings, Hits, Matrix, Metadata, Metric, NewChunk, NewDocument, OnConflict, Timestamp};
use crate::random::Random;
use crate::request::{
    Accuracy, Add, Clear, CreateCollection, CreateSpace, DEFAULT_SPACE, Delete, DeleteEmbeddings, DeleteSpace, Derived,
    Expire, IndexAt, MetadataMode, Mode, Open, Operation, Search, SearchBatch, SearchStore, SetEmbeddings,
    SetTokenizer, Syntax, UpdateMetadata,
};
use crate::store::{Store, Uninterrupted, Unwatched};

const WORDS: [&str; 24] = [
    "the",
    "of",
    "fox",
    "foxes",
    "jumps",
    "jumping",
    "over",
    "dog",
    "lazy",
    "quick",
    "naïve",
    "北京",
    "index",
    "indexes",
    "search",
    "vector",
    "store",
    "storage",
    "a",
    "b",
    "retrieval",
    "ranked",
    "rank",
    "10",
];
const DIMENSION: usize = 5;

fn text(random: &mut Random) -> String {
    // Some words are in most texts, some in few.
    let words = random.below(14);
    let mut word = || {
        let (a, b) = (random.below(WORDS.len()), random.below(WORDS.len()));
        WORDS[a.min(b)]
    };
    (0..words).map(|_| word()).collect::<Vec<_>>().join(" ")
}

fn vector(random: &mut Random) -> Vec<f32> {
    // Few values, so that many distances are equal.
    let mut vector: Vec<f32> = (0..DIMENSION).map(|_| random.below(5) as f32 - 2.0).collect();
    if vector.iter().all(|x| *x == 0.0) {
        vector[0] = 1.0;
    }
    vector
}

fn vectors(random: &mut Random, rows: usize) -> Option<Embeddings> {
    let all = (0..rows).flat_map(|_| vector(random)).collect();
    Some(Embeddings::new(Arc::new(Matrix::new(all, DIMENSION).unwrap())).unwrap())
}

struct Pair {
    path: PathBuf,
    index_at: IndexAt,
    derived: Derived,
    /// With indexes.
    quick: SqliteStore,
    /// Without.
    plain: SqliteStore,
    random: Random,
    /// Ids of chunks that there may be.
    chunks: Vec<String>,
    names: usize,
    /// Answers that an index gave.
    indexed: usize,
}

impl Pair {
    fn new(path: &Path, seed: u64, derived: Derived, index_at: IndexAt) -> Self {
        let open =
            |derived| SqliteStore::open(&Open { derived, index_at: Some(index_at), ..Open::file(path) }).unwrap();
        let pair = Self {
            path: path.to_owned(),
            index_at,
            derived,
            quick: open(derived),
            plain: open(Derived::Off),
            random: Random::new(seed),
            chunks: Vec::new(),
            names: 0,
            indexed: 0,
        };
        for (name, metric, tokenizer) in
            [("c", Metric::Cosine, "porter unicode61"), ("d", Metric::L2, "trigram"), ("e", Metric::Ip, "unicode61")]
        {
            if pair.quick.get_collection(name).is_ok() {
                continue;
            }
            pair.quick
                .create_collection(CreateCollection {
                    name: name.into(),
                    dimension: None,
                    metric,
                    tokenizer: tokenizer.into(),
                    description: None,
                    settings: serde_json::Map::new(),
                    model: None,
                    exist_ok: true,
                })
                .unwrap();
        }
        pair
    }

    fn reopen(&mut self) {
        self.quick.close().unwrap();
        let request = Open { derived: self.derived, index_at: Some(self.index_at), ..Open::file(&self.path) };
        self.quick = SqliteStore::open(&request).unwrap();
    }

    fn collection(&mut self) -> String {
        ["c", "c", "d", "e"][self.random.below(4)].into()
    }

    fn some(&mut self, most: usize) -> Vec<String> {
        let many = 1 + self.random.below(most);
        (0..many).filter_map(|_| self.chunks.get(self.random.below(self.chunks.len())).cloned()).collect()
    }

    fn document(&mut self, anew: bool) -> NewDocument {
        self.names += 1;
        let id = if anew { self.names } else { 1 + self.random.below(self.names) };
        let chunks = 1 + self.random.below(4);
        let mut all = Vec::new();
        for place in 0..chunks {
            let chunk = format!("{id}-{place}");
            self.chunks.push(chunk.clone());
            let expires = self.random.below(30) == 0;
            all.push(NewChunk {
                id: Some(chunk),
                text: if self.random.below(12) == 0 { None } else { Some(text(&mut self.random)) },
                metadata: metadata(json!({ "n": self.random.below(10) })),
                chars: None,
                token_count: None,
                expires_at: expires.then(|| Timestamp(Timestamp::now().0 + 1_000 * self.random.below(50) as i64)),
            });
        }
        NewDocument {
            id: Some(format!("doc{id}")),
            uri: None,
            text: None,
            content_type: "text/plain".into(),
            metadata: metadata(json!({ "kind": self.random.below(3) })),
            chunks: Some(all),
            expires_at: None,
        }
    }

    /// Something is written; what is refused is nobody's business here.
    fn write(&mut self) {
        let collection = self.collection();
        let chunk_ids = self.some(5);
        match self.random.below(40) {
            0 if self.random.below(4) == 0 => drop(self.quick.clear(Clear { collection })),
            1 => {
                let tokenizer = ["porter unicode61", "unicode61", "ascii"][self.random.below(3)].into();
                drop(self.quick.set_tokenizer(SetTokenizer { collection: "e".into(), tokenizer }, &mut Unwatched));
            }
            2 => drop(self.quick.expire(Expire { collection })),
            3 => drop(self.quick.operate(Operation::Optimize, &mut Unwatched)),
            4 => drop(self.quick.create_space(CreateSpace {
                collection,
                name: "second".into(),
                dimension: Some(DIMENSION),
                metric: Metric::L2,
                model: None,
            })),
            5 => drop(self.quick.delete_space(DeleteSpace { collection, name: "second".into() })),
            6..=9 => drop(self.quick.delete_embeddings(DeleteEmbeddings {
                collection,
                chunk_ids,
                space: DEFAULT_SPACE.into(),
            })),
            10..=14 => {
                let space = if self.random.below(3) == 0 { "second" } else { DEFAULT_SPACE };
                let mut chunk_ids = chunk_ids;
                chunk_ids.sort();
                chunk_ids.dedup();
                let there = self.plain.get(&collection, &chunk_ids).unwrap();
                let chunk_ids: Vec<String> =
                    chunk_ids.into_iter().zip(there).filter_map(|(id, chunk)| chunk.map(|_| id)).collect();
                if let Some(embeddings) = vectors(&mut self.random, chunk_ids.len()).filter(|_| !chunk_ids.is_empty()) {
                    let request = SetEmbeddings { collection, chunk_ids, embeddings, space: space.into() };
                    drop(self.quick.set_embeddings(request));
                }
            }
            15..=17 => drop(self.quick.update_metadata(UpdateMetadata {
                collection,
                metadata: metadata(json!({ "n": self.random.below(10) })),
                chunk_ids: None,
                document_ids: None,
                filter: filter(json!({ "n": self.random.below(10) })),
                mode: MetadataMode::Merge,
            })),
            18..=22 => {
                let by_filter = self.random.below(4) == 0;
                let filter = if by_filter { filter(json!({ "n": self.random.below(40) })) } else { None };
                let chunk_ids = if by_filter { None } else { Some(chunk_ids) };
                drop(self.quick.delete(Delete { collection, chunk_ids, document_ids: None, uris: None, filter }));
            }
            _ => {
                let documents = 1 + self.random.below(12);
                let anew = self.random.below(4) > 0;
                let documents: Vec<NewDocument> = (0..documents).map(|_| self.document(anew)).collect();
                let rows = documents.iter().filter_map(|document| document.chunks.as_ref()).map(Vec::len).sum();
                let embeddings = if self.random.below(4) == 0 { None } else { vectors(&mut self.random, rows) };
                let on_conflict = OnConflict::Replace;
                let space = DEFAULT_SPACE.into();
                let add = Add { collection, documents, embeddings, on_conflict, space };
                // Half of what is written comes from another handle, as from another process.
                let store = if self.random.below(2) == 0 { &self.quick } else { &self.plain };
                drop(store.add(add, &mut Unwatched));
            }
        }
    }

    /// With the default accuracy, what is found is among what may be found, at its distance, and there are enough.
    fn approximate(&self, request: Search) {
        if !matches!(request.mode, Mode::Vector { .. }) {
            return;
        }
        let all = Search { k: 4000, accuracy: Accuracy::EXACT, ..request.clone() };
        let ask = |store: &SqliteStore, request: &Search| {
            Ok::<_, crate::error::Error>(told(&store.search(request, Arc::new(Uninterrupted))?))
        };
        // Between the two something may expire.
        let fits = || match (ask(&self.quick, &request), ask(&self.plain, &all)) {
            (Ok(found), Ok(all)) => {
                let order = found.is_sorted_by(|a, b| f64::from_bits(a.1) >= f64::from_bits(b.1));
                let mut ids: Vec<&str> = found.iter().map(|hit| hit.0.as_str()).collect();
                ids.sort_unstable();
                ids.dedup();
                let real = found.iter().all(|hit| all.contains(hit));
                order && real && ids.len() == found.len() && found.len() == request.k.min(all.len())
            }
            (found, all) => found.err().map(|error| error.kind()) == all.err().map(|error| error.kind()),
        };
        assert!((0..20).any(|_| fits()), "{request:?}");
    }

    fn search(&mut self) {
        let collection = self.collection();
        let filter = match self.random.below(6) {
            0 => filter(json!({ "n": self.random.below(10) })),
            1 => filter(json!({ "n": { "$lt": self.random.below(10) } })),
            2 => filter(json!({ "kind": { "$ne": self.random.below(3) } })),
            _ => None,
        };
        let text = text(&mut self.random);
        let space = if self.random.below(5) == 0 { "second" } else { DEFAULT_SPACE }.to_owned();
        let vector = vector(&mut self.random);
        let k = [1, 3, 10, 100, 4000][self.random.below(5)];
        let mode = match self.random.below(5) {
            0 | 1 => Mode::Vector { vector, space, text: None },
            2 => Mode::Hybrid { text, vector, space, fusion: Default::default(), candidates: None },
            _ => {
                let syntax = [Syntax::Natural, Syntax::All, Syntax::Phrase, Syntax::Prefix][self.random.below(4)];
                Mode::Keyword { text, syntax, space: DEFAULT_SPACE.into() }
            }
        };
        let request = Search {
            filter: filter.clone(),
            accuracy: Accuracy::EXACT,
            explain: true,
            ..Search::new(collection.clone(), mode.clone(), k)
        };
        let ask = |store: &SqliteStore| {
            let hits = store.search(&request, Arc::new(Uninterrupted))?;
            assert!(hits.exact && hits.complete);
            Ok(told(&hits))
        };
        same(ask, &self.quick, &self.plain);
        if let Ok(hits) = self.quick.search(&request, Arc::new(Uninterrupted)) {
            let plan = hits.plan.unwrap();
            let used = |leg: &&str| plan.get(*leg).is_some_and(|leg| leg.get("index").is_some());
            self.indexed += ["vector", "keyword"].iter().filter(|leg| used(leg)).count();
        }
        self.approximate(Search { accuracy: Accuracy::default(), explain: false, ..request });
        if self.random.below(6) == 0 {
            let whole = SearchStore {
                collections: None,
                mode: Mode::Keyword { text: "fox index".into(), syntax: Syntax::Natural, space: DEFAULT_SPACE.into() },
                k,
                filter: None,
                timeout: None,
            };
            same(|store| Ok(told(&store.search_store(&whole, Arc::new(Uninterrupted))?)), &self.quick, &self.plain);
            let vectors: Vec<f32> = (0..3).flat_map(|_| self::vector(&mut self.random)).collect();
            let (dimension, space) = (DIMENSION, DEFAULT_SPACE.into());
            let batch = SearchBatch { collection, vectors, dimension, space, k, filter, accuracy: Accuracy::EXACT };
            let told_all = |all: Vec<Hits>| all.iter().map(told).collect::<Vec<_>>();
            same(|store| Ok(told_all(store.search_batch(&batch, Arc::new(Uninterrupted))?)), &self.quick, &self.plain);
        }
    }
}

/// Both answer alike. Between two questions something may expire, so they are asked again.
fn same<T: PartialEq + std::fmt::Debug>(
    ask: impl Fn(&SqliteStore) -> Result<T>,
    quick: &SqliteStore,
    plain: &SqliteStore,
) {
    let ask = |store| ask(store).map_err(|error| error.kind());
    let mut answers = (ask(quick), ask(plain));
    for _ in 0..20 {
        if answers.0 == answers.1 {
            return;
        }
        answers = (ask(quick), ask(plain));
    }
    assert_eq!(answers.0, answers.1);
}

fn metadata(value: serde_json::Value) -> Metadata {
    Metadata::from_map(value.as_object().unwrap()).unwrap()
}

fn filter(value: serde_json::Value) -> Option<Filter> {
    Some(Filter::parse(value.as_object().unwrap()).unwrap())
}

/// Ids with scores and distances, to the bit.
fn told(hits: &Hits) -> Vec<(String, u64, Option<u64>)> {
    let told = |hit: &crate::model::Hit| (hit.id.clone(), hit.score.to_bits(), hit.distance.map(f64::to_bits));
    hits.hits.iter().map(told).collect()
}

fn folder_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-index");
    name.into()
}

#[test]
fn answers_are_those_of_the_tables_whatever_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut seed = 0x5eed;
    for (rows, tail, wait) in [(0, 0, true), (1, 20, true), (5, 60, true), (1, 10, false)] {
        for derived in [Derived::Auto, Derived::Memory] {
            seed += 1;
            let path = folder.path().join(format!("{seed}.db"));
            let mut pair = Pair::new(&path, seed, derived, IndexAt { rows, tail, wait });
            for step in 0..250 {
                pair.write();
                if step % 3 == 0 {
                    pair.search();
                }
                if pair.random.below(40) == 0 {
                    pair.reopen();
                }
            }
            assert!(!wait || pair.indexed > 40, "{} answers of an index", pair.indexed);
        }
    }
}

/// A store with enough in it for snapshots of every collection, and they are built.
fn filled(path: &Path, seed: u64) -> Pair {
    let mut pair = Pair::new(path, seed, Derived::Auto, IndexAt { rows: 1, tail: usize::MAX, wait: true });
    (0..60).for_each(|_| pair.write());
    pair.quick.operate(Operation::Optimize, &mut Unwatched).unwrap();
    assert!(!files(path).is_empty());
    pair
}

/// The snapshots of a store.
fn files(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder_of(path)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "index"));
    files.sort();
    files
}

/// Takes the files of one store for those of another.
fn put(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Searches, and says how many answers an index gave.
fn searches(pair: &mut Pair, many: usize) -> usize {
    let before = pair.indexed;
    (0..many).for_each(|_| pair.search());
    pair.indexed - before
}

#[test]
fn snapshots_that_are_put_back_are_followed_or_left() {
    let folder = tempfile::tempdir().unwrap();
    let (path, kept) = (folder.path().join("a.db"), folder.path().join("kept"));
    let mut pair = filled(&path, 7);
    put(&folder_of(&path), &kept);
    (0..40).for_each(|_| pair.write());
    pair.quick.operate(Operation::Optimize, &mut Unwatched).unwrap();
    pair.quick.close().unwrap();
    std::fs::remove_dir_all(folder_of(&path)).unwrap();
    put(&kept, &folder_of(&path));
    // Nothing is built: what an index answers comes from what was put back.
    pair.index_at.rows = u64::MAX;
    pair.reopen();
    assert!(searches(&mut pair, 100) > 20);
    for _ in 0..60 {
        pair.write();
        pair.search();
    }
}

#[test]
fn snapshots_of_another_history_never_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy, other) = (folder.path().join("a.db"), folder.path().join("copy.db"), folder.path().join("b.db"));
    let mut pair = filled(&path, 11);
    pair.quick.backup(&crate::request::Backup { path: copy.clone() }, &mut Unwatched).unwrap();
    (0..30).for_each(|_| pair.write());
    pair.quick.operate(Operation::Optimize, &mut Unwatched).unwrap();
    drop(pair);
    // The backup goes on by itself, with the snapshots of the store that it was taken of.
    let mut restored = Pair::new(&copy, 13, Derived::Auto, IndexAt { rows: u64::MAX, tail: 0, wait: true });
    std::fs::create_dir_all(folder_of(&copy)).unwrap();
    put(&folder_of(&path), &folder_of(&copy));
    assert_eq!(searches(&mut restored, 40), 0);
    for _ in 0..60 {
        restored.write();
        restored.search();
    }
    assert_eq!(restored.indexed, 0);
    // Another store, whose tables have the same numbers.
    let mut another = Pair::new(&other, 17, Derived::Auto, IndexAt { rows: u64::MAX, tail: 0, wait: true });
    put(&folder_of(&path), &folder_of(&other));
    for _ in 0..60 {
        another.write();
        another.search();
    }
    assert_eq!(another.indexed, 0);
}

#[test]
fn damaged_snapshots_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut pair = filled(&path, 23);
    pair.index_at.rows = u64::MAX;
    pair.reopen();
    assert!(searches(&mut pair, 50) > 20);
    let whole: Vec<(PathBuf, Vec<u8>)> =
        files(&path).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect();
    for round in 0..60 {
        for (file, bytes) in &whole {
            let mut bytes = bytes.clone();
            let at = pair.random.below(bytes.len());
            match round % 3 {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 1 << pair.random.below(8),
                _ => {
                    let from = pair.random.below(bytes.len());
                    let many = 64.min(bytes.len() - at.max(from));
                    bytes.copy_within(from..from + many, at);
                }
            }
            // Another file under the name: the one that is open stays as it is.
            drop(std::fs::remove_file(file));
            std::fs::write(file, bytes).unwrap();
        }
        pair.reopen();
        searches(&mut pair, 6);
    }
}

#[test]
fn the_files_of_what_is_dropped_go_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let pair = filled(&path, 29);
    let ours = |name: &str| folder_of(&path).join(name);
    for name in ["notes.txt", "vectors-1-1-7.index", "vectors-1-1-.index.tmp", "text-9999-1-7.index"] {
        std::fs::write(ours(name), b"not a snapshot").unwrap();
    }
    for name in ["c", "d"] {
        pair.quick.delete_collection(crate::request::DeleteCollection { name: name.into() }).unwrap();
    }
    pair.quick
        .set_tokenizer(
            SetTokenizer { collection: "e".into(), tokenizer: "unicode61 remove_diacritics 0".into() },
            &mut Unwatched,
        )
        .unwrap();
    pair.quick.operate(Operation::Optimize, &mut Unwatched).unwrap();
    let left = files(&path);
    assert!(left.len() <= 3, "{left:?}");
    assert!(ours("notes.txt").exists() && !ours("vectors-1-1-.index.tmp").exists());
    assert!(!left.contains(&ours("vectors-1-1-7.index")) && !left.contains(&ours("text-9999-1-7.index")));
}
