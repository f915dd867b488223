"""The part of docs/benchmarks.md that `make compare` writes, from the results that are kept."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.compare.result import Cell, Result
from benchmarks.page import cell

HEAD = """## Beside other systems

Written by `make compare DATA=<folder>`. Each system has a process of its own, one core, and one thread for a search;
bulk loads and `ingest` have all cores, `threads` and `under_writes` too, without parallel loops inside a search. The
systems take turns, again and again, so that noise falls on all: p50 is the median over the turns' medians, p99 is of
all searches, ratios are medians over the turns. Before its first turn each has answered all queries once, or as many as
it could in three seconds, and before each turn some: these are systems at work; what the first search of a process
takes is in `first_result`. Times are from the Python call to the ids and texts of 10 hits; an index only gets its texts
out of a Python list. Recall is against float64, overlap against FTS5's own first 10, ties counted. Each system stands
at its cheapest setting whose recall@10 is at least 0.99, or else at its best."""


def load(folder: Path, names: list[str]) -> list[Result]:
    """The results that are there, in the order of the measures."""
    paths = [folder / f"{name}.json" for name in names]
    return [Result.of(json.loads(path.read_text(encoding="utf-8"))) for path in paths if path.exists()]


def lines(rows: list[dict[str, Cell]]) -> list[str]:
    """A table of Markdown; a column for each key of any row."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if not keys:
        return ["Nothing of it could be measured."]
    return [
        "| " + " | ".join(keys) + " |",
        "|" + "---|" * len(keys),
        *("| " + " | ".join(cell(row.get(key)) for key in keys) + " |" for row in rows),
    ]


def render(results: list[Result], pictures: dict[str, str] | None = None) -> str:
    """Everything between the markers."""
    verdict = {True: "yes", False: "no", None: "open"}
    goals = [
        {"what": goal.what, "to reach": goal.target, "reached": goal.reached, "": verdict[goal.met]}
        for result in results
        for goal in result.goals
    ]
    text = [HEAD]
    if goals:
        text += ["", "### What was to be reached", "", *lines(goals)]
    for result in results:
        text += ["", f"### {result.name}", "", result.about.strip()]
        if picture := (pictures or {}).get(result.name):
            text += ["", f"![{result.name}]({picture})"]
        for table in result.tables:
            text += ["", f"{table.title}:", "", *lines(table.rows)]
        text += ["", *(f"- {note}" for note in result.notes)] if result.notes else []
    machines = list(dict.fromkeys(json.dumps(result.facts.get("machine", {}), sort_keys=True) for result in results))
    text += ["", "### How each is set up", ""]
    for machine in map(json.loads, machines):
        if machine:
            text.append("Measured on {system}, {cpu}, {cores} cores, Python {python}.".format(**machine))
    made = sorted({result.facts["made"] for result in results if "made" in result.facts})
    if made:
        text += ["", f"Made on {' and '.join(made)}."]
    systems = {name: about for result in results for name, about in result.facts.get("systems", {}).items()}
    text += [
        "",
        *lines([{"system": s["title"], "version": s["versions"], "settings": s["about"]} for s in systems.values()]),
    ]
    return "\n".join(text)
