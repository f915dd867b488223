from __future__ import annotations

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    Fusion,
    HnswIndexConfig,
    IntegerIndexParams,
    Point,
    Prefetch,
    QuantizationSearchParams,
    Query,
    QueryRequest,
    RangeFloat,
    ScalarQuantizationConfig,
    ScalarType,
    SearchParams,
    SnowballLanguage,
    SnowballParams,
    TextIndexParams,
    TextQuery,
    TokenizerType,
    UpdateOperation,
)

from benchmarks.compare.system import System, cores


class QdrantEdge(System):
    title = "qdrant-edge"
    packages = ("qdrant-edge-py",)
    about = (
        "HNSW of m 16 and ef_construct 200 in one segment, float32 or int8 with rescoring; payload indexes for filters "
        "and for BM25 with the English stemmer; `optimize()` after a bulk load; hybrid of 100 hits of each, by its RRF"
    )
    batch = 1000
    exact_build = {"type": "float32"}
    builds = ({"type": "float32"}, {"type": "int8"})
    settings = tuple({"ef": ef} for ef in (10, 12, 16, 32, 48, 64, 96, 128, 200, 300))

    @staticmethod
    def _vectors(dimension):
        # A shard has vectors: one of texts alone gets some of a single dimension.
        return EdgeVectorParams(dimension or 1, Distance.Cosine)

    def create(self, folder, how, *, dimension, text):
        threads = cores()
        self.int8 = how.get("type") == "int8"
        int8 = ScalarQuantizationConfig(ScalarType.Int8, quantile=0.99) if self.int8 else None
        (folder / "dimension").write_text(str(dimension or 1))
        self.shard = EdgeShard.create(
            str(folder / "shard"),
            EdgeConfig(
                vectors=self._vectors(dimension),
                hnsw_config=HnswIndexConfig(16, 200, full_scan_threshold=10_000, max_indexing_threads=threads),
                quantization_config=int8,
                optimizers=EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=10_000),
                max_search_threads=threads,
            ),
        )
        if text:
            words = TextIndexParams(
                tokenizer=TokenizerType.Word,
                lowercase=True,
                stemmer=SnowballParams(SnowballLanguage.English),
                scoring=True,
            )
            self.shard.update(UpdateOperation.create_field_index("text", words))
        if dimension:
            self.shard.update(UpdateOperation.create_field_index("n", IntegerIndexParams(lookup=False, range=True)))

    def add(self, rows):
        points = [
            Point(row, [1.0], {"text": rows.texts[i]})
            if rows.vectors is None
            else Point(row, rows.vectors[i].tolist(), {"text": rows.texts[i], "n": rows.numbers[i]})
            for i, row in enumerate(rows.ids)
        ]
        self.shard.update(UpdateOperation.upsert_points(points))

    def finish(self):
        self.shard.optimize()
        self.shard.flush()

    def open(self, folder, how):
        threads = cores()
        self.int8 = how.get("type") == "int8"
        vectors = self._vectors(int((folder / "dimension").read_text()))
        self.shard = EdgeShard.load(str(folder / "shard"), EdgeConfig(vectors=vectors, max_search_threads=threads))

    def close(self):
        self.shard.close()

    def _params(self, how):
        rescored = QuantizationSearchParams(rescore=True, oversampling=2.0) if self.int8 else None
        return SearchParams(hnsw_ef=how.get("ef", 64), quantization=rescored)

    def _asked(self, k, **request):
        found = self.shard.query(QueryRequest(k, with_payload=True, **request))
        return [hit.id for hit in found], [hit.payload["text"] for hit in found]

    def vector(self, query, k, how, below=None):
        filtered = None if below is None else Filter(must=[FieldCondition("n", range=RangeFloat(lt=below))])
        return self._asked(k, query=Query.Nearest(query.tolist()), params=self._params(how), filter=filtered)

    def exact(self, query, k):
        return self._asked(k, query=Query.Nearest(query.tolist()), params=SearchParams(exact=True))

    def keyword(self, text, k):
        return self._asked(k, query=TextQuery("text", text))

    def hybrid(self, text, query, k, how):
        legs = [
            Prefetch(100, TextQuery("text", text)),
            Prefetch(100, Query.Nearest(query.tolist()), params=self._params(how)),
        ]
        return self._asked(k, query=Fusion.Rrf(60), prefetches=legs)
