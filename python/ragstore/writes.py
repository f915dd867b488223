"""From the arguments of a writing call to a change, for a collection and for a transaction alike.

With `copy` the arrays are copied at once, so that the change can wait for its commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._ragstore import Write, new_id
from .arguments import mapping_or_none, string, strings
from .document import Chunk, Document
from .types import Filter, OnConflict
from .vectors import as_matrix

Documents = Document | Mapping[str, Any] | str | Iterable[Document | Mapping[str, Any] | str]

_FIELDS = frozenset({"text", "uri", "id", "metadata", "content_type", "chunks", "expires_at"})


def documents(given: Documents) -> list[Document]:
    """One document or many, as documents."""
    return list(iterate(given))


def iterate(given: Documents) -> Iterator[Document]:
    """As `documents`, one after the other."""
    if isinstance(given, (Document, str, Mapping)):
        yield document(given, "documents")
        return
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(
            f"documents is of type {type(given).__name__}; it must be a Document, a mapping, a str, or many of them"
        )
    for index, item in enumerate(given):
        yield item if type(item) is Document else document(item, f"documents[{index}]")


def document(item: object, place: str) -> Document:
    """One document."""
    if isinstance(item, Document):
        return item
    if isinstance(item, str):
        return Document(item)
    if isinstance(item, Mapping):
        for key in item:
            if key not in _FIELDS:
                raise TypeError(f"{place} has the key {key!r}; a document has {', '.join(sorted(_FIELDS))}")
        try:
            return Document(**item)
        except TypeError as error:
            raise TypeError(f"{place}: {error}") from None
    raise TypeError(f"{place} is of type {type(item).__name__}; it must be a Document, a mapping or a str")


def chunk_count(item: Document) -> int:
    """How many rows of embeddings a document takes."""
    return 1 if item.chunks is None else len(item.chunks)


def add(
    collection: str,
    items: list[Document],
    embeddings: NDArray[np.float32] | None,
    on_conflict: OnConflict,
    space: str,
    *,
    copy: bool,
    given: list[bool] | None = None,
) -> Write:
    """Documents; `given` says which of their chunks have a row, and None that each has."""
    policy, space = string("on_conflict", on_conflict), string("space", space)
    return Write.add(collection, items, embeddings, given, policy, space, copy)


class Texts:
    """The arguments of `add_texts`, checked against each other."""

    def __init__(
        self,
        texts: Sequence[str],
        ids: Sequence[str] | None,
        metadatas: Sequence[Mapping[str, Any]] | None,
        uris: Sequence[str] | None,
    ) -> None:
        self.texts = strings("texts", texts)
        self.ids = None if ids is None else strings("ids", ids)
        self.uris = None if uris is None else strings("uris", uris)
        if isinstance(metadatas, (str, bytes, Mapping)):
            raise TypeError(f"metadatas is of type {type(metadatas).__name__}; it must be a list of mappings")
        self.metadatas = None if metadatas is None else list(metadatas)
        lists: list[tuple[str, Sequence[object] | None]] = [
            ("ids", self.ids),
            ("metadatas", self.metadatas),
            ("uris", self.uris),
        ]
        for name, values in lists:
            if values is not None and len(values) != len(self.texts):
                raise ValueError(f"there are {len(self.texts)} texts and {len(values)} {name}; give one for each text")

    def documents(self) -> list[Document]:
        """The documents that `write` stores."""
        made = []
        for index, text in enumerate(self.texts):
            name = new_id() if self.ids is None else self.ids[index]
            metadata = None if self.metadatas is None else self.metadatas[index]
            uri = None if self.uris is None else self.uris[index]
            chunk = Chunk(id=name, metadata=metadata, start=0, end=len(text))
            made.append(Document(text, id=name, uri=uri, chunks=[chunk]))
        return made

    def write(self, collection: str, embeddings: ArrayLike | None, on_conflict: OnConflict, *, copy: bool) -> Write:
        """The change."""
        matrix = None if embeddings is None else as_matrix(embeddings)
        policy = string("on_conflict", on_conflict)
        return Write.add_texts(collection, self.texts, matrix, self.ids, self.metadatas, self.uris, policy, copy)


def chunk_list(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Chunks, many of them."""
    if isinstance(chunks, (str, bytes, Chunk, Mapping)) or not isinstance(chunks, Iterable):
        raise TypeError(f"chunks is of type {type(chunks).__name__}; it must be a list of Chunk")
    return list(chunks)


def add_chunks(
    collection: str,
    document_id: str,
    chunks: list[Chunk],
    embeddings: NDArray[np.float32] | None,
    *,
    copy: bool,
    given: list[bool] | None = None,
) -> Write:
    """Chunks of a document that is there."""
    return Write.add_chunks(collection, string("document_id", document_id), chunks, embeddings, given, copy)


def set_embeddings(
    collection: str, chunk_ids: Sequence[str], embeddings: ArrayLike, space: str, *, copy: bool
) -> Write | None:
    """Embeddings of chunks; None where there are none."""
    ids = strings("chunk_ids", chunk_ids)
    return Write.set_embeddings(collection, ids, as_matrix(embeddings), string("space", space), copy)


def delete_embeddings(collection: str, chunk_ids: Sequence[str], space: str) -> Write:
    """Embeddings that go."""
    return Write.delete_embeddings(collection, strings("chunk_ids", chunk_ids), string("space", space))


def update_metadata(
    collection: str,
    metadata: Mapping[str, Any],
    chunk_ids: Sequence[str] | None,
    document_ids: Sequence[str] | None,
    where: Filter | None,
    mode: Literal["merge", "replace"],
) -> Write:
    """Metadata of chunks and documents."""
    if chunk_ids is None and document_ids is None and where is None:
        raise TypeError("update_metadata takes chunk_ids, document_ids or where; where={} means every chunk")
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata is of type {type(metadata).__name__}; it must be a mapping")
    return Write.update_metadata(
        collection,
        metadata,
        None if chunk_ids is None else strings("chunk_ids", chunk_ids),
        None if document_ids is None else strings("document_ids", document_ids),
        mapping_or_none("where", where),
        string("mode", mode),
    )


def delete(
    collection: str,
    ids: Sequence[str] | None,
    document_ids: Sequence[str] | None,
    uris: Sequence[str] | None,
    where: Filter | None,
) -> Write:
    """Chunks and documents that go."""
    if ids is None and document_ids is None and uris is None and where is None:
        raise TypeError("delete takes ids, document_ids, uris or where; clear() deletes everything")
    return Write.delete(
        collection,
        None if ids is None else strings("ids", ids),
        None if document_ids is None else strings("document_ids", document_ids),
        None if uris is None else strings("uris", uris),
        mapping_or_none("where", where),
    )


def chunk_texts(item: Document) -> list[str | None]:
    """What is embedded of each chunk; None for one without text."""
    return [item.text] if item.chunks is None else texts_of(item.chunks, item.text)


def texts_of(chunks: Sequence[Chunk], whole: str | None) -> list[str | None]:
    """As `chunk_texts`, for chunks of a document with the text `whole`."""
    return [_chunk_text(chunk, whole) for chunk in chunks]


def _chunk_text(chunk: Chunk, whole: str | None) -> str | None:
    if chunk.text is not None:
        return chunk.text
    if whole is None or chunk.start is None or chunk.end is None:
        return None
    return whole[chunk.start : chunk.end]


__all__ = [
    "Documents",
    "Texts",
    "add",
    "add_chunks",
    "chunk_count",
    "chunk_list",
    "chunk_texts",
    "delete",
    "delete_embeddings",
    "document",
    "documents",
    "iterate",
    "set_embeddings",
    "texts_of",
    "update_metadata",
]
