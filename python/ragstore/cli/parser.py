"""What the command takes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from . import commands

__all__ = ["UsageError", "make_parser", "parse"]

_KEYS = """
encrypted stores:
  A passphrase comes from --key-file or from the environment variable RAGSTORE_KEY, never from the command line, where
  other users of the machine can read it.
"""


class UsageError(Exception):
    """The command was called in a wrong way."""

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.format_usage())


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command.

    Raises
    ------
    UsageError
        They are none that it takes.
    """
    parser = make_parser()
    args, left = parser.parse_known_args(arguments)
    # Before Python 3.13, argparse takes an optional positional for missing where options stand before it.
    if args.command == "search" and args.text is None and len(left) == 1 and not left[0].startswith("-"):
        args.text = left.pop()
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    return args


def make_parser() -> argparse.ArgumentParser:
    """All subcommands with their options."""
    parser = _Parser(
        prog="ragstore",
        description="Look after a store: one SQLite file of documents, chunks and embeddings.",
        epilog="exit codes: 0 ok, 1 problems found, 2 wrong usage, 3 refused (see the message), 4 a defect, "
        "130 interrupted, 141 output closed",
    )
    parser.add_argument("--version", action="version", version=f"ragstore {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    common = _common()

    def add(name: str, run: Any, summary: str, path: str = "the store") -> argparse.ArgumentParser:
        made = subparsers.add_parser(
            name,
            parents=[common],
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=_KEYS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.set_defaults(run=run)
        made.add_argument("path", help=path)
        return made

    add("info", commands.info, "show what a store holds, its figures and its health")
    check = add("check", commands.check, "look for damage")
    check.add_argument("--quick", action="store_true", help="leave out what reads every page")
    backup = add("backup", commands.backup, "copy a store while it is in use")
    backup.add_argument("to", help="the file that is made")
    add("optimize", commands.optimize, "give space back and make searches quicker")
    add("vacuum", commands.vacuum, "write the file anew, as small as it can be")
    checkpoint = add("checkpoint", commands.checkpoint, "move the write-ahead log into the file")
    checkpoint.add_argument(
        "--mode", choices=["passive", "full", "restart", "truncate"], default="passive", help="how hard to try"
    )
    repair = add("repair", commands.repair, "rebuild what can be rebuilt")
    repair.add_argument("--to", metavar="FILE", help="salvage what is readable of a damaged file into a new one")
    export = add("export", commands.export, "write a store as files that other tools read")
    export.add_argument("to", help="the folder that is made; with --plain the file")
    export.add_argument("--plain", action="store_true", help="one SQLite file without virtual tables")
    _add_collections(export, "export this collection; may be given several times")
    into = add("import", commands.import_, "take in what export wrote", "the store, which is made if it is not there")
    into.add_argument("source", help="the folder")
    into.add_argument(
        "--on-conflict",
        choices=["error", "replace", "skip"],
        default="error",
        help="for documents whose id or uri is taken by other content, and relations and keys of state that are there",
    )
    _add_collections(into, "import this collection; may be given several times")
    _add_search(add("search", commands.search, "find the chunks that answer a question"))
    return parser


def _common() -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object, errors too")
    common.add_argument("--quiet", action="store_true", help="show no progress")
    common.add_argument("--verbose", action="store_true", help="log to the standard error")
    common.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="wait so long for another writer (30)"
    )
    keys = common.add_mutually_exclusive_group()
    keys.add_argument("--key-file", metavar="FILE", help="a file with the passphrase; one line end after it is ignored")
    keys.add_argument("--raw-key-file", metavar="FILE", help="a file with the 32 bytes of a raw key")
    return common


def _add_collections(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--collection", action="append", metavar="NAME", help=help)


def _add_search(search: argparse.ArgumentParser) -> None:
    search.add_argument("text", nargs="?", help="the question; may be left out with --vector")
    search.add_argument("--vector", metavar="FILE.npy", help="the embedding of the question, an array of one row")
    _add_collections(search, "search this collection; may be given several times; all when not given")
    search.add_argument("-k", type=int, default=10, help="how many hits (10)")
    search.add_argument("--mode", choices=["vector", "keyword", "hybrid"], help="what to rank by")
    search.add_argument("--where", type=_where, metavar="JSON", help='a filter, such as \'{"year": {"$gte": 2024}}\'')


def _where(text: str) -> dict[str, Any]:
    try:
        filter = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(filter, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return filter
