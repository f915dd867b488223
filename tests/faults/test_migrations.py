"""Sixteen processes open a file of an older format at once, and some are killed: it is brought forward exactly once."""

import os
import select
import shutil
import sqlite3

import pytest
import ragstore

from tests.faults import operations, oracle, record
from tests.faults.server import Server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked from one that has all imported"),
]

ROUNDS = record.size(4, 200)
PROCESSES = 16


def race(path: str, go: str, number: int) -> None:
    """Waits for the others, opens, and writes."""
    # Until the other end is open, which it is for all at once.
    os.close(os.open(go, os.O_RDONLY))
    with ragstore.open(path) as store:
        store["c"].add_texts(["text"], [[1.0] * 8], ids=[f"racer{number}"])


def test_migrations(tmp_path):
    with record.Suite("migrations", tmp_path) as suite, Server(__name__) as server:
        old = tmp_path / "old.db"
        operations.older(old)
        path, go = tmp_path / "kb.db", tmp_path / "go"
        os.mkfifo(go)
        before = len(operations.IDS)
        for number in range(ROUNDS):
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            shutil.copy(old, path)
            children = [server.start(race, str(path), str(go), racer) for racer in range(PROCESSES)]
            killed = suite.chance.sample(children, 4) if number % 2 else []
            # Stays open until all have read it: one that comes late would wait.
            starter = os.open(go, os.O_WRONLY)
            for child in killed:
                select.select([], [], [], suite.chance.random() * 0.005)
                child.kill()
            statuses = [child.wait() for child in children]
            os.close(starter)
            assert set(statuses) <= ({0, -9} if killed else {0}), statuses
            with ragstore.open(path) as store:
                assert store["c"].count_documents() - before >= statuses.count(0)
            connection = sqlite3.connect(path)
            versions = connection.execute("SELECT version, count(*) FROM migrations GROUP BY version").fetchall()
            assert versions == [(number + 1, 1) for number in range(len(versions))]
            assert connection.execute("PRAGMA user_version").fetchone() == (len(versions),)
            connection.close()
            oracle.check_file(path)
            suite.counts["racing processes"] += PROCESSES
            suite.counts["of them killed"] += statuses.count(-9)
