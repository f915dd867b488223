from __future__ import annotations

import hnswlib
import numpy as np

from benchmarks.compare.system import VECTORS_ONLY, System, cores


class Hnswlib(System):
    title = "hnswlib"
    packages = ("hnswlib",)
    about = "M 16, ef_construction 200, float32; filters through its Python callback"
    index_only = True
    cannot = {
        "exact": "no exact search",
        "keyword": VECTORS_ONLY,
        "hybrid": VECTORS_ONLY,
        "both": VECTORS_ONLY,
        "add": "no writes beside searches",
    }
    settings = tuple({"ef": ef} for ef in (10, 12, 16, 24, 32, 48, 64, 96, 128, 200, 300))

    def create(self, folder, how, *, dimension, text):
        self.folder, self.numbers = folder, []
        self.index = hnswlib.Index("cosine", dimension)
        self.index.init_index(self.batch, M=16, ef_construction=200)
        self.index.set_num_threads(cores())

    def add(self, rows):
        self.index.resize_index(rows.ids.stop)
        self.index.add_items(rows.vectors, np.array(rows.ids))
        self.numbers += rows.numbers

    def finish(self):
        self.index.save_index(str(self.folder / "index.bin"))
        np.save(self.folder / "numbers.npy", np.array(self.numbers))
        np.save(self.folder / "dimension.npy", self.index.dim)

    def open(self, folder, how):
        self.index = hnswlib.Index("cosine", int(np.load(folder / "dimension.npy")))
        self.index.load_index(str(folder / "index.bin"))
        self.index.set_num_threads(1)
        self.numbers = np.load(folder / "numbers.npy")

    def vector(self, query, k, how, below=None):
        self.index.set_ef(how.get("ef", 64))
        if below is None:
            rows, _ = self.index.knn_query(query, k)
        else:
            numbers = self.numbers
            rows, _ = self.index.knn_query(query, k, filter=lambda row: numbers[row] < below)
        return self.said(rows[0].tolist())
