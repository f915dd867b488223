"""Files as older versions made them."""

import sqlite3
from pathlib import Path

TABLES = [
    *("uri_tombstones", "space_tombstones", "aliases", "chunk_claims", "waiting_relations", "replicas"),
    *("sync_marks", "sync_parts", "sync_conflicts", "sync_horizons", "space_stamps", "past_collections"),
    "embedding_cache",
]


def first_format(path: Path) -> None:
    """Take what later formats brought out of a store that is closed."""
    connection = sqlite3.connect(path)
    connection.executescript(
        "".join(f"DROP TABLE {table};" for table in TABLES) + "DROP INDEX documents_hlc;"
        "DELETE FROM meta WHERE key IN ('embedding_cache_bytes', 'sync_acknowledged');"
        "DELETE FROM migrations WHERE version > 1; PRAGMA user_version = 1"
    )
    connection.close()
