from __future__ import annotations

import bm25s
import Stemmer

from benchmarks.compare.system import TEXT_ONLY, System


class BM25S(System):
    title = "bm25s"
    packages = ("bm25s", "PyStemmer", "numba")
    about = "k1 1.2, b 0.75, Porter stemmer, no stop words, its numba backend"
    index_only = True
    cannot = {"vector": TEXT_ONLY, "exact": TEXT_ONLY, "hybrid": TEXT_ONLY, "both": TEXT_ONLY, "filter": TEXT_ONLY}

    def create(self, folder, how, *, dimension, text):
        self.folder, self.rows = folder, []

    def _tokens(self, texts):
        return bm25s.tokenize(
            texts, stopwords=None, stemmer=Stemmer.Stemmer("porter"), show_progress=False, token_pattern=r"(?u)\w+"
        )

    def add(self, rows):
        self.rows += rows.texts

    def finish(self):
        retriever = bm25s.BM25(k1=1.2, b=0.75)
        retriever.index(self._tokens(self.rows), show_progress=False)
        retriever.save(self.folder / "index")

    def open(self, folder, how):
        self.retriever = bm25s.BM25.load(folder / "index", mmap=False)
        self.retriever.backend = "numba"
        self.retriever.activate_numba_scorer()

    def keyword(self, text, k):
        rows, _ = self.retriever.retrieve(self._tokens([text]), k=k, n_threads=1, show_progress=False)
        return self.said(rows[0].tolist())
