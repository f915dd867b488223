"""Writes on any collections that are committed as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import graph, writes
from ._ragstore import Write
from .arguments import string
from .document import Chunk, Document
from .results import AddResult
from .types import Filter, OnConflict
from .vectors import as_matrix

if TYPE_CHECKING:
    from .collection import Collection
    from .state import TransactionState
    from .store import Store

__all__ = ["Pending", "Transaction", "TransactionCollection"]

T = TypeVar("T")


class Pending(Generic[T]):
    """What a queued write will have done."""

    __slots__ = ("_finish", "_result")

    def __init__(self, finish: Callable[[Any], T]) -> None:
        self._finish = finish
        self._result: list[T] = []

    @property
    def result(self) -> T:
        """What the same call on a collection returns.

        Raises
        ------
        RuntimeError
            Before the transaction is committed, and for ever when it was not.
        """
        if not self._result:
            raise RuntimeError("the result is there once the transaction is committed, after its block")
        return self._result[0]

    def _settle(self, row: object) -> None:
        self._result.append(self._finish(row))

    def __repr__(self) -> str:
        return f"Pending({self._result[0]!r})" if self._result else "Pending()"


class Transaction:
    """Queues writes and commits them as one when its block ends; an exception in the block commits nothing.

    Reads inside the block do not see what is queued. Arrays are copied when a write is queued.

    Examples
    --------
    >>> import ragstore
    >>> with ragstore.open() as store:
    ...     _ = store.create_collection("a"), store.create_collection("b")
    ...     with store.transaction() as tx:
    ...         moved = tx["a"].add("The cat sat.")
    ...         _ = tx["b"].clear()
    ...     moved.result
    AddResult(added=1, replaced=0, unchanged=0, skipped=0, chunks=1)
    """

    def __init__(self, store: Store) -> None:
        self._raw = store._raw
        self._queue: list[tuple[Write | None, Pending[Any]]] = []
        self._state: Literal["new", "open", "ended"] = "new"

    def __enter__(self) -> Transaction:
        if self._state != "new":
            raise RuntimeError("a transaction is used once; ask the store for another")
        self._state = "open"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        queue, self._queue = self._queue, []
        self._state = "ended"
        if kind is not None:
            return
        queued = [write for write, _ in queue if write is not None]
        rows = iter(self._raw.write(queued) if queued else [])
        for write, pending in queue:
            pending._settle(None if write is None else next(rows))

    def __getitem__(self, collection: str | Collection) -> TransactionCollection:
        """The writing calls of a collection; whether it is there shows at the commit.

        A `Collection` with an embedder embeds what is added with it, when it is queued.
        """
        if isinstance(collection, str):
            return TransactionCollection(self, collection)
        name = string("collection", getattr(collection, "name", collection))
        if collection._raw is not self._raw:
            raise ValueError(f"collection {name!r} is of another store; a transaction writes to one")
        return TransactionCollection(self, name, collection)

    def collection(self, name: str | Collection) -> TransactionCollection:
        """As ``tx[name]``."""
        return self[name]

    def state(self, namespace: str = "default", *, local: bool = False) -> TransactionState:
        """The writing calls of a namespace: a cursor moves on with the documents it stands for, or not at all."""
        from .state import TransactionState

        return TransactionState(self, namespace, local=local)

    def _check_open(self) -> None:
        if self._state != "open":
            raise RuntimeError("a transaction takes writes inside its block, as in: with store.transaction() as tx")

    def _add(self, write: Write | None, finish: Callable[[Any], T]) -> Pending[T]:
        self._check_open()
        pending = Pending(finish)
        self._queue.append((write, pending))
        return pending


def _nothing(_: object) -> None:
    return None


class TransactionCollection:
    """The writing calls of a collection; each queues, and its `Pending` has the result after the commit.

    It has the embedder of the `Collection` that it was asked for with, and none when it was asked for by name.
    """

    __slots__ = ("_collection", "_embedding", "_tx", "name")

    def __init__(self, tx: Transaction, name: str, collection: Collection | None = None) -> None:
        self._tx = tx
        self._collection = collection
        self._embedding = None if collection is None else collection._embedding
        self.name = name

    def add(
        self,
        documents: writes.Documents,
        embeddings: ArrayLike | None = None,
        *,
        on_conflict: OnConflict = "error",
        space: str = "default",
    ) -> Pending[AddResult]:
        """As `Collection.add`."""
        matrix = None if embeddings is None else as_matrix(embeddings)
        return self._tx._add(self._documents(writes.documents(documents), matrix, on_conflict, space), AddResult._of)

    def _documents(
        self, items: list[Document], matrix: NDArray[np.float32] | None, on_conflict: OnConflict, space: str
    ) -> Write:
        given = None
        if matrix is None and self._embedding is not None:
            self._tx._check_open()
            made = self._embedding.documents(items, space, on_conflict)
            made.cache()
            matrix, given = made.matrix, made.given
        return writes.add(self.name, items, matrix, on_conflict, space, copy=True, given=given)

    def add_texts(
        self,
        texts: Sequence[str],
        embeddings: ArrayLike | None = None,
        *,
        ids: Sequence[str] | None = None,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        uris: Sequence[str] | None = None,
        on_conflict: OnConflict = "error",
    ) -> Pending[list[str]]:
        """As `Collection.add_texts`."""
        given = writes.Texts(texts, ids, metadatas, uris)
        if embeddings is None and self._embedding is not None:
            write = self._documents(given.documents(), None, on_conflict, "default")
        else:
            write = given.write(self.name, embeddings, on_conflict, copy=True)
        return self._tx._add(write, lambda row: cast("list[str]", row[1]))

    def add_chunks(
        self, document_id: str, chunks: Sequence[Chunk], embeddings: ArrayLike | None = None
    ) -> Pending[list[str]]:
        """As `Collection.add_chunks`."""
        items = writes.chunk_list(chunks)
        matrix, given = None if embeddings is None else as_matrix(embeddings), None
        if matrix is None and self._embedding is not None:
            self._tx._check_open()
            made = self._embedding.chunks(self._chunk_texts(document_id, items))
            made.cache()
            matrix, given = made.matrix, made.given
        write = writes.add_chunks(self.name, document_id, items, matrix, copy=True, given=given)
        return self._tx._add(write, list)

    def _chunk_texts(self, document_id: str, chunks: list[Chunk]) -> list[str | None]:
        spans = [index for index, chunk in enumerate(chunks) if chunk.text is None and chunk.start is not None]
        document = None
        if spans and self._collection is not None:
            document = self._collection.get_document(document_id)
            if document is None:
                raise ValueError(
                    f"chunks[{spans[0]}] has no text of its own, and document {document_id!r} is not stored yet; give "
                    "the chunk its text, or the embeddings"
                )
        return writes.texts_of(chunks, None if document is None else document.text)

    def set_embeddings(
        self, chunk_ids: Sequence[str], embeddings: ArrayLike, *, space: str = "default"
    ) -> Pending[None]:
        """As `Collection.set_embeddings`."""
        write = writes.set_embeddings(self.name, chunk_ids, embeddings, space, copy=True)
        return self._tx._add(write, _nothing)

    def delete_embeddings(self, chunk_ids: Sequence[str], *, space: str = "default") -> Pending[int]:
        """As `Collection.delete_embeddings`."""
        return self._tx._add(writes.delete_embeddings(self.name, chunk_ids, space), int)

    def update_metadata(
        self,
        metadata: Mapping[str, Any],
        *,
        chunk_ids: Sequence[str] | None = None,
        document_ids: Sequence[str] | None = None,
        where: Filter | None = None,
        mode: Literal["merge", "replace"] = "merge",
    ) -> Pending[int]:
        """As `Collection.update_metadata`."""
        write = writes.update_metadata(self.name, metadata, chunk_ids, document_ids, where, mode)
        return self._tx._add(write, int)

    def delete(
        self,
        ids: Sequence[str] | None = None,
        *,
        document_ids: Sequence[str] | None = None,
        uris: Sequence[str] | None = None,
        where: Filter | None = None,
    ) -> Pending[int]:
        """As `Collection.delete`."""
        return self._tx._add(writes.delete(self.name, ids, document_ids, uris, where), int)

    def relate(
        self,
        source: str,
        target: str,
        type: str,
        *,
        strength: float = 1.0,
        metadata: Mapping[str, Any] | None = None,
    ) -> Pending[None]:
        """As `Collection.relate`."""
        return self._tx._add(graph.relate(self.name, source, target, type, strength, metadata), _nothing)

    def unrelate(self, source: str, target: str, type: str | None = None) -> Pending[int]:
        """As `Collection.unrelate`."""
        return self._tx._add(graph.unrelate(self.name, source, target, type), int)

    def clear(self) -> Pending[None]:
        """As `Collection.clear`."""
        return self._tx._add(Write.clear(self.name), _nothing)

    def __repr__(self) -> str:
        return f"TransactionCollection({self.name!r})"
