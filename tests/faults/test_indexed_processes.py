"""Two processes write and search one store, both with derived indexes: no answer lacks a commit or has what is gone."""

import os
import random

import numpy as np
import pytest
import ragstore
import ragstore.store

from tests.faults import oracle, record
from tests.faults.server import Server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked from one that has all imported"),
]

ROUNDS = record.size(60, 4_000)
DIMENSION = 8
# Rows of each process, about: all that match are compared.
MOST = 600
# From one row on, built anew after forty changes, while everybody goes on.
INDEX_AT = (1, 40, False)


def near(collection, query, where=None, k=50):
    return [(hit.id, hit.distance) for hit in collection.vector_search(query, k=k, where=where, exact=True)]


def words(collection, where=None):
    # How rare a word is depends on the rows of the other process, too.
    return sorted(hit.id for hit in collection.keyword_search("every odd", k=1000, where=where))


def compare(quick, plain, rng, where) -> None:
    query = rng.standard_normal(DIMENSION)
    assert near(quick, query, where) == near(plain, query, where)
    assert words(quick, where) == words(plain, where)


def process(path: str, name: str, seed: int) -> None:
    chance, rng = random.Random(f"{name} {seed}"), np.random.default_rng(seed)
    ragstore.store._INDEX_AT = INDEX_AT
    own: list[str] = []
    where = {"by": name}
    store = ragstore.open(path)
    with ragstore.open(path, derived="off") as tables:
        for number in range(ROUNDS):
            kind = chance.random()
            if (kind < 0.6 and len(own) < MOST) or len(own) < 10:
                ids = [f"{name}-{number}-{row}" for row in range(chance.randrange(1, 12))]
                texts = [f"every {'odd' if chance.random() < 0.5 else 'even'} chunk {id}" for id in ids]
                vectors = rng.integers(-3, 4, (len(ids), DIMENSION)) + 0.5
                store["c"].add_texts(texts, vectors, ids=ids, metadatas=[where] * len(ids))
                own += ids
            elif kind < 0.8:
                gone = chance.sample(own, chance.randrange(1, 6))
                store["c"].delete(gone)
                own = [id for id in own if id not in gone]
            elif kind < 0.95:
                id = chance.choice(own)
                store["c"].set_embeddings([id], rng.standard_normal((1, DIMENSION)))
            elif kind < 0.98:
                store.optimize()
            else:
                store.close()
                store = ragstore.open(path)
            # Nobody else writes what the filter lets through.
            compare(store["c"], tables["c"], rng, where)
            assert len(near(store["c"], np.ones(DIMENSION), where, k=MOST + 20)) == len(own)
    store.close()


def test_two_processes_with_indexes(path, tmp_path):
    with record.Suite("indexed_processes", tmp_path) as suite, Server(__name__) as server:
        with ragstore.open(path, derived="off") as store:
            store.create_collection("c", dimension=DIMENSION, metric="l2")
        children = [
            server.start(process, str(path), name, suite.seed % 1000 + place) for place, name in enumerate("ab")
        ]
        assert [child.wait() for child in children] == [0, 0]
        suite.counts["rounds of each process"] += ROUNDS
        with ragstore.open(path) as store, ragstore.open(path, derived="off") as tables:
            rng = np.random.default_rng(suite.seed)
            for where in (None, {"by": "a"}, {"by": "b"}):
                compare(store["c"], tables["c"], rng, where)
        oracle.check_file(path)
