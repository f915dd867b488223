"""Stores exchange changes by a folder, and no file of it may stop the others."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import ragstore
from ragstore import ClockSkewError, Document, SyncError, WrongKeyError

from tests.helpers.replicas import answers, clock, forget_file, registers

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "folder"


@pytest.fixture
def stores(tmp_path):
    opened = [ragstore.open(tmp_path / f"{name}.db", durability="relaxed") for name in "abcd"]
    yield opened
    for store in opened:
        store.close()


def rounds(stores, folder, count=2, **kwargs):
    for _ in range(count):
        for store in stores:
            store.sync_folder(folder, **kwargs)


def equal(*stores):
    found = [answers(store, ["cat"]) for store in stores]
    assert all(one == found[0] for one in found)
    for store in stores:
        assert not store.check().problems
        store.close()
    rows = [registers(store.path) for store in stores]
    assert all(one == rows[0] for one in rows)


def names(folder, end=""):
    return sorted(name for name in os.listdir(folder) if name.endswith(end))


@pytest.mark.parametrize("key", [None, "pass phrase", bytes(range(32))])
def test_any_number_of_stores_become_equal(stores, folder, key):
    for number, store in enumerate(stores[:3]):
        c = store.create_collection("c", exist_ok=True)
        c.add(Document(f"cat {number}", id=f"d{number}", uri=f"u{number % 2}"))
    report = stores[0].sync_folder(folder, key=key)
    assert (report.peer, report.sent, report.received) == (str(folder), 2, 0)
    rounds(stores[:3], folder, key=key)
    # Late, and served by the first that comes after.
    stores[3].sync_folder(folder, key=key)
    stores[1].sync_folder(folder, key=key)
    assert stores[3].sync_folder(folder, key=key).applied > 0
    assert "c" in stores[3]
    rounds(stores, folder, key=key)
    # What all have is not kept.
    assert names(folder, ".batch") == []
    assert len(names(folder, ".mark")) == 4
    for file in folder.iterdir():
        assert key is None or b"cat" not in file.read_bytes()
    equal(*stores)


def test_a_lone_store_leaves_everything_for_who_comes(stores, folder):
    a, b, *_ = stores
    a.create_collection("c").add(Document("cat", id="x"))
    a.sync_folder(folder)
    a.close()
    assert b.sync_folder(folder).applied == 2
    assert b["c"].count() == 1


def test_nothing_new_writes_nothing(stores, folder):
    stores[0].create_collection("c").add("cat")
    rounds(stores, folder, 3)
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    rounds(stores, folder)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_one_that_is_away_gets_everything_in_the_end(stores, folder):
    a, b, away, _ = stores
    a.create_collection("c")
    rounds([a, b, away], folder)
    for number in range(40):
        (a, b)[number % 2]["c"].add(Document(f"cat {number}", id=f"d{number}"))
        rounds([a, b], folder, 1)
    # Many small ones become one.
    assert len(names(folder, ".batch")) <= 36
    away.sync_folder(folder)
    assert away["c"].count() == 40
    rounds([a, b, away], folder)
    assert names(folder, ".batch") == []
    equal(a, b, away)


def test_one_that_was_away_for_too_long_does_not_stop_the_others(stores, folder):
    a, b, away, late = stores
    a.create_collection("c").add([Document("cat", id="x"), Document("cat", id="y")])
    rounds([a, b, away], folder)
    a["c"].delete(document_ids=["x"])
    # So many that they become one, from before the deletion.
    for number in range(20):
        a["c"].add(Document("cat", id=f"early{number}"))
        rounds([a, b], folder, 1)
    with clock(91 * 24 * 3600):
        a.optimize()
        b.optimize()
        for number in range(20):
            a["c"].add(Document("cat", id=f"late{number}"))
            rounds([a, b], folder, 1)
        assert b["c"].get_document("late19") is not None
        # Nobody waits for it, and it is told.
        away["c"].update_metadata({"n": 1}, document_ids=["x"])
        for _ in range(2):
            with pytest.raises(SyncError, match="fresh copy"):
                away.sync_folder(folder)
            rounds([a, b], folder, 1)
        assert a["c"].get_document("x") is b["c"].get_document("x") is None
        rounds([late, a, b], folder)
        assert names(folder, ".batch") == []
        equal(a, b, late)


def test_exports_come_in_parts(stores, folder):
    a, b, *_ = stores
    c = a.create_collection("c")
    c.add([Document(os.urandom(1 << 20).hex(), id=f"d{number}") for number in range(40)])
    a.sync_folder(folder)
    parts = names(folder, ".batch")
    assert len(parts) > 1
    assert all(name.endswith(f"of{len(parts)}.batch") for name in parts)
    hidden = folder / parts[-1]
    kept = hidden.rename(folder.parent / "later")
    b.sync_folder(folder)
    assert len(b) == 0
    kept.rename(hidden)
    b.sync_folder(folder)
    assert b["c"].count_documents() == 40
    equal(a, b)


def test_a_damaged_mark_says_what_becomes_of_it(stores, folder):
    a, b, *_ = stores
    a.create_collection("c").add(Document("cat", id="x"))
    rounds([a, b], folder)
    mark = folder / f"{a.replica}.mark"
    mark.write_bytes(b"nonsense")
    with pytest.raises(SyncError, match="its owner writes it anew when it syncs, and if that store is gone") as told:
        b.sync_folder(folder)
    assert mark.name in str(told.value)
    assert "export and send it again" not in str(told.value)
    with pytest.raises(SyncError, match="mark is damaged"):
        a.sync_folder(folder)
    b.sync_folder(folder)


def test_a_peer_is_known_by_its_folder_however_that_is_written(stores, folder):
    a, b, *_ = stores
    a.add_peer("with", f"{folder}/")
    b.add_peer("without", str(folder))
    a.sync_folder(folder)
    b.sync_folder(f"{folder}//")
    assert [store.peers()[0].last_synced_at is None for store in (a, b)] == [False, False]
    assert (a.sync_log()[0].report.peer, b.sync_log()[0].report.peer) == ("with", "without")


def test_damaged_files_are_told_and_do_not_stop_the_others(stores, folder):
    a, b, c, _ = stores
    a.create_collection("one").add("cat")
    b.create_collection("two").add("cat")
    a.sync_folder(folder)
    b.sync_folder(folder)
    (bad,) = [folder / name for name in names(folder, ".batch") if name.startswith(b._sync.watermark()[0])]
    whole = bad.read_bytes()
    (folder / "notes.txt").write_text("not ours")
    (folder / ("0" * 32 + ".mark")).write_bytes(b"nonsense")
    for damaged in (whole[: len(whole) // 2], b"", whole[:-1] + b"x"):
        bad.write_bytes(damaged)
        with pytest.raises(SyncError, match="everything else"):
            c.sync_folder(folder)
    assert "one" in c
    assert "two" not in c
    bad.write_bytes(whole)
    (folder / ("0" * 32 + ".mark")).unlink()
    rounds([a, b, c], folder)
    assert (folder / "notes.txt").read_text() == "not ours"
    assert "everything else" in c.sync_log(10)[-1].error
    equal(a, b, c)


def test_files_of_a_clock_that_runs_ahead_are_told(stores, folder):
    a, b, c, _ = stores
    with clock(3600):
        a.create_collection("c").add(Document("cat", id="x"))
        a.sync_folder(folder)
    b.create_collection("d")
    with pytest.raises(ClockSkewError):
        b.sync_folder(folder)
    with pytest.raises(ClockSkewError, match="everything else"):
        c.sync_folder(folder)
    assert "c" not in c
    assert "d" in c
    with pytest.raises(ClockSkewError, match="reclock"):
        a.sync_folder(folder)
    a.reclock()
    for store in (a, b, c, a, b, c):
        store.sync_folder(folder)
    equal(a, b, c)


def test_another_key_is_told(stores, folder):
    a, b, *_ = stores
    a.create_collection("c").add("cat")
    a.sync_folder(folder, key="one")
    for key in ("two", None):
        with pytest.raises(WrongKeyError):
            b.sync_folder(folder, key=key)
    assert len(b) == 0
    with pytest.raises(TypeError, match="key"):
        b.sync_folder(folder, key=[])
    with pytest.raises(ValueError, match="empty"):
        b.sync_folder("")
    b.sync_folder(folder, key="one")
    assert len(b) == 1


def test_a_copy_in_the_folder_is_found(stores, folder, tmp_path):
    a, b, *_ = stores
    a.create_collection("c").add("cat")
    rounds([a, b], folder)
    a.close()
    forget_file(tmp_path / "a.db")
    shutil.copy(tmp_path / "a.db", tmp_path / "copy.db")
    with ragstore.open(tmp_path / "a.db") as original, ragstore.open(tmp_path / "copy.db") as copy:
        original["c"].add(Document("dog", id="y"))
        original.sync_folder(folder)
        copy["c"].add(Document("bird", id="z"))
        with pytest.raises(SyncError, match="renew_replica"):
            copy.sync_folder(folder)
        copy.renew_replica()
        rounds([original, copy, b], folder)
        equal(original, copy, b)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_others_may_read_the_files(stores, folder):
    old = os.umask(0o022)
    try:
        stores[0].create_collection("c")
        stores[0].sync_folder(folder)
    finally:
        os.umask(old)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}


def test_the_example_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "sync_folder.py", tmp_path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    written = {
        "laptop/0": ("Cats purr.", "laptop"),
        "laptop/1": ("Dogs bark.", "laptop"),
        "server/0": ("Owls hoot.", "server"),
        "late/0": ("Bees hum.", "late"),
    }
    for name in ("laptop", "server", "late"):
        assert f"{name} knows laptop: 2, server: 1, late: 1\n" in done.stdout, done.stdout
        with ragstore.open(tmp_path / f"{name}.db", read_only=True) as store:
            c = store["notes"]
            found = {one.uri: (one.text, c.get_chunks(one.id)[0].metadata["by"]) for one in c.list_documents()}
        assert found == written, name
