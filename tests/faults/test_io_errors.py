"""A system call on what is the store's fails, once or from then on: for every operation, kind of call and file.

The call that met it says so with a typed error, or did what it was asked; nothing in between. Then the fault ends, and
the same process reads, and writes without opening the store anew.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import operations, record, tracing
from tests.faults.operations import OPENING, RUNNING
from tests.faults.server import Server

pytestmark = pytest.mark.faults

POINTS = record.size(60, 2_000)
# What each kind of call may answer.
FAULTS = {
    "pwrite64": ["EIO", "ENOSPC"],
    "write": ["EIO", "ENOSPC"],
    "fdatasync": ["EIO", "ENOSPC"],
    "fsync": ["EIO", "ENOSPC"],
    "ftruncate": ["EIO"],
    "openat": ["EMFILE", "EIO", "ENOSPC"],
    "pread64": ["EIO"],
    "read": ["EIO"],
    "mmap": ["ENOMEM"],
    "unlink": ["EIO"],
    "unlinkat": ["EIO"],
    "rename": ["EIO", "ENOSPC"],
    "renameat": ["EIO", "ENOSPC"],
    "renameat2": ["EIO", "ENOSPC"],
    "mkdir": ["EIO", "ENOSPC"],
    "mkdirat": ["EIO", "ENOSPC"],
    "rmdir": ["EIO"],
}
SYNCS = {"fsync", "fdatasync"}
# Memory is what Python and the allocator take by it: here strace is told the store's files.
BY_PATH = {"mmap"}


def outcome(call) -> str:
    """The name of the exception that a call raises, or nothing."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    return ""


def ids(store) -> dict[str, list[str]]:
    """The documents of each collection, by the calls that read."""
    return {
        info.name: sorted(document.id for document in store[info.name].list_documents(limit=1 << 30))
        for info in store.list_collections()
    }


def act(path: str, name: str, at: str, report: str, folder: str) -> None:
    """Opens, runs and reads while there is a fault, and after it again what failed; leaves a report of what was said."""
    gate = tracing.Gate(folder)
    said: dict = {"open": [], "run": [], "read": [], "found": None, "close": "", "again": []}
    stores: list = []

    def opens() -> None:
        said["open"].append(outcome(lambda: stores.append(operations.opened(path, name))))

    def runs(which: str) -> None:
        said[which].append(outcome(lambda: operations.OPERATIONS[name].run(stores[-1])))

    def reads() -> None:
        said["read"].append(outcome(lambda: said.update(found=ids(stores[-1]))))

    if at == OPENING:
        gate.wait(at)
    opens()
    gate.say("opened")
    if stores:
        if at == RUNNING:
            gate.wait(at)
        runs("run")
        gate.say("ran")
        reads()
    gate.wait("over")
    if not stores:
        opens()
    if stores:
        if said["run"][-1:] != [""]:
            runs("run")
        reads()
        said["close"] = outcome(stores[-1].close)
        if said["run"][-1]:
            # SQLite shares `-shm` between the connections of a process: opened for reading only, it stays so until all
            # close.
            opens()
            runs("again")
            stores[-1].close()
    Path(report).write_text(json.dumps(said))
    os._exit(0)


@dataclass(frozen=True)
class Fault:
    """What happens to a system call that an operation makes."""

    point: operations.Point
    error: str
    # Also to all that follow, until it ends.
    sticky: bool

    @property
    def inject(self) -> str:
        when = f"{self.point.number}{'+' * self.sticky}"
        return f"{self.point.kind}:error={self.error}:when={when}"


def check_words(said: dict, fault: Fault) -> None:
    """Every error has its type, and a fault that passed is over."""
    name, kind = fault.point.name, fault.point.kind
    names = {*said["open"], *said["run"], *said["read"], said["close"]} - {""}
    if name in operations.KEYED and said["run"][:1] != ["ClosedError"]:
        # A store that gets another key is opened anew. Where the fault stays it cannot be, which was said.
        names.discard("ClosedError")
    allowed = {"OSError"}
    if fault.error == "ENOSPC":
        allowed.add("StoreFullError")
    if kind == "pread64":
        # SQLite says of a page that cannot be read that it is damaged.
        allowed.add("CorruptError")
    assert names <= allowed, f"raised {names}"
    # A commit whose sync failed may be found in the log, whole, by the one that opens the file next.
    done = {"ConflictError", "CollectionExistsError", "CollectionNotFoundError"}
    assert {*said["again"]} - {""} <= done, "it does not write after it was opened anew"
    assert said["open"][-1] == "", "it does not open any more"
    assert said["read"][-1] == "", "it does not read any more"
    assert said["run"][-1] == "" or said["again"], "it does not write any more"


def check_syncs(said: dict, calls: list[tracing.Call], folder: Path) -> Counter:
    """A call is not acknowledged when one of the syncs of its own failed."""
    found: Counter = Counter()
    now = ""
    met = set()
    for call in calls:
        if call.kind == tracing.SAY:
            word = next((word for word in ("opened", "ran") if f'"{word}' in call.text), None)
            if word:
                verdict = said["open" if word == "opened" else "run"][0]
                for place in met:
                    found[place, word, verdict] += 1
                met = set()
        elif call.injected and call.kind in SYNCS:
            met.add((call.place(folder), *call.paths()))
    return found


def test_io_errors(tmp_path):
    with record.Suite("io_errors", tmp_path) as suite:
        tracing.require()
        names = operations.some(suite.chance)
        bench = operations.Bench(tmp_path, names)
        warden = tracing.Warden(tmp_path)
        report = tmp_path / "report"
        with Server(operations.__name__, __name__) as server:
            found = [
                Fault(point, error, sticky)
                for name in names
                for point in operations.points(bench, server, warden, name, list(FAULTS), BY_PATH)
                for error in FAULTS[point.kind]
                for sticky in (False, True)
            ]
            keys = [
                lambda fault: (fault.point.place, fault.point.phase),
                lambda fault: (fault.point.kind, fault.error, fault.sticky),
                lambda fault: fault.point.name,
            ]
            for fault in tracing.spread(found, suite.chance, *keys):
                point = fault.point
                bench.restore(point.name)
                report.unlink(missing_ok=True)
                paths = tracing.files(bench.path) if point.kind in BY_PATH else []
                status, _ = warden.run(
                    server, act, str(bench.path), point.name, point.phase, str(report),
                    at=point.phase, end="over", kinds=[point.kind], inject=fault.inject, paths=paths,
                )  # fmt: skip
                assert status == 0, f"{fault}: ended with {status}"
                calls = warden.calls()
                hits = [call.place(bench.path.parent) for call in calls if call.injected]
                said = json.loads(report.read_text())
                try:
                    bench.judge(point.name, "" in [*said["run"], *said["again"]])
                    if None in hits or not hits:
                        # It hit what Python reads for itself, or a thread that did not come to it this time.
                        continue
                    check_words(said, fault)
                    for k, v in check_syncs(said, calls, bench.path.parent).items():
                        print("SYNC", point.name, k, v)
                except Exception as raised:
                    raise AssertionError(f"{fault}: {said}") from raised
                suite.counts["points"] += 1
                suite.counts["from then on" if fault.sticky else "once"] += 1
                suite.counts[f"at calls {hits[0]}"] += 1
                suite.counts["works after opening it anew"] += bool(said["again"])
                suite.counts["said by an error"] += any((*said["open"], *said["run"], *said["read"], said["close"]))
                if suite.counts["points"] >= POINTS:
                    break
        assert suite.counts["points"] >= POINTS
