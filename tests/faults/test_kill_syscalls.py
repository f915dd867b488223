"""A process is killed at the n-th system call of a kind on the store's files, for every operation and every n."""

import pytest

from tests.faults import operations, record, tracing
from tests.faults.server import Server

pytestmark = pytest.mark.faults

POINTS = record.size(50, 3_000)
CALLS = ["pwrite64", "fdatasync", "fsync", "ftruncate", "openat", "pread64", "close", "fcntl", "mmap", "unlink"]


def schedule(chance):
    """Each kind of call with the number of the one to be killed at; a sample takes some of them."""
    if record.FULL:
        for number in range(1, 1000):
            for call in CALLS:
                yield call, number
    while True:
        # The first ones are the busiest.
        yield chance.choice(CALLS), min(chance.randint(1, 40) for _ in range(2))


def test_kill_syscalls(tmp_path):
    with record.Suite("kill_syscalls", tmp_path) as suite:
        tracing.require()
        bench = operations.Bench(tmp_path)
        acks = tmp_path / "acks"
        # Operations that make no more calls of a kind.
        over = set()
        for call, number in schedule(suite.chance):
            left = [name for name in operations.OPERATIONS if (call, name) not in over]
            if not left:
                continue
            prefix = tracing.prefix(call, "signal=SIGKILL", str(number), tracing.files(bench.path))
            with Server(operations.__name__, record.__name__, prefix=prefix) as server:
                for name in left:
                    bench.restore(name)
                    acks.unlink(missing_ok=True)
                    status = server.run(operations.act, str(bench.path), name, str(acks))
                    said = acks.read_text() if acks.exists() else ""
                    assert status in {0, -9}, f"{name} ended with {status} at {call} {number}"
                    try:
                        bench.judge(name, "acknowledged" in said)
                    except Exception as error:
                        raise AssertionError(f"{name}, killed at {call} {number}") from error
                    if status == 0:
                        over |= {(call, name)} if record.FULL else set()
                        continue
                    suite.counts["points"] += 1
                    when = ["while it opened", "while it ran", "after it was acknowledged"][said.count("\n")]
                    suite.counts[when] += 1
            if suite.counts["points"] >= POINTS or len(over) == len(CALLS) * len(operations.OPERATIONS):
                break
        assert suite.counts["points"] >= POINTS
