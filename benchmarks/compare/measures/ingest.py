"""Rows, text index and vectors added in bulk until searches of both kinds take what they will go on taking."""

from __future__ import annotations

import shutil
from statistics import median

from benchmarks.compare.choose import best
from benchmarks.compare.result import Goal, Result, Table
from benchmarks.compare.run import Run, Worker

NEEDS = ("both",)
PARTS = ("vectors", "text")


def measure(run: Run, repeats: int = 2) -> Result:
    data = run.prose_data()
    seen: dict[str, list[dict[str, float]]] = {}
    chosen = {system: choice for system in run.able(*NEEDS) if (choice := best(run, system, data, PARTS))}
    for _ in range(repeats):
        for system, choice in chosen.items():
            folder = run.root / "builds" / f"ingest-{system}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            with run.tolerating(system, "ingest"):
                worker = Worker(system, "load")
                try:
                    figures = worker.call("ingest", str(folder), str(data.folder), {**choice.how, **choice.setting})
                    seen.setdefault(system, []).append(figures)
                finally:
                    worker.close()
            shutil.rmtree(folder, ignore_errors=True)
    rates = {system: median(f["rows"] / f["ready_seconds"] for f in figures) for system, figures in seen.items()}
    rows = [
        {
            "system": run.title(system),
            "chunks/s until steady": rates[system],
            "added after s": median(f["add_seconds"] for f in seen[system]),
            "finished after s": median(f["add_seconds"] + f["finish_seconds"] for f in seen[system]),
            "steady after s": median(f["ready_seconds"] for f in seen[system]),
            "vector p50 ms": median(f["vector_ms"] for f in seen[system]),
            "keyword p50 ms": median(f["keyword_ms"] for f in seen[system]),
        }
        for system in sorted(rates, key=lambda system: -rates[system])
    ]
    result = Result("ingest", __doc__, tables=[Table(f"{data.name}: {len(data):,} chunks", rows)])
    if "ragstore" in rates:
        times = {name: rates["ragstore"] / rates[name] if name in rates else None for name in ("zvec", "lancedb")}
        text = ", ".join(
            f"{value:.2f} times {run.title(name)}'s" if value else f"{name}: not in this run"
            for name, value in times.items()
        )
        known = None not in times.values()
        least = min(value or 0 for value in times.values())
        result.goals = [
            Goal(
                "rows + text + vectors until p50 is within 1.2 of steady",
                "2 times the chunks/s of zvec and LanceDB",
                text,
                least >= 2 if known else None,
            ),
            Goal("beyond it", "3 times", text, least >= 3 if known else None),
        ]
    return result
