"""What two stores that synced must have in common: all that they answer, and what they remember of names."""

import contextlib
import sqlite3
import sys
from pathlib import Path

import ragstore
from ragstore import _ragstore

# Rows that say the same on every replica, without rowids and collection ids.
REGISTERS = {
    "collections": "SELECT name, description, settings, tokenizer, created_at, hlc FROM collections",
    "spaces": "SELECT c.name, s.name, s.dimension, s.metric, s.model, t.hlc FROM spaces s"
    " JOIN collections c ON c.id = s.collection_id LEFT JOIN space_stamps t ON t.space_id = s.id",
    "documents": "SELECT c.name, d.uid, d.source_uri, d.content_hash, d.content_type, d.raw_content, d.metadata,"
    " d.created_at, d.updated_at, d.expires_at, d.hlc FROM documents d JOIN collections c ON c.id = d.collection_id",
    "chunks": "SELECT c.name, d.uid, k.uid, k.chunk_index, k.content, k.content_hash, k.token_count, k.char_start,"
    " k.char_end, k.byte_start, k.byte_end, k.line_start, k.line_end, k.metadata, k.expires_at FROM chunks k"
    " JOIN documents d ON d.id = k.document_id JOIN collections c ON c.id = k.collection_id",
    "claims": "SELECT d.uid, k.uid, q.uid FROM chunk_claims q JOIN chunks k ON k.id = q.chunk_id"
    " JOIN documents d ON d.id = k.document_id",
    "relations": "SELECT c.name, r.source, r.type, r.target, r.strength, r.metadata, r.created_at, r.hlc"
    " FROM relations r JOIN collections c ON c.id = r.collection_id",
    "waiting_relations": "SELECT c.name, r.source, r.type, r.target, r.strength, r.metadata, r.created_at, r.hlc"
    " FROM waiting_relations r JOIN named c ON c.id = r.collection_id",
    "state": "SELECT namespace, key, value, expires_at, updated_at, hlc FROM state WHERE local = 0",
    # One that a later row replaced says nothing any more.
    "tombstones": "SELECT c.name, t.entity, t.uid, t.hlc FROM tombstones t JOIN named c ON c.id = t.collection_id"
    " WHERE NOT EXISTS (SELECT 1 FROM documents d WHERE t.entity = 'document' AND d.collection_id = t.collection_id"
    " AND d.uid = t.uid AND d.hlc > t.hlc)",
    "ends": "SELECT entity, uid, hlc FROM tombstones WHERE collection_id = 0 AND (entity <> 'state' OR NOT EXISTS"
    " (SELECT 1 FROM state s WHERE json_array(s.namespace, s.key) = uid AND s.hlc > tombstones.hlc))",
    "uris": "SELECT c.name, t.uri, t.hlc FROM uri_tombstones t JOIN named c ON c.id = t.collection_id"
    " WHERE NOT EXISTS (SELECT 1 FROM documents d WHERE d.collection_id = t.collection_id AND d.source_uri = t.uri"
    " AND d.hlc > t.hlc)",
    "ended spaces": "SELECT c.name, t.name, t.hlc FROM space_tombstones t JOIN named c ON c.id = t.collection_id",
    "aliases": "SELECT c.name, a.uid, a.uri FROM aliases a JOIN named c ON c.id = a.collection_id",
}


def registers(path: Path) -> dict[str, list]:
    """The rows of a store that is closed."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TEMP VIEW named AS SELECT id, name FROM collections"
            " UNION ALL SELECT collection_id, name FROM past_collections"
        )
        return {name: sorted(connection.execute(text), key=repr) for name, text in REGISTERS.items()}


def answers(store: ragstore.Store, words: list[str]) -> dict:
    """What a store answers, in an order that does not depend on that of its rows."""
    found: dict = {"state": {}}
    for info in store.list_collections():
        collection = store[info.name]
        documents = {document.id: document for document in collection.list_documents(limit=1_000_000)}
        chunks = [chunk for id in sorted(documents) for chunk in collection.get_chunks(id)]
        vectors = {}
        for space in info.spaces:
            for chunk in chunks:
                with contextlib.suppress(ragstore.NotFoundError):
                    vectors[space.name, chunk.id] = collection.get_embeddings([chunk.id], space=space.name).tolist()
        named = (*documents, *(chunk.id for chunk in chunks))
        found[info.name] = {
            "info": (info.description, info.tokenizer, sorted(map(repr, info.spaces))),
            "documents": {id: repr(document) for id, document in documents.items()},
            "chunks": [repr(chunk) for chunk in chunks],
            "vectors": vectors,
            "relations": sorted(repr(relation) for id in named for relation in collection.relations(id)),
            "hits": {
                word: sorted((hit.id, round(hit.score, 5)) for hit in collection.keyword_search(word, 1000))
                for word in words
            },
        }
    for namespace in ("default", "other"):
        found["state"][namespace] = dict(store.state(namespace).items())
    return found


def equal(*stores: ragstore.Store) -> None:
    """They are equal, and sound; closes them."""
    found = [answers(store, ["cat", "dog", "bird"]) for store in stores]
    for store in stores:
        assert not store.check().problems
        store.close()
    rows = [registers(store.path) for store in stores]
    assert all(one == found[0] for one in found)
    assert all(one == rows[0] for one in rows)


@contextlib.contextmanager
def three_stores(folder: Path):
    """Stores on disk, each a replica of its own."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(ragstore.open(folder / f"{name}.db", durability="relaxed")) for name in "abc"]


@contextlib.contextmanager
def clock(seconds: float):
    """The clock of this process ahead by so much."""
    _ragstore._shift_clock(int(seconds * 1e6))
    try:
        yield
    finally:
        _ragstore._shift_clock(0)


def forget_file(path: Path) -> None:
    """The replica of a closed store is in no file that is known."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("DELETE FROM meta WHERE key = 'file'").rowcount == (sys.platform != "win32")
