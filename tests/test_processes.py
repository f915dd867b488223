"""Several processes and one file."""

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.helpers.processes import race

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere two libraries of a process are one to locks")

# Runs what it is told, a line of Python at a time, and answers with JSON.
SERVER = """
import json, sys
import numpy as np
import ragstore

from tests.helpers.processes import race
store = ragstore.open(sys.argv[1], **json.loads(sys.argv[2]))
print("null", flush=True)
for line in sys.stdin:
    try:
        answer = eval(line)
    except Exception as error:
        answer = type(error).__name__
    print(json.dumps(answer, default=repr), flush=True)
store.close()
"""


class Process:
    """Another process with the store open."""

    def __init__(self, path: Path, options: dict) -> None:
        command = [sys.executable, "-c", SERVER, path, json.dumps(options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def ask(self, expression: str):
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, "the other process ended"
        return json.loads(line)


@contextmanager
def other(path: Path, **options):
    made = Process(path, options)
    try:
        yield made
    finally:
        made.process.communicate()
    assert made.process.returncode == 0


def test_a_commit_is_seen_by_the_next_search_elsewhere(path, store):
    notes = store.create_collection("notes", metric="l2")
    notes.add("nothing of it", [[0.0, 1.0]])
    with other(path) as there:
        for number in range(50):
            # Theirs, seen here.
            added = f"store['notes'].add_texts(['their{number}'], [[1.0, {number}]], ids=['their{number}'])"
            assert there.ask(added) == [f"their{number}"]
            assert notes.keyword_search(f"their{number}").ids == [f"their{number}"]
            assert notes.vector_search([1.0, number], k=1, exact=True).ids == [f"their{number}"]
            assert notes.count() == 2 * number + 2
            # Ours, seen there.
            notes.add_texts([f"our{number}"], [[-1.0, number]], ids=[f"our{number}"])
            assert there.ask(f"store['notes'].keyword_search('our{number}').ids") == [f"our{number}"]
            near = f"store['notes'].vector_search([-1.0, {number}], k=1, exact=True).ids"
            assert there.ask(near) == [f"our{number}"]
            assert there.ask("len(store['notes'])") == 2 * number + 3


def test_a_change_of_each_kind_is_seen_elsewhere(path, store):
    notes = store.create_collection("notes")
    with other(path) as there:
        notes.add_texts(["one", "two"], [[1.0, 0.0], [0.0, 1.0]], ids=["a", "b"])
        assert there.ask("store['notes'].get(['a', 'b'])[1].text") == "two"
        notes.set_embeddings(["b"], [[-1.0, 0.0]])
        assert there.ask("store['notes'].get_embeddings(['b']).tolist()") == [[-1.0, 0.0]]
        notes.update_metadata({"n": 1}, chunk_ids=["a"])
        assert there.ask("store['notes'].count({'n': 1})") == 1
        notes.create_space("more", dimension=3)
        assert there.ask("[space.name for space in store['notes'].list_spaces()]") == ["default", "more"]
        notes.delete(["a"])
        assert there.ask("store['notes'].search('one two').ids") == ["b"]
        # The text index and the vectors are other tables from here on.
        notes.clear()
        assert there.ask("[store['notes'].search('two').ids, store['notes'].search(vector=[1.0, 0.0]).ids]") == [[], []]
        notes.add_texts(["two"], [[1.0, 0.0]], ids=["c"])
        assert there.ask("store['notes'].search('two', vector=[1.0, 0.0]).ids") == ["c"]
        store.delete_collection("notes")
        assert there.ask("store['notes'].count()") == "CollectionNotFoundError"
        store.create_collection("notes")
        assert there.ask("store['notes'].add(['new'], [[1.0, 2.0, 3.0]]).added") == 1
        assert store["notes"].info.dimension == 3


def test_a_reader_elsewhere_only_reads(path, store):
    notes = store.create_collection("notes")
    notes.add_texts(["one"], [[1.0, 0.0]], ids=["a"])
    with other(path, read_only=True) as there:
        assert there.ask("store.read_only") is True
        assert there.ask("store['notes'].search('one').ids") == ["a"]
        for write in (
            "add('two')",
            "clear()",
            "delete(['a'])",
            "create_space('more')",
            "update_metadata({}, where={})",
        ):
            assert there.ask(f"store['notes'].{write}") == "ReadOnlyError"
        notes.add_texts(["two"], [[0.0, 1.0]], ids=["b"])
        assert there.ask("store['notes'].search('two').ids") == ["b"]
        assert there.ask("store['notes'].search(vector=[0.0, 1.0], k=1).ids") == ["b"]
    assert len(notes) == 2


def test_a_reader_is_not_disturbed_by_a_bulk_add(path, store):
    """It sees all of a call or nothing of it, also in the middle."""
    notes = store.create_collection("notes")
    seen = []
    with other(path, read_only=True) as there:

        def watch(done, total):
            seen.append((done < total, there.ask("store['notes'].count()")))

        notes.add_texts(["text"] * 20_000, np.ones((20_000, 4), np.float32), progress=watch)
        assert there.ask("store['notes'].count()") == 20_000
    assert {count for _, count in seen} <= {0, 20_000}
    assert seen[-1] == (False, 20_000)


def test_a_writer_waits_for_another(path, store):
    """While one writes, the other waits up to its timeout, and then says so."""
    store.create_collection("notes")
    answers = []
    size = 5_000
    with other(path, timeout=0) as there:
        while not answers:

            def watch(done, total):
                # The first look of several: the write has far to go.
                if done < total // 2 and not answers:
                    answers.append(there.ask("store['notes'].add(['theirs']).added"))

            store["notes"].add_texts(["text"] * size, np.ones((size, 4), np.float32), progress=watch)
            size *= 4
        assert answers == ["LockedError"]
        assert there.ask("store['notes'].add(['theirs']).added") == 1


CREATOR = """
import sys
import numpy as np
import ragstore

from tests.helpers.processes import race
print("ready", flush=True)
sys.stdin.readline()
with ragstore.open(sys.argv[1]) as store:
    notes = store.create_collection("notes", dimension=4, exist_ok=True)
    for number in range(5):
        id = f"{sys.argv[2]}-{number}"
        notes.add_texts([f"word{number} text"], np.ones((1, 4), np.float32), ids=[id])
"""


def test_eight_processes_create_one_file(tmp_path):
    path = tmp_path / "new" / "folder" / "kb.db"
    existed = []
    assert race(CREATOR, path, 8, lambda: existed.append(path.exists())) == [""] * 8
    assert existed == [False]
    expected = {f"{process}-{number}" for process in range(8) for number in range(5)}
    with ragstore.open(path, create=False) as store:
        notes = store["notes"]
        assert {document.id for document in notes.list_documents()} == expected
        assert set(notes.keyword_search("word3", k=100).ids) == {f"{process}-3" for process in range(8)}
        assert set(notes.vector_search(np.ones(4), k=100).ids) == expected
        assert [info.name for info in store.list_collections()] == ["notes"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
@pytest.mark.parametrize("read_only", [False, True])
def test_close_lets_go_of_the_files(path, read_only):
    """Also while the object lives on."""
    with ragstore.open(path) as first:
        first.create_collection("notes")
    store = ragstore.open(path, read_only=read_only)
    store["notes"].count()
    assert descriptors(path)
    store.close()
    assert descriptors(path) == []


def descriptors(path: Path) -> list[str]:
    # The one that lists the folder is gone before it is asked.
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [target for target in (str(link.readlink()) for link in links) if target.startswith(str(path))]


def foreign(path: Path, timeout: float = 0.0) -> sqlite3.Connection:
    """Another SQLite library, in this process."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=timeout, check_same_thread=False)
    connection.execute("CREATE TABLE IF NOT EXISTS foreign_rows (name TEXT)")
    return connection


@linux
def test_another_library_in_this_process_is_kept_out_of_a_write(path, store):
    notes = store.create_collection("notes")
    told: list[str] = []
    with closing(foreign(path)) as connection:
        count = 1_000
        while "database is locked" not in told and count < 200_000:
            count *= 2
            asked: list[str] = []

            def write(done: int, total: int, asked: list[str] = asked) -> None:
                if done < total and not asked:
                    try:
                        connection.execute("INSERT INTO foreign_rows VALUES ('in between')")
                        asked.append("written")
                    except sqlite3.OperationalError as error:
                        asked.append(str(error))

            # An add that is over before the other library comes is told nothing: a bigger one.
            notes.add_texts(["some words"] * count, progress=write)
            told += asked
        assert "database is locked" in told
        connection.execute("INSERT INTO foreign_rows VALUES ('afterwards')")
        written = connection.execute("SELECT name FROM foreign_rows").fetchall()
        assert written == [("in between",)] * told.count("written") + [("afterwards",)]


@linux
def test_a_write_waits_for_another_library_in_this_process(path):
    with ragstore.open(path, timeout=0.2) as store:
        notes = store.create_collection("notes")
        with closing(foreign(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO foreign_rows VALUES ('theirs')")
            with pytest.raises(ragstore.LockedError):
                notes.add("ours")
            connection.execute("COMMIT")
            notes.add("ours")
            assert connection.execute("SELECT count(*) FROM foreign_rows").fetchone() == (1,)
        assert len(notes) == 1


@linux
def test_two_libraries_in_this_process_write_at_the_same_time(path, store):
    notes = store.create_collection("notes")
    failures = []

    def write() -> None:
        try:
            with closing(foreign(path, timeout=30)) as connection:
                for number in range(200):
                    connection.execute("INSERT INTO foreign_rows VALUES (?)", (str(number),))
        except sqlite3.Error as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(200):
        notes.add_texts(["some", "words"])
    thread.join()
    assert failures == []
    assert len(notes) == 400
    assert store.check().ok
    with closing(foreign(path)) as connection:
        assert connection.execute("SELECT count(*) FROM foreign_rows").fetchone() == (200,)
