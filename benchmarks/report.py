"""Measure everything and write its part of docs/benchmarks.md: `make bench DATA=folder`."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measures
from benchmarks.data import Corpus, generated, techdocs
from benchmarks.measures import ROOT, Figures
from benchmarks.page import cell, replace


@dataclass(frozen=True)
class Section:
    """One measure on the corpora it is for, and what it is to reach."""

    measure: Callable[[Path, Corpus], Figures]
    goal: str
    wide: bool = False


SECTIONS = [
    Section(measures.bulk_add, "speed at least 0.85 of bare rusqlite", wide=True),
    Section(measures.feed, "time at most 1.1, bytes at most 1.05 of those without"),
    Section(measures.sync, "speed at least 0.7 of adding; less than 1,000 bytes where nothing is new"),
    Section(measures.durability, "time at most 1.3 of relaxed"),
    Section(measures.page_size, "the choice of docs/adr/0002"),
    Section(measures.exact_search, "time at most 1.10 of a bare vec0 query", wide=True),
    Section(measures.keyword, "time at most 1.10 of a bare FTS5 query"),
    Section(
        measures.filters,
        "all hits; counts at most 1.5 and 2 of SQLite's; searches at most 1.2 of no filter, and 0.1 at 0.1 %",
    ),
    Section(measures.hybrid, "time at most 1.2 of the slower leg"),
    Section(measures.candidates, "the picture in docs/guides/search.md"),
    Section(measures.read_back, "time at most 3 of one prepared SELECT"),
    Section(measures.threads, "at least 3 times one thread on 4 cores, 1.7 on 2"),
    Section(measures.walk, "time at most 2 of a recursive query through rusqlite"),
    Section(measures.open_file, "time at most 2 of bare rusqlite"),
    Section(measures.embedding_cache, "time at most 1.5 of embeddings given"),
    Section(measures.ephemeral, "time at most 3 of the same schema in memory"),
    Section(measures.group_commit, "at least 8 adds a sync, and 3 times one thread where a sync takes 0.1 ms"),
    Section(measures.churn, "file at most 1.3 of a fresh one"),
    Section(measures.backup, "time under load at most 2 of one at rest"),
]


def table(name: str, about: str, goal: str, columns: dict[str, Figures]) -> str:
    lines = [f"## {name}", "", about.strip().splitlines()[0], "", f"To reach: {goal}.", ""]
    lines += ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    keys = list(dict.fromkeys(key for figures in columns.values() for key in figures))
    lines += [f"| {key} | " + " | ".join(cell(f.get(key, "")) for f in columns.values()) + " |" for key in keys]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with techdocs/ and cranfield/; without it, generated rows")
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--only", nargs="*", help="names of measures; prints them instead of writing the page")
    args = parser.parse_args()
    corpus = techdocs(args.data / "techdocs", args.chunks) if args.data else generated(args.chunks)
    parts = []

    def run(name: str, about: str, goal: str, calls: dict[str, Callable[[Path], Figures]]) -> None:
        if args.only and name not in args.only:
            return
        columns = {}
        for column, call in calls.items():
            with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
                columns[column] = call(Path(folder))
        parts.append(table(name, about, goal, columns))
        print(parts[-1], end="\n\n", flush=True)

    for section in SECTIONS:
        corpora = {corpus.vectors.shape[1]: corpus}
        if section.wide:
            corpora[2 * corpus.vectors.shape[1]] = corpus.widened()
        calls = {f"{d} dimensions": lambda f, c=c, m=section.measure: m(f, c) for d, c in corpora.items()}
        run(section.measure.__name__, section.measure.__doc__ or "", section.goal, calls)
    run(
        "peak_memory",
        measures.peak_memory.__doc__ or "",
        "less than 128 MiB beyond the array",
        {"(200,000, 384) float32": measures.peak_memory},
    )
    if args.data:
        run(
            "cranfield",
            measures.cranfield.__doc__ or "",
            "equal to the reference to 0.002",
            {"225 queries": lambda folder: measures.cranfield(folder, args.data / "cranfield")},
        )
    if not args.only:
        head = f"""
Written by `make bench DATA=<folder>`; without DATA it measures on generated rows. Each figure stands beside its
reference, measured in the same run: machines differ and drift, so read the ratios. Medians throughout.

Measured on {platform.machine()} with {os.cpu_count()} cores, Python {platform.python_version()}, corpus
{corpus.name} with {len(corpus.texts):,} chunks. The reference through bare rusqlite is `benchmarks/bare.rs`."""
        replace("bench", "\n\n".join([head, *parts]))


if __name__ == "__main__":
    main()
