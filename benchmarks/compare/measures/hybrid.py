"""Hybrid search with texts: a question and its vector, both rankings fused by reciprocal rank.

The overlap is with the fusion of float64's ranking and FTS5's, each 100 deep; others stem and rank words otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from benchmarks.compare import truth
from benchmarks.compare.choose import best
from benchmarks.compare.result import Result, Table, against
from benchmarks.compare.run import Run, ratio

NEEDS = ("hybrid", "both")
PARTS = ("vectors", "text")
# What the fusion asks of each ranking.
DEPTH = 100


def measure(run: Run) -> Result:
    data = run.prose_data()
    chosen = {}
    for system in run.able(*NEEDS):
        choice = best(run, system, data, PARTS)
        if choice is not None:
            chosen[system] = choice
    with run.opened([(system, choice.how) for system, choice in chosen.items()], data, PARTS) as opened:
        for entry in opened:
            entry.setting = chosen[entry.system].setting
        ours = [entry for entry in opened if entry.system == "ragstore"]
        if ours:
            legs = []
            for kind in ("vector", "keyword"):
                run.take_turns(ours, kind, k=DEPTH)
                legs.append(list(ours[0].turns))
        ways = [
            replace(entry, setting={**entry.setting, **way})
            for entry in opened
            for way in run.described[entry.system]["hybrids"]
        ]
        entries = run.take_turns(ways, "hybrid")
    rows = [
        {
            "system": run.title(entry.system),
            "setting": entry.label,
            "p50 ms": entry.p50,
            "p99 ms": entry.p99,
            "overlap with exact fusion": round(truth.fused(data, entry.answers), 3),
        }
        for entry in sorted(entries, key=lambda entry: entry.p50)
    ]
    result = Result("hybrid", __doc__, tables=[Table(f"{data.name}: {len(data):,} chunks with both", rows)])
    # As it comes before what was made of it.
    by = {entry.system: entry for entry in reversed(entries)}
    if "ragstore" in by:
        share = {name: ratio(by["ragstore"], by[name]) if name in by else None for name in ("lancedb", "zvec")}
        slower = by["ragstore"].p50 / max(median(leg) for leg in legs)
        result.goals = [
            against("hybrid search, with texts", "0.5 of LanceDB's", 0.5, {"LanceDB's p50": share["lancedb"]}),
            against("the same", "no higher than zvec's", 1.0, {"zvec's p50": share["zvec"]}),
            against("beyond it", "its slower leg + 20 %", 1.2, {f"the slower leg, {DEPTH} deep": slower}),
        ]
    return result
