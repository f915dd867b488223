"""A store as files, and back."""

import contextlib
import hashlib
import itertools
import json
import sqlite3
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import ragstore
from hypothesis import given, settings
from hypothesis import strategies as st
from ragstore import Chunk, Document

from tests.helpers.exports import fill, manifest_with

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ["", "\x00", "a\r\nb", "\u2028\u2029\x85", '"\\', "😀é", "\ufeff"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
KEYS = TEXT.filter(lambda key: "\x00" not in key)
METADATA = st.dictionaries(TEXT, JSON, max_size=3)
FLOATS = st.floats(0.0009765625, 1024, width=32) | st.floats(-1024, -0.0009765625, width=32)
TIMES = st.none() | st.datetimes(datetime(2100, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


@st.composite
def documents(draw):
    text = draw(st.none() | TEXT)
    chunks = None
    if draw(st.booleans()):
        chunks = []
        for _ in range(draw(st.integers(0, 3))):
            span = (None, None)
            if draw(st.booleans()):
                span = tuple(sorted((draw(st.integers(0, len(text or ""))), draw(st.integers(0, len(text or ""))))))
            chunks.append(
                Chunk(
                    draw(st.none() | TEXT),
                    metadata=draw(METADATA),
                    start=span[0],
                    end=span[1],
                    token_count=draw(st.none() | st.integers(0, 2**40)),
                    expires_at=draw(TIMES),
                )
            )
    return Document(
        text,
        metadata=draw(METADATA),
        chunks=chunks,
        content_type=draw(st.sampled_from(["text/plain", "text/markdown"])),
        expires_at=draw(TIMES),
    )


def content(store, namespaces=("crawl",)):
    """All that an export keeps, as plain values."""
    state = {}
    for name, local in ((name, local) for name in namespaces for local in (False, True)):
        values = store.state(name, local=local)
        state[name, local] = {key: (value, values.expires_at(key)) for key, value in values.scan()}
    found = {}
    for info in store.list_collections():
        collection = store[info.name]
        listed = []
        for document in reversed(collection.list_documents(limit=10_000)):
            chunks = [
                (c.id, c.text, c.metadata, c.start, c.end, c.byte_start, c.line_end, c.token_count, c.expires_at)
                for c in collection.get_chunks(document.id)
            ]
            d = document
            listed.append((d.id, d.uri, d.text, d.metadata, d.content_type, d.content_hash, d.expires_at, chunks))
        vectors = {}
        for space in info.spaces:
            for *_, chunks in listed:
                for chunk in chunks:
                    with contextlib.suppress(ragstore.NotFoundError):
                        row = collection.get_embeddings([chunk[0]], space=space.name)
                        vectors[space.name, chunk[0]] = row.tobytes()
        ids = {id for document in listed for id in (document[0], *(chunk[0] for chunk in document[-1]))}
        relations = [
            (r.source, r.target, r.type, r.strength, r.metadata)
            for id in sorted(ids)
            for r in collection.relations(id, direction="out")
        ]
        kept = info.description, info.settings, info.tokenizer, info.spaces
        found[info.name] = kept, listed, vectors, relations
    return found, state


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_imported_is_what_was_exported(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("round")
    with ragstore.open() as old, ragstore.open() as new:
        for name in data.draw(st.lists(NAMES, max_size=2, unique=True)):
            collection = old.create_collection(
                name,
                metric=data.draw(st.sampled_from(["cosine", "l2", "ip"])),
                tokenizer=data.draw(st.sampled_from(["porter unicode61", "trigram"])),
                description=data.draw(st.none() | TEXT),
                settings=data.draw(METADATA),
                model=data.draw(st.none() | NAMES),
            )
            others = [space for space in data.draw(st.lists(NAMES, max_size=2, unique=True)) if space != "default"]
            for space in others:
                dimension = data.draw(st.none() | st.just(2))
                collection.create_space(space, dimension=dimension, metric="ip", model=data.draw(st.none() | NAMES))
            result = collection.add(data.draw(st.lists(documents(), max_size=4)))
            for space in ["default", *others]:
                ids = [id for id in result.chunk_ids if data.draw(st.booleans())]
                rows = [[data.draw(FLOATS), data.draw(FLOATS)] for _ in ids]
                collection.set_embeddings(ids, np.array(rows, np.float32).reshape(len(ids), 2), space=space)
            for id in result.chunk_ids:
                if data.draw(st.integers(0, 5)) == 0:
                    collection.delete([id])
            for field in data.draw(st.lists(st.sampled_from(["year", "a.b"]), unique=True)):
                collection.create_index(field)
            relate(data, collection)
        namespaces = data.draw(st.lists(NAMES, max_size=2, unique=True))
        for name in namespaces:
            values = old.state(name, local=data.draw(st.booleans()))
            for key, value in data.draw(st.dictionaries(KEYS, JSON, max_size=3)).items():
                values.set(key, value, expires_at=data.draw(TIMES))
        exported = ragstore.export(old, folder / "out")
        imported = ragstore.import_(new, folder / "out")
        assert content(new, namespaces) == content(old, namespaces)
        assert imported.added == exported.documents
        assert (imported.relations, imported.state) == (exported.relations, exported.state)
        # What is there already is left as it is.
        again = ragstore.import_(new, folder / "out")
        assert (again.added, again.unchanged) == (0, exported.documents)
        assert (again.relations, again.state) == (0, 0)
        assert content(new, namespaces) == content(old, namespaces)
        ragstore.export(new, folder / "again")
        assert declared(folder / "again") == declared(folder / "out")


def relate(data, collection):
    """What is left of its documents and chunks."""
    ids = {document.id for document in collection.list_documents()}
    ids = sorted(ids.union(chunk.id for id in ids for chunk in collection.get_chunks(id)))
    if len(ids) > 1:
        ends = st.lists(st.sampled_from(ids), min_size=2, max_size=2, unique=True)
        for source, target in data.draw(st.lists(ends, max_size=4)):
            strength, metadata = data.draw(st.floats(0, 1)), data.draw(METADATA)
            collection.relate(source, target, data.draw(NAMES), strength=strength, metadata=metadata)


def declared(folder):
    """The indexes by collection: only a filter's plan shows them otherwise."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return {entry["name"]: entry["indexes"] for entry in manifest["collections"]}


@pytest.fixture
def filled(store):
    return fill(store)


@pytest.fixture
def exported(filled, tmp_path):
    ragstore.export(filled, tmp_path / "out")
    return tmp_path / "out"


def test_the_files_are_what_other_tools_read(filled, exported):
    manifest = json.loads((exported / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["collections"]] == ["empty", "pets"]
    lines = [json.loads(line) for line in (exported / "2/documents.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["cat", "dog"]
    assert lines[1]["chunks"][0] == {
        "id": "d0",
        "text": "Dogs bark.",
        "start": 0,
        "end": 10,
        "metadata": {},
        "token_count": None,
        "expires_at": None,
    }
    vectors = np.load(exported / "2/embeddings-1.npy", mmap_mode="r", allow_pickle=False)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert vectors.tolist() == [[1.0, 0.5], [0.25, 1.0], [1.0, 1.0]]
    assert np.load(exported / "2/embeddings-2.npy").tolist() == [[1.0, 2.0, 3.0]]
    assert (exported / "2/embeddings-2.jsonl").read_text() == '"d0"\n'
    assert not (exported / "1/embeddings-1.npy").exists()
    assert not (exported / "1/relations.jsonl").exists()
    [chases, following] = map(json.loads, (exported / "2/relations.jsonl").read_text().splitlines())
    [made] = [r.created_at for r in filled["pets"].relations("cat")]
    assert chases == {
        "source": "dog",
        "target": "cat",
        "type": "chases",
        "strength": 0.25,
        "metadata": {"seen": [1]},
        "created_at": made.isoformat(),
    }
    assert (following["source"], following["strength"], following["metadata"]) == ("d0", 1.0, {})
    cursor, lease = map(json.loads, (exported / "state.jsonl").read_text().splitlines())
    assert datetime.fromisoformat(cursor.pop("updated_at")).tzinfo is not None
    assert cursor == {
        "namespace": "crawl",
        "local": False,
        "key": "cursor",
        "value": {"page": 3},
        "expires_at": None,
    }
    assert (lease["local"], lease["value"], lease["expires_at"]) == (True, [1.5, None], "2100-01-01T00:00:00+00:00")
    assert (manifest["version"], manifest["state"]["count"]) == (2, 2)
    assert [entry["relations"] and entry["relations"]["count"] for entry in manifest["collections"]] == [None, 2]


def test_only_the_owner_reads_it(exported):
    for path in [exported, *exported.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_nothing_is_overwritten(filled, tmp_path):
    for name in ("folder", "file", "link"):
        path = tmp_path / name
        if name == "folder":
            path.mkdir()
        elif name == "file":
            path.write_text("mine")
        else:
            path.symlink_to("nowhere")
        for plain in (False, True):
            with pytest.raises(FileExistsError, match="overwritten"):
                ragstore.export(filled, path, plain=plain)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("plain", [False, True])
def test_what_fails_leaves_nothing(filled, tmp_path, plain):
    def stop(done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        ragstore.export(filled, tmp_path / "x" / "out", plain=plain, progress=stop)
    with pytest.raises(ragstore.CollectionNotFoundError):
        ragstore.export(filled, tmp_path / "x" / "out", plain=plain, collections=["none"])
    assert list((tmp_path / "x").iterdir()) == []


def test_an_export_is_one_moment_and_writers_do_not_wait(store, tmp_path):
    collection = store.create_collection("c")
    collection.add_texts([f"text {i}" for i in range(3000)])
    seen = []

    def change(done, total):
        if not seen:
            collection.add_texts(["later"])
            collection.delete(where={"index": 0, "uri": {"$exists": False}})
        seen.append((done, total))

    assert ragstore.export(store, tmp_path / "out", progress=change).documents == 3000
    assert seen[0][0] < 3000
    assert seen[-1] == (3000, 3000)
    assert len(collection) == 0
    with ragstore.open() as other:
        ragstore.import_(other, tmp_path / "out")
        assert len(other["c"]) == 3000


def test_a_store_that_is_closed_meanwhile_ends_it(filled, tmp_path):
    with pytest.raises(ragstore.ClosedError):
        ragstore.export(filled, tmp_path / "out", progress=lambda *_: filled.close())
    assert not (tmp_path / "out").exists()


def test_what_a_killed_export_left_goes_with_the_next(filled, tmp_path):
    code = """
        import os, sys, ragstore
        with ragstore.open(sys.argv[1], read_only=True) as store:
            ragstore.export(store, sys.argv[2], progress=lambda done, total: os._exit(9))
    """
    target = tmp_path / "o[u]t"
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code), filled.path, str(target)])
    assert ended.returncode == 9
    stray = [path.name for path in tmp_path.iterdir() if "partial" in path.name]
    assert len(stray) == 1
    ragstore.export(filled, target)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    assert target.is_dir()


def test_another_export_to_the_same_path_is_left_alone(filled, tmp_path):
    def again(done, total):
        if done == total and not (tmp_path / "out").exists():
            ragstore.export(filled, tmp_path / "out")

    with pytest.raises(FileExistsError):
        ragstore.export(filled, tmp_path / "out", progress=again)
    assert (tmp_path / "out/manifest.json").exists()


def test_some_collections(filled, tmp_path):
    assert ragstore.export(filled, tmp_path / "one", collections=["empty", "empty"]).collections == 1
    result = ragstore.export(filled, tmp_path / "three", collections=["pets"])
    assert (result.relations, result.state, (tmp_path / "three/state.jsonl").exists()) == (2, 0, False)
    ragstore.export(filled, tmp_path / "two")
    with ragstore.open() as other:
        result = ragstore.import_(other, tmp_path / "two", collections=["pets"])
        assert (result.collections, result.relations, result.state) == (1, 2, 0)
        assert [info.name for info in other.list_collections()] == ["pets"]
        assert dict(other.state("crawl")) == {}
        with pytest.raises(ragstore.CollectionNotFoundError, match="it has empty, pets"):
            ragstore.import_(other, tmp_path / "two", collections=["none"])


def test_conflicts(exported):
    with ragstore.open() as other:
        pets = other.create_collection("pets")
        pets.create_space("wide", metric="l2")
        pets.add(Document("Mine.", id="dog", chunks=[Chunk(id="d0", text="Mine.")]), [[9.0, 1.0]])
        pets.set_embeddings(["d0"], [[7.0, 7.0, 7.0]], space="wide")
        with pytest.raises(ragstore.ConflictError, match=r"^2/documents\.jsonl:2: there is a document .dog."):
            ragstore.import_(other, exported)
        assert [d.id for d in pets.list_documents()] == ["dog"]
        skipped = ragstore.import_(other, exported, on_conflict="skip")
        assert (skipped.added, skipped.skipped) == (1, 1)
        assert pets.get("d0").text == "Mine."
        assert pets.get_embeddings(["d0"], space="wide").tolist() == [[7.0, 7.0, 7.0]]
        replaced = ragstore.import_(other, exported, on_conflict="replace")
        assert (replaced.unchanged, replaced.replaced) == (1, 1)
        assert pets.get("d0").text == "Dogs bark."
        assert pets.get_embeddings(["d0"], space="wide").tolist() == [[1.0, 2.0, 3.0]]
        # The content is the same, an embedding in another space is not.
        pets.set_embeddings(["d0"], [[7.0, 7.0, 7.0]], space="wide")
        ragstore.import_(other, exported)
        assert pets.get_embeddings(["d0"], space="wide").tolist() == [[7.0, 7.0, 7.0]]
        ragstore.import_(other, exported, on_conflict="replace")
        assert pets.get_embeddings(["d0"], space="wide").tolist() == [[1.0, 2.0, 3.0]]
        with pytest.raises(ValueError, match="on_conflict"):
            ragstore.import_(other, exported, on_conflict="merge")


def test_conflicts_of_relations(exported, tmp_path):
    with ragstore.open() as other:
        pets = other.create_collection("pets", model="m")
        pets.create_space("wide", dimension=3, metric="l2")
        ragstore.import_(other, exported)

        def chases():
            [found] = pets.relations("dog", direction="out")
            return found.strength, found.metadata

        for strength, metadata in ((0.5, {"seen": [1]}), (0.25, {"seen": [2]})):
            pets.relate("dog", "cat", "chases", strength=strength, metadata=metadata)
            pets.unrelate("d0", "d1")
            with pytest.raises(ragstore.ConflictError, match=r"^2/relations\.jsonl:1: there is a relation .chases."):
                ragstore.import_(other, exported)
            # What is stored together is stored whole or not at all.
            assert (chases(), pets.relations("d0")) == ((strength, metadata), [])
            assert ragstore.import_(other, exported, on_conflict="skip").relations == 1
            assert chases() == (strength, metadata)
            assert ragstore.import_(other, exported, on_conflict="replace").relations == 1
            assert chases() == (0.25, {"seen": [1]})
        # A relation goes where its ends are not there: a document that was skipped.
        pets.clear()
        pets.add(Document("Mine.", id="other", uri="cats.txt"))
        result = ragstore.import_(other, exported, on_conflict="skip")
        assert (result.skipped, result.relations) == (1, 1)
        assert [(r.source, r.target) for r in pets.relations("d0")] == [("d0", "d1")]


def test_conflicts_of_state(exported):
    with ragstore.open() as other:
        crawl, local = other.state("crawl"), other.state("crawl", local=True)
        crawl["cursor"] = {"page": 4}
        with pytest.raises(
            ragstore.ConflictError, match=r"^state\.jsonl:1: the namespace .crawl. has the key .cursor."
        ):
            ragstore.import_(other, exported)
        assert (dict(crawl), dict(local)) == ({"cursor": {"page": 4}}, {})
        assert ragstore.import_(other, exported, on_conflict="skip").state == 1
        assert (dict(crawl), dict(local)) == ({"cursor": {"page": 4}}, {"lease": [1.5, None]})
        assert ragstore.import_(other, exported, on_conflict="replace").state == 1
        assert dict(crawl) == {"cursor": {"page": 3}}
        # Times of expiry are no content, as those of documents are not.
        local.set("lease", [1.5, None], expires_in=3600)
        assert ragstore.import_(other, exported, on_conflict="replace").state == 0
        assert local.expires_at("lease").year < 2100


def test_what_has_expired_is_left_out(store, tmp_path):
    past, later = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    collection = store.create_collection("c")
    collection.add([Document(id, id=id) for id in "abcd"])
    for source, target in ("ab", "cb", "ac", "ad"):
        collection.relate(source, target, "t")
    collection.add(Document("gone", id="b", expires_at=past), on_conflict="replace")
    store.state().set("old", 1, expires_at=past)
    store.state().set("new", 1, expires_at=later)
    result = ragstore.export(store, tmp_path / "out")
    assert (result.documents, result.relations, result.state) == (3, 2, 1)
    # It expires between the export and the import.
    for file, key, manifest in (
        ("1/documents.jsonl", b'"id":"c","uri":null', lambda m: m["collections"][0]["documents"]),
        ("state.jsonl", b'"key":"new"', lambda m: m["state"]),
    ):
        lines = (tmp_path / "out" / file).read_bytes().splitlines(keepends=True)
        changed = [
            {**json.loads(line), "expires_at": past.isoformat()} if key in line else json.loads(line) for line in lines
        ]
        (tmp_path / "out" / file).write_text("".join(json.dumps(line) + "\n" for line in changed))
        manifest_with(lambda m, entry=manifest: entry(m).update(sha256=None, bytes=None))(tmp_path / "out")
    with ragstore.open() as other:
        result = ragstore.import_(other, tmp_path / "out")
        assert (result.added, result.relations, result.state) == (3, 1, 0)
        assert [r.target for r in other["c"].relations("a")] == ["d"]


def test_many_relations_and_values(store, tmp_path):
    """More than one page, and more than one commit."""
    count = 2500
    ids = [f"d{number}" for number in range(count)]
    store.create_collection("c").add_texts(ids, ids=ids)
    with store.transaction() as tx:
        for source, target in itertools.pairwise(ids):
            tx["c"].relate(source, target, "next", strength=0.5)
    store.state("n").update({id: [id] for id in ids})
    result = ragstore.export(store, tmp_path / "out")
    assert (result.relations, result.state) == (count - 1, count)
    with ragstore.open() as other:
        result = ragstore.import_(other, tmp_path / "out")
        assert (result.relations, result.state) == (count - 1, count)
        assert content(other, ["n"]) == content(store, ["n"])


def test_other_properties_are_refused_before_anything_is_stored(exported):
    for make in (
        lambda store: store.create_collection("pets", metric="ip"),
        lambda store: store.create_collection("pets", dimension=7),
        lambda store: store.create_collection("pets", model="other"),
        lambda store: store.create_collection("pets").create_space("wide", metric="ip"),
        lambda store: store.create_collection("pets").create_space("wide", metric="l2", dimension=4),
    ):
        with ragstore.open() as other:
            make(other)
            with pytest.raises(ragstore.CollectionExistsError):
                ragstore.import_(other, exported)
            assert [info.name for info in other.list_collections()] == ["pets"]
            assert len(other["pets"]) == 0


def test_a_read_only_store(filled, exported, tmp_path):
    filled.close()
    with ragstore.open(filled.path, read_only=True) as store:
        with pytest.raises(ragstore.ReadOnlyError):
            ragstore.import_(store, exported)
        assert ragstore.export(store, tmp_path / "more").documents == 2


# A collection in a manifest that nobody exported.
NOTES = {
    "name": "notes",
    "tokenizer": "unicode61",
    "indexes": [],
    "documents": {"file": "notes.jsonl", "count": 2, "chunks": 2},
    "spaces": [{"name": "default", "dimension": None, "metric": "cosine", "model": None, "embeddings": None}],
}


def test_written_by_hand(ragstore_store, tmp_path):
    """What needs no store to be written: ids, hashes, sizes and times may be left out."""
    manifest = {"format": "ragstore-export", "version": 1, "ragstore": "", "created_at": "", "collections": [NOTES]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "notes.jsonl").write_text('{"text": "One."}\n{"text": "Two.", "uri": "two"}')
    assert ragstore.import_(ragstore_store, tmp_path).added == 2
    assert ragstore_store["notes"].get_document(uri="two").text == "Two."


def test_an_export_of_the_first_version(ragstore_store, tmp_path):
    """Of before relations and state."""
    (tmp_path / "1").mkdir()
    document = {
        "id": "cat",
        "uri": None,
        "text": "Cats purr.",
        "content_type": "text/plain",
        "metadata": {"year": 2026},
        "content_hash": "0" * 64,
        "created_at": "2026-01-01T00:00:00+00:00",
        "updated_at": "2026-01-01T00:00:00+00:00",
        "expires_at": None,
        "chunks": [{"id": "c0", "text": "Cats", "start": 0, "end": 4, "metadata": {}, "token_count": None}],
    }
    (tmp_path / "1/documents.jsonl").write_text(json.dumps(document) + "\n")
    np.save(tmp_path / "1/embeddings-1.npy", np.array([[1, 2]], np.float32))
    (tmp_path / "1/embeddings-1.jsonl").write_text('"c0"\n')

    def file(name):
        data = (tmp_path / name).read_bytes()
        return {"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    embeddings = {"vectors": file("1/embeddings-1.npy"), "ids": file("1/embeddings-1.jsonl"), "count": 1}
    entry = {
        "name": "pets",
        "description": None,
        "settings": {},
        "tokenizer": "porter unicode61",
        "created_at": "2026-01-01T00:00:00+00:00",
        "indexes": ["year"],
        "documents": {**file("1/documents.jsonl"), "count": 1, "chunks": 1},
        "spaces": [{"name": "default", "dimension": 2, "metric": "cosine", "model": "m", "embeddings": embeddings}],
    }
    manifest = {
        "format": "ragstore-export",
        "version": 1,
        "ragstore": "0.1.0",
        "created_at": "2026-01-01T00:00:00+00:00",
        "collections": [entry],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest, indent=2))
    result = ragstore.import_(ragstore_store, tmp_path)
    assert (result.added, result.relations, result.state) == (1, 0, 0)
    assert ragstore_store["pets"].get_embeddings(["c0"]).tolist() == [[1.0, 2.0]]
    # Without relations and state it is what older readers take, too.
    ragstore.export(ragstore_store, tmp_path / "again")
    assert json.loads((tmp_path / "again/manifest.json").read_text())["version"] == 1


def test_relations_and_state_written_by_hand(ragstore_store, tmp_path):
    """Strength, metadata, times and whether a namespace is local may be left out."""
    entry = {**NOTES, "relations": {"file": "relations.jsonl", "count": 1}}
    manifest = {"format": "ragstore-export", "version": 2, "ragstore": "", "created_at": "", "collections": [entry]}
    manifest["state"] = {"file": "state.jsonl", "count": 2}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "notes.jsonl").write_text('{"text": "One.", "id": "one"}\n{"text": "Two.", "chunks": [{"id": "two"}]}')
    (tmp_path / "relations.jsonl").write_text('{"source": "two", "target": "one", "type": "after"}')
    (tmp_path / "state.jsonl").write_text(
        '{"namespace": "n", "key": "", "value": null}\n{"key":"k","namespace":"n","value":1}'
    )
    result = ragstore.import_(ragstore_store, tmp_path)
    assert (result.relations, result.state) == (1, 2)
    [relation] = ragstore_store["notes"].relations("one")
    assert (relation.source, relation.strength, relation.metadata) == ("two", 1.0, {})
    assert dict(ragstore_store.state("n")) == {"": None, "k": 1}


def test_an_import_that_was_stopped_goes_on(filled, tmp_path, ragstore_store, monkeypatch):
    monkeypatch.setattr("ragstore.transfer.reading._DOCUMENTS", 1)
    ragstore.export(filled, tmp_path / "out")
    reports = []

    def stop(done, total):
        reports.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ragstore.import_(ragstore_store, tmp_path / "out", progress=stop)
    assert reports == [(1, 4), (2, 4), (3, 4)]
    assert [d.id for d in ragstore_store["pets"].list_documents()] == ["cat"]
    result = ragstore.import_(ragstore_store, tmp_path / "out")
    assert (result.added, result.unchanged) == (1, 1)
    assert content(ragstore_store) == content(filled)


# the plain file


def test_the_plain_file_needs_nothing_of_ours(filled, tmp_path):
    result = ragstore.export(filled, tmp_path / "plain.db", plain=True)
    assert result.to_dict() == {
        "collections": 2,
        "documents": 2,
        "chunks": 3,
        "embeddings": 4,
        "relations": 2,
        "state": 2,
    }
    assert (tmp_path / "plain.db").stat().st_mode & 0o077 == 0
    with contextlib.closing(sqlite3.connect(f"file:{tmp_path}/plain.db?mode=ro", uri=True)) as conn:
        kinds = conn.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        assert {kind for kind, *_ in kinds} == {"table", "index"}
        assert not [sql for *_, sql in kinds if sql and "VIRTUAL" in sql.upper()]
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        assert conn.execute("PRAGMA foreign_key_list(chunks)").fetchone()[2:5] == ("documents", "document", "id")
        rows = conn.execute(
            "SELECT c.name, d.document_id, k.chunk_id, k.text, s.name, e.vector FROM embeddings e "
            "JOIN chunks k ON k.id = e.chunk JOIN documents d ON d.id = k.document "
            "JOIN collections c ON c.id = d.collection_id JOIN spaces s ON s.id = e.space ORDER BY k.id, s.id"
        ).fetchall()
        assert [row[:5] for row in rows] == [
            ("pets", "cat", rows[0][2], "Cats purr.", "default"),
            ("pets", "dog", "d0", "Dogs bark.", "default"),
            ("pets", "dog", "d0", "Dogs bark.", "wide"),
            ("pets", "dog", "d1", "!", "default"),
        ]
        assert np.frombuffer(rows[2][5], "<f4").tolist() == [1.0, 2.0, 3.0]
        assert conn.execute("SELECT json_extract(metadata, '$.year') FROM documents").fetchall() == [(2026,), (None,)]
        assert conn.execute("SELECT settings FROM collections WHERE name = 'pets'").fetchone() == ('{"lang": "en"}',)
        assert conn.execute("SELECT field FROM indexes").fetchall() == [("year",)]
        assert conn.execute(
            "SELECT c.name, source, target, type, strength, metadata FROM relations r "
            "JOIN collections c ON c.id = r.collection_id ORDER BY r.id"
        ).fetchall() == [
            ("pets", "dog", "cat", "chases", 0.25, '{"seen":[1]}'),
            ("pets", "d0", "d1", "next", 1.0, "{}"),
        ]
        assert conn.execute("SELECT namespace, local, key, value, expires_at FROM state ORDER BY id").fetchall() == [
            ("crawl", 0, "cursor", '{"page":3}', None),
            ("crawl", 1, "lease", "[1.5,null]", "2100-01-01T00:00:00+00:00"),
        ]
        times = conn.execute("SELECT created_at FROM relations UNION ALL SELECT updated_at FROM state").fetchall()
        assert all(datetime.fromisoformat(time).tzinfo is not None for (time,) in times)
        assert "float32" in " ".join(text for (text,) in conn.execute("SELECT text FROM readme"))


def test_an_ephemeral_store_exports_too(ragstore_store, tmp_path):
    ragstore_store.create_collection("c").add_texts(["a"])
    assert ragstore.export(ragstore_store, Path(tmp_path, "new", "out")).documents == 1
