"""Damaged and crafted files: every call ends in time, within its memory, with an answer or an error of this library."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.faults import record
from tests.helpers.mutants import DIMENSION, KINDS, Base, mutate

resource = pytest.importorskip("resource", reason="the limits of a process are POSIX")

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="the limits of a process are Linux"),
]

MUTANTS = record.size(200, 20_000)
SECONDS, MEMORY = 10, 512 << 20


class Attempts:
    """Calls, and what came of them."""

    def __init__(self) -> None:
        self.seen: Counter = Counter()

    def __call__(self, name, call, *args, **kwargs):
        try:
            result = call(*args, **kwargs)
        except ragstore.InternalError:
            raise
        except ragstore.RagstoreError as error:
            self.seen[f"{name}: {type(error).__name__}"] += 1
            return None
        self.seen["answers"] += 1
        return result


def exercise(path: Path, new: Path) -> Counter:
    """Everything that can be asked of a file, by one that expects the worst."""
    attempt = Attempts()
    attempt("module check", ragstore.check, path)
    for read_only in (True, False):
        store = attempt("open", ragstore.open, path, read_only=read_only, create=False, timeout=2, durability="relaxed")
        if store is not None:
            with contextlib.closing(store):
                use(attempt, store)
    report = attempt("salvage", ragstore.repair, path, new)
    if report is not None:
        attempt.seen["salvaged"] += 1
        assert not report.problems, f"a salvaged store is not sound: {report.problems[:5]}"
        with ragstore.open(new, create=False) as store:
            for info in store.list_collections():
                read(sound, store[info.name])
    return attempt.seen


def use(attempt, store) -> None:
    """An open store."""
    attempt("check", store.check, quick=True)
    for info in attempt("list", store.list_collections) or []:
        collection = attempt("get_collection", store.get_collection, info.name)
        if collection is not None:
            read(attempt, collection)
            if not store.read_only:
                write(attempt, store, collection)
    attempt("search", store.search, "cat", k=5)
    attempt("search", store.search, vector=np.ones(DIMENSION, np.float32), k=5)
    attempt("check", store.check)
    if store.read_only:
        return
    attempt("create", lambda: store.create_collection("new").add_texts(["a new text"]))
    attempt("repair", store.repair)
    for info in attempt("list", store.list_collections) or []:
        attempt("delete_collection", store.delete_collection, info.name)


def sound(_, call, *args, **kwargs):
    """What a salvaged store answers: it may lack a row, and is never damaged."""
    try:
        return call(*args, **kwargs)
    except (ragstore.NotFoundError, ragstore.DimensionMismatchError):
        return None


def read(attempt, collection) -> None:
    """Every way of reading."""
    info = attempt("info", lambda: collection.info)
    ones = np.ones((info and info.dimension) or DIMENSION, np.float32)
    attempt("len", len, collection)
    documents = attempt("list_documents", collection.list_documents, limit=1000) or []
    ids = []
    # What no write stores is not asked for by name.
    for document in [document for document in documents if document.id and "\0" not in document.id][:5]:
        attempt("get_document", collection.get_document, document.id)
        chunks = attempt("get_chunks", collection.get_chunks, document.id) or []
        ids += [chunk.id for chunk in chunks[:3] if chunk.id and "\0" not in chunk.id]
    attempt("get", collection.get, [*ids, "d1-0", "d9-0"])
    attempt("neighbors", collection.neighbors, "d8-0")
    attempt("get_embeddings", collection.get_embeddings, ids or ["d1-0"])
    for where in (
        None,
        {"year": {"$gt": 2003}},
        {"deep.a.b": {"$lt": 40}, "tags": {"$contains": "cat"}},
        {"uri": {"$like": "f%"}},
    ):
        attempt("count", collection.count, where)
        attempt("keyword_search", collection.keyword_search, "cat garden house", 10, where=where)
        attempt("vector_search", collection.vector_search, ones, 10, where=where)
    attempt("phrase", collection.keyword_search, "cat dog", 5, syntax="phrase")
    attempt("prefix", collection.keyword_search, "gard", 5, syntax="prefix")
    hits = attempt("hybrid_search", collection.hybrid_search, "river stone", ones, 10)
    for hit in hits or []:
        attempt("highlight", hit.highlight)
        attempt("metadata", lambda hit=hit: hit.metadata)
    attempt("window", collection.search, "water", vector=ones, k=5, mmr=0.5, window=(1, 1))
    attempt("groups", collection.search, "water", k=5, group_by="document", explain=True)
    attempt("search_batch", collection.search_batch, np.stack([ones, -ones]), 5)
    attempt("count_documents", collection.count_documents, {"year": 2001})


def write(attempt, store, collection) -> None:
    """Every way of writing, the worst last."""
    info = attempt("info", lambda: collection.info)
    ones = np.ones((2, (info and info.dimension) or DIMENSION), np.float32)
    attempt(
        "add", collection.add_texts, ["a text", "cat and dog"], ones, ids=["new1", "new2"], metadatas=[{"year": 1}, {}]
    )
    attempt("add", collection.add_texts, ["without"])
    attempt("replace", collection.add, ragstore.Document("other", id="d8"), on_conflict="replace")
    attempt("set_embeddings", collection.set_embeddings, ["d9-0"], ones[:1])
    attempt("delete_embeddings", collection.delete_embeddings, ["d10-0", "d11-0"])
    attempt("update_metadata", collection.update_metadata, {"x": 1}, where={"year": {"$gte": 2005}})
    attempt("create_index", collection.create_index, "deep.a.b")
    attempt("delete", collection.delete, document_ids=["d12", "d13"])
    attempt("delete", collection.delete, where={"year": 2002})
    attempt("create_space", collection.create_space, "new", dimension=3)
    attempt("set_tokenizer", collection.set_tokenizer, "unicode61")
    attempt("clear_cache", store.clear_embedding_cache)
    if collection.name == "second":
        attempt("clear", collection.clear)


def serve() -> None:
    """One line in, one line out; the limits are those of this process."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    # What the interpreter and the libraries have is not the file's doing.
    base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        path, new = map(Path, json.loads(line))
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = used.ru_utime + used.ru_stime
        resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + SECONDS + 1, resource.RLIM_INFINITY))
        try:
            answer = {"seen": exercise(path, new)}
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
            import traceback

            answer = {"wrong": f"{type(error).__name__}: {error}", "where": traceback.format_exc()[-1500:]}
        after = resource.getrusage(resource.RUSAGE_SELF)
        answer["seconds"] = after.ru_utime + after.ru_stime - spent
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Worker:
    """A process that may die."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def ask(self, path: Path, new: Path) -> dict:
        if self.process is None:
            # Each arena of the allocator takes 64 MiB of addresses, used or not.
            environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "PYTHONPATH": str(record.ROOT)}
            command = [sys.executable, __file__]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            assert self.process.stdout.readline() == "ready\n", self.process.stderr.read()
        self.process.stdin.write(json.dumps([str(path), str(new)]) + "\n")
        self.process.stdin.flush()
        # Of the wall, for what waits; the limit of the processor is the process's own.
        ready, _, _ = select.select([self.process.stdout], [], [], 6 * SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        return {"wrong": f"ended: {self.end()}", "seconds": float(SECONDS)}

    def end(self) -> str:
        process, self.process = self.process, None
        if process is None:
            return ""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        said = process.stderr.read()[-500:]
        process.stdout.close()
        process.stderr.close()
        return f"code {process.returncode} {said}"


def share(folder: Path, seed: int, numbers: range) -> list[tuple[int, str, dict]]:
    """The answers to every so many-th mutant, of one worker."""
    bases = [Base(folder, base) for base in (1, 2)]
    worker, answers = Worker(), []
    path, new = folder / "mutant.db", folder / "salvaged.db"
    for number in numbers:
        own = seed + number
        for name in (*folder.glob("mutant.db*"), *folder.glob("salvaged.db*"), *folder.glob(".ragstore-repair-*")):
            shutil.rmtree(name) if name.is_dir() else name.unlink()
        kind = mutate(bases[own % 2], path, own)
        answers.append((own, kind, worker.ask(path, new)))
    worker.end()
    return answers


def test_damaged_files_are_answered_or_refused(tmp_path):
    with record.Suite("mutated_files", tmp_path) as suite:
        workers = min(4, os.cpu_count() or 1)
        folders = [tmp_path / str(worker) for worker in range(workers)]
        for folder in folders:
            folder.mkdir()
        with ThreadPoolExecutor(workers) as pool:
            shares = [
                pool.submit(share, folder, suite.seed, range(n, MUTANTS, workers)) for n, folder in enumerate(folders)
            ]
            answers = [answer for part in shares for answer in part.result()]
        kinds = Counter(kind for _, kind, _ in answers)
        seen = sum((Counter(answer.get("seen", {})) for _, _, answer in answers), Counter())
        wrong = [(own, kind, answer["wrong"]) for own, kind, answer in answers if "wrong" in answer]
        slow = [(own, kind, answer["seconds"]) for own, kind, answer in answers if answer["seconds"] > SECONDS]
        for own, kind, answer in answers:
            if "wrong" in answer:
                print(own, kind, answer["wrong"], answer.get("where", ""))
        print("kinds", dict(kinds))
        print("seen", dict(seen.most_common()))
        print(f"slowest {max(answer['seconds'] for _, _, answer in answers):.2f} s of processor")
        suite.counts |= {
            "files": len(answers),
            "calls answered": seen["answers"],
            "refused": sum(seen.values()) - seen["answers"] - seen["salvaged"],
            "files salvaged": seen["salvaged"],
        }
        assert not wrong, wrong[:10]
        assert not slow, slow[:10]
        assert seen["answers"] > 10 * MUTANTS
        assert set(kinds) == set(KINDS)


@pytest.mark.parametrize("fault", ["signal", "time", "memory", "error"])
def test_the_worker_sees_what_is_wrong(tmp_path, fault, monkeypatch):
    """The control: a crash, a loop, an allocation and a stray exception are each found."""
    code = {
        "signal": "os.kill(os.getpid(), 11)",
        "time": "exec('while True: pass')",
        "memory": "bytearray(600 << 20)",
        "error": "{}['missing']",
    }[fault]
    script = tmp_path / "worker.py"
    text = Path(__file__).read_text().replace('answer = {"seen": exercise(path, new)}', code, 1)
    text = text.replace("SECONDS, MEMORY = 10", "SECONDS, MEMORY = 1", 1)
    script.write_text(text)
    monkeypatch.setitem(globals(), "__file__", str(script))
    worker = Worker()
    answer = worker.ask(tmp_path / "a.db", tmp_path / "b.db")
    worker.end()
    expected = {"signal": "code -11", "time": "code -24", "memory": "MemoryError", "error": "KeyError"}[fault]
    assert expected in answer["wrong"], answer


if __name__ == "__main__":
    serve()
