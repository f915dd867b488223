"""A system call on the store's files fails, once or from then on: for every operation, kind of call and number.

The call that met it says so with a typed error, or did what it was asked; nothing in between. Where the fault passes,
the same process goes on without opening the store anew.
"""

import json
import os
from pathlib import Path

import pytest

from tests.faults import operations, record, tracing
from tests.faults.server import Server

pytestmark = pytest.mark.faults

POINTS = record.size(60, 2_000)
# What each kind of call may answer.
FAULTS = [
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("fdatasync", "EIO"),
    ("fsync", "EIO"),
    ("fdatasync", "ENOSPC"),
    ("openat", "EMFILE"),
    ("pread64", "EIO"),
    ("ftruncate", "EIO"),
    ("openat", "EIO"),
    ("openat", "ENOSPC"),
    ("write", "ENOSPC"),
    ("read", "EIO"),
    ("mmap", "ENOMEM"),
    ("unlink", "EIO"),
]


def outcome(call) -> str:
    """The name of the exception that a call raises, or nothing."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    return ""


def act(path: str, name: str, report: str) -> None:
    """Opens, runs and closes, each tried again once where it fails, and leaves a report of what was said."""
    said: dict = {"open": [], "run": [], "again": [], "read": "", "close": ""}
    stores = []
    for _ in range(3):
        said["open"].append(outcome(lambda: stores.append(operations.opened(path, name))))
        if stores:
            break
    if stores:
        for _ in range(3):
            said["run"].append(outcome(lambda: operations.OPERATIONS[name].run(stores[0])))
            if not said["run"][-1]:
                break
            said["read"] = outcome(lambda: [len(stores[0][info.name]) for info in stores[0].list_collections()])
        said["close"] = outcome(stores[0].close)
    if said["run"] and said["run"][-1]:
        # SQLite shares `-shm` between the connections of a process: opened for reading only, it stays so until all
        # close.
        stores = []
        said["again"].append(outcome(lambda: stores.append(operations.opened(path, name))))
        if stores:
            said["again"].append(outcome(lambda: operations.OPERATIONS[name].run(stores[0])))
            stores[0].close()
    Path(report).write_text(json.dumps(said))
    os._exit(0)


def schedule(chance):
    """Each fault with the number of the call that it hits, alone or as the first of all that follow."""
    if record.FULL:
        for number in range(1, 1000):
            for call, error in FAULTS:
                for when in (f"{number}", f"{number}+"):
                    yield call, error, when
    while True:
        call, error = chance.choice(FAULTS)
        number = min(chance.randint(1, 25) for _ in range(3))
        yield call, error, chance.choice([f"{number}", f"{number}+"])


def check_words(said: dict, call: str, error: str, *, once: bool, closes: bool) -> None:
    """Every error has its type, and a fault that passed is over."""
    names = {*said["open"], *said["run"], *said["again"][:1], said["read"], said["close"]} - {""}
    if closes and not once and said["run"][:1] != ["ClosedError"]:
        # A store that gets another key is opened anew. Where the fault stays it cannot be, which was said.
        names.discard("ClosedError")
    allowed = {"OSError"}
    if error == "ENOSPC":
        allowed.add("StoreFullError")
    if call == "pread64":
        # SQLite says of a page that cannot be read that it is damaged.
        allowed.add("CorruptError")
    assert names <= allowed, f"raised {names}"
    # A commit whose sync failed may be found in the log, whole, by the one that opens the file next.
    done = {"ConflictError", "CollectionExistsError", "CollectionNotFoundError"}
    assert {*said["again"][1:]} - {""} <= allowed | done
    if once:
        # Both the opening and the writing thread may have met it.
        assert said["open"][-1] == "", "it does not open any more"
        if call == "openat":
            assert said["again"] in ([], ["", ""]), "it does not write any more"
        else:
            assert said["run"][-1] == "", "it does not write any more"


def test_io_errors(tmp_path):
    with record.Suite("io_errors", tmp_path) as suite:
        tracing.require()
        bench = operations.Bench(tmp_path)
        report = tmp_path / "report"
        log = tmp_path / "strace"
        over = set()
        for call, error, when in schedule(suite.chance):
            names = [name for name in operations.OPERATIONS if (call, error, name, "+" in when) not in over]
            if not names:
                continue
            prefix = tracing.prefix(call, f"error={error}", when, tracing.files(bench.path), log)
            with Server(operations.__name__, __name__, prefix=prefix) as server:
                for name in names:
                    bench.restore(name)
                    report.unlink(missing_ok=True)
                    log.write_text("")
                    status = server.run(act, str(bench.path), name, str(report))
                    point = f"{name}, {error} of {call} {when}"
                    assert status == 0, f"{point}: ended with {status}"
                    hits = log.read_text().count("(INJECTED)")
                    said = json.loads(report.read_text())
                    try:
                        # strace counts for each thread: what starts more of them than those that open and write
                        # meets the fault again.
                        once, closes = "+" not in when and hits <= 2 and name != "backup", name in operations.KEYED
                        check_words(said, call, error, once=once, closes=closes)
                        bench.judge(name, "" in [*said["run"], *said["again"][1:]])
                    except Exception as raised:
                        raise AssertionError(f"{point}: {said}") from raised
                    if not hits:
                        over |= {(call, error, name, "+" in when)} if record.FULL else set()
                        assert said["open"] == said["run"] == [""]
                        continue
                    suite.counts["points"] += 1
                    suite.counts["from then on" if "+" in when else "once"] += 1
                    suite.counts["works after opening it anew"] += "+" not in when and bool(said["again"])
                    suite.counts["said by an error"] += any((*said["open"], *said["run"], said["read"], said["close"]))
            if suite.counts["points"] >= POINTS or len(over) == 2 * len(FAULTS) * len(operations.OPERATIONS):
                break
        assert suite.counts["points"] >= POINTS
