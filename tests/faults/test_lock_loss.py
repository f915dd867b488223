"""Code of our process opens and closes the store's files, and so drops SQLite's locks; nothing acknowledged vanishes.

The other process is ragstore, or Python's sqlite3, which knows nothing of us.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.faults import oracle, record
from tests.faults.server import Server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="the guard is Linux, as the README says"),
]

# Each waits for its name on stdin, tries once to commit it, and says what came of it.
OTHERS = {
    "ragstore": """
import sys
import ragstore
print("ready", flush=True)
for name in sys.stdin.read().split():
    try:
        with ragstore.open(sys.argv[1], timeout=float(sys.argv[2])) as store:
            store["c"].add_texts([name + " by another process"], [[1.0, 2.0]], ids=[name])
        print("committed", flush=True)
    except ragstore.LockedError:
        print("locked", flush=True)
""",
    "sqlite3": """
import sqlite3, sys
print("ready", flush=True)
for name in sys.stdin.read().split():
    connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=float(sys.argv[2]))
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE IF NOT EXISTS others (name TEXT)")
        connection.execute("INSERT INTO others VALUES (?)", (name,))
        connection.execute("COMMIT")
        print("committed", flush=True)
    except sqlite3.OperationalError as error:
        print("locked" if "locked" in str(error) else error, flush=True)
    connection.close()
""",
}

FRESH = """
import json, sqlite3, sys
import ragstore
with ragstore.open(sys.argv[1], create=False, read_only=True) as store:
    listed = [document.id for document in store["c"].list_documents(limit=1 << 30)]
    found = store["c"].keyword_search("text", k=4096).ids
    ids = [chunk.id for id in listed[:5] + listed[-5:] for chunk in store["c"].get_chunks(id)]
    store["c"].get_embeddings(ids)
connection = sqlite3.connect(sys.argv[1])
tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE name = 'others'")]
others = [row[0] for row in connection.execute("SELECT name FROM others")] if tables else []
connection.execute("INSERT INTO fts_1_1 (fts_1_1, rank) VALUES ('integrity-check', 1)")
connection.rollback()
problems = [row[0] for row in connection.execute("PRAGMA integrity_check")]
connection.close()
print(json.dumps([sorted(listed + others), problems]))
"""


class Other:
    """Another process."""

    def __init__(self, kind: str, path: Path, timeout: float) -> None:
        command = [sys.executable, "-c", OTHERS[kind], path, str(timeout)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def commit(self, name: str) -> str:
        said, _ = self.process.communicate(name)
        assert self.process.returncode == 0
        return said.strip()


@contextmanager
def other(kind: str, path: Path, timeout: float = 30.0):
    made = Other(kind, path, timeout)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.communicate()


def seen_by_a_fresh_process(path: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-c", FRESH, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names, problems = json.loads(done.stdout)
    assert problems == ["ok"]
    return names


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def stray_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT count(*) FROM documents").fetchone()


def stray_sqlite_write(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS stray (name TEXT)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


STRAYS = {
    "read": lambda path: path.read_bytes(),
    "copy": lambda path: shutil.copy(path, path.with_suffix(".copy")),
    "shm": lambda path: beside(path, "-shm").read_bytes(),
    "wal": lambda path: beside(path, "-wal").read_bytes(),
    "all": lambda path: [beside(path, suffix).read_bytes() for suffix in ("", "-wal", "-shm")],
    "sqlite3": stray_sqlite,
    "sqlite3 writes": stray_sqlite_write,
}


def add(store: ragstore.Store, name: str) -> None:
    store["c"].add_texts([f"{name} text"], [[2.0, 1.0]], ids=[name])


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_close_while_idle(path, stray, kind):
    acknowledged = []
    with ragstore.open(path) as store:
        store.create_collection("c")
        add(store, "first")
        acknowledged.append("first")
        for number in range(2):
            STRAYS[stray](path)
            with other(kind, path) as process:
                assert process.commit(f"other{number}") == "committed"
            acknowledged.append(f"other{number}")
            add(store, f"ours{number}")
            acknowledged.append(f"ours{number}")
            assert seen_by_a_fresh_process(path) == sorted(acknowledged)
            if kind == "ragstore":
                assert len(store["c"]) == len(acknowledged)
    assert seen_by_a_fresh_process(path) == sorted(acknowledged)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_stray_close_with_two_stores_of_one_process(path, kind):
    with ragstore.open(path) as store, ragstore.open(path) as second:
        store.create_collection("c")
        add(store, "first")
        second.close()
        STRAYS["read"](path)
        with other(kind, path) as process:
            assert process.commit("other") == "committed"
        add(store, "ours")
        assert seen_by_a_fresh_process(path) == ["first", "other", "ours"]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("stray", ["shm", "all", "sqlite3"])
def test_a_stray_close_during_a_write(path, stray, kind):
    """In the middle of a bulk add the files are closed, and another process is kept out all the same."""
    acknowledged, answers = ["first"], []
    with ragstore.open(path) as store:
        store.create_collection("c")
        add(store, "first")
        size = 5_000
        while "locked" not in answers and size < 200_000:
            asked: list[str] = []
            with other(kind, path, timeout=0.0) as process:

                def watch(done: int, total: int, process: Other = process, asked: list[str] = asked) -> None:
                    if done < total and not asked:
                        STRAYS[stray](path)
                        asked.append(process.commit(f"between{total}"))

                names = [f"bulk{size}-{row}" for row in range(size)]
                store["c"].add_texts(["bulk text"] * size, np.ones((size, 2), np.float32), ids=names, progress=watch)
                acknowledged += names
            if asked == ["committed"]:
                acknowledged.append(f"between{size}")
            answers += asked
            # The add was over before it was looked at, or before the other came: a bigger one.
            size *= 2
        assert "locked" in answers
        add(store, "last")
        acknowledged.append("last")
        assert seen_by_a_fresh_process(path) == sorted(acknowledged)
    assert seen_by_a_fresh_process(path) == sorted(acknowledged)


ROUNDS = record.size(25, 1_000)


def commit(kind: str, path: str, name: str) -> None:
    """What another process does in a round."""
    if kind == "ragstore":
        with ragstore.open(path) as store:
            store["c"].add_texts([f"{name} text"], [[1.0, 2.0]], ids=[name])
        return
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE IF NOT EXISTS others (name TEXT)")
        connection.execute("INSERT INTO others VALUES (?)", (name,))
        connection.execute("COMMIT")


def test_lock_loss(path, tmp_path):
    """Strays and other processes at any moment of our commits."""
    with record.Suite("lock_loss", tmp_path) as suite, Server(__name__) as server:
        acknowledged = ["first"]
        with ragstore.open(path) as store:
            store.create_collection("c")
            add(store, "first")
            for number in range(ROUNDS):
                stray, kind = suite.chance.choice(sorted(STRAYS)), suite.chance.choice(sorted(OTHERS))
                # Before the other process comes, or while both write.
                before = suite.chance.random() < 0.3
                if before:
                    STRAYS[stray](path)
                child = server.start(commit, kind, str(path), f"other{number}")
                thread = threading.Thread(target=(lambda _: None) if before else STRAYS[stray], args=(path,))
                thread.start()
                names = [f"ours{number}-{row}" for row in range(suite.chance.choice([1, 20, 200]))]
                store["c"].add_texts(["ours text"] * len(names), np.ones((len(names), 2), np.float32), ids=names)
                acknowledged += names
                thread.join()
                assert child.wait() == 0
                acknowledged.append(f"other{number}")
                suite.counts["rounds"] += 1
                suite.counts["acknowledged commits"] += 2
                if number % 100 == 99:
                    assert seen_by_a_fresh_process(path) == sorted(acknowledged)
        assert seen_by_a_fresh_process(path) == sorted(acknowledged)
        oracle.check_file(path)


# The control: the same with SQLite alone on both sides, in a process of its own.
PLAIN = """
import os, sqlite3, subprocess, sys
path, inside = sys.argv[1], sys.argv[2] == "write"
ours = sqlite3.connect(path, isolation_level=None)
ours.execute("PRAGMA journal_mode = WAL")
ours.execute("CREATE TABLE others (name TEXT)")
ours.execute("INSERT INTO others VALUES ('first')")
if inside:
    ours.execute("BEGIN IMMEDIATE")
    ours.execute("INSERT INTO others VALUES ('ours')")
for suffix in sys.argv[4:]:
    open(path + suffix, "rb").read()
other = subprocess.run([sys.executable, "-c", sys.argv[3], path, "0"], input="other", capture_output=True, text=True)
print(other.stdout.split("\\n")[1], flush=True)
try:
    ours.execute("COMMIT" if inside else "INSERT INTO others VALUES ('ours')")
    print("committed", flush=True)
except sqlite3.OperationalError as error:
    print(error, flush=True)
# Closing would move the log that nobody else sees into the file; a crash after the acknowledgement does not.
os._exit(0)
"""


def plain(path: Path, when: str, strays: list[str]) -> tuple[list[str], list[str]]:
    """What each side was told, and what a fresh process sees."""
    command = [sys.executable, "-c", PLAIN, path, when, OTHERS["sqlite3"], *strays]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with closing(sqlite3.connect(path)) as connection:
        return done.stdout.split("\n")[:2], [row[0] for row in connection.execute("SELECT name FROM others")]


def test_sqlite_alone_loses_a_commit_when_idle(path):
    assert plain(path, "idle", []) == (["committed", "committed"], ["first", "other", "ours"])
    path.unlink()
    assert plain(path, "idle", [""]) == (["committed", "committed"], ["first", "other"])


def test_sqlite_alone_lets_another_in_during_a_write(path):
    told, seen = plain(path, "write", [])
    assert (told, seen) == (["locked", "committed"], ["first", "ours"])
    path.unlink()
    told, seen = plain(path, "write", ["-shm"])
    assert told == ["committed", "committed"]
    assert len(seen) < 3
