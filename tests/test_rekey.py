"""Another key for a file: what is in it stays, nothing of the old one is left, and nobody else has it meanwhile."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ragstore

from tests.helpers.canaries import MAGIC, RAW, files, found, life, secrets


def answers(store):
    notes = store["notes"]
    rng = np.random.default_rng(3)
    return (
        [document.id for document in notes.list_documents(limit=1000)],
        [(hit.id, hit.score, hit.text) for hit in notes.search("canary zyzzyva", vector=rng.standard_normal(32), k=20)],
        [(hit.id, hit.score) for hit in notes.keyword_search("okapiok narwhal", k=50)],
        [(hit.id, hit.score) for hit in notes.vector_search(rng.standard_normal(32), k=50, exact=True)],
        notes.count({"mark": "canary-meta"}),
        notes.info,
    )


def test_another_key_changes_no_answer(path):
    life(path, None, lambda: None)
    with ragstore.open(path) as store:
        expected = answers(store)
        last = None
        for key in ("first", RAW, "second", None, RAW[::-1], None):
            store.rekey(key)
            assert answers(store) == expected
            with pytest.raises(ragstore.LockedError, match="another store of this process"):
                other_rekey(path, key)
            if last != key:
                with pytest.raises(ragstore.WrongKeyError):
                    ragstore.open(path, key=last, create=False)
            with ragstore.open(path, key=key) as other:
                assert answers(other) == expected
            last = key
        store["notes"].add("and it goes on", [[1.0] * 32])
    assert sorted(p.name for p in path.parent.iterdir()) == ["kb.db", "kb.db-shm", "kb.db-wal"]
    with ragstore.open(path) as store:
        assert len(answers(store)[0]) == len(expected[0]) + 1


def other_rekey(path, key):
    with ragstore.open(path, key=key) as other:
        other.rekey("nobody's")


def test_nothing_of_the_old_file_is_left_beside_an_encrypted_one(path):
    needles = life(path, None, lambda: None)
    with ragstore.open(path) as store:
        store["notes"].add("canary in the log", [[1.0] * 32])
        store.rekey("first")
        assert found(path.parent, needles) == set()
        store["notes"].add("canary in the new log", [[1.0] * 32])
        assert found(path.parent, [*needles, *secrets(path, "first")]) == set()
        store.rekey("second")
    assert found(path.parent, [*needles, *secrets(path, "second"), b"first"]) == set()


HOLDER = """
import sys, ragstore
with ragstore.open(sys.argv[1], read_only=True) as store:
    print(store["c"].count(), flush=True)
    sys.stdin.readline()
"""


def test_another_process_is_in_the_way_of_a_new_key(path):
    with ragstore.open(path) as store:
        store.create_collection("c").add("text")
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout.readline() == "1\n"
        with pytest.raises(ragstore.LockedError, match="another process has the file open; close it there"):
            store.rekey("right")
        # Nothing has changed.
        store["c"].add("more")
        holder.communicate("\n")
        store.rekey("right")
        assert store["c"].count() == 2
    assert files(path.parent)[str(path)][:16] != MAGIC


def test_a_store_that_only_reads_keeps_its_key(path):
    with ragstore.open(path, key="right") as store:
        store.create_collection("c")
    with ragstore.open(path, key="right", read_only=True) as store, pytest.raises(ragstore.ReadOnlyError):
        store.rekey("other")


def test_no_key_for_a_store_that_has_none_is_no_work(path):
    with ragstore.open(path) as store:
        inode = path.stat().st_ino
        store.rekey(None)
        assert path.stat().st_ino == inode


def test_reads_and_writes_go_on_around_a_new_key(path):
    """Calls of other threads see the store before or after, never in between."""
    with ragstore.open(path) as store, ThreadPoolExecutor(4) as pool:
        notes = store.create_collection("c", dimension=2)
        notes.add_texts([f"text {row}" for row in range(500)], np.ones((500, 2), np.float32))
        done = []

        def work(thread):
            row = 0
            while not done or row < 20:
                assert notes.add_texts([f"more {row}"], [[1.0, 2.0]], ids=[f"{thread}-{row}"])
                assert notes.search("text", vector=[1.0, 1.0], k=3).ids
                row += 1
            return row

        workers = [pool.submit(work, thread) for thread in range(4)]
        try:
            for key in ("first", RAW, None, "second"):
                store.rekey(key)
        finally:
            done.append(True)
        added = sum(worker.result() for worker in workers)
        assert notes.count() == 500 + added
    with ragstore.open(path, key="second") as store:
        assert store["c"].count() == 500 + added


def test_a_full_disk_leaves_the_old_key(path):
    """The copy does not fit: nothing is changed, and nothing is left."""
    resource = pytest.importorskip("resource")
    script = """
import resource, signal, sys
import numpy as np
import ragstore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = sys.argv[1]
with ragstore.open(path) as store:
    store.create_collection("c").add_texts(["canary " * 50] * 2000, np.ones((2000, 64), np.float32))
size = __import__("os").path.getsize(path)
with ragstore.open(path) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
    try:
        store.rekey("right")
    except Exception as error:
        print(type(error).__name__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(store["c"].count())
    store["c"].add("more", [[1.0] * 64])
    store.rekey("right")
    print(store["c"].count())
"""
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert done.stderr == ""
    lines = done.stdout.split()
    assert lines[1:] == ["2000", "2001"]
    assert lines[0] in {"StoreFullError", "OSError"}
    assert sorted(p.name for p in path.parent.iterdir()) == ["kb.db", "kb.db-shm", "kb.db-wal"]
