"""Encryption at rest: what is in the files, and which key opens them."""

import contextlib
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
from ragstore.cli import main

from tests.helpers.canaries import MAGIC, RAW, files, found, life, secrets
from tests.helpers.processes import race


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
    assert race(CREATOR, path, 6) == [""] * 6
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


# What comes from a store, or is done to its file.


def refused(path, *keys) -> None:
    """None of the keys opens it."""
    for key in keys:
        with pytest.raises(ragstore.WrongKeyError):
            ragstore.open(path, key=key, create=False)


@pytest.mark.parametrize("key", ["a passphrase, canary", RAW], ids=["text", "raw"])
def test_operations_write_nothing_that_can_be_read(tmp_path, monkeypatch, key):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    path = tmp_path / "store" / "kb.db"
    needles = life(path, key, lambda: None)
    needles += secrets(path, key)
    seen: set[str] = set()

    def look(*_):
        """In the middle of an operation, too."""
        contents = files(tmp_path)
        seen.update(Path(name).name for name in contents)
        assert {needle for needle in needles for content in contents.values() if needle in content} == set()

    with ragstore.open(path, key=key) as store:
        for _ in range(2):
            store["notes"].add_texts([f"canary {row} " * 9 for row in range(300)])
            store.optimize(progress=look)
            store.backup(tmp_path / "backup.db", progress=look)
        store.checkpoint("truncate")
        store.vacuum()
        assert store.check(progress=look).ok
        assert store.repair(progress=look).ok
        assert store.repair(to=tmp_path / "made.db", progress=look).salvaged
        assert ragstore.repair(path, tmp_path / "salvaged.db", key=key, progress=look).salvaged
        stats, health = store.stats(), store.health()
        count = len(store["notes"])
    look()
    assert {"kb.db", "backup.db", "made.db", "salvaged.db"} <= seen
    assert stats.chunks == count > 600
    assert stats.file_bytes > 32 * 4 * count
    assert health.status == "healthy"
    for made in ("backup.db", "made.db", "salvaged.db"):
        refused(tmp_path / made, None, "another", RAW[::-1])
        with ragstore.open(tmp_path / made, key=key, create=False) as copy:
            assert len(copy["notes"]) == count
            assert copy.check().ok
            assert copy["notes"].keyword_search("narwhal", k=1).ids
    look()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_export_is_plain(tmp_path):
    """It is made for other tools; the guide says so."""
    with ragstore.open(tmp_path / "kb.db", key=RAW) as store:
        store.create_collection("notes").add_texts(["canary text"], [[1.0, 2.0]])
        ragstore.export(store, tmp_path / "folder")
        ragstore.export(store, tmp_path / "plain.db", plain=True)
    assert found(tmp_path / "folder", [b"canary"]) == {b"canary"}
    assert b"canary" in files(tmp_path)[str(tmp_path / "plain.db")]
    with ragstore.open(tmp_path / "new.db", key="other") as store:
        ragstore.import_(store, tmp_path / "folder")
        assert store["notes"].keyword_search("canary").texts == ["canary text"]
    assert b"canary" not in files(tmp_path)[str(tmp_path / "new.db")]


def damage_page(path, number: int) -> None:
    """One bit, of which the page's authentication knows."""
    with open(path, "r+b") as file:
        file.seek(4096 * number + 99)
        byte = file.read(1)[0]
        file.seek(4096 * number + 99)
        file.write(bytes([byte ^ 1]))


def test_a_file_that_is_damaged_is_looked_at_and_salvaged_with_its_key(tmp_path):
    path, new = tmp_path / "kb.db", tmp_path / "new.db"
    life(path, "right", lambda: None)
    assert ragstore.check(path, key="right").ok
    for key in (None, "wrong", RAW):
        with pytest.raises(ragstore.WrongKeyError):
            ragstore.check(path, key=key)
        with pytest.raises(ragstore.WrongKeyError):
            ragstore.repair(path, new, key=key)
    assert not new.exists()
    pages = path.stat().st_size // 4096
    for number in range(pages // 3, pages, 40):
        damage_page(path, number)
    report = ragstore.check(path, key="right")
    assert "cannot be decrypted" in report.problems[0].what
    before = path.read_bytes()
    report = ragstore.repair(path, new, key="right")
    assert report.lost
    assert not report.problems
    assert path.read_bytes() == before
    refused(new, None, "wrong")
    with ragstore.open(new, key="right", create=False) as store:
        assert len(store["notes"]) > 50
        assert store.check().ok
    assert found(tmp_path, [b"canary", b"zyzzyva", MAGIC]) == set()


def test_a_file_whose_first_page_is_damaged_is_like_one_of_another_key(path):
    with ragstore.open(path, key="right") as store:
        store.create_collection("c").add("text")
    damage_page(path, 0)
    for call in (
        lambda: ragstore.open(path, key="right"),
        lambda: ragstore.check(path, key="right"),
        lambda: ragstore.repair(path, path.with_name("new.db"), key="right"),
    ):
        with pytest.raises(ragstore.WrongKeyError, match="first page is damaged"):
            call()


@pytest.mark.parametrize("key", ["a passphrase", RAW], ids=["text", "raw"])
def test_every_command_takes_the_key(tmp_path, capsys, key):
    path, file = tmp_path / "kb.db", tmp_path / "key"
    with ragstore.open(path, key=key) as store:
        store.create_collection("notes").add_texts(["cats purr", "dogs bark"], np.eye(2))
    file.write_bytes(key if isinstance(key, bytes) else key.encode() + b"\n")
    option = ["--raw-key-file" if isinstance(key, bytes) else "--key-file", str(file)]
    commands = [
        ["info", path],
        ["check", path],
        ["check", path, "--quick"],
        ["backup", path, tmp_path / "backup.db"],
        ["optimize", path],
        ["vacuum", path],
        ["checkpoint", path],
        ["repair", path],
        ["repair", path, "--to", tmp_path / "made.db"],
        ["export", path, tmp_path / "folder"],
        ["export", path, tmp_path / "plain.db", "--plain"],
        ["import", tmp_path / "imported.db", tmp_path / "folder"],
        ["search", path, "cats"],
    ]
    for command in commands:
        words = [str(word) for word in command]
        if command[0] != "import":
            assert main([*words, "--json"]) == 3
            assert json.loads(capsys.readouterr().out)["error"]["type"] == "WrongKeyError"
        assert main([*words, "--json", *option]) == 0, command
        assert "error" not in json.loads(capsys.readouterr().out)
    for made in ("backup.db", "made.db", "imported.db"):
        refused(tmp_path / made, None, "another")
        with ragstore.open(tmp_path / made, key=key, create=False) as store:
            assert store["notes"].search("cats").texts == ["cats purr"]
