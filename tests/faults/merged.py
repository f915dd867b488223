"""What stores that exchanged everything must hold: a plain model of every write that one of them acknowledged.

A write is an event with the stamp that its store gave it. The later one has the name: a document lives while its last
write is the last event of its id, and of its uri where it has one, and is later than the last end of its collection.
A uri ends with a deletion of the document that has it, and with a write that gives this another one. Nothing else
decides, so neither who synced with whom nor when.

Documents are told with uri, text, metadata and the texts of their chunks, and so are state values. Ids of chunks,
embeddings, spaces and relations are not: whether they are there depends on each other's ends.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

DOCUMENTS = """
SELECT c.name, d.uid, d.source_uri, d.raw_content, d.metadata, d.hlc, d.id
FROM documents d JOIN collections c ON c.id = d.collection_id"""
CHUNKS = """
SELECT coalesce(k.content, substr(d.raw_content, k.char_start + 1, k.char_end - k.char_start))
FROM chunks k JOIN documents d ON d.id = k.document_id WHERE d.id = ? ORDER BY k.chunk_index"""
ENDS = """
SELECT c.name, t.entity, t.uid, t.hlc FROM tombstones t JOIN (
  SELECT id, name FROM collections UNION SELECT collection_id, name FROM past_collections UNION SELECT 0, ''
) c ON c.id = t.collection_id WHERE t.entity IN ('collection', 'document', 'state')"""
STATE = "SELECT namespace, key, value, hlc FROM state WHERE local = 0"

# A collection and an id of it, or a namespace of state and a key.
Name = tuple[str, str]


@dataclass(frozen=True)
class Content:
    """What a document says."""

    uri: str | None
    text: str | None
    metadata: str
    chunks: tuple[str, ...]


@dataclass
class Stored:
    """What a store has, with stamps."""

    documents: dict[Name, tuple[Content, bytes]]
    state: dict[Name, tuple[object, bytes]]
    # Of collections, of documents and of state values.
    collections_ended: dict[str, bytes]
    documents_ended: dict[Name, bytes]
    state_ended: dict[Name, bytes]

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> "Stored":
        found = cls({}, {}, {}, {}, {})
        connection.execute("BEGIN")
        for collection, id, uri, text, metadata, stamp, row in connection.execute(DOCUMENTS).fetchall():
            chunks = tuple(chunk for (chunk,) in connection.execute(CHUNKS, [row]))
            found.documents[collection, id] = Content(uri, text, metadata, chunks), stamp
        for namespace, key, value, stamp in connection.execute(STATE):
            found.state[namespace, key] = json.loads(value), stamp
        for collection, entity, uid, stamp in connection.execute(ENDS):
            if entity == "document":
                found.documents_ended[collection, uid] = stamp
            elif entity == "collection":
                found.collections_ended[uid] = stamp
            else:
                found.state_ended[tuple(json.loads(uid))] = stamp
        connection.rollback()
        return found

    @classmethod
    def of(cls, path: Path) -> "Stored":
        """That of a store that is closed."""
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return cls.read(connection)

    def contents(self) -> dict[Name, Content]:
        return {name: content for name, (content, _) in self.documents.items()}

    def values(self) -> dict[Name, object]:
        return {name: value for name, (value, _) in self.state.items()}


@dataclass
class Merged:
    """Every event, and what is left of them."""

    # With nothing where the event was an end.
    documents: list[tuple[bytes, Name, Content | None]] = field(default_factory=list)
    state: list[tuple[bytes, Name, object]] = field(default_factory=list)
    # Collections and their uris.
    uris: list[tuple[bytes, Name]] = field(default_factory=list)
    ends: dict[str, bytes] = field(default_factory=dict)

    def take(self, before: Stored, after: Stored) -> None:
        """What one write of one store did."""
        self.documents += changed(before.documents, after.documents)
        self.documents += ((stamp, name, None) for stamp, name in ended(before.documents_ended, after.documents_ended))
        self.state += ((stamp, name, [value]) for stamp, name, value in changed(before.state, after.state))
        self.state += ((stamp, name, None) for stamp, name in ended(before.state_ended, after.state_ended))
        for name, (content, _) in before.documents.items():
            now, stamp = after.documents.get(name, (None, after.documents_ended.get(name, b"")))
            if content.uri is not None and (now is None or now.uri != content.uri):
                self.uris.append((stamp, (name[0], content.uri)))
        for name, stamp in after.collections_ended.items():
            self.ends[name] = max(self.ends.get(name, b""), stamp)

    def living(self) -> Iterable[tuple[bytes, Name, Content]]:
        events = [event for event in self.documents if event[0] > self.ends.get(event[1][0], b"")]
        last = latest((name, stamp) for stamp, name, _ in events)
        used = [((name[0], content.uri), stamp) for stamp, name, content in events if content is not None]
        uris = latest([*used, *((uri, stamp) for stamp, uri in self.uris)])
        return (
            (stamp, name, content)
            for stamp, name, content in events
            if content is not None
            and last[name] == stamp
            and (content.uri is None or uris[name[0], content.uri] == stamp)
        )

    def contents(self) -> dict[Name, Content]:
        return {name: content for _, name, content in self.living()}

    def living_values(self) -> Iterable[tuple[bytes, Name, object]]:
        last = latest((name, stamp) for stamp, name, _ in self.state)
        return ((stamp, name, value) for stamp, name, value in self.state if value is not None and last[name] == stamp)

    def values(self) -> dict[Name, object]:
        return {name: value[0] for _, name, value in self.living_values()}

    def check(self, stored: Stored) -> None:
        """A store holds what is left, no more and no less."""
        for what, expected, found in (
            ("documents", self.contents(), stored.contents()),
            ("state values", self.values(), stored.values()),
        ):
            missing = {name: value for name, value in expected.items() if name not in found}
            strange = {name: value for name, value in found.items() if name not in expected}
            assert not missing, f"{what} were acknowledged and are lost: {missing}"
            assert not strange, f"{what} that nobody left: {strange}"
            other = {name: (found[name], value) for name, value in expected.items() if found[name] != value}
            assert not other, f"{what} are other than what was written last: {other}"


def changed(before: dict, after: dict) -> Iterable[tuple[bytes, Name, object]]:
    """What has another stamp than before."""
    for name, (value, stamp) in after.items():
        if before.get(name, (None, b""))[1] != stamp:
            yield stamp, name, value


def ended(before: dict, after: dict) -> Iterable[tuple[bytes, Name]]:
    """What ended since."""
    return ((stamp, name) for name, stamp in after.items() if before.get(name) != stamp)


def latest(stamps: Iterable[tuple[object, bytes]]) -> dict[object, bytes]:
    """The last of each name."""
    found: dict[object, bytes] = {}
    for name, stamp in stamps:
        found[name] = max(found.get(name, b""), stamp)
    return found
