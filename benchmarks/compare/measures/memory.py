"""Memory per vector: what opening a store and searching it adds to a fresh process that has imported the library.

Held: anonymous pages, which are the process's own. Resident: those and the pages of mapped files that are in memory,
which processes share and the kernel may drop. Texts of an index without texts are not counted.
"""

from __future__ import annotations

from benchmarks.compare.choose import Choice, best
from benchmarks.compare.data import Dataset
from benchmarks.compare.result import Cell, Goal, Result, Table
from benchmarks.compare.run import Run, Worker

NEEDS = ("vector",)


def growth(run: Run, system: str, data: Dataset, choice: Choice) -> dict[str, float] | None:
    """Bytes per vector, held and resident, after as many searches as there are queries."""
    built = run.built(system, choice.how, data, ("vectors",))
    worker = Worker(system)
    try:
        before = worker.call("memory")
        worker.call("open", str(built.folder), str(data.folder), choice.how, texts=False)
        worker.call("ask", "vector", choice.setting, 0, run.queries, seconds=20, check=False)
        after = worker.call("memory")
    finally:
        worker.close()
    return {key: (after[key] - before[key]) / len(data) for key in after} or None


def measure(run: Run) -> Result:
    data = run.generated()
    rows: list[dict[str, Cell]] = []
    ours = None
    for system in run.able(*NEEDS):
        with run.tolerating(system, "memory"):
            choice = best(run, system, data)
            found = choice and growth(run, system, data, choice)
            if found:
                ours = found if system == "ragstore" else ours
                rows.append(
                    {
                        "system": run.title(system),
                        "held bytes": found["held"],
                        "resident bytes": found["resident"],
                    }
                )
    rows.sort(key=lambda row: row["held bytes"])
    size = 4 * data.queries.shape[1]
    result = Result(
        "memory",
        " ".join(__doc__.split()),
        tables=[Table(f"{data.name}: {len(data):,} vectors, of {size:,} bytes each in float32", rows)],
    )
    if ours:
        text = f"{ours['held']:,.0f} bytes held, {ours['resident']:,.0f} with what is mapped"
        # Whether there is a graph at this size is not known from outside.
        within = True if ours["held"] <= 450 else None if ours["held"] <= 900 else False
        result.goals = [
            Goal("resident memory per vector", "450 bytes without a graph, 900 with", text, within),
            Goal("beyond it", "150 bytes", text, ours["held"] <= 150),
        ]
    return result
