"""From a store to one SQLite file that every tool opens: no virtual tables, no functions, foreign keys declared."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _ragstore
from ..document import moment

if TYPE_CHECKING:
    from ..rows import (
        CollectionRow,
        ExportedDocumentRow,
        ExportedEmbeddingsRow,
        ExportedRelationRow,
        ExportedStateRow,
    )

__all__ = ["PlainWriter"]

_SCHEMA = """
CREATE TABLE readme (line INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE collections (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    settings TEXT NOT NULL,
    tokenizer TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY,
    collection_id INTEGER NOT NULL REFERENCES collections (id),
    name TEXT NOT NULL,
    dimension INTEGER,
    metric TEXT NOT NULL,
    model TEXT,
    UNIQUE (collection_id, name)
);
CREATE TABLE indexes (
    collection_id INTEGER NOT NULL REFERENCES collections (id),
    field TEXT NOT NULL,
    PRIMARY KEY (collection_id, field)
);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    collection_id INTEGER NOT NULL REFERENCES collections (id),
    document_id TEXT NOT NULL,
    uri TEXT,
    content_type TEXT NOT NULL,
    text TEXT,
    metadata TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    expires_at TEXT
);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents (id),
    chunk_id TEXT NOT NULL,
    chunk_index INTEGER NOT NULL,
    text TEXT,
    char_start INTEGER,
    char_end INTEGER,
    metadata TEXT NOT NULL,
    token_count INTEGER,
    expires_at TEXT
);
CREATE TABLE embeddings (
    chunk INTEGER NOT NULL REFERENCES chunks (id),
    space INTEGER NOT NULL REFERENCES spaces (id),
    vector BLOB NOT NULL,
    PRIMARY KEY (chunk, space)
);
CREATE TABLE relations (
    id INTEGER PRIMARY KEY,
    collection_id INTEGER NOT NULL REFERENCES collections (id),
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    type TEXT NOT NULL,
    strength REAL NOT NULL,
    metadata TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE TABLE state (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    local INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    expires_at TEXT,
    updated_at TEXT NOT NULL
);
"""

# Made when all rows are there, which is quicker.
_INDEXES = """
CREATE UNIQUE INDEX documents_document_id ON documents (collection_id, document_id);
CREATE INDEX chunks_document ON chunks (document);
CREATE INDEX chunks_chunk_id ON chunks (chunk_id);
CREATE INDEX embeddings_space ON embeddings (space);
CREATE UNIQUE INDEX relations_name ON relations (collection_id, source, type, target);
CREATE INDEX relations_target ON relations (collection_id, target);
CREATE UNIQUE INDEX state_key ON state (namespace, local, key);
"""

_README = (
    "An export of a ragstore store, version {version}: documents, their chunks, embeddings, relations and state.",
    "A document has chunks (chunks.document), a chunk has at most one embedding in each space of its collection.",
    "embeddings.vector is spaces.dimension float32, little-endian; in Python: numpy.frombuffer(vector, '<f4').",
    "relations.source and relations.target are ids of documents or of chunks of the collection; strength is 0 to 1.",
    "state.value is any JSON value; a local namespace is of one file and apart from the one of its name that is not.",
    "metadata and settings are JSON objects. Times are ISO 8601 in UTC.",
    "char_start and char_end count characters of documents.text, from the first to before the last.",
)


class PlainWriter:
    """One file, another than the store's: Python's own SQLite may write it."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        # Its folder is private to this export and goes with it, so a crash leaves nothing to recover.
        self._conn = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
        self._conn.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
        self._conn.execute("BEGIN")
        lines = [(line.format(version=_ragstore.__version__),) for line in _README]
        self._conn.executemany("INSERT INTO readme (text) VALUES (?)", lines)
        self._collection = 0
        self._document = 0
        self._chunk = 0
        self._spaces: list[int] = []

    def collection(self, row: CollectionRow, indexes: list[str]) -> None:
        """Begin the next collection."""
        name, description, settings, tokenizer, created_at, spaces = row
        self._collection = self._insert(
            "INSERT INTO collections (name, description, settings, tokenizer, created_at) VALUES (?, ?, ?, ?, ?)",
            (name, description, json.dumps(settings, ensure_ascii=False), tokenizer, _time(created_at)),
        )
        self._spaces = [
            self._insert(
                "INSERT INTO spaces (collection_id, name, dimension, metric, model) VALUES (?, ?, ?, ?, ?)",
                (self._collection, *space),
            )
            for space in spaces
        ]
        fields = [(self._collection, field) for field in indexes]
        self._conn.executemany("INSERT INTO indexes (collection_id, field) VALUES (?, ?)", fields)

    def page(self, documents: list[ExportedDocumentRow], embeddings: list[ExportedEmbeddingsRow]) -> None:
        """Take documents of it."""
        document_rows: list[tuple[Any, ...]] = []
        chunk_rows: list[tuple[Any, ...]] = []
        first = self._chunk + 1
        for document in documents:
            id, uri, text, content_type, metadata, content_hash, created_at, updated_at, expires_at, chunks = document
            self._document += 1
            times = _time(created_at), _time(updated_at), _time(expires_at)
            named = self._document, self._collection, id, uri, content_type, text, metadata, content_hash
            document_rows.append((*named, *times))
            for chunk in chunks:
                uid, content, its_metadata, index, start, end, token_count, its_end = chunk
                self._chunk += 1
                named_chunk = self._chunk, self._document, uid, index, content, start, end
                chunk_rows.append((*named_chunk, its_metadata, token_count, _time(its_end)))
        self._conn.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", document_rows)
        self._conn.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", chunk_rows)
        for space, (given, rows) in zip(self._spaces, embeddings, strict=True):
            chunks_with = (first + place for place, has in enumerate(given) if has)
            vectors = (vector.tobytes() for vector in rows.astype("<f4", copy=False))
            self._conn.executemany(
                "INSERT INTO embeddings VALUES (?, ?, ?)",
                ((chunk, space, vector) for chunk, vector in zip(chunks_with, vectors, strict=True)),
            )

    def relations(self, rows: list[ExportedRelationRow]) -> None:
        """Take relations of it."""
        self._conn.executemany(
            "INSERT INTO relations (collection_id, source, target, type, strength, metadata, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((self._collection, *row, _time(created_at)) for *row, created_at in rows),
        )

    def state(self, rows: list[ExportedStateRow]) -> None:
        """Take state values."""
        self._conn.executemany(
            "INSERT INTO state (namespace, local, key, value, expires_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)",
            ((*row, _time(expires_at), _time(updated_at)) for *row, expires_at, updated_at in rows),
        )

    def finish(self) -> None:
        """All is there."""
        self._conn.execute("COMMIT")
        self._conn.executescript(f"{_INDEXES} PRAGMA optimize")

    def _insert(self, text: str, values: tuple[Any, ...]) -> int:
        rowid = self._conn.execute(text, values).lastrowid
        return 0 if rowid is None else rowid


def _time(micros: int | None) -> str | None:
    return None if micros is None else moment(micros).isoformat()
