"""The process of one system: it does what the coordinator asks through a pipe, one call after the other.

Each system has its own, since native libraries in one process disturb each other, and so that memory can be told apart.
"""

from __future__ import annotations

import os
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import load as loads
from benchmarks.compare.data import Dataset
from benchmarks.compare.memory import resident
from benchmarks.compare.system import How, Rows, System, load

# Before each turn, unrecorded: the other systems have had the caches since the last one. At most so many searches, and
# so many seconds.
WARM, WARM_SECONDS = 50, 0.5


class Host:
    """One system, and what may be asked of it."""

    def __init__(self, name: str) -> None:
        began = time.perf_counter()
        self.system: System = load(name)()
        self.import_seconds = time.perf_counter() - began

    def take(self, data: str) -> None:
        """Read what is asked with, so that it is no part of the first search."""
        self.data = Dataset(Path(data))
        self.queries, self.questions, self.size = self.data.queries, self.data.questions, len(self.data)

    def describe(self) -> dict[str, Any]:
        system = self.system
        return {
            "title": system.title,
            "versions": system.versions(),
            "about": system.about,
            "index_only": system.index_only,
            "cannot": dict(system.cannot),
            "hybrids": [dict(how) for how in system.hybrids],
            "exact_build": dict(system.exact_build),
            "builds": [dict(how) for how in system.builds],
            "settings": [[dict(setting) for setting in system.settings_of(how)] for how in system.builds],
        }

    def build(self, folder: str, data: str, how: How, parts: tuple[str, ...]) -> dict[str, float]:
        """Make a folder of all rows. Text alone is of all texts, with vectors only of those that have one."""
        self.take(data)
        vectors = "vectors" in parts
        size = self.size if vectors else len(self.data.texts)
        batches = [
            self.rows(first, min(first + self.system.batch, size), vectors=vectors)
            for first in range(0, size, self.system.batch)
        ]
        began = time.perf_counter()
        self.system.create(
            Path(folder), how, dimension=self.queries.shape[1] if vectors else None, text="text" in parts
        )
        for batch in batches:
            self.system.add(batch)
        added = time.perf_counter()
        self.system.finish()
        finished = time.perf_counter()
        self.system.close()
        return {"rows": size, "add_seconds": added - began, "finish_seconds": finished - added}

    def rows(self, first: int, end: int, *, vectors: bool) -> Rows:
        texts = self.data.texts[first:end]
        if not vectors:
            return Rows(first, texts)
        # Copied out of the file: reading it is not what is measured.
        return Rows(first, texts, np.array(self.data.vectors[first:end]), self.data.numbers[first:end].tolist())

    def open(self, folder: str, data: str, how: How, *, texts: bool = True) -> dict[str, float]:
        self.take(data)
        self.folder = Path(folder)
        self.read()
        if self.system.index_only and texts:
            self.system.texts = self.data.texts
        began = time.perf_counter()
        self.system.open(Path(folder), how)
        return {"import_ms": 1e3 * self.import_seconds, "open_ms": 1e3 * (time.perf_counter() - began)}

    def read(self) -> None:
        """Read the files through, so that the kernel has them in memory.

        Some kernels write out what nobody touched for a few seconds, which is what happens to a system while the others
        have their turns. It costs those that map or read files, and not those that hold all of theirs.
        """
        buffer = bytearray(1 << 20)
        for path in self.folder.rglob("*"):
            if path.is_file():
                with path.open("rb", buffering=0) as file:
                    while file.readinto(buffer):
                        pass

    def call(self, kind: str, query: int, k: int, how: How, below: int | None) -> Any:
        """One search as a caller would make it, by the number of the query."""
        system = self.system
        query %= len(self.queries)
        if kind == "vector":
            return system.vector(self.queries[query], k, how, below)
        if kind == "exact":
            return system.exact(self.queries[query], k)
        if kind == "keyword":
            return system.keyword(self.questions[query], k)
        if kind == "lookup":
            return system.lookup([(query * 7919 + place * 104729) % self.size for place in range(k)])
        return system.hybrid(self.questions[query], self.queries[query], k, how)

    def ask(
        self,
        kind: str,
        how: How,
        first: int,
        count: int,
        *,
        k: int = 10,
        below: int | None = None,
        seconds: float = 1e9,
        warm: int = WARM,
        check: bool = True,
    ) -> dict[str, Any]:
        """A turn: some queries one after the other, fewer where they take long, with their hits as row numbers."""
        if warm:
            self.read()
        end = time.perf_counter() + WARM_SECONDS
        for query in range(first - warm, first):
            self.call(kind, query, k, how, below)
            if time.perf_counter() > end:
                break
        times, hits = [], []
        end = time.perf_counter() + seconds
        for query in range(first, first + count):
            began = time.perf_counter()
            ids, texts = self.call(kind, query, k, how, below)
            now = time.perf_counter()
            times.append(1e3 * (now - began))
            hits.append([int(row) for row in ids])
            if check and any(self.data.texts[row] != text for row, text in zip(hits[-1], texts, strict=bool(texts))):
                raise AssertionError(f"a text is not that of its row, in the answer to query {query}")
            if now > end and len(times) >= 3:
                break
        return {"ms": times, "hits": hits}

    def memory(self) -> dict[str, int]:
        return resident()

    def index_bytes(self, folder: str) -> int | None:
        return self.system.index_bytes(Path(folder))

    def parallel(self, *args: Any) -> Any:
        return loads.parallel(self, *args)

    def write_and_search(self, *args: Any) -> Any:
        return loads.write_and_search(self, *args)

    def ingest(self, *args: Any) -> Any:
        return loads.ingest(self, *args)

    def close(self) -> None:
        self.system.close()


def serve(pipe: Connection, name: str, one_core: bool) -> None:
    """Answer calls until the coordinator closes the pipe."""
    if one_core and hasattr(os, "sched_setaffinity"):
        # Before the library is imported, whose pools then have one thread; and no query can use two cores at a time.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        host = Host(name)
    except Exception:  # noqa: BLE001
        pipe.send(("error", traceback.format_exc()))
        return
    pipe.send(("ready", host.import_seconds))
    while True:
        try:
            method, args, options = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("ok", getattr(host, method)(*args, **options))
        except Exception:  # noqa: BLE001
            answer = ("error", traceback.format_exc())
        pipe.send(answer)
