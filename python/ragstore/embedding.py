"""The embedder of a collection: asked in batches, once for each text, and never while the file is locked."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import writes
from ._ragstore import Write
from .arguments import count, optional
from .display import Report
from .document import Document
from .exceptions import DimensionMismatchError, RagstoreError
from .results import SpaceInfo
from .types import Embedder, OnConflict
from .vectors import embed

if TYPE_CHECKING:
    from .store import Store

__all__ = ["BATCH", "Embedded", "Embedding"]

BATCH = 64
"""Texts of one call of an embedder: what most services take at least."""

# Bytes of vectors that are made between two commits to the cache: what a crash makes an embedder do again.
_PENDING = 1 << 20
# Questions that a collection remembers the vectors of.
_QUESTIONS = 256


class Embedded:
    """The embeddings of one write.

    Attributes
    ----------
    matrix : ndarray of float32, shape (n, d), or None
    given : list of bool or None
        Which chunks have a row; None where each has.
    """

    __slots__ = ("_keep", "given", "matrix")

    def __init__(self, matrix: NDArray[np.float32] | None, given: list[bool] | None, keep: _Keep) -> None:
        self.matrix = matrix
        self.given = given
        self._keep = keep

    @contextmanager
    def with_cache(self) -> Iterator[list[Write]]:
        """Changes to commit along with the write; alone where that fails, since what was made is paid for."""
        with self._keep.rescued():
            yield self._keep.take()

    def cache(self) -> None:
        """Commit them now."""
        self._keep.flush()


class _Keep:
    """What was embedded and is not in the cache yet."""

    def __init__(self, store: Store, model: str | None) -> None:
        self._store = store
        self._model = model if store._embedding_cache and not store.read_only else None
        self._texts: list[str] = []
        self._rows: list[NDArray[np.float32]] = []
        self._bytes = 0
        self._taken: tuple[list[str], list[NDArray[np.float32]]] = ([], [])

    def add(self, texts: list[str], matrix: NDArray[np.float32]) -> None:
        if self._model is not None:
            self._texts += texts
            self._rows.append(matrix)
            self._bytes += matrix.nbytes
            if self._bytes >= _PENDING:
                self.flush()

    def take(self) -> list[Write]:
        """The changes, which are the caller's to commit; `rescued` does it if the caller fails."""
        if self._model is None or not self._texts:
            return []
        self._taken = self._texts, self._rows
        self._texts, self._rows, self._bytes = [], [], 0
        texts, rows = self._taken
        write = Write.cache_embeddings(self._model, texts, np.concatenate(rows), self._store._embedding_cache)
        return [] if write is None else [write]

    def flush(self) -> None:
        if changes := self.take():
            self._store._raw.write(changes)
            self._taken = ([], [])

    @contextmanager
    def rescued(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            texts, rows = self._taken
            self._texts, self._rows = texts + self._texts, rows + self._rows
            # What was raised says more than that nothing could be kept either.
            with suppress(RagstoreError, OSError):
                self.flush()
            raise


class Embedding:
    """An embedder with what a collection knows of it.

    Parameters
    ----------
    store : Store
    collection : str
    embedder : callable
    query_embedder : callable, optional
        Embeds questions; `embedder` where it is not given.
    model : str, optional
        Its name; None means that of the default space.
    batch_size : int
    """

    def __init__(
        self,
        store: Store,
        collection: str,
        embedder: Embedder,
        query_embedder: Embedder | None,
        model: str | None,
        batch_size: int,
    ) -> None:
        self._store = store
        self._collection = collection
        self._embedder = embedder
        self._query_embedder = query_embedder
        self._model = model
        self._batch_size = batch_size
        self._questions: OrderedDict[tuple[str | None, str, str], NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def of(
        cls,
        store: Store,
        collection: str,
        embedder: Embedder | None,
        query_embedder: Embedder | None,
        model: str | None,
        batch_size: int,
    ) -> Embedding | None:
        """From arguments of a caller; None without an embedder."""
        for argument, given in (("embedder", embedder), ("query_embedder", query_embedder)):
            if given is not None and not callable(given):
                kind = type(given).__name__
                raise TypeError(f"{argument} is of type {kind}; it must be callable with a list of str")
        name, size = optional("model", model), count("batch_size", batch_size, 1)
        if embedder is None:
            if query_embedder is not None:
                raise TypeError("query_embedder is given without embedder; give both")
            return None
        return cls(store, collection, embedder, query_embedder, name, size)

    def arguments(self) -> tuple[Any, ...]:
        """What `of` takes after the collection."""
        return self._embedder, self._query_embedder, self._model, self._batch_size

    def documents(
        self, items: list[Document], space: str, on_conflict: OnConflict, report: Report | None = None
    ) -> Embedded:
        """Embeddings for documents, but for those that a call to add would leave as they are stored."""
        kept = self._store._raw.kept(self._collection, items, on_conflict)
        texts: list[str | None] = []
        ends = []
        for item, stays in zip(items, kept, strict=True):
            texts.extend([None] * writes.chunk_count(item) if stays else writes.chunk_texts(item))
            ends.append(len(texts))
        return self.chunks(texts, space, ends, report)

    def chunks(
        self,
        texts: Sequence[str | None],
        space: str = "default",
        ends: Sequence[int] = (),
        report: Report | None = None,
    ) -> Embedded:
        """Embeddings for the chunks that have a text.

        Parameters
        ----------
        texts : Sequence[str | None]
        space : str
        ends : Sequence[int]
            Where the texts of each document end, for reports of documents.
        report : callable, optional
        """
        places = {text: place for place, text in enumerate(dict.fromkeys(t for t in texts if t is not None))}
        # Also without texts: a model that does not fit the space is no matter of what there is to embed.
        run = _Run(self._store, self._collection, space, self._model, list(places))
        rows = [-1 if text is None else places[text] for text in texts]
        if report is not None:
            run.report_documents(rows, ends, report)
        with run.keep.rescued():
            matrix = run.embed(self._embedder, self._batch_size)
        if not places:
            return Embedded(None, None, run.keep)
        wanted = [row for row in rows if row >= 0]
        given = None if len(wanted) == len(rows) else [row >= 0 for row in rows]
        return Embedded(matrix if len(wanted) == len(matrix) else matrix[wanted], given, run.keep)

    def query(self, text: str, space: str) -> NDArray[np.float32]:
        """The embedding of a question, shape (1, d)."""
        own = self._query_embedder is not None
        # The collection may be another one by now, of another model.
        run = _Run(self._store, self._collection, space, self._model, [text], cached=not own)
        key = (run.model, space, text)
        with self._lock:
            if key in self._questions:
                self._questions.move_to_end(key)
                return self._questions[key]
        vector = run.embed(self._query_embedder or self._embedder, 1)
        with self._lock:
            self._questions[key] = vector
            while len(self._questions) > _QUESTIONS:
                self._questions.popitem(last=False)
        return vector


class _Run:
    """The distinct texts of one call on their way to vectors."""

    def __init__(
        self, store: Store, collection: str, space: str, model: str | None, texts: list[str], *, cached: bool = True
    ) -> None:
        self._store = store
        self._collection = collection
        self._space_name = space
        self._claim = model
        self._texts = texts
        self._cached = cached and bool(store._embedding_cache)
        self.model, self._space, self._found, self._vectors = self._look_up(None)
        self.keep = _Keep(store, self.model)
        self._reports: tuple[list[int], Report] | None = None

    def _look_up(self, dimension: int | None) -> tuple[str | None, SpaceInfo, list[int], NDArray[np.float32]]:
        texts = self._texts if self._cached else []
        model, space, found, vectors = self._store._raw.cached_embeddings(
            self._collection, self._space_name, self._claim, texts, dimension
        )
        return model, SpaceInfo(*space), found, vectors

    def report_documents(self, rows: list[int], ends: Sequence[int], report: Report) -> None:
        """Report each document whose texts are all embedded; the last one is done when it is stored."""
        highest = list(accumulate(rows, max, initial=-1))
        self._reports = [highest[end] for end in ends], report

    def embed(self, embedder: Embedder, batch_size: int) -> NDArray[np.float32]:
        """One row for each text."""
        places = range(len(self._texts))
        if len(self._found) == len(places):
            return self._vectors
        out = self._room(self._vectors.shape[1]) if self._found else None
        todo = deque(sorted(set(places).difference(self._found)))
        asked = False
        while todo:
            batch = [todo.popleft() for _ in range(min(batch_size, len(todo)))]
            texts = [self._texts[place] for place in batch]
            made = embed(embedder, texts, self._space.metric)
            if out is None or made.shape[1] != out.shape[1]:
                self._check(made.shape[1], None if out is None or not asked else out.shape[1])
                if self._found:
                    # What the cache has of another dimension belongs to another variant of the model.
                    _, _, self._found, self._vectors = self._look_up(made.shape[1])
                    todo = deque(sorted(set(places).difference(self._found, batch)))
                out = self._room(made.shape[1])
            out[batch] = made
            asked = True
            self.keep.add(texts, made)
            if todo:
                self._report(todo[0])
        return np.empty((0, 1), np.float32) if out is None else out

    def _room(self, dimension: int) -> NDArray[np.float32]:
        """For the vectors of all texts, with those that were found."""
        out = np.empty((len(self._texts), dimension), np.float32)
        if self._found:
            out[self._found] = self._vectors
        return out

    def _check(self, given: int, before: int | None) -> None:
        """Refuses a dimension that is not that of the space, or not that of the batches before."""
        wanted = self._space.dimension
        if wanted is not None and given != wanted:
            model = "" if self._space.model is None else f" and model {self._space.model!r}"
            raise DimensionMismatchError(
                f"the embedder returned vectors of dimension {given} for space {self._space_name!r} of collection "
                f"{self._collection!r}, which has dimension {wanted}{model}; embed with the model the space was made "
                "for, or create_space for another"
            )
        if before is not None:
            raise DimensionMismatchError(
                f"the embedder returned vectors of dimension {given}, and of dimension {before} for the texts before; "
                "a space has one dimension"
            )

    def _report(self, embedded: int) -> None:
        if self._reports is not None:
            highest, report = self._reports
            report(min(bisect_right(highest, embedded - 1), len(highest) - 1), len(highest))
