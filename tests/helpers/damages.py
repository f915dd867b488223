"""A store with something of everything, and ways to damage it."""

import sqlite3

import numpy as np
import ragstore
from ragstore import Chunk, Document

DIMENSION = 4


def fill(path) -> None:
    with ragstore.open(path) as store:
        notes = store.create_collection("notes", dimension=DIMENSION)
        notes.create_index("n")
        rows = np.random.default_rng(1).standard_normal((300, DIMENSION), np.float32)
        documents = [
            Document(
                f"first words {n}. second words {n}.",
                id=f"d{n}",
                uri=f"file:{n}",
                metadata={"n": n},
                chunks=[Chunk(id=f"d{n}-0", start=0, end=14), Chunk(id=f"d{n}-1", start=14, end=20)],
            )
            for n in range(150)
        ]
        notes.add(documents, rows)
        notes.delete(document_ids=["d0", "d1"])
        store.create_collection("other", tokenizer="trigram").add_texts(["some text"])


def damage(path, *statements: str) -> None:
    """Another SQLite writes what the library would not."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("ignore_check_constraints = ON", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    for statement in statements:
        connection.execute(statement)
    connection.close()


# What is done, whether a quick check sees it, the area, words of the sentence, and whether repair() rebuilds it.
DAMAGES = [
    ("DELETE FROM fts_1_1_docsize WHERE id = 30", True, "text", "chunks row 30 is not in fts_1_1", True),
    ("INSERT INTO fts_1_1_docsize VALUES (9999, x'01')", True, "text", "row 9999, which is not in the coll", True),
    ("UPDATE fts_1_1_docsize SET sz = x'07' WHERE id = 30", False, "text", "counts other words in chunks row 30", True),
    ("UPDATE fts_1_1_data SET block = x'0101' WHERE id = 1", False, "text", "its totals", True),
    ("DELETE FROM fts_1_1_data WHERE id > 10", False, "text", "ended early", True),
    ("DELETE FROM fts_1_1_data WHERE id > 10", True, "file", "fts5", False),
    ("DROP TABLE fts_1_1_docsize", True, "schema", "fts_1_1 or a part of it is not there", True),
    ("DROP VIEW fts_src_2", True, "schema", "fts_src_2 is not there", True),
    ("DROP INDEX chunks_expires_at", True, "schema", "chunks_expires_at is not there", True),
    ("DROP TABLE sync_log", True, "schema", "sync_log is not there", False),
    (
        "CREATE VIEW fts_src_9 AS SELECT id, content FROM chunks WHERE +collection_id = 9",
        True,
        "schema",
        "fts_src_9",
        True,
    ),
    ("UPDATE chunks SET content = 'lies' WHERE id = 30", False, "chunks", 'row 30 ("d14-1"): its content hash', False),
    ("UPDATE chunks SET content = 'lies' WHERE id = 30", False, "text", "other words for chunks row 30", True),
    ("UPDATE documents SET raw_content = 'lies' WHERE id = 30", False, "documents", "its content hash", False),
    ("UPDATE chunks SET byte_end = 19 WHERE id = 30", False, "chunks", "its place in the text", True),
    ("UPDATE chunks SET char_end = 99 WHERE id = 30", False, "chunks", "its place in the text", False),
    ("UPDATE chunks SET char_start = -1 WHERE id = 30", False, "chunks", "is no place", False),
    ("UPDATE chunks SET metadata = '[1]' WHERE id = 30", False, "chunks", "metadata is no JSON object", False),
    ("UPDATE documents SET metadata = '{' WHERE id = 30", False, "documents", "metadata is no JSON object", False),
    ("UPDATE documents SET created_at = 1 << 62 WHERE id = 30", True, "documents", "a time is out of bounds", False),
    ("DELETE FROM documents WHERE id = 30", True, "chunks", "belongs to a row of documents that is not there", False),
    ("UPDATE chunks SET collection_id = 2 WHERE id = 30", True, "chunks", "in another collection than its", False),
    ("UPDATE vec_1_1_chunks SET validity = zeroblob(16) WHERE chunk_id = 1", True, "vectors", "is not marked", True),
    (
        "UPDATE vec_1_1_chunks SET validity = zeroblob(9) WHERE chunk_id = 1",
        True,
        "vectors",
        "bitmap of a wrong size",
        False,
    ),
    (
        "UPDATE vec_1_1_chunks SET rowids = zeroblob(1024) WHERE chunk_id = 1",
        True,
        "vectors",
        "has a vector of chunks row 0",
        True,
    ),
    ("UPDATE vec_1_1_chunks SET size = 7 WHERE chunk_id = 1", True, "vectors", "number of places", False),
    (
        "UPDATE vec_1_1_vector_chunks00 SET vectors = x'00' WHERE _rowid_ = 1",
        True,
        "vectors",
        "vectors of a wrong size",
        False,
    ),
    ("UPDATE vec_1_1_vector_chunks00 SET vectors = zeroblob(2048)", False, "vectors", "not finite, or is zero", False),
    ("DELETE FROM vec_1_1_vector_chunks00 WHERE _rowid_ = 1", True, "vectors", "block 1 has no vectors", False),
    ("DELETE FROM vec_1_1_rowids WHERE rowid = 30", True, "vectors", "blocks that do not name them", True),
    (
        "UPDATE vec_1_1_rowids SET chunk_offset = 3 WHERE rowid = 30",
        True,
        "vectors",
        "said to be where it is not",
        True,
    ),
    ("UPDATE spaces SET dimension = 5 WHERE id = 1", True, "vectors", "was made for dimension 4", False),
    (
        "UPDATE spaces SET vec_generation = 3 WHERE id = 1",
        True,
        "schema",
        "vec_1_3 or a part of it is not there",
        False,
    ),
    ("DELETE FROM spaces WHERE id = 1", True, "collections", "its first space is not", False),
    ("UPDATE collections SET settings = '[]' WHERE id = 2", True, "collections", "no JSON object", False),
    ("UPDATE collections SET tokenizer = 'none' WHERE id = 2", True, "collections", "which FTS5 does not have", False),
    ("UPDATE field_values SET value = 7 WHERE chunk_id = 30 AND type = 2", False, "fields", "of chunks row 30", True),
    ("DELETE FROM field_values WHERE chunk_id = 30", False, "fields", "of chunks row 30", True),
    ("UPDATE field_values SET chunk_id = 9999 WHERE chunk_id = 30", True, "fields", "chunks that are not there", True),
    ("UPDATE meta SET value = zeroblob(24) WHERE key = 'hlc'", True, "feed", "a later stamp than the clock", True),
    ("UPDATE meta SET value = x'00' WHERE key = 'hlc'", True, "feed", "1 bytes instead of 24", True),
    ("UPDATE meta SET value = 3 WHERE key = 'embedding_cache_bytes'", True, "embedding_cache", "counts 3 bytes", True),
    (
        "UPDATE sqlite_sequence SET seq = 3 WHERE name = 'chunks'",
        True,
        "feed",
        "number of chunks for a second time",
        True,
    ),
    ("UPDATE changes SET row_id = 9999 WHERE seq = 5", True, "feed", "a number that was never given", True),
    (
        (
            "INSERT INTO relations (collection_id, source, target, type, strength, metadata, created_at, hlc)"
            " VALUES (1, 'd3', 'd4', 'c', 3, '{', 0, zeroblob(24))"
        ),
        True,
        "relations",
        "holds no JSON object",
        False,
    ),
    (
        (
            "INSERT INTO relations (collection_id, source, target, type, strength, metadata, created_at, hlc)"
            " VALUES (1, 'd3', 'd0', 'c', 0.5, '{}', 0, zeroblob(24))"
        ),
        True,
        "relations",
        "what is no chunk and no document",
        True,
    ),
    (
        "INSERT INTO state (namespace, local, key, value, updated_at, hlc) VALUES ('n', 0, 'k', '{', 0, zeroblob(24))",
        True,
        "state",
        "holds no JSON",
        False,
    ),
    (
        (
            "INSERT INTO embedding_cache (model, content_hash, dimension, created_at, embedding)"
            " VALUES ('m', zeroblob(32), 2, 0, x'0000c07f0000c07f')"
        ),
        False,
        "embedding_cache",
        "holds no vector",
        True,
    ),
]
