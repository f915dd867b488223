from __future__ import annotations

import faiss
import numpy as np

from benchmarks.compare.system import VECTORS_ONLY, System, cores


class Faiss(System):
    title = "FAISS"
    packages = ("faiss-cpu",)
    about = "IndexHNSWFlat of M 16 and efConstruction 200, or IndexFlatIP; filters by IDSelectorBitmap"
    index_only = True
    cannot = {
        "keyword": VECTORS_ONLY,
        "hybrid": VECTORS_ONLY,
        "both": VECTORS_ONLY,
        "add": "no writes beside searches",
    }
    settings = tuple({"ef": ef} for ef in (10, 12, 16, 24, 32, 48, 64, 96, 128, 200, 300))

    def create(self, folder, how, *, dimension, text):
        faiss.omp_set_num_threads(cores())
        self.folder, self.numbers = folder, []
        self.index = faiss.IndexHNSWFlat(dimension, 16, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 200

    def add(self, rows):
        self.index.add(rows.vectors)
        self.numbers += rows.numbers

    def finish(self):
        faiss.write_index(self.index, str(self.folder / "index.faiss"))
        np.save(self.folder / "numbers.npy", np.array(self.numbers))

    def open(self, folder, how):
        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(str(folder / "index.faiss"))
        self.flat = faiss.downcast_index(self.index.storage)
        self.numbers = np.load(folder / "numbers.npy")

    def vector(self, query, k, how, below=None):
        params = faiss.SearchParametersHNSW(efSearch=how.get("ef", 64))
        if below is not None:
            bitmap = np.packbits(self.numbers < below, bitorder="little")
            params = faiss.SearchParametersHNSW(
                efSearch=how.get("ef", 64), sel=faiss.IDSelectorBitmap(len(self.numbers), faiss.swig_ptr(bitmap))
            )
        _, rows = self.index.search(query[None], k, params=params)
        return self.said([row for row in rows[0].tolist() if row >= 0])

    def exact(self, query, k):
        _, rows = self.flat.search(query[None], k)
        return self.said(rows[0].tolist())
