"""`repair()`: in place what can be derived, and as a new file what can be read."""

import numpy as np
import pytest
import ragstore

from tests.helpers.damages import DAMAGES, DIMENSION, damage, fill
from tests.helpers.older import first_format

# What only its owner or a new file can solve.
REMAINS = (
    "its content hash",
    "its tokenizer",
    "settings are no",
    "a time is out",
    "first space",
    "no JSON",
    "strength",
    "vec_1_1 belongs",
)


@pytest.fixture
def filled(path):
    fill(path)
    return path


def contents(path) -> dict:
    """All that callers can have of a store."""
    found = {}
    with ragstore.open(path, create=False) as store:
        for info in store.list_collections():
            collection = store[info.name]
            documents = collection.list_documents(limit=1000)
            chunks = [chunk for document in documents for chunk in collection.get_chunks(document.id)]
            vectors = {}
            for chunk in chunks:
                try:
                    vectors[chunk.id] = collection.get_embeddings([chunk.id]).tolist()
                except ragstore.NotFoundError:
                    vectors[chunk.id] = None
            keyword = collection.keyword_search("words", k=50)
            found[info.name] = (info, documents, chunks, vectors, [(hit.id, round(hit.score, 9)) for hit in keyword])
    return found


@pytest.mark.parametrize(("statement", "quick", "area", "words", "repairable"), DAMAGES)
def test_each_kind_of_damage_is_repaired_in_place(filled, statement, quick, area, words, repairable):
    before = contents(filled)
    damage(filled, statement)
    with ragstore.open(filled) as store:
        report = store.repair()
        assert report.path == str(filled)
        left = list(store.check().problems)
        assert left == report.problems
        if repairable:
            assert report.rebuilt
            assert not any(p.area == area and words in p.what for p in left)
        assert all(any(word in p.what for word in REMAINS) for p in left), left
        assert report.ok is not left
    if repairable and not left:
        assert not report.lost
        assert contents(filled) == before


@pytest.mark.parametrize(("statement", "quick", "area", "words", "repairable"), DAMAGES)
def test_a_new_file_is_sound_whatever_the_damage(filled, statement, quick, area, words, repairable):
    before = contents(filled)
    damage(filled, statement)
    new = filled.with_name("new.db")
    report = ragstore.repair(filled, new)
    assert report.ok, report.problems
    assert report.path == str(new)
    assert report.salvaged["collections"] == 2
    assert sorted(file.name for file in filled.parent.iterdir() if file.name.startswith((".", "new"))) == ["new.db"]
    with ragstore.open(new) as store:
        assert store.check().ok
        store["notes"].add_texts(["written afterwards"])
    if repairable and "SET content" not in statement:
        assert not report.lost
        with ragstore.open(new) as store:
            store["notes"].delete(where={"uri": {"$exists": False}})
        assert contents(new) == before


def test_nothing_is_written_to_a_sound_store(filled):
    with ragstore.open(filled) as store:
        before = store["notes"].info
        report = store.repair()
        assert (report.rebuilt, report.lost, report.salvaged, report.problems) == ([], [], {}, [])
        assert store["notes"].info == before


def test_lost_embeddings_are_named(filled):
    damage(filled, "UPDATE vec_1_1_vector_chunks00 SET vectors = zeroblob(2048) WHERE _rowid_ = 2")
    with ragstore.open(filled) as store:
        report = store.repair()
        assert report.ok
        (lost,) = report.lost
        assert '"default"' in lost
        assert '"d64-0"' in lost
        assert "and 123 more" in lost
        with pytest.raises(ragstore.NotFoundError):
            store["notes"].get_embeddings(["d64-0"])
        assert len(store["notes"].vector_search(np.ones(DIMENSION), k=300)) == 168


def test_pages_that_cannot_be_read_are_read_around(filled):
    data = bytearray(filled.read_bytes())
    # Leaves of the tree of chunks, found by what is in them.
    pages = [
        n for n in range(1, len(data) // 8192) if data[n * 8192] == 13 and b"d40-0" in data[n * 8192 : (n + 1) * 8192]
    ]
    assert pages
    for page in pages:
        data[page * 8192 : page * 8192 + 100] = b"\xff" * 100
    filled.write_bytes(data)
    assert not ragstore.check(filled).ok
    new = filled.with_name("new.db")
    report = ragstore.repair(filled, new)
    assert report.ok
    assert 100 < report.salvaged["chunks"] < 297
    (lost,) = [sentence for sentence in report.lost if sentence.startswith("chunks on pages")]
    assert " more" in lost
    with ragstore.open(new) as store:
        notes = store["notes"]
        assert len(notes.get(["d149-0"])) == 1
        assert notes.get("d149-0").document_id == "d149"
        assert notes.get("d40-0") is None
        assert notes.keyword_search("99", k=1).ids == ["d99-0"]
        chunk = notes.get("d140-1")
        hits = notes.vector_search(notes.get_embeddings([chunk.id])[0], k=1)
        assert hits.ids == [chunk.id]


@pytest.mark.parametrize(("at", "length"), [(0, 16), (16, 2), (18, 6), (28, 12), (44, 4), (56, 4), (60, 12), (0, 100)])
def test_a_header_that_is_not_there_is_made_up(filled, at, length):
    with filled.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * length)
    new = filled.with_name("new.db")
    if (at, length) == (60, 12):
        # It says that it is of another application, which is for its owner to say.
        with pytest.raises(ragstore.RagstoreError):
            ragstore.repair(filled, new)
        assert not new.exists()
        return
    before = filled.read_bytes()
    report = ragstore.repair(filled, new)
    assert report.ok
    assert not report.lost
    assert report.salvaged["chunks"] == 297
    assert filled.read_bytes() == before


def test_a_default_space_that_lost_its_name_is_no_default_space(filled):
    with ragstore.open(filled, read_only=True) as store:
        ids = [chunk.id for chunk in store["notes"].get_chunks("d5")]
        vectors = store["notes"].get_embeddings(ids)
    damage(filled, "UPDATE spaces SET name = 'defaudt' WHERE name = 'default'")
    new = filled.with_name("new.db")
    report = ragstore.repair(filled, new)
    assert not report.problems
    assert any("default space" in sentence for sentence in report.lost)
    with ragstore.open(new) as store:
        assert {space.name for space in store["notes"].list_spaces()} >= {"default", "defaudt"}
        assert np.array_equal(store["notes"].get_embeddings(ids, space="defaudt"), vectors)


def test_documents_made_for_chunks_take_no_number_that_others_give(filled):
    damage(
        filled,
        "PRAGMA foreign_keys = OFF",
        "DELETE FROM documents WHERE id > 11",
        "UPDATE sqlite_sequence SET seq = 12 WHERE name = 'documents'",
    )
    new = filled.with_name("new.db")
    report = ragstore.repair(filled, new)
    assert not report.problems
    assert ragstore.check(new).ok
    with ragstore.open(new) as store:
        assert len(store["notes"].get(["d149-0"])) == 1


def test_a_header_that_forbids_to_write(filled):
    with ragstore.open(filled, read_only=True) as store:
        count = store["notes"].count()
    with filled.open("r+b") as file:
        file.seek(18)
        file.write(b"\x09")
    with ragstore.open(filled) as store:
        assert store["notes"].count() == count
        with pytest.raises(ragstore.CorruptError, match="write version 9"):
            store["notes"].add_texts(["more"])
    report = ragstore.check(filled)
    assert [(problem.area, problem.repairable) for problem in report.problems] == [("file", True)]
    new = filled.with_name("new.db")
    assert not ragstore.repair(filled, new).lost
    assert ragstore.check(new).ok
    with ragstore.open(new) as store:
        assert len(store["notes"].add_texts(["more"])) == 1


def test_a_file_of_which_nothing_can_be_read(path):
    path.write_bytes(b"\xff" * 50_000)
    new = path.with_name("new.db")
    with pytest.raises(ragstore.CorruptError):
        ragstore.repair(path, new)
    assert list(path.parent.iterdir()) == [path]


def test_what_is_there_is_not_overwritten(filled):
    new = filled.with_name("new.db")
    new.write_text("mine")
    with ragstore.open(filled) as store:
        for attempt in (lambda: ragstore.repair(filled, new), lambda: store.repair(new)):
            with pytest.raises(ValueError, match="there already"):
                attempt()
    assert new.read_text() == "mine"
    for wrong in ("", 7):
        with pytest.raises((ValueError, TypeError)):
            ragstore.repair(filled, wrong)


def test_a_sound_store_is_copied_whole(filled):
    new = filled.with_name("new.db")
    with ragstore.open(filled) as store:
        report = store.repair(new)
    assert report.ok
    assert not report.lost
    assert contents(new) == contents(filled)


def test_a_read_only_store_salvages_and_does_not_write(filled):
    with ragstore.open(filled, read_only=True) as store:
        with pytest.raises(ragstore.ReadOnlyError):
            store.repair()
        assert store.repair(filled.with_name("new.db")).ok


def test_what_a_progress_raises_leaves_no_file(filled):
    new = filled.with_name("new.db")

    def stop(done, total):
        raise KeyboardInterrupt

    with ragstore.open(filled) as store, pytest.raises(KeyboardInterrupt):
        store.repair(new, progress=stop)
    seen = []
    ragstore.repair(filled, filled.with_name("other.db"), progress=lambda done, total: seen.append(done <= total))
    assert seen
    assert all(seen)


def test_the_last_generation_there_is(filled):
    last = 2**63 - 1
    damage(filled, f"UPDATE collections SET fts_generation = {last}")
    with ragstore.open(filled) as store:
        for change in (lambda: store["notes"].set_tokenizer("unicode61"), store["notes"].clear):
            with pytest.raises(ragstore.CorruptError, match="last generation"):
                change()


def test_rows_of_a_lost_collection_and_space_find_another(filled):
    damage(filled, "DELETE FROM collections WHERE id = 1", "DELETE FROM spaces WHERE id = 1")
    with ragstore.open(filled) as store:
        # In place it would be lost with the tables that nobody names.
        assert not store.repair().ok
    new = filled.with_name("new.db")
    report = ragstore.repair(filled, new)
    assert report.ok
    assert any("recovered-1" in sentence for sentence in report.lost)
    with ragstore.open(new) as store:
        assert len(store["recovered-1"]) == 296
        assert store["recovered-1"].get_embeddings(["d9-0"]).shape == (1, DIMENSION)


def test_a_file_of_an_older_format_loses_nothing(filled, tmp_path):
    expected = contents(filled)
    first_format(filled)
    before = filled.read_bytes()
    report = ragstore.repair(filled, tmp_path / "new.db")
    assert report.lost == []
    assert report.ok, report.problems
    assert filled.read_bytes() == before
    assert ragstore.check(tmp_path / "new.db").ok
    assert contents(tmp_path / "new.db") == expected
    # A table that its own format has is missed.
    damage(filled, "DROP TABLE state")
    report = ragstore.repair(filled, tmp_path / "other.db")
    assert report.lost == ["the table state: its definition is not there or not this format's"]


def test_a_header_that_lies_about_the_format_is_written_anew(filled, tmp_path):
    damage(filled, "PRAGMA user_version = 1")
    report = ragstore.repair(filled, tmp_path / "new.db")
    assert report.ok
    assert report.lost == []
