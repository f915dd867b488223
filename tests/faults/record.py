"""What a suite of faults did: how many, with which seed, for how long, and what came of it.

A complete run (`RAGSTORE_FAULTS=full`) leaves a JSON file for each suite in `.faults`, from which `report` makes
docs/reliability.md. A sample leaves nothing.
"""

import datetime as dt
import inspect
import json
import os
import platform
import random
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import ragstore.store

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("RAGSTORE_FAULTS") == "full"
RESULTS = ROOT / ".faults"
# "rows,changes": from so many rows on there are derived indexes, built anew after so many changes. The stores of most
# suites are too small for them otherwise.
INDEX_AT = os.environ.get("RAGSTORE_FAULTS_INDEX_AT")
if INDEX_AT:
    ragstore.store._INDEX_AT = (*map(int, INDEX_AT.split(",")), False)
# Suites that began in this process.
BEGUN: set[str] = set()
# What is added to the name of a suite where its stores have them.
INDEXED = "+indexes"


def size(sample: int, full: int) -> int:
    """How many of something: by default a sample, and all of them in a complete run."""
    return full if FULL else sample


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    above = [mount for mount in mounts if folder.is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]))[2] if above else "unknown"


class Suite:
    """A context in which the faults of one suite happen."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        given = os.environ.get("RAGSTORE_FAULTS_SEED")
        self.seed = random.randrange(1 << 32) if given is None else int(given)
        self.chance = random.Random(self.seed)
        self.commit = commit() if FULL else ""
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> "Suite":
        BEGUN.add(self.name)
        print(f"{self.name}: seed {self.seed}")
        self.began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        counts = ", ".join(f"{count:,} {what}" for what, count in self.counts.items())
        seconds = time.monotonic() - self.began
        print(f"{self.name}: {counts} in {seconds:.1f} s")
        # A keyboard interrupt says nothing of the store.
        if not FULL or (kind is not None and issubclass(kind, KeyboardInterrupt)):
            return
        outcome, reason = "passed", ""
        if isinstance(error, pytest.skip.Exception):
            outcome, reason = "skipped", str(error.msg)
        elif error is not None:
            outcome, reason = "failed", (str(error).splitlines() or [type(error).__name__])[0][:200]
        write(self, outcome, reason, seconds)


def commit() -> str:
    """What is run: the commit of the work tree, where there is one."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write(suite: Suite, outcome: str, reason: str, seconds: float) -> None:
    """Keep the result; a newer one takes its place."""
    RESULTS.mkdir(exist_ok=True)
    result = {
        "name": suite.name,
        "counts": dict(suite.counts),
        "seed": suite.seed,
        "seconds": round(seconds, 1),
        "outcome": outcome,
        "reason": reason,
        "index at": INDEX_AT,
        "commit": suite.commit,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": {
            "cores": os.cpu_count(),
            "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
            "file system": file_system(suite.folder),
        },
    }
    (RESULTS / f"{suite.name}{INDEXED if INDEX_AT else ''}.json").write_text(json.dumps(result, indent=1) + "\n")


def suite_of_module(name: str):
    """A fixture for a module whose tests together are one suite, each a case of it."""

    @pytest.fixture(scope="module", autouse=True)
    def suite(request, tmp_path_factory):
        failed = request.session.testsfailed
        with Suite(name, tmp_path_factory.getbasetemp()) as suite:
            yield suite
            reasons = skipped(request.session).get(request.path, {})
            cases = {item.nodeid for item in request.session.items if item.path == request.path}
            suite.counts["cases"] = len(cases - reasons.keys())
            suite.counts.update(f"skipped: {reasons[case]}" for case in sorted(cases & reasons.keys()))
            assert request.session.testsfailed == failed, "a case failed"
            if not suite.counts["cases"]:
                pytest.skip(next(iter(reasons.values())))

    return suite


# The tests of a session that were skipped, with the reason, by module.
SKIPPED = pytest.StashKey[dict[Path, dict[str, str]]]()


def skipped(session: pytest.Session) -> dict[Path, dict[str, str]]:
    return session.stash.setdefault(SKIPPED, {})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Keeps what was skipped."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ").partition("\n")[0][:200]
        skipped(item.session).setdefault(item.path, {})[item.nodeid] = reason
    return report


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session):
    """A suite that was skipped before it began leaves that, too."""
    if FULL:
        for item in session.items:
            reason = skipped(session).get(item.path, {}).get(item.nodeid)
            if reason is not None:
                for name in named(item) - BEGUN:
                    write(Suite(name, RESULTS), "skipped", reason, 0.0)
                    BEGUN.add(name)
    return (yield)


def named(item: pytest.Item) -> set[str]:
    """The suites that begin in a test, or with the tests of its module."""
    inside = re.findall(r'record\.Suite\("(\w+)"', inspect.getsource(item.function))
    return {*inside, *re.findall(r'record\.suite_of_module\("(\w+)"', inspect.getsource(item.module))}
