"""Files as older versions made them."""

import sqlite3
from pathlib import Path

TABLES = [
    *("uri_tombstones", "space_tombstones", "aliases", "chunk_claims", "waiting_relations", "replicas"),
    *("sync_marks", "sync_parts", "sync_conflicts", "sync_horizons", "space_stamps", "past_collections"),
    "embedding_cache",
]

# Those of the first format that a later one made anew.
REMADE = ("changes", "tombstones")
FIRST = Path(__file__).parents[2] / "sql" / "sqlite" / "migrations" / "0001_format_1.sql"


def first_format(path: Path) -> None:
    """Take what later formats brought out of a store that is closed."""
    text = FIRST.read_text(encoding="utf-8")
    connection = sqlite3.connect(path)
    for table in REMADE:
        made = text[text.index(f"CREATE TABLE {table} (") :].split(";", 1)[0]
        connection.executescript(
            f"ALTER TABLE {table} RENAME TO later; {made}; INSERT INTO {table} SELECT * FROM later; DROP TABLE later;"
        )
    connection.executescript(
        "".join(f"DROP TABLE {table};" for table in TABLES) + "DROP INDEX documents_hlc;"
        "DELETE FROM meta WHERE key IN ('embedding_cache_bytes', 'sync_acknowledged');"
        "DELETE FROM migrations WHERE version > 1; PRAGMA user_version = 1"
    )
    connection.close()
