"""Searches while another thread adds 1,000 chunks a second, against the same at rest; and whether these are seen.

Each batch of 100 is looked for by its own first vector as soon as it is acknowledged.
"""

from __future__ import annotations

from statistics import median

from benchmarks.compare.choose import best
from benchmarks.compare.result import Goal, Result, Table
from benchmarks.compare.run import Run

NEEDS = ("both", "add")
PARTS = ("vectors", "text")
RATE, BATCH = 1000, 100
# Seconds after which a system whose reads and writes wait for each other is given up.
PATIENCE = 120


def measure(run: Run, rounds: int = 5, seconds: float = 2.0, rate: int = RATE, batch: int = BATCH) -> Result:
    data = run.generated()
    chosen = {system: choice for system in run.able(*NEEDS) if (choice := best(run, system, data, PARTS))}
    idle: dict[str, list[float]] = {}
    busy: dict[str, list[dict]] = {}
    wanted = [(system, choice.how) for system, choice in chosen.items()]
    with run.opened(wanted, data, PARTS, use="clients", copy=True) as opened:
        alive = list(opened)
        for number in range(rounds):
            for entry in list(alive):
                setting = chosen[entry.system].setting
                first = number * run.turn
                done = False
                with run.tolerating(entry.system, "under writes"):
                    rest = entry.worker.call(
                        "ask", "vector", setting, first, 10**9, seconds=seconds, check=False, timeout=PATIENCE
                    )
                    before = sum(turn["written"] for turn in busy.get(entry.system, []))
                    turn = entry.worker.call(
                        "write_and_search",
                        setting,
                        first,
                        len(data) + before,
                        rate,
                        batch,
                        seconds,
                        timeout=PATIENCE,
                    )
                    idle.setdefault(entry.system, []).append(median(rest["ms"]))
                    busy.setdefault(entry.system, []).append(turn)
                    done = True
                if not done:
                    alive.remove(entry)
    times = {
        system: median(median(turn["ms"]) / rest for turn, rest in zip(turns, idle[system], strict=True))
        for system, turns in busy.items()
    }
    seen = {system: sum(t["seen"] for t in turns) / sum(t["batches"] for t in turns) for system, turns in busy.items()}
    rows = [
        {
            "system": run.title(system),
            "idle p50 ms": median(idle[system]),
            "p50 ms": median(median(turn["ms"]) for turn in busy[system]),
            "/ idle": times[system],
            "chunks/s written": median(turn["rate"] for turn in busy[system]),
            "seen at once": seen[system],
        }
        for system in sorted(times, key=lambda system: times[system])
    ]
    result = Result(
        "under_writes", " ".join(__doc__.split()), tables=[Table(f"{data.name}: {len(data):,} chunks", rows)]
    )
    if "ragstore" in times:
        kept = median(turn["rate"] for turn in busy["ragstore"]) >= 0.95 * rate
        text = f"{times['ragstore']:.2f} times, {seen['ragstore']:.1%} seen at once" + (
            "" if kept else ", fewer written"
        )
        good = kept and seen["ragstore"] == 1
        result.goals = [
            Goal(
                f"search while {rate:,} chunks/s are written",
                "p50 at most 2 times idle, every commit visible at once",
                text,
                good and times["ragstore"] <= 2,
            ),
            Goal("beyond it", "1.3 times", text, good and times["ragstore"] <= 1.3),
        ]
    return result
