"""Half of a collection is replaced again and again, then searched for long: neither the file nor the process grows."""

import os
import random
import sys
from pathlib import Path

import pytest
import ragstore

from tests.faults import oracle, record
from tests.faults.server import Server
from tests.helpers.churn import DIMENSION, churned, documents, vectors

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is asked of /proc"),
]

DOCUMENTS = record.size(400, 2_000)
ROUNDS = 20
SEARCHES = record.size(4_000, 1_000_000)
# Of the searches, until caches are full and the allocator has what it needs.
WARM = 0.1
MOST = 4 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def search(path: str, seed: int, count: int, report: str) -> None:
    """Searches of every kind, one after the other; reports by how much memory grew."""
    chance = random.Random(seed)
    queries = vectors(seed, 64)
    filters = [None, {"n": {"$lt": 100}}, {"version": {"$gte": 15}}, {"n": {"$in": list(range(50))}}]
    with ragstore.open(path, read_only=True) as store:
        collection = store["c"]
        before = 0
        for number in range(count):
            if number == int(count * WARM):
                before = resident()
            words = " ".join(f"w{chance.randrange(5000)}" for _ in range(3))
            query, where = queries[chance.randrange(64)], chance.choice(filters)
            kind = number % 3
            if kind == 0:
                collection.keyword_search(words, k=10, where=where)
            elif kind == 1:
                collection.vector_search(query, k=10, where=where)
            else:
                collection.search(words, vector=query, k=10, where=where)
        Path(report).write_text(str(resident() - before))


def test_churn(path, tmp_path):
    with record.Suite("churn", tmp_path) as suite:
        with ragstore.open(path, durability="relaxed") as store:
            versions = churned(store, DOCUMENTS, ROUNDS)
            suite.counts["documents replaced"] += ROUNDS * (DOCUMENTS // 2)
            store.optimize()
        with ragstore.open(tmp_path / "fresh.db", durability="relaxed") as fresh:
            collection = fresh.create_collection("c", dimension=DIMENSION)
            collection.create_index("n")
            new = [documents([number], version)[0] for number, version in versions.items()]
            collection.add(new, vectors(0, len(new)))
        size, smallest = path.stat().st_size, (tmp_path / "fresh.db").stat().st_size
        suite.counts["per cent of a fresh file"] = round(100 * size / smallest)
        oracle.check_file(path)
        assert size <= 1.3 * smallest
        report = tmp_path / "report"
        with Server(__name__) as server:
            assert server.run(search, str(path), suite.seed % 1000, SEARCHES, str(report)) == 0
        grown = int(report.read_text())
        suite.counts["searches"] += SEARCHES
        suite.counts["KiB that the process grew by"] = max(0, grown >> 10)
        assert grown < MOST, f"{grown >> 10} KiB in {SEARCHES} searches"
