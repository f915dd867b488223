"""Three writers of one file are killed again and again: what they acknowledged is whole, and nothing is partial."""

import os
import random
import selectors
import sqlite3
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import ragstore

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and pipes that select are POSIX"),
]

ROUNDS = 100 if os.environ.get("RAGSTORE_FAULTS") == "full" else 8
DOCUMENTS, CHUNKS, DIMENSION = 3, 2, 16

# What a transaction holds follows from its name, so that the checks need no word from the dead.
CONTENT = """
import numpy as np
from ragstore import Chunk, Document

def vectors(name, rows, dimension):
    seed = [ord(letter) for letter in name]
    return np.random.default_rng(seed).standard_normal((rows, dimension), np.float32)

def documents(name, count, chunks):
    return [
        Document(
            id=f"{name}-{d}",
            uri=f"file:{name}-{d}",
            metadata={"tx": name},
            chunks=[
                Chunk(f"{name} document{d} chunk{c} " + "padding " * 40, id=f"{name}-{d}-{c}") for c in range(chunks)
            ],
        )
        for d in range(count)
    ]
"""

WRITER = """
import itertools, os, sys
import ragstore

path, prefix, count, chunks, dimension = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
with ragstore.open(path) as store:
    collection = store["c"]
    os.write(1, b"ready\\n")
    for number in itertools.count():
        name = f"{prefix}n{number}"
        new, rows = documents(name, count, chunks), vectors(name, count * chunks, dimension)
        if number % 2:
            with store.transaction() as tx:
                for d, document in enumerate(new):
                    tx["c"].add(document, rows[d * chunks : (d + 1) * chunks])
        else:
            collection.add(new, rows)
        os.write(1, name.encode() + b"\\n")
"""

content: dict = {}
exec(CONTENT, content)


def run_round(path, number: int, acks: int) -> set[str]:
    """Starts three writers, kills them after so many acknowledgements, and returns every name that was acknowledged."""
    prefixes = [f"r{number}w{writer}" for writer in range(3)]
    sizes = [str(size) for size in (DOCUMENTS, CHUNKS, DIMENSION)]
    writers = [
        subprocess.Popen([sys.executable, "-c", CONTENT + WRITER, path, prefix, *sizes], stdout=subprocess.PIPE)
        for prefix in prefixes
    ]
    output = {writer.stdout: b"" for writer in writers}
    try:
        with selectors.DefaultSelector() as selector:
            for stream in output:
                selector.register(stream, selectors.EVENT_READ)
            # Of 0 it kills while the others open the file.
            while sum(text.count(b"\n") - text.startswith(b"ready\n") for text in output.values()) < acks or not any(
                output.values()
            ):
                for key, _ in selector.select(timeout=60) or pytest.fail("no writer says anything"):
                    some = os.read(key.fd, 1 << 16)
                    if not some:
                        pytest.fail("a writer ended by itself")
                    output[key.fileobj] += some
    finally:
        for writer in random.sample(writers, 3):
            writer.kill()
        for writer in writers:
            output[writer.stdout] += writer.stdout.read()
            writer.stdout.close()
            writer.wait()
    lines = b"".join(text[: text.rfind(b"\n") + 1] for text in output.values()).decode().split("\n")
    return set(lines) - {"", "ready"}


def check_transaction(collection, name: str) -> None:
    """One transaction is whole across rows, text index and vectors."""
    expected = content["documents"](name, DOCUMENTS, CHUNKS)
    for document in expected:
        stored = collection.get_document(document.id)
        assert (stored.uri, stored.metadata) == (document.uri, document.metadata)
        chunks = [(chunk.id, chunk.text) for chunk in collection.get_chunks(document.id)]
        assert chunks == [(chunk.id, chunk.text) for chunk in document.chunks]
    ids = [chunk.id for document in expected for chunk in document.chunks]
    assert sorted(collection.keyword_search(name, k=100).ids) == sorted(ids)
    rows = content["vectors"](name, len(ids), DIMENSION)
    np.testing.assert_array_equal(collection.get_embeddings(ids), rows)
    for hits, id in zip(collection.search_batch(rows, k=1, exact=True), ids, strict=True):
        assert hits.ids == [id]


def check_file(path) -> None:
    """The file is sound, and FTS5, vec0 and the rows hold the same chunks; SQLite is asked in another process."""
    code = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
rows = lambda text: [row[0] for row in connection.execute(text)]
assert rows("PRAGMA integrity_check") == ["ok"]
assert not rows("PRAGMA foreign_key_check")
(fts,) = rows("SELECT printf('fts_%d_%d', id, fts_generation) FROM collections")
(vec,) = rows("SELECT printf('vec_%d_%d', id, vec_generation) FROM spaces")
connection.execute(f"INSERT INTO {fts} ({fts}, rank) VALUES ('integrity-check', 1)")
chunks = rows("SELECT id FROM chunks ORDER BY id")
assert rows(f"SELECT id FROM {fts}_docsize ORDER BY id") == chunks
assert rows(f"SELECT rowid FROM {vec}_rowids ORDER BY rowid") == chunks
connection.close()
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def transactions(path) -> Counter[str]:
    """Documents of each transaction, read after the file was recovered."""
    with ragstore.open(path, create=False) as store:
        listed = store["c"].list_documents(limit=1 << 30)
        return Counter(document.metadata["tx"] for document in listed)


def test_nothing_acknowledged_is_lost_and_nothing_is_partial(path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    with ragstore.open(path) as store:
        store.create_collection("c", dimension=DIMENSION)
    acknowledged: set[str] = set()
    for number in range(ROUNDS):
        asked = 0 if number == 0 else chance.randint(0, 60)
        now = run_round(path, number, asked)
        assert len(now) >= asked
        acknowledged |= now
        found = transactions(path)
        assert acknowledged <= set(found), f"lost in round {number}"
        assert set(found.values()) <= {DOCUMENTS}, f"partial in round {number}"
        with ragstore.open(path, read_only=True) as store:
            collection = store["c"]
            assert len(collection) == len(found) * DOCUMENTS * CHUNKS
            # Of the others, those of this round that no writer lived to acknowledge.
            for name in found:
                if name.startswith(f"r{number}w"):
                    check_transaction(collection, name)
        check_file(path)
    assert len(acknowledged) > ROUNDS
    with ragstore.open(path, read_only=True) as store:
        for name in chance.sample(sorted(acknowledged), min(200, len(acknowledged))):
            check_transaction(store["c"], name)


@pytest.mark.parametrize("damage", ["document", "chunk", "words", "vector"])
def test_the_checks_see_what_is_missing(path, damage):
    """The control: each kind of loss, made by hand, is found."""
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=DIMENSION)
        rows = content["vectors"]("tx", DOCUMENTS * CHUNKS, DIMENSION)
        collection.add(content["documents"]("tx", DOCUMENTS, CHUNKS), rows)
        check_transaction(collection, "tx")
        if damage == "document":
            collection.delete(document_ids=["tx-1"])
        elif damage == "chunk":
            collection.delete(["tx-1-1"])
        elif damage == "vector":
            collection.delete_embeddings(["tx-1-1"])
    if damage == "words":
        connection = sqlite3.connect(path)
        connection.execute("DELETE FROM fts_1_1_data WHERE id > 10")
        connection.commit()
        connection.close()
    if damage == "document":
        assert transactions(path) == {"tx": DOCUMENTS - 1}
    if damage in {"words", "vector"}:
        with pytest.raises(AssertionError):
            check_file(path)
    with ragstore.open(path) as store, pytest.raises((AssertionError, AttributeError, ragstore.RagstoreError)):
        check_transaction(store["c"], "tx")
