from __future__ import annotations

from usearch.index import Index

from benchmarks.compare.system import VECTORS_ONLY, System, cores


class USearch(System):
    title = "USearch"
    packages = ("usearch",)
    about = "connectivity 16, expansion_add 128, float32, or int8 without rescoring, memory-mapped"
    index_only = True
    cannot = {
        "keyword": VECTORS_ONLY,
        "hybrid": VECTORS_ONLY,
        "both": VECTORS_ONLY,
        "filter": "no filters in Python",
        "add": "a mapped index takes no writes",
    }
    exact_build = {"type": "f32"}
    builds = ({"type": "f32"}, {"type": "i8"})
    settings = tuple({"expansion": ef} for ef in (10, 12, 16, 24, 32, 48, 64, 96, 128, 200, 300))

    def create(self, folder, how, *, dimension, text):
        self.folder = folder
        kind = how.get("type", "f32")
        self.index = Index(ndim=dimension, metric="cos", dtype=kind, connectivity=16, expansion_add=128)

    def add(self, rows):
        self.index.add(list(rows.ids), rows.vectors, threads=cores())

    def finish(self):
        self.index.save(str(self.folder / "index.usearch"))

    def open(self, folder, how):
        self.index = Index.restore(str(folder / "index.usearch"), view=True)

    def vector(self, query, k, how, below=None):
        self.index.expansion_search = how.get("expansion", 64)
        return self.said(self.index.search(query, k, threads=1).keys.tolist())

    def exact(self, query, k):
        return self.said(self.index.search(query, k, threads=1, exact=True).keys.tolist())
