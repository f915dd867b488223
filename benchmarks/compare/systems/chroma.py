from __future__ import annotations

import chromadb
from chromadb.config import Settings

from benchmarks.compare.system import System, cores

NO_RANKED = "no ranked keyword search in local mode"


class Chroma(System):
    title = "Chroma"
    packages = ("chromadb",)
    about = "HNSW of max_neighbors 16 and ef_construction 200, one build for each ef_search"
    cannot = {
        "exact": "no exact search",
        "keyword": NO_RANKED,
        "hybrid": NO_RANKED,
        "both": NO_RANKED,
    }
    batch = 5000
    builds = ({"ef": 64}, {"ef": 200})

    def _client(self, folder):
        return chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))

    def create(self, folder, how, *, dimension, text):
        threads = cores()
        graph = {
            "space": "cosine",
            "max_neighbors": 16,
            "ef_construction": 200,
            "ef_search": how.get("ef", 64),
            "num_threads": threads,
        }
        self.client = self._client(folder)
        self.collection = self.client.create_collection("rows", configuration={"hnsw": graph}, embedding_function=None)

    def add(self, rows):
        self.collection.add(
            ids=[str(row) for row in rows.ids],
            documents=rows.texts,
            embeddings=rows.vectors,
            metadatas=[{"n": number} for number in rows.numbers],
        )

    def open(self, folder, how):
        self.client = self._client(folder)
        self.collection = self.client.get_collection("rows", embedding_function=None)

    def vector(self, query, k, how, below=None):
        where = None if below is None else {"n": {"$lt": below}}
        found = self.collection.query(query_embeddings=query, n_results=k, where=where, include=["documents"])
        return found["ids"][0], found["documents"][0]
