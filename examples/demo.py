"""Answer questions from the documentation that every Python carries.

The first run cuts, embeds and stores it in .demo/python.db; a second one finds it unchanged and embeds nothing.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from time import perf_counter

import ragstore
from minilm import MiniLM

DATABASE = Path(__file__).parent.parent / ".demo" / "python.db"
SIZE = 600  # characters of a chunk
SLICE = 64  # documents embedded and stored together; an interrupted run goes on after the last
MODEL = "all-MiniLM-L6-v2"
MODULES = """
abc argparse ast asyncio.locks asyncio.queues base64 bisect calendar cmd codecs collections configparser
contextlib copy csv dataclasses datetime difflib enum fileinput fnmatch fractions functools gettext glob
graphlib gzip hashlib heapq html http.client http.server inspect io ipaddress json json.decoder json.encoder
linecache logging logging.handlers mimetypes numbers os pathlib pickle pkgutil pprint queue random re sched
secrets selectors shelve shlex shutil signal socket socketserver statistics string struct subprocess tarfile
tempfile textwrap threading timeit trace traceback tracemalloc types typing urllib.parse urllib.request uuid
warnings wave weakref webbrowser zipapp zipfile
"""

QUESTIONS = [
    ("How do I run code when an object is garbage collected?", None),
    ("what is the difference between a list and a tuple", None),
    ("split a shell command line into arguments safely", None),
    ("schedule a function to be called at a given time", {"kind": {"$in": ["class", "function", "module"]}}),
    ("how are default argument values evaluated?", {"module": "pydoc_data.topics"}),
]

BOLD, DIM, RESET = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "")


def documents() -> Iterator[ragstore.Document]:
    """The topics of the language reference, then what the modules, classes and functions say of themselves."""
    for topic, text in topics.items():
        yield document(f"topic:{topic}", text, module="pydoc_data.topics", kind="topic")
    library = Path(sysconfig.get_path("stdlib"))
    for module in MODULES.split():
        path = library / (module.replace(".", "/") + ".py")
        path = path if path.exists() else path.with_suffix("") / "__init__.py"
        if path.exists():
            yield from docstrings(module, path)


def docstrings(module: str, path: Path) -> Iterator[ragstore.Document]:
    """Read a module's source; nothing is imported, so nothing runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    seen = set()
    places: list[tuple[str, str, ast.AST]] = [(module, "module", tree)]
    while places:
        name, kind, node = places.pop(0)
        text = ast.get_docstring(node) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) else None
        if text and name not in seen and len(text) > 60:
            seen.add(name)
            yield document(f"doc:{name}", text, module=module, kind=kind)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
                places.append((f"{name}.{child.name}", "class", child))
            elif isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
                places.append((f"{name}.{child.name}", "function", child))


def document(uri: str, text: str, **metadata: str) -> ragstore.Document:
    return ragstore.Document(text, uri=uri, metadata=metadata, chunks=ragstore.split(text, SIZE))


def index(collection: ragstore.Collection, model: MiniLM) -> int:
    """Store what is new or changed, and say how many documents."""
    everything = list(documents())
    known = collection.unchanged(everything)
    new = [item for item, same in zip(everything, known, strict=True) if not same]
    total = sum(len(item.chunks) for item in new)
    print(f"{len(everything):,} documents of Python {sys.version.split()[0]}: {len(new):,} to embed", flush=True)
    done = 0
    for start in range(0, len(new), SLICE):
        part = new[start : start + SLICE]
        texts = [f"{item.uri.split(':', 1)[1]}: {chunk.text}" for item in part for chunk in item.chunks]
        vectors = model.encode(texts, lambda count, _, base=done: bar(base + count, total))
        collection.add(part, vectors, on_conflict="replace")
        done += len(texts)
    if new:
        print()
    return len(new)


def bar(done: int, total: int) -> None:
    width = 40
    filled = width * done // total
    print(f"\r  {'█' * filled}{'░' * (width - filled)} {done:,}/{total:,} chunks", end="", file=sys.stderr, flush=True)


def show(title: str, hits: ragstore.Hits) -> None:
    print(f"  {BOLD}{title}{RESET} {DIM}({hits.took_ms:.1f} ms){RESET}")
    for hit in hits:
        place = f"{hit.metadata['module']} · {hit.uri} · characters {hit.start}-{hit.end}"
        print(f"    {hit.score:7.4f}  {place}")
        snippet = " ".join(hit.snippet(28, BOLD or "[", RESET or "]").split())
        print(textwrap.fill(snippet, 100, initial_indent=" " * 13, subsequent_indent=" " * 13))


def ask(collection: ragstore.Collection, model: MiniLM, question: str, where: ragstore.Filter | None, k: int) -> None:
    print(f"\n{BOLD}» {question}{RESET}" + (f"  where {where}" if where else ""))
    began = perf_counter()
    vector = model.encode([question])[0]
    print(f"  {DIM}embedded in {1e3 * (perf_counter() - began):.1f} ms{RESET}")
    show("vector", collection.vector_search(vector, k, where=where))
    show("keyword", collection.keyword_search(question, k, where=where))
    show("hybrid", collection.hybrid_search(question, vector, k, where=where))
    best = collection.search(question, vector=vector, k=k, where=where, group_by="document", window=(1, 1))
    show("hybrid, the best of each document with what stands around it", best)


def compare(model: MiniLM) -> None:
    """Show what the indexes beside the file bring."""
    vectors = model.encode([question for question, _ in QUESTIONS])
    medians = {}
    for derived in ("off", "auto"):
        with ragstore.open(DATABASE, read_only=True, derived=derived) as store:
            collection = store["python"]
            medians[derived] = median(
                collection.hybrid_search(question, vector, 5).took_ms
                for _ in range(20)
                for (question, _), vector in zip(QUESTIONS, vectors, strict=True)
            )
    times = medians["off"] / medians["auto"]
    print(
        f"\nhybrid search with indexes {medians['auto']:.2f} ms, from the tables alone {medians['off']:.2f} ms:"
        f" {BOLD}{times:.1f} times sooner{RESET}"
    )


def main() -> None:
    own = " ".join(sys.argv[1:])
    model = MiniLM(max_tokens=160)
    with ragstore.open(DATABASE) as store:
        collection = store.create_collection("python", dimension=model.dimension, model=MODEL, exist_ok=True)
        if index(collection, model):
            store.optimize()
        print(f"{len(collection):,} chunks in {DATABASE.name}, {DATABASE.stat().st_size / 2**20:.0f} MiB")
        if own:
            ask(collection, model, own, None, 5)
        else:
            for question, where in QUESTIONS:
                ask(collection, model, question, where, 2)
            compare(model)
            print(f'\n{DIM}Ask your own: make demo Q="..."{RESET}')


if __name__ == "__main__":
    main()
