"""Operations by the hundred thousand on a store and on the plain model of it, with the store opened anew at random.

The model, and what is compared, is that of `tests/property/test_model.py`; here no example is shrunk, and a run goes on
for long with one file.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import random
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import ragstore
import ragstore.store
from ragstore import Chunk, Document

from tests.faults import oracle, record
from tests.property import test_model
from tests.property.test_model import ALL, CHUNK_IDS, DIMENSIONS, DOCUMENT_IDS, METRICS, URIS, WORDS, Drawn, Model

pytestmark = pytest.mark.faults

OPERATIONS = record.size(3_000, 500_000)
RUN = record.size(1_500, 5_000)
REOPEN = 0.005


class Driver:
    """One store, one model, and the random operations on both."""

    def __init__(self, path: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.path = path
        self.model = Model()
        # Every other one has indexes, which follow for a while and are built anew.
        ragstore.store._INDEX_AT = (1, 20, True) if seed % 2 else None
        self.store = ragstore.open(path, readers=2)
        self.collection = self.store.create_collection("c", dimension=2, metric="l2")
        self.reopened = 0

    def both(self, real, model):
        return test_model.StoreMachine.both(self, real, model)

    # drawing

    def some(self, values: list, most: int, least: int = 0) -> list:
        return [self.chance.choice(values) for _ in range(self.chance.randint(least, most))]

    def maybe(self, value):
        return value if self.chance.random() < 0.5 else None

    def text(self) -> str | None:
        return self.maybe(" ".join(self.some(WORDS, 3)))

    def metadata(self) -> dict:
        drawn = {"n": self.chance.randint(0, 3), "s": self.chance.choice("xy")}
        return {key: value for key, value in drawn.items() if self.chance.random() < 0.6}

    def where(self) -> dict | None:
        number = self.chance.randint(0, 3)
        drawn = [
            None,
            None,
            {"n": number},
            {"n": {"$gte": number}},
            {"n": {"$in": [number, 1]}},
            {"s": {"$eq": self.chance.choice("xy")}},
            {"$and": [{"n": {"$lt": number + 1}}, {"s": "x"}]},
            {},
        ]
        return self.chance.choice(drawn)

    def vectors(self, rows: int, space: str = "default") -> np.ndarray:
        values = [float(self.chance.randint(-1, 1)) for _ in range(rows * DIMENSIONS[space])]
        return np.array(values, np.float32).reshape(rows, -1) if rows else np.empty((0, DIMENSIONS[space]), np.float32)

    def matrix(self, rows: int, space: str = "default") -> np.ndarray | None:
        return self.vectors(rows, space) if rows and self.chance.random() < 0.7 else None

    def space(self) -> str:
        return self.chance.choice(["default", "default", "s1", "s2"])

    def chunk(self, whole: str | None) -> Chunk:
        made = Chunk(self.text(), id=self.maybe(self.chance.choice(CHUNK_IDS)), metadata=self.metadata())
        if whole is not None and self.chance.random() < 0.5:
            made.start, made.end = sorted((self.chance.randint(0, len(whole)), self.chance.randint(0, len(whole))))
        return made

    def document(self) -> Document:
        text = self.text()
        return Document(
            text,
            id=self.maybe(self.chance.choice(DOCUMENT_IDS)),
            uri=self.maybe(self.chance.choice(URIS)),
            metadata=self.metadata(),
            chunks=self.maybe([self.chunk(text) for _ in range(self.chance.randint(0, 3))]),
        )

    def known(self) -> list[str]:
        return [*sorted(self.model.chunks()), "none"]

    # writing

    def add(self) -> None:
        documents = [self.document() for _ in range(self.chance.randint(1, 3))]
        policy = self.chance.choice(["error", "replace", "replace", "skip"])
        space = self.space()
        if space not in self.model.spaces:
            space = "default"
        given = self.matrix(sum(len(test_model.as_chunks(new)) for new in documents), space)
        both = self.both(
            lambda: self.collection.add(documents, given, on_conflict=policy, space=space),
            lambda r: self.model.add(
                documents, given, policy, space, Drawn(r.chunk_ids, r.document_ids) if r else Drawn()
            ),
        )
        if both is not None:
            assert dataclasses.asdict(both[0]) == dataclasses.asdict(both[1])

    def add_chunks(self) -> None:
        id = self.chance.choice(DOCUMENT_IDS)
        document = self.model.document(id=id)
        chunks = [self.chunk(document and document.text) for _ in range(self.chance.randint(0, 3))]
        given = self.matrix(len(chunks))
        both = self.both(
            lambda: self.collection.add_chunks(id, chunks, given),
            lambda r: self.model.add_chunks(id, chunks, given, Drawn(r or [])),
        )
        assert both is None or both[0] == both[1]

    def set_embeddings(self) -> None:
        space = self.space()
        ids = sorted(set(self.some([*self.known()[:-1], "c0"], 3, 1)))
        given = self.vectors(len(ids), space)
        self.both(
            lambda: self.collection.set_embeddings(ids, given, space=space),
            lambda _: self.model.set_embeddings(ids, given, space),
        )

    def delete_embeddings(self) -> None:
        ids, space = self.some(self.known(), 3), self.space()
        both = self.both(
            lambda: self.collection.delete_embeddings(ids, space=space),
            lambda _: self.model.delete_embeddings(ids, space),
        )
        assert both is None or both[0] == both[1]

    def update_metadata(self) -> None:
        new, where, mode = self.metadata(), self.where(), self.chance.choice(["merge", "replace"])
        ids = self.maybe(self.some([*CHUNK_IDS, *DOCUMENT_IDS], 3, 1))
        documents = self.maybe(self.some(DOCUMENT_IDS, 2, 1))
        if ids is documents is where is None:
            where = {}
        both = self.both(
            lambda: self.collection.update_metadata(new, chunk_ids=ids, document_ids=documents, where=where, mode=mode),
            lambda _: self.model.update_metadata(new, ids, documents, where, mode),
        )
        assert both is None or both[0] == both[1]

    def delete(self) -> None:
        ids = self.maybe(self.some(self.known(), 2, 1))
        documents, uris = self.maybe(self.some(DOCUMENT_IDS, 1, 1)), self.maybe(self.some(URIS, 1))
        where = self.where() if self.chance.random() < 0.3 else None
        if ids is documents is uris is where is None:
            ids = self.some(self.known(), 2, 1)
        both = self.both(
            lambda: self.collection.delete(ids, document_ids=documents, uris=uris, where=where),
            lambda _: self.model.delete(ids, documents, uris, where),
        )
        assert both[0] == both[1]

    def clear(self) -> None:
        if self.chance.random() < 0.1:
            self.collection.clear()
            self.model.clear()

    def spaces(self) -> None:
        space = self.chance.choice(["s1", "s2"])
        if space not in self.model.spaces:
            self.collection.create_space(space, metric=METRICS[space], model="m")
            self.model.spaces.add(space)
        elif self.chance.random() < 0.3:
            self.collection.delete_space(space)
            self.model.spaces.remove(space)
            for _, chunk in self.model.chunks().values():
                chunk.vectors.pop(space, None)

    def transaction(self) -> None:
        gone, rows, new = self.some(DOCUMENT_IDS, 2, 1), self.some(DOCUMENT_IDS, 2), self.metadata()

        def real():
            with self.store.transaction() as tx:
                queued = tx["c"]
                pending = [
                    queued.delete(document_ids=gone),
                    queued.add_texts(rows, ids=rows, on_conflict="skip"),
                    queued.update_metadata(new, document_ids=rows),
                ]
            return [one.result for one in pending]

        def model(_):
            deleted = self.model.delete(None, gone, None, None)
            texts = [Document(id, id=id, chunks=[Chunk(id=id, start=0, end=len(id))]) for id in rows]
            kept = self.model.add(texts, None, "skip", "default", Drawn()).document_ids
            return [deleted, kept, self.model.update_metadata(new, None, rows, None, "merge")]

        both = self.both(real, model)
        assert both is None or both[0] == both[1]

    # reading

    def vector_search(self) -> None:
        space, where, k = self.space(), self.where(), self.chance.choice([1, 2, 5, ALL])
        if space not in self.model.spaces:
            return
        query = self.vectors(1, space)[0]
        hits = self.collection.vector_search(query, k, where=where, exact=True, space=space)
        expected = self.model.nearest(query, k, where, space)
        assert hits.ids == [id for id, _ in expected]
        np.testing.assert_allclose([hit.distance for hit in hits], [distance for _, distance in expected], atol=1e-5)

    def keyword_search(self) -> None:
        words, where, k = self.some(WORDS, 3, 1), self.where(), self.chance.choice([1, 3, ALL])
        hits = self.collection.keyword_search(" ".join(words), k, where=where)
        expected = self.model.holding(words, where)
        assert len(hits) == len(set(hits.ids)) == min(k, len(expected))
        assert set(hits.ids) <= expected

    def list_documents(self) -> None:
        where = self.where()
        newest = sorted(self.model.documents, key=lambda document: -document.order)
        expected = [document.id for document in newest if self.model.document_matches(where, document)]
        assert [document.id for document in self.collection.list_documents(where, limit=100)] == expected
        chunks = self.model.chunks().values()
        assert self.collection.count(where) == sum(self.model.chunk_matches(where, *pair) for pair in chunks)

    def compare(self) -> None:
        test_model.StoreMachine.holds_what_the_model_holds(self)

    def reopen(self) -> None:
        self.store.close()
        oracle.check_file(self.path)
        self.store = ragstore.open(self.path, readers=2)
        self.collection = self.store["c"]
        self.reopened += 1
        self.compare()

    WEIGHTS: ClassVar = {
        add: 6,
        add_chunks: 3,
        set_embeddings: 3,
        delete_embeddings: 2,
        update_metadata: 3,
        delete: 3,
        clear: 1,
        spaces: 1,
        transaction: 2,
        vector_search: 3,
        keyword_search: 3,
        list_documents: 2,
        compare: 3,
    }

    def run(self, count: int) -> None:
        for number in range(count):
            chosen = Driver.reopen
            if self.chance.random() >= REOPEN:
                (chosen,) = self.chance.choices(list(self.WEIGHTS), list(self.WEIGHTS.values()))
            try:
                chosen(self)
            except BaseException as error:
                raise AssertionError(f"operation {number}, {chosen.__name__}") from error
        self.reopen()
        self.store.close()


def run(seed: int, count: int) -> int:
    """How often the store was opened anew."""
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(Path(folder) / "kb.db", seed)
        try:
            driver.run(count)
        except BaseException as error:
            driver.store.close()
            raise AssertionError(f"seed {seed}: {error}") from error
        return driver.reopened


def test_model_operations(tmp_path):
    with record.Suite("model_operations", tmp_path) as suite:
        seeds = [suite.seed + number for number in range(OPERATIONS // RUN)]
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            for reopened in pool.map(run, seeds, [RUN] * len(seeds)):
                suite.counts["operations"] += RUN
                suite.counts["reopened"] += reopened
                suite.counts["seeds from the first"] += 1


@pytest.mark.parametrize("method", ["delete", "update_metadata", "set_embeddings", "add"])
def test_a_difference_is_found(tmp_path, monkeypatch, method):
    """The control: the model forgets one call."""
    driver = Driver(tmp_path / "kb.db", 1)
    try:
        driver.run(200)
        driver.store = ragstore.open(tmp_path / "kb.db")
        driver.collection = driver.store["c"]
        monkeypatch.setattr(driver.model, method, lambda *_: 0 if method != "add" else test_model.Added())
        with pytest.raises(AssertionError):
            driver.run(200)
    finally:
        driver.store.close()
