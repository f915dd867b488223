"""The tuples that the private module returns. Times are microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .types import Metric

if TYPE_CHECKING:
    from ._ragstore import Hit

__all__ = [
    "AddRow",
    "ChangeRow",
    "ChunkRow",
    "CollectionRow",
    "ConflictRow",
    "DocumentRow",
    "ExportedChunkRow",
    "ExportedDocumentRow",
    "ExportedEmbeddingsRow",
    "ExportedRelationRow",
    "ExportedStateRow",
    "HitsRow",
    "NewRelationRow",
    "NewStateRow",
    "ProblemRow",
    "RelationRow",
    "RepairRow",
    "SpaceRow",
    "SyncRow",
]

# id, text, metadata, document_id, uri, index, start, end, byte_start, byte_end, line_start, line_end, token_count,
# expires_at
ChunkRow: TypeAlias = tuple[
    str,
    str | None,
    dict[str, Any],
    str,
    str | None,
    int,
    int | None,
    int | None,
    int | None,
    int | None,
    int | None,
    int | None,
    int | None,
    int | None,
]

# id, uri, text, content_type, metadata, content_hash, created_at, updated_at, expires_at
DocumentRow: TypeAlias = tuple[str, str | None, str | None, str, dict[str, Any], str, int, int, int | None]

# name, dimension, metric, model
SpaceRow: TypeAlias = tuple[str, int | None, Metric, str | None]

# name, description, settings, tokenizer, created_at, spaces
CollectionRow: TypeAlias = tuple[str, str | None, dict[str, Any], str, int, list[SpaceRow]]

# chunk_ids, document_ids, added, replaced, unchanged, skipped
AddRow: TypeAlias = tuple[list[str], list[str], int, int, int, int]

# hits, exact, complete, took_ms, plan
HitsRow: TypeAlias = tuple["list[Hit]", bool, bool, float, dict[str, Any] | None]

# source, target, type, strength, metadata, created_at
RelationRow: TypeAlias = tuple[str, str, str, float, dict[str, Any], int]

# id, text, metadata as JSON on one line, index, start, end, token_count, expires_at
ExportedChunkRow: TypeAlias = tuple[str, str | None, str, int, int | None, int | None, int | None, int | None]

# id, uri, text, content_type, metadata as JSON on one line, content_hash, created_at, updated_at, expires_at, chunks
ExportedDocumentRow: TypeAlias = tuple[
    str, str | None, str | None, str, str, str, int, int, int | None, list[ExportedChunkRow]
]

# for each chunk of the page whether it has an embedding, and a row for each that has
ExportedEmbeddingsRow: TypeAlias = tuple[list[bool], NDArray[np.float32]]

# source, target, type, strength, metadata as JSON on one line, created_at
ExportedRelationRow: TypeAlias = tuple[str, str, str, float, str, int]

# namespace, local, key, value as JSON on one line, expires_at, updated_at
ExportedStateRow: TypeAlias = tuple[str, bool, str, str, int | None, int]

# source, target, type, strength, metadata
NewRelationRow: TypeAlias = tuple[str, str, str, float, Mapping[str, Any]]

# namespace, local, key, value, expires_at
NewStateRow: TypeAlias = tuple[str, bool, str, Any, datetime | None]

# area, what, repairable
ProblemRow: TypeAlias = tuple[str, str, bool]

# rebuilt, salvaged, lost, problems, path
RepairRow: TypeAlias = tuple[list[str], list[tuple[str, int]], list[str], list[ProblemRow], str | None]

# documents, chunks, embeddings, relations, cached embeddings; traces, shared, files, bytes; file, kind and count of
# what remains; ids of no document; files that are kept; seconds
ForgetRow: TypeAlias = tuple[
    tuple[int, int, int, int, int], tuple[int, int, int, int], list[tuple[str, str, int]], list[str], list[str], float
]

# seq, entity, op, collection, id, milliseconds since the epoch, replica
ChangeRow: TypeAlias = tuple[
    int,
    Literal["collection", "document", "relation", "state"],
    Literal["put", "delete", "clear"],
    str | None,
    str | None,
    int,
    str,
]

# peer, sent, received, applied, conflicts
SyncRow: TypeAlias = tuple[str, int, int, int, int]

# found_at, collection, entity, id, whether the own change was kept, milliseconds and replica of winner and loser
ConflictRow: TypeAlias = tuple[
    int,
    str | None,
    Literal["collection", "document", "relation", "state"],
    str,
    bool,
    tuple[int, str],
    tuple[int, str],
]
