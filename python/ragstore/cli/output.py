"""What the command prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

__all__ = ["Output", "printable", "size"]

# What a terminal would obey: stored texts are not to be trusted with it.
_CONTROLS = dict.fromkeys((*range(32), 127, *range(128, 160)), "�")


def printable(text: str) -> str:
    """On one line, without what moves a cursor or changes a terminal."""
    return " ".join(text.split()).translate(_CONTROLS)


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


class Output:
    """Lines for people, or one JSON object."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.colour = (
            not json and sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )

    def result(self, value: dict[str, Any], lines: Sequence[str]) -> None:
        """The one as JSON, the others for people."""
        if self.json:
            print(json.dumps(value, ensure_ascii=False, default=_plain))
        else:
            for line in lines:
                print(line)

    def error(self, kind: str, message: str, usage: str = "") -> None:
        """Why it ended."""
        if self.json:
            print(json.dumps({"error": {"type": kind, "message": message}}, ensure_ascii=False), flush=True)
        else:
            print(f"{usage}ragstore: {printable(message)}", file=sys.stderr)

    def bold(self, text: str) -> str:
        """On a terminal."""
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a result holds a {type(value).__name__}")
