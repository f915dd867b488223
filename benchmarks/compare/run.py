"""The coordinator: it starts the workers, has them take turns, and keeps what was built and what was measured."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.compare import data as datasets
from benchmarks.compare.data import QUERIES, Dataset
from benchmarks.compare.system import SYSTEMS, How, called
from benchmarks.compare.worker import serve

# What splits the loops of one search, and the pools in which searches of several clients run.
LOOPS = tuple(f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"))
POOLS = ("RAYON_NUM_THREADS", "LANCE_CPU_THREADS", "LANCE_IO_THREADS", "TOKIO_WORKER_THREADS")
# What a worker is for, and which of those then have one thread. A search has one core besides.
ONE_THREAD = {"search": LOOPS + POOLS, "clients": LOOPS, "load": ()}
HOUR = 3600.0
# Seconds in which a system may answer all queries before its first turn.
WARM_UP = 3.0


class WorkerError(Exception):
    """A system did not do what it was asked for; the rest of the comparison goes on."""


class Worker:
    """A process of its own for one system.

    Parameters
    ----------
    system : str
        By its name in `SYSTEMS`.
    use : {"search", "clients", "load"}
        One client on one core, with nothing parallel; several clients, with nothing parallel inside a search; or a bulk
        load with all there is.
    """

    def __init__(self, system: str, use: str = "search") -> None:
        self.system = system
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, system, use == "search"), daemon=True)
        before = {name: os.environ.get(name) for name in ONE_THREAD[use]}
        os.environ.update(dict.fromkeys(before, "1"))
        try:
            self._process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        self.import_seconds = self._answer(HOUR)

    def _answer(self, timeout: float) -> Any:
        try:
            if not self._pipe.poll(timeout):
                self._process.kill()
                raise WorkerError(f"gave up after {timeout:,.0f} s")
            kind, answer = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error
        if kind == "error":
            print(answer, file=sys.stderr)
            # Without places on this machine.
            raise WorkerError(re.sub(r"\S*/\S+", "...", answer.strip().splitlines()[-1])[:160])
        return answer

    def call(self, method: str, *args: Any, timeout: float = HOUR, **options: Any) -> Any:
        """Have it do something, and wait for the answer."""
        try:
            self._pipe.send((method, args, options))
        except ConnectionError as error:
            raise self._ended() from error
        return self._answer(timeout)

    def _ended(self) -> WorkerError:
        self._process.join()
        return WorkerError(f"the process ended with code {self._process.exitcode}")

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@dataclass
class Built:
    """A folder that a system made, and what that took."""

    folder: Path
    figures: dict[str, float]
    bytes: int


@dataclass
class Entry:
    """A system, built in one way and open: one line of a table."""

    system: str
    how: dict[str, Any]
    worker: Worker
    built: Built
    opened: dict[str, float]
    setting: dict[str, Any] = field(default_factory=dict)
    turns: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    answers: dict[int, list[int]] = field(default_factory=dict)

    @property
    def p50(self) -> float:
        return median(self.turns)

    @property
    def p99(self) -> float:
        return float(np.percentile(self.times, 99))

    @property
    def label(self) -> str:
        return ", ".join(filter(None, (called(self.how), called(self.setting))))


class Run:
    """One comparison: where its files are, what takes part, and what to do how often.

    Parameters
    ----------
    root : Path
        Data, builds and results are kept in it.
    source : Path, optional
        Folder with techdocs/; without it all data is generated.
    systems : iterable of str
    size : int
        Rows of what is generated.
    prose : int, optional
        Rows of techdocs, for a shorter run.
    rounds, turn : int
        Turns of each system, and searches of one of them.
    """

    def __init__(
        self,
        root: Path,
        source: Path | None = None,
        systems: Iterable[str] = tuple(SYSTEMS),
        *,
        size: int = 100_000,
        prose: int | None = None,
        rounds: int = 10,
        turn: int = 50,
        seconds: float = 1.0,
        queries: int = QUERIES,
        sizes: Iterable[int] = (),
    ) -> None:
        self.root, self.source, self.systems = root, source, list(systems)
        self.size, self.prose, self.sizes = size, prose, sorted(sizes)
        self.rounds, self.turn, self.seconds, self.queries = rounds, turn, seconds, queries
        self.notes: list[str] = []
        # What choose.py found out.
        self.choices: dict[str, Any] = {}
        self.described: dict[str, dict[str, Any]] = {}
        self._built: dict[str, Built] = {}
        self._failed: dict[str, str] = {}
        self.clean()
        for name in list(self.systems):
            worker = None
            try:
                worker = Worker(name)
                self.described[name] = worker.call("describe")
            except WorkerError as error:
                self.systems.remove(name)
                self.notes.append(f"{name} does not take part: {error}")
            finally:
                if worker:
                    worker.close()

    def clean(self) -> None:
        """Remove what was built; data and results stay."""
        shutil.rmtree(self.root / "builds", ignore_errors=True)

    # data

    def generated(self, size: int | None = None) -> Dataset:
        return datasets.generated(self.root / "data", size or self.size, self.queries)

    def prose_data(self) -> Dataset:
        """Real prose where there is some, generated texts elsewhere."""
        if self.source is None:
            return self.generated()
        return datasets.techdocs(self.root / "data", self.source, self.prose, self.queries)

    # systems

    def title(self, system: str) -> str:
        """As it is called in the tables."""
        return self.described[system]["title"] + (" (index only)" if self.described[system]["index_only"] else "")

    def able(self, *kinds: str) -> list[str]:
        """The systems that can do all of that."""
        return [name for name in self.systems if not any(kind in self.described[name]["cannot"] for kind in kinds)]

    def absent(self, *kinds: str) -> list[str]:
        """Those that cannot, together where it is for the same reason."""
        reasons: dict[str, list[str]] = {}
        for name in self.systems:
            cannot = self.described[name]["cannot"]
            reason = next((cannot[kind] for kind in kinds if kind in cannot), None)
            if reason:
                reasons.setdefault(reason, []).append(self.described[name]["title"])
        return [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]

    def builds(self, system: str) -> list[dict[str, Any]]:
        return self.described[system]["builds"]

    def settings(self, system: str, how: How) -> list[dict[str, Any]]:
        """How a build may be searched, the cheapest first."""
        described = self.described[system]
        return described["settings"][described["builds"].index(how)]

    def built(self, system: str, how: How, data: Dataset, parts: tuple[str, ...]) -> Built:
        """Have it make its folder, once in a run."""
        key = "-".join([data.name, *parts, system, *(f"{k}{v}" for k, v in how.items())])
        if key in self._failed:
            raise WorkerError(self._failed[key])
        if key not in self._built:
            folder = self.root / "builds" / key
            folder.mkdir(parents=True)
            worker = Worker(system, "load")
            try:
                figures = worker.call("build", str(folder), str(data.folder), dict(how), parts)
            except WorkerError as error:
                self._failed[key] = str(error)
                raise
            finally:
                worker.close()
            self._built[key] = Built(folder, figures, disk(folder))
            print(f"  built {key}: {figures}", flush=True)
        return self._built[key]

    def open(
        self,
        system: str,
        how: How,
        data: Dataset,
        parts: tuple[str, ...],
        *,
        use: str = "search",
        copy: bool = False,
    ) -> Entry:
        """Open what it made in a process of its own; a copy of it, where it is to be written to."""
        built = self.built(system, how, data, parts)
        folder = built.folder
        if copy:
            folder = folder.with_name(folder.name + ".copy")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(built.folder, folder)
        worker = Worker(system, use)
        try:
            opened = worker.call("open", str(folder), str(data.folder), dict(how))
        except WorkerError:
            worker.close()
            raise
        return Entry(system, dict(how), worker, built, opened)

    @contextmanager
    def opened(
        self, wanted: Iterable[tuple[str, How]], data: Dataset, parts: tuple[str, ...], **options: Any
    ) -> Iterator[list[Entry]]:
        """Open several at once. One that fails is left out, with a note."""
        entries: list[Entry] = []
        try:
            for system, how in wanted:
                with self.tolerating(system, f"{' and '.join(parts)} of {data.name}"):
                    entries.append(self.open(system, how, data, parts, **options))
            yield entries
        finally:
            for entry in entries:
                entry.worker.close()

    @contextmanager
    def tolerating(self, system: str, what: str) -> Iterator[None]:
        """Make a note of a failure of one system, and go on."""
        try:
            yield
        except WorkerError as error:
            note = f"{self.title(system)}, {what}: {error}"
            print(f"  {note}", flush=True)
            if note not in self.notes:
                self.notes.append(note)

    def take_turns(self, entries: list[Entry], kind: str, *, below: int | None = None, k: int = 10) -> list[Entry]:
        """Each searches for a while, then the next, again and again: noise falls on all. Gives who did not fail.

        First each answers all queries once, or as many as it can in `WARM_UP`, unrecorded: it is to have done what it
        does on a first search only.
        """
        alive = []
        for entry in entries:
            entry.turns, entry.times, entry.answers = [], [], {}
            with self.tolerating(entry.system, kind):
                entry.worker.call(
                    "ask", kind, entry.setting, 0, self.queries, k=k, below=below, seconds=WARM_UP, warm=0, check=False
                )
                alive.append(entry)
        for number in range(self.rounds):
            first = number * self.turn % self.queries
            # Nobody always comes after the same one.
            order = alive[number % len(alive) :] + alive[: number % len(alive)] if alive else []
            for entry in order:
                done = False
                with self.tolerating(entry.system, kind):
                    turn = entry.worker.call(
                        "ask", kind, entry.setting, first, self.turn, k=k, below=below, seconds=self.seconds
                    )
                    entry.turns.append(median(turn["ms"]))
                    entry.times += turn["ms"]
                    for query, rows in enumerate(turn["hits"], first):
                        entry.answers[query % self.queries] = rows
                    done = True
                if not done:
                    alive.remove(entry)
        return alive


def ratio(ours: Entry, theirs: Entry) -> float:
    """Our time by theirs, of the median over the rounds, in each of which both had a turn."""
    return median(a / b for a, b in zip(ours.turns, theirs.turns, strict=True))


def disk(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def machine() -> dict[str, Any]:
    """What was measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line), model
        )
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def save(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
