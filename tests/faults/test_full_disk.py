"""A full disk: the call that met it stores nothing, what was acknowledged is there, and space given back is used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.faults import record
from tests.faults.server import Server

pytestmark = pytest.mark.faults

suite = record.suite_of_module("full_disk")

DIMENSION = 64
TEXT = "some words of a text that fills the disk "


def batch(number: int) -> tuple[list[ragstore.Document], np.ndarray]:
    """Some 40 KB in three documents, with a word of their own."""
    documents = [
        ragstore.Document(f"batch{number} {TEXT * 300}", id=f"{number}-{row}", metadata={"batch": number})
        for row in range(3)
    ]
    rows = np.random.default_rng(number).standard_normal((3, DIMENSION), np.float32)
    return documents, rows


def check(collection, acknowledged: list[int]) -> None:
    """Everything acknowledged and nothing else, by every way of reading."""
    expected = [f"{number}-{row}" for number in acknowledged for row in range(3)]
    listed = [document.id for document in collection.list_documents(limit=100_000)]
    assert listed == expected[::-1]
    assert len(collection) == len(expected)
    for number in acknowledged:
        documents, rows = batch(number)
        hits = collection.keyword_search(f"batch{number}", k=10)
        assert sorted(hit.document_id for hit in hits) == [document.id for document in documents]
        ids = [collection.get_chunks(document.id)[0].id for document in documents]
        np.testing.assert_array_equal(collection.get_embeddings(ids), rows)
        assert [hits.ids for hits in collection.search_batch(rows, k=1, exact=True)] == [[id] for id in ids]


def fill(collection, error: type[Exception]) -> tuple[list[int], Exception]:
    """Adds until there is no space, and returns what was acknowledged and the error."""
    acknowledged: list[int] = []
    for number in range(100_000):
        try:
            collection.add(*batch(number))
        except error as raised:
            assert acknowledged
            return acknowledged, raised
        acknowledged.append(number)
    pytest.fail("the disk was never full")


def refused(collection, number: int, error: type[Exception]) -> None:
    """A second try is refused as well, and harms nothing."""
    with pytest.raises(error):
        collection.add(*batch(number))


def check_alone(path: Path, acknowledged: list[int]) -> None:
    """The same from the file alone, after close."""
    with ragstore.open(path, create=False) as store:
        check(store["c"], acknowledged)
        assert store["c"].count_documents() == 3 * len(acknowledged)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 6 MiB; root may mount one."""
    if sys.platform != "linux":
        pytest.skip("tmpfs is Linux")
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", mount], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {made.stderr.strip()}")
    yield mount
    # Lazily: a test that failed may keep files open, and the space goes with the last of them.
    subprocess.run(["umount", "--lazy", mount], check=True)


def test_a_full_disk(small_disk):
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2 << 20))
    path = small_disk / "kb.db"
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=DIMENSION)
        acknowledged, error = fill(collection, ragstore.StoreFullError)
        assert isinstance(error, OSError)
        check(collection, acknowledged)
        refused(collection, len(acknowledged), ragstore.StoreFullError)
        check(collection, acknowledged)
        filler.unlink()
        # Without opening it anew.
        for number in range(len(acknowledged), len(acknowledged) + 3):
            collection.add(*batch(number))
            acknowledged.append(number)
        check(collection, acknowledged)
    check_alone(path, acknowledged)


def test_a_full_disk_at_the_end(small_disk):
    """Closing where there is no space to move the log loses nothing."""
    path = small_disk / "kb.db"
    with ragstore.open(path) as store:
        acknowledged, _ = fill(store.create_collection("c", dimension=DIMENSION), ragstore.StoreFullError)
    check_alone(path, acknowledged)


def test_a_disk_too_full_to_begin(small_disk):
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    path = small_disk / "kb.db"
    with pytest.raises(ragstore.StoreFullError):
        ragstore.open(path)
    filler.unlink()
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=DIMENSION)
        collection.add(*batch(0))
        check(collection, [0])


def limited(path: str, size: int) -> None:
    """What an unprivileged user can set; Python ignores SIGXFSZ, so a write fails with EFBIG."""
    import resource

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=DIMENSION)
        limit(size)
        acknowledged, _ = fill(collection, ragstore.StoreFullError)
        check(collection, acknowledged)
        refused(collection, len(acknowledged), ragstore.StoreFullError)
        limit(resource.RLIM_INFINITY)
        for number in range(len(acknowledged), len(acknowledged) + 3):
            collection.add(*batch(number))
            acknowledged.append(number)
        check(collection, acknowledged)
    check_alone(Path(path), acknowledged)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process are POSIX")
def test_a_limit_of_the_file_size(tmp_path, suite):
    with Server(__name__) as server:
        for number in range(record.size(2, 60)):
            size = suite.chance.randrange(1000 << 10, 6 << 20)
            assert server.run(limited, str(tmp_path / f"{number}.db"), size) == 0, f"a limit of {size} bytes"
            suite.counts["limits of a file's size"] += 1


def full_and_free_again(path: str, size: int) -> None:
    """A file system of any size: what fits is there, and what is given back is used."""
    filler = Path(path).with_name("filler")
    filler.write_bytes(bytes(size))
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=DIMENSION)
        acknowledged, _ = fill(collection, ragstore.StoreFullError)
        refused(collection, len(acknowledged), ragstore.StoreFullError)
        check(collection, acknowledged)
        filler.unlink()
        collection.add(*batch(len(acknowledged)))
        acknowledged.append(len(acknowledged))
        check(collection, acknowledged)
    check_alone(Path(path), acknowledged)


def test_disks_of_many_sizes(small_disk, suite):
    """Of a disk of 6 MiB a part is free; each size breaks off at another statement."""
    with Server(__name__) as server:
        for _ in range(record.size(2, 60)):
            size = suite.chance.randrange(1 << 20, 9 << 19)
            assert server.run(full_and_free_again, str(small_disk / "kb.db"), size) == 0, f"{size} bytes are taken"
            for left in small_disk.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            suite.counts["sizes of a full disk"] += 1


def test_the_check_sees_what_is_missing(path):
    """The control."""
    with ragstore.open(path) as store:
        collection = store.create_collection("c", dimension=DIMENSION)
        for number in range(2):
            collection.add(*batch(number))
        check(collection, [0, 1])
        for wrong in ([0], [0, 1, 2]):
            with pytest.raises(AssertionError):
                check(collection, wrong)
        collection.delete_embeddings([collection.get_chunks("1-1")[0].id])
        with pytest.raises(ragstore.NotFoundError):
            check(collection, [0, 1])
