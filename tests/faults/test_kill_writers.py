"""Three writers and a reader of one file are killed again and again: what was acknowledged is there, and all of it.

Each round goes on where the one before was killed. Now and then the process that opens the file next, and brings it in
order, is killed as well.
"""

import copy
import itertools
import os
import pickle
import select
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.faults import oracle, record, workload
from tests.faults.server import Child, Server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and pipes that select are POSIX"),
]

KILLS = record.size(150, 6_000)
WRITERS = ["a", "b", "c"]


def write(path: str, seed: int, writer: str, fifo: str) -> None:
    """Goes on with a writer's operations until it is killed."""
    state, first = pickle.loads(Path(fifo).with_suffix(".state").read_bytes())
    out = os.open(fifo, os.O_WRONLY)
    with ragstore.open(path) as store:
        os.write(out, b"ready\n")
        numbers = itertools.count(first)
        workload.write(store, seed, writer, state, numbers, lambda number: os.write(out, b"%d\n" % number))


def read(path: str, fifo: str) -> None:
    """Reads until it is killed; an exception ends it."""
    out = os.open(fifo, os.O_WRONLY)
    with ragstore.open(path, read_only=True) as store:
        os.write(out, b"ready\n")
        for number in itertools.count():
            hits = store["c"].search("text", vector=np.ones(workload.DIMENSION), k=5)
            assert all("text" in text for text in hits.texts)
            assert store["c"].count() >= 0
            os.write(out, b"%d\n" % number)


def reopen(path: str) -> None:
    """What the one that opens the file first after a crash does."""
    with ragstore.open(path) as store:
        assert len(store["c"].list_documents()) >= 0


class Round:
    """Three writers and a reader, from their start to their end."""

    def __init__(self, server: Server, folder: Path, path: Path, seed: int, states: dict) -> None:
        self.output: dict[str, bytes] = {}
        self.children = {}
        self.pipes = {}
        for writer in [*WRITERS, "reader"]:
            fifo = folder / f"{writer}.fifo"
            if not fifo.exists():
                os.mkfifo(fifo)
            self.output[writer] = b""
            self.pipes[writer] = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            if writer == "reader":
                self.children[writer] = server.start(read, str(path), str(fifo))
            else:
                fifo.with_suffix(".state").write_bytes(pickle.dumps(states[writer]))
                self.children[writer] = server.start(write, str(path), seed, writer, str(fifo))

    def said(self, timeout: float) -> int:
        """How many operations were acknowledged, after looking for more."""
        ready, _, _ = select.select(list(self.pipes.values()), [], [], timeout)
        for writer, pipe in self.pipes.items():
            if pipe in ready:
                self.output[writer] += os.read(pipe, 1 << 16)
        return sum(self.output[writer].count(b"\n") for writer in WRITERS)

    def end(self, chance) -> dict[str, int]:
        """Kills all, in any order, and says the last operation that each writer acknowledged."""
        last = {}
        for writer in chance.sample(sorted(self.children), len(self.children)):
            self.children[writer].kill()
        for writer, child in self.children.items():
            status = child.wait()
            while some := os.read(self.pipes[writer], 1 << 16):
                self.output[writer] += some
            os.close(self.pipes[writer])
            assert status == -9, f"{writer} ended by itself with {status}"
            whole = self.output[writer][: self.output[writer].rfind(b"\n") + 1]
            numbers = [int(line) for line in whole.split() if line != b"ready"]
            last[writer] = numbers[-1] if numbers else None
        return last


def killed(child: Child) -> bool:
    """Kills a process, and whether it died of that: it may have come to its end before, which must be a good one."""
    child.kill()
    status = child.wait()
    assert status in {0, -9}, f"it ended by itself with {status}"
    return status == -9


def judge(path: Path, seed: int, states: dict, last: dict) -> None:
    """Each writer's documents are those after its last acknowledged operation, or after the one that was under way."""
    with ragstore.open(path, create=False) as store:
        found = workload.stored(store["c"])
        workload.check_answers(store["c"], found)
    own = workload.by_writer(found)
    for writer in WRITERS:
        state, number = states[writer]
        if last[writer] is not None:
            while number <= last[writer]:
                workload.operation(state, seed, writer, number)
                number += 1
        if own.get(writer, {}) != state:
            workload.operation(state, seed, writer, number)
            number += 1
            assert own.get(writer, {}) == state, f"{writer} is neither after operation {number - 2} nor the next"
        states[writer] = state, number
    oracle.check_file(path)


def test_kill_writers(path, tmp_path):
    with record.Suite("kill_writers", tmp_path) as suite, Server(__name__) as server:
        with ragstore.open(path) as store:
            store.create_collection("c", dimension=workload.DIMENSION)
        states = {writer: ({}, 0) for writer in WRITERS}
        while suite.counts["kills"] < KILLS:
            now = Round(server, tmp_path, path, suite.seed, states)
            # Also while they open the file, and between two acknowledgements.
            wanted = suite.chance.choice([0, 3, 3, 10, 30, 60])
            while now.said(60 if wanted else 0.0) < wanted:
                pass
            now.said(suite.chance.random() * 0.02)
            last = now.end(suite.chance)
            suite.counts["kills"] += len(now.children)
            if suite.chance.random() < 0.2:
                again = server.start(reopen, str(path))
                select.select([], [], [], suite.chance.random() * 0.01)
                died = killed(again)
                suite.counts["kills"] += died
                suite.counts["of them of a re-opener"] += died
            before = {writer: number for writer, (_, number) in states.items()}
            judge(path, suite.seed, states, last)
            suite.counts["acknowledged commits"] += sum(
                max(0, states[writer][1] - before[writer]) for writer in WRITERS
            )
            suite.counts["rounds"] += 1
        assert suite.counts["acknowledged commits"] > KILLS


def wait(fifo: str) -> None:
    """Waits for what never comes."""
    Path(fifo).read_bytes()


def test_a_death_counts_where_the_kill_was_its_cause(path, tmp_path):
    """The control: one that waits, one that had come to its end, and one that ended by an error."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ragstore.open(path) as store:
        store.create_collection("c")
    with Server(__name__) as server:
        assert killed(server.start(wait, str(fifo)))
        for argument, status in ((path, 0), (tmp_path, 1)):
            child = server.start(reopen, str(argument))
            server.ended[child.number] = server.wait(child.number)
            assert server.ended[child.number] == status
            if status:
                with pytest.raises(AssertionError, match="by itself with 1"):
                    killed(child)
            else:
                assert not killed(child)


DAMAGES = {
    "a document": lambda c, state: c.delete(document_ids=[next(iter(state))]),
    "a chunk": lambda c, state: c.delete([next(d for d in state.values() if len(d.chunks) > 1).chunks[0].id]),
    "metadata": lambda c, state: c.update_metadata({"n": -1}, document_ids=[next(iter(state))]),
    "a vector": lambda c, state: c.set_embeddings(
        [next(iter(state.values())).chunks[0].id], np.ones((1, workload.DIMENSION))
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_judge_sees_a_loss(path, damage):
    """The control."""
    state: dict = {}
    with ragstore.open(path) as store:
        store.create_collection("c", dimension=workload.DIMENSION)
        workload.write(store, 1, "a", state, range(30), lambda _: None)
    states = {writer: ({}, 0) for writer in WRITERS}
    judge(path, 1, copy.deepcopy(states), {"a": 29, "b": None, "c": None})
    # One more than was acknowledged may be there, but not two, and not one less.
    judge(path, 1, copy.deepcopy(states), {"a": 28, "b": None, "c": None})
    for number in (27, 30):
        with pytest.raises(AssertionError, match="a is neither"):
            judge(path, 1, copy.deepcopy(states), {"a": number, "b": None, "c": None})
    with ragstore.open(path) as store:
        DAMAGES[damage](store["c"], state)
    with pytest.raises(AssertionError, match="a is neither"):
        judge(path, 1, copy.deepcopy(states), {"a": 29, "b": None, "c": None})


@pytest.mark.skipif(sys.platform != "linux", reason="it writes beside the library")
@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM fts_1_1_data WHERE id > 10",
        "UPDATE vec_1_1_rowids SET chunk_offset = chunk_offset + 1",
        "UPDATE vec_1_1_chunks SET validity = zeroblob(16)",
        "DELETE FROM vec_1_1_rowids WHERE rowid = (SELECT max(rowid) FROM vec_1_1_rowids)",
        "UPDATE vec_1_1_vector_chunks00 SET vectors = zeroblob(16)",
        "UPDATE meta SET value = 1 WHERE key = 'embedding_cache_bytes'",
        "CREATE TABLE vec_1_9_rowids (x)",
        "PRAGMA foreign_keys = OFF; DELETE FROM documents",
    ],
)
def test_the_oracle_sees_damage(path, sql):
    """The control."""
    with ragstore.open(path) as store:
        store.create_collection("c", dimension=workload.DIMENSION)
        workload.write(store, 1, "a", {}, range(30), lambda _: None)
    oracle.check_file(path)
    connection = sqlite3.connect(path)
    connection.executescript(sql)
    connection.close()
    with pytest.raises(AssertionError):
        oracle.check_file(path)
