"""What is on disk after a bulk load, with texts, numbers and vectors; and our index folder by itself."""

from __future__ import annotations

from benchmarks.compare.choose import best
from benchmarks.compare.result import Cell, Goal, Result, Table
from benchmarks.compare.run import Run

NEEDS = ("vector",)


def measure(run: Run) -> Result:
    data = run.generated()
    floats = 4 * data.queries.shape[1] * len(data)
    rows: list[dict[str, Cell]] = []
    index = None
    for system in run.able(*NEEDS):
        with run.tolerating(system, "disk"):
            choice = best(run, system, data)
            if choice is None:
                continue
            entry = run.open(system, choice.how, data, ("vectors",))
            try:
                beside = entry.worker.call("index_bytes", str(entry.built.folder))
            finally:
                entry.worker.close()
            index = beside if system == "ragstore" else index
            rows.append(
                {
                    "system": run.title(system),
                    "MiB": entry.built.bytes / 2**20,
                    "/ float32 of the vectors": entry.built.bytes / floats,
                    "index folder MiB": None if beside is None else beside / 2**20,
                }
            )
    rows.sort(key=lambda row: row["MiB"])
    result = Result("disk", __doc__, tables=[Table(f"{data.name}: {floats / 2**20:,.0f} MiB of float32", rows)])
    wheels = list((run.root / "wheels").glob("ragstore-*.whl"))
    if wheels:
        size = wheels[0].stat().st_size / 1e6
        result.goals.append(Goal("wheel", "at most 25 MB", f"{size:.1f} MB", size <= 25))
    if index is not None:
        share = index / floats
        text = f"{share:.2f}" if index else "there is none"
        result.goals += [
            Goal(
                "index folder on disk",
                "at most 1.4 of the vectors' float32 size",
                text,
                share <= 1.4 if index else None,
            ),
            Goal("beyond it", "0.8", text, share <= 0.8 if index else None),
        ]
    return result
