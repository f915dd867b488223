"""What every system is to the comparison: one small class, fed with rows and asked by number."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

# One way to build or to search, by the names of the system's own settings.
How = Mapping[str, Any]
# Ids, which int() turns into row numbers, and texts.
Answer = tuple[Sequence[Any], Sequence[str | None]]

VECTORS_ONLY = "an index of vectors"
TEXT_ONLY = "an index of words"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Rows:
    """Rows of one bulk call: the first has the number `first`. Without vectors they have no numbers to filter on."""

    first: int
    texts: list[str]
    vectors: np.ndarray | None = None
    numbers: list[int] | None = None

    @property
    def ids(self) -> range:
        return range(self.first, self.first + len(self.texts))


class System:
    """A store or an index behind the calls that are measured.

    A folder belongs to one system, built in one way. `create`, `add` and `finish` make it, `close` leaves it durable,
    and `open` finds it in another process. What a system cannot do stands in `cannot`, with the reason for the table.
    """

    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    # What the page says of how it is set up.
    about: ClassVar[str] = ""
    # Keeps no texts: those of the hits come out of a list.
    index_only: ClassVar[bool] = False
    # Among vector, exact, keyword, hybrid, filter, add, threads, both (one store with both indexes).
    cannot: ClassVar[Mapping[str, str]] = {}
    # Rows of one call that adds.
    batch: ClassVar[int] = 10_000
    builds: ClassVar[Sequence[How]] = ({},)
    settings: ClassVar[Sequence[How]] = ({},)

    # What hybrid search is asked with beside the setting that is chosen for vectors, if in more than one way.
    hybrids: ClassVar[Sequence[How]] = ({},)
    # The build that exact search is asked of.
    exact_build: ClassVar[How] = {}

    texts: Sequence[str] = ()

    @classmethod
    def settings_of(cls, how: How) -> Sequence[How]:  # noqa: ARG003
        """The ways to search what was built in this way, the cheapest first."""
        return cls.settings

    @classmethod
    def versions(cls) -> str:
        return ", ".join(f"{package} {version(package)}" for package in cls.packages)

    def create(self, folder: Path, how: How, *, dimension: int | None, text: bool) -> None:
        raise NotImplementedError

    def add(self, rows: Rows) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Do what its documentation says is to be done after a bulk load."""

    def open(self, folder: Path, how: How) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything; what was added is in the folder."""

    def vector(self, query: np.ndarray, k: int, how: How, below: int | None = None) -> Answer:
        raise NotImplementedError

    def exact(self, query: np.ndarray, k: int) -> Answer:
        raise NotImplementedError

    def keyword(self, text: str, k: int) -> Answer:
        raise NotImplementedError

    def hybrid(self, text: str, query: np.ndarray, k: int, how: How) -> Answer:
        raise NotImplementedError

    def lookup(self, ids: Sequence[int]) -> Answer:
        """Rows by id, where that is measured."""
        raise NotImplementedError

    def index_bytes(self, folder: Path) -> int | None:
        """Bytes of what is beside the rows themselves, where it can be told apart."""

    def said(self, ids: Sequence[Any]) -> Answer:
        """The answer of a system that keeps no texts."""
        return ids, [self.texts[int(row)] for row in ids] if self.texts else []


SYSTEMS = {
    "ragstore": "Ragstore",
    "ragstore_off": "RagstoreOff",
    "zvec": "Zvec",
    "lancedb": "LanceDB",
    "qdrant_edge": "QdrantEdge",
    "chroma": "Chroma",
    "sqlite_vec": "SqliteVec",
    "hnswlib": "Hnswlib",
    "usearch": "USearch",
    "faiss": "Faiss",
    "numpy": "NumPy",
    "sqlite": "SQLite",
    "tantivy": "Tantivy",
    "bm25s": "BM25S",
}


def load(name: str) -> type[System]:
    """The class of a system. Its package is imported, so this is for its own process."""
    return getattr(import_module(f"benchmarks.compare.systems.{name}"), SYSTEMS[name])


def called(how: How) -> str:
    """A way to build or to search, in words."""
    return ", ".join(f"{key} {value}" for key, value in how.items())
