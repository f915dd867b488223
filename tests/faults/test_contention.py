"""Four processes of four threads write the same keys for minutes: no update is lost, no key is there twice, nobody is
told that the store is busy.
"""

import json
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.faults import oracle, record
from tests.faults.server import Server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked from one that has all imported"),
]

SECONDS = record.size(3, 300)
PROCESSES, THREADS = 4, 4
URIS = [f"uri:{number}" for number in range(8)]


def worker(store: ragstore.Store, name: str, until: float, said: dict) -> None:
    """Writes until the time is over, and keeps what was acknowledged."""
    collection = store["c"]
    chance = random.Random(name)
    claimed, last, counts = [], {}, Counter()
    said[name] = {"claimed": claimed, "last": last, "counts": counts, "error": ""}
    number = 0
    try:
        while time.monotonic() < until:
            number += 1
            kind = chance.choice(["claim", "upsert", "merge", "own"])
            if kind == "claim":
                # One of all who saw the same number gets the next.
                ticket = collection.count_documents({"kind": "ticket"})
                try:
                    collection.add_texts(
                        [f"ticket {ticket}"],
                        [[1.0, ticket]],
                        ids=[f"t{ticket}"],
                        metadatas=[{"kind": "ticket", "by": name}],
                    )
                    claimed.append(ticket)
                except ragstore.ConflictError:
                    counts["conflicts"] += 1
            elif kind == "upsert":
                uri = chance.choice(URIS)
                collection.add(
                    [ragstore.Document(f"upsert {name} {number}", uri=uri, metadata={"by": name, "n": number})],
                    [[2.0, number]],
                    on_conflict="replace",
                )
                last[uri] = number
            elif kind == "merge":
                assert collection.update_metadata({name: number}, document_ids=["shared"]) == 1
                last["shared"] = number
            else:
                collection.add(
                    [ragstore.Document(f"own {name} {number}", id=name, metadata={"n": number})],
                    [[3.0, number]],
                    on_conflict="replace",
                )
                last["own"] = number
                assert collection.get_document(name).metadata == {"n": number}, "an own write is not seen"
            counts[kind] += 1
    except BaseException as error:  # noqa: BLE001
        said[name]["error"] = repr(error)


def process(path: str, name: str, seconds: float, report: str) -> None:
    said: dict = {}
    with ragstore.open(path) as store:
        until = time.monotonic() + seconds
        names = [f"{name}t{number}" for number in range(THREADS)]
        threads = [threading.Thread(target=worker, args=(store, own, until, said)) for own in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    Path(report).write_text(json.dumps(said))


def test_contention(path, tmp_path):
    with record.Suite("contention", tmp_path) as suite, Server(__name__) as server:
        with ragstore.open(path) as store:
            store.create_collection("c", metric="l2").add_texts(["shared"], [[0.0, 0.0]], ids=["shared"])
        reports = [tmp_path / f"report{number}" for number in range(PROCESSES)]
        children = [
            server.start(process, str(path), f"p{number}", SECONDS, str(report))
            for number, report in enumerate(reports)
        ]
        assert [child.wait() for child in children] == [0] * PROCESSES
        said = {name: own for report in reports for name, own in json.loads(report.read_text()).items()}
        assert len(said) == PROCESSES * THREADS
        assert {own["error"] for own in said.values()} == {""}
        for own in said.values():
            suite.counts.update(own["counts"])
        with ragstore.open(path) as store:
            check(store["c"], said)
        oracle.check_file(path)


def check(collection, said: dict) -> None:
    documents = collection.list_documents(limit=1 << 30)
    ids = [document.id for document in collection.list_documents({"kind": "ticket"}, limit=1 << 30)]
    tickets = {chunk.id: chunk.metadata["by"] for chunk in collection.get(ids)}
    claims = {f"t{ticket}": name for name, own in said.items() for ticket in own["claimed"]}
    assert len(claims) == sum(len(own["claimed"]) for own in said.values()), "a ticket was given twice"
    assert tickets == claims
    assert set(tickets) == {f"t{number}" for number in range(len(tickets))}
    for uri in URIS:
        found = [document for document in documents if document.uri == uri]
        writers = {name: own["last"][uri] for name, own in said.items() if uri in own["last"]}
        assert len(found) == bool(writers), f"{uri} is there {len(found)} times"
        if writers:
            by, number = found[0].metadata["by"], found[0].metadata["n"]
            assert writers[by] == number, "what is stored is not the last that its writer wrote"
            (chunk,) = collection.get_chunks(found[0].id)
            assert chunk.text == f"upsert {by} {number}"
            np.testing.assert_array_equal(collection.get_embeddings([chunk.id]), [[2.0, number]])
    shared = {name: own["last"]["shared"] for name, own in said.items() if "shared" in own["last"]}
    assert collection.get_document("shared").metadata == shared, "an update is lost"
    for name, own in said.items():
        if "own" in own["last"]:
            assert collection.get_document(name).metadata == {"n": own["last"]["own"]}
    expected = len(tickets) + len({d.uri for d in documents} & set(URIS)) + 1
    assert len(documents) == expected + sum("own" in own["last"] for own in said.values())
