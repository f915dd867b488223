"""How latency, build, memory and disk grow with the number of vectors, at recall@10 of at least 0.99."""

from __future__ import annotations

from benchmarks.compare import truth
from benchmarks.compare.choose import Choice, choices
from benchmarks.compare.measures.memory import growth
from benchmarks.compare.result import Cell, Result, Table
from benchmarks.compare.run import Run

SYSTEMS = ("ragstore", "zvec", "lancedb")


def measure(run: Run) -> Result:
    result = Result("growth", __doc__)
    rows: list[dict[str, Cell]] = []
    systems = [name for name in run.able("vector") if name in SYSTEMS]
    for size in run.sizes:
        data = run.generated(size)
        chosen: dict[str, Choice] = {}
        for system in systems:
            found = choices(run, system, data, builds=run.builds(system)[:1])
            if found:
                chosen[system] = found[0]
        with run.opened([(system, choice.how) for system, choice in chosen.items()], data, ("vectors",)) as opened:
            for entry in opened:
                entry.setting = chosen[entry.system].setting
            entries = run.take_turns(opened, "vector")
        for entry in entries:
            title = run.title(entry.system)
            with run.tolerating(entry.system, f"growth at {size:,}"):
                memory = growth(run, entry.system, data, chosen[entry.system]) or {"held": 0.0, "resident": 0.0}
                figures = {
                    "vectors": size,
                    "p50 ms": entry.p50,
                    "build s": entry.built.figures["add_seconds"] + entry.built.figures["finish_seconds"],
                    "memory MiB": memory["resident"] * size / 2**20,
                    "disk MiB": entry.built.bytes / 2**20,
                }
                series = result.series.setdefault(title, {key: [] for key in figures})
                for key, value in figures.items():
                    series[key].append(value)
                recall = truth.recall(data, entry.answers)
                rows.append({"system": title, "setting": entry.label, **figures, "recall@10": round(recall, 4)})
    result.tables = [Table("generated", sorted(rows, key=lambda row: row["system"]))]
    return result
