"""`forget`: nothing of what it deletes is left in any file of the store, and what is left is found."""

import contextlib
import itertools
import json
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.helpers.canaries import files, found
from tests.helpers.telling import COUNT, code, fill, needles, text, vectors


def some(count: int = COUNT, step: int = 10) -> list[int]:
    return list(range(3, count, step))


@pytest.mark.parametrize("place", ["auto", "memory", "off"])
def test_indexes_beside_the_store_go_and_come_again(path, monkeypatch, place):
    monkeypatch.setattr(ragstore.store, "_INDEX_AT", (1, 0, True))
    rows = vectors()
    with ragstore.open(path) as store:
        collection = fill(store)
        assert collection.vector_search(rows[3], k=1).ids == ["id3"]
        assert collection.keyword_search("zyzzyva3quokka").ids == ["id3"]
    folder = path.with_name("kb.db-index")
    before = {name: content for name, content in files(folder).items() if content}
    assert len(before) == 2
    assert any(rows[3].tobytes()[:16] in content for content in before.values())
    # The codes are where the needles say.
    assert any(code(rows[3])[:12] in content for content in before.values())
    # Snapshots that another store left are removed, wherever this one keeps its own.
    with ragstore.open(path, derived=place) as store:
        collection = store["c"]
        if place == "auto":
            assert collection.vector_search(rows[3], k=1).ids == ["id3"]
        report = collection.forget([f"id{number}" for number in some()])
        assert report, report
        wanted = [needle for number in some() for needle in needles(number, rows)]
        assert found(path.parent, wanted) == set()
        assert not before.keys() & files(folder).keys()
        assert collection.vector_search(rows[4], k=1).ids == ["id4"]
        assert collection.keyword_search("zyzzyva4quokka").ids == ["id4"]
        assert "id3" not in collection.vector_search(rows[3], k=5).ids
    assert found(path.parent, wanted) == set()


def test_what_other_documents_have_too_is_no_residue(store):
    collection = store.create_collection("c")
    sentence = "This sentence stands at the end of every single page of the handbook."
    vector = vectors(1)
    collection.add_texts(
        [f"Of Ada alone, the first one. {sentence}", f"Of Bob alone, the second one. {sentence}"],
        np.concatenate([vector, vector]),
        ids=["ada", "bob"],
    )
    collection.add_texts(["word"], ids=["carol"], metadatas=[{"a": sentence}])
    report = collection.forget(["ada"])
    assert report
    assert report.shared > 0
    assert collection.get("bob").text.endswith(sentence)
    # The words of a text are in the index, folded and cut.
    collection.add_texts(["internationalisation"], ids=["dan"])
    collection.add_texts(["Internationalisation"], ids=["eve"])
    assert collection.forget(["dan"])


def test_scripts_escapes_and_long_texts(path):
    texts = {
        "hebrew": "מילים סודיות שאיש אינו יודע ואיש לא יקרא לעולם.",
        "japanese": "誰にも言わない秘密の言葉がここに書かれている。",
        "emoji": "👩‍🚀🪐 the secret of the seventh planet 🛰️ is told to nobody 🤫",
        "long": " ".join(f"longword{number * 7919 % 100_003}" for number in range(60_000)),
        "lines": 'quoted "secret of the quotes" and\nbroken\tlines \\ of the backslash',
    }
    with ragstore.open(path) as store:
        collection = store.create_collection("c")
        for id, content in texts.items():
            collection.add([{"id": id, "text": content, "metadata": {"say": content[:200]}}])
        collection.create_index("say")
        collection.add_texts(["something else"], ids=["other"])
        store.checkpoint("truncate")
        pieces = [
            content.encode()[at : at + 20] for content in texts.values() for at in range(0, len(content) // 2, 97)
        ]
        assert found(path.parent, pieces) >= {texts["hebrew"].encode()[:20], texts["emoji"].encode()[:20]}
        report = collection.forget(list(texts))
        assert report, report
        assert (report.documents, collection.count()) == (5, 1)
        assert found(path.parent, pieces) == set()


def test_filters_and_what_has_expired(store):
    collection = fill(store, 20)
    soon = datetime.now(UTC) - timedelta(hours=1)
    collection.add([ragstore.Document("Long gone but still on the disk.", id="expired", metadata={"n": 5})])
    collection.add([ragstore.Document("", id="empty", chunks=[], metadata={"n": 5})])
    assert collection.forget(where={"n": 5}).documents == 3
    assert collection.forget(["id1", "id2"], where={"n": {"$gte": 2}}).documents == 1
    collection.add([ragstore.Document("Expired long ago, and yet there.", id="old", expires_at=soon)])
    assert collection.get_document("old") is None
    assert collection.forget(["old", "nobody"]).documents == 1
    assert collection.forget(where={}).documents == 18
    assert collection.count() == 0
    with pytest.raises(TypeError, match="document_ids or where"):
        collection.forget()
    with pytest.raises(ragstore.FilterError):
        collection.forget(where={"$x": 1})
    with pytest.raises(TypeError, match="list of str"):
        collection.forget("id1")
    assert not hasattr(store.transaction().__enter__()["c"], "forget")


def test_relations_go_also_those_that_wait(path):
    with ragstore.open(path) as store:
        collection = fill(store, 6)
        for target in ("id2", "id3"):
            collection.relate("id1", target, "knows", metadata={"why": f"the secret reason of {target} and no other"})
        collection.relate("id3", "id2", "knows", metadata={"why": "quite another reason, which is to stay"})
        store.checkpoint("truncate")
        reasons = [f"the secret reason of {target}".encode() for target in ("id2", "id3")]
        assert found(path.parent, reasons) == set(reasons)
        report = collection.forget(["id1"])
        assert report
        assert report.relations == 2
        assert found(path.parent, reasons) == set()
        assert [relation.target for relation in collection.relations("id3")] == ["id2"]


def test_a_relation_that_waits_for_its_other_end(tmp_path):
    with ragstore.open(tmp_path / "a.db") as one, ragstore.open(tmp_path / "b.db") as two:
        collection = fill(one, 3)
        collection.relate("id1", "id2", "knows", metadata={"why": "the secret reason of the two of them"})
        one.sync(two)
        # The other end goes there before the relation is known to be gone.
        two["c"].delete(document_ids=["id2"])
        one["c"].update_metadata({"more": 1}, document_ids=["id2"])
        collection.relate("id1", "id2", "likes", metadata={"why": "another secret reason of the two"})
        two.apply_changes(one.export_changes(two.watermark()))
        report = two["c"].forget(["id1"])
        assert report
        two.checkpoint("truncate")
        assert not [name for name, content in files(tmp_path).items() if "b.db" in name and b"secret reason" in content]


def test_a_filter_says_nothing_of_relations_of_what_is_not_there(tmp_path):
    with ragstore.open(tmp_path / "a.db") as one:
        collection = fill(one, 3)
        for where, left in [({"n": 4}, 1), (None, 0)]:
            path = tmp_path / f"b{left}.db"
            with ragstore.open(path) as two:
                one.sync(two)
                two["c"].delete(document_ids=["id2"])
                collection.relate("id1", "id2", f"likes{left}")
                two.apply_changes(one.export_changes(two.watermark()))
                assert two["c"].forget(["id2"], where=where).missing == ("id2",)
            with contextlib.closing(sqlite3.connect(path)) as connection:
                kinds = connection.execute("SELECT type FROM waiting_relations").fetchall()
            assert len([kind for (kind,) in kinds if kind == f"likes{left}"]) == left


def test_conflicts_that_name_what_goes(tmp_path):
    with ragstore.open(tmp_path / "a.db") as one, ragstore.open(tmp_path / "b.db") as two:
        collection = fill(one, 4)
        collection.add(ragstore.Document("An owl.", id="secret-owl", uri="u"))
        one.sync(two)
        kept = {
            ("collection", "other"),
            ("document", "id3"),
            ("relation", ("id3", "likes", "id0")),
            ("document", "id1"),
        }
        one.create_collection("other", settings={"n": 1}).add(ragstore.Document("A cat.", id="id1"))
        two.create_collection("other", settings={"n": 2}).add(ragstore.Document("A dog.", id="id1"))
        for number, store in enumerate((one, two)):
            store["c"].update_metadata({"n": number}, document_ids=["id1", "id2", "id3"])
            store["c"].add(ragstore.Document(f"Owl {number}.", id=f"owl-of-{number}", uri="v"))
            for source, target in [("id1", "id0"), ("id0", "id2"), ("id3", "id0")]:
                store["c"].relate(source, target, "likes", strength=number)
        one.sync(two)
        lost = next(store for store in (one, two) if store.conflicts())
        named = [conflict.id for conflict in lost.conflicts() if "owl" in str(conflict.id)]
        assert len(lost.conflicts()) == 9
        assert len(named) == 1
        assert lost["c"].forget(["id1", "id2", *named])
        assert {(conflict.entity, conflict.id) for conflict in lost.conflicts()} == kept


def test_short_strings_in_an_index_of_a_field_are_searched_for(path):
    with ragstore.open(path) as store:
        collection = store.create_collection("c")
        collection.create_index("code")
        collection.add_texts(
            ["One text.", "Another one."], ids=["x", "y"], metadatas=[{"code": "AB12CD34E"}, {"code": "AB12"}]
        )
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        # Where nothing is anybody's content.
        connection.execute("ANALYZE")
        connection.execute("INSERT INTO sqlite_stat1 VALUES ('chunks', NULL, 'AB12CD34E')")
    with ragstore.open(path) as store:
        # What has fewer than 8 bytes is no proof.
        assert store["c"].forget(["y"])
        report = store["c"].forget(["x"])
        assert [residue.kind for residue in report.remains] == ["metadata"]


def test_cached_embeddings_go_unless_a_text_is_left(path):
    rows = vectors(3)
    by_text = {"Alice is the first of all.": rows[0], "Bob is the second of all.": rows[1], "Both have it.": rows[2]}

    def embed(texts):
        return np.stack([by_text[text] for text in texts])

    with ragstore.open(path) as store:
        collection = store.create_collection("c", model="m", embedder=embed)
        for id, content in zip(["alice", "bob", "both", "both too"], [*by_text, "Both have it."], strict=True):
            collection.add([{"id": id, "text": content}])
        store.checkpoint("truncate")
        assert found(path.parent, [rows[0].tobytes()[:16]])
        report = collection.forget(["alice", "both"])
        assert report
        assert (report.documents, report.cached_embeddings) == (2, 1)
        assert found(path.parent, [row.tobytes()[:16] for row in rows]) == {
            rows[1].tobytes()[:16],
            rows[2].tobytes()[:16],
        }
        assert store.check().ok


def test_cached_embeddings_of_what_was_replaced_or_deleted_go_too(path):
    rows = iter(vectors(4))
    made = {}

    def embed(texts):
        made.update({text: next(rows) for text in texts})
        return np.stack([made[text] for text in texts])

    with ragstore.open(path) as store:
        collection = store.create_collection("c", model="m", embedder=embed)
        for id, content in [
            ("x", "Alice was here."),
            ("x", "Nobody was here."),
            ("y", "Bob was here."),
            ("z", "This stays."),
        ]:
            collection.add([{"id": id, "text": content}], on_conflict="replace")
        collection.delete(document_ids=["y"])
        store.checkpoint("truncate")
        pieces = {text: row.tobytes()[:16] for text, row in made.items()}
        assert found(path.parent, list(pieces.values())) == set(pieces.values())
        report = collection.forget(["x"])
        assert report
        assert (report.documents, report.cached_embeddings) == (1, 3)
        assert found(path.parent, list(pieces.values())) == {pieces["This stays."]}


def test_an_id_that_merged_into_another_names_it(tmp_path):
    with ragstore.open(tmp_path / "a.db") as one, ragstore.open(tmp_path / "b.db") as two:
        for store, id in ((one, "first"), (two, "second")):
            collection = store.create_collection("c", exist_ok=True)
            collection.add([{"id": id, "uri": "u", "text": f"Alice of the {id}."}])
        one.sync(two)
        for store in (one, two):
            assert store["c"].get_document("first").id == store["c"].get_document("second").id == "second"
            assert store["c"].forget(["first"]).documents == 1
            assert store["c"].get_document("second") is None


def test_all_spaces(path):
    with ragstore.open(path) as store:
        collection = fill(store, 300)
        collection.create_space("small", dimension=16, metric="l2")
        small = np.random.default_rng(9).standard_normal((300, 16)).astype(np.float32)
        collection.set_embeddings([f"id{number}" for number in range(300)], small, space="small")
        store.checkpoint("truncate")
        spans = [small[number].tobytes()[:16] for number in some(300)]
        assert found(path.parent, spans) == set(spans)
        report = collection.forget([f"id{number}" for number in some(300)])
        assert report
        assert report.embeddings == 2 * len(some(300))
        assert found(path.parent, spans) == set()


@pytest.mark.parametrize("key", ["passphrase of the store", bytes(range(32))])
def test_an_encrypted_store(path, key):
    rows = vectors()
    with ragstore.open(path, key=key) as store:
        collection = fill(store)
        report = collection.forget([f"id{number}" for number in some()])
        assert report
        assert report.searched_bytes == path.stat().st_size
        assert store.check().ok
        # Decrypted, the same is not there either.
        store.rekey(None)
        wanted = [needle for number in some() for needle in needles(number, rows)]
        assert found(path.parent, wanted) == set()
        assert found(path.parent, [b"zyzzyva4quokka"])


def test_an_ephemeral_store():
    with ragstore.open() as store:
        collection = fill(store, 50)
        report = collection.forget(["id3"])
        assert report
        assert report.searched_bytes > 0
        assert report.kept == ()
        assert collection.count() == 49


def test_a_store_that_is_read_only(path):
    with ragstore.open(path) as store:
        fill(store, 3)
    with ragstore.open(path, read_only=True) as store, pytest.raises(ragstore.ReadOnlyError):
        store["c"].forget(["id1"])


PINNED = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1])
conn.execute("BEGIN")
conn.execute("SELECT count(*) FROM chunks").fetchall()
print("pinned", flush=True)
sys.stdin.read()
"""


def test_a_reader_of_an_old_state_is_waited_for_and_named(path):
    with ragstore.open(path, timeout=0.5) as store:
        collection = fill(store, 50)
        store.checkpoint("truncate")
        with subprocess.Popen(
            [sys.executable, "-c", PINNED, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdout.readline() == "pinned\n"
            with pytest.raises(ragstore.LockedError, match=rf"the documents are deleted.*process {reader.pid}"):
                collection.forget(["id3"])
            # The control: what is left is seen by the same search.
            assert found(path.parent, [b"zyzzyva3quokka"])
            assert collection.count() == 49
            # Other writes go on.
            collection.add_texts(["meanwhile"], ids=["meanwhile"])
            reader.stdin.close()
            reader.wait()
        report = collection.forget(["id3"])
        assert report
        # What the first one deleted is looked for by the second.
        assert report.documents == 0
        assert report.missing == ()
        assert report.traces > 10
        assert found(path.parent, [b"zyzzyva3quokka"]) == set()
        report = collection.forget(["id3"])
        assert report.missing == ("id3",)
        assert report.traces == 0


def test_what_is_in_every_file_is_no_residue(path, monkeypatch):
    monkeypatch.setattr(ragstore.store, "_INDEX_AT", (1, 0, True))
    with ragstore.open(path) as store:
        collection = store.create_collection("c")
        # Words that SQLite, vec0, FTS5 and an index write of themselves, and vectors of a few numbers.
        words = "ragstore index SQLite format 3 CREATE_VERSION_MAJOR postings secure-delete automerge"
        names = ["vectors", "postings", "lengths", "documents", "CREATE_VERSION_PATCH", "SQLite format 3"]
        rows = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]] * 200 + [[0.4, 0.5, 0.1, 0.2, 0.3]], np.float32)
        collection.add_texts(["other"] * 200 + [words], rows, ids=[f"id{number}" for number in range(201)])
        collection.add_texts(names, ids=names, metadatas=[{"name": name} for name in names])
        store.optimize()
        assert collection.keyword_search("postings").ids
        assert collection.vector_search(rows[0], k=1).ids
        report = collection.forget(["id200", *names])
        assert report, report
        assert report.documents == 7


def test_another_collection_that_had_the_same_before(path, monkeypatch):
    monkeypatch.setattr(ragstore.store, "_INDEX_AT", (1, 10_000, True))
    rows = vectors(50)
    with ragstore.open(path) as store:
        collection = fill(store, 50)
        other = store.create_collection("other")
        texts = [f"zyzzyva{number}quokka zyzzyva{number}quokkb" for number in range(50)]
        other.add_texts(texts, rows, ids=[f"other{number}" for number in range(50)])
        store.optimize()
        assert other.vector_search(rows[3], k=1).ids == ["other3"]
        assert other.keyword_search("zyzzyva3quokkb").ids == ["other3"]
        other.delete(["other3"])
        collection.add_texts([texts[3]], ids=["more"])
        report = collection.forget(["id3", "more"])
        assert report, report
        assert found(path.parent, [*needles(3, rows), b"zyzzyva3quokkb"]) == set()
        assert other.keyword_search("zyzzyva4quokkb").ids == ["other4"]
        assert other.vector_search(rows[4], k=1).ids == ["other4"]


def test_a_filter_says_nothing_of_what_is_not_there(path):
    with ragstore.open(path) as store:
        report = fill(store, 5).forget(["id1", "nobody"], where={"n": 4})
        assert report.missing == ("nobody",)
        assert report.documents == 0


def test_what_delete_left_goes_with_an_empty_list(path):
    with ragstore.open(path) as store:
        collection = fill(store, 50)
        store.checkpoint("truncate")
        collection.delete(["id3"])
        assert found(path.parent, [b"zyzzyva3quokka"])
        assert collection.forget([])
        assert found(path.parent, [b"zyzzyva3quokka"]) == set()


def test_what_a_deleted_collection_left_goes_with_an_empty_list_too(path, monkeypatch):
    monkeypatch.setattr(ragstore.store, "_INDEX_AT", (1, 10_000, True))
    rows = vectors(50)
    with ragstore.open(path) as store:
        collection, other = fill(store, 50), store.create_collection("other")
        store.optimize()
        assert collection.vector_search(rows[3], k=1).ids == ["id3"]
        store.delete_collection("c")
        assert found(path.parent, needles(3, rows))
        assert other.forget([])
        assert found(path.parent, needles(3, rows)) == set()


def test_copies_beside_the_store_are_named(path):
    with ragstore.open(path) as store:
        collection = fill(store, 5)
        kept = path.with_name("kb.db.format-1.bak")
        store.backup(kept)
        store.backup(path.with_name("other.db"))
        report = collection.forget(["id3"])
        assert report.kept == (str(kept),)
        assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_a_peer_is_told_and_deletes(tmp_path):
    with ragstore.open(tmp_path / "a.db") as one, ragstore.open(tmp_path / "b.db") as two:
        fill(one, 30)
        one.sync(two)
        assert one["c"].forget(["id3"])
        one.sync(two)
        assert two["c"].get("id3") is None
        assert two["c"].count() == 29
        # Its files are its own to clean.
        assert two["c"].forget([])
        assert found(tmp_path, [b"zyzzyva3quokka"]) == set()
        assert one.changes(0)[-1].id == "id3"


def test_others_read_and_write_meanwhile(path):
    with ragstore.open(path) as store:
        collection = fill(store)
        stop, failures = threading.Event(), []

        def others(number):
            for turn in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
                try:
                    collection.add_texts([f"Something new of {number}."], vectors(1), ids=[f"new{number}-{turn}"])
                    collection.search("words3", vector=vectors(1)[0], k=3)
                except ragstore.RagstoreError as error:
                    failures.append(error)
                    return

        threads = [threading.Thread(target=others, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        reports = [collection.forget([f"id{number}"]) for number in (3, 13, 23)]
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert all(reports), reports
        assert store.check().ok
        assert found(path.parent, [f"zyzzyva{number}quokka".encode() for number in (3, 13, 23)]) == set()


def test_progress_and_an_end_by_the_caller(path):
    with ragstore.open(path) as store:
        collection = fill(store)
        seen = []
        assert collection.forget(["id3"], progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (400, 400)
        assert seen == sorted(seen)
        assert found(path.parent, [b"zyzzyva3quokka"]) == set()


def test_a_removed_collection_and_another_one_stay_apart(path):
    with ragstore.open(path) as store:
        collection = fill(store, 20)
        other = store.create_collection("other")
        other.add_texts([text(3)], ids=["id3"])
        report = collection.forget(["id3"])
        assert report
        assert report.shared > 0
        assert other.get("id3").text == text(3)
        store.delete_collection("c")
        with pytest.raises(ragstore.CollectionNotFoundError):
            collection.forget(["id4"])


def test_a_report_says_what_remains():
    residue = ragstore.Residue("kb.db", "text", 2)
    report = ragstore.ForgetReport(1, 1, 0, 0, 0, 9, 0, 2, 100, (residue,), (), (), 0.1)
    assert not report
    assert not report.ok
    assert report.to_dict()["remains"] == ({"file": "kb.db", "kind": "text", "count": 2},)
    assert Path(report.remains[0].file).name == "kb.db"


def test_a_term_that_a_merge_leaves_behind(path):
    with ragstore.open(path) as store:
        collection = store.create_collection("c")
        for id, content in [("a", "common zyzzyvaquokka"), ("b", "common other")]:
            collection.add_texts([content], ids=[id])
        collection.delete(["a"])
    connection = sqlite3.connect(path)
    (record,) = connection.execute("SELECT block FROM fts_1_1_data WHERE id = 10").fetchone()
    # One level, with three segments: with empty ones above it a merge does not know that nothing is older.
    assert record[4:6] == bytes([1, 3])
    connection.execute(
        "UPDATE fts_1_1_data SET block = ? WHERE id = 10", [record[:4] + b"\x03" + record[5:] + bytes(4)]
    )
    connection.commit()
    connection.close()
    with ragstore.open(path) as store:
        collection = store["c"]
        assert collection.forget([])
        assert found(path.parent, [b"zyzzyvaquokka"]) == set()
        assert collection.keyword_search("common").ids == ["b"]
        assert store.check().ok
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT fts_generation FROM collections").fetchone() == (2,)
    connection.close()
