"""Derived indexes: where they are, what they answer, and that nobody ever waits for them or is misled by them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ragstore
import ragstore.store

# From one row on, built anew for each change, and waited for.
ALWAYS = (0, 0, True)
# Built once and followed from then on.
ONCE = (0, 2**62, True)
SOON = (1, 2**62, True)
NEVER = (2**62, 2**62, True)


@pytest.fixture
def index_at(monkeypatch):
    return lambda value: monkeypatch.setattr(ragstore.store, "_INDEX_AT", value)


def fill(collection, first, last, dimension=8):
    rng = np.random.default_rng(first)
    texts = [f"chunk {n} of {n % 7} and {n % 11}" for n in range(first, last)]
    ids = [str(n) for n in range(first, last)]
    metadatas = [{"n": n % 10} for n in range(first, last)]
    collection.add_texts(texts, rng.standard_normal((last - first, dimension)), ids=ids, metadatas=metadatas)


def answers(collection):
    query = np.linspace(-1, 1, 8)
    hits = [
        collection.vector_search(query, k=20, exact=True),
        collection.vector_search(query, k=20, where={"n": {"$lt": 3}}, exact=True),
        *(
            collection.keyword_search("chunk 3 of", k=20, syntax=syntax)
            for syntax in ("natural", "all", "phrase", "prefix", "fts5")
        ),
        collection.keyword_search("chunk 5", k=20, where={"n": 4}),
        collection.search("chunk 3", vector=query, k=20, exact=True),
        *collection.search_batch([query, -query], k=5, exact=True),
    ]
    return [[(hit.id, hit.score, hit.distance) for hit in some] for some in hits]


def folder(path):
    return path.with_name(path.name + "-index")


def snapshots(path):
    return sorted(folder(path).glob("*.index"))


def scans(collection):
    """How a vector and a keyword search go."""
    plan = collection.search("chunk", vector=[1.0] * 8, explain=True).plan
    return plan["vector"]["scan"], "index" in plan["keyword"]


INDEXED = ("codes", True)
TABLES = ("blocks", False)


@pytest.fixture
def plain(path):
    """What the tables alone answer."""

    def ask():
        with ragstore.open(path, read_only=True, derived="off") as store:
            assert scans(store["c"]) == TABLES
            return answers(store["c"])

    return ask


@pytest.mark.parametrize("derived", ["auto", "memory", "off"])
def test_every_place_gives_the_same_answers(path, index_at, plain, derived):
    index_at(ALWAYS)
    with ragstore.open(path, derived=derived) as store:
        fill(store.create_collection("c", dimension=8), 0, 500)
        assert scans(store["c"]) == (TABLES if derived == "off" else INDEXED)
        assert answers(store["c"]) == plain()
        store["c"].delete([str(n) for n in range(0, 500, 3)])
        fill(store["c"], 500, 600)
        assert answers(store["c"]) == plain()
        assert len(store.stats().indexes) == (0 if derived == "off" else 2)
    assert len(snapshots(path)) == (2 if derived == "auto" else 0)
    assert folder(path).exists() == (derived == "auto")


def test_a_fresh_process_takes_what_is_on_the_disk(path, index_at, plain):
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 500)
        assert scans(store["c"]) == INDEXED
    index_at(NEVER)
    before = snapshots(path)
    for read_only in (False, True):
        with ragstore.open(path, read_only=read_only) as store:
            assert scans(store["c"]) == INDEXED
            assert answers(store["c"]) == plain()
            vectors = store.stats().indexes[1]
            assert (vectors.collection, vectors.space, vectors.rows, vectors.tail) == ("c", "default", 500, 0)
            assert vectors.file_bytes == next(file for file in before if "vectors" in file.name).stat().st_size
            assert vectors.problem is None
            assert vectors.building is None
    assert snapshots(path) == before


def test_a_copy_without_the_folder_answers_at_once_and_becomes_fast(path, tmp_path, index_at, plain):
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 500)
        expected = answers(store["c"])
    shutil.rmtree(folder(path))
    index_at(NEVER)
    with ragstore.open(path) as store:
        assert scans(store["c"]) == TABLES
        assert answers(store["c"]) == expected
    index_at((1, 0, False))
    with ragstore.open(path) as store:
        store.optimize()
        assert scans(store["c"]) == INDEXED
        assert answers(store["c"]) == expected


def test_what_came_since_and_what_went_is_followed(path, index_at, plain):
    index_at(ONCE)
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=8)
        fill(collection, 0, 300)
        answers(collection)
        fill(collection, 300, 420)
        collection.delete([str(n) for n in range(100, 150)])
        collection.set_embeddings(["7", "8"], np.eye(8)[:2])
        assert answers(collection) == plain()
        vectors = next(index for index in store.stats().indexes if index.space)
        assert (vectors.rows, vectors.tail, vectors.dead) == (300, 122, 52)
        plan = collection.search(vector=[1.0] * 8, explain=True).plan["vector"]["index"]
        assert (plan["rows"], plan["tail"], plan["dead"]) == (300, 122, 52)
        assert plan["compared"] == 300 + 122 - 52
        store.optimize()
        assert answers(collection) == plain()
        vectors = next(index for index in store.stats().indexes if index.space)
        assert (vectors.rows, vectors.tail, vectors.dead) == (370, 0, 0)
        assert len(snapshots(path)) == 2


def test_what_comes_of_another_store_is_followed(path, tmp_path, index_at, plain):
    index_at(ONCE)
    with ragstore.open(path) as store, ragstore.open(tmp_path / "other.db", derived="off") as other:
        collection = store.create_collection("c", dimension=8)
        fill(collection, 0, 300)
        answers(collection)
        store.sync(other)
        fill(other["c"], 300, 420)
        other["c"].delete([str(n) for n in range(100, 150)])
        other["c"].set_embeddings(["7", "8"], np.eye(8)[:2])
        other["c"].update_metadata({"n": 4}, document_ids=[other["c"].get("9").document_id])
        store.sync(other)
        assert scans(collection) == INDEXED
        assert answers(collection) == plain()
        vectors = next(index for index in store.stats().indexes if index.space)
        # What changed comes as a new row.
        assert (vectors.rows, vectors.tail, vectors.dead) == (300, 123, 53)
        other["c"].set_tokenizer("trigram")
        store.sync(other)
        assert answers(collection) == plain()
        other.delete_collection("c")
        fill(other.create_collection("c", dimension=8), 500, 600)
        store.sync(other)
        assert answers(store["c"]) == plain()
        store.optimize()
        assert answers(store["c"]) == plain()


def test_a_snapshot_outlives_a_feed_that_is_cut(path, index_at, plain):
    index_at(ONCE)
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 200)
        answers(store["c"])
        state = store.state()
        for n in range(1500):
            state["key"] = n
        store.optimize()
        change = store.stats().indexes[0].change
        assert change is not None
    index_at(NEVER)
    with ragstore.open(path) as store:
        assert scans(store["c"]) == INDEXED
        assert answers(store["c"]) == plain()


SERVER = """
import sys, ragstore, ragstore.store
ragstore.store._INDEX_AT = eval(sys.argv[2])
store = ragstore.open(sys.argv[1])
print("open", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Other:
    """Another process with the store open."""

    def __init__(self, path, index_at):
        command = [sys.executable, "-c", SERVER, path, repr(index_at)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "open\n"

    def ask(self, expression):
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def test_processes_share_snapshots_and_see_each_others_commits(path, index_at, plain):
    index_at(ALWAYS)
    near = "[hit.id for hit in store['c'].vector_search([9.0] * 8, k=1, exact=True)]"
    words = "[hit.id for hit in store['c'].keyword_search('unheard', k=1)]"
    with ragstore.open(path) as store, Other(path, NEVER) as other:
        fill(store.create_collection("c", dimension=8), 0, 300)
        answers(store["c"])
        for n in range(20):
            store["c"].add_texts([f"unheard of {n}"], [[9.0] * 8], ids=[f"new{n}"])
            assert other.ask(near) == other.ask(words) == str([f"new{n}"])
            if n % 5 == 0:
                store.optimize()
            store["c"].delete([f"new{n}"])
            assert other.ask(words) == "[]"
        assert other.ask("store['c'].search(vector=[1.0] * 8, explain=True).plan['vector']['scan']") == "codes"
        other.ask("store['c'].delete(where={'n': 3})")
        assert answers(store["c"]) == plain()


def test_a_builder_that_is_killed_leaves_nothing_in_the_way(path, index_at, plain):
    index_at(NEVER)
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 3000)
    rng = np.random.default_rng(3)
    for _ in range(8):
        with Other(path, (1, 0, False)) as other:
            other.process.stdin.write("store.optimize()\n")
            other.process.stdin.flush()
            # Whatever it had done by then.
            with pytest.raises(subprocess.TimeoutExpired):
                other.process.wait(rng.uniform(0.001, 0.06))
            other.process.send_signal(signal.SIGKILL)
        with ragstore.open(path) as store:
            assert answers(store["c"]) == plain()
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        fill(store["c"], 3000, 3001)
        assert scans(store["c"]) == INDEXED
        assert answers(store["c"]) == plain()
    left = sorted(file.name.split("-")[0] for file in folder(path).iterdir())
    assert left == ["lock", "text", "vectors"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_it_is_built_harms_neither(path, index_at):
    index_at((1, 0, False))
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 3000)
        store["c"].vector_search([1.0] * 8)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                store["c"].vector_search([1.0] * 8)
            except ragstore.ForkError:
                store.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        store.optimize()
        assert scans(store["c"]) == INDEXED


def test_a_folder_that_cannot_be_made_is_done_without(path, index_at, plain):
    folder(path).write_text("a file of that name")
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 300)
        assert scans(store["c"]) == INDEXED
        assert answers(store["c"]) == plain()
        assert store.stats().indexes[0].file_bytes == 0
    assert folder(path).read_text() == "a file of that name"


def test_a_memory_limit_is_kept_and_told(path, index_at, plain):
    index_at(ALWAYS)
    with ragstore.open(path, derived="memory", memory_limit=40_000) as store:
        fill(store.create_collection("c", dimension=8), 0, 3000)
        assert scans(store["c"])[0] == "blocks"
        assert answers(store["c"]) == plain()
        health = store.health()
        assert health.status == "degraded"
        assert any("memory limit" in reason.what for reason in health.reasons)
    with ragstore.open(path, derived="memory", memory_limit=64 << 20) as store:
        assert scans(store["c"]) == INDEXED
        held = [index.memory_bytes for index in store.stats().indexes]
        assert 3000 * 8 * 4 < held[1] < 1 << 20
        assert store.health().status == "healthy"


def long_texts(words, texts=400, length=3_000):
    rng = np.random.default_rng(1)
    return [" ".join(f"w{n}" for n in rng.integers(0, words, length)) for _ in range(texts)]


def unique_words():
    rng = np.random.default_rng(1)
    return [" ".join(rng.bytes(16).hex() for _ in range(20)) for _ in range(2_000)]


@pytest.mark.parametrize(
    ("texts", "limit"),
    [pytest.param(lambda: long_texts(20_000), 9 << 20, id="long"), pytest.param(unique_words, 4 << 20, id="unique")],
)
def test_texts_that_do_not_fit_are_left_to_the_tables(path, index_at, texts, limit):
    index_at(SOON)
    for derived in ("memory", "auto"):
        with ragstore.open(path, derived=derived, memory_limit=limit) as store:
            collection = store.create_collection("c", exist_ok=True)
            if not len(collection):
                collection.add_texts(texts())
            assert "index" not in collection.search("w5 w77", explain=True).plan["keyword"]
            (index,) = store.stats().indexes
            assert "memory limit" in index.problem
            assert index.rows == store.stats().index_memory_bytes == 0
            assert snapshots(path) == []
            assert store.health().status == "degraded"


def test_texts_are_built_in_portions_where_there_is_little_room(path, index_at):
    index_at(SOON)
    with ragstore.open(path, derived="off") as plain:
        plain.create_collection("c").add_texts(long_texts(2_000))
        queries = ["w5 w77", "w1", "w1999 w4 w3"]
        expected = [[(hit.id, hit.score) for hit in plain["c"].keyword_search(q, k=20)] for q in queries]
    for derived in ("memory", "auto"):
        with ragstore.open(path, derived=derived, memory_limit=16 << 20) as store:
            assert "index" in store["c"].search("w5 w77", explain=True).plan["keyword"]
            found = [[(hit.id, hit.score) for hit in store["c"].keyword_search(q, k=20)] for q in queries]
            assert found == expected
            assert store.health().status == "healthy"


def test_without_any_memory_a_small_store_is_healthy(path):
    with ragstore.open(path, memory_limit=0) as store:
        fill(store.create_collection("c", dimension=8), 0, 3)
        assert len(answers(store["c"])[0]) == 3
        assert store.health().status == "healthy"
        stats = store.stats()
        assert (stats.memory_limit, stats.index_memory_bytes, stats.filter_memory_bytes) == (0, 0, 0)


def test_stats_say_what_is_used_of_the_memory_limit(path, index_at):
    index_at(ONCE)
    with ragstore.open(path, derived="memory", memory_limit=64 << 20) as store:
        fill(store.create_collection("c", dimension=8), 0, 300)
        scans(store["c"])
        stats = store.stats()
        assert stats.memory_limit == 64 << 20
        assert stats.index_memory_bytes == sum(index.memory_bytes for index in stats.indexes) > 300 * 8 * 4
        assert stats.filter_memory_bytes == 0
        store["c"].keyword_search("chunk", where={"n": {"$lt": 3}})
        assert 0 < store.stats().filter_memory_bytes < 1000
        # A state that is kept for who began earlier counts, too.
        store["c"].delete(["7"])
        fill(store["c"], 300, 310)
        scans(store["c"])
        later = store.stats()
        assert later.index_memory_bytes == sum(index.memory_bytes for index in later.indexes)
        assert later.index_memory_bytes > stats.index_memory_bytes
    with ragstore.open(path) as store:
        assert store.stats().memory_limit is None


def test_a_filter_cannot_take_the_room_of_an_index(path, index_at):
    index_at(ONCE)
    # Filled before: an index that grows with what is written needs the room of another when it is built anew.
    with ragstore.open(path, derived="off") as store:
        fill(store.create_collection("c", dimension=8), 0, 3000)
    with ragstore.open(path, derived="memory", memory_limit=900_000) as store:
        assert scans(store["c"]) == INDEXED
        for n in range(3000):
            store["c"].keyword_search("chunk", where={"n": {"$gte": n % 10}, "m": {"$ne": n}}, k=1)
            stats = store.stats()
            assert stats.filter_memory_bytes <= 900_000 // 8
        assert scans(store["c"]) == INDEXED
        assert store.health().reasons == []


def test_a_damaged_snapshot_is_told_dropped_and_made_anew(path, index_at, plain):
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 300)
        expected = answers(store["c"])
    vectors = next(file for file in snapshots(path) if "vectors" in file.name)
    data = bytearray(vectors.read_bytes())
    data[4096 + 100] ^= 1
    vectors.unlink()
    vectors.write_bytes(data)
    index_at(NEVER)
    with ragstore.open(path) as store:
        assert answers(store["c"]) == expected
        assert scans(store["c"])[0] == "blocks"
        assert any("vectors of collection" in what for what, _ in store.health().reasons)
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        assert answers(store["c"]) == expected
        assert scans(store["c"]) == INDEXED
        assert store.health().status == "healthy"


def test_a_search_that_is_not_exact_says_so_and_keeps_its_recall(path, index_at):
    index_at(ALWAYS)
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((50, 32))
    rows = centres[rng.integers(0, 50, 40_000)] + 0.3 * rng.standard_normal((40_000, 32))
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=32)
        collection.add_texts([""] * len(rows), rows)
        query = rows[17] + 0.1
        exact, default = (collection.vector_search(query, exact=exact) for exact in (True, False))
        assert exact.exact
        assert not default.exact
        assert collection.search(vector=query, explain=True).plan["vector"]["scan"] == "graph"
        report = collection.check_recall(100)
        assert report.scan == "graph"
        assert report.sample == 100
        assert report.recall > 0.95
        assert report.interval[0] <= report.recall <= report.interval[1]
        assert len(collection.vector_search(query, k=4000)) == 4000
        half = collection.vector_search(query, where={"id": {"$lt": "z"}}, k=50)
        assert len(half) == 50
        ways = [collection.search(vector=query, recall=recall, explain=True).plan["vector"] for recall in (0.999, 1.0)]
        assert [way["scan"] for way in ways] == ["graph", "codes"]


# What makes vectors hard to tell apart by one byte for each component, or hard to walk to.
HARD = {
    "far from zero": ("l2", lambda rng, n: rng.standard_normal((n, 16)) + 1000),
    "places on earth": ("l2", lambda rng, n: [48.2, 16.37] + 0.05 * rng.standard_normal((n, 2))),
    "versions of one": ("cosine", lambda rng, n: np.full(32, 0.2) + 0.02 * rng.standard_normal((n, 32))),
    "all directions": ("cosine", lambda rng, n: rng.standard_normal((n, 24))),
    "very long": ("cosine", lambda rng, n: 1e16 * rng.standard_normal((n, 16))),
    "against the query": ("ip", lambda rng, n: abs(rng.standard_normal((n, 16))) * (1 if n > 99 else -1)),
}


@pytest.mark.parametrize(
    ("kind", "nodes"),
    [*((kind, 3_000) for kind in HARD), *((kind, 33_000) for kind in ("all directions", "far from zero"))],
)
def test_the_recall_that_is_promised_is_kept_by_any_vectors(path, index_at, kind, nodes):
    index_at(ALWAYS)
    metric, vectors = HARD[kind]
    rng = np.random.default_rng(9)
    rows, queries = (np.asarray(vectors(rng, n), dtype=np.float32) for n in (nodes, 40))
    with ragstore.open(path, durability="relaxed") as store:
        collection = store.create_collection("c", dimension=rows.shape[1], metric=metric)
        collection.add_texts([""] * nodes, rows)
        found = 0
        for query in queries:
            farthest = collection.vector_search(query, exact=True)[-1].distance
            hits = collection.vector_search(query)
            near = sum(hit.distance <= farthest for hit in hits)
            assert near == 10 or not hits.exact
            found += near
        assert found >= 0.97 * 10 * len(queries)


def test_what_a_timeout_cut_is_told(path, index_at):
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=8)
        fill(collection, 0, 300)
        answers(collection)
        assert scans(collection) == INDEXED
        for place in (store, collection):
            with pytest.raises(ragstore.QueryTimeoutError):
                place.search("chunk 3", timeout=0)
            try:
                hits = place.search("chunk 3", vector=np.ones(8), timeout=0)
            except ragstore.QueryTimeoutError:
                continue
            assert not hits.complete
            assert not hits.exact


def test_what_is_far_behind_is_caught_up_with_in_the_background(path, index_at, plain):
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 6000)
        store.optimize()
        made = snapshots(path)
        assert scans(store["c"]) == INDEXED
        with ragstore.open(path, derived="off") as other:
            fill(other["c"], 6000, 7400)
            # More than a search reads, and fewer than are worth a new snapshot.
            assert store["c"].count() == 7400
            # Never slower than the tables, and no search fails for it.
            assert len(store["c"].search("chunk", timeout=10)) == 10
        while scans(store["c"]) != INDEXED:
            assert answers(store["c"])[0] == plain()[0]
        assert answers(store["c"]) == plain()
        assert snapshots(path) == made
        assert [index.tail for index in store.stats().indexes] == [1400, 1400]


def test_what_this_process_writes_is_followed_before_a_search_asks(path, plain):
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 6000)
        store.optimize()
        assert scans(store["c"]) == INDEXED
        # Fewer than are looked at for a new snapshot, and more than a search reads.
        for first in range(6000, 7800, 100):
            fill(store["c"], first, first + 100)
        while any(index.tail < 1000 for index in store.stats().indexes):
            assert store.stats().indexes[0].change is not None
        assert scans(store["c"]) == INDEXED
        assert answers(store["c"]) == plain()


def test_a_snapshot_that_another_process_built_is_taken(path, index_at):
    script = """
import sys, ragstore, ragstore.store
ragstore.store._INDEX_AT = (1, 100, True)
with ragstore.open(sys.argv[1]) as store:
    store["c"].vector_search([1.0] * 8)
    for line in sys.stdin:
        hits = store["c"].vector_search([1.0] * 8)
        print([(index.space, index.change, index.tail) for index in store.stats().indexes], flush=True)
"""
    index_at(NEVER)
    with ragstore.open(path, derived="off") as store:
        fill(store.create_collection("c", dimension=8), 0, 300)
        children = [
            subprocess.Popen(
                [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]

        def ask(child):
            child.stdin.write("\n")
            child.stdin.flush()
            return child.stdout.readline()

        try:
            before = [ask(child) for child in children]
            assert before[0] == before[1]
            fill(store["c"], 300, 600)
            first = ask(children[0])
            (built,) = [file.stat().st_ino for file in snapshots(path)]
            assert ask(children[1]) == first != before[0]
            assert [file.stat().st_ino for file in snapshots(path)] == [built]
        finally:
            for child in children:
                child.stdin.close()
                child.stdout.close()
                assert child.wait() == 0


def test_optimize_leaves_nothing_of_what_was_deleted(path):
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=8)
        fill(collection, 0, 3000)
        store.optimize()
        assert len(snapshots(path)) == 2
        collection.delete([str(n) for n in range(2990)])
        store.optimize()
        # Ten rows are not worth an index.
        assert snapshots(path) == []
        assert len(collection.search("chunk", vector=np.ones(8))) == 10
        store.create_collection("gone", dimension=8)
        fill(store["gone"], 0, 3000)
        store.optimize()
        assert len(snapshots(path)) == 2
    with ragstore.open(path, derived="off") as store:
        store.delete_collection("gone")
    with ragstore.open(path) as store:
        store.optimize()
        assert snapshots(path) == []


def test_an_index_in_memory_is_built_anew_in_the_room_that_it_has(path):
    with ragstore.open(path, derived="memory", memory_limit=24 << 20) as store:
        large, small = (
            store.create_collection(name, dimension=dimension) for name, dimension in (("a", 256), ("b", 8))
        )
        fill(large, 0, 5000, dimension=256)
        store.optimize()
        fill(large, 5000, 6000, dimension=256)
        store.optimize()
        assert [(index.rows, index.tail, index.problem) for index in store.stats().indexes] == 2 * [(6000, 0, None)]
        # One for which there is no room is no reason to leave the others.
        fill(large, 6000, 20_000, dimension=256)
        fill(small, 0, 3000)
        store.optimize()
        found = {(index.collection, index.space): index for index in store.stats().indexes}
        assert "memory limit" in found["a", "default"].problem
        assert found["b", "default"].rows == 3000


@pytest.mark.parametrize("made", [True, False], ids=["to a store", "to a file that is not there yet"])
def test_a_store_has_one_folder_whatever_links_lead_to_it(tmp_path, index_at, made):
    index_at(ONCE)
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real", target_is_directory=True)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "a.db"
    link.symlink_to(Path("..", "folder", "kb.db"))
    real = tmp_path / "real" / "kb.db"
    if made:
        ragstore.open(real).close()
    with ragstore.open(link) as store:
        assert store.path == str(link)
        collection = store.create_collection("c", dimension=8)
        fill(collection, 0, 50)
        store.optimize()
        assert len(snapshots(real)) == 2
        assert store.health().status == "healthy"
        with ragstore.open(real) as same:
            assert scans(same["c"]) == INDEXED
            assert same["c"].forget(["7"]).ok
    assert sorted(path.name for path in tmp_path.rglob("*-index")) == ["kb.db-index"]


def test_names_of_others_stay_in_the_folder(path, index_at):
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 300)
        answers(store["c"])
        mine = folder(path) / "notes.txt"
        mine.write_text("mine")
        (folder(path) / "vectors-7-7-.index.tmp").write_text("left behind")
        store.delete_collection("c")
        fill(store.create_collection("c", dimension=8), 0, 300)
        answers(store["c"])
    assert {file.name.split("-")[0] for file in folder(path).iterdir()} == {"lock", "notes.txt", "text", "vectors"}
    assert len(snapshots(path)) == 2


def test_recall_is_checked(path):
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=8)
        with pytest.raises(ragstore.NotFoundError, match="fewer than two"):
            collection.check_recall()
        fill(collection, 0, 50)
        report = collection.check_recall(1000, k=5)
        assert (report.recall, report.sample, report.k, report.scan) == (1.0, 50, 5, "blocks")
        assert report.p50_ms > 0
        assert report.exact_p50_ms > 0
        for arguments in ({"sample": 0}, {"k": 0}, {"recall": 0}, {"recall": 1.1}):
            with pytest.raises(ValueError, match="is"):
                collection.check_recall(**arguments)


def test_stats_are_json(path, index_at):
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 50)
        answers(store["c"])
        assert json.loads(json.dumps(store.stats().to_dict()))["indexes"][1]["space"] == "default"
        assert Path(path).exists()


def test_an_encrypted_store_keeps_its_indexes_in_memory(path, index_at):
    index_at(ALWAYS)
    with ragstore.open(path) as store:
        fill(store.create_collection("c", dimension=8), 0, 300)
        expected = answers(store["c"])
        assert len(snapshots(path)) == 2
        # What is in the clear on the disk goes before the file is encrypted.
        store.rekey("secret")
        assert not folder(path).exists()
        assert scans(store["c"]) == INDEXED
        assert answers(store["c"]) == expected
        assert all(index.file_bytes == 0 for index in store.stats().indexes)
    folder(path).mkdir()
    (folder(path) / "vectors-1-1-9.index").write_text("left by a process that was killed")
    with ragstore.open(path, key="secret") as store:
        assert not folder(path).exists()
        assert answers(store["c"]) == expected
        assert scans(store["c"]) == INDEXED
        store.rekey(None)
        assert answers(store["c"]) == expected
        assert len(snapshots(path)) == 2
