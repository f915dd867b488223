"""A process is killed while it gives a file another key: exactly one key opens it, and all rows are there."""

import os
import random
import select
import subprocess
import sys
import time

import numpy as np
import pytest
import ragstore

pytestmark = [pytest.mark.faults, pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")]

KILLS = 500 if os.environ.get("RAGSTORE_FAULTS") == "full" else 12
ROWS, DIMENSION = 400, 16

# A raw key is not stretched, so that the time goes into the work.
CHILD = """
import os, sys
import ragstore

def key(text):
    return bytes.fromhex(text) if text else None

path, old, *new = sys.argv[1:]
with ragstore.open(path, key=key(old)) as store:
    # What is in the log when it begins.
    store["c"].add_texts([f"logged {store['c'].count()}"], [[1.0] * 16])
    os.write(1, b"ready\\n")
    for text in new:
        store.rekey(key(text))
        os.write(1, text.encode() + b"\\n")
"""


def rows(path, key) -> tuple[int, set[str]]:
    """How many chunks there are after a check of rows, text index and vectors, and the ids of the first documents."""
    with ragstore.open(path, key=key, create=False) as store:
        notes = store["c"]
        count = notes.count()
        ids = notes.keyword_search("text OR logged", k=4096, syntax="fts5").ids
        assert len(ids) == len(set(ids)) == count
        assert len(notes.vector_search([1.0] * DIMENSION, k=4096, exact=True).ids) == count
        assert notes.get_embeddings(ids).shape == (count, DIMENSION)
        return count, {id for id in ids if id.startswith("row")}


def test_a_kill_leaves_the_file_to_exactly_one_key(path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    with ragstore.open(path) as store:
        vectors = np.random.default_rng(1).standard_normal((ROWS, DIMENSION), np.float32)
        notes = store.create_collection("c", dimension=DIMENSION)
        notes.add_texts([f"text {row} " * 30 for row in range(ROWS)], vectors, ids=[f"row{row}" for row in range(ROWS)])
    expected = {f"row{row}" for row in range(ROWS)}
    key: bytes | None = None
    count, outcomes, span = ROWS, set(), 0.2
    for number in range(KILLS):
        # The second is for the child that is not killed in time.
        keys = [None if chance.random() < 0.25 else chance.randbytes(32) for _ in range(2)]
        texts = ["" if one is None else one.hex() for one in (key, *keys)]
        child = subprocess.Popen([sys.executable, "-c", CHILD, path, *texts], stdout=subprocess.PIPE)
        output = child.stdout
        assert output.readline() == b"ready\n"
        began = time.monotonic()
        # Not before something, but at any moment of it: this is what is tested.
        select.select([output], [], [], chance.uniform(0, span))
        time.sleep(chance.uniform(0, 0.002))
        child.kill()
        said = output.read().split(b"\n")[:-1]
        child.wait()
        output.close()
        if said:
            span = max(0.02, 0.9 * span + 0.1 * 1.5 * (time.monotonic() - began))
        candidates = [key, *keys]
        if len(said) == 2:
            candidates = [keys[1]]
        elif said:
            candidates = keys
        opens = []
        for candidate in dict.fromkeys([key, *keys]):
            try:
                found = rows(path, candidate)
            except ragstore.WrongKeyError:
                continue
            opens.append((candidate, found))
        assert len(opens) == 1, f"kill {number}: {len(opens)} keys open it"
        ((key, (now, ids)),) = opens
        assert key in candidates, f"kill {number}: a key that was acknowledged does not open it"
        outcomes.add((len(said), key in keys))
        count += 1
        assert (now, ids) == (count, expected), f"kill {number}"
        assert not [name for name in os.listdir(path.parent) if "rekey" in name]
    assert len(outcomes) > 1, outcomes


def test_the_checks_see_what_is_missing(path):
    """The control."""
    with ragstore.open(path, key=bytes(32)) as store:
        notes = store.create_collection("c", dimension=DIMENSION)
        notes.add_texts(["text one", "text two"], np.ones((2, DIMENSION), np.float32))
    assert rows(path, bytes(32))[0] == 2
    with ragstore.open(path, key=bytes(32)) as store:
        store["c"].delete_embeddings(store["c"].keyword_search("one").ids)
    with pytest.raises(AssertionError):
        rows(path, bytes(32))
