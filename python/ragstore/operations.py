"""What a store says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Health", "IndexStats", "Reason", "StoreStats"]


@dataclass(frozen=True, slots=True)
class IndexStats:
    """How an index that answers searches sooner fares, in this process.

    Attributes
    ----------
    collection : str
    space : str or None
        Of an index of vectors; None for one of texts.
    change : int or None
        The change as of which its snapshot is; None where this process has no snapshot.
    rows, tail, dead : int
        Rows of the snapshot, rows that came after it, and rows of both that are gone, as of the last search.
    file_bytes, memory_bytes : int
        Of the snapshot on the disk, and of memory, without what is mapped from the disk.
    building : tuple of int or None
        Rows that a build under way has dealt with, and those it is about.
    problem : str or None
        Why there is none, or none that is new.
    """

    collection: str
    space: str | None
    change: int | None
    rows: int
    tail: int
    dead: int
    file_bytes: int
    memory_bytes: int
    building: tuple[int, int] | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds, what its file is made of, and how its connections fare.

    Attributes
    ----------
    collections, documents, chunks, embeddings : int
        How many; embeddings of every space. What expired and was not removed yet is counted.
    file_bytes, log_bytes : int
        Of the file, and of the write-ahead log beside it, on the disk.
    free_bytes : int
        Of pages in the file that hold nothing; `Store.optimize` gives them back.
    vector_bytes, text_index_bytes : int
        Of the blocks of vectors and of the text indexes, with what deletes left in them.
    field_index_bytes : int
        Of the indexes that `Collection.create_index` made.
    embedding_cache_bytes : int
        Of the vectors in the cache of embedders.
    cache_hits, cache_misses : int
        Pages that connections found in their memory, and pages they read, since the store was opened. What a
        connection counts while it works is added when it is done.
    queued_writes : int
        Calls that wait for the writer.
    readers_open, readers_limit, reader_waits : int
        Read connections that are open and that may be, and how often a read waited for one.
    checkpoints : int
        How often this store moved its log into the file.
    memory_limit : int or None
        What `open` was given. Half of it is for the page caches of connections, the other half for the next two.
    index_memory_bytes, filter_memory_bytes : int
        What indexes hold of it, with the states that are kept for searches that began earlier, and what the rows take
        that filters let through, which are kept until something is written. Files that are mapped do not count.
    indexes : tuple of IndexStats
        What answers searches sooner.
    """

    collections: int
    documents: int
    chunks: int
    embeddings: int
    file_bytes: int
    log_bytes: int
    free_bytes: int
    vector_bytes: int
    text_index_bytes: int
    field_index_bytes: int
    embedding_cache_bytes: int
    cache_hits: int
    cache_misses: int
    queued_writes: int
    readers_open: int
    readers_limit: int
    reader_waits: int
    checkpoints: int
    memory_limit: int | None
    index_memory_bytes: int
    filter_memory_bytes: int
    indexes: tuple[IndexStats, ...]

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name, as JSON takes them."""
        return asdict(self)

    def __repr__(self) -> str:
        sizes = {"file": self.file_bytes, "log": self.log_bytes, "free": self.free_bytes}
        counts = f"{self.collections:,} collections, {self.documents:,} documents, {self.chunks:,} chunks"
        rest = ", ".join(f"{name} {_size(size)}" for name, size in sizes.items())
        return f"StoreStats({counts}, {self.embeddings:,} embeddings; {rest})"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a store is not healthy.

    Attributes
    ----------
    what : str
        What was found.
    what_to_do : str
        What helps.
    """

    what: str
    what_to_do: str

    def __iter__(self) -> Iterator[str]:
        """What, and what to do: ``for what, what_to_do in health.reasons``."""
        return iter((self.what, self.what_to_do))


@dataclass(frozen=True, slots=True)
class Health:
    """How a store fares.

    Attributes
    ----------
    status : {"healthy", "degraded", "unhealthy"}
        Degraded: it works, and something wants to be looked at. Unhealthy: some of it does not work.
    reasons : list of Reason
        Empty where it is healthy.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    reasons: list[Reason]

    @classmethod
    def _of(cls, row: tuple[str, list[tuple[str, str]]]) -> Health:
        status, reasons = row
        return cls(status, [Reason(*reason) for reason in reasons])  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Status and reasons, as JSON takes them."""
        return asdict(self)

    def __repr__(self) -> str:
        return "\n".join([f"Health({self.status})", *(f"  {what}: {to_do}" for what, to_do in self.reasons)])


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
