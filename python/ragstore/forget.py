"""What `Collection.forget` did, and what it found afterwards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rows import ForgetRow

__all__ = ["ForgetReport", "Residue"]


@dataclass(frozen=True, slots=True)
class Residue:
    """Pieces of what was forgotten that a file still holds, and no content of the store.

    Attributes
    ----------
    file : str
        The file.
    kind : {"text", "metadata", "hash", "term", "vector", "code"}
        What they are pieces of. A hash is that of a content, a term an indexed word, a code a vector as an index
        quantises it.
    count : int
        Places where one is.
    """

    file: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What was forgotten. It is true where nothing of it was found afterwards.

    Attributes
    ----------
    documents, chunks, embeddings, relations, cached_embeddings : int
        How many were deleted; embeddings of every space.
    traces : int
        Pieces of texts, metadata, hashes, words, vectors and codes that were searched for.
    shared : int
        How many of them other content has, too: words that other texts have, and what was found and is in a row.
    searched_files, searched_bytes : int
        Files of the store, and their bytes.
    remains : tuple of Residue
        What was found. The documents are deleted all the same; call `Collection.forget` again.
    missing : tuple of str
        Ids that were given and name no document. Of what they may have named before nothing was searched for, unless
        an earlier call on this store object deleted it and could not end.
    kept : tuple of str
        Files beside the store that were not searched and may hold what was forgotten, as a backup that an upgrade made.
    took : float
        Seconds.
    """

    documents: int
    chunks: int
    embeddings: int
    relations: int
    cached_embeddings: int
    traces: int
    shared: int
    searched_files: int
    searched_bytes: int
    remains: tuple[Residue, ...]
    missing: tuple[str, ...]
    kept: tuple[str, ...]
    took: float

    @classmethod
    def _of(cls, row: ForgetRow) -> ForgetReport:
        deleted, searched, remains, missing, kept, took = row
        residues = tuple(Residue(*residue) for residue in remains)
        return cls(*deleted, *searched, residues, tuple(missing), tuple(kept), took)

    @property
    def ok(self) -> bool:
        """Whether nothing of what was searched for was found. It says nothing of `missing`."""
        return not self.remains

    def to_dict(self) -> dict[str, Any]:
        """`ok` and the rest of it, as JSON takes them."""
        return {"ok": self.ok, **asdict(self)}

    def __bool__(self) -> bool:
        return self.ok
