"""The largest size, for the few that are quickest, each built in one way and searched at recall 0.98."""

from __future__ import annotations

from benchmarks.compare.measures.vectors import compared, entries_of, quickest, row
from benchmarks.compare.result import Goal, Result, Table, against
from benchmarks.compare.run import Run

SYSTEMS = ("ragstore", "zvec", "lancedb", "hnswlib")
ENOUGH = 0.98


def measure(run: Run) -> Result:
    data = run.generated(run.sizes[-1])
    entries, recalls = entries_of(
        run, data, [name for name in run.able("vector") if name in SYSTEMS], enough=ENOUGH, first_build=True
    )
    lines = [row(run, entry, recalls[id(entry)]) for entry in sorted(entries, key=lambda entry: entry.p50)]
    result = Result("million", __doc__, tables=[Table(f"{data.name}: {len(data):,} vectors", lines)])
    ours = quickest(entries, recalls, "ragstore", ENOUGH)
    zvec = quickest(entries, recalls, "zvec", ENOUGH)
    if ours is not None:
        share = compared(entries, recalls, "ragstore", "zvec")
        built = None
        if zvec is not None:
            mine, theirs = (sum(e.built.figures[f"{k}_seconds"] for k in ("add", "finish")) for e in (ours, zvec))
            built = mine / theirs
        recall = recalls[id(ours)]
        result.goals = [
            against(
                f"{len(data):,} x {data.queries.shape[1]}",
                "p50 no higher than zvec's at recall 0.98",
                1.0,
                {"zvec's p50": share},
                other=recall >= ENOUGH,
            ),
            against("the same", "built within 2 times zvec's build", 2.0, {"zvec's build": built}),
            against("beyond it", "0.5 of it at 0.99", 0.5, {"zvec's p50": share}, other=recall >= 0.99),
            Goal("its recall", "0.98", f"{recall:.4f}", recall >= ENOUGH),
        ]
    return result
