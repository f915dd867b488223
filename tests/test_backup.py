"""A backup is one moment in one whole file, or it is not there."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.helpers.damages import damage

DIMENSION = 32


def fill(store, documents: int = 300) -> None:
    rows = np.random.default_rng(1).standard_normal((documents, DIMENSION), np.float32)
    store.create_collection("c", dimension=DIMENSION).add(
        [ragstore.Document(f"text number{n} common", id=f"d{n}", metadata={"n": n}) for n in range(documents)], rows
    )


def same(store, copy) -> None:
    """Both answer alike by every road."""
    ours, theirs = store["c"], copy["c"]
    query = np.random.default_rng(2).standard_normal(DIMENSION, np.float32)
    for ask in (
        lambda c: c.list_documents(limit=1000),
        lambda c: [(hit.id, hit.score) for hit in c.keyword_search("common number7", k=50)],
        lambda c: [(hit.id, hit.score) for hit in c.vector_search(query, k=50, exact=True)],
        lambda c: c.count({"n": {"$lt": 17}}),
    ):
        assert ask(ours) == ask(theirs)


def meta(path) -> dict:
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    try:
        return dict(connection.execute("SELECT key, value FROM meta"))
    finally:
        connection.close()


def entries(folder) -> set[str]:
    """All but indexes, which come and go by themselves."""
    return {entry.name for entry in folder.iterdir() if not entry.name.endswith("-index")}


def test_a_backup_is_one_file_and_answers_the_same(path, store, tmp_path):
    fill(store)
    folder = tmp_path / "backups"
    folder.mkdir()
    store.backup(folder / "a.db")
    assert entries(folder) == {"a.db"}
    assert stat.S_IMODE((folder / "a.db").stat().st_mode) == 0o600
    # What was committed in the log alone is in it, and a second one replaces it.
    store["c"].add(ragstore.Document("later common", id="later", metadata={"n": 1}), np.ones((1, DIMENSION)))
    store.backup(str(folder / "a.db"))
    assert entries(folder) == {"a.db"}
    with ragstore.open(folder / "a.db", read_only=True) as copy:
        same(store, copy)
        assert copy["c"].get_document("later")


def test_a_backup_is_another_replica_of_the_same_store(path, store, tmp_path):
    fill(store, 3)
    store.backup(tmp_path / "a.db")
    store.backup(tmp_path / "b.db")
    store.checkpoint("truncate")
    live, a, b = meta(path), meta(tmp_path / "a.db"), meta(tmp_path / "b.db")
    assert live["store_id"] == a["store_id"] == b["store_id"]
    assert len({one["replica_id"] for one in (live, a, b)}) == 3
    # The clock is one tick later, as the new replica's, whose bytes may sort before the old one's.
    assert int.from_bytes(a["hlc"][:8]) == int.from_bytes(live["hlc"][:8]) + 1
    assert a["hlc"][8:] == a["replica_id"]


def test_a_restored_backup_goes_on(path, tmp_path):
    with ragstore.open(path) as store:
        fill(store)
        store.backup(tmp_path / "backup.db")
        store["c"].clear()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", path)
    with ragstore.open(path) as store, ragstore.open(tmp_path / "backup.db", read_only=True) as backup:
        same(store, backup)
        store["c"].add(ragstore.Document("new", id="new"), np.ones((1, DIMENSION)))
        assert store["c"].count_documents() == 301


def test_read_only_and_ephemeral_stores_are_backed_up(path, tmp_path):
    with ragstore.open(path) as store:
        fill(store, 10)
    with ragstore.open(path, read_only=True) as store:
        store.backup(tmp_path / "a.db")
        with ragstore.open(tmp_path / "a.db") as copy:
            same(store, copy)
    with ragstore.open() as store:
        fill(store, 10)
        store.backup(tmp_path / "b.db")
        with ragstore.open(tmp_path / "b.db") as copy:
            same(store, copy)


def test_what_is_no_place_for_a_backup_is_refused(path, store, tmp_path):
    fill(store, 5)
    (tmp_path / "link.db").symlink_to(path)
    (tmp_path / "nowhere.db").symlink_to(tmp_path / "gone" / "x.db")
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    os.link(path, tmp_path / "hard.db")
    before = entries(tmp_path)
    for place in (
        path,
        tmp_path / "link.db",
        tmp_path / "hard.db",
        tmp_path / "linked" / "kb.db",
        tmp_path / "linked" / ".." / tmp_path.name / "kb.db",
        tmp_path / "kb.db-wal",
        tmp_path / "linked" / "kb.db-shm",
        tmp_path / "kb.db-journal",
        tmp_path / "kb.db-rekey",
        tmp_path / "kb.db-rekey-journal",
        tmp_path / "linked" / "kb.db-rekey-wal",
        tmp_path / "kb.db-index",
        tmp_path,
        tmp_path / "nowhere.db",
        "/dev/null",
        "",
        "a\0b",
    ):
        with pytest.raises(ValueError, match=r"store itself|directory|link to nothing|empty|NUL"):
            store.backup(place)
    with pytest.raises(ragstore.NotFoundError, match="folder is not there"):
        store.backup(tmp_path / "none" / "a.db")
    with pytest.raises(TypeError):
        store.backup(None)
    assert entries(tmp_path) == before
    # A link to another file is followed.
    (tmp_path / "nowhere.db").unlink()
    (tmp_path / "target.db").touch()
    (tmp_path / "nowhere.db").symlink_to("target.db")
    store.backup(tmp_path / "nowhere.db")
    assert (tmp_path / "nowhere.db").is_symlink()
    with ragstore.open(tmp_path / "target.db", read_only=True) as copy:
        same(store, copy)


def test_a_backup_is_not_removed_by_what_comes_after(path, tmp_path):
    (tmp_path / "kb.db-index").mkdir()
    with ragstore.open(path) as store:
        fill(store, 5)
        with pytest.raises(ValueError, match="store itself"):
            store.backup(tmp_path / "kb.db-index" / "vectors-1-1-1.index")
        # A name beside the store that is not the store's, and that of the copy which a migration keeps.
        names = ["kb.db-backup", "kb.db.format-2.bak", "kb.db-rekeyed"]
        for name in names:
            store.backup(tmp_path / name)
    with ragstore.open(path) as store:
        store.optimize()
        store.rekey("a key of this test")
    for name in names:
        with ragstore.open(tmp_path / name, read_only=True) as copy:
            assert copy["c"].count() == 5


def test_a_database_in_use_is_not_replaced(path, store, tmp_path):
    fill(store, 5)
    place = tmp_path / "a.db"
    store.backup(place)
    with ragstore.open(place), pytest.raises(ragstore.LockedError, match="open as a database"):
        store.backup(place)
    code = "import ragstore, sys; s = ragstore.open(sys.argv[1]); print(1, flush=True); sys.stdin.read(); s.close()"
    other = subprocess.Popen([sys.executable, "-c", code, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline()
    with pytest.raises(ragstore.LockedError, match="open as a database"):
        store.backup(place)
    other.communicate()
    store.backup(place)
    # A log that nobody moved would be taken for that of the new file.
    place.with_name("a.db-wal").write_bytes(b"frames")
    with pytest.raises(ragstore.LockedError, match="stands a log"):
        store.backup(place)


def test_progress_rises_to_the_end(store, tmp_path):
    fill(store, 3000)
    seen = []
    store.backup(tmp_path / "a.db", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    done, total = seen[-1]
    assert done == total > 0


def test_a_backup_that_is_cancelled_leaves_what_was_there(store, tmp_path):
    fill(store)
    store.backup(tmp_path / "a.db")
    before = (tmp_path / "a.db").read_bytes()
    names = entries(tmp_path)

    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    # Made large enough to be looked at meanwhile.
    store["c"].add([ragstore.Document(id=f"x{n}") for n in range(1000)])
    big = store.create_collection("big", dimension=4096)
    for number in range(8):
        chunks = [ragstore.Chunk() for _ in range(1024)]
        big.add([ragstore.Document(id=str(number), chunks=chunks)], np.ones((1024, 4096), np.float32))
    with pytest.raises(Stop):
        store.backup(tmp_path / "a.db", progress=stop)
    assert (tmp_path / "a.db").read_bytes() == before
    assert entries(tmp_path) == names

    def interrupted(signum, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 0.12)
    try:
        with pytest.raises(KeyboardInterrupt):
            # It may be quicker than the alarm; then the next one is not.
            while True:
                store.backup(tmp_path / "other.db")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert entries(tmp_path) - {"other.db"} == names


def test_a_killed_backup_leaves_what_was_there_and_the_next_one_sweeps(path, tmp_path):
    with ragstore.open(path, durability="relaxed") as store:
        big = store.create_collection("c", dimension=4096)
        for number in range(4):
            chunks = [ragstore.Chunk() for _ in range(1024)]
            big.add([ragstore.Document(id=str(number), chunks=chunks)], np.ones((1024, 4096), np.float32))
    place = tmp_path / "a.db"
    place.write_bytes(b"the old backup")
    code = """
import sys, ragstore
with ragstore.open(sys.argv[1]) as store:
    store.backup(sys.argv[2], progress=lambda done, total: print(done, flush=True))
"""
    other = subprocess.Popen([sys.executable, "-c", code, path, place], stdout=subprocess.PIPE)
    assert other.stdout.readline()
    other.kill()
    other.stdout.close()
    if other.wait() == -signal.SIGKILL and place.read_bytes() == b"the old backup":
        (stray,) = [name for name in entries(tmp_path) if name.startswith(".ragstore-backup-")]
        assert stat.S_IMODE((tmp_path / stray).stat().st_mode) == 0o700
    # One that is being made by another process stays.
    live = tmp_path / ".ragstore-backup-live"
    live.mkdir()
    code = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print(1, flush=True)
sys.stdin.read()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", code, live / "owned"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout.readline()
    with ragstore.open(path) as store:
        store.backup(place)
        assert [name for name in entries(tmp_path) if name.startswith(".ragstore")] == [live.name]
        owner.communicate()
        store.backup(place)
        assert not [name for name in entries(tmp_path) if name.startswith(".ragstore")]
        assert sqlite3.connect(place).execute("SELECT count(*) FROM chunks").fetchone() == (4096,)


def test_a_full_disk_leaves_what_was_there(store, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {made.stderr.strip()}")
    try:
        fill(store, 10)
        store.backup(mount / "a.db")
        before = (mount / "a.db").read_bytes()
        store["c"].add([ragstore.Document("words " * 20_000, id=f"long{n}") for n in range(8)])
        with pytest.raises(ragstore.StoreFullError):
            store.backup(mount / "a.db")
        assert (mount / "a.db").read_bytes() == before
        assert entries(mount) == {"a.db"}
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


def test_a_damaged_store_makes_no_backup(path, tmp_path):
    with ragstore.open(path) as store:
        fill(store)
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM fts_1_1_data WHERE id > 10")
    connection.commit()
    connection.close()
    with ragstore.open(path) as store, pytest.raises(ragstore.CorruptError, match="damaged"):
        store.backup(tmp_path / "a.db")
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    ("statement", "area"),
    [
        ("UPDATE vec_1_1_chunks SET validity = zeroblob(9) WHERE chunk_id = 1", "vectors"),
        ("DELETE FROM vec_1_1_vector_chunks00 WHERE rowid = 2", "vectors"),
        ("DELETE FROM vec_1_1_rowids WHERE rowid = 30", "vectors"),
        ("UPDATE vec_1_1_vector_chunks00 SET vectors = zeroblob(length(vectors)) WHERE rowid = 1", "vectors"),
        ("DELETE FROM fts_1_1_docsize WHERE id = 30", "text"),
        ("DROP TABLE fts_1_1_docsize", "(file|schema)"),
        ("DELETE FROM fts_1_1_data WHERE id > 10", "file"),
    ],
)
def test_a_damaged_store_keeps_the_backup_that_was_there(path, tmp_path, statement, area):
    place = tmp_path / "a.db"
    with ragstore.open(path) as store:
        fill(store)
        store.backup(place)
    before, names = place.read_bytes(), entries(tmp_path)
    damage(path, statement)
    with ragstore.open(path) as store:
        with pytest.raises(ragstore.CorruptError, match=rf"damaged.* \({area}: .*target is as it was.*repair\(\)"):
            store.backup(place)
        assert place.read_bytes() == before
        assert entries(tmp_path) == names
        if area in {"vectors", "text"}:
            store.repair()
            store.backup(place)
            assert place.read_bytes() != before
    assert ragstore.check(place).ok


def test_closing_waits_for_a_backup(path, tmp_path):
    store = ragstore.open(path, durability="relaxed")
    big = store.create_collection("c", dimension=4096)
    for number in range(4):
        chunks = [ragstore.Chunk() for _ in range(1024)]
        big.add([ragstore.Document(id=str(number), chunks=chunks)], np.ones((1024, 4096), np.float32))
    began = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        backup = pool.submit(store.backup, tmp_path / "a.db", progress=lambda *_: began.set())
        assert began.wait(60)
        store.close()
        assert backup.done() or backup.result(60) is None
    assert sqlite3.connect(tmp_path / "a.db").execute("SELECT count(*) FROM chunks").fetchone() == (4096,)
    with pytest.raises(ragstore.ClosedError):
        store.backup(tmp_path / "a.db")


@pytest.mark.skipif(sys.platform == "win32", reason="rights of folders are others there")
def test_a_backup_in_a_folder_that_is_not_to_be_written_says_why_it_does_not_open(path):
    code = """
import os, sys, ragstore
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for ask in (
    lambda: ragstore.open(sys.argv[1], read_only=True),
    lambda: ragstore.open(sys.argv[1]),
    lambda: ragstore.check(sys.argv[1]),
    lambda: ragstore.repair(sys.argv[1], sys.argv[2]),
):
    try:
        ask()
    except OSError as error:
        print(error)
"""
    with ragstore.open(path) as store:
        fill(store, 3)
        # Not in pytest's own folder, which is closed to other users.
        with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
            folder = Path(name)
            store.backup(folder / "a.db")
            (folder / "a.db").chmod(0o444)
            folder.chmod(0o555)
            Path(other).chmod(0o777)
            try:
                arguments = [sys.executable, "-c", code, folder / "a.db", Path(other) / "new.db"]
                done = subprocess.run(arguments, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                lines = done.stdout.splitlines()
                assert len(lines) == 4, lines
                assert all("to write a.db-shm beside the file" in line for line in lines), lines
                assert all("copy the file to a folder you can write to" in line for line in lines), lines
            finally:
                folder.chmod(0o755)
