"""A reader in another process keeps the log from being moved: it is told, then it is an end, then it is over."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
import pytest
import ragstore

MIB = 1 << 20
WARNING, LIMIT = 64 * MIB, 256 * MIB
# Each of the store's writes makes the log some 32 MiB longer.
ROWS, DIMENSION = 1024, 8192

# Python's own SQLite, with a read transaction that stays open.
READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
print(connection.execute("SELECT count(*) FROM documents").fetchone()[0], flush=True)
sys.stdin.read()
"""


@contextmanager
def pinned(path):
    """A process that reads a snapshot until the block ends."""
    reader = subprocess.Popen([sys.executable, "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert reader.stdout.readline()
        yield reader
    finally:
        reader.stdin.close()
        reader.stdout.close()
        reader.wait()


@pytest.fixture
def big(path):
    # An index that is built reads, too.
    with ragstore.open(path, durability="relaxed", timeout=0.3, derived="off") as store:
        yield store, store.create_collection("c", dimension=DIMENSION)


def grow(collection, number: int) -> None:
    """One document with so many chunks."""
    vectors = np.random.default_rng(number).standard_normal((ROWS, DIMENSION), np.float32)
    chunks = [ragstore.Chunk(id=f"{number}-{row}") for row in range(ROWS)]
    collection.add([ragstore.Document(id=str(number), chunks=chunks)], vectors)


def log(path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


def test_a_pinned_log_is_told_bounded_and_given_back(path, big, caplog):
    store, collection = big
    grow(collection, 0)
    assert log(path) <= WARNING
    with pinned(path) as reader:
        number = 1
        while log(path) <= WARNING:
            grow(collection, number)
            number += 1
        health = store.health()
        assert health.status == "degraded"
        assert any(f"process {reader.pid}" in what and "MiB" in what for what, _ in health.reasons)
        json.dumps(health.to_dict())
        with pytest.raises(ragstore.WalFullError, match=f"process {reader.pid}") as raised:
            for more in range(number, 100):
                grow(collection, more)
                number = more + 1
        assert "nothing of the call was stored" in str(raised.value)
        # Writes are answered before it is told; by now others came after them.
        (told,) = (record for record in caplog.records if record.event == "log_grown")
        assert (told.levelname, told.limit, told.readers) == ("WARNING", WARNING, [reader.pid])
        assert told.bytes > WARNING
        # One write past the limit, not two.
        assert LIMIT <= log(path) <= LIMIT + 40 * MIB
        assert store.health().status == "unhealthy"
        # Reads go on, small writes are refused as well, and neither waits for long.
        assert collection.count_documents() == number
        for refused in (lambda: collection.add("small"), store.optimize, store.vacuum):
            with pytest.raises(ragstore.WalFullError):
                refused()
        with pytest.raises(ragstore.LockedError, match=f"process {reader.pid}"):
            store.checkpoint("truncate")
        store.checkpoint()
    # The reader is gone: the next write finds room, and the log is cut before the one after it.
    collection.add("small")
    store.checkpoint()
    assert log(path) <= WARNING
    assert not [what for what, _ in store.health().reasons if "log" in what]
    grow(collection, 200)
    assert collection.count_documents() == number + 2


def test_what_waits_goes_on_when_the_reader_ends(path):
    """Writes wait for the log as they wait for a lock, and no longer than the timeout."""
    with ragstore.open(path, durability="relaxed", timeout=60) as store:
        collection = store.create_collection("c", dimension=DIMENSION)
        with pinned(path) as reader:
            number = 0
            while log(path) < LIMIT:
                grow(collection, number)
                number += 1

            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(collection.add, "small")
                assert not wait([waiting], timeout=0.2).done
                reader.stdin.close()
                assert waiting.result().added == 1
        assert collection.count_documents() == number + 1


def test_a_large_write_alone_is_no_concern(path, big):
    store, collection = big
    with store.transaction() as tx:
        for number in range(10):
            vectors = np.ones((ROWS, DIMENSION), np.float32)
            chunks = [ragstore.Chunk(id=f"{number}-{row}") for row in range(ROWS)]
            tx["c"].add([ragstore.Document(id=str(number), chunks=chunks)], vectors)
    # Behind the write in the writer's queue.
    store.checkpoint()
    assert log(path) <= WARNING
    assert store.health().reasons == [] or "free" in store.health().reasons[0].what
    collection.add("more")
