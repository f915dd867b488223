from __future__ import annotations

import apsw
import sqlite_vec

from benchmarks.compare.system import System


class SqliteVec(System):
    title = "sqlite-vec"
    packages = ("sqlite-vec", "apsw")
    about = "vec0 with a metadata column and the text as an auxiliary column, through apsw"
    cannot = {"keyword": "vectors only", "hybrid": "vectors only", "both": "vectors only", "threads": "one connection"}

    def _connected(self, folder):
        self.connection = apsw.Connection(str(folder / "rows.db"))
        self.connection.enable_load_extension(True)  # noqa: FBT003
        self.connection.load_extension(sqlite_vec.loadable_path())
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA mmap_size=2147483648")

    def create(self, folder, how, *, dimension, text):
        self._connected(folder)
        self.connection.execute(
            f"CREATE VIRTUAL TABLE rows USING vec0(v float[{dimension}] distance_metric=cosine, n integer, +text text)"
        )

    def add(self, rows):
        with self.connection:
            self.connection.executemany(
                "INSERT INTO rows (rowid, v, n, text) VALUES (?, ?, ?, ?)",
                (
                    (row, vector.tobytes(), number, text)
                    for row, vector, number, text in zip(rows.ids, rows.vectors, rows.numbers, rows.texts, strict=True)
                ),
            )

    def open(self, folder, how):
        self._connected(folder)

    def close(self):
        self.connection.close()

    def vector(self, query, k, how, below=None):
        sql = "SELECT rowid, text FROM rows WHERE v MATCH ? AND k = ?" + ("" if below is None else " AND n < ?")
        values = (query.tobytes(), k) if below is None else (query.tobytes(), k, below)
        found = self.connection.execute(sql, values).fetchall()
        return [row for row, _ in found], [text for _, text in found]

    def exact(self, query, k):
        return self.vector(query, k, {})
