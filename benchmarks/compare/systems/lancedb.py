from __future__ import annotations

import os

# Its warnings at each search would be timed with it.
os.environ.setdefault("LANCEDB_LOG", "error")

import lancedb
import pyarrow as pa
from lancedb.rerankers import RRFReranker

from benchmarks.compare.system import System


class LanceDB(System):
    title = "LanceDB"
    packages = ("lancedb",)
    about = (
        "IVF_HNSW_SQ of one partition, m 16, ef_construction 200, rescored by `refine_factor`; a B-tree for "
        "filters; FTS with stems and stop words kept; `optimize()` after a bulk load; hybrid through its "
        "RRFReranker, which fuses as many hits of each ranking as it is to return: 10, or 100 of which 10 are "
        "kept"
    )
    batch = 50_000
    hybrids = ({}, {"depth": 100})
    # ef must not be below the hits that are rescored.
    settings = tuple(
        {"ef": ef, "refine_factor": refine}
        for ef in (16, 32, 64, 128, 256)
        for refine in (1, 2, 4)
        if 10 * refine <= ef
    )

    def create(self, folder, how, *, dimension, text):
        fields = [pa.field("id", pa.int64()), pa.field("text", pa.string())]
        if dimension:
            fields += [pa.field("n", pa.int32()), pa.field("v", pa.list_(pa.float32(), dimension))]
        self.schema, self.text, self.dimension = pa.schema(fields), text, dimension
        self.table = lancedb.connect(folder).create_table("c", schema=self.schema)
        self.indexed = False

    def add(self, rows):
        columns = [pa.array(rows.ids, pa.int64()), pa.array(rows.texts)]
        if rows.vectors is not None:
            flat = pa.array(rows.vectors.reshape(-1))
            columns += [
                pa.array(rows.numbers, pa.int32()),
                pa.FixedSizeListArray.from_arrays(flat, rows.vectors.shape[1]),
            ]
        schema = self.schema if hasattr(self, "schema") else self.table.schema
        self.table.add(pa.table(columns, schema=schema))

    def finish(self):
        if self.dimension:
            self.table.create_index(
                metric="cosine",
                vector_column_name="v",
                index_type="IVF_HNSW_SQ",
                num_partitions=1,
                m=16,
                ef_construction=200,
            )
            self.table.create_scalar_index("n", index_type="BTREE")
        if self.text:
            self.table.create_fts_index("text", language="English", stem=True, remove_stop_words=False)
        self.table.optimize()

    def open(self, folder, how):
        self.table = lancedb.connect(folder).open_table("c")

    @staticmethod
    def _columns(search, k, *score):
        found = search.select(["id", "text", *score]).limit(k).to_arrow()
        return found["id"].to_pylist(), found["text"].to_pylist()

    def vector(self, query, k, how, below=None):
        search = self.table.search(query, vector_column_name="v").distance_type("cosine").nprobes(1)
        search = search.ef(how.get("ef", 64)).refine_factor(how.get("refine_factor", 1))
        return self._columns(search if below is None else search.where(f"n < {below}", prefilter=True), k, "_distance")

    def exact(self, query, k):
        search = self.table.search(query, vector_column_name="v").distance_type("cosine").bypass_vector_index()
        return self._columns(search, k, "_distance")

    def keyword(self, text, k):
        return self._columns(self.table.search(text, query_type="fts", fts_columns="text"), k, "_score")

    def hybrid(self, text, query, k, how):
        search = self.table.search(query_type="hybrid", vector_column_name="v", fts_columns="text")
        depth = max(k, how.get("depth", k))
        refine = how.get("refine_factor", 1)
        search = search.vector(query).text(text).distance_type("cosine").nprobes(1).refine_factor(refine)
        ids, texts = self._columns(search.ef(max(how.get("ef", 64), depth * refine)).rerank(RRFReranker()), depth)
        return ids[:k], texts[:k]
