"""Documents and chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rows import ChunkRow, DocumentRow

__all__ = ["Chunk", "Document"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(micros: int) -> datetime:
    """The aware datetime of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=micros)


def _maybe(micros: int | None) -> datetime | None:
    return None if micros is None else moment(micros)


def _mapping(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is of type {type(value).__name__}; it must be a mapping")
    return dict(value)


class _Record:
    """Equality and representation by slots."""

    __slots__: tuple[str, ...] = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        parts = []
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None or value == {}:
                continue
            if isinstance(value, str) and len(value) > 60:
                value = value[:59] + "…"
            elif isinstance(value, list):
                value = f"[{len(value)} chunks]"
                parts.append(f"{name}={value}")
                continue
            parts.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


class Chunk(_Record):
    """A part of a document: what is embedded, indexed and found.

    Parameters
    ----------
    text : str, optional
        Without it, and with `start` and `end`, the part of the document's text that they name. A chunk may have no
        text at all.
    id : str, optional
        Unique in its collection, at most 512 bytes; a ULID when not given.
    metadata : Mapping[str, Any], optional
        JSON values, at most 1 MiB. A filter looks here before it looks at the document's.
    start, end : int, optional
        Characters of the document's text, from the first to before the last.
    token_count : int, optional
        Kept for the caller.
    expires_at : datetime, optional
        Aware. No part of the content: what is stored already with the same content keeps its own.

    Attributes
    ----------
    document_id, uri : str or None
        Of its document. These and the ones below are set on what a store returns, and None elsewhere.
    index : int or None
        Its place among the chunks of its document, from 0; gaps stay where chunks were deleted.
    byte_start, byte_end : int or None
        As `start` and `end`, in bytes of UTF-8.
    line_start, line_end : int or None
        The first and the last line it stands on, from 1.

    Examples
    --------
    >>> Chunk("The cat sat.", start=0, end=12)
    Chunk(text='The cat sat.', start=0, end=12)
    """

    __slots__ = (  # noqa: RUF023  (the order of the representation)
        "id",
        "text",
        "start",
        "end",
        "metadata",
        "document_id",
        "uri",
        "index",
        "byte_start",
        "byte_end",
        "line_start",
        "line_end",
        "token_count",
        "expires_at",
    )

    id: str | None
    text: str | None
    metadata: dict[str, Any]
    document_id: str | None
    uri: str | None
    index: int | None
    start: int | None
    end: int | None
    byte_start: int | None
    byte_end: int | None
    line_start: int | None
    line_end: int | None
    token_count: int | None
    expires_at: datetime | None

    def __init__(
        self,
        text: str | None = None,
        *,
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        start: int | None = None,
        end: int | None = None,
        token_count: int | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        self.text = text
        self.id = id
        self.metadata = {} if metadata is None else _mapping("metadata", metadata)
        self.start = start
        self.end = end
        self.token_count = token_count
        self.expires_at = expires_at
        self.document_id = self.uri = self.index = None
        self.byte_start = self.byte_end = self.line_start = self.line_end = None

    @classmethod
    def _stored(cls, row: ChunkRow) -> Chunk:
        chunk = cls.__new__(cls)
        (
            chunk.id,
            chunk.text,
            chunk.metadata,
            chunk.document_id,
            chunk.uri,
            chunk.index,
            chunk.start,
            chunk.end,
            chunk.byte_start,
            chunk.byte_end,
            chunk.line_start,
            chunk.line_end,
            chunk.token_count,
            expires_at,
        ) = row
        chunk.expires_at = _maybe(expires_at)
        return chunk


class Document(_Record):
    """A document: what is added, replaced and deleted as one.

    Parameters
    ----------
    text : str, optional
        At most 16 MiB of UTF-8. A document may have none.
    uri : str, optional
        Where it comes from; unique in its collection.
    id : str, optional
        Unique in its collection, at most 512 bytes; a ULID when not given.
    metadata : Mapping[str, Any], optional
        JSON values, at most 1 MiB; datetimes and dates are kept in ISO 8601, NumPy scalars as Python's.
    content_type : str
        Kept for the caller, and for filters.
    chunks : Sequence[Chunk], optional
        Without it the text is one chunk: nothing is split that is not asked to be. See `ragstore.split`.
    expires_at : datetime, optional
        Aware. No part of the content: what is stored already with the same content keeps its own.

    Attributes
    ----------
    created_at, updated_at : datetime or None
        Set on what a store returns, and None elsewhere.
    content_hash : str or None
        BLAKE3 over text, content type, metadata and chunks, 64 hexadecimal digits; set on what a store returns. The
        `chunks` of a document that a store returns are None; `Collection.get_chunks` reads them.

    Examples
    --------
    >>> Document("The cat sat.", uri="cats.txt", metadata={"year": 2026})
    Document(text='The cat sat.', uri='cats.txt', metadata={'year': 2026}, content_type='text/plain')
    """

    __slots__ = (  # noqa: RUF023  (the order of the representation)
        "id",
        "text",
        "uri",
        "metadata",
        "content_type",
        "chunks",
        "content_hash",
        "created_at",
        "updated_at",
        "expires_at",
    )

    id: str | None
    uri: str | None
    text: str | None
    content_type: str
    metadata: dict[str, Any]
    chunks: list[Chunk] | None
    content_hash: str | None
    created_at: datetime | None
    updated_at: datetime | None
    expires_at: datetime | None

    def __init__(
        self,
        text: str | None = None,
        *,
        uri: str | None = None,
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        content_type: str = "text/plain",
        chunks: Sequence[Chunk] | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        self.text = text
        self.uri = uri
        self.id = id
        self.metadata = {} if metadata is None else _mapping("metadata", metadata)
        self.content_type = content_type
        self.chunks = None if chunks is None else list(chunks)
        self.expires_at = expires_at
        self.content_hash = self.created_at = self.updated_at = None

    @classmethod
    def _stored(cls, row: DocumentRow) -> Document:
        document = cls.__new__(cls)
        (
            document.id,
            document.uri,
            document.text,
            document.content_type,
            document.metadata,
            document.content_hash,
            created_at,
            updated_at,
            expires_at,
        ) = row
        document.chunks = None
        document.created_at = moment(created_at)
        document.updated_at = moment(updated_at)
        document.expires_at = _maybe(expires_at)
        return document
