"""What a store exchanges with others, and the feed of its changes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from . import _ragstore
from .arguments import count, mapping_or_none, string
from .document import moment

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Change", "Conflict", "Peer", "SyncLogEntry", "SyncReport", "Syncing"]

Entity = Literal["collection", "document", "relation", "state"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the feed.

    Attributes
    ----------
    seq : int
        Its place in the feed of this store; the next `Store.changes` begins after it.
    entity : {"collection", "document", "relation", "state"}
    op : {"put", "delete", "clear"}
        "clear" is of a collection that was emptied.
    collection : str or None
        None for state, and for what was in a collection that is gone.
    id : str or tuple of str or None
        Of a document its id, of a relation (source, type, target), of a state value (namespace, key), of a collection
        its name.
    at : datetime
        When it was made, by the clock of the replica that made it. Aware.
    replica : str
        Who made it.
    """

    seq: int
    entity: Entity
    op: Literal["put", "delete", "clear"]
    collection: str | None
    id: str | tuple[str, ...] | None
    at: datetime
    replica: str


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did.

    Attributes
    ----------
    peer : str
        The other store's file, the folder, or the replica that a batch came from.
    sent : int
        Changes that went to the other store, or into the folder.
    received : int
        Changes that came; those that were known before are among them.
    applied : int
        Those that changed this store.
    conflicts : int
        Changes of either side that lost to one that was made without knowing of them; `Store.conflicts` lists them.
    """

    peer: str
    sent: int
    received: int
    applied: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Another store that this one exchanges changes with.

    Attributes
    ----------
    name, endpoint : str
    replica : str or None
        Once it was met.
    added_at : datetime
        Aware.
    last_synced_at : datetime or None
    """

    name: str
    endpoint: str
    replica: str | None
    added_at: datetime
    last_synced_at: datetime | None


@dataclass(frozen=True, slots=True)
class SyncLogEntry:
    """One sync of the history.

    Attributes
    ----------
    started_at : datetime
        Aware.
    finished_at : datetime or None
    report : SyncReport
        Its peer is the name that `Store.add_peer` gave, if it has one.
    error : str or None
        Why it failed.
    """

    started_at: datetime
    finished_at: datetime | None
    report: SyncReport
    error: str | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """A change that lost to another that was made without knowing of it.

    Attributes
    ----------
    found_at : datetime
        Aware.
    collection : str or None
    entity : {"collection", "document", "relation", "state"}
    id : str or tuple of str
        As in `Change`.
    kept : {"own", "other"}
        Whose change stays: this store's, or the one that came.
    winner, loser : tuple of (datetime, str)
        When each was made, and by which replica.
    """

    found_at: datetime
    collection: str | None
    entity: Entity
    id: str | tuple[str, ...]
    kept: Literal["own", "other"]
    winner: tuple[datetime, str]
    loser: tuple[datetime, str]


class Syncing:
    """What a store exchanges with others."""

    _raw: _ragstore.Store

    @property
    def _sync(self) -> _ragstore.Sync:
        return _ragstore.Sync(self._raw)

    def changes(self, since: int = 0, *, limit: int = 1000) -> list[Change]:
        """List the changes after one, in the order in which this store made or merged them.

        Each is of a document with its chunks and embeddings, a collection, a relation or a state value; it says what
        changed, and not how: read it. `optimize` forgets the oldest changes, all but as many as there are chunks and at
        least 1,000.

        Parameters
        ----------
        since : int
            The `Change.seq` of the last one that was seen; 0 for all.
        limit : int
            Changes that are returned, at most.

        Raises
        ------
        SyncError
            Changes after `since` are forgotten. Take `last_change`, read what the collections hold, and go on from
            there.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     _ = store.create_collection("pets").add(ragstore.Document("Cats purr.", id="cats"))
        ...     [(change.op, change.entity, change.id) for change in store.changes()]
        [('put', 'collection', 'pets'), ('put', 'document', 'cats')]
        """
        rows = self._sync.changes(count("since", since), count("limit", limit))
        return [
            Change(seq, entity, op, collection, _name(entity, id), moment(millis * 1000), replica)
            for seq, entity, op, collection, id, millis, replica in rows
        ]

    def last_change(self) -> int:
        """Number of the last change; what `changes` begins after, for one who read everything else before."""
        return self._sync.last_change()

    def sync(self, other: Store) -> SyncReport:
        """Make this store and another equal: each takes what it lacks.

        Of two changes of one document (with its chunks and embeddings), collection, relation or state value the later
        one stays, by a clock that orders the changes of all replicas; of two that fall together, one replica's always.

        Parameters
        ----------
        other : Store
            Open for writing.

        Raises
        ------
        SyncError
            A collection of the same name has another dimension, metric or model there; one of the two files is a copy
            of the other (see `renew_replica`); or one did not sync for longer than deletions are remembered, and must
            take a fresh copy. What was merged before stays, and the next sync goes on.
        ClockSkewError
            A change is more than a minute ahead of this machine's clock; see `reclock`.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as laptop, ragstore.open() as server:
        ...     _ = laptop.create_collection("pets").add("Cats purr.")
        ...     report = laptop.sync(server)
        ...     report.sent, server["pets"].search("cats").texts
        (2, ['Cats purr.'])
        """
        if not isinstance(other, Syncing):
            raise TypeError(f"other is of type {type(other).__name__}; it must be an open Store")
        return SyncReport(*self._sync.sync(other._raw))

    def sync_folder(self, path: str | os.PathLike[str], *, key: str | bytes | None = None) -> SyncReport:
        """Exchange changes with every other store that uses a folder, whenever each of them comes.

        A store writes files of its own, each whole or not at all, reads those of others, and removes its own when all
        that were seen have them. Any service that copies files will do. One who joins late gets everything from the
        first that comes after.

        Parameters
        ----------
        path : str or PathLike
            Made where it is not there.
        key : str or bytes, optional
            Encrypts the files: a passphrase or 32 bytes, the same for all stores of the folder.

        Raises
        ------
        SyncError, ClockSkewError
            As `sync`, for some of the files. Everything else was exchanged.
        WrongKeyError
            The folder's files are encrypted with another key, or not at all.
        """
        name = string("path", os.fspath(path))
        if not name:
            raise ValueError("path is an empty string; give a folder")
        return SyncReport(*self._sync.sync_folder(name, key))

    def export_changes(self, since: Mapping[str, str] | None = None, *, key: str | bytes | None = None) -> bytes:
        """Write what another store lacks as one batch, for any transport.

        Parameters
        ----------
        since : mapping, optional
            The other's `watermark`. Without it, everything.
        key : str or bytes, optional
            Encrypts the batch: a passphrase or 32 bytes.

        Returns
        -------
        bytes
            Compressed and with checksums; for `apply_changes`. Less than 1 kB where nothing is lacking.

        Raises
        ------
        SyncError
            The other must take a fresh copy, or knows of this store what it was never told (see `renew_replica`).
        ClockSkewError
            A change of this store is more than a minute ahead of its machine's clock; see `reclock`.
        """
        known = {
            string("a key of since", replica): string(f"since[{replica!r}]", moment)
            for replica, moment in (mapping_or_none("since", since) or {}).items()
        }
        return self._sync.export_changes(known, key)

    def apply_changes(self, batch: bytes, *, key: str | bytes | None = None) -> SyncReport:
        """Merge what another store exported, as one transaction: all of it or nothing.

        Parameters
        ----------
        batch : bytes
        key : str or bytes, optional
            The one that it was exported with.

        Raises
        ------
        SyncError
            It is damaged or no batch, it begins after changes that this store does not have, or as in `sync`.
        ClockSkewError
            A change in it is more than a minute ahead of this machine's clock.
        WrongKeyError
            It is encrypted with another key, or not at all and a key was given.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as laptop, ragstore.open() as server:
        ...     laptop.state()["cursor"] = 7
        ...     batch = laptop.export_changes(since=server.watermark())
        ...     _ = server.apply_changes(batch)
        ...     server.state()["cursor"]
        7
        """
        if not isinstance(batch, bytes):
            raise TypeError(f"batch is of type {type(batch).__name__}; it must be bytes, of export_changes")
        return SyncReport(*self._sync.apply_changes(batch, key))

    @property
    def replica(self) -> str:
        """Which replica this store is, as `Change.replica`, `Conflict.winner` and a folder's files name it."""
        return self._sync.watermark()[0]

    def watermark(self) -> dict[str, str]:
        """How much of each replica's changes is here; for `export_changes` of another store."""
        return self._sync.watermark()[1]

    def renew_replica(self) -> None:
        """Make this store another replica, after its file was copied by hand or brought back to an older state.

        What it wrote keeps its moments. A file that `backup` made is another replica already. In a folder of
        `sync_folder` the old replica's ``.mark`` stays, and is to be removed by hand once no store is that replica.
        """
        self._sync.renew_replica()

    def reclock(self) -> int:
        """Give what was stamped by a clock that ran ahead the time of now, and say how many changes that were.

        Only what is more than a minute ahead, so that no peer takes it, and what none is known to have. The order of
        the changes stays.
        """
        return self._sync.reclock()

    def add_peer(self, name: str, endpoint: str) -> None:
        """Name another store, so that `peers` and `sync_log` speak of it by that name.

        Parameters
        ----------
        name : str
        endpoint : str
            The file of a store that is given to `sync`, or the folder of `sync_folder`, as it is written there.

        Raises
        ------
        ConflictError
            There is a peer of that name.
        """
        self._sync.add_peer(string("name", name), string("endpoint", endpoint))

    def remove_peer(self, name: str) -> None:
        """Forget a peer. What it sent stays.

        Raises
        ------
        NotFoundError
            There is none of that name.
        """
        self._sync.remove_peer(string("name", name))

    def peers(self) -> list[Peer]:
        """List the peers that were added, by name."""
        return [
            Peer(name, endpoint, replica, moment(added), None if met is None else moment(met))
            for name, endpoint, replica, added, met in self._sync.peers()
        ]

    def sync_log(self, limit: int = 100) -> list[SyncLogEntry]:
        """List the latest syncs, the last first; 10,000 are kept."""
        return [
            SyncLogEntry(moment(began), None if ended is None else moment(ended), SyncReport(*report), error)
            for began, ended, report, error in self._sync.sync_log(count("limit", limit))
        ]

    def conflicts(self, limit: int = 100) -> list[Conflict]:
        """List what lost to a change that was made without knowing of it, the last found first; 10,000 are kept.

        The store that merges first finds a conflict, and lists it.
        """
        return [
            Conflict(
                moment(found),
                collection,
                entity,
                _named(entity, id),
                "own" if own else "other",
                (moment(winner[0] * 1000), winner[1]),
                (moment(loser[0] * 1000), loser[1]),
            )
            for found, collection, entity, id, own, winner, loser in self._sync.conflicts(count("limit", limit))
        ]


def _named(entity: Entity, id: str) -> str | tuple[str, ...]:
    return tuple(json.loads(id)) if entity in {"relation", "state"} else id


def _name(entity: Entity, id: str | None) -> str | tuple[str, ...] | None:
    return None if id is None else _named(entity, id)
