"""A process forks again and again while its threads write: no child hangs, none can use what it inherited, and each may
open the file itself.
"""

import os
import random
import select
import signal
import threading
import traceback
import warnings

import pytest
import ragstore

from tests.faults import oracle, record
from tests.faults.server import Server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
]

FORKS = record.size(25, 500)
WATCHDOG = 10.0
THREADS = 4


def storm(path: str, seed: int, forks: int) -> None:
    """Writers by four threads, and forks by the main one."""
    chance = random.Random(seed)
    over = threading.Event()
    acknowledged: list[str] = []
    errors: list[BaseException] = []

    def write(thread: int) -> None:
        number = 0
        try:
            while not over.is_set():
                store["c"].add_texts([f"thread {thread}"], [[1.0, number]], ids=[f"p{thread}-{number}"])
                acknowledged.append(f"p{thread}-{number}")
                number += 1
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    with ragstore.open(path) as store:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        warnings.simplefilter("ignore", DeprecationWarning)
        for number in range(forks):
            acknowledged.append(fork(store, path, number, inherit=chance.random() < 0.3))
            # Between two of them the threads come to write.
            store["c"].add_texts(["parent"], [[2.0, number]], ids=[f"parent-{number}"])
            acknowledged.append(f"parent-{number}")
        over.set()
        for thread in threads:
            thread.join()
        assert not errors, errors
    with ragstore.open(path) as store:
        found = {document.id for document in store["c"].list_documents(limit=1 << 30)}
    assert set(acknowledged) == found, sorted(set(acknowledged) ^ found)[:5]


def fork(store: ragstore.Store, path: str, number: int, *, inherit: bool) -> str:
    """Forks a child that writes through a store of its own, and returns the id that it wrote."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            calls = (lambda: store["c"].count() if inherit else store.list_collections(), lambda: store["c"].add("no"))
            for call in calls:
                try:
                    call()
                except ragstore.ForkError:
                    continue
                os._exit(2)
            with ragstore.open(path) as mine:
                mine["c"].add_texts(["child"], [[3.0, number]], ids=[f"child-{number}"])
            os.write(write, b"done")
            code = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    ready, _, _ = select.select([read], [], [], WATCHDOG)
    if not ready:
        os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"child {number} hangs")
    said = os.read(read, 100)
    os.close(read)
    _, status = os.waitpid(pid, 0)
    assert (said, status) == (b"done", 0), f"child {number} ended with {status}"
    return f"child-{number}"


def test_forks(path, tmp_path):
    with record.Suite("forks", tmp_path) as suite, Server(__name__) as server:
        with ragstore.open(path) as store:
            store.create_collection("c", metric="l2")
        rounds = max(1, FORKS // 50)
        for number in range(rounds):
            assert server.run(storm, str(path), suite.seed + number, FORKS // rounds) == 0
            suite.counts["forks"] += FORKS // rounds
            with ragstore.open(path) as store:
                suite.counts["commits beside them"] += len(store["c"])
                store["c"].clear()
        oracle.check_file(path)
