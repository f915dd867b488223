"""Stores in other processes: pickled, and inherited."""

import gc
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import warnings

import pytest
import ragstore


def roundtrip(value):
    return pickle.loads(pickle.dumps(value))


def test_a_store_pickles_as_path_and_options(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with ragstore.open(path.name, durability="relaxed", timeout=3.5) as store:
        store.create_collection("c").add("text")
        os.chdir("/")
        with roundtrip(store) as other:
            assert other is not store
            assert other["c"].count() == 1
            assert other._options == {**store._options, "create": False}


def test_what_is_gone_is_not_made_anew(path):
    with ragstore.open(path) as store:
        data = pickle.dumps(store)
    path.unlink()
    with pytest.raises(ragstore.NotFoundError):
        pickle.loads(data)


def test_an_ephemeral_store_does_not_pickle(ragstore_store):
    with pytest.raises(TypeError, match="ephemeral"):
        pickle.dumps(ragstore_store)


def embedder(texts):
    return [[1.0, float(len(text))] for text in texts]


def test_a_collection_pickles_with_its_store_and_embedder(store):
    notes = store.create_collection("notes", embedder=embedder)
    notes.add("text")
    other = roundtrip(notes)
    assert other.search("text").ids == notes.search("text").ids
    assert other.search("text")[0].vector_rank == 1
    other._store.close()


def test_documents_chunks_and_results_pickle(collection):
    chunk = ragstore.Chunk("a", start=0, end=1, metadata={"n": 1})
    document = ragstore.Document("a", uri="u", chunks=[chunk])
    result = collection.add(document)
    stored = collection.get_document(uri="u")
    for value in (chunk, document, stored, collection.get(result.chunk_ids), collection.info, result):
        assert roundtrip(value) == value


def test_a_process_pool_takes_a_store(store):
    store.create_collection("c").add_texts(["one", "two"])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(count, (store,)) == 2


def count(store):
    with store:
        return store["c"].count()


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def in_child(body):
    """What `body` returns in a forked child."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # That other threads run here is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.write(write, json.dumps(body()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(data)


def outcome(call):
    try:
        return repr(call())
    except Exception as error:  # noqa: BLE001
        return type(error).__name__


@forks
def test_a_child_cannot_use_its_parents_store_and_may_open_its_own(store):
    notes = store.create_collection("notes")
    notes.add_texts(["one", "two"])

    def child():
        calls = [notes.count, store.list_collections, lambda: notes.search("one"), lambda: notes.add("three")]
        outcomes = [outcome(call) for call in calls]
        with ragstore.open(store.path) as mine:
            mine["notes"].add("of the child")
            return [*outcomes, mine["notes"].count()]

    assert in_child(child) == [*["ForkError"] * 4, 3]
    assert notes.count() == 3
    notes.add("of the parent")
    with ragstore.open(store.path) as again:
        assert again["notes"].count() == 4


@forks
def test_a_child_that_drops_or_closes_its_parents_store_leaves_it_alone(path):
    store = ragstore.open(path)
    store.create_collection("c").add("text")
    holder = [store]

    def child():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            closed = outcome(store.close)
            del holder[0]
            gc.collect()
        return closed

    assert in_child(child) in ("None", "ForkError")
    store["c"].add("more")
    store.close()
    with ragstore.open(path) as again:
        assert again["c"].count() == 2


@forks
def test_children_of_a_busy_parent_get_an_answer(store):
    """Either the child may open the file, or it is told why not; it never hangs."""
    notes = store.create_collection("notes")
    seen = set()

    def progress(done, total):
        if len(seen) < 2:
            seen.add(in_child(lambda: outcome(lambda: ragstore.open(store.path).close())))

    notes.add_texts([f"text {i} " * 20 for i in range(30_000)], progress=progress)
    assert seen
    assert seen <= {"None", "ForkError"}
    assert notes.count() == 30_000


EXIT = """
import sys, ragstore
store = ragstore.open(sys.argv[1])
store.create_collection("c").add("text")
ephemeral = ragstore.open()
ephemeral.create_collection("c").add("text")
print(ephemeral._raw.closed)
"""


def test_the_end_of_a_process_closes_what_is_open(path, tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXIT, str(path)], env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    # Nothing of the ephemeral store, and no log to recover.
    assert {p.name.partition("-")[0] for p in tmp_path.iterdir()} == {path.name}
    assert not any(p.stat().st_size for p in tmp_path.glob("*-wal"))
    with ragstore.open(path) as store:
        assert store["c"].count() == 1


def test_a_store_dropped_open_warns_and_closes(path):
    store = ragstore.open(path)
    raw = store._raw
    with pytest.warns(ResourceWarning, match=r"unclosed Store\('.*kb\.db'\)"):  # noqa: PT031
        del store
        gc.collect()
    assert raw.closed


def test_a_collection_keeps_its_store(path):
    notes = ragstore.open(path).create_collection("notes")
    gc.collect()
    assert notes.count() == 0
    notes._store.close()


KILLED = """
import os, signal, sys
import ragstore
store = ragstore.open(sys.argv[1])
notes = store.create_collection("notes")
notes.add("acknowledged")
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
def kill(done, total):
    if done < total:
        os.kill(os.getpid(), signal.SIGKILL)
count = 1_000
while True:
    count *= 2
    notes.add_texts(["some words"] * count, progress=kill)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_child_keeps_no_lock_of_a_parent_that_was_killed_in_a_write(path):
    with subprocess.Popen([sys.executable, "-c", KILLED, path], stdin=subprocess.PIPE) as parent:
        assert parent.wait() == -signal.SIGKILL
        # The child still waits for the end of its input.
        with ragstore.open(path, timeout=5) as store:
            store["notes"].add("afterwards")
            # Those adds that were too quick are whole, and nothing is there of the last.
            assert store["notes"].count() % 2_000 == 2
