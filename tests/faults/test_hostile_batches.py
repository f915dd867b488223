"""Batches that nobody honest sends: nothing of them is applied, in bounded time and memory."""

import random
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import ragstore
from ragstore import Document, _ragstore

from tests.faults import record
from tests.helpers import replicas

resource = pytest.importorskip("resource", reason="memory is measured as POSIX does")

pytestmark = pytest.mark.faults

BATCHES = record.size(1500, 100_000)
SECONDS, MEMORY = 5, 256 << 20
# Where a number could be: many of them are lengths, counts and times.
NUMBERS = [b"\x00", b"\x7f", b"\xff" * 9 + b"\x01", b"\xff\xff\xff\xff\x0f", b"\x80" * 9 + b"\x01"]
REFUSED = (ragstore.SyncError, ragstore.ClockSkewError, ragstore.WrongKeyError)


def fill(store: ragstore.Store, name: str) -> None:
    c = store.create_collection("c", dimension=2, settings={"a": 1}, exist_ok=True)
    for number in range(6):
        document = Document(
            f"cat {name} {number}, and a dog.",
            id=f"{name}{number}",
            uri=f"u{number}",
            metadata={"n": number, "t": ["x", None]},
            chunks=[ragstore.Chunk(start=0, end=5, id=f"{name}k{number}"), ragstore.Chunk("own", token_count=3)],
        )
        c.add(document, [[1, number], [2, 1]], on_conflict="replace")
    c.relate(f"{name}0", f"{name}1", "likes", metadata={"w": 1})
    c.delete(document_ids=[f"{name}5"])
    store.state("n")["k"] = {"name": name}
    store.state("n")["gone"] = 1
    del store.state("n")["gone"]
    if "alt" not in [space.name for space in c.list_spaces()]:
        c.create_space("alt", dimension=3, metric="l2")
    store.delete_collection(store.create_collection(f"gone-{name}").name)


class Target:
    """A store that is as it was before each batch."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.base, self.number = folder, folder / "base.db", 0
        with ragstore.open(folder / "source.db") as source, ragstore.open(self.base) as base:
            fill(source, "s")
            base.sync(source)
            fill(base, "b")
            source["c"].update_metadata({"m": 1}, document_ids=["s1"])
            source["c"].add(Document("cat of the same uri", id="other", uri="u2x"))
            mark = base.watermark()
            self.batches = [source.export_changes(mark), source.export_changes()]
            fill(source, "t")
            self.batches += [source.export_changes(mark), source.export_changes(key="k")]
            source.reclock()
        # Its copies are to be the same replica.
        replicas.forget_file(self.base)
        self.store = None
        self.renew()

    def renew(self) -> None:
        if self.store is not None:
            self.store.close()
            for file in self.folder.glob(f"target{self.number}.db*"):
                file.unlink()
        self.number += 1
        path = self.folder / f"target{self.number}.db"
        shutil.copy(self.base, path)
        self.store = ragstore.open(path, durability="relaxed")
        self.mark, self.last = self.store.watermark(), self.store.last_change()
        self.content = replicas.answers(self.store, ["cat"])

    def unchanged(self) -> bool:
        return (self.store.watermark(), self.store.last_change()) == (self.mark, self.last)


def splice(chance: random.Random, data: bytes) -> bytes:
    """One small change of some bytes."""
    if not data:
        return b"\x01"
    at, kind = chance.randrange(len(data)), chance.randrange(7)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        end = min(len(data), at + chance.randrange(1, 40))
        return data[:at] + data[end:]
    if kind == 3:
        end = min(len(data), at + chance.randrange(1, 200))
        return data[:end] + data[at:end] + data[end:]
    if kind == 4:
        return data[:at] + chance.choice(NUMBERS) + data[at + 1 :]
    if kind == 5:
        return data[:at] + chance.randbytes(chance.randrange(1, 30)) + data[at:]
    other = chance.randrange(len(data))
    return data[:at] + data[other : other + 8] + data[at + 8 :]


def hostile(chance: random.Random, batches: list[bytes]) -> tuple[str, bytes]:
    """A kind and a batch."""
    batch = chance.choice(batches)
    kind = chance.random()
    if kind < 0.2:
        return "damaged", splice(chance, batch)
    if kind < 0.25:
        return "made up", chance.choice([b"", b"RAGSYNC\x01\x00", batch[:9]]) + chance.randbytes(chance.randrange(300))
    plain = batches[chance.randrange(3)]
    frames = _ragstore._batch_frames(plain)
    records = int.from_bytes(_end(plain)[:8], "little")
    if kind < 0.3:
        chance.shuffle(frames)
        frames = frames * chance.randrange(1, 3)
        return "frames out of order", _ragstore._batch_of(frames, records, chance.random() < 0.5)
    if kind < 0.35:
        # Moments in every stamp that is a year ahead.
        ahead = int(time.time() * 1000 + 365 * 86_400_000).to_bytes(6, "big")
        now = int(time.time() * 1000).to_bytes(6, "big")[:3]
        frames = [_ahead(frame, now, ahead) for frame in frames]
        return "ahead", _ragstore._batch_of(frames, records, last=True)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(frames))
        frames[at] = splice(chance, frames[at])
    count = records if chance.random() < 0.9 else chance.randrange(1 << 40)
    return "sealed", _ragstore._batch_of([frame for frame in frames if frame], count, chance.random() < 0.9)


def _end(batch: bytes) -> bytes:
    return batch[-25:-16]


def _ahead(frame: bytes, prefix: bytes, moment: bytes) -> bytes:
    parts = frame.split(prefix)
    return parts[0] + b"".join(moment + part[3:] for part in parts[1:])


def test_hostile_batches(tmp_path):
    with record.Suite("hostile_batches", tmp_path) as suite:
        target = Target(tmp_path / "stores")
        began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # The control: nothing but what is done to them keeps the batches from being taken.
        for batch in target.batches[:2]:
            assert target.store.apply_changes(batch).applied > 0
            target.renew()
        for number in range(BATCHES):
            kind, batch = hostile(suite.chance, target.batches)
            suite.counts[kind] += 1
            used = time.process_time()
            try:
                target.store.apply_changes(batch, key="k" if suite.chance.random() < 0.05 else None)
            except REFUSED:
                assert target.unchanged(), (suite.seed, number, kind)
                suite.counts["refused"] += 1
            else:
                # It says something that a store could have said.
                suite.counts["taken whole"] += 1
                # On a connection of its own: FTS5 checks by what a connection knows of an index.
                problems = ragstore.check(target.store.path).problems
                assert not problems, (suite.seed, number, kind, problems)
                sooner = max(int(moment[:12], 16) for moment in target.store.watermark().values())
                assert sooner <= (datetime.now(UTC).timestamp() + 61) * 1000, (suite.seed, number)
                target.renew()
            assert time.process_time() - used < SECONDS, (suite.seed, number, kind)
            if number % 500 == 0:
                assert replicas.answers(target.store, ["cat"]) == target.content
        assert replicas.answers(target.store, ["cat"]) == target.content
        assert not ragstore.check(target.store.path).problems
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began) * (1024 if sys.platform == "linux" else 1)
        assert grown < MEMORY, grown
        target.store.close()
        assert suite.counts["refused"] > BATCHES / 2


def test_bombs_are_refused_before_they_are_memory(store):
    for stored, plain in [(8, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (1 << 20, 41 << 20)]:
        head = bytes([2]) + stored.to_bytes(4, "little") + plain.to_bytes(4, "little")
        with pytest.raises(ragstore.SyncError, match=r"at most|within a frame"):
            store.apply_changes(b"RAGSYNC\x01\x00" + head + bytes(1 << 10))
