"""A process is killed while it gives a file another key: exactly one key opens it, and all rows are there."""

import contextlib
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.faults import images, record, tracing
from tests.faults.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")]

KILLS = record.size(20, 500)
IMAGES = record.size(60, 2_000)
ROWS, DIMENSION = 400, 16


def key(text: str) -> bytes | None:
    """A raw key is not stretched, so that the time goes into the work."""
    return bytes.fromhex(text) if text else None


def rekey(path: str, said: str, old: str, *new: str) -> None:
    """Gives the file one key after the other, and says so."""
    out = os.open(said, os.O_WRONLY)
    with ragstore.open(path, key=key(old)) as store:
        # What is in the log when it begins.
        store["c"].add_texts([f"logged {store['c'].count()}"], [[1.0] * DIMENSION])
        os.write(out, b"ready\n")
        for text in new:
            store.rekey(key(text))
            os.write(out, b"done\n")


def rows(path, key) -> tuple[int, set[str]]:
    """How many chunks there are after a check of rows, text index and vectors, and the ids of the first documents."""
    with ragstore.open(path, key=key, create=False) as store:
        notes = store["c"]
        count = notes.count()
        ids = notes.keyword_search("text OR logged", k=4096, syntax="fts5").ids
        assert len(ids) == len(set(ids)) == count
        assert len(notes.vector_search([1.0] * DIMENSION, k=4096, exact=True).ids) == count
        assert notes.get_embeddings(ids).shape == (count, DIMENSION)
        return count, {id for id in ids if id.startswith("row")}


def fill(path) -> set[str]:
    """Makes a plain store, and says what the ids are."""
    ids = [f"row{row}" for row in range(ROWS)]
    with ragstore.open(path) as store:
        vectors = np.random.default_rng(1).standard_normal((ROWS, DIMENSION), np.float32)
        notes = store.create_collection("c", dimension=DIMENSION)
        notes.add_texts([f"text {row} " * 30 for row in range(ROWS)], vectors, ids=ids)
    return set(ids)


def opened_by(path, keys) -> dict:
    """What each key finds that opens the file."""
    opens = {}
    for one in dict.fromkeys(keys):
        with contextlib.suppress(ragstore.WrongKeyError):
            opens[one] = rows(path, one)
    return opens


class Pipe:
    """What a child says, line by line."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.text = b""

    def wait(self, seconds: float) -> bytes:
        """What there is more, or nothing when the time is over."""
        more = os.read(self.end, 4096) if select.select([self.end], [], [], seconds)[0] else b""
        self.text += more
        return more

    def close(self) -> list[bytes]:
        """All that was said; nobody has the other end any more."""
        while some := os.read(self.end, 4096):
            self.text += some
        os.close(self.end)
        self.path.unlink()
        return self.text.split(b"\n")[:-1]


def test_a_kill_leaves_the_file_to_exactly_one_key(path, tmp_path):
    with record.Suite("rekey", tmp_path) as suite, Server(__name__) as server:
        chance = suite.chance
        expected, count = fill(path), ROWS
        now: bytes | None = None
        span = 0.2
        # Some children end before they are killed: no more than half of them.
        for number in range(2 * KILLS):
            if suite.counts["kills"] == KILLS:
                break
            # The second is for the child that is not killed in time.
            keys = [None if chance.random() < 0.25 else chance.randbytes(32) for _ in range(2)]
            texts = ["" if one is None else one.hex() for one in (now, *keys)]
            pipe = Pipe(tmp_path / "said")
            child = server.start(rekey, str(path), str(pipe.path), *texts)
            while b"\n" not in pipe.text:
                assert pipe.wait(60), "the child does not begin"
            began = time.monotonic()
            # Not before something, but at any moment of it: this is what is tested.
            pipe.wait(chance.uniform(0, span))
            time.sleep(chance.uniform(0, 0.002))
            child.kill()
            status = child.wait()
            done = len(pipe.close()) - 1
            assert status in {0, -9}
            if done:
                span = max(0.02, 0.9 * span + 0.15 * (time.monotonic() - began))
            opens = opened_by(path, [now, *keys])
            assert len(opens) == 1, f"kill {number}: {len(opens)} keys open it"
            ((opener, (there, ids)),) = opens.items()
            allowed = {0: [now, *keys], 1: keys, 2: keys[1:]}[done]
            assert opener in allowed, f"kill {number}: a key that was acknowledged does not open it"
            count += 1
            assert (there, ids) == (count, expected), f"kill {number}"
            assert not [name for name in os.listdir(path.parent) if "rekey" in name]
            suite.counts["kills"] += status == -9
            suite.counts["that left the old key"] += opener == now and done == 0
            suite.counts["that left a new one"] += opener in keys and opener != now
            now = opener
        assert suite.counts["kills"] == KILLS
        assert suite.counts["that left a new one"]


def recorded(folder: Path, keys: list[bytes | None]) -> tuple[images.Disk, list[images.Event], Path]:
    """The disk before a process gives a file these keys, and all that it does."""
    path, said, log = folder / "run" / "kb.db", folder / "said", folder / "log"
    path.parent.mkdir()
    fill(path)
    if keys[0] is not None:
        with ragstore.open(path) as store:
            store.rekey(keys[0])
    said.touch()
    disk = images.Disk([str(path) + suffix for suffix in ("", "-wal", "-journal", "-rekey", "-rekey-journal")])
    for name in disk.keep:
        if Path(name).exists():
            file = disk.names[name] = images.File()
            file.now += Path(name).read_bytes()
            file.sync()
    disk.durable = dict(disk.names)
    code = "import sys; from tests.faults import test_rekey; test_rekey.rekey(*sys.argv[1:])"
    texts = ["" if one is None else one.hex() for one in keys]
    command = [*images.command(log, [*tracing.files(path), said]), sys.executable, "-c", code, path, said, *texts]
    env = {**os.environ, "PYTHONPATH": str(record.ROOT)}
    subprocess.run([str(word) for word in command], check=True, env=env, cwd=record.ROOT)
    return disk, images.parse(log, said), path


def judge(place: Path, image: images.Image, run: Path, keys: list[bytes | None]) -> bytes | None:
    """The one key that opens an image in which nothing is missing."""
    shutil.rmtree(place.parent, ignore_errors=True)
    place.parent.mkdir()
    for name, content in image.items():
        place.with_name(place.name + name.removeprefix(str(run))).write_bytes(content)
    ((opener, (count, ids)),) = opened_by(place, keys).items()
    assert ids == {f"row{row}" for row in range(ROWS)}
    # What was in the log when it began may have been lost with it before.
    assert count in {ROWS, ROWS + 1}
    return opener


def test_power_loss_leaves_the_file_to_exactly_one_key(tmp_path):
    with record.Suite("rekey_power_loss", tmp_path) as suite:
        tracing.require()
        chance, number = suite.chance, 0
        while suite.counts["images"] < IMAGES:
            number += 1
            keys = [[None, chance.randbytes(32)], [chance.randbytes(32), None], [chance.randbytes(32) for _ in "ab"]]
            old, new = keys[number % 3]
            folder = tmp_path / str(number)
            folder.mkdir()
            disk, events, run = recorded(folder, [old, new])
            every = max(1, 4 * len(events) * record.size(3, 60) // IMAGES)
            done = 0
            for at, event in enumerate(events):
                if event.kind == "ack":
                    done += event.data.count(b"\n")
                    continue
                # What is renamed and synced is what it is about.
                near = {"rename", "sync", "truncate"} & {other.kind for other in events[at : at + 2]}
                if not disk.apply(event) or not done or (not near and chance.randrange(every)):
                    continue
                shots = [disk.written(), disk.confirmed(), disk.named(), disk.torn(chance)]
                for kind, image in zip(["written", "confirmed", "named", "torn"], shots, strict=True):
                    where = f"{kind} after event {at} ({event.kind}), {done} done"
                    try:
                        opener = judge(tmp_path / "image" / "kb.db", image, run, [old, new])
                    except Exception as error:
                        raise AssertionError(where) from error
                    assert opener == new or done == 1, f"{where}: the old key opens it"
                    suite.counts["images"] += 1
                    suite.counts["that the new key opens"] += opener == new
            shutil.rmtree(folder)
        assert 0 < suite.counts["that the new key opens"] < suite.counts["images"]


def test_the_judge_sees_a_copy_that_was_not_synced(tmp_path):
    """The control."""
    tracing.require()
    keys = [None, bytes(range(32))]
    disk, events, run = recorded(tmp_path, keys)
    for event in events:
        if event.kind != "sync" or not event.path.endswith("-rekey"):
            disk.apply(event)
        if event.kind == "rename":
            break
    assert judge(tmp_path / "image" / "kb.db", disk.written(), run, keys) == keys[1]
    with pytest.raises((ragstore.RagstoreError, AssertionError, ValueError)):
        judge(tmp_path / "image" / "kb.db", disk.named(), run, keys)


def test_the_checks_see_what_is_missing(path):
    """The control."""
    with ragstore.open(path, key=bytes(32)) as store:
        notes = store.create_collection("c", dimension=DIMENSION)
        notes.add_texts(["text one", "text two"], np.ones((2, DIMENSION), np.float32))
    assert rows(path, bytes(32))[0] == 2
    with ragstore.open(path, key=bytes(32)) as store:
        store["c"].delete_embeddings(store["c"].keyword_search("one").ids)
    with pytest.raises(AssertionError):
        rows(path, bytes(32))
