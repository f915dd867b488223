"""What lost to a change that was made without knowing of it is listed, once, and nothing else is."""

import contextlib
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
import ragstore
from ragstore import Chunk, Document

from tests.helpers.replicas import clock, equal, three_stores


@pytest.fixture
def stores(tmp_path):
    """Three stores on disk, two of which share a collection."""
    with three_stores(tmp_path) as opened:
        opened[0].create_collection("c", dimension=2)
        opened[0].sync(opened[1])
        yield opened


@pytest.fixture(params=["a", "b"])
def merge(request):
    """Have one of two stores merge the changes of the other, and give what that one lists."""

    def merge(a, b):
        one, other = (a, b) if request.param == "a" else (b, a)
        report = one.apply_changes(other.export_changes(one.watermark()))
        found = one.conflicts()
        assert report.conflicts == len(found)
        return {(lost.entity, lost.id, lost.kept == ("own" if one is a else "other")) for lost in found}

    return merge


class TestDeletions:
    """Whichever of the two is later, and whichever store merges; True: what the first store did stays."""

    @pytest.mark.parametrize("deleted_later", [False, True])
    def test_of_a_state_value(self, stores, merge, deleted_later):
        a, b, _ = stores
        a.state()["k"] = 1
        a.sync(b)
        with clock(1 if deleted_later else 3):
            b.state()["k"] = 2
        with clock(2):
            del a.state()["k"]
        with clock(4):
            assert merge(a, b) == {("state", ("default", "k"), deleted_later)}
            a.sync(b)
            assert dict(a.state()) == dict(b.state()) == ({} if deleted_later else {"k": 2})
            equal(a, b)

    @pytest.mark.parametrize("deleted_later", [False, True])
    def test_of_a_relation(self, stores, merge, deleted_later):
        a, b, _ = stores
        a["c"].add([Document("cat", id="x"), Document("dog", id="y")])
        a["c"].relate("x", "y", "likes", strength=0.5)
        a.sync(b)
        with clock(1 if deleted_later else 3):
            b["c"].relate("x", "y", "likes", strength=0.25)
        with clock(2):
            a["c"].unrelate("x", "y")
        with clock(4):
            assert merge(a, b) == {("relation", ("x", "likes", "y"), deleted_later)}
            a.sync(b)
            equal(a, b)

    @pytest.mark.parametrize("receiver", ["a", "b"])
    def test_of_a_collection_with_what_is_in_it(self, stores, receiver):
        a, b, _ = stores
        a["c"].add([Document("cat", id="x"), Document("dog", id="y"), Document("owl", id="z")])
        a.sync(b)
        b["c"].add(Document("cats", id="x"), on_conflict="replace")
        b["c"].relate("y", "z", "likes")
        b["c"].create_space("alt")
        with clock(1):
            a.delete_collection("c")
            one, other = (a, b) if receiver == "a" else (b, a)
            report = one.apply_changes(other.export_changes(one.watermark()))
            assert report.conflicts == len(one.conflicts())
            found = {(lost.entity, lost.id) for lost in one.conflicts()}
            assert {lost.kept for lost in one.conflicts()} == {"own" if one is a else "other"}
            whole = {("collection", "c")}
            assert found == ({*whole, ("document", "x"), ("relation", ("y", "likes", "z"))} if one is a else whole)
            a.sync(b)
            assert b.list_collections() == []
            equal(a, b)

    @pytest.fixture
    def edited(self, stores):
        """`b` edited what `a` has, and both have something later of a third store."""
        a, b, c = stores
        a["c"].add([Document("cat", id="x"), Document("dog", id="y")])
        a.sync(b)
        b["c"].add(Document("cats", id="x"), on_conflict="replace")
        b["c"].relate("x", "y", "likes")
        with clock(1):
            c.sync(a)
            c["c"].add(Document("owl", id="z"))
            for store in (a, b):
                store.apply_changes(c.export_changes(store.watermark()))
        with clock(2):
            a.delete_collection("c")
        return a, b

    def test_of_a_collection_of_which_only_something_earlier_was_not_known(self, edited):
        a, b = edited
        with clock(3):
            assert b.apply_changes(a.export_changes(b.watermark())).conflicts == 1
            assert [(lost.entity, lost.id, lost.kept) for lost in b.conflicts()] == [("collection", "c", "other")]
            a.sync(b)
            assert b.list_collections() == []
            equal(a, b)

    def test_of_a_collection_that_stays_for_something_later(self, edited):
        a, b = edited
        with clock(3):
            b["c"].add(Document("bird", id="later"))
            assert b.apply_changes(a.export_changes(b.watermark())).conflicts == 3
            assert {(lost.entity, lost.id, lost.kept) for lost in b.conflicts()} == {
                ("collection", "c", "own"),
                ("document", "x", "other"),
                ("relation", ("x", "likes", "y"), "other"),
            }
            a.sync(b)
            assert [document.id for document in a["c"].list_documents()] == ["later"]
            equal(a, b)

    @pytest.mark.parametrize("again", [False, True])
    def test_of_a_space(self, stores, merge, again):
        a, b, _ = stores
        a["c"].create_space("alt", dimension=2)
        a["c"].add([Document(id=name, chunks=[Chunk("cat", id=f"k{name}")]) for name in "xyz"])
        a["c"].set_embeddings(["ky"], [[1, 1]], space="alt")
        a.sync(b)
        b["c"].set_embeddings(["kx"], [[1, 1]], space="alt")
        b["c"].add(Document("dog", id="w"))
        with clock(1):
            a["c"].delete_space("alt")
            if again:
                a["c"].create_space("alt", dimension=2)
            assert merge(a, b) == {("document", "x", True)}
            a.sync(b)
            equal(a, b)


class TestEqual:
    def test_writes_of_the_same(self, stores, merge):
        a, b, _ = stores
        later = datetime.now(UTC) + timedelta(days=1)
        a["c"].add([Document("cat", id="x"), Document("dog", id="y")])
        a.sync(b)
        for seconds, store in [(0, a), (1, b)]:
            with clock(seconds):
                store["c"].relate("x", "y", "likes", strength=0.5, metadata={"p": 1, "q": 2})
                store["c"].relate("x", "y", "other", strength=0.5 if store is a else 0.25)
                store["c"].relate("y", "x", "other", metadata={"n": 1 if store is a else 2})
                store.state().set("same", {"p": 1, "q": [2]} if store is a else {"q": [2], "p": 1})
                store.state().set("value", 1 if store is a else 2)
                store.state().set("expiry", 1, expires_at=later if store is a else None)
        with clock(2):
            assert merge(a, b) == {
                ("relation", ("x", "other", "y"), False),
                ("relation", ("y", "other", "x"), False),
                ("state", ("default", "value"), False),
                ("state", ("default", "expiry"), False),
            }
            a.sync(b)
            equal(a, b)

    def test_what_has_expired_is_nobodys_loss(self, stores):
        a, b, _ = stores
        soon = datetime.now(UTC) + timedelta(seconds=20)
        a.state().update({"put": 1, "gone": 1})
        a.sync(b)
        a.state().set("put", 2, expires_at=soon)
        a.state().set("gone", 2, expires_at=soon)
        b.state()["put"] = 3
        del b.state()["gone"]
        with clock(30):
            assert a.apply_changes(b.export_changes(a.watermark())).conflicts == 0

    def test_a_copy_in_which_nothing_changed(self, stores, tmp_path):
        a, b, _ = stores
        c = a["c"]
        later = datetime.now(UTC) + timedelta(days=1)
        c.create_space("alt", dimension=2)
        c.add([Document("cat", id="x", uri="u"), Document("dog", id="y")], [[1, 2], [3, 4]])
        with clock(1):
            b["c"].add(Document("owl", id="z", uri="u"))
            a.sync(b)
            for name in ("twice", "space"):
                c.add(Document("bird", id=name, uri=name))
                c.delete(document_ids=[name])
            c.add(Document("bird", id="twice", uri="twice"))
            c.relate("y", "z", "likes", metadata={"n": 1})
            c.relate("y", "z", "hates")
            c.unrelate("y", "z", "hates")
            c.delete_space("alt")
            c.create_space("alt", dimension=2)
            c.set_embeddings([c.get_chunks("y")[0].id], [[1, 2]], space="alt")
            a.state().set("k", 1, expires_at=later)
            a.state()["gone"] = 1
            del a.state()["gone"]
            for _ in range(2):
                a.create_collection("again").add(Document("cat", id="x"))
                a.delete_collection("again")
            a.create_collection("again").add(Document("cat", id="x"))
            path, before = a.path, a.conflicts()
            a.close()
            shutil.copy(path, tmp_path / "copy.db")
            with ragstore.open(path) as a, ragstore.open(tmp_path / "copy.db") as copy:
                copy.renew_replica()
                report = a.sync(copy)
                assert a.conflicts() == copy.conflicts() == before
                assert report.conflicts == 0
                equal(a, copy)

    @pytest.mark.parametrize("later", ["a", "b"])
    def test_one_corpus_that_both_added(self, stores, merge, later):
        a, b, _ = stores
        vectors = [[i + 1, 1] for i in range(5)]
        for store in (a, b):
            with clock(1 if store is (a if later == "a" else b) else 0):
                store["c"].add([Document(f"cat {i}", uri=f"u{i}") for i in range(5)], vectors)
        with clock(2):
            assert merge(a, b) == set()
            assert a.sync(b).conflicts == 0
            assert a.conflicts() == b.conflicts() == []
            assert a["c"].count() == b["c"].count() == 5
            equal(a, b)

    @pytest.mark.parametrize("later", ["a", "b"])
    def test_one_corpus_of_which_some_differs(self, stores, merge, later):
        a, b, _ = stores
        ids = {}
        for store in (a, b):
            with clock(1 if store is (a if later == "a" else b) else 0):
                added = store["c"].add(
                    [
                        Document("cat", uri="same"),
                        Document("cat" if store is a else "dog", uri="text"),
                        Document("cat", uri="vector"),
                        Document("cat", uri="metadata", metadata={"n": store is a}),
                    ],
                    [[1, 1], [1, 2], [1, 3] if store is a else [3, 1], [1, 4]],
                )
                ids["a" if store is a else "b"] = added.document_ids
        lost = ids["b" if later == "a" else "a"]
        with clock(2):
            assert merge(a, b) == {("document", id, later == "a") for id in lost[1:]}
            a.sync(b)
            equal(a, b)

    def test_the_own_document_and_that_of_the_uri(self, stores):
        a, b, _ = stores
        a["c"].add(Document("cat", id="x"))
        a.sync(b)
        a["c"].add(Document("dog", id="y", uri="u"))
        a["c"].update_metadata({"n": 1}, document_ids=["x"])
        with clock(1):
            b["c"].add(Document("dog", id="x", uri="u"), on_conflict="replace")
            assert a.apply_changes(b.export_changes(a.watermark())).conflicts == 1
            assert [lost.id for lost in a.conflicts()] == ["x"]
            a.sync(b)
            equal(a, b)

    def test_token_counts_are_of_a_document_and_ids_of_chunks_are_not(self, stores, merge):
        a, b, _ = stores
        a["c"].add([Document("cat", id="x"), Document("dog", id="y")])
        a.sync(b)
        for seconds, store in [(0, a), (1, b)]:
            with clock(seconds):
                store["c"].delete(document_ids=["x", "y"])
                store["c"].add(
                    [
                        Document(id="x", chunks=[Chunk("cat", id="k", token_count=seconds)]),
                        Document(id="y", chunks=[Chunk("dog", id=f"k{seconds}")]),
                    ]
                )
        with clock(2):
            assert merge(a, b) == {("document", "x", False)}
            a.sync(b)
            equal(a, b)


class TestOnce:
    def conflict(self, a, b):
        a["c"].add(Document("cat", id="x"))
        a.sync(b)
        a["c"].add(Document("cat a", id="x"), on_conflict="replace")
        a.create_collection("settings", settings={"n": 1})
        with clock(1):
            b["c"].add(Document("cat b", id="x"), on_conflict="replace")
            b.create_collection("settings", settings={"n": 2})

    def test_in_parts_that_come_again(self, stores, tmp_path):
        a, b, c = stores
        self.conflict(a, b)
        with clock(2):
            # No two bytes of it can be told from chance: the export is in parts.
            random = Random(1)
            b["c"].add([Document(id=f"d{i}", metadata={"m": random.randbytes(450_000).hex()}) for i in range(40)])
            b.sync_folder(tmp_path / "folder")
            parts = sorted((tmp_path / "folder").glob("*.batch"))
            assert len(parts) == 2
            for again in range(2):
                report = a.apply_changes(parts[0].read_bytes())
                assert report.conflicts == (2 if again == 0 else 0)
            assert a.apply_changes(parts[1].read_bytes()).conflicts == 0
            assert len(a.conflicts()) == 2
            report = c.sync(b)
            assert report.received == b.sync_log()[0].report.sent


def test_what_is_sent_is_what_is_received(stores):
    a, b, _ = stores

    def agree():
        report, mirrored = a.sync(b), b.sync_log()[0].report
        assert (report.sent, report.received) == (mirrored.received, mirrored.sent)
        return report.sent

    a["c"].add([Document("cat", id="x", uri="u"), Document("dog", id="y", uri="v")])
    assert agree() == 2
    a["c"].delete(document_ids=["x"])
    assert agree() == 1
    a["c"].create_space("alt")
    assert agree() == 1
    a["c"].delete_space("alt")
    assert agree() == 2
    a["c"].relate("y", a["c"].get_chunks("y")[0].id, "has")
    a.state()["k"] = 1
    assert agree() == 2
    a.delete_collection("c")
    a.create_collection("c").add(Document("cat", id="z"))
    assert agree() == 3
    a["c"].create_space("alt", dimension=2)
    b["c"].add(Document("cat", id="w"))
    a["c"].set_embeddings([a["c"].get_chunks("z")[0].id], [[1, 2]], space="alt")
    agree()
    a.delete_collection("c")
    assert agree() == 1
    equal(a, b)
    with contextlib.closing(sqlite3.connect(a.path)) as connection:
        assert connection.execute("SELECT count(*) FROM collections").fetchone() == (0,)
