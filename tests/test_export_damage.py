"""What may be wrong with an export: it is refused whole, with the file and the line."""

import json
import os

import numpy as np
import pytest
import ragstore

from tests.helpers.exports import fill, manifest_with


@pytest.fixture
def exported(store, tmp_path):
    ragstore.export(fill(store), tmp_path / "out")
    return tmp_path / "out"


def pets_with(**fields):
    return manifest_with(lambda manifest: manifest["collections"][1].update(fields))


def documents_with(change, *, exact=False):
    """Change the documents, and say so in the manifest, so that only the content can be refused."""

    def damage(folder):
        path = folder / "2/documents.jsonl"
        path.write_bytes(change(path.read_bytes()))
        if not exact:
            manifest_with(lambda m: m["collections"][1]["documents"].update(sha256=None, bytes=None))(folder)

    return damage


def line_with(**fields):
    def change(data):
        lines = data.splitlines()
        return b"\n".join([lines[0], json.dumps({**json.loads(lines[1]), **fields}).encode()])

    return documents_with(change)


def records_with(name, entry, change, *, exact=False):
    """As `documents_with`, of relations or state."""

    def damage(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))
        if not exact:
            manifest_with(lambda m: entry(m).update(sha256=None, bytes=None))(folder)

    return damage


def relations_with(change, **given):
    return records_with("2/relations.jsonl", lambda m: m["collections"][1]["relations"], change, **given)


def state_with(change, **given):
    return records_with("state.jsonl", lambda m: m["state"], change, **given)


def second_with(**fields):
    """Other fields of the second line; those that are None go."""

    def change(data):
        lines = data.splitlines()
        line = {key: value for key, value in {**json.loads(lines[1]), **fields}.items() if value is not None}
        return b"\n".join([lines[0], json.dumps(line).encode()])

    return change


def second_as_first(**fields):
    def change(data):
        lines = data.splitlines()
        return b"\n".join([lines[0], json.dumps({**json.loads(lines[0]), **fields}).encode()])

    return change


def vectors_with(array, name="vectors", file="2/embeddings-1.npy"):
    def damage(folder):
        path = folder / file
        if isinstance(array, bytes):
            path.write_bytes(array)
        else:
            np.save(path, array, allow_pickle=True)
        free = {"sha256": None, "bytes": None}
        manifest_with(lambda m: m["collections"][1]["spaces"][0]["embeddings"][name].update(free))(folder)

    return damage


def elsewhere(file):
    return manifest_with(lambda manifest: manifest["collections"][1]["documents"].update(file=file, sha256=None))


def link(folder):
    (folder / "2/documents.jsonl").rename(folder / "2/moved")
    (folder / "2/documents.jsonl").symlink_to("moved")


def fifo(folder):
    (folder / "2/documents.jsonl").unlink()
    os.mkfifo(folder / "2/documents.jsonl")


DAMAGE = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "NotFoundError", "no manifest.json"),
    "no JSON": (lambda folder: (folder / "manifest.json").write_text("{"), "CorruptError", "manifest.json: it is not"),
    "no UTF-8": (
        lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
        "CorruptError",
        "not JSON in UTF-8",
    ),
    "deep": (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "LimitError", "nested too deep"),
    "a list": (lambda folder: (folder / "manifest.json").write_text("[]"), "CorruptError", "of type list"),
    "another format": (manifest_with(lambda m: m.update(format="zip")), "CorruptError", "format is 'zip'"),
    "a later version": (manifest_with(lambda m: m.update(version=3)), "SchemaTooNewError", "version is 3"),
    "relations elsewhere": (
        manifest_with(lambda m: m["collections"][1]["relations"].update(file="../secret")),
        "CorruptError",
        r"manifest\.json: collections\[1\]\.relations\.file is '\.\./secret'; it is a path inside the folder",
    ),
    "no count of relations": (
        manifest_with(lambda m: m["collections"][1]["relations"].update(count=None)),
        "CorruptError",
        r"relations\.count is None",
    ),
    "relations missing": (
        lambda f: (f / "2/relations.jsonl").unlink(),
        "CorruptError",
        "2/relations.jsonl: .*not there",
    ),
    "relations changed": (
        relations_with(lambda d: d.replace(b"0.25", b"0.75"), exact=True),
        "CorruptError",
        "not what the",
    ),
    "a relation short": (relations_with(lambda d: d.splitlines()[0]), "CorruptError", "has 1 relations, and 2 by"),
    "relations cut": (relations_with(lambda d: d[:-5]), "CorruptError", r"^2/relations\.jsonl:2: it is not JSON"),
    "no relation": (relations_with(lambda d: d + b"5"), "CorruptError", r"relations\.jsonl:3: it is of type int"),
    "a key of a relation": (
        relations_with(second_with(kind="x")),
        "CorruptError",
        r"relations\.jsonl:2: it has the key 'kind'",
    ),
    "no source": (
        relations_with(second_with(source=None)),
        "CorruptError",
        r"relations\.jsonl:2: source is of type NoneType",
    ),
    "an empty target": (relations_with(second_with(target="")), "CorruptError", r"relations\.jsonl:2: .*target"),
    "a long type": (
        relations_with(second_with(type="x" * 5000)),
        "LimitError|CorruptError",
        r"relations\.jsonl:2: .*type",
    ),
    "a surrogate in a relation": (relations_with(second_with(type="\ud800")), "CorruptError", r"relations\.jsonl:2: "),
    "the same ends": (relations_with(second_with(source="d1")), "CorruptError", r"relations\.jsonl:2: .*are both"),
    "a strength": (relations_with(second_with(strength=1.5)), "CorruptError", r"relations\.jsonl:2: .*strength is 1.5"),
    "a NaN strength": (
        relations_with(lambda d: d.replace(b"0.25", b"NaN")),
        "CorruptError",
        r"relations\.jsonl:1: .*NaN is no number",
    ),
    "an endless strength": (
        relations_with(lambda d: d.replace(b"0.25", b"1e999")),
        "CorruptError",
        r"relations\.jsonl:1: .*strength is inf",
    ),
    "a huge strength": (
        relations_with(second_with(strength=10**400)),
        "CorruptError",
        r"relations\.jsonl:2: .*no float",
    ),
    "a strength of another kind": (
        relations_with(second_with(strength=True)),
        "CorruptError",
        r"jsonl:2: .*of type bool",
    ),
    "metadata of a relation": (
        relations_with(second_with(metadata=[1])),
        "CorruptError",
        r"jsonl:2: metadata is of type list",
    ),
    "deep metadata of a relation": (
        relations_with(second_with(metadata=json.loads('{"a":' * 70 + "1" + "}" * 70))),
        "LimitError",
        r"relations\.jsonl:2: .*nested",
    ),
    "large metadata of a relation": (
        relations_with(second_with(metadata={"a": "x" * (1 << 20)})),
        "LimitError",
        r"relations\.jsonl:2: .*bytes",
    ),
    "a relation twice": (
        relations_with(second_as_first()),
        "CorruptError",
        r"relations\.jsonl:2: an earlier line has it",
    ),
    "a relation twice and otherwise": (
        relations_with(second_as_first(strength=1)),
        "CorruptError",
        r"relations\.jsonl:2: an earlier line has it",
    ),
    "no such source": (
        relations_with(second_with(source="none")),
        "CorruptError",
        r"^2/relations\.jsonl:2: 2/documents\.jsonl has no document and no chunk 'none'",
    ),
    "no such target": (
        relations_with(second_with(target="none")),
        "CorruptError",
        r"relations\.jsonl:2: .*no chunk 'none'",
    ),
    "state elsewhere": (
        manifest_with(lambda m: m["state"].update(file="/etc/passwd")),
        "CorruptError",
        "inside the folder",
    ),
    "state is a list": (manifest_with(lambda m: m.update(state=[])), "CorruptError", "state is of type list"),
    "state missing": (lambda folder: (folder / "state.jsonl").unlink(), "CorruptError", r"^state\.jsonl: .*not there"),
    "state changed": (
        state_with(lambda d: d.replace(b'"page":3', b'"page":4'), exact=True),
        "CorruptError",
        "not what the",
    ),
    "a value short": (state_with(lambda d: d.splitlines()[0]), "CorruptError", "has 1 values, and 2 by"),
    "no object of state": (state_with(lambda d: d + b"[]"), "CorruptError", r"^state\.jsonl:3: it is of type list"),
    "a key of state": (state_with(second_with(ttl=1)), "CorruptError", r"^state\.jsonl:2: it has the key 'ttl'"),
    "no namespace": (state_with(second_with(namespace=None)), "CorruptError", r"^state\.jsonl:2: namespace is of type"),
    "an empty namespace": (state_with(second_with(namespace="")), "CorruptError", r"^state\.jsonl:2: .*namespace"),
    "a long key": (state_with(second_with(key="k" * 600)), "LimitError", r"^state\.jsonl:2: .*key"),
    "no value": (state_with(second_with(value=None)), "CorruptError", r"^state\.jsonl:2: it has no value"),
    "an endless value": (
        state_with(lambda d: d.replace(b"1.5", b"1e999")),
        "CorruptError",
        r"^state\.jsonl:2: .*value\[0\] is inf",
    ),
    "a deep value": (
        state_with(second_with(value=json.loads("[" * 70 + "]" * 70))),
        "LimitError",
        r"jsonl:2: .*nested",
    ),
    "a large value": (state_with(second_with(value="x" * (1 << 20))), "LimitError", r"^state\.jsonl:2: .*bytes"),
    "local of another kind": (
        state_with(second_with(local=1)),
        "CorruptError",
        r"^state\.jsonl:2: local is of type int",
    ),
    "a time of state": (state_with(second_with(expires_at="soon")), "CorruptError", r"^state\.jsonl:2: expires_at: "),
    "a naive time of state": (
        state_with(second_with(expires_at="2100-01-01T00:00:00")),
        "CorruptError",
        r"^state\.jsonl:2: .*expires_at is a datetime without",
    ),
    "a time after all times": (
        state_with(second_with(expires_at="9999-12-31T23:59:59-14:00")),
        "CorruptError",
        r"^state\.jsonl:2: .*years 1 to 9999",
    ),
    "a key twice": (state_with(second_as_first()), "CorruptError", r"^state\.jsonl:2: an earlier line has it already"),
    "a key twice and otherwise": (
        state_with(second_as_first(value=1)),
        "CorruptError",
        r"^state\.jsonl:2: an earlier line",
    ),
    "a name twice": (manifest_with(lambda m: m["collections"].append(m["collections"][0])), "CorruptError", "twice"),
    "no name": (pets_with(name=None), "CorruptError", r"collections\[1\]\.name is of type NoneType"),
    "an empty name": (pets_with(name=""), "CorruptError", r"manifest\.json: collections\[1\]: "),
    "a tokenizer": (pets_with(tokenizer="words"), "CorruptError", r"collections\[1\]: .*words"),
    "an index": (pets_with(indexes=["a..b"]), "CorruptError", r"collections\[1\]: "),
    "no default space": (pets_with(spaces=[]), "CorruptError", "begins with"),
    "a count": (
        manifest_with(lambda m: m["collections"][1]["documents"].update(count=-1)),
        "CorruptError",
        "count is -1",
    ),
    "up": (elsewhere("../secret"), "CorruptError", "inside the folder"),
    "absolute": (elsewhere("/etc/passwd"), "CorruptError", "inside the folder"),
    "odd names": (elsewhere("2\\documents.jsonl"), "CorruptError", "inside the folder"),
    "missing": (elsewhere("2/none.jsonl"), "CorruptError", "not there"),
    "a folder": (elsewhere("2"), "CorruptError", "no regular file"),
    "a link": (link, "CorruptError", "symbolic link"),
    "a pipe": (fifo, "CorruptError", "no regular file"),
    "changed": (
        documents_with(lambda data: data.replace(b"purr", b"Purr"), exact=True),
        "CorruptError",
        "not what the",
    ),
    "cut": (documents_with(lambda data: data[:-5], exact=True), "CorruptError", "by the manifest"),
    "cut line": (documents_with(lambda data: data[:-5]), "CorruptError", r"^2/documents\.jsonl:2: it is not JSON"),
    "a line short": (documents_with(lambda data: data.splitlines()[0]), "CorruptError", "has 1 documents, and 2 by"),
    "empty line": (documents_with(lambda data: b"\n" + data), "CorruptError", r"^2/documents\.jsonl:1: it is not JSON"),
    "NaN": (documents_with(lambda d: d.replace(b"2026", b"NaN")), "CorruptError", r"jsonl:1: .*NaN is no number"),
    "deep metadata": (
        line_with(metadata=json.loads('{"a":' * 70 + "1" + "}" * 70)),
        "LimitError",
        r"jsonl:2: .*nested",
    ),
    "too deep a line": (documents_with(lambda d: d + b"[" * 100_000), "LimitError", r"jsonl:3: it is nested too deep"),
    "a key": (line_with(body="x"), "CorruptError", r"jsonl:2: it has the key 'body'"),
    "a kind": (line_with(text=5), "CorruptError", r"jsonl:2: .*text is of type int"),
    "a chunk": (line_with(chunks=[{"id": "d0"}, 5]), "CorruptError", r"jsonl:2: chunks\[1\]: it is of type int"),
    "a span": (line_with(chunks=[{"id": "d0", "start": 5, "end": 999}]), "CorruptError", r"jsonl:2: .*passes the end"),
    "an id": (line_with(id="x" * 600), "LimitError|CorruptError", r"jsonl:2: .*id"),
    "a surrogate": (line_with(text="\ud800"), "CorruptError", r"jsonl:2: .*text"),
    "a time": (line_with(expires_at="soon"), "CorruptError", r"jsonl:2: expires_at: "),
    "a naive time": (line_with(expires_at="2026-01-01T00:00:00"), "CorruptError", r"jsonl:2: .*expires_at"),
    "other metadata": (line_with(metadata=[1]), "CorruptError", r"jsonl:2: metadata is of type list"),
    "other ids": (
        line_with(chunks=[{"id": "d0"}, {"id": "d2"}]),
        "CorruptError",
        r"embeddings-1\.jsonl:3: it names chunk .d1",
    ),
    "no array": (vectors_with(b"hello"), "CorruptError", r"^2/embeddings-1\.npy: "),
    "objects": (vectors_with(np.array([[{}, {}]] * 3, dtype=object)), "CorruptError", "holds |O of shape"),
    "float64": (vectors_with(np.ones((3, 2))), "CorruptError", "holds <f8"),
    "Fortran order": (vectors_with(np.ones((3, 2), np.float32, order="F")), "CorruptError", "in Fortran order"),
    "another shape": (vectors_with(np.ones((3, 3), np.float32)), "CorruptError", r"of shape \(3, 3\)"),
    "rows cut": (
        lambda folder: vectors_with((folder / "2/embeddings-1.npy").read_bytes()[:-4])(folder),
        "CorruptError",
        "have 20 bytes, and 24",
    ),
    "not finite": (vectors_with(np.array([[1, 1], [1, 1], [np.nan, 1]], np.float32)), "InvalidVectorError", "row 2 is"),
    "no direction": (vectors_with(np.array([[1, 1], [0, 0], [1, 1]], np.float32)), "InvalidVectorError", "row 1 is"),
    "ids": (
        vectors_with(b'"cat"\n5\n', "ids", "2/embeddings-1.jsonl"),
        "CorruptError",
        r"embeddings-1\.jsonl:2: .*int",
    ),
    "few ids": (vectors_with(b'"cat"\n', "ids", "2/embeddings-1.jsonl"), "CorruptError", "has 3 rows, and"),
    "many ids": (
        lambda folder: (
            vectors_with(np.ones((2, 2), np.float32))(folder),
            manifest_with(lambda m: m["collections"][1]["spaces"][0]["embeddings"].update(count=2))(folder),
        ),
        "CorruptError",
        "more ids than",
    ),
    "no dimension": (
        manifest_with(lambda m: m["collections"][1]["spaces"][0].update(dimension=None)),
        "CorruptError",
        "embeddings and no dimension",
    ),
    "a dimension": (
        manifest_with(lambda m: m["collections"][1]["spaces"][0].update(dimension=100_000)),
        "LimitError|CorruptError",
        r"collections\[1\]",
    ),
    "a metric": (
        manifest_with(lambda m: m["collections"][1]["spaces"][0].update(metric="l1")),
        "CorruptError",
        r"collections\[1\]: .*l1",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_export_is_refused_whole(exported, damage):
    break_it, kind, message = DAMAGE[damage]
    break_it(exported)
    with ragstore.open() as other:
        with pytest.raises(ragstore.RagstoreError, match=message) as raised:
            ragstore.import_(other, exported)
        assert type(raised.value).__name__ in kind.split("|")
        assert other.list_collections() == []
        assert (dict(other.state("crawl")), dict(other.state("crawl", local=True))) == ({}, {})


def test_what_is_wrong_is_named_beyond_the_first_batch(exported, ragstore_store, monkeypatch):
    monkeypatch.setattr("ragstore.transfer.records._ROWS", 1)
    relations_with(second_as_first(strength=1))(exported)
    with pytest.raises(ragstore.CorruptError, match=r"^2/relations\.jsonl:2: an earlier line has it already"):
        ragstore.import_(ragstore_store, exported)
    relations_with(second_with(type="other"))(exported)
    state_with(second_as_first(value=1))(exported)
    with pytest.raises(ragstore.CorruptError, match=r"^state\.jsonl:2: an earlier line has it with other content"):
        ragstore.import_(ragstore_store, exported)
    assert ragstore_store.list_collections() == []


def test_a_line_has_a_limit(exported, ragstore_store, monkeypatch):
    monkeypatch.setattr("ragstore.transfer.reading._LINE", 100)
    with pytest.raises(ragstore.LimitError, match=r"^2/relations\.jsonl:1: the line has more than 100 bytes"):
        ragstore.import_(ragstore_store, exported)
    pets_with(relations=None)(exported)
    with pytest.raises(ragstore.LimitError, match=r"^2/documents\.jsonl:1: the line has more than 100 bytes"):
        ragstore.import_(ragstore_store, exported)
    manifest_with(lambda manifest: manifest["collections"].pop())(exported)
    with pytest.raises(ragstore.LimitError, match=r"^state\.jsonl:1: the line has more than 100 bytes"):
        ragstore.import_(ragstore_store, exported)
