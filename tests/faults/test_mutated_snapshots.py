"""Damaged snapshots: every answer is the one that the tables give, and no process ends by them."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ragstore
import ragstore.store

from tests.faults import record

pytestmark = pytest.mark.faults

suite = record.suite_of_module("mutated_snapshots")

MUTANTS = record.size(200, 20_000)
# Mutants that one process looks at.
PORTION = 50
# The second has a graph.
BASES = {"small": (600, 1.0), "graph": (34_000, 0.02)}
DIMENSION = 4
NEVER = (2**62, 2**62, False)

WORKER = """
import json, sys
from pathlib import Path
from tests.faults.test_mutated_snapshots import answers, reopened
for line in sys.stdin:
    with reopened(Path(line.strip())) as store:
        print(json.dumps(answers(store["c"])), flush=True)
"""


def reopened(path: Path, **options: str) -> ragstore.Store:
    """A store that builds nothing."""
    ragstore.store._INDEX_AT = NEVER
    return ragstore.open(path, read_only=True, **options)


def make_base(path: Path, rows: int) -> None:
    """A store with snapshots of both kinds."""
    ragstore.store._INDEX_AT = (1, 0, False)
    vectors = np.random.default_rng(rows).standard_normal((rows, DIMENSION))
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=DIMENSION)
        texts = [f"word{n % 7} word{n % 31} of {n}" for n in range(rows)]
        collection.add_texts(
            texts, vectors, ids=[str(n) for n in range(rows)], metadatas=[{"n": n % 5} for n in range(rows)]
        )
        store.optimize()
    # Some of what is in the snapshots is gone, and some came.
    ragstore.store._INDEX_AT = NEVER
    with ragstore.open(path) as store:
        collection = store["c"]
        collection.delete([str(n) for n in range(0, rows, rows // 20)])
        collection.add_texts(["word3 anew"], [[1.0, 2, 3, 4]], ids=["new"])


def answers(collection: ragstore.Collection) -> list[list[tuple[str, float]]]:
    """Everything that an index answers alone."""
    queries = np.random.default_rng(1).standard_normal((3, DIMENSION))
    found = [
        *(collection.vector_search(query, 10, exact=True) for query in queries),
        collection.vector_search(queries[0], 10, exact=True, where={"n": 3}),
        *(
            collection.keyword_search("word3 word17 of", 10, syntax=syntax)
            for syntax in ("natural", "all", "phrase", "prefix")
        ),
        collection.keyword_search("word5", 10, where={"n": 2}),
        collection.search("word2", vector=queries[1], k=10, exact=True),
    ]
    # Nearly the nearest, but there, and as many as were asked for.
    near = collection.vector_search(queries[2], 10)
    assert len(near) == 10
    assert None not in collection.get(near.ids)
    return [[(hit.id, hit.score) for hit in hits] for hits in found]


def mutated(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A file that is no longer what was written."""
    changed = bytearray(data)
    # Headers are looked into as often as all the rest.
    at = chance.randrange(chance.choice((4096, len(data))))
    kind = chance.randrange(7)
    if kind == 0:
        for _ in range(chance.choice((1, 1, 3, 50))):
            changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        size = chance.choice((8, 64, 4096))
        changed[at : at + size] = bytes(len(changed[at : at + size]))
    elif kind == 3:
        size, source = chance.choice((4, 64, 4096)), chance.randrange(len(data))
        piece = data[source : source + size]
        changed[at : at + len(piece)] = piece
        del changed[len(data) :]
    elif kind == 4:
        changed[at : at + 8] = chance.choice((b"\xff" * 8, b"\x00" * 7 + b"\x80", (1 << 40).to_bytes(8, "little")))
        del changed[len(data) :]
    elif kind == 5:
        changed = bytearray(other)
    else:
        changed += chance.randbytes(chance.choice((1, 64, 5000)))
    return bytes(changed)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Each store with its snapshots, and what its tables answer."""
    before = ragstore.store._INDEX_AT
    made = {}
    for name, (rows, _) in BASES.items():
        path = tmp_path_factory.mktemp(name) / "kb.db"
        make_base(path, rows)
        with reopened(path, derived="off") as store:
            expected = answers(store["c"])
        with reopened(path) as store:
            assert answers(store["c"]) == expected
            plan = store["c"].search("word2", vector=[1.0] * DIMENSION, explain=True).plan
            assert plan["vector"]["scan"] == ("graph" if name == "graph" else "codes")
            assert "index" in plan["keyword"]
        files = {file.name: file.read_bytes() for file in path.with_name("kb.db-index").glob("*.index")}
        assert len(files) == 2
        made[name] = (path, files, json.loads(json.dumps(expected)))
    ragstore.store._INDEX_AT = before
    return made


def test_mutated_snapshots(bases, suite, tmp_path):
    stores = {}
    for name, (path, _, _) in bases.items():
        stores[name] = tmp_path / name / "kb.db"
        stores[name].parent.mkdir()
        shutil.copy(path, stores[name])
        stores[name].with_name("kb.db-index").mkdir()
    for first in range(0, MUTANTS, PORTION):
        command = [sys.executable, "-c", WORKER]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=record.ROOT
        ) as worker:
            for _ in range(first, min(first + PORTION, MUTANTS)):
                name = "graph" if suite.chance.random() < BASES["graph"][1] else "small"
                _, files, expected = bases[name]
                damage(suite.chance, stores[name].with_name("kb.db-index"), files)
                worker.stdin.write(f"{stores[name]}\n")
                worker.stdin.flush()
                line = worker.stdout.readline()
                assert line, f"the process ended with {worker.wait()}; files in {stores[name].parent}"
                assert json.loads(line) == expected
                suite.counts["mutants"] += 1
            worker.stdin.close()
            assert worker.wait() == 0


def damage(chance: random.Random, folder: Path, files: dict[str, bytes]) -> None:
    """One of the files, or each."""
    names = sorted(files)
    hit = set(chance.choice((names, names[:1], names[1:])))
    for name in names:
        other = files[next(another for another in names if another != name)]
        data = mutated(chance, files[name], other) if name in hit else files[name]
        # Never over a file that somebody may have mapped.
        (folder / "new").write_bytes(data)
        (folder / "new").replace(folder / name)
