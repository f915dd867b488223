"""Each function measures one thing beside its reference and returns the figures by name."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import ragstore

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.data import Corpus

ROOT = Path(__file__).parent.parent
Figures = dict[str, float | str]


def bare(*args: object) -> dict:
    """Run the reference through bare rusqlite: the release build where there is one."""
    program = next(
        (path for kind in ("release", "debug") if (path := ROOT / "target" / kind / "examples" / "bare").exists()),
        None,
    )
    if program is None:
        message = "the reference is not built: cargo build --release --no-default-features --example bare"
        raise FileNotFoundError(message)
    done = subprocess.run([program, *map(str, args)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def remove(folder: Path, pattern: str) -> None:
    """Remove stores with all that is beside them."""
    for path in folder.glob(pattern):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def in_turn(rounds: int, *calls: Callable[[], float]) -> list[tuple[float, ...]]:
    """What each call returned in each round; another goes first each time, since the first of a round fares worse."""
    results = []
    for number in range(rounds):
        order = [(number + place) % len(calls) for place in range(len(calls))]
        figures = {place: calls[place]() for place in order}
        results.append(tuple(figures[place] for place in range(len(calls))))
    return results


def fill(path: Path, corpus: Corpus, *, indexes: bool = False) -> float:
    """Add the whole corpus to a new file in one call, and say how long that took; then build its indexes, or none."""
    with ragstore.open(path, derived="auto" if indexes else "off") as store:
        collection = store.create_collection("c", dimension=corpus.vectors.shape[1])
        took = seconds(lambda: collection.add(corpus.texts, corpus.vectors))
        if indexes:
            store.optimize()
    return took


def files(folder: Path, corpus: Corpus) -> tuple[Path, Path]:
    """Texts and vectors as the reference reads them."""
    texts, vectors = folder / "texts.jsonl", folder / "vectors.f32"
    texts.write_text("".join(json.dumps(text) + "\n" for text in corpus.texts))
    corpus.vectors.tofile(vectors)
    return texts, vectors


def bulk_add(folder: Path, corpus: Corpus, rounds: int = 6) -> Figures:
    """Rows, text index and vectors in one call, from it to its durable answer, against the same statements."""
    inputs = (*files(folder, corpus), corpus.vectors.shape[1], 8192)

    def ours() -> float:
        with ragstore.open(folder / "ours.db") as store:
            collection = store.create_collection("c", dimension=corpus.vectors.shape[1])
            took = seconds(lambda: collection.add(corpus.texts, corpus.vectors))
        remove(folder, "ours.db*")
        return took

    def theirs() -> float:
        took = bare("add", folder / "bare.db", *inputs)["seconds"]
        remove(folder, "bare.db*")
        return took

    pairs = in_turn(rounds, ours, theirs)
    n = len(corpus.texts)
    return {
        "speed / bare rusqlite": median(b / a for a, b in pairs),
        "chunks/s": n / median(a for a, _ in pairs),
        "bare chunks/s": n / median(b for _, b in pairs),
    }


def feed(folder: Path, corpus: Corpus, rounds: int = 10) -> Figures:
    """The change feed: the statements of adding through bare rusqlite with it and without it, in turn."""
    inputs = (*files(folder, corpus), corpus.vectors.shape[1], 8192)
    size = {}

    def add(command: str) -> float:
        done = bare(command, folder / "feed.db", *inputs)
        size[command] = done["bytes"]
        remove(folder, "feed.db*")
        return done["seconds"]

    pairs = in_turn(rounds, lambda: add("add"), lambda: add("add_without_feed"))
    return {
        "time with / without": median(a / b for a, b in pairs),
        "bytes with / without": size["add"] / size["add_without_feed"],
        "chunks/s with": len(corpus.texts) / median(a for a, _ in pairs),
        "chunks/s without": len(corpus.texts) / median(b for _, b in pairs),
    }


def sync(folder: Path, corpus: Corpus, rounds: int = 5) -> Figures:
    """Applying everything that another store holds, against adding it, in turn."""
    added, exported, applied, size, unchanged = [], [], [], 0, 0
    for i in range(rounds):
        stores = folder / f"sync{i}"
        stores.mkdir()
        added.append(fill(stores / "source.db", corpus))
        with (
            ragstore.open(stores / "source.db", derived="off") as source,
            ragstore.open(stores / "target.db", derived="off") as target,
        ):
            began = time.perf_counter()
            batch = source.export_changes()
            exported.append(time.perf_counter() - began)
            applied.append(seconds(lambda batch=batch, target=target: target.apply_changes(batch)))
            size, unchanged = len(batch), len(source.export_changes(target.watermark()))
            del batch
        shutil.rmtree(stores)
    n = len(corpus.texts)
    return {
        "speed / adding": median(a / b for a, b in zip(added, applied, strict=True)),
        "chunks/s applied": n / median(applied),
        "chunks/s added": n / median(added),
        "chunks/s exported": n / median(exported),
        "MiB of the batch": size / 2**20,
        "bytes where nothing is new": unchanged,
    }


def durability(folder: Path, corpus: Corpus, rounds: int = 6, batch: int = 1000) -> Figures:
    """Bulk adds that survive power loss, against those that may lose the last commits then, in turn."""

    def add(setting: str, size: int) -> float:
        path = folder / "durability.db"
        with ragstore.open(path, durability=setting) as store:
            collection = store.create_collection("c", dimension=corpus.vectors.shape[1])
            parts = [slice(at, at + size) for at in range(0, len(corpus.texts), size)]
            took = seconds(lambda: [collection.add(corpus.texts[part], corpus.vectors[part]) for part in parts])
        remove(folder, "durability.db*")
        return took

    figures: Figures = {}
    for name, size in {"one call": len(corpus.texts), f"calls of {batch:,} chunks": batch}.items():
        pairs = in_turn(rounds, lambda size=size: add("full", size), lambda size=size: add("relaxed", size))
        figures[f"{name}: time full / relaxed"] = median(full / relaxed for full, relaxed in pairs)
        figures[f"{name}: chunks/s full"] = len(corpus.texts) / median(full for full, _ in pairs)
        figures[f"{name}: chunks/s relaxed"] = len(corpus.texts) / median(relaxed for _, relaxed in pairs)
    return figures


def peak_memory(folder: Path, rows: int = 200_000, dimension: int = 384) -> Figures:
    """Peak resident memory that adding one array takes beyond the array, in a process of its own."""
    script = """
import re, sys, numpy as np, ragstore
from pathlib import Path
path, rows, dimension = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resident = lambda which: int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
rng = np.random.default_rng(1)
vectors = np.empty((rows, dimension), np.float32)
for i in range(0, rows, 10_000):
    vectors[i:i + 10_000] = rng.standard_normal(vectors[i:i + 10_000].shape, dtype=np.float32)
with ragstore.open(path) as store:
    collection = store.create_collection("c", dimension=dimension)
    chunks = [ragstore.Chunk() for _ in range(rows)]
    document = ragstore.Document(id="all", chunks=chunks)
    collection.add([ragstore.Document(id="warm", text="warm")])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    collection.add([document], vectors)
    print(resident("VmHWM") - before)
"""
    args = [sys.executable, "-c", script, folder / "memory.db", rows, dimension]
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, check=True)
    return {"MiB beyond the array": float(done.stdout), "MiB of the array": rows * dimension * 4 / 2**20}


def page_size(folder: Path, corpus: Corpus) -> Figures:
    """The same statements through bare rusqlite at several page sizes, and vec0's query on the file."""
    (texts, vectors), queries = files(folder, corpus), folder / "queries.f32"
    corpus.queries.tofile(queries)
    dimension = corpus.vectors.shape[1]
    figures: Figures = {}
    for size in (4096, 8192, 16384):
        path = folder / f"{size}.db"
        rate = len(corpus.texts) / bare("add", path, texts, vectors, dimension, size)["seconds"]
        figures[f"{size}: chunks/s"] = rate
        figures[f"{size}: vec0 ms"] = median(bare("knn", path, queries, dimension, 10)["millis"])
        figures[f"{size}: ten reads ms"] = median(bare("get", path, 300)["millis"])
        figures[f"{size}: MiB"] = sum(file.stat().st_size for file in folder.glob(f"{size}.db*")) / 2**20
    return figures


def exact_search(folder: Path, corpus: Corpus, k: int = 10) -> Figures:
    """Exact vector search without an index, from the Python call to hits with texts, against vec0's query."""
    path, queries = folder / "search.db", folder / "queries.f32"
    fill(path, corpus)
    corpus.queries.tofile(queries)
    reference = bare("knn", path, queries, corpus.vectors.shape[1], k)
    scores = corpus.queries @ corpus.vectors.T
    with ragstore.open(path, read_only=True, derived="off") as store:
        collection = store["c"]
        collection.vector_search(corpus.queries[0], k, exact=True)
        ours, recall = [], []
        for query, row in zip(corpus.queries, scores, strict=True):
            hits: list = []
            ours.append(1e3 * seconds(lambda q=query, h=hits: h.append(collection.vector_search(q, k, exact=True))))
            best = set(np.argsort(-row, kind="stable")[:k])
            found = {corpus.texts.index(text) if corpus.texts.count(text) == 1 else None for text in hits[0].texts}
            recall.append(len(found & best) / len(best))
    numpy = [1e3 * seconds(lambda q=q: np.argpartition(-(corpus.vectors @ q), k)[:k]) for q in corpus.queries]
    return {
        "time / bare vec0": median(ours) / median(reference["millis"]),
        "ms": median(ours),
        "vec0 ms": median(reference["millis"]),
        "NumPy ms": median(numpy),
        "recall (unique texts)": float(np.mean(recall)),
    }


def keyword(folder: Path, corpus: Corpus, k: int = 10) -> Figures:
    """Keyword search without an index of ours, with texts, against FTS5's `ORDER BY rank` and a SELECT per text."""
    path, asked = folder / "keyword.db", folder / "expressions.json"
    with ragstore.open(path, derived="off") as store:
        store.create_collection("c").add(corpus.texts)
    # One word of each beginning: of several with the same stem the store asks for the first alone.
    found = (re.findall(r"[^\W_]+", question.lower()) for question in corpus.questions)
    words = [list({word[:3]: word for word in reversed(each)}.values())[::-1] for each in found]
    long = [" ".join(corpus.texts[i::50][:100]) for i in range(5)]
    figures: Figures = {}
    with ragstore.open(path, read_only=True, derived="off") as store:
        collection = store["c"]
        for syntax, operator in (("natural", " OR "), ("all", " AND "), ("phrase", " + ")):
            asked.write_text(json.dumps([operator.join(f'"{word}"' for word in each) for each in words]))
            reference = bare("keyword", path, asked, k)
            ours, same = [], []
            for each, theirs in zip(words, reference["rank"]["scores"], strict=True):
                query = " ".join(each)
                ours.append(
                    1e3
                    * min(
                        seconds(lambda q=query, s=syntax: collection.keyword_search(q, k, syntax=s)) for _ in range(3)
                    )
                )
                scores = collection.keyword_search(query, k, syntax=syntax).scores
                same.append(len(scores) == len(theirs) and np.allclose(scores, theirs))
            bare_ms = median(reference["rank"]["millis"])
            figures[f"{syntax}: time / bare FTS5"] = median(ours) / bare_ms
            figures[f"{syntax}: time / ties by rowid"] = median(ours) / median(reference["rank, rowid"]["millis"])
            figures[f"{syntax}: ms"] = median(ours)
            figures[f"{syntax}: bare ms"] = bare_ms
            figures[f"{syntax}: same scores"] = float(np.mean(same))
        figures["words of a long text"] = median(len(set(text.lower().split())) for text in long)
        figures["long text: ms"] = 1e3 * median(seconds(lambda t=t: collection.keyword_search(t, k)) for t in long)
    return figures


def filters(folder: Path, corpus: Corpus, rows: int = 100_000, k: int = 10, rounds: int = 9) -> Figures:
    """Filters counted against SQLite's own ways, and exact search without an index within them against all of it."""
    path = folder / "filters.db"
    rng = np.random.default_rng(5)
    numbers = rng.permutation(rows) % 1000
    vectors = corpus.vectors[rng.integers(0, len(corpus.vectors), rows)]
    texts = (corpus.texts * (rows // len(corpus.texts) + 1))[:rows]
    metadatas = [{"lang": "en", "n": int(n), "section": f"s{n % 7}"} for n in numbers]
    with ragstore.open(path, derived="off") as store:
        store.create_collection("c").add_texts(texts, vectors, metadatas=metadatas)

    def fastest(call: Callable[[], object], times: int = rounds) -> float:
        return median(1e3 * seconds(call) for _ in range(times))

    figures: Figures = {}
    queries = corpus.queries[:5]
    half = {"n": {"$lt": 500}}
    with ragstore.open(path, derived="off") as store:
        collection = store["c"]

        # In many short turns, since machines drift.
        def turns(what: str, name: str, goes: int = 15) -> None:
            pairs = [
                (median(bare("filter", path, 500, 3)[what]), fastest(lambda: collection.count(half), 3))
                for _ in range(goes)
            ]
            figures[f"count, {name}"] = median(ours / theirs for theirs, ours in pairs)
            figures[f"count, {name.split(':', maxsplit=1)[0]}: ms"] = median(ours for _, ours in pairs)

        turns("scan", "no index: time / json_extract")
        collection.create_index("n")
        turns("index", "index: time / plain column")
        whole = median(fastest(lambda v=v: collection.vector_search(v, k, exact=True)) for v in queries)
        figures["search, no filter: ms"] = whole
        for share, least in ((0.1, 1), (1, 10), (10, 100), (50, 500), (100, 1000)):
            where = {"n": {"$lt": least}}
            took = median(
                fastest(lambda v=v, w=where: collection.vector_search(v, k, where=w, exact=True)) for v in queries
            )
            hits = [len(collection.vector_search(v, k, where=where, exact=True)) for v in queries]
            # A bound that was never asked for before lets through the same rows, and is resolved anew.
            bounds = iter(np.linspace(least - 0.9, least - 0.1, rounds).tolist())
            first = fastest(
                lambda b=bounds: collection.vector_search(queries[0], k, where={"n": {"$lt": next(b)}}, exact=True)
            )
            figures[f"search, {share} %: time / no filter, a new filter"] = first / whole
            figures[f"search, {share} %: time / no filter, the same again"] = took / whole
            figures[f"search, {share} %: hits of {k}"] = min(hits)
    return figures


def hybrid(folder: Path, corpus: Corpus, k: int = 10, repeat: int = 3) -> Figures:
    """Hybrid search against the slower of its legs by itself, each asked as deep as the fusion asks it."""
    path, depth = folder / "hybrid.db", 100
    fill(path, corpus, indexes=True)

    def fastest(call: Callable[[], object]) -> float:
        return 1e3 * min(seconds(call) for _ in range(repeat))

    rows = []
    with ragstore.open(path, read_only=True) as store:
        collection = store["c"]
        for text, vector in zip(corpus.questions, corpus.queries, strict=True):
            near = fastest(lambda v=vector: collection.vector_search(v, depth))
            found = fastest(lambda t=text: collection.keyword_search(t, depth))
            both = fastest(lambda t=text, v=vector: collection.hybrid_search(t, v, k))
            rows.append((both / max(near, found), both, near, found))
        batch = fastest(lambda: collection.search_batch(corpus.queries, k))
        # All of them in turn, as the batch asks them: the same one again finds its pages in the caches.
        alone = fastest(lambda: [collection.vector_search(vector, k) for vector in corpus.queries])
    ratios, boths, nears, founds = zip(*rows, strict=True)
    return {
        "time / slower leg": median(ratios),
        "ms": median(boths),
        "vector leg ms": median(nears),
        "keyword leg ms": median(founds),
        "search_batch: time of a query / alone": batch / alone,
    }


def candidates(
    folder: Path, corpus: Corpus, k: int = 10, depths: tuple[int, ...] = (10, 20, 50, 100, 200, 500, 1000)
) -> Figures:
    """Hybrid search with fewer candidates against 4,000 of each leg: share of the same hits, and time."""
    path = folder / "candidates.db"
    fill(path, corpus, indexes=True)
    figures: Figures = {}
    with ragstore.open(path, read_only=True) as store:
        collection = store["c"]
        asked = list(zip(corpus.questions, corpus.queries, strict=True))
        whole = [set(collection.hybrid_search(text, vector, k, candidates=4000).ids) for text, vector in asked]
        for depth in depths:
            found: list[set[str]] = []

            def ask(text: str, vector: np.ndarray, depth: int = depth, found: list[set[str]] = found) -> None:
                found.append(set(collection.hybrid_search(text, vector, k, candidates=depth).ids))

            took = [1e3 * seconds(lambda t=text, v=vector, ask=ask: ask(t, v)) for text, vector in asked]
            same = [len(some & every) / max(len(every), 1) for some, every in zip(found, whole, strict=True)]
            figures[f"{depth}: same hits"] = float(np.mean(same))
            figures[f"{depth}: ms"] = median(took)
    return figures


def read_back(folder: Path, corpus: Corpus, rounds: int = 300) -> Figures:
    """Ten ids into chunks, and ten hits of a search that ranks next to nothing, against one prepared SELECT."""
    path = folder / "get.db"
    fill(path, corpus)
    reference = bare("get", path, rounds)["millis"]
    with ragstore.open(path, read_only=True, derived="off") as store:
        collection = store["c"]
        documents = collection.list_documents(limit=2000)
        ids = [collection.get_chunks(document.id)[0].id for document in documents]
        ours = [
            1e3 * seconds(lambda r=r: collection.get([ids[(r * 7919 + p * 104729) % len(ids)] for p in range(10)]))
            for r in range(rounds)
        ]
    return {
        "time / prepared SELECT": median(ours) / median(reference),
        "ms": median(ours),
        "SELECT ms": median(reference),
    }


def walk(folder: Path, _corpus: Corpus, nodes: int = 10_000, fan_out: int = 10, depth: int = 3) -> Figures:
    """100,000 relations, ten of each id, walked three deep, against one recursive query."""
    path = folder / "walk.db"
    rng = np.random.default_rng(6)
    ids = [f"n{i}" for i in range(nodes)]
    with ragstore.open(path, durability="relaxed") as store:
        collection = store.create_collection("c")
        collection.add_texts(ids, ids=ids)
        for first in range(0, nodes, 500):
            with store.transaction() as tx:
                for node in range(first, first + 500):
                    for target in rng.choice(nodes - 1, fan_out, replace=False):
                        strength = float(rng.uniform(0.1, 1.0))
                        tx["c"].relate(ids[node], ids[(node + 1 + target) % nodes], "t", strength=strength)
    pairs, reached = [], []
    with ragstore.open(path, read_only=True) as store:
        collection = store["c"]
        # In many short turns, since machines drift.
        for node in range(0, nodes, nodes // 30):
            reference = bare("walk", path, ids[node], depth, 5)
            times = [1e3 * seconds(lambda n=node: collection.related([ids[n]], depth=depth)) for _ in range(5)]
            found = [r.strength for r in collection.related([ids[node]], depth=depth)]
            assert np.allclose(found, reference["strengths"])
            pairs.append((median(times), median(reference["millis"])))
            reached.append(len(collection.related([ids[node]], depth=depth, limit=10**6)))
    return {
        "time / recursive query": median(ours / theirs for ours, theirs in pairs),
        "ms": median(ours for ours, _ in pairs),
        "recursive query ms": median(theirs for _, theirs in pairs),
        "ids in reach": median(reached),
    }


def threads(folder: Path, corpus: Corpus, count: int = 4, rounds: int = 3) -> Figures:
    """Exact searches a second without an index, with several threads against one."""
    path = folder / "threads.db"
    fill(path, corpus)
    work = list(corpus.queries) * 2
    with ragstore.open(path, read_only=True, derived="off") as store:
        collection = store["c"]

        def rate(workers: int) -> float:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(collection.vector_search, work[:workers]))
                return len(work) / seconds(lambda: list(pool.map(collection.vector_search, work)))

        pairs = [(rate(1), rate(count)) for _ in range(rounds)]
    return {
        f"{count} threads / one": median(many / one for one, many in pairs),
        "one, queries/s": median(p[0] for p in pairs),
    }


def open_file(folder: Path, corpus: Corpus, batches: int = 20, rounds: int = 10) -> Figures:
    """Opening a file and reading one chunk, against bare rusqlite's open and first SELECT."""
    path = folder / "open.db"
    fill(path, corpus, indexes=True)
    with ragstore.open(path) as store:
        first = store["c"].get_chunks(store["c"].list_documents(limit=1)[0].id)[0].id
    reference, opened, first_read = [], [], []
    for number in range(batches * rounds):
        if number % rounds == 0:
            reference += bare("open", path, rounds)["millis"]
        began = time.perf_counter()
        store = ragstore.open(path)
        opened.append(1e3 * (time.perf_counter() - began))
        store["c"].get(first)
        first_read.append(1e3 * (time.perf_counter() - began))
        store.close()
    return {
        "open and read / bare": median(first_read) / median(reference),
        "open ms": median(opened),
        "open and read ms": median(first_read),
        "bare ms": median(reference),
    }


def ephemeral(_folder: Path, _corpus: Corpus, rounds: int = 50) -> Figures:
    """An ephemeral store with one collection, made and closed, against the same schema in memory."""

    def once() -> None:
        with ragstore.open() as store:
            store.create_collection("c", dimension=384)

    once()
    ours = [1e3 * seconds(once) for _ in range(rounds)]
    reference = bare("memory", rounds)["millis"]
    return {
        "time / in memory": median(ours) / median(reference),
        "ms": median(ours),
        "in memory ms": median(reference),
    }


def embedding_cache(folder: Path, corpus: Corpus, chunks: int = 10_000, rounds: int = 3) -> Figures:
    """Texts whose embeddings the cache has, against the same with embeddings given; and what the cache costs."""
    texts = list(dict.fromkeys(corpus.texts))[:chunks]
    by_text = dict(zip(corpus.texts, corpus.vectors, strict=True))
    vectors = np.stack([by_text[text] for text in texts])

    def embedder(part: list[str]) -> np.ndarray:
        return np.stack([by_text[text] for text in part])

    def refuse(part: list[str]) -> np.ndarray:
        message = f"{len(part)} texts were to be embedded again"
        raise AssertionError(message)

    def fill_twice(path: Path, *, cached: bool) -> tuple[float, float, float]:
        """The seconds of a first and of a second collection, and the MiB of the file with the first."""
        took = []
        for name, made in (("first", embedder), ("second", refuse)):
            if took:
                size = path.stat().st_size / 2**20
            with ragstore.open(path, derived="off") as store:
                given = {"model": "corpus", "embedder": made} if cached else {}
                collection = store.create_collection(name, **given)
                took.append(seconds(lambda c=collection: c.add(texts, None if cached else vectors)))
        return took[0], took[1], size

    pairs = []
    for i in range(rounds):
        pairs.append([fill_twice(folder / f"{cached}{i}.db", cached=cached) for cached in (False, True)])
        remove(folder, f"*{i}.db*")
    return {
        "time / embeddings given": median(ours[1] / given[1] for given, ours in pairs),
        "ms": 1e3 * median(ours[1] for _, ours in pairs),
        "given ms": 1e3 * median(given[1] for given, _ in pairs),
        "the first time / embeddings given": median(ours[0] / given[0] for given, ours in pairs),
        "MiB with the cache": median(ours[2] for _, ours in pairs),
        "MiB without": median(given[2] for given, _ in pairs),
    }


WRITERS = """
import sys, threading, time, numpy as np, ragstore
path, count, adds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
vectors = np.random.default_rng(1).standard_normal((64, 384), dtype=np.float32)
with ragstore.open(path) as store:
    collection = store.create_collection("c", dimension=384)
    def work(t):
        for i in range(adds):
            collection.add(f"text {t} {i} of some words", vectors[i % 64:i % 64 + 1])
    threads = [threading.Thread(target=work, args=(t,)) for t in range(count)]
    began = time.perf_counter()
    [t.start() for t in threads]; [t.join() for t in threads]
    print(count * adds / (time.perf_counter() - began))
"""


def group_commit(folder: Path, _corpus: Corpus, adds: int = 200, rounds: int = 3) -> Figures:
    """Sixteen threads that add single chunks against one; syncs counted by strace."""

    def run(threads: int, number: int, *prefix: str) -> float:
        args = [
            *prefix,
            sys.executable,
            "-c",
            WRITERS,
            str(folder / f"w{threads}-{number}.db"),
            str(threads),
            str(adds),
        ]
        return float(subprocess.run(args, capture_output=True, text=True, check=True).stdout)

    pairs = [(run(1, i), run(16, i)) for i in range(rounds)]
    figures: Figures = {
        "16 threads / one": median(many / one for one, many in pairs),
        "one, adds/s": median(one for one, _ in pairs),
        "16, adds/s": median(many for _, many in pairs),
    }
    sync = folder / "sync"
    with sync.open("wb", buffering=0) as file:
        probe = []
        for _ in range(200):
            file.write(b"x" * 8192)
            probe.append(1e3 * seconds(lambda: os.fdatasync(file.fileno())))
    figures["fdatasync ms"] = median(probe)
    if shutil.which("strace"):
        log = folder / "strace"
        run(16, rounds, "strace", "-f", "-c", "-o", str(log), "-e", "trace=fsync,fdatasync")
        calls = sum(int(m[1]) for m in re.finditer(r"(\d+)\s+(?:\d+\s+)?f(?:data)?sync$", log.read_text(), re.M))
        figures["acknowledged adds / sync"] = 16 * adds / calls
    return figures


def churn(folder: Path, corpus: Corpus, rows: int = 10_000, rounds: int = 20) -> Figures:
    """Half of the documents replaced, many times, then optimize(): the file against a fresh one of the same content."""
    texts, dimension = corpus.texts, corpus.vectors.shape[1]
    rng = np.random.default_rng(3)
    versions = np.zeros(rows, int)

    def put(collection: ragstore.Collection, numbers: list[int]) -> None:
        picked = [(number * 7919 + int(versions[number]) * 104_729) % len(texts) for number in numbers]
        documents = [
            ragstore.Document(texts[place], id=f"d{number}", metadata={"n": number})
            for number, place in zip(numbers, picked, strict=True)
        ]
        collection.add(documents, corpus.vectors[[p % len(corpus.vectors) for p in picked]], on_conflict="replace")

    with ragstore.open(folder / "churned.db", durability="relaxed") as store:
        collection = store.create_collection("c", dimension=dimension)
        put(collection, list(range(rows)))
        for number in range(1, rounds + 1):
            half = rng.choice(rows, rows // 2, replace=False)
            versions[half] = number
            put(collection, half.tolist())
        store.checkpoint("truncate")
        before = (folder / "churned.db").stat().st_size
        took = seconds(store.optimize)
        after = (folder / "churned.db").stat().st_size
        again = seconds(store.optimize)
        vacuum = seconds(store.vacuum)
        whole = (folder / "churned.db").stat().st_size
    with ragstore.open(folder / "fresh.db", durability="relaxed") as store:
        put(store.create_collection("c", dimension=dimension), list(range(rows)))
    fresh = (folder / "fresh.db").stat().st_size
    return {
        "file / fresh": after / fresh,
        "before / fresh": before / fresh,
        "after vacuum / fresh": whole / fresh,
        "optimize s": took,
        "optimize with nothing to do s": again,
        "vacuum s": vacuum,
        "MiB of a fresh file": fresh / 2**20,
    }


ADDS = """
import sys, numpy as np, ragstore
path, name = sys.argv[1:]
vectors = np.random.default_rng(1).standard_normal((64, 384), dtype=np.float32)
with ragstore.open(path) as store:
    collection = store.create_collection(name, dimension=384)
    print("ready", flush=True)
    n = 0
    while True:
        collection.add([f"text {n + i} of some words" for i in range(64)], vectors)
        n += 64
"""


def backup(folder: Path, corpus: Corpus, rounds: int = 5) -> Figures:
    """A backup while three processes write, against one of the same store at rest, for each page of it."""
    path = folder / "live.db"
    fill(path, corpus)
    idle, loaded = [], []
    with ragstore.open(path, derived="off") as store:

        def once() -> float:
            took = seconds(lambda: store.backup(folder / "backup.db"))
            return took / (folder / "backup.db").stat().st_size

        once()
        for number in range(rounds):
            idle.append(once())
            command = [sys.executable, "-c", ADDS, path]
            writers = [subprocess.Popen([*command, f"w{number}-{w}"], stdout=subprocess.PIPE) for w in range(3)]
            try:
                for writer in writers:
                    writer.stdout.readline()
                loaded.append(once())
            finally:
                for writer in writers:
                    writer.kill()
                    writer.stdout.close()
                    writer.wait()
        size = (folder / "backup.db").stat().st_size / 2**20
        copied = median(seconds(lambda: shutil.copy(folder / "backup.db", folder / "copy.db")) for _ in range(rounds))
    return {
        "time under load / at rest": median(a / b for a, b in zip(loaded, idle, strict=True)),
        "at rest, MiB/s": 1 / median(idle) / 2**20,
        "under load, MiB/s": 1 / median(loaded) / 2**20,
        "cp, MiB/s": size / copied,
    }


def cranfield(folder: Path, data: Path, depth: int = 100) -> Figures:
    """nDCG@10 on the Cranfield collection, against NumPy and FTS5 in this script."""
    corpus = [json.loads(line) for line in (data / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line) for line in (data / "queries.jsonl").read_text().splitlines()]
    vectors, asked = np.load(data / "corpus.minilm.npy"), np.load(data / "queries.minilm.npy")
    grades: dict[str, dict[str, int]] = {}
    for line in (data / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        grades.setdefault(query, {})[document] = int(grade)
    ids = [row["_id"] for row in corpus]
    texts = [f"{row['title']} {row['text']}".strip() or " " for row in corpus]

    def ndcg(rank: Callable[[int], list[str]]) -> float:
        values = []
        for i, query in enumerate(queries):
            judged = grades.get(query["_id"])
            if judged is None:
                continue
            gains = [judged.get(document, 0) for document in rank(i)[:10]]
            best = sorted(judged.values(), reverse=True)[:10]
            dcg, ideal = (sum(g / np.log2(r + 2) for r, g in enumerate(list_)) for list_ in (gains, best))
            values.append(dcg / ideal)
        return float(np.mean(values))

    conn = sqlite3.connect(":memory:")
    conn.execute("CREATE VIRTUAL TABLE f USING fts5(content, tokenize='porter unicode61')")
    conn.executemany("INSERT INTO f (rowid, content) VALUES (?, ?)", list(enumerate(texts)))
    scores = asked @ vectors.T

    def numpy(i: int) -> list[str]:
        return [ids[j] for j in np.argsort(-scores[i], kind="stable")[:depth]]

    def fts5(i: int) -> list[str]:
        words = dict.fromkeys(re.findall(r"[^\W_]+", queries[i]["text"].lower()))
        found = conn.execute(
            "SELECT rowid FROM f WHERE f MATCH ? ORDER BY rank, rowid LIMIT ?",
            (" OR ".join(f'"{w}"' for w in words), depth),
        )
        return [ids[j] for (j,) in found]

    def fused(i: int) -> list[str]:
        score: dict[str, float] = {}
        for ranking in (numpy(i), fts5(i)):
            for place, document in enumerate(ranking, 1):
                score[document] = score.get(document, 0) + 1 / (60 + place)
        return sorted(score, key=lambda document: (-score[document], ids.index(document)))

    with ragstore.open(folder / "cranfield.db") as store:
        collection = store.create_collection("c", dimension=vectors.shape[1])
        collection.add_texts(texts, vectors, ids=ids)
        figures: Figures = {}
        for name, reference, ours in (
            ("vector", numpy, lambda i: collection.vector_search(asked[i]).ids),
            ("keyword", fts5, lambda i: collection.keyword_search(queries[i]["text"]).ids),
            ("hybrid", fused, lambda i: collection.hybrid_search(queries[i]["text"], asked[i]).ids),
        ):
            figures[f"{name}: nDCG@10"] = ndcg(ours)
            figures[f"{name}: reference"] = ndcg(reference)
    conn.close()
    return figures
