"""What the benchmarks measure on: real prose with real embeddings where a folder is given, generated rows elsewhere."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Corpus:
    """Texts with an embedding each, and queries of both kinds."""

    name: str
    texts: list[str]
    vectors: np.ndarray
    queries: np.ndarray
    questions: list[str]

    def widened(self) -> Corpus:
        """The same with twice the dimension: each vector beside that of another row."""

        def wide(x: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(np.hstack([x, np.roll(x, 1, axis=0)]) / np.sqrt(2), np.float32)

        return Corpus(self.name, self.texts, wide(self.vectors), wide(self.queries), self.questions)


def techdocs(folder: Path, chunks: int, queries: int = 50) -> Corpus:
    """Read the first chunks of the technical prose; the rows after them are the queries."""
    with gzip.open(folder / "chunks.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"] for line in islice(lines, chunks + queries)]
    vectors = np.load(folder / "minilm.f16.npy", mmap_mode="r")[: chunks + queries].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = [" ".join(text.split()[:10]) for text in texts[chunks:]]
    return Corpus("techdocs", texts[:chunks], vectors[:chunks].copy(), vectors[chunks:].copy(), questions)


def generated(chunks: int, dimension: int = 384, queries: int = 20, seed: int = 7) -> Corpus:
    """Make texts of words with a long-tailed frequency and clustered unit vectors."""
    rng = np.random.default_rng(seed)
    words = np.array([f"word{i}" for i in range(5000)])
    share = 1 / np.arange(1, len(words) + 1)
    texts = [" ".join(rng.choice(words, 60, p=share / share.sum())) for _ in range(chunks + queries)]
    centres = rng.normal(size=(64, dimension))
    vectors = centres[rng.integers(0, 64, chunks + queries)] + 0.5 * rng.normal(size=(chunks + queries, dimension))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    questions = [" ".join(text.split()[:10]) for text in texts[chunks:]]
    return Corpus("generated", texts[:chunks], vectors[:chunks].copy(), vectors[chunks:].copy(), questions)
