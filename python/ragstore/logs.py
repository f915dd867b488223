"""What happens inside a store, as records of Python's `logging`, under the name "ragstore".

A record's attribute `event` says what it is of; counts and milliseconds (`ms`) are attributes too. No record holds what
is stored or asked: no text, metadata, id, name or path. A record is made on the thread of a caller, after its call;
`created` is when it happened.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from . import _ragstore
from .arguments import number

__all__ = ["logger", "maintained", "slow_calls"]

logger = logging.getLogger("ragstore")
logger.addHandler(logging.NullHandler())

_LEVELS_AND_MESSAGES: dict[str, tuple[int, str]] = {
    "opened": (logging.DEBUG, "store %(store)s opened in %(ms).1f ms"),
    "closed": (logging.DEBUG, "store %(store)s closed in %(ms).1f ms"),
    "migrated": (logging.INFO, "a file went from format %(from_format)d to %(to_format)d in %(ms).1f ms"),
    "recovered": (logging.INFO, "a log that nobody closed was recovered: %(frames)d pages"),
    "checkpoint": (
        logging.DEBUG,
        "%(mode)s checkpoint of store %(store)s moved %(moved)d of %(pages)d pages in %(ms).1f ms",
    ),
    "log_grown": (
        logging.WARNING,
        "the write-ahead log has %(bytes)d bytes, over %(limit)d: a read that does not end keeps it",
    ),
    "writer_panicked": (logging.ERROR, "the writer stopped after a defect of ragstore; open the store again"),
    "damaged": (logging.ERROR, "SQLite reported code %(code)d: damage, or an error of the operating system"),
    "slow": (logging.WARNING, "%(operation)s took %(ms).0f ms"),
    "maintained": (logging.INFO, "%(operation)s ended after %(ms).0f ms"),
    "dropped": (logging.WARNING, "%(events)d events were dropped: nobody called ragstore for too long"),
}


def slow_calls(seconds: float | None) -> None:
    """Say from when on a call is logged as slow, as a warning. It is 1 second at first.

    Parameters
    ----------
    seconds : float or None
        0 logs every call, None none.

    Raises
    ------
    ValueError
        It is negative or not finite.

    Examples
    --------
    >>> from ragstore import logs
    >>> logs.slow_calls(0.25)
    >>> logs.slow_calls(1.0)
    """
    if seconds is None:
        _ragstore.set_slow(2**63)
        return
    value = number("seconds", seconds)
    if not 0 <= value < 2**40:
        raise ValueError(f"seconds is {value}; it is a number from 0 on, or None")
    _ragstore.set_slow(round(value * 1e6))


def forward(rows: Iterable[tuple[str, int, dict[str, Any]]]) -> None:
    """Log what the core tells: name, microseconds since the epoch, fields."""
    for event, at, fields in rows:
        level, message = _LEVELS_AND_MESSAGES[event]
        if not logger.isEnabledFor(level):
            continue
        known = {"store": "?", **fields}
        record = logger.makeRecord(
            logger.name, level, "(ragstore)", 0, message, (known,), None, None, {"event": event, **fields}
        )
        record.created = at / 1e6
        record.msecs = at % 1_000_000 // 1000
        logger.handle(record)


@contextmanager
def maintained(operation: str, counts: dict[str, int]) -> Iterator[None]:
    """Log an operation of maintenance when its block ends well, with the counts that it has by then."""
    began = perf_counter()
    yield
    milliseconds = (perf_counter() - began) * 1e3
    level, message = _LEVELS_AND_MESSAGES["maintained"]
    fields = {"event": "maintained", "operation": operation, "ms": milliseconds, **counts}
    logger.log(level, message, fields, extra=fields)
