"""`check()`: what it sees of every kind of damage, beside writers, with progress and a way out."""

import sqlite3
import threading

import numpy as np
import pytest
import ragstore

from tests.helpers.damages import DAMAGES, DIMENSION, damage, fill
from tests.helpers.older import first_format


@pytest.fixture
def filled(path):
    fill(path)
    return path


def test_a_sound_store_has_no_problems(filled):
    with ragstore.open(filled) as store:
        for quick in (False, True):
            report = store.check(quick=quick)
            assert report.ok
            assert report
            assert not report.problems
            assert str(report) == "ok"
    assert ragstore.check(filled).ok


@pytest.mark.parametrize(("statement", "quick", "area", "words", "repairable"), DAMAGES)
def test_each_kind_of_damage_is_named(filled, statement, quick, area, words, repairable):
    damage(filled, statement)
    with ragstore.open(filled) as store:
        full = store.check()
        hit = [p for p in full.problems if p.area == area and words in p.what]
        assert hit, str(full)
        assert {p.repairable for p in hit} == {repairable} or area == "file"
        assert not full.ok
        assert not full
        assert words in str(full)
        found = any(p.area == area and words in p.what for p in store.check(quick=True).problems)
        assert found is quick
    # The same without a store.
    assert ragstore.check(filled).problems == full.problems


def test_an_older_format_is_not_damage(filled):
    first_format(filled)
    for quick in (False, True):
        report = ragstore.check(filled, quick=quick)
        assert [p.area for p in report.problems] == ["format"]
        assert "has format 1, and this version 4" in report.problems[0].what
        assert "open it for writing once" in report.problems[0].what
    # What SQLite sees is looked at all the same.
    damage(filled, "DELETE FROM fts_1_1_data WHERE id > 10", "DELETE FROM documents WHERE id = 30")
    assert {p.area for p in ragstore.check(filled).problems} == {"format", "file", "chunks"}


def test_an_older_format_is_checked_when_it_was_brought_forward(filled):
    first_format(filled)
    ragstore.open(filled).close()
    assert ragstore.check(filled).ok


def test_a_header_that_lies_about_the_format_is_a_problem(filled):
    damage(filled, "PRAGMA user_version = 1")
    report = ragstore.check(filled)
    assert [(p.area, p.repairable) for p in report.problems] == [("file", False)]
    assert "record of migrations" in report.problems[0].what


def test_many_problems_of_an_area_are_counted(filled):
    damage(filled, "UPDATE chunks SET content = content || '!'")
    with ragstore.open(filled) as store:
        texts = [p.what for p in store.check().problems if p.area == "chunks"]
    assert len(texts) == 21
    assert texts[-1] == "and 277 more of this kind"


def test_broken_pages_are_problems_and_the_other_areas_are_looked_at(filled):
    connection = sqlite3.connect(filled)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'changes'").fetchone()
    connection.close()
    with filled.open("r+b") as file:
        file.seek((root - 1) * 8192)
        file.write(b"\xff" * 8192)
    damage(filled, "UPDATE meta SET value = 3 WHERE key = 'embedding_cache_bytes'")
    with ragstore.open(filled) as store:
        areas = {p.area: p for p in store.check().problems}
    assert {"file", "feed", "embedding_cache"} <= areas.keys()
    assert "malformed" in areas["feed"].what


@pytest.mark.parametrize("content", [b"", b"not a database at all " * 500, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_file_that_is_no_store_is_a_problem(path, content):
    path.write_bytes(content)
    report = ragstore.check(path)
    assert not report.ok
    assert report.problems[0].area in {"file", "schema"}


def test_what_cannot_be_checked_is_refused(path, filled):
    with pytest.raises(ragstore.NotFoundError):
        ragstore.check(path.with_name("nothing.db"))
    with pytest.raises(ValueError, match="path is an empty string"):
        ragstore.check("")
    damage(filled, "PRAGMA user_version = 99")
    with pytest.raises(ragstore.SchemaTooNewError):
        ragstore.check(filled)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON chunks BEGIN DELETE FROM documents; END",
        "CREATE INDEX i ON chunks (length(content))",
        "CREATE TABLE vec_7_1_chunks (x)",
    ],
)
def test_a_schema_of_another_hand_does_not_open_and_is_named(filled, statement):
    damage(filled, statement)
    for read_only in (True, False):
        with pytest.raises(ragstore.CorruptError, match=r"ragstore\.repair\(path, to\)"):
            ragstore.open(filled, read_only=read_only)
    assert any(p.area == "schema" for p in ragstore.check(filled).problems)


def test_tables_of_the_owner_are_no_problem(filled):
    damage(
        filled, "CREATE TABLE mine (x)", "CREATE INDEX of_mine ON mine (x)", "CREATE VIEW seen AS SELECT * FROM mine"
    )
    with ragstore.open(filled) as store:
        assert store.check().ok


def test_progress_is_reported_and_its_errors_end_the_check(filled):
    seen = []
    with ragstore.open(filled) as store:
        store.check(progress=lambda done, total: seen.append((done, total)))
        assert seen
        assert seen[-1][0] == seen[-1][1] > 0
        assert all(done <= total for done, total in seen)

        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.check(progress=stop)
        assert store.check().ok


def test_it_shows_a_bar(filled, capsys):
    with ragstore.open(filled) as store:
        store.check(progress=True)
    assert "check [####" in capsys.readouterr().err


def test_it_sees_one_snapshot_beside_writers(path):
    with ragstore.open(path) as store:
        notes = store.create_collection("notes", dimension=DIMENSION)
        ends = threading.Event()

        def write() -> None:
            for number in range(10_000):
                if ends.is_set():
                    return
                notes.add_texts([f"text {number}"], np.ones((1, DIMENSION), np.float32), ids=[f"t{number}"])
                if number % 3 == 0:
                    notes.delete([f"t{number}"])

        threads = [threading.Thread(target=write)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                report = store.check()
                assert report.ok, str(report)
        finally:
            ends.set()
            for thread in threads:
                thread.join()
        assert len(notes) > 0


def test_a_closed_store_does_not_check(path):
    store = ragstore.open(path)
    store.close()
    with pytest.raises(ragstore.ClosedError):
        store.check()
    with pytest.raises(ragstore.ClosedError):
        store.repair()
