"""Calls of every public method with arguments that nobody means well, by the hundred thousand.

Each answers or raises an error with a type of its own; none panics, and what is stored afterwards is finite, whole and
searchable.
"""

import inspect
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import ragstore
from ragstore import Chunk, Document

from tests.faults import oracle, record

pytestmark = pytest.mark.faults

CALLS = record.size(10_000, 1_000_000)
# What a call may raise: never what says that the library is broken.
ALLOWED = (ragstore.RagstoreError, ValueError, TypeError)
# These write files, and the system may refuse their names.
OF_FILES = {"backup", "repair", "sync_folder"}
# They end what the others need, or take another path: the other suites call them.
LEFT_OUT = {"close", "delete_collection", "transaction", "clear_embedding_cache"}

TEXTS = ["", "a", "text", "A" * 5000, "\0", "a\0b", "\ud800", "é" * 99, "' OR 1=1 --", '"', "NEAR(", "*", "a AND", "$n"]
NUMBERS = [0, 1, -1, 2, 10, 4096, 4097, 2**31, 2**63, -(2**63), 2**64, 10**30, 0.5, float("nan"), float("inf"), True]
ODD = [None, b"bytes", object(), type, {1}, (), [], {}, [[]], [None], {"a": 1}, range(3), Ellipsis, lambda *_: 1]
ARRAYS = [
    np.zeros((1, 3), np.float32),
    np.ones((2, 3), np.float32),
    np.ones((1, 3)) * 1e300,
    np.full((1, 3), np.nan),
    np.full((2, 3), np.inf),
    np.ones((0, 3)),
    np.ones((1, 0)),
    np.ones(3),
    np.ones((1, 1, 3)),
    np.ones((4, 6))[::2, ::2],
    np.ones((3, 3)).T,
    np.ones((1, 3), ">f8"),
    np.ones((1, 3), np.int64),
    np.ones((1, 3), np.complex128),
    np.array([["a", "b", "c"]]),
    np.array([[None, 1, 2]], object),
    np.ones((1, 3), np.float16),
    np.ma.masked_array(np.ones((1, 3)), [[0, 1, 0]]),
    np.lib.stride_tricks.as_strided(np.ones(3, np.float32), (5, 3), (0, 4)),
    [[1.0, 2.0, 3.0]],
    [[1.0], [1.0, 2.0]],
    [[float("nan")] * 3],
]
IDS = ["a", "b", "c", "none"]
# One that is a key would be stretched, each time.
NO_KEYS = ["", "\ud800", b"", b"k" * 31, b"k" * 33, bytearray(32), f"x'{'0f' * 32}'"]
FILTERS = [
    {"n": 1},
    {"n": {"$gt": 1}},
    {"$and": []},
    {"$or": [{"n": 1}, {"s": "x"}]},
    {"$not": {"n": 1}},
    {"$and": {"n": 1}},
    {"n": {"$in": [1] * 300}},
    {"n": {"$nope": 1}},
    {"": 1},
    {"a.b.c": None},
    {"a'); DROP TABLE chunks; --": 1},
    {"n": float("nan")},
    {"n": {"$like": "%" * 100}},
    {"created_at": {"$gte": "not a date"}},
]


class Odd:
    """Raises whatever it is asked."""

    def __len__(self) -> int:
        raise ValueError("len")

    def __iter__(self):
        raise ValueError("iter")

    def __array__(self, *_, **__):
        raise ValueError("array")


def nested(depth: int) -> dict:
    made: dict = {}
    for _ in range(depth):
        made = {"n": made}
    return made


class Caller:
    """Draws arguments for the parameters of a method by their names."""

    def __init__(self, chance) -> None:
        self.chance = chance
        self.deep = [nested(10), nested(63), nested(64), nested(100), nested(900)]

    def vectors(self):
        return self.chance.choice(ARRAYS)

    def metadata(self):
        chance = self.chance
        return chance.choice(
            [{}, {"n": 1}, {"s": "x", "n": [1, "a", None]}, {"n": float("nan")}, {1: 2}, {"a": object()},
             {"n": 10**40}, {"\ud800": 1}, {"k" * 1000: 1}, {"t": "x" * 2000}, *self.deep]
        )  # fmt: skip

    def ids(self):
        return self.chance.choice([IDS[:1], IDS[:2], IDS, ["a", "a"], [], "a", [1], ["\0"], [None], IDS * 50])

    def document(self) -> Document:
        chance = self.chance
        text = chance.choice([*TEXTS, None])
        made = Document(text, id=chance.choice([*IDS, None, "", "\0"]), uri=chance.choice([None, "u", "v", ""]))
        made.metadata = self.metadata()
        if chance.random() < 0.5:
            made.chunks = [
                Chunk(chance.choice([*TEXTS, None]), id=chance.choice([*IDS, None]), metadata=self.metadata())
                for _ in range(chance.randint(0, 2))
            ]
            for chunk in made.chunks:
                chunk.start, chunk.end = chance.choice([(None, None), (0, 1), (1, 0), (-1, 2), (0, 10**20), (0, None)])
        return made

    def documents(self):
        return [self.document() for _ in range(self.chance.randint(0, 2))]

    def argument(self, name: str):  # noqa: C901, PLR0912
        chance = self.chance
        if name == "key":
            # What is a key would have each of them stretched; others are refused.
            return chance.choice(
                [*ODD, *NUMBERS, Odd(), "", "\ud800", b"", b"k" * 31, bytearray(32), "x'" + "0f" * 32 + "'"]
            )
        if chance.random() < 0.12:
            return chance.choice([*ODD, Odd(), *NUMBERS, *TEXTS])
        if name in {"embeddings", "vector", "vectors", "queries", "query"}:
            return self.vectors()
        if name in {"documents", "document"}:
            return self.documents()
        if name == "chunks":
            return [Chunk(chance.choice(TEXTS), id=chance.choice([*IDS, None])) for _ in range(chance.randint(0, 2))]
        if name in {"metadata", "settings"}:
            return self.metadata()
        if name in {"where", "filter"}:
            return chance.choice([None, *FILTERS, *self.deep])
        if name.endswith("ids") or name in {"uris", "collections"}:
            return self.ids()
        if name == "texts":
            return [chance.choice(TEXTS) for _ in range(chance.randint(0, 2))]
        if name == "metadatas":
            return [self.metadata() for _ in range(chance.randint(0, 2))]
        if name in {"embedder", "query_embedder", "rerank"}:
            return chance.choice([None, lambda texts: np.ones((len(texts), 3)), lambda _: None])
        if name == "progress":
            return chance.choice([None, False, lambda *_: None])
        words = {
            "space": ["default", "s", "none"],
            "mode": ["merge", "replace", "vector", "keyword", "hybrid"],
            "on_conflict": ["error", "replace", "skip", "none"],
            "metric": ["cosine", "l2", "ip", "none"],
            "tokenizer": ["unicode61", "trigram", "nope", "porter unicode61", "unicode61 '"],
            "syntax": ["natural", "all", "phrase", "prefix", "raw"],
            "name": ["c", "d", "e"],
        }
        if name in words:
            return chance.choice(words[name])
        return chance.choice([*NUMBERS[:6], *IDS, *TEXTS, None])

    def call(self, method) -> None:
        parameters = inspect.signature(method).parameters.values()
        positional, named = [], {}
        for parameter in parameters:
            required = parameter.default is inspect.Parameter.empty
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(self.argument(parameter.name))
            elif required or self.chance.random() < 0.3:
                named[parameter.name] = self.argument(parameter.name)
        method(*positional, **named)


def public(value: object) -> list:
    names = [name for name in dir(type(value)) if not name.startswith("_") and name not in LEFT_OUT]
    return [getattr(value, name) for name in names if callable(getattr(type(value), name))]


def check_stored(store: ragstore.Store) -> None:
    """What is there is whole: each vector finite and of its space, each row readable."""
    for info in store.list_collections():
        collection = store[info.name]
        documents = collection.list_documents(limit=1 << 30)
        chunks = [chunk for document in documents for chunk in collection.get_chunks(document.id)]
        assert len(chunks) == len(collection)
        for space in collection.list_spaces():
            for chunk in chunks:
                try:
                    row = collection.get_embeddings([chunk.id], space=space.name)
                except ragstore.NotFoundError:
                    continue
                assert row.shape == (1, space.dimension)
                assert np.isfinite(row).all()


def test_hostile_calls(path, tmp_path, monkeypatch):
    # Names of files among the arguments are relative ones.
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path / "files")
    with record.Suite("hostile_calls", tmp_path) as suite:
        caller = Caller(suite.chance)
        with ragstore.open(path, durability="relaxed") as store:
            store.create_collection("c", dimension=3)
            methods = public(store) + public(store["c"])
            assert len(methods) > 25
            while suite.counts["calls"] < CALLS:
                method = suite.chance.choice(methods)
                suite.counts["calls"] += 1
                try:
                    caller.call(method)
                    suite.counts["answered"] += 1
                except ragstore.InternalError:
                    raise
                except ALLOWED:
                    pass
                except OSError:
                    if method.__name__ not in OF_FILES:
                        raise
                if suite.counts["calls"] % 2_000 == 0:
                    check_stored(store)
                    store["c"].clear()
                    for info in store.list_collections():
                        if info.name != "c":
                            store.delete_collection(info.name)
                    # Each replica that it was left files where it synced.
                    for made in Path.cwd().iterdir():
                        shutil.rmtree(made) if made.is_dir() else made.unlink()
            check_stored(store)
        oracle.check_file(path)


def test_arrays_that_change_while_they_are_read(path, tmp_path):
    """Another thread writes into an array during the call; what is stored was there, and was looked at."""
    adds = record.size(20, 1_000)
    with record.Suite("changing_arrays", tmp_path) as suite:
        array = np.ones((2_000, 64), np.float32)
        over = threading.Event()

        def scribble() -> None:
            values = np.array([1.0, 2.0, np.nan, np.inf], np.float32)
            number = 0
            while not over.is_set():
                number += 1
                array[number * 37 % 2_000 :: 97] = values[number % 4]
                array[:] = values[number % 2]

        thread = threading.Thread(target=scribble)
        with ragstore.open(path, durability="relaxed") as store:
            collection = store.create_collection("c", metric="l2", dimension=64)
            thread.start()
            try:
                for _ in range(adds):
                    suite.counts["adds"] += 1
                    try:
                        ids = collection.add_texts(["text"] * len(array), array)
                    except ragstore.InvalidVectorError:
                        assert len(collection) == 0
                        suite.counts["refused"] += 1
                        continue
                    stored = collection.get_embeddings(ids)
                    assert np.isin(stored, [1.0, 2.0]).all()
                    collection.clear()
            finally:
                over.set()
                thread.join()
