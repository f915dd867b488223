"""Natural keyword search with texts: questions of 8 to 16 words, any of which may match, ranked by BM25.

Each system has its own stemmer and its own form of BM25, so an overlap below 1 is no fault by itself.
"""

from __future__ import annotations

from benchmarks.compare import truth
from benchmarks.compare.result import Goal, Result, Table, against
from benchmarks.compare.run import Run, ratio

NEEDS = ("keyword",)
LEAST = 0.95


def measure(run: Run) -> Result:
    data = run.prose_data()
    with run.opened([(system, run.builds(system)[0]) for system in run.able(*NEEDS)], data, ("text",)) as opened:
        entries = run.take_turns(opened, "keyword")
    found = {entry.system: truth.overlap(data, entry.answers) for entry in entries}
    rows = [
        {
            "system": run.title(entry.system),
            "p50 ms": entry.p50,
            "p99 ms": entry.p99,
            "overlap with FTS5's 10": round(found[entry.system], 3),
            "build s": entry.built.figures["add_seconds"] + entry.built.figures["finish_seconds"],
            "disk MiB": entry.built.bytes / 2**20,
        }
        for entry in sorted(entries, key=lambda entry: entry.p50)
    ]
    result = Result("keyword", __doc__, tables=[Table(f"{data.name}: {len(data.texts):,} chunks", rows)])
    by = {entry.system: entry for entry in entries}
    if "ragstore" in by:

        def share(name: str) -> float | None:
            return ratio(by["ragstore"], by[name]) if name in by else None

        good = found["ragstore"] >= LEAST
        alone = share("sqlite")
        result.goals = [
            against(
                "natural keyword search, with texts",
                "p50 no higher than zvec's FTS",
                1.0,
                {"zvec's p50": share("zvec")},
                other=good,
            ),
            Goal(
                "the same",
                "40 times faster than FTS5 alone",
                "not in this run" if alone is None else f"{1 / alone:.1f} times",
                None if alone is None else alone <= 1 / 40,
            ),
            against("beyond it", "bare Tantivy's", 1.0, {"Tantivy's p50": share("tantivy")}, other=good),
            Goal("overlap with FTS5's first 10", f"{LEAST}", f"{found['ragstore']:.3f}", good),
        ]
    return result
