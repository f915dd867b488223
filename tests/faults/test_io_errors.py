"""A system call on what is the store's fails, once or from then on: for every operation, kind of call and file.

The call that met it says so with a typed error, or did what it was asked; nothing in between. Then the fault ends, and
the same process reads, and writes without opening the store anew.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import operations, record, syncs, tracing
from tests.faults.operations import OPENING, RUNNING
from tests.faults.server import Server

pytestmark = pytest.mark.faults

POINTS = record.size(40, 2_000)
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
# What a sync that failed may lose of a call that is acknowledged.
# SQLite does not look at what syncing a folder answers when it made a log or a journal (unixSync).
NAMES = re.compile(r"/kb\.db(-rekey)?-(wal|journal|shm)$")
# Derived indexes carry checksums, and are built anew where one does not fit.
FILES = re.compile(r"/kb\.db-index(/|$)")
# Its first sync of the log is that of what is applied. The line in the sync log is a commit after it, and may be lost.
LOGS_AFTERWARDS = "apply changes"
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


def act(path: str, name: str, at: str, report: str, folder: str) -> None:  # noqa: C901
    """Opens, runs and reads with a fault, after it again what failed, and leaves a report of what was said."""
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
    # A store that gets another key is opened anew inside. Where that fails twice it is closed, and says so.
    closed = name in operations.KEYED and fault.sticky and said["read"][-1] == said["run"][-1] == "ClosedError"
    readonly = kind in {"openat", "mmap"}
    assert said["read"][-1] == "" or closed, "it does not read any more"
    assert said["run"][-1] == "" or closed or readonly, "it does not write any more"


def check_reads(said: dict, before: dict, after: dict) -> None:
    """What the process that met the fault read last is all of it or nothing, and all if it was acknowledged."""
    if said["read"][-1] == "":
        states = [
            {name: sorted(value[1]) for name, value in found.items() if isinstance(value, tuple)}
            for found in (before, after)
        ]
        assert said["found"] in (states[1:] if said["run"][-1] == "" else states), "what it reads is not what there is"


def check_syncs(said: dict, calls: list[tracing.Call], folder: Path, name: str = "") -> bool:
    """A call during which a sync failed is not acknowledged, unless that sync lost nothing of what it says is stored.

    So is a checkpoint that fails after the commit, and what is written anew and synced after that. Returns whether
    there was one.
    """
    begun, disk, kept = 0, syncs.Disk(folder), False
    for number, call in enumerate(calls):
        word = next((word for word in ("opened", "ran") if call.kind == tracing.SAY and f'"{word}' in call.text), None)
        if word is None:
            continue
        part, begun = calls[begun:number], number
        disk.take(part)
        failed = any(one.injected and one.kind in syncs.SYNCS for one in part)
        if failed and not said["open" if word == "opened" else "run"][0]:
            kept = True
            lost = {path for path in disk.lost() if not FILES.search(path)}
            of_log = [one for one in part if one.kind in syncs.SYNCS and one.paths()[0].endswith("kb.db-wal")]
            if name == LOGS_AFTERWARDS and of_log and not of_log[0].injected:
                lost = {path for path in lost if not path.endswith("kb.db-wal")}
            lost |= {path for path in disk.lost_names if not NAMES.search(path) and not FILES.search(path)}
            assert not lost, f"acknowledged, and a failed sync lost {lost}"
    return kept


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
                kinds = syncs.KINDS if point.kind in syncs.SYNCS else [point.kind]
                paths = tracing.files(bench.path) if point.kind in BY_PATH else []
                status, _ = warden.run(
                    server, act, str(bench.path), point.name, point.phase, str(report),
                    at=point.phase, end="over", kinds=kinds, inject=fault.inject, paths=paths,
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
                    check_reads(said, *bench.outcomes[point.name])
                    kept = check_syncs(said, calls, bench.path.parent, point.name)
                except Exception as raised:
                    said.pop("found")
                    raise AssertionError(f"{fault}: {said}") from raised
                suite.counts["points"] += 1
                suite.counts["from then on" if fault.sticky else "once"] += 1
                suite.counts[f"at calls {hits[0]}"] += 1
                ended = "works after opening it anew" if said["again"] else "works in the same process, the fault over"
                suite.counts[ended] += 1
                suite.counts.update(["acknowledged where a failed sync lost nothing of it"] * kept)
                suite.counts["answered by an error"] += any((*said["open"], *said["run"], *said["read"], said["close"]))
                if suite.counts["points"] >= POINTS:
                    break
        assert suite.counts["points"] >= POINTS


LOG, DATABASE = "/b/kb.db-wal", "/b/kb.db"
COMMIT = ("write", LOG, 32)
FAILED = "-1 EIO (Input/output error) (INJECTED)"
# Calls of one process, and whether the one that is acknowledged after them lost something.
HISTORIES = {
    "a commit": ([COMMIT, ("sync", LOG, FAILED)], True),
    "a commit, synced again": ([COMMIT, ("sync", LOG, FAILED), ("sync", LOG, "0")], True),
    "a commit, written again": ([COMMIT, ("sync", LOG, FAILED), COMMIT], False),
    "a part, written again": (
        [COMMIT, ("write", LOG, 64), ("sync", LOG, FAILED), ("write", LOG, 64)],
        True,
    ),
    "a commit that was synced before": ([COMMIT, ("sync", LOG, "0"), ("sync", LOG, FAILED)], False),
    "a checkpoint": (
        [COMMIT, ("sync", LOG, "0"), ("write", DATABASE, 0), ("sync", DATABASE, FAILED)],
        False,
    ),
    "a checkpoint, and the log begun anew": (
        [COMMIT, ("sync", LOG, "0"), ("write", DATABASE, 0), ("sync", DATABASE, FAILED), ("write", LOG, 0)],
        True,
    ),
    "a file without a log": ([("write", "/b/made", 0), ("sync", "/b/made", FAILED), ("sync", "/b/made", "0")], True),
    "a name": ([("rename", "/b/copy", "/b/made"), ("sync", "/b", FAILED)], True),
    "a name of SQLite's": ([("make", LOG, ""), ("sync", "/b", FAILED)], False),
    "a file that is renamed": (
        [("write", "/b/copy", 0), ("sync", "/b/copy", FAILED), ("rename", "/b/copy", "/b/made"), ("sync", "/b", "0")],
        True,
    ),
    "a file that is gone": ([("write", "/b/x", 0), ("sync", "/b/x", FAILED), ("remove", "/b/x", "")], False),
}
TEXTS = {
    "write": '7 pwrite64(3<{}>, "x"..., 32, {}) = 32',
    "sync": "7 fsync(3<{}>) = {}",
    "rename": '7 rename("{}", "{}") = 0',
    "make": '7 openat(AT_FDCWD</w>, "{}", O_RDWR|O_CREAT{}, 0600) = 3</b/x>',
    "remove": '7 unlink("{}"{}) = 0',
}


@pytest.mark.parametrize("history", HISTORIES)
def test_the_judge_sees_what_a_sync_lost(history):
    """The control."""
    parts, loses = HISTORIES[history]
    lines = [TEXTS[kind].format(*values) for kind, *values in parts]
    log = tracing.calls("\n".join([*lines, '7 writev(5</t/out>, [{iov_base="ran\\n", iov_len=4}], 1) = 4']))
    folder = Path("/b")
    assert check_syncs({"open": [""], "run": ["OSError", ""]}, log, folder) is False
    if loses:
        with pytest.raises(AssertionError, match="lost"):
            check_syncs({"open": [""], "run": [""]}, log, folder)
    else:
        assert check_syncs({"open": [""], "run": [""]}, log, folder)


def test_the_judge_sees_what_does_not_work_any_more():
    """The control."""
    point = operations.Point("add", RUNNING, "pwrite64", 1, "of the store")
    good = {"open": [""], "run": ["OSError", ""], "read": ["", ""], "close": "", "again": [], "found": {"c": ["x"]}}
    empty, one, other = ({"c": ("", documents, "", "")} for documents in ({}, {"x": 1}, {"y": 1}))
    for sticky in (False, True):
        fault = Fault(point, "EIO", sticky)
        check_words(good, fault)
        for bad in (
            {"run": ["StoreFullError", ""]},
            {"run": ["OSError", "OSError"]},
            {"run": ["OSError", "ClosedError"], "again": ["OSError"]},
            {"read": ["", "OSError"]},
            {"read": ["RuntimeError", ""]},
            {"close": "InternalError"},
            {"open": ["OSError", "OSError"]},
        ):
            with pytest.raises(AssertionError):
                check_words(good | bad, fault)
    check_reads(good, empty, one)
    check_reads(good | {"run": ["OSError"], "found": {"c": []}}, empty, one)
    for before, after in ((one, empty), (empty, other)):
        with pytest.raises(AssertionError):
            check_reads(good, before, after)
