"""Relations and state of an export that may be anything, a thousand at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._ragstore import Write
from ..arguments import number, string
from ..exceptions import ConflictError, CorruptError
from .manifest import CollectionEntry, LinesEntry, parse_json
from .reading import fields, lines, on_line, placed

if TYPE_CHECKING:
    from .. import _ragstore
    from ..rows import NewRelationRow, NewStateRow
    from ..types import OnConflict

__all__ = ["Records", "read_relations", "read_state"]

# What makes a batch full.
_ROWS = 1024
_BATCH = 8 << 20

_RELATION_KEYS = frozenset(("source", "target", "type", "strength", "metadata", "created_at"))
_STATE_KEYS = frozenset(("namespace", "local", "key", "value", "expires_at", "updated_at"))


@dataclass
class Records:
    """Relations, or state values, that are stored together."""

    file: str
    change: Callable[[list[Any], str], Write]
    # What is wrong with one that has no place in a store with all the rest of the export.
    homeless: str | None
    rows: list[Any] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def store(self, raw: _ragstore.Store, on_conflict: OnConflict) -> list[str]:
        """Store them as one transaction, and say what became of each."""
        with on_line(self.file, self.lines, ConflictError):
            outcomes: list[str] = raw.write([self.change(self.rows, on_conflict)])[0]
        return outcomes

    def check(self, raw: _ragstore.Store) -> None:
        """Store them where nothing is but what the export has before them."""
        try:
            outcomes = self.store(raw, "error")
        except (TypeError, ValueError, ConflictError) as error:
            if len(self.rows) > 1:
                # Which one, on which line?
                for row, line in zip(self.rows, self.lines, strict=True):
                    Records(self.file, self.change, self.homeless, [row], [line]).check(raw)
                raise
            if isinstance(error, ConflictError):
                raise self._refused(self.lines[0], "an earlier line has it with other content") from error
            with placed(f"{self.file}:{self.lines[0]}"):
                raise
        for line, outcome in zip(self.lines, outcomes, strict=True):
            if outcome == "unchanged":
                raise self._refused(line, "an earlier line has it already")
            if outcome == "gone" and self.homeless is not None:
                raise self._refused(line, self.homeless)

    def _refused(self, line: int, why: str) -> CorruptError:
        return CorruptError(f"{self.file}:{line}: {why}")


def read_relations(folder: Path, entry: CollectionEntry) -> Iterator[Records]:
    """The relations of a collection.

    Raises
    ------
    CorruptError, LimitError
        Naming the file and the line.
    """
    if entry.relations is not None:
        homeless = f"{entry.documents.file} has no document and no chunk of its source, or of its target"
        change = partial(Write.import_relations, entry.name)
        yield from _read(folder, entry.relations, "relations", _relation, partial(Records, change=change, homeless=homeless))


def read_state(folder: Path, entry: LinesEntry | None) -> Iterator[Records]:
    """The state of all namespaces; raises as `read_relations`."""
    if entry is not None:
        # What has expired is gone, and no mistake.
        yield from _read(folder, entry, "values", _value, partial(Records, change=Write.import_state, homeless=None))


def _read(
    folder: Path,
    entry: LinesEntry,
    what: str,
    row: Callable[[object, str], Any],
    records: Callable[[str], Records],
) -> Iterator[Records]:
    file = entry.file.file
    batch, count, size = records(file), 0, 0
    with entry.file.open(folder) as opened:
        for line_number, line in lines(file, opened):
            place = f"{file}:{line_number}"
            batch.rows.append(row(parse_json(line, place), place))
            batch.lines.append(line_number)
            count += 1
            size += len(line)
            if len(batch.rows) >= _ROWS or size >= _BATCH:
                yield batch
                batch, size = records(file), 0
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
