"""Writes what the complete runs left in `.faults` to docs/reliability.md: `python -m tests.faults.report`.

Lines of suites that were not run here stay as they are.
"""

import json
import re
from pathlib import Path

from tests.faults.record import INDEXED, RESULTS, ROOT

PAGE = ROOT / "docs" / "reliability.md"

# Suite, what happens, and what must come of it; in the order of the page.
SUITES = [
    ("kill_writers", "SIGKILL of three writers and a reader in the middle of mixed writes, and of re-openers",
     "nothing acknowledged is lost, nothing is partial"),
    ("kill_syscalls", "SIGKILL at the n-th system call of a kind, for every operation and every file that it makes",
     "all of it or nothing"),
    ("power_loss", "images of what a disk may hold after power loss: every prefix, synced only, torn and reordered",
     "full: nothing acknowledged is lost; relaxed: only the last commits; sound"),
    ("io_errors", "EIO, ENOSPC, EMFILE and ENOMEM from the n-th system call of a kind, once and until the fault ends",
     "a typed error, nothing acknowledged that a failed sync lost; then it works, as counted"),
    ("full_disk", "full file systems and limits of the file size, each of another size",
     "a typed error, what was acknowledged is there, space given back is used"),
    ("mutated_files", "damaged and crafted files", "a typed error, in bounded time and memory"),
    ("mutated_snapshots", "damaged snapshots of derived indexes",
     "every answer is that of the tables, no process ends"),
    ("indexed_processes", "rounds of writes and searches by two processes, both with derived indexes",
     "every answer is that of the tables"),
    ("model_operations", "operations on a store and on a plain model of it, opened anew at random", "no difference"),
    ("contention", "four processes of four threads on the same keys for five minutes",
     "no lost update, no duplicate, no busy error"),
    ("lock_loss", "our own process opens and closes the files, Python's sqlite3 and other writers are beside us",
     "nothing acknowledged is lost"),
    ("forks", "forks under four writing threads", "no child hangs, none uses what it inherited"),
    ("live_backups", "backups under three writers", "each is one commit point"),
    ("killed_operations", "SIGKILL of `optimize`, `vacuum`, `checkpoint` and `backup` beside three writers",
     "the store and the backup before are whole"),
    ("migrations", "sixteen processes that open an older file at once, some killed", "brought forward exactly once"),
    ("hostile_calls", "calls of every public method with hostile arguments",
     "no panic, nothing stored that is not finite"),
    ("changing_arrays", "arrays that another thread writes while they are added", "what is stored was validated"),
    ("hostile_batches", "batches of changes, damaged and made up, many of them with right checksums",
     "a typed error and nothing applied, or a sound store; the clock moves at most 60 s"),
    ("sync_schedules", "five stores write, sync in part, meet old batches, have clocks apart and processes that end",
     "all become equal, and hold the documents and state that a model of every acknowledged write says"),
    ("forgotten", "documents are forgotten, and every file is searched for them by other means",
     "nothing of them is found; what stays is searched as before"),
    ("hostile_input", "bombs, odd paths, files of newer versions", "a typed error; a newer file keeps every byte"),
    ("encrypted", "every file that an encrypted store writes, searched for its text, vectors and key",
     "nothing is found"),
    ("rekey", "SIGKILL during rekey", "exactly one key opens"),
    ("rekey_power_loss", "images of what a disk may hold after power loss during rekey",
     "exactly one key opens, the new one where it was acknowledged"),
    ("churn", "half replaced, twenty times, then `optimize()`", "at most 1.3 times a fresh file; memory stays flat"),
]  # fmt: skip

HEAD = """# Reliability

What was done to the store, how often, and what came of it. `make faults` repeats all of it, `make faults ONLY="forks
power_loss"` some, and both write this page from their runs; `make test` runs a sample of each. `RAGSTORE_FAULTS_SEED`
repeats a run. `RAGSTORE_FAULTS_INDEX_AT="rows,changes"` gives the stores of a run derived indexes from so many rows on,
built anew after so many changes; it has a line of its own.

Who judges: each acknowledged write is there and whole across rows, text index and vectors, answers equal those of a
plain Python model, and SQLite's, FTS5's and our own checks of the file find nothing (`tests/faults`).
The judges have controls: losses made by hand, which they must see.

"""


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def cell(text: str) -> str:
    """What may stand in a table."""
    return text.replace("|", "/")


def row(name: str, what: str, must: str, result: dict | None) -> str:
    if result is None:
        return f"| {what} | {must} | not run yet | | | |"
    counts = "<br>".join(f"{count:,} {cell(of)}" for of, count in result["counts"].items())
    outcome = result["outcome"] if not result["reason"] else f"{result['outcome']}: {cell(result['reason'])}"
    seed = result["seed"] if result["counts"] else ""
    took = duration(result["seconds"]) + (f", of {result['commit']}" if result.get("commit") else "")
    return f"| {what} | {must} | {counts} | {seed} | {took} | {outcome} |"


def kept(before: str) -> tuple[dict[str, str], dict[str, str]]:
    """The lines of a page by suite, and until when was run on which machine."""
    names = {what: name for name, what, _ in SUITES}
    lines: dict[str, str] = {}
    name = ""
    for line in before.splitlines():
        what = line.removeprefix("| ").partition(" | ")[0]
        if line.startswith("| the same, with indexes"):
            lines[name + INDEXED] = line
        elif (name := names.get(what, "")) and "| not run yet |" not in line:
            lines[name] = line
    return lines, {machine: date for date, machine in re.findall(r"^Run until (\S+) on (.*)\.$", before, re.MULTILINE)}


def page(results: dict[str, dict], before: str = "") -> str:
    old, machines = kept(before)
    lines = [
        HEAD + "| what happens | what must come of it | how many | seed | took | result |",
        "|---|---|---|---|---|---|",
    ]
    known = {name + ending for name, _, _ in SUITES for ending in ("", INDEXED)}
    extra = [(name, name.replace("_", " "), "") for name in sorted(results) if name not in known]
    for name, what, must in [*SUITES, *extra]:
        result = results.get(name)
        lines.append(old[name] if result is None and name in old else row(name, what, must, result))
        if indexed := results.get(name + INDEXED):
            rows, changes = indexed["index at"].split(",")
            lines.append(row(name, f"the same, with indexes from {rows} rows, anew after {changes}", must, indexed))
        elif name + INDEXED in old:
            lines.append(old[name + INDEXED])
    for result in results.values():
        parts = result["machine"]
        machine = f"{parts['cores']} cores, {parts['kernel']}, {parts['file system']}"
        machines[machine] = max(result["date"], machines.get(machine, ""))
    for machine, date in sorted(machines.items()):
        lines += ["", f"Run until {date} on {machine}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    results = {path.stem: json.loads(path.read_text()) for path in sorted(Path(RESULTS).glob("*.json"))}
    PAGE.write_text(page(results, PAGE.read_text() if PAGE.exists() else ""))


if __name__ == "__main__":
    main()
