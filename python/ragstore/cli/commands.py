"""One function for each subcommand; it says whether it found problems."""

from __future__ import annotations

import argparse
import dataclasses
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ragstore

from ..check import Problem
from ..transfer import export as export_store
from ..transfer import import_ as import_store
from .output import Output, printable, size

__all__ = [
    "backup",
    "check",
    "checkpoint",
    "export",
    "import_",
    "info",
    "optimize",
    "repair",
    "search",
    "vacuum",
]

KEY = "RAGSTORE_KEY"


def _key(args: argparse.Namespace) -> dict[str, Any]:
    """`key=`, where one is given."""
    if args.raw_key_file is not None:
        data = Path(args.raw_key_file).read_bytes()
        if len(data) != 32:
            raise ValueError(f"--raw-key-file has {len(data)} bytes; a raw key has 32")
        return {"key": data}
    text = os.environ.get(KEY)
    if args.key_file is not None:
        # The file itself is not to be told of, whatever is wrong with it.
        try:
            text = Path(args.key_file).read_bytes().decode()
        except UnicodeDecodeError:
            raise ValueError("--key-file is not UTF-8; --raw-key-file takes bytes") from None
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise ValueError("--key-file is empty")
    return {"key": text} if text else {}


def _open(args: argparse.Namespace, *, read_only: bool = False, create: bool = False) -> Any:
    # Of the operations that come with other modules only the names are known here.
    return ragstore.open(args.path, create=create, read_only=read_only, timeout=args.timeout, **_key(args))


def _progress(args: argparse.Namespace) -> bool:
    return not args.quiet and sys.stderr.isatty()


def info(args: argparse.Namespace, output: Output) -> bool:
    """What a store holds."""
    with _open(args, read_only=True) as store:
        collections = []
        for found in store.list_collections():
            collection = store[found.name]
            collections.append(
                {
                    "name": found.name,
                    "description": found.description,
                    "documents": collection.count_documents(),
                    "chunks": collection.count(),
                    "tokenizer": found.tokenizer,
                    "created_at": found.created_at,
                    "spaces": [dataclasses.asdict(space) for space in found.spaces],
                }
            )
        stats, health = store.stats(), store.health()
    value = {
        "path": args.path,
        "collections": collections,
        "stats": stats.to_dict(),
        "health": health.to_dict(),
    }
    lines = [
        f"{args.path}: {health.status}",
        *(f"  {printable(reason.what)}: {printable(reason.what_to_do)}" for reason in health.reasons),
    ]
    for entry in collections:
        lines.append(f"{printable(entry['name'])}: {entry['documents']:,} documents, {entry['chunks']:,} chunks")
        lines += [
            f"  space {printable(space['name'])}: dimension {space['dimension'] or 'not fixed yet'}, {space['metric']}"
            + (f", model {printable(space['model'])}" if space["model"] else "")
            for space in entry["spaces"]
        ]
    figures = stats.to_dict()
    indexes = figures.pop("indexes")
    lines += [f"{name}: {size(figure) if 'bytes' in name else figure}" for name, figure in figures.items()]
    for index in indexes:
        of = "texts" if index["space"] is None else f"space {printable(index['space'])}"
        lines.append(
            f"index of {printable(index['collection'])}, {of}: {index['rows']:,} rows, {index['tail']:,} after it, "
            f"{index['dead']:,} gone, {size(index['file_bytes'])}"
        )
    output.result(value, lines)
    return bool(health.status == "unhealthy")


def check(args: argparse.Namespace, output: Output) -> bool:
    """Whether it is damaged; also of a file that does not open as a store."""
    report = ragstore.check(args.path, quick=args.quick, progress=_progress(args), **_key(args))
    output.result(report.to_dict(), _problems(report.problems) or ["no problems found"])
    return not report.ok


def _problems(problems: list[Problem]) -> list[str]:
    return [
        f"{problem.area}: {printable(problem.what)}" + (" (repair can mend it)" if problem.repairable else "")
        for problem in problems
    ]


def backup(args: argparse.Namespace, output: Output) -> bool:
    """A copy."""
    with _open(args) as store:
        store.backup(args.to, progress=_progress(args))
    length = Path(args.to).stat().st_size
    output.result({"path": args.to, "bytes": length}, [f"{args.to}: {size(length)}"])
    return False


def _sizes(args: argparse.Namespace, output: Output, before: int) -> None:
    after = Path(args.path).stat().st_size
    output.result({"bytes_before": before, "bytes_after": after}, [f"{size(before)} -> {size(after)}"])


def optimize(args: argparse.Namespace, output: Output) -> bool:
    """Space and speed."""
    with _open(args) as store:
        before = Path(args.path).stat().st_size
        store.optimize(progress=_progress(args))
    _sizes(args, output, before)
    return False


def vacuum(args: argparse.Namespace, output: Output) -> bool:
    """The file anew."""
    with _open(args) as store:
        before = Path(args.path).stat().st_size
        store.vacuum(progress=_progress(args))
    _sizes(args, output, before)
    return False


def checkpoint(args: argparse.Namespace, output: Output) -> bool:
    """The log into the file."""
    with _open(args) as store:
        store.checkpoint(args.mode)
    output.result({"mode": args.mode}, [f"{args.mode} checkpoint done"])
    return False


def repair(args: argparse.Namespace, output: Output) -> bool:
    """In place what is derived, or all that is readable into another file. Whether something is lost or still wrong."""
    if args.to is None:
        with _open(args) as store:
            report = store.repair(progress=_progress(args))
    else:
        # The damaged file may not open as a store.
        report = ragstore.repair(args.path, args.to, progress=_progress(args), **_key(args))
    lines = [f"rebuilt: {printable(what)}" for what in report.rebuilt]
    lines += [f"salvaged: {count:,} {printable(what)}" for what, count in report.salvaged.items()]
    lines += [f"lost: {printable(what)}" for what in report.lost]
    output.result(report.to_dict(), [*lines, *_problems(report.problems)] or ["nothing to repair"])
    return bool(report.lost) or not report.ok


def export(args: argparse.Namespace, output: Output) -> bool:
    """Files."""
    with _open(args, read_only=True) as store:
        if _key(args):
            print("ragstore: what is exported is not encrypted", file=sys.stderr)
        result = export_store(store, args.to, collections=args.collection, plain=args.plain, progress=_progress(args))
    return _counts(output, {"path": args.to, **result.to_dict()})


def import_(args: argparse.Namespace, output: Output) -> bool:
    """Files back."""
    with _open(args, create=True) as store:
        result = import_store(
            store, args.source, collections=args.collection, on_conflict=args.on_conflict, progress=_progress(args)
        )
    return _counts(output, result.to_dict())


def _counts(output: Output, value: dict[str, Any]) -> bool:
    named = {"state values" if name == "state" else name: count for name, count in value.items()}
    output.result(value, [", ".join(f"{count:,} {name}" for name, count in named.items() if isinstance(count, int))])
    return False


def search(args: argparse.Namespace, output: Output) -> bool:
    """Hits."""
    if args.text is None and args.vector is None:
        raise ValueError("search takes a text, or --vector, or both")
    vector = None if args.vector is None else _vector(args.vector)
    with _open(args, read_only=True) as store:
        names = args.collection or [found.name for found in store.list_collections()]
        options = {"vector": vector, "k": args.k, "where": args.where, "mode": args.mode}
        if len(names) == 1:
            hits = store[names[0]].search(args.text, **options)
        else:
            hits = store.search(args.text, collections=names, **options)
        shown = [_hit(hit, output) for hit in hits]
    value = {
        "hits": [_plain(hit) for hit in hits],
        "exact": hits.exact,
        "complete": hits.complete,
        "took_ms": hits.took_ms,
    }
    output.result(value, shown or ["no hits"])
    return False


def _vector(path: str) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"--vector: {path} is no array of NumPy: {error}") from None
    if not isinstance(array, np.ndarray) or array.ndim not in {1, 2} or (array.ndim == 2 and len(array) != 1):
        raise ValueError(f"--vector: {path} holds no single vector; give an array of shape (d,) or (1, d)")
    return np.asarray(array, np.float32)


def _hit(hit: ragstore.Hit, output: Output) -> str:
    # Drawn anew, so that no stored text can hold them and pass for a mark.
    begin, end = (f"\ue000{secrets.token_hex(8)}\ue001" for _ in range(2))
    text = printable(hit.snippet(32, begin, end))
    marks = ("\x1b[1m", "\x1b[0m") if output.colour else ("", "")
    text = text.replace(begin, marks[0]).replace(end, marks[1])
    place = printable(f"{hit.uri or hit.document_id}#{hit.index}")
    return f"{hit.rank or '':>3}. {hit.score:<9.4g}  {output.bold(place)}  {text}".rstrip()


def _plain(hit: ragstore.Hit) -> dict[str, Any]:
    names = ("rank", "score", "collection", "id", "document_id", "uri", "index", "start", "end", "text", "metadata")
    return {**{name: getattr(hit, name) for name in names}, "snippet": hit.snippet(32, "", "")}
