"""Vector searches a second with several threads against one, in one process."""

from __future__ import annotations

from statistics import median

from benchmarks.compare.choose import best
from benchmarks.compare.result import Goal, Result, Table
from benchmarks.compare.run import Run
from benchmarks.compare.system import cores

NEEDS = ("vector", "threads")


def measure(run: Run, threads: int | None = None) -> Result:
    count = threads or max(2, min(4, cores()))
    data = run.generated()
    chosen = {system: choice for system in run.able(*NEEDS) if (choice := best(run, system, data))}
    rates: dict[str, list[tuple[float, float]]] = {}
    wanted = [(system, choice.how) for system, choice in chosen.items()]
    with run.opened(wanted, data, ("vectors",), use="clients") as opened:
        alive = list(opened)
        for number in range(run.rounds):
            for entry in list(alive):
                setting, first = chosen[entry.system].setting, number * run.turn
                done = False
                with run.tolerating(entry.system, "threads"):
                    one, many = (
                        entry.worker.call("parallel", "vector", setting, first, run.seconds, t) for t in (1, count)
                    )
                    rates.setdefault(entry.system, []).append((one, many))
                    done = True
                if not done:
                    alive.remove(entry)
    times = {system: median(many / one for one, many in pairs) for system, pairs in rates.items()}
    rows = [
        {
            "system": run.title(system),
            "1 thread, searches/s": median(one for one, _ in rates[system]),
            f"{count} threads, searches/s": median(many for _, many in rates[system]),
            "times": times[system],
        }
        for system in sorted(rates, key=lambda system: -median(many for _, many in rates[system]))
    ]
    result = Result("threads", __doc__, tables=[Table(f"{data.name}: {len(data):,} vectors, {cores()} cores", rows)])
    if "ragstore" in times:
        least = 3.0 if count == 4 else 1.7
        result.goals = [
            Goal(
                f"{count} threads searching",
                "3 times one thread on 4 cores, 1.7 on 2",
                f"{times['ragstore']:.2f} times",
                times["ragstore"] >= least,
            ),
            Goal("beyond it", "3.7", f"{times['ragstore']:.2f} times", times["ragstore"] >= 3.7),
        ]
    return result
