"""Documents are forgotten: nothing of them is in any file of the store, indexes included."""

import pytest
import ragstore

from tests.faults import record
from tests.helpers.canaries import files, found
from tests.helpers.telling import fill, needles, vectors

FORGOTTEN = 100


@pytest.mark.faults
def test_nothing_is_left_in_any_file(path, tmp_path, monkeypatch):
    monkeypatch.setattr(ragstore.store, "_INDEX_AT", (1, 0, True))
    documents = record.size(2_000, 10_000)
    rows, gone = vectors(documents), range(3, documents, documents // FORGOTTEN)
    wanted = [needle for number in gone for needle in needles(number, rows)]
    with record.Suite("forgotten", tmp_path) as suite, ragstore.open(path) as store:
        collection = fill(store, documents)
        store.checkpoint("truncate")
        store.optimize()
        assert collection.vector_search(rows[3], k=1).ids == ["id3"]
        assert collection.keyword_search("zyzzyva3quokka").ids == ["id3"]
        # The control: each of them is there before.
        assert found(path.parent, wanted) == set(wanted)
        report = collection.forget([f"id{number}" for number in gone])
        assert report, report
        assert (report.documents, report.chunks, report.embeddings) == (FORGOTTEN,) * 3
        assert report.traces > 1000
        assert report.searched_bytes >= path.stat().st_size
        for _ in range(2):
            # Then with indexes built anew.
            assert found(path.parent, wanted) == set()
            store.optimize()
        assert any(
            content for name, content in files(path.with_name("kb.db-index")).items() if not name.endswith("lock")
        )
        suite.counts["documents"] = documents
        suite.counts["forgotten"] = FORGOTTEN
        suite.counts["texts, words, pieces of vectors and codes searched"] = len(wanted)
        suite.counts["MiB in all"] = sum(map(len, files(path.parent).values())) >> 20
        assert store.check().ok
        assert collection.count() == documents - FORGOTTEN
        assert collection.get("id3") is None
        assert not collection.keyword_search("zyzzyva3quokka")
        assert collection.keyword_search("zyzzyva4quokka").ids == ["id4"]
        assert collection.vector_search(rows[4], k=1).ids == ["id4"]
    assert found(path.parent, wanted) == set()
