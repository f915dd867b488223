from __future__ import annotations

import re
import sqlite3

from benchmarks.compare.system import TEXT_ONLY, System


def expression(question: str) -> str:
    """The words of a question, joined by OR."""
    return " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"[^\W_]+", question.lower())))


class SQLite(System):
    title = "SQLite FTS5"
    about = "`porter unicode61`, words joined by OR, `ORDER BY rank LIMIT 10`, texts by rowid"
    cannot = {"vector": TEXT_ONLY, "exact": TEXT_ONLY, "hybrid": TEXT_ONLY, "both": TEXT_ONLY, "filter": TEXT_ONLY}

    @classmethod
    def versions(cls):
        return f"SQLite {sqlite3.sqlite_version}"

    def create(self, folder, how, *, dimension, text):
        self.open(folder, how)
        self.connection.executescript("""
            CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT);
            CREATE VIRTUAL TABLE words USING fts5(text, content=rows, content_rowid=id, tokenize='porter unicode61');
        """)

    def add(self, rows):
        pairs = list(zip(rows.ids, rows.texts, strict=True))
        with self.connection:
            self.connection.executemany("INSERT INTO rows VALUES (?, ?)", pairs)
            self.connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", pairs)

    def finish(self):
        with self.connection:
            self.connection.execute("INSERT INTO words (words) VALUES ('optimize')")

    def open(self, folder, how):
        self.connection = sqlite3.connect(folder / "rows.db", check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA mmap_size=1073741824")

    def close(self):
        self.connection.close()

    def keyword(self, text, k):
        found = self.connection.execute(
            "SELECT id, rows.text FROM (SELECT rowid, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?)"
            " AS best JOIN rows ON id = best.rowid ORDER BY best.rank, id",
            (expression(text), k),
        ).fetchall()
        return [row for row, _ in found], [text for _, text in found]

    def lookup(self, ids):
        marks = ",".join("?" * len(ids))
        found = self.connection.execute(f"SELECT id, text FROM rows WHERE id IN ({marks})", ids).fetchall()
        return [row for row, _ in found], [text for _, text in found]
