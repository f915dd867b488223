"""Exact vector search with texts, against NumPy on one thread; the same rows as float64, in the same order."""

from __future__ import annotations

from benchmarks.compare import truth
from benchmarks.compare.result import Goal, Result, Table, against
from benchmarks.compare.run import Run, ratio

NEEDS = ("exact",)


def measure(run: Run) -> Result:
    data = run.generated()
    wanted = [(system, run.described[system]["exact_build"]) for system in run.able(*NEEDS)]
    with run.opened(wanted, data, ("vectors",)) as opened:
        entries = run.take_turns(opened, "exact")
    same = {entry.system: truth.identical(data, entry.answers) for entry in entries}
    rows = [
        {
            "system": run.title(entry.system),
            "p50 ms": entry.p50,
            "p99 ms": entry.p99,
            "recall@10": round(truth.recall(data, entry.answers), 4),
            "identical to float64": same[entry.system],
        }
        for entry in sorted(entries, key=lambda entry: entry.p50)
    ]
    result = Result("exact", __doc__, tables=[Table(f"{data.name}: {len(data):,} vectors", rows)])
    by = {entry.system: entry for entry in entries}
    if "ragstore" in by:
        share = {"NumPy's p50": ratio(by["ragstore"], by["numpy"]) if "numpy" in by else None}
        result.goals = [
            against("exact vector search", "0.5 of NumPy", 0.5, share),
            against("beyond it", "0.1 of NumPy, ids identical to float64", 0.1, share, other=same["ragstore"] == 1),
            Goal("ids identical to float64", "all", f"{same['ragstore']:.3f} of the queries", same["ragstore"] == 1),
        ]
    return result
