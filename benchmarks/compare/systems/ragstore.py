from __future__ import annotations

import ragstore

from benchmarks.compare.system import System


class Ragstore(System):
    title = "ragstore"
    packages = ("ragstore",)
    about = (
        "the recall that is asked for as `recall=`, which is 0.99 by default, or more; `exact=True` for exact search; "
        "`optimize()` after a bulk load"
    )
    settings = tuple({"recall": recall} for recall in (0.98, 0.99, 0.995, 0.999))
    derived = "auto"

    def _opened(self, folder):
        return ragstore.open(folder / "store.db", derived=self.derived)

    def create(self, folder, how, *, dimension, text):
        self.store = self._opened(folder)
        self.collection = self.store.create_collection("c", dimension=dimension)
        if dimension:
            self.collection.create_index("n")

    def add(self, rows):
        self.collection.add_texts(
            rows.texts,
            rows.vectors,
            ids=[str(row) for row in rows.ids],
            metadatas=None if rows.numbers is None else [{"n": number} for number in rows.numbers],
        )

    def finish(self):
        self.store.optimize()

    def open(self, folder, how):
        self.store = self._opened(folder)
        self.collection = self.store["c"]

    def close(self):
        self.store.close()

    def vector(self, query, k, how, below=None):
        where = None if below is None else {"n": {"$lt": below}}
        hits = self.collection.search(vector=query, k=k, where=where, **how)
        return hits.ids, hits.texts

    def exact(self, query, k):
        hits = self.collection.search(vector=query, k=k, exact=True)
        return hits.ids, hits.texts

    def keyword(self, text, k):
        hits = self.collection.search(text, k=k)
        return hits.ids, hits.texts

    def hybrid(self, text, query, k, how):
        hits = self.collection.search(text, vector=query, k=k, **how)
        return hits.ids, hits.texts

    def index_bytes(self, folder):
        return sum(file.stat().st_size for file in (folder / "store.db-index").rglob("*") if file.is_file())
