"""Vector search within filters of 0.1, 1, 10 and 50 % of the rows: time beside that without, completeness, recall."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.compare import truth
from benchmarks.compare.choose import best
from benchmarks.compare.result import Cell, Goal, Result, Table
from benchmarks.compare.run import Run, ratio

NEEDS = ("vector", "filter")
SHARES = {0.1: 1, 1: 10, 10: 100, 50: 500}


def measure(run: Run) -> Result:
    data = run.generated()
    chosen = {system: choice for system in run.able(*NEEDS) if (choice := best(run, system, data))}
    result = Result("filters", __doc__)
    worst: dict[str, tuple[float, float, float]] = {}
    with run.opened([(system, choice.how) for system, choice in chosen.items()], data, ("vectors",)) as opened:
        for entry in opened:
            entry.setting = chosen[entry.system].setting
        whole = {entry.system: replace(entry) for entry in run.take_turns(opened, "vector")}
        for share, below in SHARES.items():
            there = int((data.numbers[: len(data)] < below).sum())
            rows: list[dict[str, Cell]] = []
            for entry in run.take_turns([e for e in opened if e.system in whole], "vector", below=below):
                complete = sum(
                    len([row for row in hits if data.numbers[row] < below]) == min(10, there)
                    for hits in entry.answers.values()
                ) / len(entry.answers)
                recall = truth.recall(data, entry.answers, below=below)
                times = ratio(entry, whole[entry.system])
                rows.append(
                    {
                        "system": run.title(entry.system),
                        "setting": entry.label,
                        "p50 ms": entry.p50,
                        "no filter ms": whole[entry.system].p50,
                        "/ no filter": times,
                        "recall@10": round(recall, 4),
                        "complete": round(complete, 4),
                    }
                )
                before = worst.get(entry.system, (0.0, 1.0, 1.0))
                worst[entry.system] = (max(before[0], times), min(before[1], recall), min(before[2], complete))
            rows.sort(key=lambda row: (row["complete"] < 1, row["p50 ms"]))
            title = f"{data.name}: {share} %, {there:,} of {len(data):,} vectors, by `n < {below}`"
            result.tables.append(Table(title, rows))
    if "ragstore" in worst:
        times, recall, complete = worst["ragstore"]
        text = f"at most {times:.2f} times, recall {recall:.3f}, complete {complete:.1%}"
        honest = recall >= 0.99 and complete == 1
        result.goals = [
            Goal(
                "filter of 0.1, 1, 10, 50 %",
                "complete, recall >= 0.99, p50 at most 2 times unfiltered",
                text,
                honest and times <= 2,
            ),
            Goal("beyond it", "at most 1 time", f"{times:.2f} times", honest and times <= 1),
        ]
    return result
