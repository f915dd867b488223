"""What a pipeline keeps between its runs: cursors, counters, leases, settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import _ragstore
from ._ragstore import Write
from .arguments import string, strings
from .transaction import Pending

if TYPE_CHECKING:
    from .store import Store
    from .transaction import Transaction

__all__ = ["State", "TransactionState"]

T = TypeVar("T")

_PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MISSING: Any = object()
# Which no key holds: it has no UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")


class State(MutableMapping[str, Any]):
    """The values of one namespace, under keys of at most 512 bytes; see `Store.state`.

    Values are what JSON has: None, bool, int, float, str, and lists and mappings of them, of at most 1 MiB and 64
    levels. A tuple comes back as a list. Every write is a transaction of its own, durable when it returns and seen
    by every process; it takes away the expiry that the key had, unless it gives another. What is expired is not there.

    Examples
    --------
    >>> import ragstore
    >>> with ragstore.open() as store:
    ...     crawl = store.state("crawl")
    ...     crawl["cursor"] = {"page": 3}
    ...     crawl.update("visits", lambda old: old + 1, default=0)
    ...     dict(crawl)
    1
    {'cursor': {'page': 3}, 'visits': 1}
    """

    def __init__(self, store: Store, namespace: str, *, local: bool = False) -> None:
        self.namespace = string("namespace", namespace)
        self.local = bool(local)
        self._store = store
        self._raw = _ragstore.State(store._raw, self.namespace, self.local)

    def __getitem__(self, key: str) -> Any:
        entry = self._raw.get(string("key", key))
        if entry is None:
            raise KeyError(key)
        return json.loads(entry[1])

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if self._write(self._delete([string("key", key)])) == 0:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and not _SURROGATE.search(key) and self._raw.get(key) is not None

    def __len__(self) -> int:
        return self._raw.count()

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._entries(""))

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Keys that begin with `prefix`, and their values, by code point of the key.

        What is written meanwhile may be among them or not.
        """
        return ((key, json.loads(value)) for key, value in self._entries(string("prefix", prefix)))

    def expires_at(self, key: str) -> datetime | None:
        """When a value expires; None where it does not.

        Raises
        ------
        KeyError
            There is no such key.
        """
        entry = self._raw.get(string("key", key))
        if entry is None:
            raise KeyError(key)
        return None if entry[2] is None else _EPOCH + timedelta(microseconds=entry[2])

    def set(
        self,
        key: str,
        value: Any,
        *,
        expires_in: float | timedelta | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        """Set a value.

        Parameters
        ----------
        key : str
        value : any JSON value
        expires_in : float or timedelta, optional
            Seconds until it is not there any more.
        expires_at : datetime, optional
            The same as an aware moment.

        Raises
        ------
        TypeError
            JSON does not have the value.
        ValueError
            Both expiries are given, or one that is no moment.
        LimitError
            The key or the value is too large.
        """
        self._write(self._set({key: value}, None, _moment(expires_in, expires_at)))

    def setdefault(
        self,
        key: str,
        default: Any = None,
        *,
        expires_in: float | timedelta | None = None,
        expires_at: datetime | None = None,
    ) -> Any:
        """Set a value unless there is one, and return the one that is there: one winner among all processes."""
        moment = _moment(expires_in, expires_at)
        while True:
            if self._write(self._set({key: default}, (), moment)):
                return default
            entry = self._raw.get(key)
            if entry is not None:
                return json.loads(entry[1])

    def compare_and_set(
        self,
        key: str,
        expected: Any,
        value: Any,
        *,
        expires_in: float | timedelta | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        """Set a value if the one that is there equals `expected`, and say whether it was; see `setdefault` for none.

        They are equal as JSON is: 1 and 1.0 are not, 1.50 and 1.5 are.
        """
        return bool(self._write(self._set({key: value}, (expected,), _moment(expires_in, expires_at))))

    @overload  # type: ignore[override]
    def update(self, key: str, function: Callable[[Any], T], /, *, default: Any = ..., **expiry: Any) -> T: ...
    @overload
    def update(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]] = ..., /, **values: Any) -> None: ...

    def update(self, other: Any = (), function: Any = None, /, **values: Any) -> Any:
        """Set many values as one; or, given a key and a function, what the function makes of the value.

        ``update(key, function, default=None, expires_in=None, expires_at=None)`` calls `function` with the value, or
        with `default` where there is none, sets what it returns and returns that. If another writer changed the value
        meanwhile, it asks again with the new one, so the function may be called several times; no change is lost.

        ``update(mapping)`` sets all of its values in one transaction. Keyword arguments are keys there, as those of
        `dict.update` are: ``update({"a": 1}, expires_in=60)`` sets a value named "expires_in". See `set` for expiry.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     state = store.state()
        ...     state.update({"a": 1, "b": 2})
        ...     state.update("a", lambda old: old * 10)
        10
        """
        if function is None:
            entries = dict(other, **values)
            if entries:
                self._write(self._set(entries, None, None))
            return None
        key, default = string("key", other), values.pop("default", None)
        moment = _moment(values.pop("expires_in", None), values.pop("expires_at", None))
        if values:
            raise TypeError(f"update of one key takes default, expires_in and expires_at, and not {min(values)!r}")
        while True:
            entry = self._raw.get(key)
            old = default if entry is None else json.loads(entry[1])
            expected = () if entry is None else (json.loads(entry[1]),)
            new = function(old)
            if self._write(self._set({key: new}, expected, moment)):
                return new

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove a value and return it: one taker among all processes."""
        while True:
            entry = self._raw.get(string("key", key))
            if entry is None:
                if default is _MISSING:
                    raise KeyError(key)
                return default
            value = json.loads(entry[1])
            if self._write(self._delete([key], (value,))):
                return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the first value and return it with its key: one taker among all processes."""
        while first := self._raw.scan("", None, 1):
            key, value = first[0][0], json.loads(first[0][1])
            if self._write(self._delete([key], (value,))):
                return key, value
        raise KeyError(f"namespace {self.namespace!r} is empty")

    def clear(self) -> None:
        """Remove all values of the namespace, as one transaction."""
        self._write(self._delete(None))

    def _entries(self, prefix: str) -> Iterator[tuple[str, str]]:
        after = None
        while True:
            page = self._raw.scan(prefix, after, _PAGE)
            for key, value, _ in page:
                yield key, value
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def _set(self, values: Mapping[str, Any], expected: tuple[Any, ...] | None, moment: datetime | None) -> Write:
        entries = [(string("key", key), value) for key, value in values.items()]
        return Write.set_state(self.namespace, self.local, entries, moment, expected)

    def _delete(self, keys: list[str] | None, expected: tuple[Any, ...] | None = None) -> Write:
        return Write.delete_state(self.namespace, self.local, keys, expected)

    def _write(self, write: Write) -> Any:
        return self._store._raw.write([write])[0]

    def __repr__(self) -> str:
        return f"State({self.namespace!r}{', local=True' if self.local else ''})"


class TransactionState:
    """Writes to a namespace that are committed with the others of a transaction; see `Transaction.state`."""

    __slots__ = ("_local", "_namespace", "_tx")

    def __init__(self, tx: Transaction, namespace: str, *, local: bool) -> None:
        self._tx = tx
        self._namespace = string("namespace", namespace)
        self._local = bool(local)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        self.delete([key])

    def set(
        self,
        key: str,
        value: Any,
        *,
        expires_in: float | timedelta | None = None,
        expires_at: datetime | None = None,
    ) -> Pending[bool]:
        """As `State.set`. The value is taken when it is queued."""
        entries = [(string("key", key), value)]
        moment = _moment(expires_in, expires_at)
        return self._tx._add(Write.set_state(self._namespace, self._local, entries, moment, None), bool)

    def delete(self, keys: Iterable[str]) -> Pending[int]:
        """Remove values; those that are not there are not counted."""
        write = Write.delete_state(self._namespace, self._local, strings("keys", keys), None)
        return self._tx._add(write, int)

    def clear(self) -> Pending[int]:
        """As `State.clear`."""
        return self._tx._add(Write.delete_state(self._namespace, self._local, None, None), int)

    def __repr__(self) -> str:
        return f"TransactionState({self._namespace!r}{', local=True' if self._local else ''})"


def _moment(expires_in: float | timedelta | None, expires_at: datetime | None) -> datetime | None:
    if expires_in is None:
        return expires_at
    if expires_at is not None:
        raise ValueError("expires_in and expires_at are both given; give one")
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float, timedelta)):
        raise TypeError(f"expires_in is of type {type(expires_in).__name__}; it must be seconds or a timedelta")
    try:
        span = expires_in if isinstance(expires_in, timedelta) else timedelta(seconds=expires_in)
        return datetime.now(UTC) + span
    except (OverflowError, ValueError):
        raise ValueError(f"expires_in is {expires_in}; the moment it ends at must be before the year 10000") from None
