"""A process is killed at a system call, for every operation, every kind of call and every file that it touches."""

import pytest
import ragstore

from tests.faults import operations, record, tracing
from tests.faults.server import Server

pytestmark = pytest.mark.faults

POINTS = record.size(40, 3_000)
CALLS = [
    *("pwrite64", "write", "fdatasync", "fsync", "ftruncate", "fallocate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("openat", "pread64", "read", "close", "fcntl", "flock", "mmap"),
]


def test_kill_syscalls(tmp_path):
    with record.Suite("kill_syscalls", tmp_path) as suite:
        tracing.require()
        names = operations.some(suite.chance)
        bench = operations.Bench(tmp_path, names)
        warden = tracing.Warden(tmp_path)
        with Server(operations.__name__, record.__name__) as server:
            found = [point for name in names for point in operations.points(bench, server, warden, name, CALLS)]
            keys = [lambda point: (point.place, point.phase), lambda point: point.kind, lambda point: point.name]
            for point in tracing.spread(found, suite.chance, *keys):
                bench.restore(point.name)
                inject = f"{point.kind}:signal=SIGKILL:when={point.number}"
                status, said = warden.run(
                    server, operations.act, str(bench.path), point.name, point.phase,
                    at=point.phase, kinds=[point.kind], inject=inject,
                )  # fmt: skip
                assert status in {0, -9}, f"{point} ended with {status}"
                try:
                    bench.judge(point.name, "acknowledged" in said)
                except Exception as error:
                    raise AssertionError(f"killed at {point}") from error
                place = hit(warden, point, bench)
                if status == 0 or place is None:
                    # Runs differ: there was no such call, or that of this number was about something else.
                    continue
                suite.counts["points"] += 1
                when = ["while it opened", "while it ran", "after it was acknowledged"][
                    ("opened" in said) + ("acknowledged" in said)
                ]
                suite.counts[when] += 1
                suite.counts[f"at calls {place}"] += 1
                if suite.counts["points"] >= POINTS:
                    break
        assert suite.counts["points"] >= POINTS


def hit(warden: tracing.Warden, point: operations.Point, bench: operations.Bench) -> str | None:
    """Where the process was killed: at the first call that has the number. Nothing where that is not the store's."""
    for call in warden.calls():
        if (call.kind, call.number) == (point.kind, point.number):
            return call.place(bench.path.parent)
    return None


def cut(path):
    """Half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_document_less(path):
    with ragstore.open(path) as store:
        document = store["c"].list_documents()[0]
        store["c"].delete(document_ids=[document.id])


LOSSES = [
    ("transaction", one_document_less),
    ("backup", lambda path: one_document_less(operations.target(path))),
    ("backup", lambda path: cut(operations.target(path))),
    ("export", lambda path: cut(next(operations.target(path).rglob("documents.jsonl")))),
    ("export", lambda path: cut(next(operations.target(path).rglob("*.npy")))),
    ("export", lambda path: next(operations.target(path).rglob("state.jsonl")).unlink()),
]


def test_the_judge_sees_a_loss(tmp_path):
    """The control."""
    bench = operations.Bench(tmp_path, {name for name, _ in LOSSES})
    for name, lose in LOSSES:
        for acknowledged in (True, False):
            bench.restore(name)
            with operations.opened(bench.path, name) as store:
                operations.OPERATIONS[name].run(store)
            bench.judge(name, acknowledged=acknowledged)
            bench.restore(name)
            with operations.opened(bench.path, name) as store:
                operations.OPERATIONS[name].run(store)
            lose(bench.path)
            with pytest.raises((AssertionError, ragstore.RagstoreError, OSError, ValueError)):
                bench.judge(name, acknowledged=acknowledged)
    bench.restore("transaction")
    with pytest.raises(AssertionError, match="acknowledged and is not there"):
        bench.judge("transaction", acknowledged=True)


def test_points_are_of_all_files(tmp_path):
    """The control: what an operation makes beside the store is among what is hit."""
    tracing.require()
    bench = operations.Bench(tmp_path, ["backup", "export", "index"])
    warden = tracing.Warden(tmp_path)
    with Server(operations.__name__, record.__name__) as server:
        for name, place, kinds in (
            ("backup", "in the folder of a backup", {"pwrite64", "fsync", "rename", "unlink", "openat"}),
            ("export", "in the folder of an export", {"write", "fsync", "rename", "openat"}),
            ("index", "in the folder of indexes", {"write", "fsync", "rename", "openat"}),
        ):
            found = operations.points(bench, server, warden, name, CALLS)
            assert kinds <= {point.kind for point in found if point.place == place}
