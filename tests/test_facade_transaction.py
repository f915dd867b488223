"""Writes that are committed as one."""

import inspect

import numpy as np
import pytest
import ragstore
from ragstore import Chunk, Document

AXES = np.eye(3, dtype=np.float32)


def test_writes_on_several_collections_are_one_commit(ragstore_store):
    a, b = ragstore_store.create_collection("a"), ragstore_store.create_collection("b")
    a.add_texts(["old", "kept"], AXES[:2], ids=["old", "kept"])
    b.add("gone")
    with ragstore_store.transaction() as tx:
        added = tx["a"].add([Document("one", id="d"), "two"], AXES[:2])
        texts = tx["a"].add_texts(["three"], ids=["t"])
        chunks = tx["a"].add_chunks("d", [Chunk("more", id="m")])
        embeddings = tx["a"].set_embeddings(["t"], AXES[2:])
        nothing = tx["a"].set_embeddings([], AXES[:0])
        unembedded = tx["a"].delete_embeddings(["kept"])
        updated = tx["a"].update_metadata({"n": 1}, chunk_ids=["t", "m"])
        deleted = tx.collection("a").delete(["old", "nothing"])
        cleared = tx["b"].clear()
        for pending in (added, texts, cleared):
            with pytest.raises(RuntimeError, match="once the transaction is committed"):
                pending.result  # noqa: B018
        assert repr(added) == "Pending()"
        assert (a.count(), b.count()) == (2, 1)
    assert added.result.added == 2
    assert added.result.document_ids[0] == "d"
    assert texts.result == ["t"]
    assert chunks.result == ["m"]
    assert embeddings.result is nothing.result is cleared.result is None
    assert (unembedded.result, updated.result, deleted.result) == (1, 2, 1)
    assert (a.count(), b.count()) == (5, 0)
    assert a.vector_search(AXES[2], k=1).ids == ["t"]
    assert a.get("m").metadata == {"n": 1}
    assert "3" in repr(updated) or "2" in repr(updated)


def test_an_exception_in_the_block_commits_nothing(ragstore_store, collection):
    def block():
        with ragstore_store.transaction() as tx:
            queued.append(tx["notes"].add("text"))
            raise LookupError

    queued = []
    with pytest.raises(LookupError):
        block()
    assert collection.count() == 0
    with pytest.raises(RuntimeError):
        queued[0].result  # noqa: B018


def test_one_that_fails_takes_all_along(ragstore_store, collection):
    collection.add_texts(["old"], AXES[:1], ids=["x"])
    for bad in (
        lambda tx: tx["notes"].add_texts(["new"], ids=["x"]),
        lambda tx: tx["nothing"].add("a"),
        lambda tx: tx["notes"].add("b", [[np.nan, 0, 0]]),
        lambda tx: tx["notes"].add("b", [[1.0, 0.0]]),
    ):
        with pytest.raises(ragstore.RagstoreError), ragstore_store.transaction() as tx:
            first = tx["notes"].add("fine")
            bad(tx)
        with pytest.raises(RuntimeError):
            first.result  # noqa: B018
    assert collection.count() == 1


def test_arguments_are_refused_when_they_are_queued(ragstore_store, collection):
    with ragstore_store.transaction() as tx:
        for call, error in (
            (lambda: tx[3], TypeError),
            (lambda: tx["notes"].add(3), TypeError),
            (lambda: tx["notes"].add("a", [[1.0], [2.0, 3.0]]), ragstore.InvalidVectorError),
            (tx["notes"].delete, TypeError),
            (lambda: tx["notes"].delete(where={"$x": 1}), ragstore.FilterError),
            (lambda: tx["notes"].add("a", on_conflict="maybe"), ValueError),
        ):
            with pytest.raises(error):
                call()
        tx["notes"].add("fine")
    assert collection.count() == 1


@pytest.mark.parametrize("rows", [2, 30_000])
def test_arrays_are_copied_when_they_are_queued(ragstore_store, collection, rows):
    values = np.ones((rows, 16), np.float32)
    with ragstore_store.transaction() as tx:
        pending = tx["notes"].add_texts(["x"] * rows, values)
        values[:] = np.nan
        values.resize((1, 1), refcheck=False)
    assert (collection.get_embeddings(pending.result[-2:]) == 1).all()


def test_a_transaction_is_used_once_and_inside_its_block(ragstore_store, collection):
    with ragstore_store.transaction() as tx:
        notes = tx["notes"]
    with pytest.raises(RuntimeError, match="inside its block"):
        notes.add("late")
    with pytest.raises(RuntimeError, match="used once"), tx:
        pass
    with pytest.raises(RuntimeError, match="inside its block"):
        ragstore_store.transaction()["notes"].add("early")
    assert collection.count() == 0


def test_an_empty_transaction_writes_nothing(path):
    ragstore.open(path).close()
    with ragstore.open(path, read_only=True) as store, store.transaction():
        pass


def test_the_writing_calls_are_those_of_a_collection():
    ours, theirs = ragstore.TransactionCollection, ragstore.Collection
    names = [n for n, v in vars(ours).items() if inspect.isfunction(v) and not n.startswith("_")]
    assert len(names) == 10
    for name in names:
        mine = inspect.signature(getattr(ours, name)).parameters
        whole = inspect.signature(getattr(theirs, name)).parameters
        assert {n: p.default for n, p in mine.items()} == {
            n: p.default for n, p in whole.items() if n not in ("commit_every", "progress")
        }
