"""Bombs, huge arguments, odd paths and files of newer versions: a typed error, in bounded time and memory."""

import hashlib
import os
import resource
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.faults import record
from tests.faults.server import Server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and what is asked of /proc are Linux"),
]

suite = record.suite_of_module("hostile_input")
MEMORY = 64 << 20
SECONDS = 10


def nested(depth: int, kind: type) -> object:
    made: object = 1
    for _ in range(depth):
        made = {"a": made} if kind is dict else [made]
    return made


# Each makes its argument first; only the call is measured.
BOMBS = {
    "deep objects": lambda c: (c.add, [ragstore.Document("a", metadata={"a": nested(100_000, dict)})]),
    "deep arrays": lambda c: (c.add, [ragstore.Document("a", metadata={"a": nested(100_000, list)})]),
    "deep update": lambda c: (lambda m: c.update_metadata(m, where={}), nested(100_000, dict)),
    "deep filter": lambda c: (c.count, nested(100_000, dict)),
    "deep negation": lambda c: (c.count, negations(100_000)),
    "a million keys": lambda c: (c.add, [ragstore.Document("a", metadata={f"k{n}": n for n in range(1_000_000)})]),
    "a million terms": lambda c: (c.count, {"$or": [{"n": n} for n in range(1_000_000)]}),
    "a huge text": lambda c: (c.add, [ragstore.Document("a" * (200 << 20))]),
    "a huge string of metadata": lambda c: (c.add, [ragstore.Document("a", metadata={"a": "a" * (200 << 20)})]),
    "a huge id": lambda c: (c.add, [ragstore.Document("a", id="a" * (200 << 20))]),
    "a huge raw query": lambda c: (lambda q: c.keyword_search(q, syntax="raw"), "a OR " * (1 << 20) + "a"),
    "a deep raw query": lambda c: (lambda q: c.keyword_search(q, syntax="raw"), "(" * 4000 + "a" + ")" * 4000),
    "a wide vector": lambda c: (lambda v: c.add_texts(["a"], v), np.ones((1, 1 << 24), np.float32)),
    "a huge number": lambda c: (c.add, [ragstore.Document("a", metadata={"a": 10**100_000})]),
    "too many hits": lambda c: (lambda k: c.keyword_search("a", k=k), 1 << 40),
    "a huge pattern": lambda c: (c.count, {"s": {"$like": "%a" * (1 << 20)}}),
}


def negations(depth: int) -> dict:
    made: dict = {"a": 1}
    for _ in range(depth):
        made = {"$not": made}
    return made


def drop(call) -> str:
    """The name of what a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    return ""


def explode(path: str, name: str, report: str) -> None:
    """Calls with little memory beyond what the argument takes, and little time of the processor."""
    with ragstore.open(path) as store:
        collection = store["c"]
        method, argument = BOMBS[name](collection)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        # What the threads of a store reserve is address space too.
        most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (used, used))
        said = drop(lambda: method(argument))
        assert collection.count() == 1
        Path(report).write_text(said)
    # Python would free a deep argument on its own stack.
    os._exit(0)


@pytest.fixture(scope="module")
def server():
    with Server(__name__) as server:
        yield server


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(path, tmp_path, server, name):
    with ragstore.open(path) as store:
        store.create_collection("c").add_texts(["text"], ids=["one"])
    report = tmp_path / "report"
    assert server.run(explode, str(path), name, str(report)) == 0
    # An answer is right too: what is large is not always too large.
    assert report.read_text() in {"", "LimitError", "FilterError", "QuerySyntaxError", "ValueError", "RecursionError"}
    with ragstore.open(path) as store:
        assert store["c"].get("one").text == "text"


PATHS = {
    "empty": ("", ValueError),
    "NUL": ("a\0b.db", ValueError),
    "folder": (".", ValueError),
    "below a file": ("file/kb.db", OSError),
    "a device": ("/dev/null", (OSError, ragstore.CorruptError, ValueError)),
    "a full device": ("/dev/full", (OSError, ragstore.CorruptError, ValueError)),
    "zeros without end": ("/dev/zero", (OSError, ragstore.CorruptError, ValueError)),
    "a pipe": ("fifo", (OSError, ragstore.CorruptError, ValueError)),
    "a loop of links": ("loop", OSError),
    "too long": ("a" * 5000, OSError),
    "/proc": ("/proc/self/kb.db", (OSError, ragstore.NotFoundError)),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_names_no_file_is_refused(tmp_path, server, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    path, error = PATHS[name]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error):
        ragstore.open(path)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize(
    "name",
    ["file:kb.db", "file:kb.db?immutable=1", "file::memory:", "file:///kb.db?mode=memory", "kb.db?vfs=none", "%2e.db",
     "sub/../kb.db", "-", "a b\n.db", "ünï.db"],
)  # fmt: skip
def test_a_path_is_a_name_and_nothing_else(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with ragstore.open(name) as store:
        store.create_collection("c")
    made = tmp_path / name
    assert made.is_file()
    assert made.read_bytes().startswith(b"SQLite format 3\0")


def test_a_link_leads_to_the_store(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "real" / "kb.db")
    with ragstore.open(tmp_path / "real" / "kb.db") as store:
        store.create_collection("c").add_texts(["text"], ids=["a"])
        with ragstore.open(link) as same:
            same["c"].add_texts(["text"], ids=["b"])
        assert len(store["c"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.db", "real"]


def test_a_newer_store_is_not_touched(path):
    """Nor is its log, which has what the file does not."""
    with ragstore.open(path) as store:
        store.create_collection("c")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA user_version = 9999")
    connection.commit()
    files = [path, path.with_name("kb.db-wal")]
    before = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert files[1].stat().st_size > 0
    for read_only in (False, True):
        with pytest.raises(ragstore.SchemaTooNewError, match="9999"):
            ragstore.open(path, read_only=read_only)
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] == before
    connection.close()
