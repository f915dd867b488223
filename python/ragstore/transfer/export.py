"""From a store to a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from io import BufferedWriter
from json.encoder import encode_basestring
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import _ragstore
from ..arguments import strings
from ..display import reporting
from ..document import moment
from ..logs import maintained
from ..tracing import span
from ..types import Progress
from .manifest import CollectionEntry, EmbeddingsEntry, FileEntry, LinesEntry, Manifest, SpaceEntry, create
from .target import made_whole

if TYPE_CHECKING:
    from ..rows import (
        CollectionRow,
        ExportedChunkRow,
        ExportedDocumentRow,
        ExportedEmbeddingsRow,
        ExportedRelationRow,
        ExportedStateRow,
        SpaceRow,
    )
    from ..store import Store

__all__ = ["ExportResult", "export"]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote.

    Attributes
    ----------
    collections, documents, chunks, embeddings, relations : int
    state : int
        Values, of all namespaces.
    """

    collections: int
    documents: int
    chunks: int
    embeddings: int
    relations: int
    state: int

    def to_dict(self) -> dict[str, int]:
        """The attributes by name."""
        return asdict(self)


class Writer(Protocol):
    """What takes the pieces of an export."""

    def collection(self, row: CollectionRow, indexes: list[str]) -> None:
        """Begin the next collection."""

    def page(self, documents: list[ExportedDocumentRow], embeddings: list[ExportedEmbeddingsRow]) -> None:
        """Take documents of it."""

    def relations(self, rows: list[ExportedRelationRow]) -> None:
        """Take relations of it, after its documents."""

    def state(self, rows: list[ExportedStateRow]) -> None:
        """Take state values, after all collections."""

    def finish(self) -> None:
        """All is there."""


def export(
    store: Store,
    path: str | os.PathLike[str],
    *,
    collections: Sequence[str] | None = None,
    plain: bool = False,
    progress: Progress = False,
) -> ExportResult:
    """Write a store as files that other tools read.

    All of it is one snapshot, also while others write; they do not wait, but SQLite's log grows until the export ends.
    The path appears when everything is on the disk. What was encrypted is not any more. It is content and no history:
    what was deleted, what peers know of each other and ids that merged are in a backup alone.

    Parameters
    ----------
    store : Store
    path : str or PathLike
        What is made: a folder with JSON Lines and NumPy arrays, which `import_` reads; nothing may be there yet.
    collections : sequence of str, optional
        By name, with their relations; all of them, and state, when not given.
    plain : bool
        One SQLite file instead, without virtual tables, which any tool opens and `import_` does not read.
    progress : bool or callable
        True shows a bar; a callable gets (done, total) documents on this thread, and what it raises ends the export.

    Returns
    -------
    ExportResult

    Raises
    ------
    CollectionNotFoundError
        A collection that was named is not there.
    FileExistsError
        There is something at the path.
    CorruptError
        The store is damaged.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import ragstore
    >>> with tempfile.TemporaryDirectory() as folder, ragstore.open() as store:
    ...     _ = store.create_collection("pets").add_texts(["Cats purr."], [[1.0, 0.0]])
    ...     path = pathlib.Path(folder, "out")
    ...     print(ragstore.export(store, path))
    ...     sorted(file.relative_to(path).as_posix() for file in path.rglob("*.*"))
    ExportResult(collections=1, documents=1, chunks=1, embeddings=1, relations=0, state=0)
    ['1/documents.jsonl', '1/embeddings-1.jsonl', '1/embeddings-1.npy', 'manifest.json']
    """
    names = None if collections is None else list(dict.fromkeys(strings("collections", collections)))
    target = Path(os.path.abspath(os.fspath(path)))  # noqa: PTH100  (a link at the path is what is refused)
    counts = dict.fromkeys(("collections", "documents", "chunks", "embeddings", "relations", "state"), 0)
    with (
        maintained("export", counts),
        span("export", counts),
        reporting(progress, "export") as report,
        made_whole(target) as place,
    ):
        total = 0
        if report is not None:
            wanted = [info.name for info in store.list_collections()] if names is None else names
            total = sum(store[name].count_documents() for name in wanted)
        with ExitStack() as stack:
            writer = _writer(place, stack, plain=plain)

            def begin(row: CollectionRow, indexes: list[str], documents: int, chunks: int) -> None:  # noqa: ARG001
                counts["collections"] += 1
                writer.collection(row, indexes)

            def page(documents: list[ExportedDocumentRow], embeddings: list[ExportedEmbeddingsRow]) -> None:
                writer.page(documents, embeddings)
                counts["documents"] += len(documents)
                counts["chunks"] += sum(len(document[9]) for document in documents)
                counts["embeddings"] += sum(len(rows) for _, rows in embeddings)
                if report is not None:
                    report(counts["documents"], max(total, counts["documents"]))

            def relations(rows: list[ExportedRelationRow]) -> None:
                writer.relations(rows)
                counts["relations"] += len(rows)

            def state(rows: list[ExportedStateRow]) -> None:
                writer.state(rows)
                counts["state"] += len(rows)

            store._raw.export(names, begin, page, relations, state)
            writer.finish()
    return ExportResult(**counts)


def _writer(place: Path, stack: ExitStack, *, plain: bool) -> Writer:
    if plain:
        # It loads Python's own SQLite, which nothing else here needs.
        from .plain import PlainWriter

        return PlainWriter(place, stack)
    return _FolderWriter(place, stack)


class _FolderWriter:
    """The folder that `import_` reads."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._stack = stack
        self._manifest = Manifest(_ragstore.__version__, datetime.now(UTC).isoformat(), [], None)
        self._open: _CollectionWriter | None = None
        self._state = _LinesWriter(folder, "state.jsonl", stack)

    def collection(self, row: CollectionRow, indexes: list[str]) -> None:
        self._end()
        number = len(self._manifest.collections) + 1
        self._open = _CollectionWriter(self._folder, number, row, indexes, self._stack)

    def page(self, documents: list[ExportedDocumentRow], embeddings: list[ExportedEmbeddingsRow]) -> None:
        if self._open is not None:
            self._open.page(documents, embeddings)

    def relations(self, rows: list[ExportedRelationRow]) -> None:
        if self._open is not None:
            self._open.relations.write(map(_relation, rows))

    def state(self, rows: list[ExportedStateRow]) -> None:
        self._state.write(map(_value, rows))

    def _end(self) -> None:
        if self._open is not None:
            self._manifest.collections.append(self._open.entry())
            self._open = None

    def finish(self) -> None:
        self._end()
        replace(self._manifest, state=self._state.entry()).write(self._folder)


class _LinesWriter:
    """A file that is made with its first line."""

    def __init__(self, folder: Path, file: str, stack: ExitStack) -> None:
        self._folder = folder
        self._file = file
        self._stack = stack
        self._opened: BufferedWriter | None = None
        self._count = 0

    def write(self, lines: Iterable[str]) -> None:
        if self._opened is None:
            self._opened = self._stack.enter_context(create(self._folder / self._file))
        written = list(lines)
        self._opened.write("".join(written).encode())
        self._count += len(written)

    def entry(self) -> LinesEntry | None:
        if self._opened is None:
            return None
        self._opened.close()
        return LinesEntry(FileEntry.of(self._folder, self._file), self._count)


class _CollectionWriter:
    def __init__(self, folder: Path, number: int, row: CollectionRow, indexes: list[str], stack: ExitStack) -> None:
        self._folder = folder
        self._row = row
        self._indexes = indexes
        self._file = f"{number}/documents.jsonl"
        (folder / str(number)).mkdir(mode=0o700)
        self._documents = stack.enter_context(create(folder / self._file))
        self._document_count = self._chunk_count = 0
        self.relations = _LinesWriter(folder, f"{number}/relations.jsonl", stack)
        spaces = row[5]
        self._spaces = [_SpaceWriter(folder, number, place, space, stack) for place, space in enumerate(spaces, 1)]

    def page(self, documents: list[ExportedDocumentRow], embeddings: list[ExportedEmbeddingsRow]) -> None:
        self._documents.write("".join(map(_line, documents)).encode())
        ids = [chunk[0] for document in documents for chunk in document[9]]
        self._document_count += len(documents)
        self._chunk_count += len(ids)
        for space, (given, rows) in zip(self._spaces, embeddings, strict=True):
            space.page([id for id, has in zip(ids, given, strict=True) if has], rows)

    def entry(self) -> CollectionEntry:
        name, description, settings, tokenizer, created_at, _ = self._row
        self._documents.close()
        return CollectionEntry(
            name,
            description,
            settings,
            tokenizer,
            _time(created_at),
            self._indexes,
            FileEntry.of(self._folder, self._file),
            self._document_count,
            self._chunk_count,
            [space.entry() for space in self._spaces],
            self.relations.entry(),
        )


class _SpaceWriter:
    """An array whose length is written when it is known."""

    def __init__(self, folder: Path, number: int, place: int, row: SpaceRow, stack: ExitStack) -> None:
        self._folder = folder
        self._row = row
        self._count = 0
        self._dimension = row[1]
        if self._dimension is not None:
            self._vectors_file = f"{number}/embeddings-{place}.npy"
            self._ids_file = f"{number}/embeddings-{place}.jsonl"
            self._vectors = stack.enter_context(create(folder / self._vectors_file))
            self._ids = stack.enter_context(create(folder / self._ids_file))
            self._vectors.write(_header(0, self._dimension))

    def page(self, ids: list[str], rows: NDArray[np.float32]) -> None:
        if ids:
            self._ids.write("".join(f"{encode_basestring(id)}\n" for id in ids).encode())
            self._vectors.write(rows.astype("<f4", copy=False).data)
            self._count += len(ids)

    def entry(self) -> SpaceEntry:
        name, dimension, metric, model = self._row
        embeddings = None
        if dimension is not None:
            self._vectors.seek(0)
            self._vectors.write(_header(self._count, dimension))
            self._vectors.close()
            self._ids.close()
            vectors, ids = FileEntry.of(self._folder, self._vectors_file), FileEntry.of(self._folder, self._ids_file)
            embeddings = EmbeddingsEntry(vectors, ids, self._count)
        return SpaceEntry(name, dimension, metric, model, embeddings)


def _header(rows: int, dimension: int) -> bytes:
    """The first 128 bytes of an array in NumPy's format 1.0, whatever the number of rows."""
    said = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}".encode()
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + said.ljust(117) + b"\n"


def _line(document: ExportedDocumentRow) -> str:
    id, uri, text, content_type, metadata, content_hash, created_at, updated_at, expires_at, chunks = document
    return (
        f'{{"id":{_json(id)},"uri":{_json(uri)},"text":{_json(text)},"content_type":{_json(content_type)},'
        f'"metadata":{metadata},"content_hash":"{content_hash}","created_at":{_json(_time(created_at))},'
        f'"updated_at":{_json(_time(updated_at))},"expires_at":{_json(_time(expires_at))},'
        f'"chunks":[{",".join(map(_chunk, chunks))}]}}\n'
    )


def _chunk(chunk: ExportedChunkRow) -> str:
    id, text, metadata, _, start, end, token_count, expires_at = chunk
    return (
        f'{{"id":{_json(id)},"text":{_json(text)},"start":{_json(start)},"end":{_json(end)},"metadata":{metadata},'
        f'"token_count":{_json(token_count)},"expires_at":{_json(_time(expires_at))}}}'
    )


def _relation(row: ExportedRelationRow) -> str:
    source, target, kind, strength, metadata, created_at = row
    return (
        f'{{"source":{_json(source)},"target":{_json(target)},"type":{_json(kind)},"strength":{strength!r},'
        f'"metadata":{metadata},"created_at":{_json(_time(created_at))}}}\n'
    )


def _value(row: ExportedStateRow) -> str:
    namespace, local, key, value, expires_at, updated_at = row
    return (
        f'{{"namespace":{_json(namespace)},"local":{"true" if local else "false"},"key":{_json(key)},"value":{value},'
        f'"expires_at":{_json(_time(expires_at))},"updated_at":{_json(_time(updated_at))}}}\n'
    )


def _json(value: str | int | None) -> Any:
    if isinstance(value, str):
        return encode_basestring(value)
    return "null" if value is None else value


def _time(micros: int | None) -> str | None:
    return None if micros is None else moment(micros).isoformat()
