"""Embedders: any callable, asked in batches, once for each text of a model, and never while the file is locked."""

import multiprocessing
import os
import pickle
import signal
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import ragstore
from ragstore import Chunk, Document
from ragstore.display import Rising
from ragstore.pytest_plugin import HashEmbedder

MODEL = "hash-8"
HASH = HashEmbedder(8)


class Counting:
    """An embedder that remembers its calls."""

    def __init__(self, made=HASH):
        self.made = made
        self.calls = []
        self.lock = threading.Lock()

    def __call__(self, texts):
        assert type(texts) is list
        with self.lock:
            self.calls.append(list(texts))
        return self.made(texts)

    @property
    def asked(self):
        return [text for call in self.calls for text in call]


@pytest.fixture
def embedder():
    return Counting()


def texts_of(count, first=0):
    return [f"text {i} of many" for i in range(first, first + count)]


def stored(collection, ids):
    """The embeddings of chunks are those of their texts."""
    made = collection.get_embeddings(ids)
    assert np.array_equal(made, HASH([chunk.text for chunk in collection.get(ids)]))


def fill(path, texts):
    """In a process of its own: add, and say how often the embedder was asked."""
    embedder = Counting()
    with ragstore.open(path) as store:
        store.create_collection("elsewhere", model=MODEL, embedder=embedder).add(texts)
    return embedder.asked


# once for each text


def test_each_text_is_embedded_once_for_a_model(path, embedder):
    texts = [*texts_of(100), *texts_of(100)]
    with ragstore.open(path) as store:
        a = store.create_collection("a", model=MODEL, embedder=embedder)
        stored(a, a.add(texts).chunk_ids)
        a.add_texts(texts_of(10, 95))
        (document,) = a.add("a document").document_ids
        a.add_chunks(document, [Chunk("text 0 of many"), Chunk("own"), Chunk(start=2, end=10)])
        b = store.create_collection("b", model=MODEL, metric="l2", embedder=embedder)
        stored(b, b.add(texts_of(105)).chunk_ids)
        a.clear()
        a.add(texts)
        store.delete_collection("b")
        # The question is a text that is stored.
        assert a.search("text 7 of many", mode="vector", k=1).texts == ["text 7 of many"]
    with ragstore.open(path) as store:
        b = store.create_collection("b", model=MODEL, embedder=embedder)
        stored(b, b.add([Document(chunks=[Chunk(text) for text in texts_of(105)])]).chunk_ids)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        asked = pool.apply(fill, (path, [*texts_of(105), "new"]))
    assert asked == ["new"]
    assert Counter(embedder.asked) == dict.fromkeys([*texts_of(105), "a document", "own", "document"], 1)


def test_without_a_model_a_call_embeds_each_text_once(path, embedder):
    with ragstore.open(path) as store:
        notes = store.create_collection("notes", embedder=embedder)
        stored(notes, notes.add(["a", "b", "a", "b", "c"]).chunk_ids)
        assert embedder.calls == [["a", "b", "c"]]
        notes.add(["a"])
        assert embedder.asked[3:] == ["a"]
        assert store.clear_embedding_cache() == 0


def test_a_document_that_stays_is_not_embedded(store, embedder):
    notes = store.create_collection("notes", embedder=embedder)
    old = [Document(f"text {i}", id=f"d{i}") for i in range(4)]
    notes.add(old)
    embedder.calls.clear()
    assert notes.add([*old, Document("new", id="new")]).unchanged == 4
    changed = [old[0], Document("other", id="d1"), Document("more", id="d9")]
    assert notes.add(changed, on_conflict="skip").skipped == 1
    assert embedder.asked == ["new", "more"]
    with pytest.raises(ragstore.ConflictError):
        notes.add(changed)
    assert notes.add(changed, on_conflict="replace").replaced == 1
    stored(notes, notes.add([*old[2:], *changed]).chunk_ids)


def test_given_embeddings_are_not_taken_for_what_the_model_makes(store, embedder):
    notes = store.create_collection("notes", model=MODEL, embedder=embedder)
    notes.add("text", np.ones((1, 8)))
    stored(notes, [notes.add_texts(["text"])[0]])
    assert embedder.asked == ["text"]


def test_chunks_without_text_get_no_embedding(store, embedder):
    notes = store.create_collection("notes", model=MODEL, embedder=embedder)
    documents = [Document(id="bare"), Document(id="mixed", chunks=[Chunk(), Chunk("a"), Chunk()]), "b", ""]
    bare, first, a, last, b, empty = notes.add(documents).chunk_ids
    stored(notes, [a, b, empty])
    for chunk in (bare, first, last):
        with pytest.raises(ragstore.NotFoundError):
            notes.get_embeddings([chunk])
    assert notes.add(documents[:2]).unchanged == 2
    *_, c = notes.add_chunks("mixed", [Chunk(), Chunk("c")])
    stored(notes, [c])
    notes.add_chunks("mixed", [Chunk()])
    assert embedder.asked == ["a", "b", "", "c"]


def test_the_embedder_is_asked_in_batches(store, embedder):
    notes = store.create_collection("notes", model=MODEL, embedder=embedder, batch_size=7)
    stored(notes, notes.add(texts_of(20)).chunk_ids)
    assert [len(call) for call in embedder.calls] == [7, 7, 6]
    again = store.get_collection("notes", embedder=embedder)
    again.add(texts_of(100, 10))
    assert [len(call) for call in embedder.calls[3:]] == [64, 26]
    for size, error in ((0, ValueError), ("7", TypeError)):
        with pytest.raises(error, match="batch_size"):
            store.get_collection("notes", embedder=embedder, batch_size=size)


def test_every_way_to_add_embeds(store, embedder):
    notes = store.create_collection("notes", model=MODEL, embedder=embedder)
    result = notes.add(iter(texts_of(50)), commit_every=20)
    stored(notes, result.chunk_ids)
    assert [len(call) for call in embedder.calls] == [20, 20, 10]
    with store.transaction() as tx:
        added = tx[notes].add(["x", "text 1 of many", Document(chunks=[Chunk(), Chunk("y")])])
        named = tx.collection(notes).add_texts(["z"], ids=["z"])
        chunks = tx[notes].add_chunks("z", [Chunk("appended")])
        with pytest.raises(ValueError, match="'z' is not stored yet"):
            tx[notes].add_chunks("z", [Chunk(start=0, end=1)])
        tx[notes].add_chunks(result.document_ids[3], [Chunk(start=0, end=4)])
        tx["notes"].add("by name, without")
        assert notes.count() == 50
    stored(notes, [*added.result.chunk_ids[:2], added.result.chunk_ids[3], *named.result, *chunks.result])
    assert embedder.asked[50:] == ["x", "y", "z", "appended", "text"]
    with ragstore.open() as other, pytest.raises(ValueError, match="another store"), other.transaction() as tx:
        tx[notes].add("text")


# what goes wrong


VECTOR, DIMENSION = ragstore.InvalidVectorError, ragstore.DimensionMismatchError


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (lambda texts: np.ones((len(texts) + 1, 8)), VECTOR, "returned 3 vectors for 2 texts"),
        (lambda _: np.ones(8), VECTOR, "shape (8,)"),
        (lambda _: np.ones((2, 2, 2)), VECTOR, "shape (2, 2, 2)"),
        (lambda _: [["a"] * 8] * 2, VECTOR, "strings"),
        (lambda _: [[1.0] * 8, [1.0] * 7], VECTOR, "row 1 has dimension 7"),
        (lambda _: None, VECTOR, "NoneType"),
        (lambda _: [[1.0] * 8, [float("nan")] * 8], VECTOR, "row 1 holds NaN or infinity, for the text 'second'"),
        (lambda _: [[0.0] * 8, [1.0] * 8], VECTOR, "row 0 is zero, for the text 'first'"),
        (lambda _: np.ones((2, 9)), DIMENSION, "dimension 9 for space 'default' of collection 'notes', which has"),
        (lambda _: np.ones((2, 9)), DIMENSION, "which has dimension 8 and model 'hash-8'"),
    ],
)
def test_a_wrong_return_is_named_and_leaves_nothing(store, made, error, message):
    notes = store.create_collection("notes", dimension=8, model=MODEL, embedder=made)
    for call in (lambda: notes.add(["first", "second"]), lambda: notes.add_texts(["first", "second"])):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)
    assert notes.count() == 0
    assert store.clear_embedding_cache() == 0


def test_a_question_of_another_dimension_is_named(store):
    notes = store.create_collection("notes", embedder=HASH)
    notes.add("text")
    wide = store.get_collection("notes", embedder=HashEmbedder(9))
    for call in (wide.search, wide.hybrid_search):
        with pytest.raises(ragstore.DimensionMismatchError, match=r"dimension 9 .* dimension 8"):
            call("text")


def test_a_batch_of_another_dimension_is_refused(store):
    sizes = iter([3, 4])
    notes = store.create_collection("notes", embedder=lambda texts: np.ones((len(texts), next(sizes))), batch_size=2)
    with pytest.raises(ragstore.DimensionMismatchError, match="dimension 4, and of dimension 3"):
        notes.add(texts_of(4))
    assert notes.count() == 0


class Failing(Counting):
    """Raises on its second call."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def __call__(self, texts):
        if len(self.calls) == 1:
            error, self.error = self.error, None
            if error is not None:
                raise error
        return super().__call__(texts)


def test_an_error_of_the_embedder_passes_through_and_what_was_made_is_kept(store):
    error = RuntimeError("the service is gone")
    embedder = Failing(error)
    notes = store.create_collection("notes", model=MODEL, embedder=embedder, batch_size=10)
    with pytest.raises(RuntimeError) as caught:
        notes.add(texts_of(25))
    assert caught.value is error
    assert notes.count() == 0
    stored(notes, notes.add(texts_of(25)).chunk_ids)
    assert embedder.asked == texts_of(25)


def test_what_was_made_is_kept_when_storing_fails(store, embedder):
    notes = store.create_collection("notes", model=MODEL, embedder=embedder)
    notes.add(Document("old", id="d"))
    documents = [Document("new", id="e"), Document("other", id="d")]
    for _ in range(2):
        with pytest.raises(ragstore.ConflictError):
            notes.add(documents)
    with pytest.raises(ragstore.DocumentNotFoundError):
        notes.add_chunks("none", [Chunk("unpaid")])
    with pytest.raises(RuntimeError, match="mine"), store.transaction() as tx:
        tx[notes].add("queued")
        raise RuntimeError("mine")
    notes.add(["queued", *documents], on_conflict="replace")
    assert embedder.asked == ["old", "new", "other", "queued"]


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="no signals")
def test_ctrl_c_while_embedding_stores_nothing_and_keeps_what_was_made(store):
    def made(texts):
        if len(embedder.calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return HASH(texts)

    embedder = Counting(made)
    notes = store.create_collection("notes", model=MODEL, embedder=embedder, batch_size=10)
    # A run in the background may ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            notes.add(texts_of(50))
    finally:
        signal.signal(signal.SIGINT, before)
    assert notes.count() == 0
    notes.add(texts_of(50))
    # The batch that was interrupted is made again.
    assert Counter(embedder.asked) == {text: 1 + (20 <= i < 30) for i, text in enumerate(texts_of(50))}


def test_bad_arguments_are_named(store):
    with pytest.raises(TypeError, match="embedder is of type str"):
        store.create_collection("notes", embedder="model")
    with pytest.raises(TypeError, match="query_embedder is of type int"):
        store.create_collection("notes", embedder=HASH, query_embedder=1)
    with pytest.raises(TypeError, match="without embedder"):
        store.create_collection("notes", query_embedder=HASH)
    assert "notes" not in store


# models


def test_another_model_is_an_error_that_names_both(store, embedder):
    store.create_collection("notes", model="one", embedder=embedder)
    for call in (
        lambda: store.create_collection("notes", model="two", exist_ok=True),
        lambda: store.get_collection("notes", model="two"),
    ):
        with pytest.raises(ragstore.CollectionExistsError, match=r"one.*two"):
            call()
    notes = store.get_collection("notes", model="one", embedder=embedder)
    notes.create_space("other", model="two")
    for call in (
        lambda: notes.add("text", space="other"),
        lambda: notes.add(Document(), space="other"),
        lambda: notes.search("text", space="other"),
    ):
        with pytest.raises(ragstore.CollectionExistsError, match='has model "two", and the embedder\'s model is "one"'):
            call()
    assert embedder.calls == []
    assert notes.count() == 0


def test_a_collection_without_a_model_takes_the_first(path, embedder):
    with ragstore.open(path) as store:
        store.create_collection("a")
        store.create_collection("b")
        assert store.get_collection("a", model=MODEL).info.model == MODEL
        assert store.create_collection("b", model=MODEL, exist_ok=True).info.model == MODEL
        store.create_collection("c")
    with ragstore.open(path, read_only=True) as store:
        assert store.get_collection("c", model=MODEL, embedder=embedder).info.model is None
        assert store.get_collection("a", model=MODEL, embedder=embedder).search("a question").ids == []
        with pytest.raises(ragstore.CollectionExistsError, match=f"{MODEL}.*other"):
            store.get_collection("a", model="other")


def test_variants_of_a_model_do_not_mix(store, embedder):
    narrow = Counting(lambda texts: HASH(texts)[:, :4])
    a = store.create_collection("a", model=MODEL, embedder=embedder)
    a.add(["one", "two", "three"])
    b = store.create_collection("b", model=MODEL, dimension=4, embedder=narrow)
    b.add(["one"])
    # Its dimension shows with the first batch: what is cached of another one is not used.
    c = store.create_collection("c", model=MODEL, embedder=narrow, batch_size=1)
    ids = c.add_texts(["two", "new", "one"])
    assert np.array_equal(c.get_embeddings(ids), HASH(["two", "new", "one"])[:, :4])
    assert narrow.asked == ["one", "new", "two"]
    d = store.create_collection("d", model=MODEL, embedder=embedder)
    assert len(d.add(["three"]).chunk_ids) == 1
    assert embedder.asked == ["one", "two", "three"]
    assert (c.info.dimension, d.info.dimension) == (4, 8)


# the cache


def test_the_cache_is_bounded_and_cleared(path, embedder):
    with ragstore.open(path, embedding_cache=50 * 8 * 4) as store:
        notes = store.create_collection("notes", model=MODEL, embedder=embedder)
        notes.add(texts_of(100))
        notes.add(texts_of(50, 50))
        assert len(embedder.asked) == 100
        notes.add(texts_of(1))
        assert len(embedder.asked) == 101
        assert store.clear_embedding_cache(model="other") == 0
        assert store.clear_embedding_cache(texts=["text 0 of many", "text 1 of many"]) == 1
        assert store.clear_embedding_cache(model=MODEL, texts=texts_of(1, 99)) == 1
        assert store.clear_embedding_cache() == 48
        notes.add(texts_of(1, 99))
        assert len(embedder.asked) == 102
        assert notes.count() == 152
    with ragstore.open(path, embedding_cache=0) as store:
        notes = store.get_collection("notes", embedder=embedder)
        notes.add(texts_of(1, 99))
        assert len(embedder.asked) == 103
    with pytest.raises(ValueError, match="embedding_cache"):
        ragstore.open(path, embedding_cache=-1)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM embedding_cache").fetchone() == (1,)


def test_a_long_call_commits_what_was_made_as_it_goes(path):
    dimension = 4096

    def made(texts):
        with closing(sqlite3.connect(path)) as file:
            seen.extend(file.execute("SELECT count(*) FROM embedding_cache").fetchone())
        return np.ones((len(texts), dimension))

    seen = []
    with ragstore.open(path) as store:
        store.create_collection("notes", model="ones", embedder=made).add(texts_of(200))
    # 64 vectors are 1 MiB.
    assert seen == [0, 64, 128, 192]


def test_nothing_is_locked_while_an_embedder_runs(store):
    def made(texts):
        inner = store.create_collection(f"made for {len(texts)}", exist_ok=True)
        inner.add("written from within")
        with closing(sqlite3.connect(store.path)) as file:
            busy.append(file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        return HASH(texts)

    busy = []
    notes = store.create_collection("notes", model=MODEL, embedder=made)
    notes.add(["a", "b"])
    notes.search("c")
    # A read that were under way would keep the log from beginning anew.
    assert busy == [0, 0]
    assert store["made for 2"].count() == store["made for 1"].count() == 1


def test_an_array_that_the_embedder_uses_again_does_no_harm(store):
    buffer = np.empty((4, 8), np.float32)

    def made(texts):
        out = buffer[: len(texts)]
        out[:] = HASH(texts)
        return out

    notes = store.create_collection("notes", model=MODEL, embedder=made, batch_size=4)
    stored(notes, notes.add(texts_of(18)).chunk_ids)
    again = store.create_collection("again", model=MODEL, embedder=made)
    stored(again, again.add(texts_of(18)).chunk_ids)
    question = notes.search("text 3 of many", mode="vector", k=1)
    notes.search("another")
    assert notes.search("text 3 of many", mode="vector", k=1).ids == question.ids


@pytest.mark.parametrize(
    "made",
    [
        lambda texts: HASH(texts).astype(np.float64),
        lambda texts: HASH(texts).tolist(),
        lambda texts: (row for row in HASH(texts)),
        lambda texts: np.asfortranarray(HASH(texts)),
        lambda texts: [row.astype(">f8") for row in HASH(texts)],
    ],
)
def test_anything_that_becomes_an_array_will_do(store, made):
    embedder = Counting(made)
    notes = store.create_collection("notes", model=MODEL, embedder=embedder, batch_size=3)
    stored(notes, notes.add(texts_of(7)).chunk_ids)
    notes.add(texts_of(7))
    assert len(embedder.asked) == 7


def test_threads_may_embed_at_the_same_time(store, embedder):
    notes = store.create_collection("notes", model=MODEL, embedder=embedder, batch_size=8)
    start, added = threading.Barrier(4), []

    def work(thread):
        start.wait()
        for part in range(5):
            added.extend(notes.add_texts([*texts_of(20, 20 * part), f"own {thread} {part}"]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    stored(notes, added)
    # Two calls at the same time may each embed what neither has found; later ones do not.
    assert set(embedder.asked) == {*texts_of(100), *(f"own {t} {p}" for t in range(4) for p in range(5))}
    before = len(embedder.asked)
    notes.add(texts_of(100))
    assert len(embedder.asked) == before


# questions


def test_a_question_is_embedded_once(store, embedder):
    notes = store.create_collection("notes", model=MODEL, embedder=embedder)
    notes.add("a text")
    embedder.calls.clear()
    for _ in range(3):
        notes.search("what?")
        notes.search("what?", mode="vector")
        notes.hybrid_search("what?")
        notes.search("a text")
    assert embedder.asked == ["what?"]
    for i in range(300):
        notes.search(f"question {i}", mode="vector")
    notes.search("question 299")
    assert len(embedder.asked) == 301
    notes.search("what?")
    assert len(embedder.asked) == 302
    # Questions are not kept in the file.
    assert store.clear_embedding_cache() == 1


def test_an_old_handle_does_not_answer_for_a_collection_that_was_made_anew(store, embedder):
    notes = store.create_collection("notes", model=MODEL, embedder=embedder)
    notes.add("a text")
    other = store.get_collection("notes", embedder=embedder, model=MODEL)
    assert len(other.search("what?")) == 1
    store.delete_collection("notes")
    store.create_collection("notes", model="another", embedder=embedder).add("a text")
    with pytest.raises(ragstore.CollectionExistsError, match="another"):
        other.search("what?")


def test_questions_may_have_an_embedder_of_their_own(store, embedder):
    asked = Counting(lambda texts: -HASH(texts))
    notes = store.create_collection("notes", model=MODEL, embedder=embedder, query_embedder=asked)
    notes.add(["a text", "another"])
    assert notes.search("a text", mode="vector", k=2).texts == ["another", "a text"]
    assert (embedder.asked, asked.asked) == (["a text", "another"], ["a text"])


# progress


def test_progress_covers_embedding_and_storing(store):
    events = []
    main = threading.get_ident()

    def made(texts):
        events.append(("embed", len(texts)))
        return HASH(texts)

    def report(*call):
        assert threading.get_ident() == main
        events.append(call)

    notes = store.create_collection("notes", model=MODEL, embedder=made, batch_size=4)
    documents = [Document(chunks=[Chunk(f"{i} a"), Chunk(f"{i} b"), Chunk()]) for i in range(5)]
    notes.add(documents, progress=report)
    assert events == [("embed", 4), (2, 5), ("embed", 4), (4, 5), ("embed", 2), (5, 5)]
    events.clear()
    notes.add(documents, progress=report)
    assert events == [(5, 5)]
    events.clear()
    notes.add([f"{i} c" for i in range(8)], progress=report, commit_every=6)
    assert events == [("embed", 4), (4, 8), ("embed", 2), (6, 8), ("embed", 2), (8, 8)]


def test_progress_cancels_embedding(store, embedder):
    class Enough(Exception):
        pass

    def report(done, total):
        if done < total:
            raise Enough

    notes = store.create_collection("notes", model=MODEL, embedder=embedder, batch_size=5)
    with pytest.raises(Enough):
        notes.add(texts_of(20), progress=report)
    assert notes.count() == 0
    assert len(embedder.asked) == 5
    notes.add(texts_of(20))
    assert len(embedder.asked) == 20


def test_reports_never_go_back():
    calls = []
    rising = Rising(lambda *call: calls.append(call))
    for call in [(2, 5), (4, 5), (0, 5), (3, 5), (4, 5), (5, 5)]:
        rising(*call)
    assert calls == [(2, 5), (4, 5), (5, 5)]


# carrying it about


def made_elsewhere(texts):
    return HASH(texts)


def test_a_collection_pickles_with_all_it_was_given(path):
    with ragstore.open(path, embedding_cache=1234) as store:
        given = {"embedder": made_elsewhere, "query_embedder": made_elsewhere, "batch_size": 3}
        notes = pickle.loads(pickle.dumps(store.create_collection("notes", model=MODEL, **given)))
        with notes._store as copy:
            assert copy._embedding_cache == 1234
            assert notes._embedding.arguments() == (made_elsewhere, made_elsewhere, MODEL, 3)
            assert notes.add(["a", "b", "c", "d"]).added == 4
    assert os.path.exists(path)
