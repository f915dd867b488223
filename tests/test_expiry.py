"""What has expired is not there, from that moment on and without a write."""

from datetime import UTC, datetime, timedelta

import pytest
import ragstore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NOW = datetime.now(UTC)
ENDS = {"past": NOW - timedelta(days=1), "later": NOW + timedelta(days=1), "never": None}


@pytest.fixture
def store():
    with ragstore.open() as store:
        yield store


def test_the_moment_passes_without_a_write(tmp_path):
    with ragstore.open(tmp_path / "s.db") as store:
        notes = store.create_collection("c")
        end = datetime.now(UTC) + timedelta(milliseconds=300)
        notes.add([ragstore.Document("brief words", id="a", expires_at=end), ragstore.Document("words", id="b")])
        with ragstore.open(tmp_path / "s.db", read_only=True) as other:
            seen = []
            while len(other["c"]) == 2:
                seen.append(datetime.now(UTC))
            assert datetime.now(UTC) >= end
            assert all(moment < end + timedelta(seconds=5) for moment in seen)
            for collection in (notes, other["c"]):
                assert [hit.document_id for hit in collection.search("words")] == ["b"]
                assert collection.get_document("a") is None
                assert [document.id for document in collection.list_documents()] == ["b"]
        assert (notes.expire(), notes.expire(), len(notes)) == (1, 0, 1)


def test_relations_of_what_expired_are_not_there(store):
    notes = store.create_collection("c")
    ends = {"a": None, "b": ENDS["later"], "d": None}
    notes.add([ragstore.Document(id, id=id, expires_at=end) for id, end in ends.items()])
    notes.relate("a", "b", "t")
    notes.relate("b", "d", "t")
    assert [found.id for found in notes.related(["a"], depth=2)] == ["b", "d"]
    notes.add([ragstore.Document("other", id="b", expires_at=ENDS["past"])], on_conflict="replace")
    assert notes.relations("a") == notes.related(["a"], depth=2) == []
    with pytest.raises(ragstore.NotFoundError):
        notes.relate("d", "b", "t")
    notes.expire()
    assert notes.relations("d") == []


@pytest.mark.parametrize("name", ["b", "part"])
def test_what_takes_the_place_of_what_expired_has_none_of_its_relations(store, name):
    notes = store.create_collection("c")
    chunk = ragstore.Chunk("w", id="part")
    notes.add(
        [ragstore.Document("a", id="a"), ragstore.Document("w", id="b", expires_at=ENDS["later"], chunks=[chunk])]
    )
    notes.relate("a", name, "t", metadata={"old": 1})
    notes.add([ragstore.Document("gone", id="b", expires_at=ENDS["past"], chunks=[chunk])], on_conflict="replace")
    notes.add([ragstore.Document("new", id="b", chunks=[ragstore.Chunk("new", id="part")])])
    assert notes.get_document("b").text == "new"
    assert notes.relations("a") == []


def test_optimize_removes_what_expired(store):
    for name in ("one", "two"):
        chunks = [ragstore.Chunk("w", id=f"{name}{i}", expires_at=ENDS["past"] if i % 2 else None) for i in range(6)]
        gone = [ragstore.Document("w", id=f"gone{i}", expires_at=ENDS["past"]) for i in range(1500)]
        store.create_collection(name).add([ragstore.Document(id="kept", chunks=chunks), *gone])
    state = store.state()
    state.set("old", 1, expires_in=-1)
    state.set("new", 2, expires_in=60)
    before = [hit.id for hit in store["one"].search("w", k=9)]
    store.optimize()
    assert [hit.id for hit in store["one"].search("w", k=9)] == before
    assert [len(store[name]) for name in ("one", "two")] == [3, 3]
    assert [store[name].expire() for name in ("one", "two")] == [0, 0]
    assert dict(state) == {"new": 2}
    assert store.stats().chunks == 6
    assert store.check().ok


ends = st.sampled_from(sorted(ENDS))
documents = st.lists(st.tuples(ends, st.lists(ends, min_size=1, max_size=3)), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(given_ends=documents)
def test_reads_are_those_of_a_store_without_what_expired(store, given_ends):
    """The same documents, one time with what has expired and one time without it."""
    names = f"all{len(store)}", f"living{len(store)}"
    whole, living = (store.create_collection(name) for name in names)
    try:
        for i, (end, parts) in enumerate(given_ends):
            chunks = [ragstore.Chunk(f"w {i}", id=f"{i}.{j}", expires_at=ENDS[part]) for j, part in enumerate(parts)]
            left = [chunk for chunk, part in zip(chunks, parts, strict=True) if part != "past"]
            for collection, kept in ((whole, chunks), (living, left)):
                if collection is whole or end != "past":
                    document = ragstore.Document(id=str(i), chunks=kept, metadata={"even": i % 2 == 0})
                    document.expires_at = ENDS[end]
                    collection.add([document], [[1.0, int(chunk.id[-1]) / 8] for chunk in kept] or None)

        def seen(collection, where):
            return (
                collection.count(where),
                collection.count_documents(where),
                [document.id for document in collection.list_documents(where)],
                sorted(collection.search("w", k=50, where=where).ids),
                sorted(hit.id for hit in collection.search(vector=[1, 0], k=50, where=where)),
                sorted(hit.id for hit in collection.hybrid_search("w", [1, 0], 50, where=where)),
                [sorted(hits.ids) for hits in collection.search_batch([[1, 0], [0, 1]], 50, where=where)],
            )

        for where in (None, {"even": True}, {"id": {"$ne": "0.0"}}):
            assert seen(whole, where) == seen(living, where)
        for i in range(len(given_ends)):
            ours, theirs = ([chunk.id for chunk in of.get_chunks(str(i))] for of in (whole, living))
            assert ours == theirs
        before = [seen(whole, where) for where in (None, {"even": True})]
        whole.expire()
        assert [seen(whole, where) for where in (None, {"even": True})] == before
    finally:
        for name in names:
            store.delete_collection(name)
