"""Collections: what is written and searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import writes
from ._ragstore import Write, forget
from .arguments import count, mapping_or_none, optional, string, strings
from .display import Report, Rising, reporting
from .document import Chunk, Document
from .embedding import BATCH, Embedding
from .exceptions import InvalidVectorError
from .forget import ForgetReport
from .graph import Graph
from .results import AddResult, CollectionInfo, SpaceInfo
from .search import Searching
from .types import Embedder, Filter, Metric, OnConflict, Progress
from .vectors import as_matrix

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Collection"]


class Collection(Searching, Graph):
    """Documents with their chunks and embeddings, and the searches over them.

    It comes from `Store.create_collection` and `Store.get_collection`, and holds no data itself. All calls may be made
    from any thread; those that touch the file release the GIL. Every call raises `CollectionNotFoundError` once the
    collection is gone, `ClosedError` once the store is closed, and a writing call `ReadOnlyError`, `LockedError` or
    `StoreFullError` where that is the case.

    Attributes
    ----------
    name : str
    """

    __slots__ = ("_store",)

    def __init__(
        self,
        store: Store,
        name: str,
        embedder: Embedder | None = None,
        query_embedder: Embedder | None = None,
        model: str | None = None,
        batch_size: int = BATCH,
    ) -> None:
        self._store = store
        self._raw = store._raw
        self._embedding = Embedding.of(store, name, embedder, query_embedder, model, batch_size)
        self.name = name

    @property
    def info(self) -> CollectionInfo:
        """What the collection is, read anew."""
        return CollectionInfo._of(self._raw.get_collection(self.name))

    def __repr__(self) -> str:
        return f"Collection({self.name!r}, store={self._store!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = () if self._embedding is None else self._embedding.arguments()
        return Collection, (self._store, self.name, *arguments)

    # writing

    def add(
        self,
        documents: writes.Documents,
        embeddings: ArrayLike | None = None,
        *,
        on_conflict: OnConflict = "error",
        space: str = "default",
        commit_every: int | None = None,
        progress: Progress = False,
    ) -> AddResult:
        """Store documents with their chunks and embeddings, as one transaction.

        A document whose content and embeddings are stored already is `unchanged` and writes nothing.

        Parameters
        ----------
        documents : Document, mapping, str, or an iterable of them
            A mapping has the parameters of `Document` as keys; a str is a text. A document without chunks is one chunk.
        embeddings : ArrayLike of float32, shape (n, d), optional
            One row for each chunk of all documents, in order. C-contiguous float32 is read in place. Without it, and
            with an embedder, the texts of the chunks are embedded, each once and, where the model has a name, only if
            the cache does not have it; a chunk without text gets no embedding. Documents that stay as they are stored
            are not embedded, whether or not they were stored with embeddings: `set_embeddings` gives those theirs.
        on_conflict : {"error", "replace", "skip"}
            For a document whose id or uri is taken: nothing of the call is stored; text, chunks, embeddings and
            metadata are swapped whole; or the old one stays.
        space : str
            Where the embeddings go.
        commit_every : int, optional
            Takes any iterable lazily and commits that many documents at a time. It is the one exception to "all or
            nothing": what was committed stays when a later part fails.
        progress : bool or callable
            True shows a bar; a callable gets (done, total) documents on this thread, and what it raises cancels. A
            document is done when it is embedded, the last one when all are stored.

        Returns
        -------
        AddResult

        Raises
        ------
        ConflictError
            An id or a uri is taken by other content, under ``on_conflict="error"``.
        InvalidVectorError, DimensionMismatchError
            Embeddings that cannot be ranked, or do not fit the chunks or the space.
        CollectionExistsError
            The embedder's model is not that of the space.
        LimitError
            A text, an id or metadata over the limits.
        KeyboardInterrupt
            Nothing was stored, unless a note on it says otherwise; what was embedded is in the cache.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     pets = store.create_collection("pets")
        ...     pets.add([ragstore.Document("Cats purr.", uri="cats.txt"), "Dogs bark."], [[1.0, 0.0], [0.0, 1.0]])
        AddResult(added=2, replaced=0, unchanged=0, skipped=0, chunks=2)
        """
        matrix = None if embeddings is None else as_matrix(embeddings)
        with reporting(progress, "add") as report:
            if commit_every is None:
                return self._add(writes.documents(documents), matrix, on_conflict, space, report)
            every = count("commit_every", commit_every, 1)
            return self._add_in_parts(documents, matrix, on_conflict, space, every, report)

    def _add(
        self,
        items: list[Document],
        matrix: NDArray[np.float32] | None,
        on_conflict: OnConflict,
        space: str,
        report: Report | None,
    ) -> AddResult:
        if matrix is not None or self._embedding is None:
            write = writes.add(self.name, items, matrix, on_conflict, space, copy=False)
            (row,) = self._raw.write([write], report)
            return AddResult._of(row)
        rising = None if report is None else Rising(report)
        made = self._embedding.documents(items, space, on_conflict, rising)
        with made.with_cache() as changes:
            write = writes.add(self.name, items, made.matrix, on_conflict, space, copy=False, given=made.given)
            row, *_ = self._raw.write([write, *changes], rising)
        return AddResult._of(row)

    def _add_in_parts(
        self,
        documents: writes.Documents,
        matrix: NDArray[np.float32] | None,
        on_conflict: OnConflict,
        space: str,
        every: int,
        report: Report | None,
    ) -> AddResult:
        items: Iterator[Document] = writes.iterate(documents)
        total = len(documents) if isinstance(documents, Sequence) and not isinstance(documents, str) else 0
        if matrix is not None and isinstance(documents, Sequence):
            # What can be known before the first commit is.
            known = list(items)
            chunks = sum(map(writes.chunk_count, known))
            if chunks != len(matrix):
                raise InvalidVectorError(f"embeddings has {len(matrix)} rows for {chunks} chunks; give one for each")
            items = iter(known)
        result = AddResult()
        done = row = 0
        while part := list(islice(items, every)):
            rows = None
            if matrix is not None:
                chunks = sum(map(writes.chunk_count, part))
                rows = matrix[row : row + chunks]
                row += chunks
            added = self._add(part, rows, on_conflict, space, _shifted(report, done, total))
            result = result._with(added)
            done += len(part)
        if done == 0:
            return self._add([], None, on_conflict, space, report)
        if matrix is not None and row < len(matrix):
            raise InvalidVectorError(
                f"embeddings has {len(matrix)} rows for {row} chunks; all documents were committed before this showed"
            )
        return result

    def add_texts(
        self,
        texts: Sequence[str],
        embeddings: ArrayLike | None = None,
        *,
        ids: Sequence[str] | None = None,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        uris: Sequence[str] | None = None,
        on_conflict: OnConflict = "error",
        progress: Progress = False,
    ) -> list[str]:
        """Store one document of one chunk for each text; both have the same id.

        Parameters
        ----------
        texts : Sequence[str]
        embeddings : ArrayLike of float32, shape (n, d), optional
            One row for each text.
        ids, metadatas, uris : Sequence, optional
            One for each text. Ids are ULIDs when not given. Metadata goes to the chunk, where `get` shows it.
        on_conflict, progress
            As in `add`.

        Returns
        -------
        list of str
            The ids, in the order of the texts.

        Raises
        ------
        ValueError
            When the lists differ in length; and as `add`.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     store.create_collection("pets").add_texts(["Cats purr.", "Dogs bark."], ids=["cat", "dog"])
        ['cat', 'dog']
        """
        given = writes.Texts(texts, ids, metadatas, uris)
        with reporting(progress, "add") as report:
            if embeddings is not None or self._embedding is None:
                write = given.write(self.name, embeddings, on_conflict, copy=False)
                (row,) = self._raw.write([write], report)
                return AddResult._of(row).document_ids
            return self._add(given.documents(), None, on_conflict, "default", report).document_ids

    def add_chunks(self, document_id: str, chunks: Sequence[Chunk], embeddings: ArrayLike | None = None) -> list[str]:
        """Append chunks to a document.

        Parameters
        ----------
        document_id : str
        chunks : Sequence[Chunk]
        embeddings : ArrayLike of float32, shape (n, d), optional
            One row for each chunk, for the default space. Without it, and with an embedder, the texts are embedded as
            in `add`.

        Returns
        -------
        list of str
            The ids of the chunks.

        Raises
        ------
        DocumentNotFoundError
            There is no such document.
        ConflictError
            The id of a chunk is taken.
        """
        items = writes.chunk_list(chunks)
        matrix = None if embeddings is None else as_matrix(embeddings)
        if matrix is not None or self._embedding is None:
            (ids,) = self._raw.write([writes.add_chunks(self.name, document_id, items, matrix, copy=False)])
            return list(ids)
        made = self._embedding.chunks(self._chunk_texts(document_id, items))
        with made.with_cache() as changes:
            write = writes.add_chunks(self.name, document_id, items, made.matrix, copy=False, given=made.given)
            ids, *_ = self._raw.write([write, *changes])
        return list(ids)

    def _chunk_texts(self, document_id: str, chunks: list[Chunk]) -> list[str | None]:
        """What is embedded of chunks for a document that is there."""
        document = self.get_document(document_id)
        if document is None:
            # The error of the core, before anything is paid for.
            self._raw.write([writes.add_chunks(self.name, document_id, chunks, None, copy=False)])
        return writes.texts_of(chunks, None if document is None else document.text)

    def unchanged(self, documents: Iterable[Document]) -> list[bool]:
        """For each document, whether it is stored, by id or else by uri, with the same content.

        Asked before paying for embeddings.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     pets = store.create_collection("pets")
        ...     cat = ragstore.Document("Cats purr.", uri="cats.txt")
        ...     before, _, after = pets.unchanged([cat]), pets.add(cat), pets.unchanged([cat])
        ...     before, after
        ([False], [True])
        """
        return self._raw.unchanged(self.name, writes.documents(documents))

    def set_embeddings(self, chunk_ids: Sequence[str], embeddings: ArrayLike, *, space: str = "default") -> None:
        """Give chunks their embeddings, in place of those they had.

        Parameters
        ----------
        chunk_ids : Sequence[str]
        embeddings : ArrayLike of float32, shape (n, d)
            One row for each id.
        space : str

        Raises
        ------
        NotFoundError
            A chunk or the space is not there.
        InvalidVectorError, DimensionMismatchError
            As `add`.
        """
        write = writes.set_embeddings(self.name, chunk_ids, embeddings, space, copy=False)
        if write is not None:
            self._raw.write([write])

    def get_embeddings(self, chunk_ids: Sequence[str], *, space: str = "default") -> NDArray[np.float32]:
        """Read the embeddings of chunks.

        Returns
        -------
        ndarray of float32, shape (n, d)
            One row for each id, in order; d is 0 for no ids in a space without dimension.

        Raises
        ------
        NotFoundError
            A chunk, its embedding or the space is not there.
        """
        return self._raw.get_embeddings(self.name, strings("chunk_ids", chunk_ids), string("space", space))

    def delete_embeddings(self, chunk_ids: Sequence[str], *, space: str = "default") -> int:
        """Delete the embeddings of chunks in one space; the chunks stay. Returns how many there were."""
        (found,) = self._raw.write([writes.delete_embeddings(self.name, chunk_ids, space)])
        return int(found)

    def update_metadata(
        self,
        metadata: Mapping[str, Any],
        *,
        chunk_ids: Sequence[str] | None = None,
        document_ids: Sequence[str] | None = None,
        where: Filter | None = None,
        mode: Literal["merge", "replace"] = "merge",
    ) -> int:
        """Change the metadata of chunks and documents.

        Parameters
        ----------
        metadata : Mapping[str, Any]
        chunk_ids, document_ids : Sequence[str], optional
            Whose metadata changes.
        where : Filter, optional
            Alone it names the chunks that match; with ids it narrows them.
        mode : {"merge", "replace"}
            Other keys stay, or go. A nested object is set whole either way.

        Returns
        -------
        int
            How many were changed.

        Raises
        ------
        NotFoundError
            A chunk or a document is not there; nothing was changed.
        FilterError
            The filter is not well formed.
        """
        write = writes.update_metadata(self.name, metadata, chunk_ids, document_ids, where, mode)
        (found,) = self._raw.write([write])
        return int(found)

    def delete(
        self,
        ids: Sequence[str] | None = None,
        *,
        document_ids: Sequence[str] | None = None,
        uris: Sequence[str] | None = None,
        where: Filter | None = None,
    ) -> int:
        """Delete chunks and documents. A document goes with its last chunk.

        Parameters
        ----------
        ids : Sequence[str], optional
            Of chunks.
        document_ids, uris : Sequence[str], optional
            Of documents.
        where : Filter, optional
            Alone it names the chunks that match; with the others it narrows them.

        Returns
        -------
        int
            How many it found. What is not there counts for nothing and is no error.

        Raises
        ------
        TypeError
            Without any argument; `clear` deletes everything.
        FilterError
            The filter is not well formed.
        """
        (found,) = self._raw.write([writes.delete(self.name, ids, document_ids, uris, where)])
        return int(found)

    def forget(
        self,
        document_ids: Sequence[str] | None = None,
        *,
        where: Filter | None = None,
        progress: Progress = False,
    ) -> ForgetReport:
        """Delete documents so that no file of the store holds anything of them any more, and prove it.

        They are deleted in one transaction, with their chunks, embeddings, relations and what the embedding cache has
        of their texts. Then indexes beside the file go, the text index of the collection and the whole file are written
        anew, and the write-ahead log is emptied. Then all files are searched, byte by byte, for pieces of what was
        deleted that no other content has. What stays is the id and the uri, for peers. See the guide to deletion.

        It takes the disk of `Store.vacuum`, and two to three times its time. Others read and write meanwhile.

        Parameters
        ----------
        document_ids : Sequence[str], optional
            Of documents. What is not there counts for nothing. With an empty list, what earlier calls left is removed.
        where : Filter, optional
            Alone it names the documents of which a chunk matches; with ids it narrows them.
        progress : bool or callable
            True shows a bar; a callable gets (done, total) on this thread, and what it raises ends the call. The
            documents are deleted by then or not at all.

        Returns
        -------
        ForgetReport
            With what was found, which is nothing as a rule.

        Raises
        ------
        TypeError
            Without ids and filter; ``where={}`` means every document.
        FilterError
            The filter is not well formed.
        LockedError
            A reader kept an old state of the file for longer than the timeout, or another process wrote or built an
            index for as long. The documents are deleted; another call goes on.
        StoreFullError
            There is no room to write the file anew. The documents are deleted; another call goes on.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     people = store.create_collection("people")
        ...     _ = people.add_texts(["Ada likes cats.", "Bob likes dogs."], ids=["ada", "bob"])
        ...     report = people.forget(["ada"])
        ...     report.documents, report.ok, people.count()
        (1, True, 1)
        """
        if document_ids is None and where is None:
            raise TypeError("forget takes document_ids or where; where={} means every document")
        ids = None if document_ids is None else strings("document_ids", document_ids)
        condition = mapping_or_none("where", where)
        with reporting(progress, "forget") as report:
            return ForgetReport._of(forget(self._raw, self.name, ids, condition, report))

    def set_tokenizer(self, tokenizer: str, *, progress: Progress = False) -> None:
        """Index all texts anew with another tokenizer, as one transaction.

        Searches go on with the old one until then, in this process and in others. The same tokenizer changes nothing.

        Parameters
        ----------
        tokenizer : str
            As in `Store.create_collection`.
        progress : bool or callable
            True shows a bar; a callable gets (done, total) chunks on this thread, and what it raises cancels.

        Raises
        ------
        ValueError
            SQLite has no such tokenizer; nothing was changed.
        """
        with reporting(progress, "index") as report:
            self._raw.write([Write.set_tokenizer(self.name, string("tokenizer", tokenizer))], report)

    def expire(self) -> int:
        """Remove documents and chunks whose `expires_at` has come, and say how many.

        They are not there for any call from that moment on, whether this was called or not: their ids and uris are
        free, and no search finds them. This gives their space back, as `Store.optimize` does for all collections. A
        document goes with its own end, and not with that of its last chunk.

        Returns
        -------
        int
            Documents, and chunks of documents that stay.
        """
        return int(self._raw.write([Write.expire(self.name)])[0])

    def clear(self) -> None:
        """Delete every document; the collection and its spaces stay."""
        self._raw.write([Write.clear(self.name)])

    # reading

    @overload
    def get(self, ids: str) -> Chunk | None: ...  # type: ignore[overload-overlap]
    @overload
    def get(self, ids: Sequence[str]) -> list[Chunk | None]: ...
    def get(self, ids: str | Sequence[str]) -> Chunk | list[Chunk | None] | None:
        """Read chunks by id: one for a str, a list for many; None stands where there is none."""
        if isinstance(ids, str):
            (row,) = self._raw.get(self.name, [ids])
            return None if row is None else Chunk._stored(row)
        rows = self._raw.get(self.name, strings("ids", ids))
        return [None if row is None else Chunk._stored(row) for row in rows]

    def get_document(
        self, id: str | None = None, *, uri: str | None = None, content_hash: str | None = None
    ) -> Document | None:
        """Read a document, without its chunks, by one of three keys; None where there is none.

        Of several with the same content it is the oldest.
        """
        keys = [("id", id), ("uri", uri), ("content_hash", content_hash)]
        given = [(kind, string(kind, key)) for kind, key in keys if key is not None]
        if len(given) != 1:
            raise TypeError("get_document takes one of id, uri and content_hash")
        row = self._raw.get_document(self.name, *given[0])
        return None if row is None else Document._stored(row)

    def list_documents(
        self, where: Filter | None = None, *, limit: int = 100, after: str | None = None, offset: int = 0
    ) -> list[Document]:
        """Read documents without their chunks, newest first.

        Parameters
        ----------
        where : Filter, optional
            Documents of which a chunk matches.
        limit : int
        after : str, optional
            The id of the last document of the page before; it is quicker than `offset`.
        offset : int
            Documents to pass over.
        """
        limit, offset = count("limit", limit), count("offset", offset)
        filter = mapping_or_none("where", where)
        rows = self._raw.list_documents(self.name, filter, limit, optional("after", after), offset)
        return [Document._stored(row) for row in rows]

    def get_chunks(self, document_id: str) -> list[Chunk]:
        """Read the chunks of a document, by index; none for a document that is not there."""
        rows = self._raw.get_chunks(self.name, string("document_id", document_id))
        return [Chunk._stored(row) for row in rows]

    def get_chunk_by_index(self, document_id: str, index: int) -> Chunk | None:
        """Read one chunk of a document by its place, from 0."""
        row = self._raw.get_chunk_by_index(self.name, string("document_id", document_id), count("index", index))
        return None if row is None else Chunk._stored(row)

    def neighbors(self, chunk_id: str, before: int = 1, after: int = 1) -> list[Chunk]:
        """Read a chunk with those before and after it in its document, by index; none for a chunk that is not there."""
        name = string("chunk_id", chunk_id)
        rows = self._raw.neighbors(self.name, name, count("before", before), count("after", after))
        return [Chunk._stored(row) for row in rows]

    def count(self, where: Filter | None = None) -> int:
        """Count chunks, or those that match."""
        return self._raw.count(self.name, mapping_or_none("where", where))

    def count_documents(self, where: Filter | None = None) -> int:
        """Count documents, or those of which a chunk matches."""
        return self._raw.count_documents(self.name, mapping_or_none("where", where))

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, chunk_id: object) -> bool:
        if not isinstance(chunk_id, str) or not chunk_id:
            return False
        try:
            (row,) = self._raw.get(self.name, [chunk_id])
        except ValueError:
            # No id could be that.
            return False
        return row is not None

    # indexes of metadata

    def create_index(self, field: str, *, progress: Progress = False) -> None:
        """Index a metadata field that filters use often, as one transaction. One that has an index keeps it.

        Filters by equality, order, membership and existence then ask the index; `$like`, `$ilike` and `$contains` still
        read the metadata. Every write keeps the index true, at the price of a row per chunk and value.

        Parameters
        ----------
        field : str
            A key, or several with dots between them: "author.name". Columns need no index.
        progress : bool or callable
            True shows a bar; a callable gets (done, total) chunks on this thread, and what it raises cancels.

        Raises
        ------
        ValueError
            No filter could ask for that field.
        """
        with reporting(progress, "index") as report:
            self._raw.write([Write.create_index(self.name, string("field", field))], report)

    def drop_index(self, field: str) -> None:
        """Drop the index of a metadata field; filters go on to read the metadata.

        Raises
        ------
        NotFoundError
            There is no such index.
        """
        self._raw.write([Write.drop_index(self.name, string("field", field))])

    # embedding spaces

    def create_space(
        self, name: str, *, dimension: int | None = None, metric: Metric = "cosine", model: str | None = None
    ) -> None:
        """Create an embedding space: another model over the same chunks.

        Parameters
        ----------
        name : str
        dimension : int, optional
            At most 8,192; without it, that of the first embeddings.
        metric : {"cosine", "l2", "ip"}
        model : str, optional
            Name of the embedding model.

        Raises
        ------
        ConflictError
            There is a space of that name.
        """
        size = None if dimension is None else count("dimension", dimension, 1)
        metric_name, model_name = string("metric", metric), optional("model", model)
        self._raw.write([Write.create_space(self.name, string("name", name), size, metric_name, model_name)])

    def list_spaces(self) -> list[SpaceInfo]:
        """List the embedding spaces, "default" first."""
        return list(self.info.spaces)

    def delete_space(self, name: str) -> None:
        """Delete an embedding space with its embeddings. The default space stays.

        Raises
        ------
        NotFoundError
            There is no such space.
        """
        self._raw.write([Write.delete_space(self.name, string("name", name))])


def _shifted(report: Report | None, base: int, total: int) -> Report | None:
    """Reports of one part, as of the whole."""
    if report is None:
        return None
    return lambda done, part: report(base + done, max(total, base + part))
