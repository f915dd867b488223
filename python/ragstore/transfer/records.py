"""Relations and state of an export that may be anything, a thousand at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._ragstore import Write
from ..arguments import number, string
from ..exceptions import ConflictError, CorruptError
from .manifest import CollectionEntry, LinesEntry, parse_json
from .reading import fields, lines, on_line, placed

if TYPE_CHECKING:
    from .. import _ragstore
    from ..rows import NewRelationRow, NewStateRow
    from ..types import OnConflict

__all__ = ["Records", "RelationCheck", "read_relations", "read_state"]

# What makes a batch full.
_ROWS = 1024
_BATCH = 8 << 20

_RELATION_KEYS = frozenset(("source", "target", "type", "strength", "metadata", "created_at"))
_STATE_KEYS = frozenset(("namespace", "local", "key", "value", "expires_at", "updated_at"))

_TWICE = "an earlier line has it already"
_NONE = np.empty(0, np.int64)


@dataclass
class Records:
    """Relations, or state values, that are stored together."""

    file: str
    change: Callable[[list[Any], str], Write]
    rows: list[Any] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def store(self, raw: _ragstore.Store, on_conflict: OnConflict) -> list[str]:
        """Store them as one transaction, and say what became of each."""
        with on_line(self.file, self.lines, ConflictError):
            outcomes: list[str] = raw.write([self.change(self.rows, on_conflict)])[0]
        return outcomes

    def check(self, raw: _ragstore.Store) -> None:
        """Give them to a store that has at most those before them."""
        try:
            outcomes = self.store(raw, "error")
        except (TypeError, ValueError, ConflictError) as error:
            if len(self.rows) > 1:
                # Which one, on which line?
                for row, line in zip(self.rows, self.lines, strict=True):
                    Records(self.file, self.change, [row], [line]).check(raw)
                raise
            place = f"{self.file}:{self.lines[0]}"
            if isinstance(error, ConflictError):
                raise CorruptError(f"{place}: an earlier line has it with other content") from error
            with placed(place):
                raise
        if "unchanged" in outcomes:
            raise CorruptError(f"{self.file}:{self.lines[outcomes.index('unchanged')]}: {_TWICE}")


class RelationCheck:
    """Whether each relation of a collection is there once, and both of its ends are.

    It keeps 24 bytes of each relation, hashes; what they tell is wrong is looked for in the file. An end that is taken
    for another is no harm: a store leaves a relation out that has none.
    """

    def __init__(self, folder: Path, entry: CollectionEntry, raw: _ragstore.Store) -> None:
        self._folder = folder
        self._entry = entry
        names, ends = [_NONE], [_NONE]
        for records in read_relations(folder, entry):
            # In a collection that is empty it is checked and left out.
            records.check(raw)
            names.append(_hashes([row[:3] for row in records.rows]))
            ends.append(_hashes([end for row in records.rows for end in row[:2]]))
        found, counts = np.unique(np.concatenate(names), return_counts=True)
        self._twice = found[counts > 1]
        self._ends = np.unique(np.concatenate(ends))
        self._there = np.zeros(len(self._ends), dtype=bool)

    def found(self, ids: Iterable[str]) -> None:
        """There are documents or chunks of these ids."""
        if len(self._ends):
            hashes = _hashes(list(ids))
            places = np.minimum(np.searchsorted(self._ends, hashes), len(self._ends) - 1)
            self._there[places[self._ends[places] == hashes]] = True

    def finish(self) -> None:
        """All documents were found.

        Raises
        ------
        CorruptError
            Naming the line of what is there twice, or has no end.
        """
        twice, missing = set(self._twice.tolist()), set(self._ends[~self._there].tolist())
        if not twice and not missing:
            return
        documents = self._entry.documents.file
        seen = set()
        for records in read_relations(self._folder, self._entry):
            for row, line in zip(records.rows, records.lines, strict=True):
                place, name = f"{records.file}:{line}", row[:3]
                if name in seen:
                    raise CorruptError(f"{place}: {_TWICE}")
                if hash(name) in twice:
                    seen.add(name)
                for end in row[:2]:
                    if hash(end) in missing:
                        raise CorruptError(f"{place}: {documents} has no document and no chunk {end!r}")


def _hashes(values: list[Any]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, values), np.int64, len(values))


def read_relations(folder: Path, entry: CollectionEntry) -> Iterator[Records]:
    """The relations of a collection.

    Raises
    ------
    CorruptError, LimitError
        Naming the file and the line.
    """
    if entry.relations is not None:
        change = partial(Write.import_relations, entry.name)
        yield from _read(folder, entry.relations, "relations", _relation, change)


def read_state(folder: Path, entry: LinesEntry | None) -> Iterator[Records]:
    """The state of all namespaces; raises as `read_relations`."""
    if entry is not None:
        yield from _read(folder, entry, "values", _value, Write.import_state)


def _read(
    folder: Path,
    entry: LinesEntry,
    what: str,
    row: Callable[[object, str], Any],
    change: Callable[[list[Any], str], Write],
) -> Iterator[Records]:
    file = entry.file.file
    batch, count, size = Records(file, change), 0, 0
    with entry.file.open(folder) as opened:
        for line_number, line in lines(file, opened):
            place = f"{file}:{line_number}"
            batch.rows.append(row(parse_json(line, place), place))
            batch.lines.append(line_number)
            count += 1
            size += len(line)
            if len(batch.rows) >= _ROWS or size >= _BATCH:
                yield batch
                batch, size = Records(file, change), 0
    if batch.rows:
        yield batch
    if count != entry.count:
        raise CorruptError(f"{file}: it has {count} {what}, and {entry.count} by the manifest; export again")


def _relation(given: object, place: str) -> NewRelationRow:
    found = fields(given, _RELATION_KEYS, place)
    with placed(place):
        source, target, kind = (string(key, found.get(key)) for key in ("source", "target", "type"))
        return source, target, kind, number("strength", found.get("strength", 1.0)), found.get("metadata", {})


def _value(given: object, place: str) -> NewStateRow:
    found = fields(given, _STATE_KEYS, place)
    with placed(place):
        namespace, key = string("namespace", found.get("namespace")), string("key", found.get("key"))
        local = found.get("local", False)
        if not isinstance(local, bool):
            raise TypeError(f"local is of type {type(local).__name__}; it must be a bool")
        if "value" not in found:
            raise ValueError("it has no value")
        return namespace, local, key, found["value"], found.get("expires_at")
