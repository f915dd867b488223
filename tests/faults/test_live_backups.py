"""Backups beside three writers are each one commit point; operations that are killed leave the store whole."""

import os
import subprocess
import sys

import pytest
import ragstore

from tests.faults import record

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL is POSIX"),
]

BACKUPS = record.size(12, 500)
KILLS = record.size(8, 200)
COLLECTIONS = ("a", "b", "c")

# Documents of each writer in each collection.
KEPT = 100

# Each transaction sets the writer's counter in every collection, adds a document of its number to each, and deletes the
# one that is too old.
WRITER = """
import itertools, os, sys
import numpy as np
import ragstore

path, name, kept = *sys.argv[1:3], int(sys.argv[3])
with ragstore.open(path, durability="relaxed") as store:
    for number in itertools.count(1):
        rows = np.full((2, 8), number, np.float32)
        with store.transaction() as tx:
            for collection in ("a", "b", "c"):
                counter = ragstore.Document(f"counter {name}", id=f"counter-{name}", metadata={"n": number})
                tx[collection].add(counter, rows[:1], on_conflict="replace")
                tx[collection].add(ragstore.Document(f"{name} row {number}", id=f"{name}-{number}"), rows[1:])
                tx[collection].delete(document_ids=[f"{name}-{number - kept}"])
        # What is acknowledged is known before the next begins.
        os.write(1, f"{number}\\n".encode())
"""


class Writer:
    """A process that writes until it is stopped, and what it said last."""

    def __init__(self, path, name: str) -> None:
        self.name, self.last = name, 0
        self.process = subprocess.Popen([sys.executable, "-c", WRITER, path, name, str(KEPT)], stdout=subprocess.PIPE)
        self.rest = b""
        self.hear(wait=True)

    def hear(self, *, wait: bool = False) -> int:
        """The last number that it acknowledged."""
        os.set_blocking(self.process.stdout.fileno(), wait)
        while some := self.process.stdout.read1(1 << 16) or b"":
            *whole, self.rest = (self.rest + some).split(b"\n")
            self.last = int(whole[-1]) if whole else self.last
            if wait and self.last:
                break
        return self.last

    def stop(self) -> None:
        self.process.kill()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def writers(path):
    with ragstore.open(path, durability="relaxed") as store:
        for name in COLLECTIONS:
            store.create_collection(name, dimension=8)
    started = []
    try:
        started.extend(Writer(path, f"w{number}") for number in range(3))
        yield started
    finally:
        for writer in started:
            writer.stop()


def counters(store, names) -> dict[str, int]:
    """The counter of each writer, the same in each collection, and as many documents as it says."""
    found = {}
    for name in names:
        stored = [store[collection].get_document(f"counter-{name}").metadata["n"] for collection in COLLECTIONS]
        assert len(set(stored)) == 1, f"{name} stands at {stored}"
        found[name] = stored[0]
    for collection in COLLECTIONS:
        listed = {document.id for document in store[collection].list_documents(limit=1 << 30)}
        expected = {
            f"{name}-{number}" for name, last in found.items() for number in range(max(last - KEPT, 0) + 1, last + 1)
        }
        assert listed == expected | {f"counter-{name}" for name in names}
        assert len(store[collection]) == len(listed)
        assert len(store[collection].vector_search([1.0] * 8, k=4096, exact=True)) == min(len(listed), 4096)
    for name, last in found.items():
        assert store["b"].keyword_search(f"{name} row {last}", k=1, syntax="phrase").ids
    return found


def test_each_backup_is_one_commit_point(path, writers, tmp_path):
    names = [writer.name for writer in writers]
    place = tmp_path / "backup.db"
    before = dict.fromkeys(names, 0)
    with record.Suite("live_backups", tmp_path) as suite, ragstore.open(path) as store:
        while suite.counts["backups"] < BACKUPS:
            acknowledged = {writer.name: writer.hear() for writer in writers}
            store.backup(place)
            assert {entry.name for entry in tmp_path.iterdir() if "backup" in entry.name} == {"backup.db"}
            with ragstore.open(place, read_only=True) as copy:
                found = counters(copy, names)
            for suffix in ("-wal", "-shm"):
                place.with_name(place.name + suffix).unlink()
            for writer in writers:
                # No older than what was acknowledged when it began, no newer than what is on its way now.
                assert acknowledged[writer.name] <= found[writer.name] <= writer.hear() + 1
                assert found[writer.name] >= before[writer.name]
            suite.counts["backups"] += 1
            suite.counts["commits beside them"] += sum(found.values()) - sum(before.values())
            before = found
            if suite.counts["backups"] % 10 == 0:
                # Else the feed of so many commits would soon be most of what is copied.
                store.optimize()
        assert all(writer.process.poll() is None for writer in writers)
        assert suite.counts["commits beside them"] > BACKUPS


OPERATION = """
import sys
import ragstore
path, operation, place = sys.argv[1:]
with ragstore.open(path, durability="relaxed") as store:
    print(1, flush=True)
    while True:
        if operation == "backup":
            store.backup(place)
        elif operation == "checkpoint":
            store.checkpoint("truncate")
        else:
            getattr(store, operation)()
"""


def test_a_killed_operation_leaves_the_store_whole(path, writers, tmp_path):
    names = [writer.name for writer in writers]
    place = tmp_path / "backup.db"
    with record.Suite("killed_operations", tmp_path) as suite:
        for number in range(KILLS):
            operation = ["optimize", "vacuum", "checkpoint", "backup"][number % 4]
            command = [sys.executable, "-c", OPERATION, path, operation, place]
            other = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert other.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(suite.chance.uniform(0, 0.3))
            other.kill()
            other.stdout.close()
            other.wait()
            acknowledged = {writer.name: writer.hear() for writer in writers}
            assert all(writer.process.poll() is None for writer in writers)
            with ragstore.open(path) as store:
                store.backup(tmp_path / "whole.db")
            for file in ("whole.db", "backup.db") if place.exists() else ("whole.db",):
                with ragstore.open(tmp_path / file) as copy:
                    found = counters(copy, names)
                if file == "whole.db":
                    assert all(found[name] >= last for name, last in acknowledged.items()), operation
            suite.counts["kills"] += 1
