"""The first result of a fresh process: to open what is there and to search once, the files in the page cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from statistics import median

from benchmarks.compare import truth
from benchmarks.compare.choose import best
from benchmarks.compare.result import Cell, Goal, Result, Table, against
from benchmarks.compare.run import Built, Run, Worker
from benchmarks.compare.system import How

NEEDS = ("vector",)
Start = Callable[[], tuple[dict[str, float], list[int]]]


def measure(run: Run, repeats: int = 9) -> Result:
    data = run.generated()

    def start(system: str, built: Built, how: How, setting: How, kind: str) -> tuple[dict[str, float], list[int]]:
        worker = Worker(system)
        try:
            opened = worker.call("open", str(built.folder), str(data.folder), dict(how))
            asked = worker.call("ask", kind, dict(setting), 0, 1, warm=0)
        finally:
            worker.close()
        return {**opened, "search_ms": asked["ms"][0]}, asked["hits"][0]

    def without(system: str, built: Built, how: How, setting: How, kind: str) -> tuple[dict[str, float], list[int]]:
        folder = built.folder.with_name(built.folder.name + ".without")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(built.folder, folder, ignore=shutil.ignore_patterns("*-index"))
        return start(system, Built(folder, built.figures, built.bytes), how, setting, kind)

    starts: dict[str, tuple[str, Start]] = {}

    def wanted(title: str, system: str, call: Callable, how: How, setting: How, kind: str, *parts: str) -> None:
        with run.tolerating(system, "first result"):
            built = run.built(system, how, data, parts)
            starts[title] = (system, lambda: call(system, built, how, setting, kind))

    for system in run.able(*NEEDS):
        choice = best(run, system, data)
        if choice is not None:
            wanted(run.title(system), system, start, choice.how, choice.setting, "vector", "vectors")
    if "ragstore" in run.systems:
        wanted("ragstore, its index folder deleted", "ragstore", without, {}, {}, "vector", "vectors")
    if "sqlite" in run.systems:
        wanted("SQLite: ten texts by rowid", "sqlite", start, {}, {}, "lookup", "text")
    seen: dict[str, list[dict[str, float]]] = {}
    answers: dict[str, list[int]] = {}
    for _ in range(repeats):
        for title, (system, call) in starts.items():
            with run.tolerating(system, "first result"):
                figures, answers[title] = call()
                seen.setdefault(title, []).append(figures)
    total = {title: median(f["open_ms"] + f["search_ms"] for f in figures) for title, figures in seen.items()}
    rows: list[dict[str, Cell]] = [
        {
            "system": title,
            "open and search ms": total[title],
            "open ms": median(f["open_ms"] for f in seen[title]),
            "search ms": median(f["search_ms"] for f in seen[title]),
            "import ms": median(f["import_ms"] for f in seen[title]),
            "recall of it": None if "SQLite" in title and "rowid" in title else truth.recall(data, {0: answers[title]}),
        }
        for title in sorted(total, key=lambda title: total[title])
    ]
    result = Result("first_result", __doc__, tables=[Table(f"{data.name}: {len(data):,} vectors", rows)])
    if "ragstore" in total:
        bare, flat = total.get("SQLite: ten texts by rowid"), total.get("sqlite-vec")
        gone = "ragstore, its index folder deleted"
        recall = truth.recall(data, {0: answers[gone]}) if gone in total else 0.0
        result.goals = [
            against(
                "first result of a fresh process",
                "1.5 times a bare SQLite open and query",
                1.5,
                {
                    "SQLite, ten texts by rowid": None if bare is None else total["ragstore"] / bare,
                    "sqlite-vec, a search": None if flat is None else total["ragstore"] / flat,
                },
            ),
            Goal(
                "the same without snapshots",
                "correct at once",
                f"recall {recall:.3f} after {total.get(gone, 0):.1f} ms",
                recall >= 0.99,
            ),
        ]
    return result
