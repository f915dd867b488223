"""What the right answers are: float64 in NumPy for vectors, FTS5's own ranking for words; kept beside the data."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

import numpy as np

from benchmarks.compare.data import Dataset
from benchmarks.compare.systems.sqlite import expression

DEPTH = 100
ROWS = 20_000
# Two float32 scores this near are a tie.
TIE = 1e-6


def nearest(data: Dataset, below: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of each query and their similarities, best first, of shape (queries, 100), -1 where none."""
    path = data.folder / f"nearest-{below or 'all'}.npz"
    if not path.exists():
        queries = data.queries.astype(np.float64)
        numbers = data.numbers[: len(data)]
        best = np.full((len(queries), DEPTH), -1, np.int64)
        scores = np.full((len(queries), DEPTH), -np.inf)
        for first in range(0, len(data), ROWS):
            rows = np.arange(first, min(first + ROWS, len(data)))
            if below is not None:
                rows = rows[numbers[rows] < below]
            if not len(rows):
                continue
            found = queries @ data.vectors[rows].astype(np.float64).T
            scores = np.hstack([scores, found])
            best = np.hstack([best, np.broadcast_to(rows, found.shape)])
            order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
            scores, best = np.take_along_axis(scores, order, 1), np.take_along_axis(best, order, 1)
        np.savez(path, rows=best, scores=scores)
    with np.load(path) as kept:
        return kept["rows"], kept["scores"]


def recall(data: Dataset, answers: dict[int, list[int]], k: int = 10, below: int | None = None) -> float:
    """The share of the k nearest that were found; a row that is as near as the last of them counts as it."""
    _, scores = nearest(data, below)
    shares = []
    for query, rows in answers.items():
        last = scores[query][np.isfinite(scores[query])][:k]
        real = [row for row in set(rows) if below is None or data.numbers[row] < below]
        found = data.vectors[real].astype(np.float64) @ data.queries[query].astype(np.float64)
        shares.append(min(int((found >= last[-1] - TIE).sum()), len(last)) / len(last))
    return float(np.mean(shares))


def identical(data: Dataset, answers: dict[int, list[int]], k: int = 10) -> float:
    """The share of queries whose rows are those of float64, in its order."""
    rows, _ = nearest(data)
    return float(np.mean([found == rows[query][:k].tolist() for query, found in answers.items()]))


def ranked(data: Dataset) -> list[list[tuple[int, float]]]:
    """For each question the rows that FTS5 ranks first, with what it says of them, the lower the better."""
    path = data.folder / "ranked.json"
    if not path.exists():
        with sqlite3.connect(":memory:") as connection:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='porter unicode61')")
            connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(data.texts))
            sql = "SELECT rowid, rank FROM words WHERE words MATCH ? ORDER BY rank, rowid LIMIT ?"
            answers = [
                connection.execute(sql, (expression(question), 2 * DEPTH)).fetchall() for question in data.questions
            ]
        path.write_text(json.dumps(answers))
    return [[(row, rank) for row, rank in answer] for answer in json.loads(path.read_text())]


def overlap(data: Dataset, answers: dict[int, list[int]], k: int = 10) -> float:
    """The share of FTS5's first k that were found; a row that it ranks like the last of them counts as it."""
    shares = []
    truth = ranked(data)
    for query, rows in answers.items():
        first = truth[query][:k]
        if first:
            good = {row for row, rank in truth[query] if rank <= first[-1][1] + TIE * abs(first[-1][1])}
            shares.append(min(len(good & set(rows)), len(first)) / len(first))
    return float(np.mean(shares))


def fused(data: Dataset, answers: dict[int, list[int]], k: int = 10, rrf_k: int = 60) -> float:
    """The share of the first k of both rankings, each exact and 100 deep, fused by reciprocal rank, that were found."""
    near, _ = nearest(data)
    words = ranked(data)
    shares = []
    for query, rows in answers.items():
        scores: dict[int, float] = {}
        legs: Sequence[Sequence[int]] = (
            [row for row in near[query].tolist() if row >= 0],
            [row for row, _ in words[query] if row < len(data)][:DEPTH],
        )
        for leg in legs:
            for rank, row in enumerate(leg, 1):
                scores[row] = scores.get(row, 0.0) + 1 / (rrf_k + rank)
        best = sorted(scores, key=lambda row: -scores[row])[:k]
        last = scores[best[-1]]
        good = {row for row, score in scores.items() if score >= last - 1e-12}
        shares.append(min(len(good & set(rows)), len(best)) / len(best))
    return float(np.mean(shares))
