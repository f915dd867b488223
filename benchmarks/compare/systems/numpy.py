from __future__ import annotations

import numpy as np

from benchmarks.compare.system import VECTORS_ONLY, System


class NumPy(System):
    title = "NumPy"
    packages = ("numpy",)
    about = "`X @ q` in float32, then `argpartition`; a filter takes its rows out first"
    index_only = True
    cannot = {"keyword": VECTORS_ONLY, "hybrid": VECTORS_ONLY, "both": VECTORS_ONLY, "add": "an array"}

    def create(self, folder, how, *, dimension, text):
        self.folder, self.parts, self.numbers = folder, [], []

    def add(self, rows):
        self.parts.append(rows.vectors)
        self.numbers += rows.numbers

    def finish(self):
        np.save(self.folder / "vectors.npy", np.concatenate(self.parts))
        np.save(self.folder / "numbers.npy", self.numbers)

    def open(self, folder, how):
        self.vectors = np.load(folder / "vectors.npy")
        self.numbers = np.load(folder / "numbers.npy")

    def vector(self, query, k, how, below=None):
        rows = None if below is None else np.flatnonzero(self.numbers < below)
        scores = (self.vectors if rows is None else self.vectors[rows]) @ query
        best = np.argpartition(-scores, k)[:k] if len(scores) > k else np.arange(len(scores))
        best = best[np.argsort(-scores[best], kind="stable")]
        return self.said((best if rows is None else rows[best]).tolist())

    def exact(self, query, k):
        return self.vector(query, k, {})
