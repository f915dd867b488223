"""Compare: `make compare [DATA=folder] [ONLY="vectors zvec ragstore"] [SIZES="10000 100000 1000000"]`."""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.compare import page, plots
from benchmarks.compare.result import Result
from benchmarks.compare.run import Run, machine, save
from benchmarks.compare.system import SYSTEMS
from benchmarks.page import PAGE, ROOT, replace

MEASURES = (
    "vectors",
    "exact",
    "keyword",
    "hybrid",
    "ingest",
    "filters",
    "first_result",
    "under_writes",
    "threads",
    "memory",
    "disk",
    "million",
    "growth",
)
# All measures but growth and million are made at this size, or at the largest below it that is asked for.
SIZE = 100_000


def measure(run: Run, name: str, **options: Any) -> Result:
    """Make one measure, and note what it was made with and what failed in it."""
    noted = len(run.notes)
    module = import_module(f"benchmarks.compare.measures.{name}")
    result = module.measure(run, **options)
    result.notes += [f"Not in it: {note}" for note in run.absent(*getattr(module, "NEEDS", ()))] + run.notes[noted:]
    keys = ("title", "versions", "about")
    systems = {system: {key: described[key] for key in keys} for system, described in run.described.items()}
    result.facts |= {"machine": machine(), "systems": systems, "made": time.strftime("%Y-%m-%d")}
    return result


def write(results: Path, target: Path) -> None:
    """Draw and write all that is known into its part of the page."""
    found = page.load(results, list(MEASURES))
    pictures = {}
    for result in found:
        if result.series:
            picture = target.parent / "images" / f"{result.name}.svg"
            plots.growth(result.series, picture)
            pictures[result.name] = f"images/{picture.name}"
    replace("compare", page.render(found, pictures), target)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make compare", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with techdocs/; without it all data is generated")
    parser.add_argument("--only", nargs="*", default=[], help=f"of {', '.join((*MEASURES, *SYSTEMS))}")
    parser.add_argument(
        "--sizes", nargs="*", type=int, default=[SIZE], help="numbers of vectors, for growth and million"
    )
    parser.add_argument("--root", type=Path, default=ROOT / ".compare", help="where data, builds and results are kept")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    unknown = set(args.only) - {*MEASURES, *SYSTEMS}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join((*MEASURES, *SYSTEMS))}")
    size = max((size for size in args.sizes if size <= SIZE), default=min(args.sizes))
    names = [name for name in MEASURES if name in args.only] or [
        name
        for name in MEASURES
        if (name != "million" or max(args.sizes) > SIZE) and (name != "growth" or len(args.sizes) > 1)
    ]
    run = Run(
        args.root,
        args.data,
        [name for name in SYSTEMS if name in args.only] or list(SYSTEMS),
        size=size,
        prose=size if size < SIZE else None,
        sizes=args.sizes,
    )
    for note in run.notes:
        print(note, flush=True)
    for name in names:
        print(f"{name} ...", flush=True)
        result = measure(run, name)
        save(args.root / "results" / f"{name}.json", result.to_json())
        print(page.render([result]).split("### ", 1)[1].rsplit("### How", 1)[0], flush=True)
        write(args.root / "results", args.page)
    run.clean()


if __name__ == "__main__":
    main()
