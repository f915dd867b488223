"""Documents and embeddings of an export that may be anything, a thousand at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .. import writes
from ..document import Chunk, Document
from ..exceptions import CorruptError, InvalidVectorError, LimitError
from .manifest import CollectionEntry, EmbeddingsEntry, SpaceEntry, parse_json

if TYPE_CHECKING:
    from .. import _ragstore

__all__ = ["Batch", "fields", "lines", "on_line", "placed", "read_collection"]

# Bytes of one line, which is at most one document: sixteen of the longest texts.
_LINE = 256 << 20
# What makes a batch full.
_DOCUMENTS = 1024
_CHUNKS = 4096
_BATCH = 8 << 20

_DOCUMENT_KEYS = frozenset(
    (
        "id",
        "uri",
        "text",
        "content_type",
        "metadata",
        "content_hash",
        "created_at",
        "updated_at",
        "expires_at",
        "chunks",
    )
)
_CHUNK_KEYS = frozenset(("id", "text", "start", "end", "metadata", "token_count", "expires_at"))
# Known of stored documents alone.
_SET_BY_STORES = frozenset(("content_hash", "created_at", "updated_at"))


@dataclass
class BatchEmbeddings:
    """The embeddings that the chunks of a batch have in one space."""

    space: str
    given: list[bool]
    rows: NDArray[np.float32]


@dataclass
class Batch:
    """Documents that are stored together."""

    file: str
    documents: list[Document] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    embeddings: list[BatchEmbeddings] = field(default_factory=list)

    @property
    def chunk_ids(self) -> list[str | None]:
        """Of all chunks; None where a document or a chunk does not say."""
        ids: list[str | None] = []
        for document in self.documents:
            ids.extend([None] if document.chunks is None else [chunk.id for chunk in document.chunks])
        return ids

    def check(self, raw: _ragstore.Store, entry: CollectionEntry) -> None:
        """Ask a store, in which the collection is empty, whether it would take the documents."""
        try:
            raw.kept(entry.name, self.documents, "error")
        except (TypeError, ValueError):
            # Which one, on which line?
            for document, line in zip(self.documents, self.lines, strict=True):
                with placed(f"{self.file}:{line}"):
                    raw.kept(entry.name, [document], "error")
            raise

    def ids(self) -> Iterator[str]:
        """Of documents and chunks, as far as they say."""
        for document in self.documents:
            if document.id is not None:
                yield document.id
        yield from (id for id in self.chunk_ids if id is not None)


@contextmanager
def on_line(file: str, numbers: list[int], *kinds: type[Exception]) -> Iterator[None]:
    """Name the line of what is refused, which the error counts from the first of these."""
    try:
        yield
    except kinds as error:
        found = re.match(r"(?:document|relation|state) (\d+): (.*)", str(error), re.DOTALL)
        if found is None:
            raise
        raise type(error)(f"{file}:{numbers[int(found[1])]}: {found[2]}") from error


@contextmanager
def placed(place: str) -> Iterator[None]:
    """What is refused of an export is refused as such, with its place."""
    try:
        yield
    except LimitError as error:
        raise LimitError(f"{place}: {error}") from error
    except (TypeError, ValueError) as error:
        raise CorruptError(f"{place}: {error}") from error


def read_collection(folder: Path, entry: CollectionEntry) -> Iterator[Batch]:
    """The documents of a collection, with their embeddings.

    Raises
    ------
    CorruptError, LimitError
        Naming the file and the line.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(entry.documents.open(folder))
        readers = [_Embeddings(folder, space, stack) for space in entry.spaces]
        chunks = count = 0
        for batch in _batches(entry.documents.file, opened):
            ids = batch.chunk_ids
            batch.embeddings = [reader.read(ids) for reader in readers]
            count += len(batch.documents)
            chunks += len(ids)
            yield batch
        file = entry.documents.file
        for what, found, said in (("documents", count, entry.count), ("chunks", chunks, entry.chunks)):
            if found != said:
                raise CorruptError(f"{file}: it has {found} {what}, and {said} by the manifest; export again")
        for reader in readers:
            reader.finish(file)


def _batches(file: str, opened: BufferedReader) -> Iterator[Batch]:
    batch, chunks, size = Batch(file), 0, 0
    for number, line in lines(file, opened):
        document = _document(line, f"{file}:{number}")
        batch.documents.append(document)
        batch.lines.append(number)
        chunks += writes.chunk_count(document)
        size += len(line)
        if len(batch.documents) >= _DOCUMENTS or chunks >= _CHUNKS or size >= _BATCH:
            yield batch
            batch, chunks, size = Batch(file), 0, 0
    if batch.documents:
        yield batch


def lines(file: str, opened: BufferedReader) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers, from 1."""
    number = 0
    while line := opened.readline(_LINE + 1):
        number += 1
        if len(line) > _LINE:
            raise LimitError(f"{file}:{number}: the line has more than {_LINE} bytes")
        yield number, line


def _document(line: bytes, place: str) -> Document:
    found = fields(parse_json(line, place), _DOCUMENT_KEYS, place)
    chunks = found.pop("chunks", None)
    if chunks is not None:
        if not isinstance(chunks, list):
            raise CorruptError(f"{place}: chunks is of type {type(chunks).__name__}; it is a list")
        chunks = [_chunk(chunk, f"{place}: chunks[{index}]") for index, chunk in enumerate(chunks)]
    with placed(place):
        return Document(**{key: value for key, value in found.items() if key not in _SET_BY_STORES}, chunks=chunks)


def _chunk(given: object, place: str) -> Chunk:
    found = fields(given, _CHUNK_KEYS, place)
    with placed(place):
        return Chunk(**found)


def fields(given: object, known: frozenset[str], place: str) -> dict[str, Any]:
    """An object of these keys, of which `expires_at` is made a moment."""
    if not isinstance(given, dict):
        raise CorruptError(f"{place}: it is of type {type(given).__name__}; it is an object")
    for key in given:
        if key not in known:
            raise CorruptError(f"{place}: it has the key {key!r}; the keys are {', '.join(sorted(known))}")
    if given.get("expires_at") is not None:
        given["expires_at"] = _moment(given["expires_at"], place)
    if "metadata" in given and not isinstance(given["metadata"], dict):
        raise CorruptError(f"{place}: metadata is of type {type(given['metadata']).__name__}; it is an object")
    return given


def _moment(given: object, place: str) -> datetime:
    with placed(f"{place}: expires_at"):
        if not isinstance(given, str):
            raise TypeError(f"it is of type {type(given).__name__}; it is a string")
        return datetime.fromisoformat(given)


class _Embeddings:
    """The rows of one space, in step with the chunks they are for.

    Nothing is mapped: a file that shrinks while it is read is an error here, where a mapped one would end the process.
    """

    def __init__(self, folder: Path, space: SpaceEntry, stack: ExitStack) -> None:
        self._space = space
        self._next: str | None = None
        self._line = self._row = 0
        self._dimension = space.dimension or 0
        self._ids: Iterator[tuple[int, bytes]] = iter(())
        if space.embeddings is not None:
            self._file = space.embeddings.vectors.file
            self._vectors = stack.enter_context(space.embeddings.vectors.open(folder))
            self._count = _rows_of(self._vectors, space.embeddings, self._dimension)
            self._ids_file = space.embeddings.ids.file
            self._ids = lines(self._ids_file, stack.enter_context(space.embeddings.ids.open(folder)))
            self._advance()

    def _advance(self) -> None:
        """To the id of the next row."""
        found = next(self._ids, None)
        if found is None:
            self._next = None
            return
        self._line, line = found
        given = parse_json(line, f"{self._ids_file}:{self._line}")
        if not isinstance(given, str):
            raise CorruptError(f"{self._ids_file}:{self._line}: it is of type {type(given).__name__}; it is a string")
        self._next = given

    def read(self, ids: list[str | None]) -> BatchEmbeddings:
        """Those of the next chunks."""
        given = []
        for id in ids:
            has = self._next is not None and id == self._next
            given.append(has)
            if has:
                self._advance()
        return BatchEmbeddings(self._space.name, given, self._rows(sum(given)))

    def _rows(self, count: int) -> NDArray[np.float32]:
        rows = np.empty((count, self._dimension), "<f4")
        if count == 0:
            return rows.astype(np.float32)
        if self._row + count > self._count:
            raise CorruptError(f"{self._ids_file}:{self._line}: it has more ids than {self._file} has rows")
        data = rows.reshape(-1).view(np.uint8).data
        read = 0
        while read < len(data):
            got = self._vectors.readinto(data[read:])
            if not got:
                raise CorruptError(f"{self._file}: it ends in row {self._row}; export again")
            read += got
        rows = rows.astype(np.float32, copy=False)
        self._check(rows)
        self._row += count
        return rows

    def _check(self, rows: NDArray[np.float32]) -> None:
        """What a store refuses."""
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", rows, rows)
        bad = ~np.isfinite(rows).all(axis=1)
        if self._space.metric != "l2":
            bad |= ~np.isfinite(squares)
        if self._space.metric == "cosine":
            bad |= squares < np.finfo(np.float32).tiny
        if bad.any():
            row = self._row + int(bad.argmax())
            raise InvalidVectorError(
                f"{self._file}: row {row} is not finite, or has no rank by {self._space.metric}; nothing was stored"
            )

    def finish(self, documents: str) -> None:
        """All rows belonged to a chunk."""
        if self._next is not None:
            raise CorruptError(
                f"{self._ids_file}:{self._line}: it names chunk {self._next!r}, which {documents} does not have after "
                "the one before; ids are in the order of the chunks"
            )
        if self._space.embeddings is not None and self._row != self._count:
            raise CorruptError(f"{self._file}: it has {self._count} rows, and {self._ids_file} {self._row} ids")


def _rows_of(opened: BufferedReader, entry: EmbeddingsEntry, dimension: int) -> int:
    """How many there are by the header, which is NumPy's own to read."""
    file = entry.vectors.file
    with placed(file):
        version = npy.read_magic(opened)
        if version not in {(1, 0), (2, 0)}:
            raise ValueError(f"its format is {version}; it is 1.0 or 2.0")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, kind = read(opened)
    size = os.fstat(opened.fileno()).st_size - opened.tell()
    if kind.str != "<f4" or fortran_order or shape != (entry.count, dimension):
        raise CorruptError(
            f"{file}: it holds {kind.str} of shape {shape}{' in Fortran order' if fortran_order else ''}; that of an "
            f"export is <f4 of shape {(entry.count, dimension)} in C order"
        )
    if size != entry.count * dimension * 4:
        raise CorruptError(f"{file}: its rows have {size} bytes, and {entry.count * dimension * 4} by its header")
    return entry.count
