"""What a worker does with more than one thread, or while it writes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.compare.system import How
    from benchmarks.compare.worker import Host

# Searches of each kind in one look at the latency, always the same; tries of each; and looks that must agree.
LOOK, TRIES, STEADY = 10, 3, 9
# A look this much slower than steady state is not of it.
SLACK = 1.2
# Longest wait for it, in seconds.
PATIENCE = 600


def parallel(host: Host, kind: str, how: How, first: int, seconds: float, threads: int) -> float:
    """Searches a second of several threads, each of which goes through the queries for so long."""
    host.read()
    together = threading.Barrier(threads, timeout=PATIENCE)

    def search(query: int) -> tuple[int, float, float]:
        host.call(kind, query, 10, how, None)
        together.wait()
        began = now = time.perf_counter()
        count = 0
        while now < began + seconds:
            host.call(kind, query + count, 10, how, None)
            count += 1
            now = time.perf_counter()
        return count, began, now

    with ThreadPoolExecutor(threads) as pool:
        searched = list(pool.map(search, range(first, first + threads)))
    counts, begun, ended = zip(*searched, strict=True)
    return sum(counts) / (max(ended) - min(begun))


def write_and_search(
    host: Host, how: How, first: int, start: int, rate: int, batch: int, seconds: float
) -> dict[str, Any]:
    """Search while another thread adds `rate` rows a second, in batches, each looked for as soon as it is acknowledged.

    Rows of the data are added once more under new numbers, from `start` on, a little turned so that each vector is its
    own; `first` is the first query.
    """
    host.read()
    stop, failures = threading.Event(), []
    written, seen = 0, 0

    def write() -> None:
        nonlocal written, seen
        size = host.size
        began = time.perf_counter()
        number = start
        try:
            while not stop.is_set():
                rows = host.rows(number % (size - batch), number % (size - batch) + batch, vectors=True)
                turned = rows.vectors + 0.01 * rows.vectors[::-1]
                host.system.add(type(rows)(number, rows.texts, turned, rows.numbers))
                ids, _ = host.system.vector(turned[0], 10, how)
                seen += number in {int(row) for row in ids}
                written += batch
                number += batch
                # The pace, not a wait for anything: the next batch is due then.
                stop.wait(max(0.0, began + written / rate - time.perf_counter()))
        except Exception as error:  # noqa: BLE001
            failures.append(repr(error))

    writer = threading.Thread(target=write)
    times: list[float] = []
    began = time.perf_counter()
    writer.start()
    query = first
    while time.perf_counter() - began < seconds or len(times) < 5:
        asked = time.perf_counter()
        host.call("vector", query, 10, how, None)
        times.append(1e3 * (time.perf_counter() - asked))
        query += 1
    took = time.perf_counter() - began
    stop.set()
    writer.join()
    if failures:
        raise RuntimeError(failures[0])
    return {"ms": times, "written": written, "rate": written / took, "batches": written // batch, "seen": seen}


def ingest(host: Host, folder: str, data: str, how: How) -> dict[str, float]:
    """Add all rows with both indexes, and go on until searches take what they will go on taking.

    Nothing waits for a time to pass: searches are made until most of the last looks at both kinds agree. Ready is when
    the first look began after which all are like them.
    """
    host.take(data)
    size, batch = host.size, host.system.batch
    batches = [host.rows(at, min(at + batch, size), vectors=True) for at in range(0, size, batch)]
    began = time.perf_counter()
    host.system.create(Path(folder), how, dimension=host.queries.shape[1], text=True)
    for rows in batches:
        host.system.add(rows)
    added = time.perf_counter()
    host.system.finish()
    finished = time.perf_counter()
    at: list[float] = []
    looks: dict[str, list[float]] = {"vector": [], "keyword": []}
    while not all(agree(times[-STEADY:]) for times in looks.values()):
        at.append(time.perf_counter())
        if at[-1] > finished + PATIENCE:
            raise TimeoutError(f"no steady latency within {PATIENCE} s")
        for kind, times in looks.items():
            times.append(look(host, kind, how))
    ready = max(since_steady(times) for times in looks.values())
    return {
        "rows": size,
        "add_seconds": added - began,
        "finish_seconds": finished - added,
        "ready_seconds": at[ready] - began,
        **{f"{kind}_ms": median(times[-STEADY:]) for kind, times in looks.items()},
    }


def look(host: Host, kind: str, how: How) -> float:
    """The median of a few searches, each the best of some tries: other processes have their moments."""
    tries = [host.ask(kind, how, 0, LOOK, warm=0)["ms"] for _ in range(TRIES)]
    return median(min(times) for times in zip(*tries, strict=True))


def most(times: list[float], limit: float) -> bool:
    """Whether two thirds of the looks are within the limit: the others are noise."""
    return 3 * sum(time <= limit for time in times) >= 2 * len(times)


def agree(times: list[float]) -> bool:
    """Whether there are enough looks, and most of them are within the slack of the least."""
    return len(times) == STEADY and most(times, SLACK * min(times))


def since_steady(times: list[float]) -> int:
    """The first look that is within the slack of the last ones' median, as most of those after it are."""
    limit = SLACK * median(times[-STEADY:])
    return next(i for i, time in enumerate(times) if time <= limit and most(times[i : i + STEADY], limit))
