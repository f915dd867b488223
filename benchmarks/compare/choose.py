"""The setting at which each system is compared: the cheapest of enough recall, else the one of the best recall."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.compare import truth
from benchmarks.compare.data import Dataset
from benchmarks.compare.run import Run

ENOUGH = 0.99


@dataclass
class Choice:
    """A way to build, the setting chosen for it, and what the sweep saw there."""

    how: dict[str, Any]
    setting: dict[str, Any]
    recall: float
    ms: float
    sweep: list[dict[str, Any]] = field(default_factory=list)


def choices(
    run: Run,
    system: str,
    data: Dataset,
    parts: tuple[str, ...] = ("vectors",),
    *,
    enough: float = ENOUGH,
    builds: Iterable[dict[str, Any]] | None = None,
) -> list[Choice]:
    """One for each way to build, by a sweep over the settings, the cheapest first, until one is enough."""
    found = []
    for how in run.builds(system) if builds is None else builds:
        key = f"{system} {how} {data.name} {parts} {enough}"
        if key not in run.choices:
            with run.tolerating(system, f"settings on {data.name}"):
                entry = run.open(system, how, data, parts)
                sweep = []
                try:
                    for setting in run.settings(system, how):
                        # What promises less is not asked.
                        if setting.get("recall", enough) < enough:
                            continue
                        asked = entry.worker.call("ask", "vector", setting, 0, run.queries, seconds=20)
                        answers = dict(enumerate(asked["hits"]))
                        recall = truth.recall(data, answers)
                        sweep.append({"setting": setting, "recall": recall, "ms": median(asked["ms"])})
                        if recall >= enough:
                            break
                finally:
                    entry.worker.close()
                best = max(sweep, key=lambda step: (min(step["recall"], enough), -step["ms"]))
                run.choices[key] = Choice(dict(how), best["setting"], best["recall"], best["ms"], sweep)
        if key in run.choices:
            found.append(run.choices[key])
    return found


def best(run: Run, system: str, data: Dataset, parts: tuple[str, ...] = ("vectors",), **options: Any) -> Choice | None:
    """Of the ways to build, the quickest whose recall is enough."""
    enough = options.get("enough", ENOUGH)
    found = choices(run, system, data, parts, **options)
    return min(found, key=lambda choice: (-min(choice.recall, enough), choice.ms), default=None)
