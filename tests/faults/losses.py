"""What `conflicts` must list of stores that exchanged everything, and what it must not: a plain model of who knew what.

Each write knew what its store knew. One that is not there in the end either was overwritten by a write that knew of it,
or came to the same as a later one, or lost to a write that did not know of it: then a store lists that. What a whole
collection lost with its end may be listed as the loss of the collection.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.merged import Merged, Stored

CONFLICTS = "SELECT coalesce(collection, ''), entity, uid, winner, loser FROM sync_conflicts"


@dataclass(frozen=True)
class Event:
    """A write, by the names that it is the last of until a later one."""

    stamp: bytes
    kind: str
    # Collection and id, or namespace and key.
    name: tuple[str, str]
    uri: tuple[str, str] | None
    # None where the write was a deletion; that of a uri alone is no loss.
    value: object
    only_uri: bool = False

    def meets(self, other: "Event") -> bool:
        if self.kind != other.kind:
            return False
        by_uri = self.uri is not None and self.uri == other.uri
        return by_uri or (not self.only_uri and not other.only_uri and self.name == other.name)


@dataclass
class Losses:
    """What each write knew."""

    # By the stamp of a write: by replica the last moment that its store had.
    known: dict[bytes, dict[str, bytes]] = field(default_factory=dict)
    # Collections and when they ended, every time.
    ends: set[tuple[str, bytes]] = field(default_factory=set)

    def take(self, before: Stored, after: Stored, watermark: dict[str, str]) -> None:
        """What one store knew before a write."""
        known = {replica: bytes.fromhex(moment) for replica, moment in watermark.items()}
        self.ends |= after.collections_ended.items() - before.collections_ended.items()
        for one, other in [
            (before.documents_ended, after.documents_ended),
            (before.state_ended, after.state_ended),
            (before.collections_ended, after.collections_ended),
        ]:
            self.known |= {stamp: known for name, stamp in other.items() if one.get(name) != stamp}
        for one, other in [(before.documents, after.documents), (before.state, after.state)]:
            stamps = {name: stamp for name, (_, stamp) in one.items()}
            self.known |= {stamp: known for name, (_, stamp) in other.items() if stamps.get(name) != stamp}

    def knew(self, later: bytes, earlier: bytes) -> bool:
        """Whether the store that made the later write had the earlier one."""
        return self.known[later].get(earlier[8:].hex(), b"") >= earlier[:8]

    def check(self, merged: Merged, paths: Iterable[Path]) -> None:
        events = events_of(merged)
        listed = set()
        for path in paths:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                rows = connection.execute(CONFLICTS).fetchall()
            assert len(rows) == len(set(rows)), f"twice: {rows}"
            listed |= set(rows)
        self.check_listed(events, listed)
        living = {(name, stamp) for stamp, name, _ in [*merged.living(), *merged.living_values()]}
        # The last first: what came to the same as a later one is judged by that.
        fine: list[Event] = []
        for event in sorted(events, key=lambda event: event.stamp, reverse=True):
            if (event.name, event.stamp) in living or event.only_uri or self.is_listed(event, listed):
                fine.append(event)
                continue
            ended = [end for name, end in self.ends if event.kind == "document" and name == event.name[0]]
            later = [other for other in events if other.stamp > event.stamp and other.meets(event)]
            overwritten = [*ended, *(other.stamp for other in later)]
            if (
                any(stamp > event.stamp and self.knew(stamp, event.stamp) for stamp in overwritten)
                or any(other.value == event.value for other in fine if other.meets(event))
                or (event.value is None and self.is_gone(event, later, ended, listed, living))
            ):
                fine.append(event)
                continue
            raise AssertionError(f"lost, and not listed: {event}; to one of {overwritten}")

    def is_gone(self, event: Event, later: list[Event], ended: list[bytes], listed: set, living: set) -> bool:
        """Whether what was deleted is so in the end, or came back only by what lost its uri itself."""
        if any(end > event.stamp for end in ended) or not any((one.name, one.stamp) in living for one in later):
            return True
        return any(one.uri is not None and self.is_listed(one, listed) for one in later)

    def is_listed(self, event: Event, listed: set) -> bool:
        for collection, entity, uid, winner, loser in listed:
            if entity == event.kind and loser == event.stamp:
                return True
            of_whole = entity == "collection" and event.kind == "document" and collection == event.name[0] == uid
            if of_whole and winner > event.stamp and loser >= event.stamp:
                return True
        return False

    def check_listed(self, events: list[Event], listed: set) -> None:
        """Neither knew of the other, and they were not the same."""
        values = {(event.kind, event.name, event.stamp): event.value for event in events if not event.only_uri}
        for row in listed:
            collection, entity, uid, winner, loser = row
            assert winner > loser, row
            if winner in self.known and loser in self.known:
                assert not self.knew(winner, loser), f"was known to the winner: {row}"
                assert not self.knew(loser, winner), f"was known to the loser: {row}"
            name = tuple(json.loads(uid)) if entity == "state" else (collection, uid)
            both = [values.get((entity, name, stamp), row) for stamp in (winner, loser)]
            # Documents may differ in what the model does not tell.
            assert row in both or both[0] != both[1] or (entity == "document" and both[0] is not None), (
                f"the same: {row}"
            )


def events_of(merged: Merged) -> list[Event]:
    events = []
    for stamp, name, content in merged.documents:
        uri = None if content is None or content.uri is None else (name[0], content.uri)
        events.append(Event(stamp, "document", name, uri, content))
    events += (Event(stamp, "document", ("", ""), uri, None, only_uri=True) for stamp, uri in merged.uris)
    events += (
        Event(stamp, "state", name, None, None if value is None else tuple(value))
        for stamp, name, value in merged.state
    )
    return events
