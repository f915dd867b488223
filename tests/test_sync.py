"""Changes go from store to store, and all come to the same."""

import itertools
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import ragstore
from ragstore import Chunk, ClockSkewError, Document, SyncError, WrongKeyError

from tests.helpers.replicas import answers, clock, equal, forget_file, three_stores

# A process that adds documents while its clock is so many seconds ahead.
WRITER = """
import sys
import ragstore

path, name, seconds = sys.argv[1:]
ragstore._ragstore._shift_clock(int(seconds) * 1_000_000)
with ragstore.open(path) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(20):
        store["c"].add(ragstore.Document("cat", id=f"{name}{number}"))
"""


def risen(path):
    """The stamps of the feed of a store that is closed, each of which must be later than the one before it.

    Chunks have that of their document.
    """
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT hlc FROM changes WHERE entity <> 'chunk' ORDER BY seq")
        stamps = [row[0] for row in rows]
    assert all(earlier < later for earlier, later in itertools.pairwise(stamps))
    return stamps


@pytest.fixture
def stores(tmp_path):
    """Three stores on disk."""
    with three_stores(tmp_path) as opened:
        yield opened


@pytest.fixture
def pair(stores):
    """Two stores that share a collection."""
    a, b, _ = stores
    a.create_collection("c", dimension=2, description="pets", settings={"x": 1}, model="m")
    a.sync(b)
    return a, b


def send(a, b, **kwargs):
    return b.apply_changes(a.export_changes(since=b.watermark(), **kwargs), **kwargs)


def texts(store, name="c"):
    return {document.id: document.text for document in store[name].list_documents()}


def test_everything_travels(pair):
    a, b = pair
    c = a["c"]
    c.create_space("alt", dimension=3, metric="l2")
    later = datetime.now(UTC) + timedelta(days=1)
    document = Document(
        "Cats purr. Dogs bark.",
        id="d",
        uri="file:d",
        content_type="text/markdown",
        metadata={"tags": ["a", {"b": None}], "n": 1.5},
        expires_at=later,
        chunks=[
            ragstore.Chunk(start=0, end=10, id="k", metadata={"x": "é"}, token_count=3),
            ragstore.Chunk("own words", expires_at=later),
            ragstore.Chunk(),
        ],
    )
    c.add(document, np.array([[1, 2], [3, 4], [5, 6]]))
    c.set_embeddings(["k"], [[1, 2, 3]], space="alt")
    c.add(Document(id="empty", chunks=[]))
    c.relate("d", "k", "has", strength=0.25, metadata={"why": 1})
    a.state("n").set("key", {"deep": [1]}, expires_at=later)
    a.state("mine", local=True)["secret"] = 1
    a.delete_collection(a.create_collection("gone").name)
    report = a.sync(b)
    assert (report.received, report.conflicts) == (0, 0)
    assert report.sent >= 5
    assert "secret" not in b.state("mine")
    assert b.state("n")["key"] == {"deep": [1]}
    got = b["c"].get_document("d")
    assert got == c.get_document("d")
    assert got.expires_at == later
    assert b["c"].get_chunks("d") == c.get_chunks("d")
    assert b["c"].relations("d") == c.relations("d")
    assert b["c"].info.spaces == c.info.spaces
    assert (b["c"].info.description, b["c"].info.settings) == ("pets", {"x": 1})
    assert b["c"].get_embeddings(["k"], space="alt").tolist() == [[1, 2, 3]]
    assert b["c"].search("cats", vector=[1, 2], k=1).ids == ["k"]
    again = b.sync(a)
    assert (again.sent, again.received, again.applied) == (0, 0, 0)
    equal(a, b)


def test_the_later_change_stays(pair):
    a, b = pair
    a["c"].add([Document("cat one", id="x"), Document("dog", id="y")])
    a.sync(b)
    a["c"].add(Document("cat a", id="x"), on_conflict="replace")
    a["c"].delete(document_ids=["y"])
    with clock(1):
        b["c"].add(Document("cat b", id="x"), on_conflict="replace")
        b["c"].update_metadata({"n": 1}, document_ids=["y"])
    report = a.sync(b)
    assert report.conflicts == 2
    assert texts(a) == texts(b) == {"x": "cat b", "y": "dog"}
    lost = {conflict.id: conflict for conflict in a.conflicts()}
    assert set(lost) == {"x", "y"}
    assert lost["x"].kept == "other"
    assert lost["x"].entity == "document"
    assert lost["x"].winner > lost["x"].loser
    # Where one knew of the other's change there is none.
    a["c"].delete(document_ids=["x"])
    assert a.sync(b).conflicts == 0
    assert texts(b) == {"y": "dog"}
    equal(a, b)


@pytest.mark.parametrize("receiver", ["a", "b"])
def test_a_conflict_over_what_is_beside_the_content_is_listed(pair, receiver):
    a, b = pair
    a.create_collection("v", dimension=3)
    soon, late = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
    vectors = np.arange(18, dtype=np.float32).reshape(6, 3)
    a["v"].create_space("alt", dimension=3)
    a["v"].add([Document("cat", id=f"d{i}", chunks=[Chunk("cat", id=f"k{i}")]) for i in range(6)], vectors)
    a.sync(b)

    def change(store, vector, expires_at, same):
        store["v"].set_embeddings(["k0"], [vector])
        # Times of expiry are no content: what is there keeps its own.
        store["v"].delete(document_ids=["d1", "d2"])
        store["v"].add(Document("cat", id="d1", expires_at=expires_at), vectors[1:2])
        store["v"].add(Document("cat", id="d2", chunks=[Chunk("cat", id="k2", expires_at=expires_at)]), vectors[2:3])
        store["v"].set_embeddings(["k3"], [vector], space="alt")
        # One writes what the other has by then: nothing is lost.
        store["v"].set_embeddings(["k4"], [same])

    change(a, [1, 2, 3], soon, [0, 1, 1])
    b["v"].delete_embeddings(["k5"])
    with clock(1):
        change(b, [1, 2, 4], late, [0, 1, 1])
        a["v"].set_embeddings(["k5"], [[7, 7, 7]])
    one, other = (a, b) if receiver == "a" else (b, a)
    one.apply_changes(other.export_changes(one.watermark()))
    assert {lost.id for lost in one.conflicts()} == {"d0", "d1", "d2", "d3", "d5"}
    assert all(lost.entity == "document" and lost.collection == "v" for lost in one.conflicts())
    a.sync(b)
    equal(a, b)


def test_a_conflict_over_settings_is_listed(stores):
    a, b, _ = stores
    for seconds, store in [(0, a), (1, b)]:
        with clock(seconds):
            store.create_collection("c", settings={"x": seconds})
            store.create_collection("same", settings={"x": 1})
    a.sync(b)
    assert a["c"].info.settings == b["c"].info.settings == {"x": 1}
    assert [(lost.entity, lost.id) for lost in [*a.conflicts(), *b.conflicts()]] == [("collection", "c")]


@pytest.mark.parametrize("first", ["a", "b"])
def test_one_uri_under_two_ids_is_the_later_one(stores, pair, first):
    a, b = pair
    third = stores[2]
    a["c"].add(Document("cat one", id="one", uri="u"))
    b["c"].add(Document("cat two", id="two", uri="u"))
    (a if first == "a" else b).sync(b if first == "a" else a)
    for store in (a, b):
        assert texts(store) == {"two": "cat two"}
        assert store["c"].get_document("one").id == "two"
        assert store["c"].get_document(uri="u").id == "two"
    third.sync(a)
    assert third["c"].get_document("one").id == "two"
    # It names that document for every call that takes ids of documents.
    (chunk,) = third["c"].get_chunks("two")
    assert third["c"].get_chunks("one") == [chunk]
    assert third["c"].get_chunk_by_index("one", 0) == chunk
    assert third["c"].update_metadata({"n": 1}, document_ids=["one"]) == 1
    assert third["c"].get_document("two").metadata == {"n": 1}
    third["c"].add_chunks("one", [ragstore.Chunk("more", id="more")])
    assert third["c"].get_chunks("two")[1].id == "more"
    assert third["c"].delete(document_ids=["one"]) == 1
    assert texts(third) == {}
    # The alias follows the uri, and ends with a document of its own.
    a["c"].add(Document("cat three", uri="u"), on_conflict="replace")
    b.sync(a)
    assert b["c"].get_document("one").text == "cat three"
    a["c"].delete(uris=["u"])
    a["c"].add(Document("dog", id="one"))
    third.sync(a)
    third.sync(b)
    assert third["c"].get_document("one").text == "dog"
    equal(a, b, third)


def test_an_edit_that_knew_nothing_of_the_other_uri_is_not_lost(stores, pair):
    a, b = pair
    third = stores[2]
    a["c"].add(Document("cat one", id="one", uri="u"))
    a.sync(third)
    b["c"].add(Document("cat two", id="two", uri="u"))
    a.sync(b)
    third["c"].add(Document("cat edited", id="one", uri="u"), on_conflict="replace")
    third.sync(b)
    a.sync(third)
    a.sync(b)
    assert texts(a) == texts(b) == texts(third) == {"one": "cat edited"}
    assert a["c"].get_document("two").id == "one"
    equal(a, b, third)


def test_one_chunk_id_in_two_documents(stores, pair):
    a, b = pair
    third = stores[2]
    a["c"].add(Document(id="b-doc", chunks=[ragstore.Chunk("cat from a", id="same")]))
    b["c"].add(Document(id="a-doc", chunks=[ragstore.Chunk("cat from b", id="same")]))
    a.sync(b)
    for store in (a, b):
        assert store["c"].get("same").document_id == "a-doc"
        (other,) = store["c"].get_chunks("b-doc")
        assert other.text == "cat from a"
        assert other.id.startswith("same~")
    b["c"].delete(document_ids=["a-doc"])
    third.sync(a)
    assert third["c"].get_chunks("b-doc")[0].id.startswith("same~")
    b.sync(third)
    b.sync(a)
    for store in (a, b, third):
        assert store["c"].get("same").document_id == "b-doc"
    equal(a, b, third)


def test_relations_of_a_chunk_that_gets_the_id_it_came_with(pair):
    a, b = pair
    for store, id in ((a, "b-doc"), (b, "a-doc")):
        store["c"].add(Document(id=id, chunks=[ragstore.Chunk("cat", id="same")]))
    a.sync(b)
    (other,) = a["c"].get_chunks("b-doc")
    b["c"].relate("same", other.id, "likes")
    a.sync(b)
    assert len(a["c"].relations(other.id)) == 1
    b["c"].delete(document_ids=["a-doc"])
    a.sync(b)
    for store in (a, b):
        assert store["c"].get_chunks("b-doc")[0].id == "same"
        # Nothing has the other id any more.
        assert store["c"].relations("same") == []
        assert store.check().ok
    equal(a, b)


def test_deleted_collections(pair):
    a, b = pair
    a["c"].add([Document("cat", id="old"), Document("dog", id="other")])
    a.sync(b)
    b.delete_collection("c")
    a["c"].add(Document("cat", id="new"))
    with clock(1):
        a["c"].add(Document("bird", id="latest"))
    a.sync(b)
    # What was written after the deletion brings the collection back, with nothing from before.
    for store in (a, b):
        assert set(texts(store)) == {"new", "latest"} if "new" in texts(store) else {"latest"}
    assert texts(a) == texts(b)
    with clock(2):
        a.delete_collection("c")
        assert a.sync(b).conflicts == 0
        assert "c" not in b
        b.create_collection("c", dimension=7)
        a.sync(b)
    assert a["c"].info.dimension == 7
    assert texts(a) == {}
    equal(a, b)


def test_collections_that_were_made_on_both_sides_merge(stores):
    a, b, _ = stores
    for store, name in ((a, "one"), (b, "two")):
        store.create_collection("c", description=name).add(Document("cat", id=name))
    a["c"].set_embeddings([a["c"].get_chunks("one")[0].id], [[1, 2, 3]])
    a.sync(b)
    assert set(texts(a)) == set(texts(b)) == {"one", "two"}
    assert a["c"].info.description == b["c"].info.description == "two"
    assert b["c"].info.dimension == 3
    equal(a, b)


@pytest.mark.parametrize(
    ("mine", "theirs", "named"),
    [
        ({"dimension": 3}, {"dimension": 4}, ["dimension 3", "dimension", "4"]),
        ({"dimension": 3, "metric": "l2"}, {"dimension": 3}, ["metric l2", "cosine"]),
        ({"dimension": 3, "model": "m"}, {"dimension": 3, "model": "n"}, ["model m", "n at the source"]),
    ],
)
def test_other_collections_of_one_name_are_refused(stores, mine, theirs, named):
    a, b, _ = stores
    a.create_collection("c", **mine)
    b.create_collection("c", **theirs)
    b.create_collection("another")
    b.state()["x"] = 1
    before = answers(a, [])
    with pytest.raises(SyncError) as refused:
        send(b, a)
    assert all(part in str(refused.value) for part in ["'c'" if "'c'" in str(refused.value) else '"c"', *named])
    assert answers(a, []) == before
    a.delete_collection("c")
    a.sync(b)
    equal(a, b)


def test_spaces_merge_and_end(pair):
    a, b = pair
    a["c"].add(Document("cat", id="x", chunks=[ragstore.Chunk("cat", id="k")]))
    a.sync(b)
    a["c"].create_space("one", dimension=2)
    b["c"].create_space("two", dimension=2, metric="ip")
    a["c"].set_embeddings(["k"], [[1, 1]], space="one")
    a.sync(b)
    assert [space.name for space in b["c"].list_spaces()] == ["default", "two", "one"]
    b["c"].delete_space("one")
    a.sync(b)
    assert sorted(space.name for space in a["c"].list_spaces()) == ["default", "two"]
    b["c"].create_space("one", dimension=5)
    a.sync(b)
    assert a["c"].list_spaces()[-1].dimension == 5
    equal(a, b)


def test_tokenizers_follow(pair):
    a, b = pair
    a["c"].add(Document("cats", id="x"))
    a.sync(b)
    a["c"].set_tokenizer("trigram")
    a.sync(b)
    assert b["c"].info.tokenizer == "trigram"
    assert b["c"].keyword_search("ats").ids
    equal(a, b)


def test_relations_wait_for_their_ends(stores, pair):
    a, b = pair
    third = stores[2]
    a["c"].add([Document("cat", id="x"), Document("dog", id="y")])
    a.sync(b)
    b["c"].relate("x", "y", "likes")
    a["c"].delete(document_ids=["y"])
    a.sync(b)
    assert a["c"].relations("x") == b["c"].relations("x") == []
    third.sync(b)
    third["c"].add(Document("dog again", id="y"))
    for store in (a, b):
        store.sync(third)
    for store in (a, b, third):
        assert [relation.type for relation in store["c"].relations("y")] == ["likes"]
    a["c"].unrelate("x", "y")
    third.sync(a)
    assert third["c"].relations("x") == []
    b.sync(a)
    equal(a, b, third)


def test_clear_and_expiry_travel(pair):
    a, b = pair
    past = datetime.now(UTC) - timedelta(seconds=5)
    a["c"].add([Document("cat", id="x"), Document("dog", id="old", expires_at=past)])
    a.sync(b)
    assert set(texts(b)) == {"x"}
    # What has expired is gone everywhere; each store removes it by itself.
    assert b["c"].expire() == 1
    assert a.sync(b).applied == 0
    assert a["c"].get_document("old") is None
    assert a["c"].expire() == 1
    b["c"].clear()
    a.sync(b)
    assert texts(a) == {}
    equal(a, b)


def test_halves_for_any_transport(stores):
    a, b, _ = stores
    a.create_collection("c").add(Document("cat " * 100, id="x"))
    batch = a.export_changes()
    assert isinstance(batch, bytes)
    report = b.apply_changes(batch)
    assert (report.received, report.applied) == (2, 2)
    again = b.apply_changes(batch)
    assert (again.received, again.applied) == (1, 0)
    assert len(a.export_changes(b.watermark())) < 1000
    a["c"].add(Document("dog", id="y"))
    mark = b.watermark()
    first = a.export_changes(mark)
    b.apply_changes(first)
    a["c"].add(Document("bird", id="z"))
    second = a.export_changes(b.watermark())
    # Out of order, and by one who missed something.
    late = ragstore.open()
    with late, pytest.raises(SyncError, match="begins after changes"):
        late.apply_changes(second)
    b.apply_changes(second)
    b.apply_changes(first)
    assert set(texts(b)) == {"x", "y", "z"}
    equal(a, b)


def test_an_unchanged_store_exports_less_than_a_kilobyte(stores):
    a, b, c = stores
    for number, store in enumerate(stores):
        store.create_collection(f"c{number}").add([Document(f"cat {i}", id=f"d{i}") for i in range(50)])
    for _ in range(2):
        a.sync(b)
        b.sync(c)
        c.sync(a)
    sizes = [len(x.export_changes(y.watermark())) for x in stores for y in stores if x is not y]
    assert max(sizes) < 1000, sizes


def test_batches_are_encrypted_with_a_key(stores):
    a, b, _ = stores
    a.create_collection("c").add(Document("a secret cat", id="x"))
    for key in ("pass phrase", bytes(range(32))):
        batch = a.export_changes(key=key)
        assert b"secret" not in batch
        assert b"RAGSYNC" in batch
        for wrong in ("other", bytes(32), None):
            with pytest.raises(WrongKeyError):
                b.apply_changes(batch, key=wrong)
        assert len(b) == 0 or texts(b) == {"x": "a secret cat"}
        b.apply_changes(batch, key=key)
    with pytest.raises(WrongKeyError, match="not encrypted"):
        b.apply_changes(a.export_changes(), key="pass phrase")
    with pytest.raises(ValueError, match="exactly 32"):
        a.export_changes(key=b"short")
    with pytest.raises(TypeError, match="key"):
        a.export_changes(key=5)
    equal(a, b)


def test_what_is_no_batch_is_refused(stores):
    a, b, _ = stores
    for text in (b"", b"x", b"RAGSYNC", b"RAGSYNC\x02\x00" + bytes(50), b"PK" + bytes(1000)):
        with pytest.raises(SyncError):
            a.apply_changes(text)
    with pytest.raises(TypeError, match="batch is of type str"):
        a.apply_changes("text")
    with pytest.raises(ValueError, match="watermark"):
        a.export_changes({"x": "y"})
    with pytest.raises(TypeError, match="other is of type str"):
        a.sync("b.db")
    b.close()
    with pytest.raises(ragstore.ClosedError):
        a.sync(b)


def test_a_read_only_store_neither_takes_nor_tells(stores, tmp_path):
    a, b, _ = stores
    a.create_collection("c").add("cat")
    a.close()
    with ragstore.open(tmp_path / "a.db", read_only=True) as reader:
        # What it tells others it must remember.
        with pytest.raises(ragstore.ReadOnlyError):
            reader.export_changes()
        with pytest.raises(ragstore.ReadOnlyError):
            send(b, reader)
    with ragstore.open(tmp_path / "a.db") as again:
        again.export_changes()
    with ragstore.open(tmp_path / "a.db", read_only=True) as reader:
        b.apply_changes(reader.export_changes())
    assert len(b["c"]) == 1


class TestCopies:
    """A file that was copied by hand is the same replica."""

    @pytest.fixture
    def twins(self, tmp_path, pair):
        """As where files have no numbers of their own, or one became the other."""
        a, b = pair
        a["c"].add(Document("cat", id="x"))
        a.sync(b)
        a.close()
        forget_file(tmp_path / "a.db")
        shutil.copy(tmp_path / "a.db", tmp_path / "copy.db")
        with ragstore.open(tmp_path / "a.db") as original, ragstore.open(tmp_path / "copy.db") as copy:
            yield original, copy, b

    @pytest.mark.skipif(sys.platform == "win32", reason="files have no numbers there")
    @pytest.mark.parametrize("synced", [False, True])
    def test_one_does_not_sync_at_all(self, tmp_path, pair, synced):
        """Nobody else need show it: others, who meet one of them each, would miss changes of the other."""
        a, b = pair
        a["c"].add(Document("cat", id="x"))
        if synced:
            a.sync(b)
        a.close()
        shutil.copy(tmp_path / "a.db", tmp_path / "copy.db")
        (tmp_path / "a.db").rename(tmp_path / "moved.db")
        with ragstore.open(tmp_path / "moved.db") as original, ragstore.open(tmp_path / "copy.db") as copy:
            copy["c"].add(Document("dog", id="y"))
            original["c"].add(Document("bird", id="z"))
            original.sync(b)
            batch = b.export_changes()
            for call in (
                lambda: copy.sync(b),
                lambda: b.sync(copy),
                copy.export_changes,
                lambda: copy.apply_changes(batch),
                lambda: copy.sync_folder(tmp_path / "folder"),
            ):
                with pytest.raises(SyncError, match=r"copy.*renew_replica"):
                    call()
            assert set(texts(copy)) == {"x", "y"}
            copy.renew_replica()
            copy.sync(b)
            original.sync(b)
            assert set(texts(original)) == set(texts(copy)) == set(texts(b)) == {"x", "y", "z"}
            equal(original, copy, b)

    def test_they_do_not_sync_with_each_other(self, twins):
        original, copy, _ = twins
        with pytest.raises(SyncError, match="renew_replica"):
            original.sync(copy)
        copy["c"].add(Document("dog", id="y"))
        original["c"].add(Document("bird", id="z"))
        with pytest.raises(SyncError, match="renew_replica"):
            send(copy, original)
        copy.renew_replica()
        original.sync(copy)
        assert set(texts(original)) == set(texts(copy)) == {"x", "y", "z"}

    @pytest.mark.parametrize("first", [0, 1])
    def test_a_third_one_shows_them(self, twins, first):
        one, other, b = twins[first], twins[1 - first], twins[2]
        other["c"].add(Document("dog", id="y"))
        one["c"].add(Document("bird", id="z"))
        one.sync(b)
        with pytest.raises(SyncError, match="renew_replica"):
            other.sync(b)
        with pytest.raises(SyncError, match="renew_replica"):
            send(b, other)
        other.renew_replica()
        other.sync(b)
        one.sync(b)
        assert set(texts(one)) == set(texts(other)) == set(texts(b)) == {"x", "y", "z"}
        equal(one, other, b)

    def test_one_that_went_back_is_found(self, tmp_path, pair):
        a, b = pair
        a["c"].add(Document("cat", id="x"))
        a.sync(b)
        a.close()
        shutil.copy(tmp_path / "a.db", tmp_path / "older.db")
        with ragstore.open(tmp_path / "a.db") as newer:
            newer["c"].add(Document("dog", id="y"))
            newer.sync(b)
        shutil.copy(tmp_path / "older.db", tmp_path / "a.db")
        with ragstore.open(tmp_path / "a.db") as back:
            back["c"].add(Document("bird", id="z"))
            with pytest.raises(SyncError, match="renew_replica"):
                back.sync(b)
            back.renew_replica()
            back.sync(b)
            assert set(texts(back)) == set(texts(b)) == {"x", "y", "z"}
            equal(back, b)

    def test_a_backup_is_another_replica(self, tmp_path, pair):
        a, b = pair
        a["c"].add(Document("cat", id="x"))
        a.backup(tmp_path / "backup.db")
        with ragstore.open(tmp_path / "backup.db") as copy:
            copy["c"].add(Document("dog", id="y"))
            a["c"].add(Document("bird", id="z"))
            copy.sync(b)
            a.sync(copy)
            a.sync(b)
            assert set(texts(a)) == {"x", "y", "z"}
            equal(a, b, copy)


class TestOldDeletions:
    """Deletions are remembered for 90 days."""

    DAY = 24 * 3600

    def test_one_that_was_away_longer_must_take_a_fresh_copy(self, stores, pair, tmp_path):
        a, b = pair
        third = stores[2]
        a["c"].add([Document("cat", id="x", uri="u"), Document("dog", id="y")])
        a.sync(b)
        a["c"].delete(document_ids=["x"])
        with clock(91 * self.DAY):
            a["c"].add(Document("bird", id="z"))
            a.optimize()
            b["c"].update_metadata({"n": 1}, document_ids=["x"])
            for attempt in (lambda: a.sync(b), lambda: b.sync(a), lambda: send(a, b), lambda: send(b, a)):
                with pytest.raises(SyncError, match="fresh copy"):
                    attempt()
            # A store that never met them holds nothing of theirs.
            third.create_collection("own").add("cat")
            a.sync(third)
            assert set(texts(third)) == {"y", "z"}
            with pytest.raises(SyncError, match="fresh copy"):
                third.sync(b)
            a.backup(tmp_path / "fresh.db")
            with ragstore.open(tmp_path / "fresh.db") as fresh:
                fresh["c"].add(Document("owl", id="new"))
                fresh.sync(a)
                third.sync(a)
                equal(a, fresh, third)

    def test_younger_ones_are_kept(self, pair):
        a, b = pair
        a["c"].add(Document("cat", id="x"))
        a.sync(b)
        a["c"].delete(document_ids=["x"])
        with clock(89 * self.DAY):
            a.optimize()
            a.sync(b)
        assert texts(b) == {}

    def test_one_that_knew_of_them_is_not_stale(self, pair):
        a, b = pair
        a["c"].add(Document("cat", id="x"))
        a["c"].delete(document_ids=["x"])
        a.sync(b)
        with clock(91 * self.DAY):
            a.optimize()
            b["c"].add(Document("dog", id="y"))
            a.sync(b)
            a["c"].add(Document("bird", id="z"))
            a.sync(b)
            assert set(texts(a)) == set(texts(b)) == {"y", "z"}


class TestClock:
    """Moments are of all replicas, and none is far ahead."""

    def test_time_goes_on_when_the_clock_goes_back(self, pair):
        a, b = pair
        with clock(30):
            a["c"].add(Document("cat", id="x"))
        a["c"].add(Document("dog", id="x"), on_conflict="replace")
        a.sync(b)
        b["c"].add(Document("bird", id="x"), on_conflict="replace")
        a.sync(b)
        assert texts(a) == texts(b) == {"x": "bird"}

    def test_more_than_a_minute_ahead_is_refused(self, pair):
        a, b = pair
        with clock(24 * 3600):
            a["c"].add(Document("cat", id="x"))
            batch = a.export_changes(b.watermark())
        before = b.watermark()
        with pytest.raises(ClockSkewError, match="ahead of this machine's clock"):
            b.apply_changes(batch)
        assert b.watermark() == before
        b["c"].add(Document("bird", id="z"))
        for one, other in [(a, b), (b, a)]:
            whose = "this store" if one is a else f"the other store ({a.path})"
            with pytest.raises(ClockSkewError, match=f"a change of {re.escape(whose)} is .* reclock") as refused:
                one.sync(other)
            assert ("the other" in str(refused.value)) == (one is b)
        # Also of what was right.
        assert set(texts(a)) == {"x"}
        # It goes on by itself.
        a["c"].add(Document("dog", id="y"))
        assert a.reclock() == 2
        assert a.reclock() == 0
        later = {"updated_at": {"$gt": datetime.now(UTC) + timedelta(minutes=2)}}
        assert a["c"].count_documents(later) == 0
        a.sync(b)
        assert set(texts(b)) == {"x", "y", "z"}
        assert all(abs(change.at - datetime.now(UTC)) < timedelta(minutes=1) for change in b.changes())
        b["c"].delete(document_ids=["x"])
        a.sync(b)
        assert set(texts(a)) == {"y", "z"}
        equal(a, b)

    def test_the_order_of_changes_stays(self, pair):
        a, b = pair
        with clock(3600):
            a["c"].add(Document("cat", id="x", uri="u"))
            a["c"].add(Document("dog", id="x", uri="v"), on_conflict="replace")
            a["c"].add([Document("bird", id="y"), Document("owl", id="z")])
            a["c"].delete(document_ids=["z"])
            a.state()["k"] = 1
        assert a.reclock() >= 4
        a.sync(b)
        assert texts(b) == {"x": "dog", "y": "bird"}
        equal(a, b)

    def test_what_a_peer_has_is_not_restamped(self, pair):
        a, b = pair
        with clock(300):
            a["c"].add(Document("cat", id="x"))
            a.sync(b)
            b.sync(a)
            a["c"].add(Document("dog", id="y"))
        assert a.reclock() == 1
        with clock(300):
            a.sync(b)
            equal(a, b)

    def test_a_minute_is_allowed(self, pair):
        a, b = pair
        with clock(55):
            a["c"].add(Document("cat", id="x"))
            batch = a.export_changes(b.watermark())
        b.apply_changes(batch)
        b["c"].add(Document("dog", id="x"), on_conflict="replace")
        a.sync(b)
        assert texts(a) == {"x": "dog"}

    def test_of_processes_that_share_a_file(self, tmp_path):
        path = tmp_path / "shared.db"
        with ragstore.open(path) as one, ragstore.open(path) as other:
            one.create_collection("c")

            def write(store, name):
                for number in range(20):
                    store["c"].add(Document("cat", id=f"{name}{number}"))

            threads = [threading.Thread(target=write, args=pair) for pair in ((one, "a"), (other, "b"))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            stamps = [(change.at, change.seq) for change in one.changes()]
            assert stamps == sorted(stamps)

    def test_of_processes_whose_clocks_are_apart(self, tmp_path):
        path = tmp_path / "shared.db"
        with ragstore.open(path) as store:
            store.create_collection("c")
        shifts = {"a": 0, "b": 40, "c": -3600, "d": 20}
        command = [sys.executable, "-c", WRITER, path]
        writers = [
            subprocess.Popen([*command, name, str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for name, seconds in shifts.items()
        ]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        # All have it open before the first of them writes.
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        assert [(writer.communicate()[0], writer.returncode) for writer in writers] == [("", 0)] * len(writers)
        assert len(set(risen(path))) == 1 + 20 * len(shifts)
        # Two clocks that were set back: one in a process, one where the file is opened next.
        for seconds in (-7200, -60):
            with clock(seconds), ragstore.open(path) as store:
                store["c"].add(Document("cat", id=f"later{seconds}"))
                store["c"].delete(document_ids=["a0" if seconds == -60 else "b0"])
        assert len(risen(path)) == 1 + 20 * len(shifts) + 4
        # The control: one stamp that does not rise.
        for text in (
            "UPDATE changes SET hlc = (SELECT min(hlc) FROM changes) WHERE seq = (SELECT max(seq) FROM changes)",
            "UPDATE changes SET hlc = (SELECT max(hlc) FROM changes) WHERE seq = 9",
        ):
            shutil.copy(path, tmp_path / "copy.db")
            with closing(sqlite3.connect(tmp_path / "copy.db")) as connection, connection:
                connection.execute(text)
            with pytest.raises(AssertionError):
                risen(tmp_path / "copy.db")


class TestFeed:
    """The feed for everyone."""

    def test_it_says_what_changed(self, store):
        c = store.create_collection("c")
        c.add([Document("cat", id="x"), Document("dog", id="y")])
        c.relate("x", "y", "likes")
        store.state("n")["k"] = 1
        store.state("mine", local=True)["k"] = 1
        c.delete(document_ids=["y"])
        found = [(change.entity, change.op, change.collection, change.id) for change in store.changes()]
        assert found == [
            ("collection", "put", "c", "c"),
            ("document", "put", "c", "x"),
            ("document", "put", "c", "y"),
            ("relation", "put", "c", ("x", "likes", "y")),
            ("state", "put", None, ("n", "k")),
            ("document", "delete", "c", "y"),
            ("relation", "delete", "c", ("x", "likes", "y")),
        ]
        assert [change.seq for change in store.changes(limit=2)] == [1, 2]
        last = store.changes()[-1].seq
        assert store.changes(last) == []
        store.delete_collection("c")
        (gone,) = store.changes(store.changes()[-2].seq)
        assert (gone.entity, gone.op, gone.collection) == ("collection", "delete", "c")
        assert store.last_change() >= gone.seq

    def test_one_that_fell_behind_is_told(self, store):
        c = store.create_collection("c")
        for number in range(1200):
            store.state()["k"] = number
        c.add(Document("cat", id="x"))
        store.optimize()
        with pytest.raises(SyncError, match="start over"):
            store.changes()
        head = store.last_change()
        assert store.changes(head) == []
        c.add(Document("dog", id="y"))
        assert [change.id for change in store.changes(head)] == ["y"]
        with pytest.raises(SyncError, match="another store"):
            store.changes(10**9)
        with pytest.raises(ValueError, match="at least 0"):
            store.changes(-1)

    def test_what_came_of_peers_is_in_it(self, pair):
        a, b = pair
        a["c"].add(Document("cat", id="x"))
        head = b.last_change()
        a.sync(b)
        (change,) = b.changes(head)
        assert (change.id, change.op) == ("x", "put")
        assert change.replica in b.watermark()


class TestPeers:
    """Who a store meets, and what came of it."""

    def test_peers_have_names(self, pair):
        a, b = pair
        a.add_peer("server", b.path)
        with pytest.raises(ragstore.ConflictError):
            a.add_peer("server", "elsewhere")
        with pytest.raises(ValueError, match="empty"):
            a.add_peer("", "x")
        (peer,) = a.peers()
        assert (peer.name, peer.endpoint, peer.replica, peer.last_synced_at) == ("server", b.path, None, None)
        a.sync(b)
        (peer,) = a.peers()
        assert peer.replica in b.watermark()
        assert peer.last_synced_at >= peer.added_at
        assert a.sync_log()[0].report.peer == "server"
        assert b.sync_log()[0].report.peer == a.path
        a.remove_peer("server")
        assert a.peers() == []
        with pytest.raises(ragstore.NotFoundError):
            a.remove_peer("server")

    def test_the_history_has_counts_and_errors(self, pair):
        a, b = pair
        a["c"].add(Document("cat", id="x"))
        a.sync(b)
        with pytest.raises(SyncError):
            b.apply_changes(b"nothing")
        failed, synced = b.sync_log(2)
        assert "cut off" in failed.error or "no batch" in failed.error
        assert failed.finished_at >= failed.started_at
        assert (synced.report.received, synced.report.applied, synced.error) == (1, 1, None)


def test_large_documents_and_many_frames(pair):
    a, b = pair
    rng = np.random.default_rng(1)
    words = rng.integers(0, 1 << 40, (3, 30_000)).astype(str)
    chunks = [ragstore.Chunk(start=at, end=at + 50) for at in range(0, 100_000, 50)]
    documents = [Document(" ".join(row), id=f"big{at}", chunks=chunks) for at, row in enumerate(words)]
    a["c"].add(documents, rng.random((6000, 2)))
    a.sync(b)
    equal(a, b)


@pytest.mark.parametrize(
    ("since", "message"),
    [
        ({"a": 1}, r"since\['a'\] is of type int; it must be a str"),
        ({1: "a"}, "a key of since is of type int; it must be a str"),
        (["a"], "since is of type list; it must be a mapping"),
    ],
)
def test_since_is_a_watermark(stores, since, message):
    with pytest.raises(TypeError, match=message):
        stores[0].export_changes(since)


def test_a_store_says_which_replica_it_is(pair, tmp_path):
    a, b = pair
    assert re.fullmatch("[0-9a-f]{32}", a.replica)
    assert a.replica != b.replica
    assert a.watermark().keys() == {a.replica, b.replica}
    a["c"].add(Document("cat", id="x"))
    b.sync(a)
    assert b.changes()[-1].replica == a.replica
    a.sync_folder(tmp_path / "folder")
    assert (tmp_path / "folder" / f"{a.replica}.mark").exists()
    before = a.replica
    a.renew_replica()
    assert a.replica != before


def test_a_sync_in_parts_goes_on(stores):
    a, b, _ = stores
    rows, dimension = 6000, 4096
    c = a.create_collection("c", dimension=dimension)
    # Three times what one batch takes, and nothing that gets shorter.
    vectors = np.random.default_rng(1).standard_normal((rows, dimension), np.float32)
    c.add([Document(chunks=[ragstore.Chunk(metadata={"n": n})]) for n in range(rows)], vectors)
    report = a.sync(b)
    assert report.sent == rows + 1
    assert b["c"].count() == rows
    assert a.sync(b).sent == 0
    equal(a, b)


def test_ctrl_c_and_fields(pair):
    a, b = pair
    b["c"].create_index("n")
    a["c"].add([Document("cat", id=f"d{n}", metadata={"n": n}) for n in range(20)])
    a.sync(b)
    assert b["c"].count({"n": {"$gte": 15}}) == 5
    assert b["c"].count({"updated_at": {"$gt": datetime.now(UTC) - timedelta(minutes=1)}}) == 20
    equal(a, b)
