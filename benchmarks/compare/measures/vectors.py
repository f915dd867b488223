"""Vector search with texts, at the cheapest setting of each system whose recall@10 is at least 0.99."""

from __future__ import annotations

from benchmarks.compare import truth
from benchmarks.compare.choose import ENOUGH, choices
from benchmarks.compare.data import Dataset
from benchmarks.compare.result import Cell, Goal, Result, Table, against
from benchmarks.compare.run import Entry, Run, ratio
from benchmarks.compare.system import called

NEEDS = ("vector",)


def entries_of(
    run: Run, data: Dataset, systems: list[str], *, enough: float = ENOUGH, first_build: bool = False
) -> tuple[list[Entry], dict[int, float]]:
    """Each system, in each way to build it, at its chosen setting, after its turns; and the recall of each."""
    chosen = [
        (system, choice)
        for system in systems
        for choice in choices(run, system, data, enough=enough, builds=run.builds(system)[:1] if first_build else None)
    ]
    entries: list[Entry] = []
    with run.opened([(system, choice.how) for system, choice in chosen], data, ("vectors",)) as opened:
        settings = {(system, called(choice.how)): choice.setting for system, choice in chosen}
        for entry in opened:
            entry.setting = settings[entry.system, called(entry.how)]
        entries = run.take_turns(opened, "vector")
    return entries, {id(entry): truth.recall(data, entry.answers) for entry in entries}


def quickest(entries: list[Entry], recalls: dict[int, float], system: str, enough: float = ENOUGH) -> Entry | None:
    """The entry of a system that stands for it: enough recall first, then time."""
    mine = [entry for entry in entries if entry.system == system]
    return min(mine, key=lambda entry: (-min(recalls[id(entry)], enough), entry.p50), default=None)


def compared(entries: list[Entry], recalls: dict[int, float], ours: str, theirs: str) -> float | None:
    a, b = quickest(entries, recalls, ours), quickest(entries, recalls, theirs)
    return ratio(a, b) if a and b else None


def row(run: Run, entry: Entry, recall: float) -> dict[str, Cell]:
    figures = entry.built.figures
    return {
        "system": run.title(entry.system),
        "setting": entry.label,
        "recall@10": round(recall, 4),
        "p50 ms": entry.p50,
        "p99 ms": entry.p99,
        "build s": figures["add_seconds"] + figures["finish_seconds"],
        "disk MiB": entry.built.bytes / 2**20,
    }


def measure(run: Run) -> Result:
    result = Result("vectors", __doc__)
    sets = [run.generated()]
    if run.source is not None:
        sets.append(run.prose_data())
    for data in sets:
        entries, recalls = entries_of(run, data, run.able(*NEEDS))
        lines = [row(run, entry, recalls[id(entry)]) for entry in entries]
        lines.sort(key=lambda line: (line["recall@10"] < ENOUGH, line["p50 ms"]))
        result.tables.append(Table(f"{data.name}: {len(data):,} vectors of {data.queries.shape[1]} dimensions", lines))
        ours = quickest(entries, recalls, "ragstore")
        if ours is None:
            continue
        good = recalls[id(ours)] >= ENOUGH
        zvec = compared(entries, recalls, "ragstore", "zvec")
        result.goals += [
            against(
                f"vector search, {data.name}, recall@10 >= 0.99, with texts",
                "p50 no higher than zvec's",
                1.0,
                {"zvec's p50": zvec},
                other=good,
            ),
            against(
                "beyond it",
                "within 1.5 times bare hnswlib",
                1.5,
                {"hnswlib's p50": compared(entries, recalls, "ragstore", "hnswlib")},
                other=good,
            ),
        ]
        if not good:
            result.goals.append(Goal("recall of ragstore", "0.99", f"{recalls[id(ours)]:.4f}", met=False))
    return result
