"""What the systems are compared on, in files, so that each process reads the same: real prose, or generated rows."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

DIMENSION = 384
QUERIES = 500
# Rows of one draw: what is generated does not depend on how much memory there is.
BLOCK = 50_000
NUMBERS = 1000


@dataclass(frozen=True)
class Dataset:
    """A folder of texts, numbers to filter on, unit vectors of the first rows or all, and queries of both kinds."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def texts(self) -> list[str]:
        with (self.folder / "texts.jsonl").open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    @cached_property
    def vectors(self) -> np.ndarray:
        return np.load(self.folder / "vectors.npy", mmap_mode="r")

    @cached_property
    def queries(self) -> np.ndarray:
        return np.load(self.folder / "queries.npy")

    @cached_property
    def questions(self) -> list[str]:
        return json.loads((self.folder / "questions.json").read_text(encoding="utf-8"))

    @cached_property
    def numbers(self) -> np.ndarray:
        """One of 0 to 999 for each row, each as often as the others."""
        return np.random.default_rng(5).permutation(len(self.texts)) % NUMBERS

    def __len__(self) -> int:
        return len(self.vectors)


def _written(folder: Path, texts: list[str], vectors: np.ndarray, queries: np.ndarray, questions: list[str]) -> Dataset:
    """Write all files, the folder last under its name, so that a folder that is there is whole."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    with (new / "texts.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
    np.save(new / "vectors.npy", vectors)
    np.save(new / "queries.npy", queries)
    (new / "questions.json").write_text(json.dumps(questions), encoding="utf-8")
    new.rename(folder)
    return Dataset(folder)


def _unit(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def generated(root: Path, rows: int, queries: int = QUERIES) -> Dataset:
    """Clustered unit vectors of low intrinsic dimension, as embeddings are, and texts of words with a long tail.

    2,000 centres in 24 dimensions, points around them, one random map into 384 dimensions, and a little noise in all.
    """
    folder = root / f"generated-{rows}"
    if folder.exists():
        return Dataset(folder)
    rng = np.random.default_rng(11)
    centres = rng.standard_normal((2000, 24))
    spread = rng.standard_normal((24, DIMENSION)) / np.sqrt(DIMENSION)

    def points(count: int, seed: int) -> np.ndarray:
        draw = np.random.default_rng((12, seed))
        inner = centres[draw.integers(0, len(centres), count)] + 0.45 * draw.standard_normal((count, 24))
        return _unit(inner @ spread + 0.05 * draw.standard_normal((count, DIMENSION)) / np.sqrt(DIMENSION))

    vectors = np.empty((rows, DIMENSION), np.float32)
    for seed, first in enumerate(range(0, rows, BLOCK), 1):
        vectors[first : first + BLOCK] = points(min(BLOCK, rows - first), seed)
    words = np.array([f"word{i}" for i in range(20_000)])
    share = np.cumsum(1 / np.arange(1, len(words) + 1))
    texts: list[str] = []
    for first in range(0, rows + queries, BLOCK):
        count = min(BLOCK, rows + queries - first)
        chosen = words[np.searchsorted(share, rng.uniform(0, share[-1], (count, 40)))]
        texts += [" ".join(row) for row in chosen]
    questions = [" ".join(text.split()[:10]) for text in texts[rows:]]
    return _written(folder, texts[:rows], vectors, points(queries, 0), questions)


def techdocs(root: Path, source: Path, rows: int | None = None, queries: int = QUERIES) -> Dataset:
    """Technical prose with the embeddings of a real model; rows taken out evenly are the queries, never found again."""
    folder = root / ("techdocs" if rows is None else f"techdocs-{rows}")
    if folder.exists():
        return Dataset(folder)
    with gzip.open(source / "techdocs" / "chunks.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    embedded = np.load(source / "techdocs" / "minilm.f16.npy", mmap_mode="r")
    if rows is not None:
        texts, embedded = texts[: rows + queries], embedded[: rows + queries]
    vectors = _unit(np.asarray(embedded, np.float32))
    rng = np.random.default_rng(13)
    # Enough words for a question of 16 of them.
    long = [row for row in range(len(vectors)) if len(re.findall(r"[^\W_]+", texts[row])) >= 40]
    out = np.array(long)[np.linspace(0, len(long) - 1, queries).astype(int)]
    questions = []
    for row in out:
        words = re.findall(r"[^\W_]+", texts[row])
        count = int(rng.integers(8, 17))
        first = int(rng.integers(0, len(words) - count))
        questions.append(" ".join(words[first : first + count]))
    left = set(out.tolist())
    kept = [text for row, text in enumerate(texts) if row not in left]
    return _written(folder, kept, np.delete(vectors, out, axis=0), vectors[out], questions)
