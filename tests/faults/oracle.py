"""Judges a file that no store of this process has open: by SQLite, FTS5, the rows of vec0 and `ragstore.check`."""

import sqlite3
import struct
from pathlib import Path

import ragstore

ROWS_OF_A_BLOCK = 128


def check_file(path: Path) -> None:
    """Raises AssertionError with everything that is wrong with a file."""
    connection = sqlite3.connect(path)
    try:
        found = problems(connection)
    finally:
        connection.close()
    # After the others: they need none of the library's code.
    found += [f"check: {problem.area}: {problem.what}" for problem in ragstore.check(path).problems]
    assert not found, found


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with a file, in words; nothing where it is sound."""

    def column(text: str, *values) -> list:
        return [row[0] for row in connection.execute(text, values)]

    found = [f"integrity_check: {line}" for line in column("PRAGMA integrity_check") if line != "ok"]
    found += [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
    living = {"fts_src_"}
    for collection, generation in connection.execute("SELECT id, fts_generation FROM collections").fetchall():
        table = f"fts_{collection}_{generation}"
        living.add(table)
        chunks = column("SELECT id FROM chunks WHERE collection_id = ? ORDER BY id", collection)
        if column(f"SELECT id FROM {table}_docsize ORDER BY id") != chunks:
            found.append(f"{table} and the chunks of its collection are not the same rows")
        try:
            connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError as error:
            found.append(f"{table}: {error}")
        connection.rollback()
        spaces = "SELECT id, vec_generation, dimension FROM spaces WHERE collection_id = ? AND vec_generation > 0"
        for space, vec_generation, dimension in connection.execute(spaces, [collection]).fetchall():
            table = f"vec_{space}_{vec_generation}"
            living.add(table)
            found += vec0(connection, table, dimension, set(chunks))
    numbered = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name GLOB '[fv][te][sc]_*'"
    for name in column(numbered):
        if not any(name == table or name.startswith(f"{table}_") for table in living) and not name.startswith(
            "fts_src_"
        ):
            found.append(f"{name} belongs to nothing")
    for what, text in {
        "values of fields": "SELECT count(*) FROM field_values WHERE chunk_id NOT IN (SELECT id FROM chunks)",
        "chunks without a document": "SELECT count(*) FROM chunks WHERE document_id NOT IN (SELECT id FROM documents)",
        "changes after the clock": "SELECT count(*) FROM changes "
        "WHERE hlc > (SELECT value FROM meta WHERE key = 'hlc')",
        "bytes of the embedding cache": "SELECT (SELECT value FROM meta WHERE key = 'embedding_cache_bytes') <> "
        "(SELECT total(length(embedding)) FROM embedding_cache)",
    }.items():
        if column(text) != [0]:
            found.append(f"{what}: {column(text)}")
    return found


def vec0(connection: sqlite3.Connection, table: str, dimension: int, chunks: set[int]) -> list[str]:
    """The shadow tables of vec0, which SQLite's own check does not look into."""
    found = []
    places = {}
    for rowid, block, offset in connection.execute(f"SELECT rowid, chunk_id, chunk_offset FROM {table}_rowids"):
        if (block, offset) in places:
            found.append(f"{table}: two rows at {block}, {offset}")
        places[block, offset] = rowid
    if strays := set(places.values()) - chunks:
        found.append(f"{table}: rows without a chunk: {sorted(strays)[:5]}")
    valid = {}
    for block, size, validity, rowids in connection.execute(
        f"SELECT chunk_id, size, validity, rowids FROM {table}_chunks"
    ):
        if (size, len(validity), len(rowids)) != (ROWS_OF_A_BLOCK, ROWS_OF_A_BLOCK // 8, ROWS_OF_A_BLOCK * 8):
            found.append(f"{table}: block {block} has sizes {size}, {len(validity)}, {len(rowids)}")
            continue
        numbers = struct.unpack(f"<{ROWS_OF_A_BLOCK}q", rowids)
        valid |= {
            (block, offset): numbers[offset]
            for offset in range(ROWS_OF_A_BLOCK)
            if validity[offset // 8] >> offset % 8 & 1
        }
    if valid != places:
        found.append(f"{table}: validity bits and rows differ at {sorted(valid.items() ^ places.items())[:5]}")
    lengths = dict(connection.execute(f"SELECT rowid, length(vectors) FROM {table}_vector_chunks00"))
    if set(lengths.values()) - {ROWS_OF_A_BLOCK * dimension * 4} or {block for block, _ in valid} - lengths.keys():
        found.append(f"{table}: blocks of vectors of {set(lengths.values())} bytes")
    return found
