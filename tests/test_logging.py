"""Records of the logger "ragstore"."""

import logging
import os
import subprocess
import sys
import textwrap
import threading

import pytest
import ragstore
from ragstore import logs

SECRET = "sesame"


class Handler(logging.Handler):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def emit(self, record):
        self.call(record)


@pytest.fixture
def handled():
    """Adds a handler that calls a function with every record, until the test ends."""
    logger, added = logging.getLogger("ragstore"), []

    def add(call):
        added.append(Handler(call))
        logger.addHandler(added[-1])
        logger.setLevel(logging.DEBUG)

    yield add
    for handler in added:
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logs.slow_calls(1.0)


@pytest.fixture
def records(handled):
    """Those of the test."""
    found = []
    handled(found.append)
    return found


def events(records):
    return [record.event for record in records]


def test_a_store_tells_of_its_life(records, path):
    with ragstore.open(path) as store:
        collection = store.create_collection("c")
        for part in range(12):
            collection.add_texts(["word " * 2000] * 40, [[1.0] * 256] * 40, uris=[f"{part}-{i}" for i in range(40)])
    assert events(records)[0] == "opened"
    assert events(records)[-1] == "closed"
    # After it grew, and when the store was closed.
    moved = [record for record in records if record.event == "checkpoint"]
    assert {"passive", "truncate"} <= {record.mode for record in moved}
    assert all(record.levelno == logging.DEBUG and record.ms >= 0 for record in moved)
    assert any(record.moved == record.pages >= 1000 for record in moved)
    assert len({record.store for record in records}) == 1
    assert [record.created for record in records] == sorted(record.created for record in records)


def test_what_was_left_open_is_recovered(records, path):
    code = """
        import os, sys, ragstore
        store = ragstore.open(sys.argv[1])
        store.create_collection("c").add_texts(["a"])
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=True)
    with ragstore.open(path) as store:
        assert len(store["c"]) == 1
    (record,) = (record for record in records if record.event == "recovered")
    assert record.levelno == logging.INFO
    assert record.frames > 0
    assert str(path) not in record.getMessage()


def test_an_older_file_is_migrated(records, path):
    with ragstore.open(path):
        pass
    import sqlite3

    conn = sqlite3.connect(path)
    conn.executescript(
        "DROP TABLE embedding_cache; DELETE FROM meta WHERE key = 'embedding_cache_bytes';"
        "DELETE FROM migrations WHERE version = 2; PRAGMA user_version = 1"
    )
    conn.close()
    with ragstore.open(path):
        pass
    (record,) = (record for record in records if record.event == "migrated")
    assert (record.from_format, record.levelno) == (1, logging.INFO)
    assert record.to_format >= 2


def test_a_record_says_when_it_was(records):
    logs.forward([("checkpoint", 1_000_000_500_000, {"mode": "full", "pages": 2, "moved": 1, "busy": True, "ms": 1.0})])
    (record,) = records
    assert (record.created, record.msecs) == (1_000_000.5, 500)
    assert record.getMessage() == "full checkpoint of store ? moved 1 of 2 pages in 1.0 ms"


def test_slow_calls(collection, records):
    logs.slow_calls(0)
    collection.add_texts(["Cats."], ids=["x"])
    collection.count()
    collection.get("x")
    collection.keyword_search("cats")
    with collection._store.transaction() as transaction:
        transaction["notes"].add("a")
        transaction["notes"].add("b")
    operations = [record.operation for record in records if record.event == "slow"]
    assert operations == ["add", "count", "get", "search", "transaction"]
    records.clear()
    logs.slow_calls(None)
    collection.count()
    assert records == []
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds"):
            logs.slow_calls(wrong)
    with pytest.raises(TypeError):
        logs.slow_calls("1")


def test_maintenance(collection, records, tmp_path):
    collection.add_texts(["a"])
    ragstore.export(collection._store, tmp_path / "out")
    (record,) = (record for record in records if record.event == "maintained")
    assert (record.operation, record.documents) == ("export", 1)


def test_nothing_that_is_stored_is_in_a_record(records, tmp_path):
    logs.slow_calls(0)
    folder = tmp_path / SECRET
    with ragstore.open(folder / f"{SECRET}.db") as store:
        collection = store.create_collection(SECRET, description=SECRET, model=SECRET)
        collection.add_texts([SECRET], [[1.0]], ids=[SECRET], metadatas=[{SECRET: SECRET}], uris=[SECRET])
        collection.create_index(SECRET)
        collection.search(SECRET, where={SECRET: SECRET})
        with pytest.raises(ragstore.CollectionNotFoundError):
            store.get_collection(SECRET + "2")
        ragstore.export(store, folder / "out")
    assert len(records) > 8
    for record in records:
        assert SECRET not in record.getMessage()
        assert SECRET not in repr(vars(record))


def test_nobody_has_to_listen(path):
    """Without any configuration nothing is printed, not even at the end of the process."""
    code = """
        import sys, ragstore
        ragstore.logs.slow_calls(0)
        store = ragstore.open(sys.argv[1])
        store.create_collection("c").add_texts(["a"])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


def test_the_end_of_a_process_is_logged_too(path):
    code = """
        import logging, sys, ragstore
        logging.basicConfig(level=logging.DEBUG, format="%(message)s")
        store = ragstore.open(sys.argv[1])
        store.create_collection("c")
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "store 1 closed" in ended.stderr


def test_a_handler_may_use_a_store(ragstore_store, handled):
    """Also the one that the record is of; that call is told of with the next one."""
    collection = ragstore_store.create_collection("log")
    seen = []

    def keep(record):
        seen.append(record.event)
        collection.add_texts([record.getMessage()])

    handled(keep)
    logs.slow_calls(0)
    collection.count()
    logs.slow_calls(None)
    assert seen == ["slow"]
    assert len(collection) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_handler_raises_undoes_nothing(ragstore_store, handled):
    collection = ragstore_store.create_collection("c")

    def fail(record):
        raise raised

    handled(fail)
    logs.slow_calls(0)
    raised = RuntimeError("a broken handler")
    assert len(collection.add_texts(["a"])) == 1
    raised = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as found:
        collection.add_texts(["b"])
    assert "the call was done" in found.value.__notes__[0]
    logs.slow_calls(None)
    assert len(collection) == 2


def test_threads_lose_and_double_nothing(ragstore_store, records):
    collection = ragstore_store.create_collection("c")
    logs.slow_calls(0)
    threads = [threading.Thread(target=lambda: [collection.count() for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    collection.count()
    slow = [record for record in records if record.event == "slow" and record.operation == "count"]
    dropped = sum(record.events for record in records if record.event == "dropped")
    assert len(slow) + dropped == 401


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it is of fork")
def test_a_child_does_not_tell_of_its_parent(path):
    """What a handler's own calls leave waits for the next call, which here comes after the fork."""
    code = """
        import logging, os, sys, ragstore
        logging.basicConfig(level=logging.DEBUG, format="%(process)d %(message)s", stream=sys.stdout)
        with ragstore.open(sys.argv[1]) as store:
            collection = store.create_collection("c")
            class Counting(logging.Handler):
                def emit(self, record):
                    collection.count_documents()
            logger, counting = logging.getLogger("ragstore"), Counting()
            logger.addHandler(counting)
            ragstore.logs.slow_calls(0)
            collection.count()
            logger.removeHandler(counting)
            ragstore.logs.slow_calls(None)
            sys.stdout.flush()
            if os.fork() == 0:
                with ragstore.open(sys.argv[1]) as own:
                    own["c"].count()
                sys.stdout.flush()
                os._exit(0)
            os.wait()
            store["c"].count()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split(" ", 1) for line in ended.stdout.splitlines()]
    opened = [process for process, message in lines if "opened" in message]
    assert len(opened) == len(set(opened)) == 2
    assert [process for process, message in lines if "count_documents" in message] == [opened[0]]
