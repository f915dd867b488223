"""Encryption at rest: what is in the files, which key opens them, and another key for them."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import ragstore

MAGIC = b"SQLite format 3\0"
RAW = bytes(range(32))
WORDS = ["zyzzyva", "quokkas", "axolotl", "okapiok", "narwhal"]


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder. Another process reads them: this one would drop SQLite's locks."""
    code = (
        "import json, pathlib, sys\n"
        "print(json.dumps({str(p): p.read_bytes().hex() for p in pathlib.Path(sys.argv[1]).rglob('*') if p.is_file()}))"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    return {name: bytes.fromhex(text) for name, text in json.loads(done.stdout).items()}


def found(folder: Path, needles: list[bytes]) -> set[bytes]:
    """Which needles are in the files of a folder; there is a file with something in it."""
    contents = files(folder)
    assert any(contents.values())
    return {needle for needle in needles if any(needle in content for content in contents.values())}


def secrets(path: Path, key: str | bytes) -> list[bytes]:
    """The passphrase and what is derived from it, as bytes and as digits."""
    if isinstance(key, bytes):
        return [key, key.hex().encode()]
    derived = hashlib.pbkdf2_hmac("sha512", key.encode(), files(path.parent)[str(path)][:16], 256_000, 32)
    return [key.encode(), derived, derived.hex().encode(), derived.hex().upper().encode()]


def life(path: Path, key, look) -> list[bytes]:
    """All that a store does with its files; `look` is called again and again. Returns what must not be read in them."""
    vectors = np.random.default_rng(7).standard_normal((600, 32), np.float32)
    texts = [f"{WORDS[row % 5]} canary-{row} " * 20 for row in range(600)]
    opened: set[str] = set()

    def descriptors(done, total):
        for link in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").exists() else []:
            with contextlib.suppress(OSError):
                opened.add(str(link.readlink()))

    descriptors(0, 0)
    before = set(opened)
    with ragstore.open(path, key=key) as store:
        store.create_collection("scratch").add("gone soon: canary-0")
        notes = store.create_collection(
            "notes", description="canary-description", model="m", embedder=lambda t: vectors[: len(t)]
        )
        notes.add_texts(texts, vectors, ids=[f"canary-id-{row}" for row in range(600)], progress=descriptors)
        look()
        notes.add_texts(["embedded canary-600"], ids=["embedded"])
        with store.transaction() as transaction:
            transaction["notes"].add(
                {"uri": "canary-uri", "text": texts[0], "metadata": {"mark": "canary-meta"}}, vectors[:1]
            )
        notes.delete([f"canary-id-{row}" for row in range(0, 300, 2)])
        notes.create_index("mark", progress=descriptors)
        assert notes.search("zyzzyva", vector=vectors[1], k=5, where={"mark": {"$ne": "x"}}).ids
        assert notes.keyword_search("narwhal OR okapiok", k=200, syntax="fts5").ids
        look()
        notes.set_tokenizer("unicode61", progress=descriptors)
        store.delete_collection("scratch")
        store.create_collection("cleared").add(texts[:9])
        store["cleared"].clear()
        look()
    look()
    with ragstore.open(path, key=key, read_only=True) as store:
        assert store["notes"].vector_search(vectors[1], k=1, exact=True).ids == ["canary-id-1"]
        look()
    # Sorting and statement journals stay in memory.
    assert not [name for name in opened - before if "etilqs" in name or "deleted" in name]
    spans = [vectors[row].tobytes()[at : at + 16] for row in (1, 5, 299, 599) for at in (0, 64)]
    return [b"canary", *(word.encode() for word in WORDS), MAGIC, b"CREATE TABLE", *spans]


@pytest.mark.parametrize("key", ["a passphrase, canary", "pässwörd 密码", RAW], ids=["text", "unicode", "raw"])
def test_no_file_holds_text_vectors_or_keys(tmp_path, monkeypatch, key):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    folder = tmp_path / "store"
    path, snapshots = folder / "kb.db", []
    needles = life(path, key, lambda: snapshots.append(files(folder)))
    needles += secrets(path, key)
    assert len(snapshots) == 5
    assert {Path(name).name for snapshot in snapshots for name in snapshot} == {"kb.db", "kb.db-wal", "kb.db-shm"}
    assert max(len(snapshot[f"{path}-wal"]) for snapshot in snapshots) > 100_000
    leaks = {
        (name, needle)
        for snapshot in snapshots
        for name, content in snapshot.items()
        for needle in needles
        if needle in content
    }
    assert leaks == set()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_scan_finds_them_in_a_plain_store(tmp_path):
    """The control."""
    path, snapshots = tmp_path / "kb.db", []
    needles = life(path, None, lambda: snapshots.append(1))
    assert found(tmp_path, needles) == set(needles)


def test_a_key_opens_what_it_made(path):
    with ragstore.open(path, key="correct horse") as store:
        store.create_collection("c").add("text")
    for _ in range(2):
        with ragstore.open(path, key="correct horse", create=False) as store:
            assert store["c"].count() == 1
            store["c"].add("more", on_conflict="skip")
            store["c"].clear()
            store["c"].add("text")


@pytest.mark.parametrize(
    ("made", "given"),
    [
        ("right", "wrong"),
        ("right", "Right"),
        ("right", "right "),
        ("right", RAW),
        ("right", None),
        (RAW, RAW[::-1]),
        (RAW, "right"),
        (RAW, None),
        (None, "right"),
        (None, RAW),
        ("caf\u00e9", "cafe\u0301"),
        ("a\0b", "a"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_another_key_is_refused_and_changes_nothing(path, made, given, read_only, capfd):
    with ragstore.open(path, key=made) as store:
        store.create_collection("c").add("text")
    before = files(path.parent)
    with pytest.raises(ragstore.WrongKeyError) as caught:
        ragstore.open(path, key=given, read_only=read_only)
    message = str(caught.value)
    assert str(path) in message
    if made is None:
        assert "not encrypted" in message
        assert "rekey" in message
    elif given is None:
        assert "open it with key=" in message
    else:
        assert "another key" in message
        assert "first page is damaged" in message
    assert files(path.parent) == before
    # SQLCipher has a log of its own.
    assert capfd.readouterr() == ("", "")
    with ragstore.open(path, key=made) as store:
        assert store["c"].count() == 1


@pytest.mark.parametrize("key", ["a", "it's", '"quoted"', "a\0b", "x'00'; --", " ", "pässwörd 密码 🔑", "k" * 10_000])
def test_any_text_is_a_passphrase(path, key):
    with ragstore.open(path, key=key) as store:
        store.create_collection("c").add("text")
    with ragstore.open(path, key=key) as store:
        assert store["c"].count() == 1


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ("", ValueError, "empty passphrase"),
        (b"", ValueError, "0 bytes"),
        (b"k" * 31, ValueError, "31 bytes"),
        (b"k" * 33, ValueError, "33 bytes"),
        (f"x'{'0f' * 32}'", ValueError, "raw keys"),
        ("half \ud83d", ValueError, "surrogate"),
        (bytearray(32), TypeError, "key is of type bytearray"),
        (32, TypeError, "key is of type int"),
        (["key"], TypeError, "key is of type list"),
        (True, TypeError, "key is of type bool"),
    ],
)
def test_what_is_no_key_is_refused_before_a_file_is_made(tmp_path, key, error, message):
    with pytest.raises(error) as caught:
        ragstore.open(tmp_path / "new" / "kb.db", key=key)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with ragstore.open(tmp_path / "kb.db", key="right") as store:
        with pytest.raises(error) as caught:
            store.rekey(key)
        assert message in str(caught.value)
        store.create_collection("c")


def test_a_key_is_shown_nowhere(path):
    secret = "hunter2-secret"
    shown = []
    with ragstore.open(path, key=secret) as store:
        shown += [repr(store), str(store._options), str(vars(store))]
        for call in (
            lambda: pickle.dumps(store),
            lambda: ragstore.open(path, key=secret + "x"),
            lambda: ragstore.open(path, key=(secret,)),
            lambda: ragstore.open(path, key=secret + "\ud83d"),
            lambda: store["missing"],
        ):
            with pytest.raises(Exception) as caught:  # noqa: PT011
                call()
            error = caught.value
            shown += [repr(error), str(error.args), repr(error.__context__)]
            shown.append("".join(traceback.format_exception_only(error)))
    assert len(shown) > 20
    assert not [text for text in shown if "hunter2" in text]


def test_an_encrypted_store_does_not_pickle(path):
    with ragstore.open(path, key="right") as store:
        notes = store.create_collection("c")
        for value in (store, notes):
            with pytest.raises(TypeError, match="encrypted store does not pickle"):
                pickle.dumps(value)
        store.rekey(None)
        with pickle.loads(pickle.dumps(store)) as again:
            assert again["c"].count() == 0
            again.close()
        store.rekey("right")
        with pytest.raises(TypeError, match="encrypted"):
            pickle.dumps(store)


def test_an_ephemeral_store_may_have_a_key(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with ragstore.open(key="right") as store:
        store.create_collection("c").add("canary " * 100, [[1.0, 2.0]])
        assert store["c"].search("canary", vector=[1.0, 2.0]).ids
        assert found(tmp_path, [b"canary", MAGIC]) == set()
        with pytest.raises(ValueError, match="ephemeral"):
            store.rekey("other")
    assert list(tmp_path.iterdir()) == []


CREATOR = """
import sys
import ragstore
print("ready", flush=True)
sys.stdin.readline()
with ragstore.open(sys.argv[1], key="right") as store:
    notes = store.create_collection("notes", dimension=2, exist_ok=True)
    for number in range(5):
        notes.add_texts([f"word{number}"], [[1.0, 2.0]], ids=[f"{sys.argv[2]}-{number}"])
"""


def test_processes_make_one_file_of_one_salt(tmp_path):
    path = tmp_path / "kb.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, path, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 6
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in processes] == [""] * 6
    with ragstore.open(path, key="right", create=False) as store:
        ids = {f"{process}-{number}" for process in range(6) for number in range(5)}
        assert {document.id for document in store["notes"].list_documents()} == ids
        assert set(store["notes"].keyword_search("word3", k=99).ids) == {f"{process}-3" for process in range(6)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_opens_the_file_with_the_key(path):
    with ragstore.open(path, key="right") as store:
        store.create_collection("c").add("text")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(count, (str(path), "right")) == 1


def count(path, key):
    with ragstore.open(path, key=key) as store:
        return store["c"].count()


HELD = """
import sys
import ragstore
key = sys.stdin.readline().rstrip("\\n")
with ragstore.open(sys.argv[1], key=key) as store:
    store.create_collection("c", exist_ok=True).search("text")
    print("open", flush=True)
    sys.stdin.readline()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="memory is read in /proc")
def test_a_closed_store_leaves_no_derived_key_in_memory(path):
    with ragstore.open(path, key="right"):
        pass
    _, derived, digits, _ = secrets(path, "right")
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        process.stdin.write("right\n")
        assert process.stdout.readline() == "open\n"
        try:
            held = memory(process.pid)
        except PermissionError as error:
            pytest.skip(f"another process's memory is not ours to read: {error}")
        # The control: an open store needs it.
        assert digits in held
        process.stdin.write("\n")
        assert process.stdout.readline() == "closed\n"
        left = memory(process.pid)
        assert derived not in left
        assert digits not in left
    finally:
        process.kill()
        process.communicate()


def memory(pid: int) -> bytes:
    """What a process may write."""
    parts = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            span, rights, *_ = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if rights.startswith("rw") and end < 1 << 63:
                with contextlib.suppress(OSError):
                    mem.seek(start)
                    parts.append(mem.read(end - start))
    return b"".join(parts)


# rekey


def answers(store):
    notes = store["notes"]
    rng = np.random.default_rng(3)
    return (
        [document.id for document in notes.list_documents(limit=1000)],
        [(hit.id, hit.score, hit.text) for hit in notes.search("canary zyzzyva", vector=rng.standard_normal(32), k=20)],
        [(hit.id, hit.score) for hit in notes.keyword_search("okapiok narwhal", k=50)],
        [(hit.id, hit.score) for hit in notes.vector_search(rng.standard_normal(32), k=50, exact=True)],
        notes.count({"mark": "canary-meta"}),
        notes.info,
    )


def test_another_key_changes_no_answer(path):
    life(path, None, lambda: None)
    with ragstore.open(path) as store:
        expected = answers(store)
        last = None
        for key in ("first", RAW, "second", None, RAW[::-1], None):
            store.rekey(key)
            assert answers(store) == expected
            with pytest.raises(ragstore.LockedError, match="another store of this process"):
                other_rekey(path, key)
            if last != key:
                with pytest.raises(ragstore.WrongKeyError):
                    ragstore.open(path, key=last, create=False)
            with ragstore.open(path, key=key) as other:
                assert answers(other) == expected
            last = key
        store["notes"].add("and it goes on", [[1.0] * 32])
    assert sorted(p.name for p in path.parent.iterdir()) == ["kb.db", "kb.db-shm", "kb.db-wal"]
    with ragstore.open(path) as store:
        assert len(answers(store)[0]) == len(expected[0]) + 1


def other_rekey(path, key):
    with ragstore.open(path, key=key) as other:
        other.rekey("nobody's")


def test_nothing_of_the_old_file_is_left_beside_an_encrypted_one(path):
    needles = life(path, None, lambda: None)
    with ragstore.open(path) as store:
        store["notes"].add("canary in the log", [[1.0] * 32])
        store.rekey("first")
        assert found(path.parent, needles) == set()
        store["notes"].add("canary in the new log", [[1.0] * 32])
        assert found(path.parent, [*needles, *secrets(path, "first")]) == set()
        store.rekey("second")
    assert found(path.parent, [*needles, *secrets(path, "second"), b"first"]) == set()


HOLDER = """
import sys, ragstore
with ragstore.open(sys.argv[1], read_only=True) as store:
    print(store["c"].count(), flush=True)
    sys.stdin.readline()
"""


def test_another_process_is_in_the_way_of_a_new_key(path):
    with ragstore.open(path) as store:
        store.create_collection("c").add("text")
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout.readline() == "1\n"
        with pytest.raises(ragstore.LockedError, match="another process has the file open; close it there"):
            store.rekey("right")
        # Nothing has changed.
        store["c"].add("more")
        holder.communicate("\n")
        store.rekey("right")
        assert store["c"].count() == 2
    assert files(path.parent)[str(path)][:16] != MAGIC


def test_a_store_that_only_reads_keeps_its_key(path):
    with ragstore.open(path, key="right") as store:
        store.create_collection("c")
    with ragstore.open(path, key="right", read_only=True) as store, pytest.raises(ragstore.ReadOnlyError):
        store.rekey("other")


def test_no_key_for_a_store_that_has_none_is_no_work(path):
    with ragstore.open(path) as store:
        inode = path.stat().st_ino
        store.rekey(None)
        assert path.stat().st_ino == inode


def test_reads_and_writes_go_on_around_a_new_key(path):
    """Calls of other threads see the store before or after, never in between."""
    from concurrent.futures import ThreadPoolExecutor

    with ragstore.open(path) as store, ThreadPoolExecutor(4) as pool:
        notes = store.create_collection("c", dimension=2)
        notes.add_texts([f"text {row}" for row in range(500)], np.ones((500, 2), np.float32))
        done = []

        def work(thread):
            row = 0
            while not done or row < 20:
                assert notes.add_texts([f"more {row}"], [[1.0, 2.0]], ids=[f"{thread}-{row}"])
                assert notes.search("text", vector=[1.0, 1.0], k=3).ids
                row += 1
            return row

        workers = [pool.submit(work, thread) for thread in range(4)]
        try:
            for key in ("first", RAW, None, "second"):
                store.rekey(key)
        finally:
            done.append(True)
        added = sum(worker.result() for worker in workers)
        assert notes.count() == 500 + added
    with ragstore.open(path, key="second") as store:
        assert store["c"].count() == 500 + added


def test_a_full_disk_leaves_the_old_key(path):
    """The copy does not fit: nothing is changed, and nothing is left."""
    resource = pytest.importorskip("resource")
    script = """
import resource, signal, sys
import numpy as np
import ragstore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = sys.argv[1]
with ragstore.open(path) as store:
    store.create_collection("c").add_texts(["canary " * 50] * 2000, np.ones((2000, 64), np.float32))
size = __import__("os").path.getsize(path)
with ragstore.open(path) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
    try:
        store.rekey("right")
    except Exception as error:
        print(type(error).__name__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(store["c"].count())
    store["c"].add("more", [[1.0] * 64])
    store.rekey("right")
    print(store["c"].count())
"""
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert done.stderr == ""
    lines = done.stdout.split()
    assert lines[1:] == ["2000", "2001"]
    assert lines[0] in {"StoreFullError", "OSError"}
    assert sorted(p.name for p in path.parent.iterdir()) == ["kb.db", "kb.db-shm", "kb.db-wal"]
