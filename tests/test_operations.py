"""Operations on the file: they change no answer, let others go on, and may end at any point."""

import json
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest
import ragstore
from ragstore import Health, Reason

from tests.helpers.churn import DIMENSION, churned, documents, vectors


def answers(store) -> list:
    """What there is, by every road."""
    collection, query = store["c"], vectors(99, 1)[0]
    hits = [collection.vector_search(query, k=100, exact=True), collection.keyword_search("w5 w17 w300", k=100)]
    hits.append(collection.search("w5 w9", vector=query, k=50, where={"n": {"$lt": 900}}, exact=True))
    return [
        [(hit.id, hit.text, hit.score, hit.metadata) for found in hits for hit in found],
        collection.count({"n": {"$gte": 100}}),
        collection.list_documents(limit=20),
        len(collection),
    ]


def check_file(path) -> None:
    """SQLite, FTS5 and the row sets agree; asked in another process."""
    code = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
rows = lambda text: [row[0] for row in connection.execute(text)]
assert rows("PRAGMA integrity_check") == ["ok"]
(fts,) = rows("SELECT printf('fts_%d_%d', id, fts_generation) FROM collections")
(vec,) = rows("SELECT printf('vec_%d_%d', id, vec_generation) FROM spaces")
connection.execute(f"INSERT INTO {fts} ({fts}, rank) VALUES ('integrity-check', 1)")
chunks = rows("SELECT id FROM chunks ORDER BY id")
assert rows(f"SELECT id FROM {fts}_docsize ORDER BY id") == chunks
assert set(rows(f"SELECT rowid FROM {vec}_rowids")) <= set(chunks)
valid = rows(f"SELECT validity FROM {vec}_chunks")
assert sum(byte.bit_count() for bits in valid for byte in bits) == len(rows(f"SELECT rowid FROM {vec}_rowids"))
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_optimize_gives_back_what_replacing_left(path, tmp_path):
    with ragstore.open(path, durability="relaxed") as store:
        versions = churned(store)
        before, size = answers(store), path.stat().st_size
        seen = []
        store.optimize(progress=lambda done, total: seen.append((done, total)))
        assert answers(store) == before
        assert seen[-1][0] == seen[-1][1] > 0
        stats = store.stats()
        assert stats.free_bytes == 0
        after = path.stat().st_size
    check_file(path)
    with ragstore.open(tmp_path / "fresh.db", durability="relaxed") as fresh:
        collection = fresh.create_collection("c", dimension=DIMENSION)
        collection.create_index("n")
        for n, version in versions.items():
            versions[n] = documents([n], version)[0]
        collection.add(list(versions.values()), vectors(0, len(versions)))
    smallest = (tmp_path / "fresh.db").stat().st_size
    assert size > 1.9 * smallest
    assert after <= 1.3 * smallest
    with ragstore.open(path) as store:
        store.vacuum()
        assert answers(store) == before
        # Again: there is nothing to do.
        store.optimize()
        assert answers(store) == before
    assert path.stat().st_size <= 1.1 * smallest
    check_file(path)


def test_optimize_keeps_nothing_of_what_was_stored_in_statistics(path):
    with ragstore.open(path) as store:
        churned(store, 300, 1)
        store.optimize()
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'sqlite_stat%'")]
    assert "sqlite_stat1" in names
    for name in set(names) - {"sqlite_stat1"}:
        assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (0,)
    connection.close()


def test_the_feed_is_cut_only_where_it_is_long(path):
    def feed():
        connection = sqlite3.connect(path)
        row = connection.execute("SELECT count(*), min(seq), max(seq) FROM changes").fetchone()
        connection.close()
        return row

    with ragstore.open(path, durability="relaxed") as store:
        churned(store, 300, 1)
        before = feed()
        store.optimize()
        assert feed() == before
        numbers = store.create_collection("numbers")
        for version in range(4):
            numbers.add(documents(range(900), version), on_conflict="replace")
        *_, last = feed()
        store.optimize()
        # As many as there are chunks, or 1,000.
        assert feed() == (1200, last - 1199, last)
        # Followers go by the last row, and searches see what comes.
        store["c"].add("something new", np.ones((1, DIMENSION)))
        assert store["c"].keyword_search("something").texts == ["something new"]


def test_writes_go_on_between_the_steps_of_optimize(path):
    with ragstore.open(path, durability="relaxed", timeout=5) as store:
        versions = churned(store, 2000, 4)
        code = """
import sys, ragstore
with ragstore.open(sys.argv[1], timeout=5) as store:
    print(1, flush=True)
    for line in sys.stdin:
        store["c"].add(ragstore.Document("from afar", id="far" + line.strip()))
        print(1, flush=True)
"""
        other = subprocess.Popen(
            [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout.readline()
        done = []

        def meanwhile():
            while not done:
                number = len(written)
                store["c"].add(ragstore.Document("from here", id=f"near{number}"))
                other.stdin.write(f"{number}\n")
                other.stdin.flush()
                assert other.stdout.readline()
                assert len(store["c"].vector_search(vectors(1, 1)[0], k=5, exact=True)) == 5
                written.append(number)

        written: list[int] = []
        writer = threading.Thread(target=meanwhile)
        writer.start()
        during = []
        for _ in range(2):
            before = len(written)
            store.optimize()
            during.append(len(written) - before)
        done.append(True)
        writer.join()
        other.communicate()
        assert other.returncode == 0
        # The first had something to do.
        assert during[0] > 1
        assert store["c"].count_documents() == len(versions) + 2 * len(written)
    check_file(path)


def test_optimize_may_be_stopped_at_any_step(path):
    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    with ragstore.open(path, durability="relaxed") as store:
        churned(store, 4000, 3)
        before, size = answers(store), store.stats().vector_bytes
        stopped = 0
        for _ in range(100):
            try:
                store.optimize(progress=stop)
                break
            except Stop:
                stopped += 1
                assert answers(store) == before
        assert stopped
        store.optimize()
        assert answers(store) == before
        assert store.stats().vector_bytes < size
    check_file(path)


def test_a_dropped_collection_does_not_stop_optimize(path):
    with ragstore.open(path, durability="relaxed") as store:
        churned(store, 4000, 3)
        store.create_collection("d").add(["one", "two"])

        def drop(done, total):
            # While it runs: between two steps.
            if "c" in store:
                dropping.start()

        dropping = threading.Thread(target=lambda: store.delete_collection("c"))
        store.optimize(progress=lambda done, total: dropping.ident is None and drop(done, total))
        if dropping.ident is not None:
            dropping.join()
            assert [info.name for info in store.list_collections()] == ["d"]
        assert store["d"].keyword_search("two").texts == ["two"]


@pytest.mark.parametrize("mode", ["passive", "full", "restart", "truncate"])
def test_a_checkpoint_moves_the_log(path, mode):
    with ragstore.open(path) as store:
        store.create_collection("c").add(["some text"])
        assert store.stats().log_bytes > 0
        store.checkpoint(mode)
        copied = path.with_name("copy.db")
        copied.write_bytes(path.read_bytes())
        assert (store.stats().log_bytes == 0) == (mode == "truncate")
        with ragstore.open(copied, read_only=True) as copy:
            assert copy["c"].count() == 1
        with pytest.raises(ValueError, match="it is one of"):
            store.checkpoint("whole")


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
print(connection.execute("SELECT count(*) FROM documents").fetchone()[0], flush=True)
sys.stdin.read()
"""


def test_a_checkpoint_waits_for_readers_and_says_whom_it_waited_for(path):
    with ragstore.open(path, timeout=0.1) as store:
        store.create_collection("c").add(["one"])
        reader = subprocess.Popen([sys.executable, "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert reader.stdout.readline()
        store["c"].add(["two"])
        for mode in ("full", "restart", "truncate"):
            with pytest.raises(ragstore.LockedError, match=f"process {reader.pid}"):
                store.checkpoint(mode)
        store.checkpoint()
        # A vacuum and an optimize are done all the same; the file becomes smaller later.
        store.optimize()
        store.vacuum()
        assert store["c"].count() == 2
        reader.communicate()
        store.checkpoint("truncate")
        assert store.stats().log_bytes == 0


def test_what_is_read_only_or_closed_refuses(path):
    with ragstore.open(path) as store:
        store.create_collection("c")
    with ragstore.open(path, read_only=True) as store:
        for call in (store.checkpoint, store.optimize, store.vacuum):
            with pytest.raises(ragstore.ReadOnlyError):
                call()
        assert store.stats().collections == 1
        assert store.health().status in {"healthy", "degraded"}
    for call in (store.checkpoint, store.optimize, store.vacuum, store.stats, store.health):
        with pytest.raises(ragstore.ClosedError):
            call()


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", mount], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {made.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)


def test_a_vacuum_without_room_is_refused_and_a_small_disk_is_no_health(small_disk):
    with ragstore.open(small_disk / "kb.db", durability="relaxed") as store:
        churned(store, 2000, 0)
        store.checkpoint("truncate")
        filler = small_disk / "filler"
        filler.write_bytes(bytes(7 << 20))
        before = answers(store)
        with pytest.raises(ragstore.StoreFullError, match="vacuum writes the store anew"):
            store.vacuum()
        health = store.health()
        assert health.status in {"degraded", "unhealthy"}
        assert any("free" in what for what, _ in health.reasons)
        filler.unlink()
        store.vacuum()
        assert answers(store) == before


def test_health_sees_that_the_file_was_replaced(path, tmp_path):
    if sys.platform != "linux":
        pytest.skip("asked of the guard, which is Linux")
    with ragstore.open(path) as store:
        store.create_collection("c")
        store.checkpoint("truncate")
        (tmp_path / "other.db").write_bytes(path.read_bytes())
        (tmp_path / "other.db").replace(path)
        health = store.health()
        assert health.status == "unhealthy"
        assert any("not those that are open" in what for what, _ in health.reasons)


def test_health_sees_a_newer_format(path):
    with ragstore.open(path) as store:
        store.create_collection("c")
        code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version = 99')"
        subprocess.run([sys.executable, "-c", code, path], check=True)
        health = store.health()
        assert health.status == "unhealthy"
        assert any("newer version" in what for what, _ in health.reasons)


def test_reports_read_well_and_are_json():
    health = Health("degraded", [Reason("the disk has 3 MiB free", "free some")])
    assert repr(health) == "Health(degraded)\n  the disk has 3 MiB free: free some"
    assert json.loads(json.dumps(health.to_dict())) == {
        "status": "degraded",
        "reasons": [{"what": "the disk has 3 MiB free", "what_to_do": "free some"}],
    }
    with ragstore.open() as store:
        store.create_collection("c").add(["a", "b"])
        stats = store.stats()
        assert repr(stats).startswith("StoreStats(1 collections, 2 documents, 2 chunks, 0 embeddings; file ")
        assert json.loads(json.dumps(stats.to_dict()))["chunks"] == 2
        with pytest.raises(AttributeError):
            stats.chunks = 3
        with pytest.raises(AttributeError):
            health.status = "healthy"


def test_stats_count_what_is_there(store):
    collection = store.create_collection("c", dimension=4)
    collection.create_index("n")
    collection.create_space("other", dimension=8)
    chunks = [ragstore.Chunk(f"text {n}", id=str(n), metadata={"n": n}) for n in range(10)]
    collection.add([ragstore.Document(id="d", chunks=chunks)], np.ones((10, 4)))
    collection.set_embeddings(["1", "2"], np.ones((2, 8)), space="other")
    stats = store.stats()
    assert (stats.collections, stats.documents, stats.chunks, stats.embeddings) == (1, 1, 10, 12)
    assert stats.file_bytes == store.path is None or stats.file_bytes > 0
    assert stats.vector_bytes == 128 * (4 * 4 + 8) + 128 * (8 * 4 + 8)
    assert stats.field_index_bytes == 2 * 8192
    assert stats.queued_writes == 0
    assert 1 <= stats.readers_open <= stats.readers_limit
    before = stats.cache_hits
    collection.get("1")
    assert store.stats().cache_hits > before


def test_network_file_systems_are_an_option(path):
    with ragstore.open(path, network_filesystem=True) as store:
        store.create_collection("c")
    assert issubclass(ragstore.NetworkFilesystemError, OSError)


def test_vacuum_says_how_far_it_is(path):
    with ragstore.open(path, durability="relaxed") as store:
        churned(store, 2000, 2)
        seen = []
        store.vacuum(progress=lambda done, total: seen.append((done, total)))
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        done, total = seen[-1]
        assert done == total > path.stat().st_size // 8192


def test_a_vacuum_that_is_cancelled_changes_no_answer(path):
    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    with ragstore.open(path, durability="relaxed") as store:
        churned(store, 1000, 2)
        before = answers(store)
        # It may be done before it is asked; the next one is whole either way.
        with pytest.raises(Stop):
            store.vacuum(progress=stop)
        assert answers(store) == before
        store.vacuum()
        assert answers(store) == before
    check_file(path)
