"""What must not be lost, and must not come back, where stores did not know of each other's changes."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import ragstore
from ragstore import Chunk, Document, SyncError

from tests.helpers.replicas import answers, clock, equal, three_stores


@pytest.fixture
def stores(tmp_path):
    """Three stores on disk, two of which share a collection."""
    with three_stores(tmp_path) as opened:
        opened[0].create_collection("c", dimension=2)
        opened[0].sync(opened[1])
        yield opened


def send(a, b):
    return b.apply_changes(a.export_changes(since=b.watermark()))


def texts(store):
    return {document.id: document.text for document in store["c"].list_documents()}


@pytest.mark.parametrize("again", [False, True])
def test_a_space_that_was_deleted_does_not_come_back_with_older_vectors(stores, again):
    a, b, _ = stores
    a["c"].create_space("alt", dimension=2)
    a.sync(b)
    a["c"].add(Document(id="x", chunks=[Chunk("cat", id="k")]), [[1, 2]])
    a["c"].set_embeddings(["k"], [[1, 1]], space="alt")
    with clock(1):
        b["c"].delete_space("alt")
        if again:
            b["c"].create_space("alt", dimension=2)
        send(a, b)
        spaces = ["default", "alt"] if again else ["default"]
        assert [space.name for space in b["c"].list_spaces()] == spaces
        with pytest.raises(ragstore.NotFoundError):
            b["c"].get_embeddings(["k"], space="alt")
        send(b, a)
        assert [space.name for space in a["c"].list_spaces()] == spaces
        assert a.sync(b).applied == 0
    equal(a, b)


def test_a_space_that_ended_before_its_collection_does_not_come_back_with_it(stores):
    a, b, _ = stores
    b["c"].create_space("alt", dimension=2)
    b.sync(a)
    a["c"].add(Document(id="x", chunks=[Chunk("cat", id="k")]))
    a["c"].set_embeddings(["k"], [[1, 1]], space="alt")
    with clock(1):
        b["c"].delete_space("alt")
        send(b, a)
        a.delete_collection("c")
        with clock(2):
            b["c"].add(Document("cat", id="later"))
            a.sync(b)
            assert [space.name for space in a["c"].list_spaces()] == ["default"]
            assert texts(a) == {"later": "cat"}
            equal(a, b)


def test_a_uri_that_moves_within_one_add(stores):
    a, b, _ = stores
    a["c"].add(
        [Document("cat 1", id="x", uri="u"), Document("cat 2", id="x", uri="v"), Document("cat 3", id="z", uri="u")],
        on_conflict="replace",
    )
    a.sync(b)
    assert texts(b) == texts(a) == {"x": "cat 2", "z": "cat 3"}
    equal(a, b)


def test_expiry_does_not_win_over_a_change_that_it_did_not_know(stores):
    a, b, _ = stores
    soon = datetime.now(UTC) + timedelta(seconds=20)
    a["c"].add([Document("cat", id="x", uri="u", expires_at=soon), Document("cat", id="y", expires_at=soon)])
    a.state().set("k", 1, expires_at=soon)
    a.sync(b)
    b["c"].add(Document("cat that stays", id="x", uri="u"), on_conflict="replace")
    b.state()["k"] = 2
    with clock(50):
        assert a["c"].expire() == 2
        a.optimize()
        assert "k" not in a.state()
        a.sync(b)
        assert texts(a) == texts(b) == {"x": "cat that stays"}
        assert a.state()["k"] == b.state()["k"] == 2
        # Who has expired rows still answers the same.
        assert answers(a, ["cat"]) == answers(b, ["cat"])
        b["c"].expire()
        equal(a, b)


def test_the_feed_tells_of_relations_that_lost_an_end(stores):
    a, b, _ = stores
    a["c"].add([Document("cat", id="x"), Document("dog", id="y")])
    a.sync(b)
    b["c"].relate("x", "y", "likes")

    def relations(head):
        return [(change.op, change.id) for change in b.changes(head) if change.entity == "relation"]

    a["c"].delete(document_ids=["y"])
    head = b.last_change()
    send(a, b)
    assert relations(head) == [("delete", ("x", "likes", "y"))]
    head = b.last_change()
    b["c"].add(Document("dog", id="y"))
    assert relations(head) == [("put", ("x", "likes", "y"))]
    with clock(1):
        a.delete_collection("c")
        a.create_collection("c", dimension=2).add(Document("cat", id="x"))
    with clock(2):
        b["c"].add(Document("cat", id="z"))
        head = b.last_change()
        send(a, b)
        assert relations(head) == [("delete", ("x", "likes", "y"))]


def test_a_relation_does_not_wait_for_ever(stores):
    a, b, _ = stores
    a["c"].add([Document("cat", id="x"), Document("dog", id="y")])
    a.sync(b)
    a["c"].relate("x", "y", "likes")

    def waiting(store):
        with closing(sqlite3.connect(store.path)) as connection:
            return connection.execute("SELECT source, target FROM waiting_relations").fetchall()

    day = 24 * 3600
    with clock(100 * day):
        b["c"].delete(document_ids=["y"])
        a.sync(b)
        for store in (a, b):
            store.optimize()
            # It is old, and waits since now.
            assert waiting(store) == [("x", "y")]
    with clock(191 * day):
        a.optimize()
        b["c"].add(Document("dog", id="y"))
        assert (waiting(a), waiting(b)) == ([], [])
        assert len(b["c"].relations("x")) == 1


def test_a_new_tokenizer_and_the_end_of_a_space_come_together(stores):
    a, b, _ = stores
    a["c"].create_space("alt", dimension=2)
    a["c"].add(Document("cats", id="x"))
    a.sync(b)
    with clock(1):
        b["c"].delete_space("alt")
        b["c"].create_space("alt", dimension=2)
        b["c"].set_tokenizer("unicode61")
    ids = [chunk.id for chunk in a["c"].get_chunks("x")]
    a["c"].set_embeddings(ids, [[1.0, 2.0]], space="alt")
    with clock(2):
        a["c"].add(Document("dogs", id="y"))
        a["c"].set_embeddings([chunk.id for chunk in a["c"].get_chunks("y")], [[1.0, 2.0]], space="alt")
        send(b, a)
        assert a["c"].keyword_search("cats").ids == ids
        assert a["c"].keyword_search("cat").ids == []
        a.sync(b)
    equal(a, b)


class TestReclock:
    """After a clock that ran ahead nothing that is written is taken for known."""

    def test_where_another_store_has_what_is_given_up(self, stores):
        a, b, _ = stores
        with clock(3600):
            a["c"].add(Document("cat", id="x"))
            send(a, b)
        assert a.reclock() == 1
        a["c"].add(Document("dog", id="y"))
        with pytest.raises(SyncError, match="reclock"):
            send(a, b)
        a.renew_replica()
        send(a, b)
        assert texts(b) == {"x": "cat", "y": "dog"}
        with clock(3600):
            a.sync(b)
            equal(a, b)

    def test_what_is_written_is_later_than_what_a_peer_knows(self, stores):
        a, b, _ = stores
        with clock(300):
            b["c"].add(Document("owl", id="o"))
            # Now a's clock has gone past that change, and b knows of a up to there.
            for one, other in ((b, a), (a, b), (b, a)):
                one.sync(other)
            a["c"].add(Document("dog", id="y"))
        assert a.reclock() == 1
        a["c"].add(Document("bird", id="z"))
        with clock(400):
            a.sync(b)
            assert texts(b) == {"o": "owl", "y": "dog", "z": "bird"}
            equal(a, b)


class TestRepaired:
    """What was salvaged of a damaged file is another replica, which keeps what it knows of names."""

    def repaired(self, store, tmp_path):
        store.close()
        ragstore.repair(store.path, tmp_path / "salvaged.db")
        return ragstore.open(tmp_path / "salvaged.db")

    def test_it_syncs(self, stores, tmp_path):
        a, b, _ = stores
        a["c"].add([Document("cat one", id="one", uri="u"), Document("dog", id="gone", uri="v")])
        with clock(1):
            b["c"].add(Document("cat two", id="two", uri="u"))
            b["c"].create_space("alt", dimension=2)
            a.sync(b)
            b["c"].relate("two", "gone", "likes")
            a["c"].delete(document_ids=["gone"])
            a["c"].delete_space("alt")
            a["c"].create_space("alt", dimension=3)
            b.sync(a)
            before = answers(b, ["cat"])
            with self.repaired(b, tmp_path) as salvaged:
                assert not salvaged.check().problems
                assert answers(salvaged, ["cat"]) == before
                assert salvaged["c"].get_document("one").id == "two"
                salvaged["c"].add(Document("cat new", id="new"))
                a["c"].add(Document("dog again", id="gone"))
                salvaged.sync(a)
                assert len(salvaged["c"].relations("two")) == 1
                equal(a, salvaged)

    def test_it_does_not_bring_back_what_is_forgotten(self, stores, tmp_path):
        a, b, _ = stores
        a["c"].add(Document("cat", id="x"))
        a.sync(b)
        a["c"].delete(document_ids=["x"])
        with clock(91 * 24 * 3600):
            a.optimize()
            with self.repaired(b, tmp_path) as salvaged:
                for one, other in ((salvaged, a), (a, salvaged)):
                    with pytest.raises(SyncError, match="fresh copy"):
                        one.sync(other)
            assert texts(a) == {}


def test_one_that_only_reads_is_no_stranger_after_months(stores):
    a, b, _ = stores
    a["c"].add([Document("cat", id="x"), Document("dog", id="y")])
    a["c"].delete(document_ids=["x"])
    send(a, b)
    with clock(100 * 24 * 3600):
        for store in (a, b):
            store.optimize()
        send(a, b)
        b["c"].add(Document("bird", id="z"))
        send(b, a)
        assert texts(a) == texts(b) == {"y": "dog", "z": "bird"}
