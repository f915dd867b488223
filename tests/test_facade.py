"""Stores and collections through the public surface."""

import importlib.metadata
import inspect
import signal
import threading
import time
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
import ragstore
from ragstore import Chunk, Document

AXES = np.eye(3, dtype=np.float32)


# opening


def test_the_version_is_that_of_the_package():
    assert ragstore.__version__ == importlib.metadata.version("ragstore")


@pytest.mark.parametrize("given", [None, ":memory:"])
def test_without_a_path_it_is_ephemeral(given):
    with ragstore.open(given) as store:
        assert store.path is None
        assert repr(store) == "Store(ephemeral)"
        assert not store.closed
    assert store.closed
    store.close()
    assert repr(store) == "Store(ephemeral, closed)"


def test_directories_are_made_and_read_only_refuses(tmp_path):
    path = tmp_path / "a" / "b" / "kb.db"
    with ragstore.open(path) as store:
        assert store.path == str(path)
        store.create_collection("c").add("text")
    with ragstore.open(str(path), read_only=True) as store:
        assert store.read_only
        assert store["c"].count() == 1
        with pytest.raises(ragstore.ReadOnlyError):
            store["c"].add("more")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": ""}, ValueError, "path is an empty string"),
        ({"path": 3}, TypeError, "int"),
        ({"path": b"kb.db"}, TypeError, "path is of type bytes"),
        ({"durability": "some"}, ValueError, 'durability is "some"'),
        ({"derived": "disk"}, ValueError, 'derived is "disk"'),
        ({"timeout": -1.0}, ValueError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"timeout": "1"}, TypeError, "timeout is of type str"),
        ({"readers": 0}, ValueError, "readers is 0; it must be at least 1"),
        ({"readers": "2"}, TypeError, "readers is of type str"),
        ({"memory_limit": -1}, ValueError, "memory_limit is -1"),
        ({"key": ""}, ValueError, "key is an empty passphrase"),
        ({"key": b"secret"}, ValueError, "key has 6 bytes"),
    ],
)
def test_options_are_checked(options, error, message):
    with pytest.raises(error) as caught:
        ragstore.open(**options)
    assert message in str(caught.value)


# collections


def test_collections_are_made_found_listed_and_deleted(store):
    made = store.create_collection(
        "b",
        dimension=3,
        metric="ip",
        tokenizer="unicode61",
        description="of tests",
        settings={"nested": {"list": [1, 2.5, None]}},
        model="m",
    )
    store.create_collection("a")
    info = made.info
    assert (info.name, info.description, info.tokenizer) == ("b", "of tests", "unicode61")
    assert info.settings == {"nested": {"list": [1, 2.5, None]}}
    assert (info.dimension, info.metric, info.model) == (3, "ip", "m")
    assert info.spaces == (ragstore.SpaceInfo("default", 3, "ip", "m"),)
    assert abs(info.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert [c.name for c in store.list_collections()] == ["a", "b"]
    assert len(store) == 2
    assert "a" in store
    for absent in ("c", "", 3, None, "\udc80"):
        assert absent not in store
    assert store["b"].info == store.get_collection("b").info == info
    store.delete_collection("b")
    assert "b" not in store
    for call in (made.count, lambda: made.info, lambda: made.add("x"), lambda: store["b"], lambda: made.search("x")):
        with pytest.raises(ragstore.CollectionNotFoundError):
            call()


def test_exist_ok_returns_what_is_the_same_and_refuses_what_differs(store):
    store.create_collection("c", dimension=3, model="m").add_texts(["a"], AXES[:1])
    assert store.create_collection("c", dimension=3, model="m", exist_ok=True).count() == 1
    for other in ({"dimension": 4}, {"metric": "l2"}, {"tokenizer": "trigram"}, {"model": "n"}):
        with pytest.raises(ragstore.CollectionExistsError):
            store.create_collection("c", **{"dimension": 3, "model": "m", **other}, exist_ok=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.create_collection(3), TypeError, "name is of type int"),
        (lambda s: s.create_collection("c", dimension="3"), TypeError, "dimension is of type str"),
        (lambda s: s.create_collection("c", dimension=True), TypeError, "dimension is of type bool"),
        (lambda s: s.create_collection("c", dimension=0), ValueError, "dimension is 0"),
        (lambda s: s.create_collection("c", embedder=3), TypeError, "embedder is of type int"),
        (lambda s: s.create_collection("c", settings=[]), TypeError, "settings is of type list"),
        (lambda s: s.create_collection("c", settings={1: 2}), TypeError, "key of type int"),
        (lambda s: s.get_collection(None), TypeError, "name is of type NoneType"),
        (lambda s: s[0], TypeError, "name is of type int"),
    ],
)
def test_collection_arguments_are_checked(store, call, error, message):
    with pytest.raises(error) as caught:
        call(store)
    assert message in str(caught.value)
    assert len(store) == 0


def test_spaces(collection):
    collection.create_space("other", dimension=2, metric="l2", model="m")
    assert [s.name for s in collection.list_spaces()] == ["default", "other"]
    ids = collection.add_texts(["a", "b"], AXES[:2])
    collection.set_embeddings(ids, [[1.0, 2.0], [3.0, 4.0]], space="other")
    assert collection.get_embeddings(ids[::-1], space="other").tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert collection.vector_search([3.0, 4.0], space="other").ids[0] == ids[1]
    assert collection.delete_embeddings(ids[:1], space="other") == 1
    with pytest.raises(ragstore.NotFoundError):
        collection.get_embeddings(ids, space="other")
    collection.delete_space("other")
    assert [s.name for s in collection.list_spaces()] == ["default"]
    with pytest.raises(ragstore.ConflictError):
        collection.create_space("default")


# writing and reading


def test_documents_come_in_every_form(collection):
    result = collection.add(
        [
            Document("the first", uri="u1", metadata={"n": 1}, content_type="text/html"),
            {"text": "the second", "id": "second", "metadata": {"n": 2}},
            "the third",
            Document("one two", chunks=[Chunk("one", start=0, end=3, metadata={"c": 1}, token_count=9), Chunk("two")]),
            Document(metadata={"only": True}),
        ]
    )
    assert (result.added, result.replaced, result.unchanged, result.skipped) == (5, 0, 0, 0)
    assert len(result.document_ids) == 5
    assert len(result.chunk_ids) == 6
    first = collection.get_document(uri="u1")
    assert (first.text, first.content_type, first.metadata) == ("the first", "text/html", {"n": 1})
    assert len(first.content_hash) == 64
    assert collection.get_document(content_hash=first.content_hash) == first
    assert collection.get_document("second").metadata == {"n": 2}
    chunks = collection.get_chunks(result.document_ids[3])
    assert [(c.text, c.index, c.start, c.end, c.token_count) for c in chunks] == [
        ("one", 0, 0, 3, 9),
        ("two", 1, None, None, None),
    ]
    assert (chunks[0].byte_start, chunks[0].byte_end, chunks[0].line_start, chunks[0].line_end) == (0, 3, 1, 1)
    assert collection.count() == len(collection) == 6
    assert collection.count_documents() == 5
    assert collection.add("alone").added == 1
    assert collection.add({"text": "alone too"}).added == 1
    assert collection.add(Document("and this")).added == 1
    assert [d.text for d in collection.list_documents(limit=2)] == ["and this", "alone too"]


def test_a_generator_of_documents_is_taken(collection):
    assert collection.add(Document(f"text {i}") for i in range(5)).added == 5


def test_missing_things_are_none(collection):
    (chunk,) = collection.add("text", on_conflict="skip").chunk_ids
    assert collection.get("nothing") is None
    assert [c and c.text for c in collection.get(["nothing", chunk])] == [None, "text"]
    assert collection.get_document("nothing") is None
    assert collection.get_document(uri="nothing") is None
    assert collection.get_document(content_hash="0" * 64) is None
    assert collection.get_chunks("nothing") == []
    assert collection.get_chunk_by_index("nothing", 0) is None
    assert collection.neighbors("nothing") == []
    assert collection.delete(["nothing"]) == 0
    assert chunk in collection
    for absent in ("nothing", "", None, 3, "\udc80"):
        assert absent not in collection


def test_neighbours_and_chunks_by_index(collection):
    result = collection.add(Document("abcdef", chunks=[Chunk(start=i, end=i + 1) for i in range(6)]))
    (document,) = result.document_ids
    assert [c.text for c in collection.neighbors(result.chunk_ids[2])] == ["b", "c", "d"]
    assert [c.text for c in collection.neighbors(result.chunk_ids[0], before=5, after=2)] == ["a", "b", "c"]
    assert collection.get_chunk_by_index(document, 4).text == "e"
    assert collection.get_chunk_by_index(document, 9) is None


def test_conflicts_go_by_policy(collection):
    old = Document("old", uri="u")
    assert collection.add(old).added == 1
    assert collection.add(old).unchanged == 1
    new = Document("new", uri="u")
    with pytest.raises(ragstore.ConflictError):
        collection.add(["other", new])
    assert collection.count() == 1
    assert collection.add(new, on_conflict="skip").skipped == 1
    assert collection.get_document(uri="u").text == "old"
    result = collection.add(new, on_conflict="replace")
    assert result.replaced == 1
    assert collection.get(result.chunk_ids[0]).text == "new"
    assert collection.unchanged([old, new, Document("new")]) == [False, True, False]
    with pytest.raises(ValueError, match='on_conflict is "maybe"'):
        collection.add("x", on_conflict="maybe")


def test_texts(collection):
    ids = collection.add_texts(
        ["ä b", "c d"], AXES[:2], ids=["x", "y"], metadatas=[{"n": 1}, {"n": 2}], uris=["ux", "uy"]
    )
    assert ids == ["x", "y"]
    chunk, document = collection.get("x"), collection.get_document("x")
    assert (chunk.text, chunk.document_id, chunk.start, chunk.end, chunk.byte_end) == ("ä b", "x", 0, 3, 4)
    assert (document.text, document.uri, chunk.metadata) == ("ä b", "ux", {"n": 1})
    assert collection.add_texts(["ä b"], AXES[:1], ids=["x"], metadatas=[{"n": 1}], uris=["ux"]) == ["x"]
    drawn = collection.add_texts(["e", "f"])
    assert all(len(i) == 26 for i in drawn)
    assert [c.document_id for c in collection.get(drawn)] == drawn
    assert collection.add_texts([]) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.add_texts("text"), TypeError, "texts is of type str"),
        (lambda c: c.add_texts(["a", 3]), TypeError, "texts[1] is of type int"),
        (lambda c: c.add_texts(["a", "b"], ids=["x"]), ValueError, "2 texts and 1 ids"),
        (lambda c: c.add_texts(["a"], metadatas=[{}, {}]), ValueError, "1 texts and 2 metadatas"),
        (lambda c: c.add_texts(["a"], uris=[]), ValueError, "1 texts and 0 uris"),
        (lambda c: c.add_texts(["a"], metadatas=[3]), TypeError, "metadatas[0] is of type int"),
        (lambda c: c.add_texts(["a"], metadatas={}), TypeError, "metadatas is of type dict"),
        (lambda c: c.add(3), TypeError, "documents is of type int"),
        (lambda c: c.add(["a", 3]), TypeError, "documents[1] is of type int"),
        (lambda c: c.add({"txt": "a"}), TypeError, "'txt'"),
        (lambda c: c.add([{"text": "a", "score": 1}]), TypeError, "documents[0] has the key 'score'"),
        (lambda c: c.add(Document(3)), TypeError, "documents[0].text is of type int; it must be a str"),
        (lambda c: c.add(Document("a", id=3)), TypeError, "documents[0].id is of type int"),
        (lambda c: c.add(Document("a", content_type=None)), TypeError, "documents[0].content_type is of type None"),
        (lambda c: c.add(Document("a", chunks=["b"])), TypeError, "documents[0].chunks[0] is of type str"),
        (lambda c: c.add(Document("a", chunks=[Chunk("b", start=1)])), ValueError, "chunks[0] has one of start and"),
        (lambda c: c.add(Document("a", chunks=[Chunk("b", start=2, end=1)])), ValueError, "starts at 2 and ends at 1"),
        (lambda c: c.add(Document("a", chunks=[Chunk("b", start=-1, end=1)])), ValueError, "chunks[0].start is -1"),
        (
            lambda c: c.add(Document("a", chunks=[Chunk("b", token_count=1.5)])),
            TypeError,
            "token_count is of type float",
        ),
        (lambda c: c.add("a", commit_every=0), ValueError, "commit_every is 0"),
        (lambda c: c.add("a", progress="yes"), TypeError, "progress is of type str"),
        (lambda c: c.add("a", space=3), TypeError, "space is of type int"),
        (lambda c: c.add_chunks("a", "text"), TypeError, "chunks is of type str"),
        (lambda c: c.delete(), TypeError, "clear()"),
        (lambda c: c.delete("id"), TypeError, "ids is of type str"),
        (lambda c: c.delete(where=[]), TypeError, "where is of type list"),
        (lambda c: c.update_metadata({}), TypeError, "takes chunk_ids, document_ids or where"),
        (lambda c: c.update_metadata(3, where={}), TypeError, "metadata is of type int"),
        (lambda c: c.update_metadata({}, where={}, mode="swap"), ValueError, 'mode is "swap"'),
        (lambda c: c.get(3), TypeError, "ids is of type int"),
        (lambda c: c.get([3]), TypeError, "ids[0] is of type int"),
        (lambda c: c.get_document(), TypeError, "takes one of"),
        (lambda c: c.get_document("a", uri="b"), TypeError, "takes one of"),
        (lambda c: c.get_document(content_hash="zz"), ValueError, "64 hexadecimal digits"),
        (lambda c: c.list_documents(limit=-1), ValueError, "limit is -1"),
        (lambda c: c.neighbors("a", before="1"), TypeError, "before is of type str"),
        (lambda c: c.count(where=3), TypeError, "where is of type int"),
        (lambda c: c.search(), TypeError, "takes text, vector or both"),
        (lambda c: c.search(3), TypeError, "text is of type int"),
        (lambda c: c.search("a", k=0), ValueError, "k is 0"),
        (lambda c: c.search("a", k="1"), TypeError, "k is of type str"),
        (lambda c: c.search("a", mode="fuzzy"), ValueError, "mode is 'fuzzy'"),
        (lambda c: c.search("a", mode="vector"), TypeError, "no embedder"),
        (lambda c: c.search("a", mode="hybrid"), TypeError, "no embedder"),
        (lambda c: c.search(vector=[1.0], mode="keyword"), TypeError, "takes text and no vector"),
        (lambda c: c.search("a", vector=[1.0], mode="keyword"), TypeError, "takes text and no vector"),
        (lambda c: c.search(vector=[1.0], mode="hybrid"), TypeError, "takes text"),
        (lambda c: c.hybrid_search("a"), TypeError, "no embedder"),
        (lambda c: c.hybrid_search("a", [1.0], rrf_k=2**32), ValueError, "rrf_k"),
        (lambda c: c.keyword_search(None), TypeError, "text is of type NoneType"),
    ],
)
def test_arguments_are_checked_by_name(collection, call, error, message):
    with pytest.raises(error) as caught:
        call(collection)
    assert message in str(caught.value)
    assert collection.count() == 0


def test_deleting(collection):
    collection.add_texts(list("abcdef"), ids=list("abcdef"), uris=[f"u{x}" for x in "abcdef"])
    assert collection.delete([]) == 0
    assert collection.delete(["a", "nothing"]) == 1
    assert collection.get_document("a") is None
    assert collection.delete(document_ids=["b"]) >= 1
    assert collection.delete(uris=["uc"]) >= 1
    assert collection.delete(where={"uri": {"$in": ["ud", "ue"]}}) >= 2
    assert collection.count() == collection.count_documents() == 1
    collection.clear()
    assert collection.count() == collection.count_documents() == 0


def test_updating_metadata(collection):
    collection.add_texts(["a", "b"], ids=["x", "y"], metadatas=[{"n": 1}, {"n": 2}])
    assert collection.update_metadata({"m": {"deep": True}}, chunk_ids=["x"]) == 1
    assert collection.get("x").metadata == {"n": 1, "m": {"deep": True}}
    assert collection.update_metadata({"of": "both"}, document_ids=["x", "y"]) == 2
    assert collection.update_metadata({"k": 1}, where={"of": "both"}) == 2
    assert collection.get("y").metadata == {"n": 2, "k": 1}
    collection.update_metadata({"only": 1}, document_ids=["y"], mode="replace")
    assert collection.get_document("y").metadata == {"only": 1}
    with pytest.raises(ragstore.NotFoundError):
        collection.update_metadata({}, chunk_ids=["nothing"])


def test_chunks_can_be_added_later(collection):
    (document,) = collection.add("one two", AXES[:1]).document_ids
    ids = collection.add_chunks(document, [Chunk("two", id="two"), Chunk("three")], AXES[1:])
    assert ids[0] == "two"
    assert [c.text for c in collection.get_chunks(document)] == ["one two", "two", "three"]
    assert collection.vector_search(AXES[2], k=1).texts == ["three"]


def test_times_are_aware(collection):
    expires = datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    collection.add(Document("a", id="d", chunks=[Chunk("a", id="c", expires_at=expires)], expires_at=expires))
    document = collection.get_document("d")
    assert document.expires_at == collection.get("c").expires_at == expires
    assert document.created_at.tzinfo is UTC
    assert collection.count({"created_at": {"$lte": datetime.now(UTC) + timedelta(seconds=1)}}) == 1
    assert collection.count({"created_at": {"$gt": datetime.now(UTC) + timedelta(hours=1)}}) == 0
    assert collection.count({"created_at": {"$gt": date(2020, 1, 1)}}) == 1
    with pytest.raises(ragstore.FilterError, match=r"where\[\"created_at\"\]\[\"\$gt\"\].*without time zone"):
        collection.count({"created_at": {"$gt": datetime(2020, 1, 1)}})  # noqa: DTZ001
    with pytest.raises(ValueError, match=r"documents\[0\]\.expires_at is a datetime without time zone"):
        collection.add(Document("b", expires_at=datetime(2020, 1, 1)))  # noqa: DTZ001
    with pytest.raises(TypeError, match="aware datetime"):
        collection.add(Document("b", expires_at="2020-01-01"))
    with pytest.raises(ValueError, match=r"documents\[0\]\.expires_at is not of the years 1 to 9999 in UTC"):
        collection.add(Document("b", expires_at=datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))))


# adding in parts, progress, interrupts


def test_commit_every_takes_any_iterable_lazily(collection):
    seen = []

    def documents():
        for i in range(10):
            seen.append(collection.count())
            yield f"text {i}"

    calls = []
    result = collection.add(documents(), commit_every=3, progress=lambda done, total: calls.append((done, total)))
    assert result.added == len(result.document_ids) == 10
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert calls[-1][0] == 10
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert collection.add([], commit_every=3).added == 0


def test_commit_every_keeps_what_was_committed(collection):
    def documents():
        yield from ("a", "b", "c")
        raise LookupError("the source broke")

    with pytest.raises(LookupError):
        collection.add(documents(), commit_every=2)
    assert collection.count() == 2


def test_commit_every_slices_the_embeddings(collection):
    texts = [Document("a b", chunks=[Chunk("a"), Chunk("b")]), "c"]
    assert collection.add(texts, AXES, commit_every=1).added == 2
    assert collection.vector_search(AXES[2], k=1).texts == ["c"]
    with pytest.raises(ragstore.InvalidVectorError, match="3 rows for 2 chunks"):
        collection.add(["d", "e"], AXES, commit_every=1)
    assert collection.count() == 3
    with pytest.raises(ragstore.InvalidVectorError, match="3 rows for 2 chunks"):
        collection.add((t for t in ("d", "e")), AXES, commit_every=1)


def test_progress_ends_with_all_of_all(collection):
    calls = []
    collection.add_texts([f"text {i}" for i in range(50)], progress=lambda *call: calls.append(call))
    assert calls[-1] == (50, 50)
    assert len(calls) == len(set(calls))


def test_a_callback_that_raises_cancels_and_rolls_back(collection):
    where = []

    def progress(done, total):
        where.append((done, total, threading.current_thread()))
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough") as caught:
        collection.add_texts([f"text {i} " * 30 for i in range(30_000)], progress=progress)
    assert collection.count() == 0
    assert not hasattr(caught.value, "__notes__")
    ((done, total, thread),) = where
    assert done < total == 30_000
    assert thread is threading.current_thread()
    assert collection.add("afterwards").added == 1


def test_a_callback_that_raises_at_the_end_says_that_it_was_committed(collection):
    def progress(done, total):
        raise LookupError("too late")

    with pytest.raises(LookupError) as caught:
        collection.add("text", progress=progress)
    assert "was committed" in caught.value.__notes__[0]
    assert collection.count() == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer signals")
def test_an_interrupt_rolls_back(collection):
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        texts = [f"text {i} " * 30 for i in range(60_000)]
        write = ragstore.writes.Texts(texts, None, None, None).write("notes", None, "error", copy=False)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        began = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            collection._raw.write([write])
        assert time.perf_counter() - began < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert collection.count() == 0
    assert collection.add("afterwards").added == 1


# searching


@pytest.fixture
def pets(ragstore_store):
    pets = ragstore_store.create_collection("pets")
    pets.add_texts(
        ["Cats purr.", "Dogs bark.", "Cats and dogs play."],
        AXES,
        ids=["cat", "dog", "both"],
        metadatas=[{"legs": 4, "kind": "cat"}, {"legs": 4, "kind": "dog"}, {"legs": 8}],
    )
    return pets


def test_the_mode_is_what_the_arguments_allow(pets):
    keyword = pets.search("purring cats")
    assert keyword[0].keyword_rank == 1
    assert keyword[0].vector_rank is keyword[0].distance is None
    vector = pets.search(vector=AXES[1])
    assert vector.ids[0] == "dog"
    assert vector[0].keyword_rank is None
    assert vector[0].distance == pytest.approx(0)
    assert vector[0].score == pytest.approx(1)
    hybrid = pets.search("cats", vector=AXES[0])
    assert hybrid.ids[0] == "cat"
    assert (hybrid[0].vector_rank, hybrid[0].keyword_rank) == (1, 1)
    assert hybrid[0].score == pytest.approx(2 / 61)
    assert pets.search("cats", vector=AXES[0], mode="hybrid").ids == hybrid.ids
    assert pets.hybrid_search("cats", AXES[0], k=1, rrf_k=1, candidates=2)[0].score == pytest.approx(1)
    assert pets.vector_search(AXES[1:2], k=1).ids == ["dog"]
    assert pets.keyword_search("bark", k=1).ids == ["dog"]
    assert [hits.ids for hits in pets.search_batch(AXES, k=1)] == [["cat"], ["dog"], ["both"]]
    assert all(hits.exact and hits.complete for hits in (keyword, vector, hybrid))


def test_filters_go_before_ranking(pets):
    assert pets.search("cats", where={"legs": 8}).ids == ["both"]
    assert pets.vector_search(AXES[0], k=1, where={"kind": "dog"}).ids == ["dog"]
    assert set(pets.vector_search(AXES[0], where={"legs": {"$lt": 8}}).ids) == {"cat", "dog"}
    assert pets.count({"kind": {"$in": ["cat", "dog"]}}) == 2
    assert pets.count({"$and": [{"legs": {"$gte": 4}}, {"kind": "cat"}]}) == 1
    assert pets.count_documents({"legs": 4}) == 2
    assert [d.id for d in pets.list_documents({"legs": 8})] == ["both"]
    assert pets.count({}) == 3


# embedders


class Counting:
    """An embedder that remembers what it was asked."""

    def __init__(self, inner):
        self.inner = inner
        self.asked = []

    def __call__(self, texts):
        assert type(texts) is list
        self.asked += texts
        return self.inner(texts)


@pytest.fixture
def embedder(ragstore_embedder):
    return Counting(ragstore_embedder)


def test_an_embedder_lets_add_and_search_take_text_alone(ragstore_store, embedder):
    notes = ragstore_store.create_collection("notes", embedder=embedder)
    notes.add(["the cat sat", Document("a dog\nbarked", chunks=[Chunk(start=0, end=5), Chunk("barked")])])
    assert embedder.asked == ["the cat sat", "a dog", "barked"]
    notes.add_texts(["fish swim"])
    (document,) = notes.add("more").document_ids
    notes.add_chunks(document, [Chunk("appended"), Chunk(start=0, end=2)])
    assert embedder.asked[3:] == ["fish swim", "more", "appended", "mo"]
    hits = notes.search("where sat the cat?")
    assert hits[0].text == "the cat sat"
    assert hits[0].vector_rank == hits[0].keyword_rank == 1
    assert notes.search("fish", mode="vector", k=1).texts == ["fish swim"]
    assert notes.search("fish", mode="keyword")[0].vector_rank is None
    assert notes.hybrid_search("fish", k=1).texts == ["fish swim"]
    assert ragstore_store.get_collection("notes", embedder=embedder).search("cat")[0].vector_rank == 1
    # A handle without the embedder searches by keyword.
    assert ragstore_store["notes"].search("cat")[0].vector_rank is None


def test_what_is_unchanged_is_not_embedded_again(ragstore_store, embedder):
    notes = ragstore_store.create_collection("notes", embedder=embedder)
    documents = [Document(f"text {i}", uri=f"u{i}", chunks=[Chunk("a"), Chunk(f"b{i}")]) for i in range(6)]
    assert notes.add(documents[:4]).added == 4
    embedder.asked.clear()
    documents[1] = Document("other", uri="u1", chunks=[Chunk("changed")])
    calls = []
    result = notes.add(documents, on_conflict="replace", progress=lambda *call: calls.append(call))
    assert embedder.asked == ["changed", "a", "b4", "b5"]
    assert (result.added, result.replaced, result.unchanged) == (2, 1, 3)
    assert [notes.get_document(i).uri for i in result.document_ids] == [f"u{i}" for i in range(6)]
    assert len(result.chunk_ids) == 11
    assert np.array_equal(
        notes.get_embeddings(result.chunk_ids), embedder.inner([c.text for c in notes.get(result.chunk_ids)])
    )
    assert calls == [(6, 6)]
    embedder.asked.clear()
    assert notes.add(documents).unchanged == 6
    assert notes.add_texts(["x"], ids=["x"]) == notes.add_texts(["x"], ids=["x"]) == ["x"]
    assert embedder.asked == ["x"]


def test_documents_without_text_are_not_embedded(ragstore_store, embedder):
    notes = ragstore_store.create_collection("notes", embedder=embedder)
    assert notes.add([Document(metadata={"a": 1}), "text", Document("x", chunks=[])]).added == 3
    assert embedder.asked == ["text"]
    result = notes.add(["fine", Document(chunks=[Chunk("a"), Chunk(), Chunk("b")])])
    assert embedder.asked == ["text", "fine", "a", "b"]
    fine, a, bare, b = result.chunk_ids
    assert np.array_equal(notes.get_embeddings([fine, a, b]), embedder.inner(["fine", "a", "b"]))
    with pytest.raises(ragstore.NotFoundError):
        notes.get_embeddings([bare])


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (lambda texts: np.ones((len(texts) + 1, 3)), ragstore.InvalidVectorError, "returned 3 vectors for 2 texts"),
        (lambda _: np.ones(3), ragstore.InvalidVectorError, "shape (3,)"),
        (lambda _: [[1.0], [1.0, 2.0]], ragstore.InvalidVectorError, "embedder's result row 1 has dimension 2"),
        (lambda _: np.ones((2, 4)), ragstore.DimensionMismatchError, "4"),
        (lambda _: None, ragstore.InvalidVectorError, "NoneType"),
        (lambda _: [[float("nan")] * 3] * 2, ragstore.InvalidVectorError, "row 0"),
    ],
)
def test_an_embedder_is_checked(ragstore_store, made, error, message):
    notes = ragstore_store.create_collection("notes", dimension=3, embedder=made)
    with pytest.raises(error) as caught:
        notes.add(["a", "b"])
    assert message in str(caught.value)
    assert notes.count() == 0


def test_an_embedder_may_be_a_generator_or_return_one_vector_for_one_text(ragstore_store):
    notes = ragstore_store.create_collection("notes", embedder=lambda texts: (np.ones(3) for _ in texts))
    notes.add(["a", "b"])
    assert notes.search("a", mode="vector").ids
    single = ragstore_store.get_collection("notes", embedder=lambda _: [1.0, 1.0, 1.0])
    assert len(single.search("a", mode="vector")) == 2


# the surface


def test_everything_public_is_documented():
    seen = 0
    for name in sorted(set(ragstore.__all__) - set(ragstore.types.__all__)):
        item = getattr(ragstore, name)
        if not inspect.isclass(item):
            assert item.__doc__, name
            continue
        assert item.__doc__, name
        for member, value in vars(item).items():
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{member}"
                seen += 1
    assert seen > 50


def test_documents_and_chunks_compare_and_show():
    assert Document("a", metadata={"n": 1}) == Document("a", metadata={"n": 1}) != Document("a")
    assert Chunk("a") != Document("a")
    assert repr(Chunk("x" * 100, id="i")) == f"Chunk(id='i', text='{'x' * 59}…')"
    assert "chunks=[2 chunks]" in repr(Document("a", chunks=[Chunk("b"), Chunk("c")]))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Document("a"))
    with pytest.raises(TypeError, match="metadata is of type list"):
        Document("a", metadata=[1])
    with pytest.raises(AttributeError):
        Document("a").txt = "b"


def test_split_gives_chunks_that_add_takes(collection):
    text = "Ein schöner Satz. Noch einer.\n\nEin neuer Absatz mit etwas mehr Text darin."
    chunks = ragstore.split(text, 30)
    assert len(chunks) > 2
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
    result = collection.add(Document(text, chunks=chunks))
    assert [c.text for c in collection.get_chunks(result.document_ids[0])] == [c.text for c in chunks]
    assert ragstore.split("# A\n\nb\n\n# C\n\nd", 6, syntax="markdown")
    for arguments, error in (
        ((3,), TypeError),
        (("a", 0), ValueError),
        (("a", "9"), TypeError),
        (("\udc80",), ValueError),
    ):
        with pytest.raises(error):
            ragstore.split(*arguments)
    with pytest.raises(ValueError, match='syntax is "latex"'):
        ragstore.split("a", syntax="latex")
    with pytest.raises(ValueError, match="overlap"):
        ragstore.split("a b", 5, overlap=5)
