"""What a measure gives back: what was to be reached and what was, and tables; kept as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Cell = str | float | int | None


@dataclass
class Goal:
    """One row of what is to be reached. `met` is None where the reference did not take part."""

    what: str
    target: str
    reached: str
    met: bool | None = None


@dataclass
class Table:
    title: str
    rows: list[dict[str, Cell]]


@dataclass
class Result:
    """All that the page says of one measure."""

    name: str
    about: str
    goals: list[Goal] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # Numbers for a plot: by system, lists of the same length.
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Result:
        goals = [Goal(**goal) for goal in kept["goals"]]
        tables = [Table(**table) for table in kept["tables"]]
        return cls(**{**kept, "goals": goals, "tables": tables})


def against(what: str, target: str, most: float, figures: Mapping[str, float | None], *, other: bool = True) -> Goal:
    """A goal that each of these ratios is at most so much. One that is None had no reference in the run."""
    known = {name: value for name, value in figures.items() if value is not None}
    text = ", ".join(f"{value:.2f} of {name}" for name, value in known.items())
    missing = [f"{name}: not in this run" for name, value in figures.items() if value is None]
    met = None if missing or not known else other and all(value <= most for value in known.values())
    return Goal(what, target, "; ".join(filter(None, [text, *missing])), met)
