from __future__ import annotations

import zvec

from benchmarks.compare.system import System, cores


class Zvec(System):
    title = "zvec"
    packages = ("zvec",)
    about = (
        "HNSW of M 16 and ef_construction 200 in contiguous memory, int8 with and without its refiner, or "
        "float32; an inverted index with range optimisation for filters; FTS with lower case and the Porter "
        "stemmer; `optimize()` after a bulk load; hybrid through its own RrfReRanker, which fuses as many "
        "hits of each ranking as it is to return: 10, or 100 of which 10 are kept"
    )
    batch = 1000
    exact_build = {"type": "float32"}
    hybrids = ({}, {"depth": 100})
    builds = ({"type": "int8"}, {"type": "float32"})
    settings = tuple({"ef": ef} for ef in (10, 12, 16, 24, 32, 48, 64, 96, 128, 200, 300))

    @classmethod
    def settings_of(cls, how):
        if how["type"] == "float32":
            return cls.settings
        return [{**setting, **refine} for setting in cls.settings for refine in ({}, {"refine": True})]

    def __init__(self):
        # A second call in a process is an error.
        threads = cores()
        zvec.init(query_threads=threads, optimize_threads=threads, log_level=zvec.LogLevel.ERROR)

    def create(self, folder, how, *, dimension, text):
        words = zvec.FtsIndexParam(filters=["lowercase", "stemmer"], extra_params='{"stemmer_lang":"porter"}')
        fields = [zvec.FieldSchema("text", zvec.DataType.STRING, index_param=words if text else None)]
        vectors = []
        if dimension:
            numbers = zvec.InvertIndexParam(enable_range_optimization=True)
            fields.append(zvec.FieldSchema("n", zvec.DataType.INT64, index_param=numbers))
            kind = zvec.QuantizeType.INT8 if how.get("type", "int8") == "int8" else zvec.QuantizeType.UNDEFINED
            graph = zvec.HnswIndexParam(
                zvec.MetricType.COSINE, m=16, ef_construction=200, quantize_type=kind, use_contiguous_memory=True
            )
            vectors.append(zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, dimension, index_param=graph))
        schema = zvec.CollectionSchema("c", fields=fields, vectors=vectors)
        self.collection = zvec.create_and_open(str(folder / "c"), schema)

    def add(self, rows):
        with_vectors = rows.vectors is not None
        done = self.collection.insert(
            [
                zvec.Doc(
                    id=str(row),
                    vectors={"v": rows.vectors[i]} if with_vectors else None,
                    fields={"text": rows.texts[i], "n": rows.numbers[i]} if with_vectors else {"text": rows.texts[i]},
                )
                for i, row in enumerate(rows.ids)
            ]
        )
        if not all(status.ok() for status in done):
            raise RuntimeError(str(next(status for status in done if not status.ok())))

    def finish(self):
        self.collection.flush()
        self.collection.optimize()

    def open(self, folder, how):
        self.collection = zvec.open(str(folder / "c"))

    def close(self):
        self.collection.close()

    @staticmethod
    def _near(query, how, **more):
        param = zvec.HnswQueryParam(ef=how.get("ef", 64), is_using_refiner=bool(how.get("refine")), **more)
        return zvec.Query("v", vector=query, param=param)

    def _asked(self, queries, k, **more):
        found = self.collection.query(queries, topk=k, output_fields=["text"], **more)
        return [hit.id for hit in found], [hit.fields["text"] for hit in found]

    def vector(self, query, k, how, below=None):
        return self._asked(self._near(query, how), k, filter=None if below is None else f"n < {below}")

    def exact(self, query, k):
        return self._asked(self._near(query, {}, is_linear=True), k)

    def keyword(self, text, k):
        return self._asked(zvec.Query("text", fts=zvec.Fts(match_string=text)), k)

    def hybrid(self, text, query, k, how):
        both = [zvec.Query("text", fts=zvec.Fts(match_string=text)), self._near(query, how)]
        ids, texts = self._asked(both, max(k, how.get("depth", k)), reranker=zvec.RrfReRanker(60))
        return ids[:k], texts[:k]
