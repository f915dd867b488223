"""Power is lost at any moment of a writer's work; the disk keeps what was synced and any part of the rest.

With `durability="full"` everything acknowledged is there; with "relaxed" the last commits may be missing, and no
others.
"""

import copy
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ragstore

from tests.faults import images, oracle, record, tracing, workload

pytestmark = pytest.mark.faults

IMAGES = record.size(250, 20_000)
# Words that make the log as long as the writer lets it grow, so that it is moved while the store is open.
LONG = [0, 5, 40_000]
SUFFIXES = ["", "-wal", "-journal"]


def write(path: str, acks: str, durability: str, seed: str, count: str, long: str) -> None:
    """A writer that opens anew now and then, so that the log is moved and truncated by closing too."""
    if long:
        workload.PADDING[:] = LONG
    out = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    state: workload.State = {}
    number = 0
    while number < int(count):
        with ragstore.open(path, durability=durability) as store:
            store.create_collection("c", dimension=workload.DIMENSION, exist_ok=True)
            numbers = range(number, min(int(count), number + (100 if long else 4 + number % 9)))
            workload.write(store, int(seed), "a", state, numbers, lambda n: os.write(out, b"%d\n" % n))
            number = numbers.stop
            # What is stored is the same after each of them.
            [store.optimize, store.vacuum, store.repair, store.checkpoint][number % 4]()


class Run:
    """A writer's log of system calls, and the state after each of its operations."""

    def __init__(self, folder: Path, durability: str, seed: int, *, long: bool) -> None:
        self.durability, self.seed, self.long = durability, seed, long
        self.folder = folder / "run"
        self.folder.mkdir()
        self.path, acks, log = self.folder / "kb.db", folder / "acks", folder / "log"
        self.count = 25 if long else 40
        code = "import sys; from tests.faults import test_power_loss; test_power_loss.write(*sys.argv[1:])"
        arguments = [self.path, acks, durability, str(seed), str(self.count), "long" if long else ""]
        command = [*images.command(log, [*tracing.files(self.path), acks]), sys.executable, "-c", code, *arguments]
        env = {**os.environ, "PYTHONPATH": str(record.ROOT)}
        subprocess.run([str(word) for word in command], check=True, env=env, cwd=record.ROOT)
        self.events = images.parse(log, acks)
        self.states = [{}]
        state: workload.State = {}
        before = workload.PADDING[:]
        if long:
            workload.PADDING[:] = LONG
        for number in range(self.count):
            workload.operation(state, seed, "a", number)
            self.states.append(copy.deepcopy(state))
        workload.PADDING[:] = before
        shutil.rmtree(self.folder)

    def disk(self) -> images.Disk:
        return images.Disk([str(self.path) + suffix for suffix in SUFFIXES])


def judge(path: Path, image: images.Image, run: Run, acknowledged: int, *, complete: bool) -> int:
    """Opens an image, and says how many operations it has: those acknowledged, or one more."""
    for suffix in [*SUFFIXES, "-shm"]:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    for name, content in image.items():
        path.with_name(path.name + name.removeprefix(str(run.path))).write_bytes(content)
    with ragstore.open(path) as store:
        found: workload.State = {}
        if "c" in store:
            found = workload.stored(store["c"])
            workload.check_answers(store["c"], found)
    oracle.check_file(path)
    allowed = range(acknowledged if complete else 0, min(acknowledged + 2, len(run.states)))
    # Equal states of different numbers are one.
    there = [number for number in allowed if run.states[number] == found]
    assert there, f"what is there is not what {allowed.start} to {allowed.stop - 1} operations leave"
    return there[-1]


def images_of(disk: images.Disk, chance, *, torn: int):
    """The kinds of images after an event."""
    yield "written", disk.written()
    yield "only what was synced", disk.confirmed()
    yield "names without data", disk.named()
    for _ in range(torn):
        yield "torn and reordered", disk.torn(chance)


def test_power_loss(tmp_path):
    with record.Suite("power_loss", tmp_path) as suite:
        tracing.require()
        # The images are judged, not the disk they are on; in memory it is sooner.
        folder = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
        folder = folder / f"ragstore-images-{os.getpid()}"
        folder.mkdir()
        try:
            number = 0
            while suite.counts["images"] < IMAGES:
                durability = ["full", "relaxed"][number % 2]
                run = Run(folder, durability, suite.seed + number, long=number % 6 > 3)
                power_loss(suite, folder / "image.db", run)
                suite.counts[f"runs with durability {durability}"] += 1
                number += 1
        finally:
            shutil.rmtree(folder)


def power_loss(suite: record.Suite, path: Path, run: Run) -> None:
    disk = run.disk()
    most = min(IMAGES, suite.counts["images"] + IMAGES // (12 if record.FULL else 2))
    # Images of a part of the events, in every part of the run.
    every = max(1, 6 * len(run.events) // (most - suite.counts["images"]))
    acknowledged = 0
    seen: set[bytes] = set()
    for at, event in enumerate(run.events):
        if event.kind == "ack":
            acknowledged += event.data.count(b"\n")
            continue
        if not disk.apply(event) or suite.chance.randrange(every) or suite.counts["images"] >= most:
            continue
        # The large ones are read for long.
        for kind, image in images_of(disk, suite.chance, torn=1 if run.long else 4):
            digest = hashlib.blake2b(repr(sorted(image)).encode())
            for name in sorted(image):
                digest.update(image[name])
            if (key := digest.digest() + bytes([acknowledged])) in seen:
                continue
            seen.add(key)
            complete = run.durability == "full" or kind == "written"
            try:
                there = judge(path, image, run, acknowledged, complete=complete)
            except Exception as error:
                where = f"event {at} ({event.kind}), {acknowledged} acknowledged, {run.durability}, seed {run.seed}"
                raise AssertionError(f"{kind}: {where}, long={run.long}") from error
            suite.counts["images"] += 1
            suite.counts[kind] += 1
            suite.counts["with a lost suffix of relaxed commits"] += there < acknowledged


def test_the_judge_sees_what_power_loss_takes(tmp_path):
    """The control: without the syncs of a durable writer, images lose what was acknowledged."""
    tracing.require()
    run = Run(tmp_path, "full", 1, long=False)
    run.events = [event for event in run.events if event.kind != "sync" or not event.path.endswith("-wal")]
    disk = run.disk()
    acknowledged = lost = 0
    for event in run.events:
        acknowledged += event.kind == "ack"
        disk.apply(event)
        if event.kind == "ack" and acknowledged > 1:
            with pytest.raises(AssertionError):
                judge(tmp_path / "image.db", disk.named(), run, acknowledged, complete=True)
            lost += 1
            if lost == 3:
                return
    pytest.fail("nothing was lost")
