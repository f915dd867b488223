"""Stores: one file with its collections."""

from __future__ import annotations

import atexit
import os
import warnings
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Literal

from numpy.typing import ArrayLike

from . import _ragstore
from ._ragstore import Options, Write
from .arguments import count, mapping_or_none, number, optional, string, strings
from .check import CheckReport, RepairReport
from .collection import Collection
from .display import reporting
from .embedding import BATCH
from .exceptions import CollectionNotFoundError, RagstoreError
from .operations import Health, IndexStats, StoreStats
from .results import CollectionInfo, Hits, SpaceInfo
from .search import choose_mode
from .state import State
from .sync import Syncing
from .transaction import Transaction
from .types import Embedder, Filter, Metric, Mode, Progress
from .vectors import as_query

__all__ = ["Store", "open"]

_OPEN: weakref.WeakSet[Store] = weakref.WeakSet()
# When derived indexes are built: rows from which on there is one, rows that come or go before it is built anew, and
# whether searches wait for it. None lets the store choose; tests set it.
_INDEX_AT: tuple[int, int, bool] | None = None


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    create: bool = True,
    read_only: bool = False,
    durability: Literal["full", "relaxed"] = "full",
    key: str | bytes | None = None,
    timeout: float = 30.0,
    readers: int | None = None,
    derived: Literal["auto", "memory", "off"] = "auto",
    memory_limit: int | None = None,
    embedding_cache: int = 256 << 20,
    network_filesystem: bool = False,
) -> Store:
    """Open a store, and create it where there is none.

    Parameters
    ----------
    path : str or PathLike, optional
        The file; its directories are made. None and ":memory:" are an ephemeral store, gone on close.
    create : bool
        False: raise `NotFoundError` when the file is not there.
    read_only : bool
        Refuse to write.
    durability : {"full", "relaxed"}
        What an acknowledged write survives: power loss, or the end of the process.
    key : str or bytes, optional
        Encrypts what is stored, and opens what is encrypted: a passphrase, or 32 random bytes. See the guide to
        encryption for what it covers and how to keep it; `Store.rekey` changes it.
    timeout : float
        Seconds to wait for another writer.
    readers : int, optional
        Connections that read at the same time; twice the cores when not given.
    derived : {"auto", "memory", "off"}
        Where the indexes live that answer searches sooner: in the folder ``<path>-index`` beside the file, in memory,
        or nowhere. Ephemeral stores keep theirs in memory. No answer depends on them but for `exact`, see `Hits`.
    memory_limit : int, optional
        Bytes of memory for indexes and page caches, half for either. What is mapped from the disk does not count.
        Without it, each connection that reads an encrypted file keeps up to 256 MiB of pages that it decrypted, and
        each other one 8 to 32 MiB: 256 MiB for all readers together, up to 32 readers.
    embedding_cache : int
        Bytes of vectors that embedders made and the file keeps, so that a model embeds each text once; the oldest go
        first. 0 keeps nothing and looks for nothing. See `Store.clear_embedding_cache`.
    network_filesystem : bool
        Write also where the file lies on NFS, SMB, 9p, virtiofs, sshfs or the like. Their locks and shared memory do
        not reach other machines: it is safe only while no other machine opens the file.

    Returns
    -------
    Store

    Raises
    ------
    NotFoundError
        There is no file, and `create` is False.
    CorruptError
        The file is no store.
    SchemaTooNewError
        A newer version wrote it.
    NetworkFilesystemError
        It is to be written on a network file system. With ``read_only=True`` it is opened there, and read rightly as
        long as no other machine writes.
    WrongKeyError
        The key is another one, or there is none and the file is encrypted, or there is one and it is not. Nothing of
        the file is changed.
    ValueError
        An argument is outside what it may be: a key that is an empty text or has not 32 bytes, say, or a build without
        encryption. Nothing is made.

    Examples
    --------
    >>> import ragstore
    >>> with ragstore.open() as store:
    ...     len(store)
    0
    """
    name = None if path is None else os.fspath(path)
    if name is not None:
        string("path", name)
        if not name:
            raise ValueError('path is an empty string; give a file, or None or ":memory:" for an ephemeral store')
        if name == ":memory:":
            name = None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout is of type {type(timeout).__name__}; it must be a number of seconds")
    options: dict[str, Any] = {
        "create": bool(create),
        "read_only": bool(read_only),
        "durability": string("durability", durability),
        "timeout": float(timeout),
        "readers": None if readers is None else count("readers", readers, 1),
        "derived": string("derived", derived),
        "memory_limit": None if memory_limit is None else count("memory_limit", memory_limit),
        "network_filesystem": bool(network_filesystem),
    }
    cache = count("embedding_cache", embedding_cache)
    # The key is not among the options: those are pickled.
    values: list[Any] = [key, *options.values(), _INDEX_AT]
    return Store(_ragstore.open(name, *values), {**options, "embedding_cache": cache})


class Store(Syncing, AbstractContextManager["Store"]):
    """A store of collections: one file. It comes from `open`, and closes when its ``with`` block ends.

    All calls may be made from any thread. A store pickles as its path and options, an ephemeral or encrypted one not at
    all. In a process that was forked from the one that opened it, every call raises `ForkError`.
    """

    def __init__(self, raw: _ragstore.Store, options: dict[str, Any]) -> None:
        self._raw = raw
        self._options = options
        self._embedding_cache: int = options["embedding_cache"]
        self._pid = os.getpid()
        path = raw.path
        # Not resolved: a link may come to name another file.
        self._absolute = None if path is None else os.path.abspath(path)  # noqa: PTH100
        _OPEN.add(self)

    @property
    def path(self) -> str | None:
        """The file; None for an ephemeral store."""
        return self._raw.path

    @property
    def read_only(self) -> bool:
        """Whether writes are refused with `ReadOnlyError`."""
        return self._raw.read_only

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._raw.closed

    def close(self) -> None:
        """Wait for writes under way and let go of the file. A second call does nothing."""
        self._raw.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        raw = getattr(self, "_raw", None)
        # A child leaves its parent's store alone.
        if raw is None or self._pid != os.getpid() or raw.closed:
            return
        warnings.warn(
            f"unclosed {self!r}; close it, or open it in a with block", ResourceWarning, stacklevel=2, source=self
        )
        with suppress(RagstoreError):
            raw.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._absolute is None:
            raise TypeError("an ephemeral store does not pickle: nobody else can open it")
        if self._raw.encrypted:
            raise TypeError("an encrypted store does not pickle: its key would go along; open the path with it there")
        # What was opened is there: where it is not, a new and empty store would be a surprise.
        return _reopen, (self._absolute, {**self._options, "create": False})

    def __repr__(self) -> str:
        where = "ephemeral" if self._absolute is None else repr(self._absolute)
        flags = [name for name, on in (("read-only", self.read_only), ("closed", self.closed)) if on]
        return f"Store({', '.join([where, *flags])})"

    # collections

    def create_collection(
        self,
        name: str,
        *,
        dimension: int | None = None,
        metric: Metric = "cosine",
        tokenizer: str = "porter unicode61",
        description: str | None = None,
        settings: Mapping[str, Any] | None = None,
        model: str | None = None,
        embedder: Embedder | None = None,
        query_embedder: Embedder | None = None,
        batch_size: int = BATCH,
        exist_ok: bool = False,
    ) -> Collection:
        """Create a collection.

        Parameters
        ----------
        name : str
        dimension : int, optional
            Of its embeddings, at most 8,192; without it, that of the first ones.
        metric : {"cosine", "l2", "ip"}
            How embeddings are compared.
        tokenizer : str
            How texts become words, of FTS5: "porter unicode61" stems English, "unicode61" takes words as they are,
            "trigram" finds substrings, also in scripts without spaces. `Collection.set_tokenizer` changes it.
        description : str, optional
        settings : Mapping[str, Any], optional
            The caller's own, kept as JSON.
        model : str, optional
            Name of the embedding model; another one later is an error. What an embedder makes is cached by this name,
            so let it say all that a vector depends on: the version, and a prefix or a truncation if there is one.
        embedder : callable, optional
            Gets n texts and returns vectors of shape (n, d). It is not stored; it lets add and search take text alone.
        query_embedder : callable, optional
            The same for the questions of a search, where the model treats them unlike documents.
        batch_size : int
            Texts of one call of the embedder, at most.
        exist_ok : bool
            Return the collection that is there, unless its dimension, metric, tokenizer or model is another. One that
            has no model yet takes this one.

        Returns
        -------
        Collection

        Raises
        ------
        CollectionExistsError
            There is one of that name, or one with other properties.
        """
        write = Write.create_collection(
            string("name", name),
            None if dimension is None else count("dimension", dimension, 1),
            string("metric", metric),
            string("tokenizer", tokenizer),
            optional("description", description),
            mapping_or_none("settings", settings),
            optional("model", model),
            bool(exist_ok),
        )
        collection = Collection(self, name, embedder, query_embedder, model, batch_size)
        self._raw.write([write])
        return collection

    def get_collection(
        self,
        name: str,
        *,
        model: str | None = None,
        embedder: Embedder | None = None,
        query_embedder: Embedder | None = None,
        batch_size: int = BATCH,
    ) -> Collection:
        """Get a collection that is there.

        Parameters
        ----------
        name : str
        model : str, optional
            Name of the embedder's model. A collection that has none yet takes it, unless the store is read-only.
        embedder, query_embedder, batch_size
            As in `create_collection`. Without `model`, the embedder's model is taken to be that of the collection.

        Raises
        ------
        CollectionNotFoundError
            There is none of that name.
        CollectionExistsError
            Its model is another.
        """
        collection = Collection(self, string("name", name), embedder, query_embedder, model, batch_size)
        _, space, *_ = self._raw.cached_embeddings(name, "default", model, [], None)
        if model is not None and SpaceInfo(*space).model is None and not self.read_only:
            self._raw.write([Write.set_model(name, model)])
        return collection

    def list_collections(self) -> list[CollectionInfo]:
        """List what collections there are, by name."""
        return [CollectionInfo._of(row) for row in self._raw.list_collections()]

    def delete_collection(self, name: str) -> None:
        """Delete a collection with all it holds.

        Raises
        ------
        CollectionNotFoundError
            There is none of that name.
        """
        self._raw.write([Write.delete_collection(string("name", name))])

    def __getitem__(self, name: str) -> Collection:
        """As ``get_collection(name)``."""
        return self.get_collection(name)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or not name:
            return False
        try:
            self._raw.get_collection(name)
        except (CollectionNotFoundError, ValueError):
            # Or no collection could have that name.
            return False
        return True

    def __len__(self) -> int:
        return len(self._raw.list_collections())

    def search(
        self,
        text: str | None = None,
        *,
        vector: ArrayLike | None = None,
        collections: Sequence[str] | None = None,
        k: int = 10,
        where: Filter | None = None,
        mode: Mode | None = None,
        timeout: float | None = None,
    ) -> Hits:
        """Find the chunks of several collections that answer a question, in one snapshot. See `Collection.search`.

        By vector, hits are merged by score. BM25 of one collection says nothing about that of another, so by keyword
        they are merged by rank, and score 1 / rank; hybrid fuses the two merged rankings by reciprocal rank.
        `Hit.collection` says where each is from.

        Parameters
        ----------
        text : str, optional
        vector : ArrayLike of float32, shape (d,) or (1, d), optional
            Compared with the default space of each collection. Those without embeddings have nothing to give.
        collections : sequence of str, optional
            By name, each searched once; all of them when not given.
        k : int
        where : Filter, optional
        mode : {"vector", "keyword", "hybrid"}, optional
        timeout : float, optional
            Seconds.

        Returns
        -------
        Hits

        Raises
        ------
        DimensionMismatchError
            Two collections differ in dimension or metric, and a vector was given; it names both.
        CollectionNotFoundError
            A collection that was named is not there.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     _ = store.create_collection("pets").add_texts(["Cats purr."])
        ...     _ = store.create_collection("farm").add_texts(["Cows moo, and cats catch mice."])
        ...     [(hit.collection, hit.rank) for hit in store.search("cats")]
        [('pets', 1), ('farm', 2)]
        """
        names = None if collections is None else strings("collections", collections)
        mode = choose_mode(optional("text", text), vector, mode, embedder=False)
        if mode != "keyword" and vector is None:
            raise TypeError(f'mode="{mode}" takes a vector here: a store has no embedder')
        query = None if vector is None else as_query(vector)
        options = Options(timeout=None if timeout is None else number("timeout", timeout))
        filter = mapping_or_none("where", where)
        return Hits(*self._raw.search_store(names, mode, text, query, count("k", k), filter, options))

    def clear_embedding_cache(self, *, model: str | None = None, texts: Sequence[str] | None = None) -> int:
        """Remove vectors that embedders made from the cache; what collections hold stays.

        Deleting a document leaves the vectors of its texts in the cache: the next to embed them finds them there.

        Parameters
        ----------
        model : str, optional
            Of this model only.
        texts : Sequence[str], optional
            Of these texts only.

        Returns
        -------
        int
            How many there were.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     pets = store.create_collection("pets", model="ones", embedder=lambda texts: [[1.0, 1.0]] * len(texts))
        ...     _ = pets.add_texts(["Cats purr.", "Dogs bark."])
        ...     store.clear_embedding_cache(texts=["Dogs bark."]), store.clear_embedding_cache()
        (1, 1)
        """
        named = None if texts is None else strings("texts", texts)
        (removed,) = self._raw.write([Write.clear_embedding_cache(optional("model", model), named)])
        return int(removed)

    def state(self, namespace: str = "default", *, local: bool = False) -> State:
        """The values that a pipeline keeps between its runs, as a mutable mapping.

        Parameters
        ----------
        namespace : str
        local : bool
            Never synced to peers. A local namespace may have the name of one that is not.

        Returns
        -------
        State
            A mapping of str to JSON values, with expiry, atomic `update`, `compare_and_set` and `scan` by prefix.
        """
        return State(self, namespace, local=local)

    # operations

    def check(self, *, quick: bool = False, progress: Progress = False) -> CheckReport:
        """Look at everything that must hold in the file.

        It reads one snapshot, beside readers and writers: SQLite's pages, trees and indexes, the text indexes word by
        word against the texts, the tables of vectors against each other and the chunks, and every reference, hash,
        place, counter and clock. What it finds is in the report; nothing of it is raised.

        Parameters
        ----------
        quick : bool
            Leave out what reads all content: hashes, words, metadata and the vectors themselves.
        progress : bool or callable
            True shows a bar; a callable gets (done, total).

        Returns
        -------
        CheckReport

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C ends it.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     _ = store.create_collection("pets").add_texts(["Cats purr."])
        ...     store.check()
        CheckReport(problems=[])
        """
        with reporting(progress, "check") as report:
            return CheckReport._of(self._raw.check(bool(quick), report))

    def repair(self, to: str | os.PathLike[str] | None = None, *, progress: Progress = False) -> RepairReport:
        """Rebuild what can be derived; with `to`, read everything that can be read into a new store.

        In place it is one write, and does what a check finds necessary: text indexes, vectors, indexes of metadata,
        indexes of tables, counters, the clock, tables that belong to nothing. A vector that is none is gone afterwards,
        and `lost` names its chunk. Damaged pages are not repaired in place: give `to`.

        With `to` rows are read around the pages that are broken. Ids, rowids, times and metadata are kept. This file
        stays as it is. A store that does not open any more is read by `ragstore.repair`.

        Parameters
        ----------
        to : str or PathLike, optional
            A new file, which must not be there. It appears when it is whole, checked and on the disk.
        progress : bool or callable
            True shows a bar; a callable gets (done, total).

        Returns
        -------
        RepairReport

        Raises
        ------
        ValueError
            There is a file at `to`.
        ReadOnlyError
            The store is read-only, and there is no `to`.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     store.repair().rebuilt
        []
        """
        name = None if to is None else string("to", os.fspath(to))
        with reporting(progress, "repair") as report:
            return RepairReport._of(self._raw.repair(name, report))

    def rekey(self, key: str | bytes | None) -> None:
        """Encrypt the file with another key, encrypt one that is not, or decrypt it.

        The rows are copied into a new file beside the old one, `<file>-rekey`, which is verified and synced and then
        takes its place: there must be room for both. Whenever the process ends meanwhile, the file is whole and opens
        with exactly one of the two keys. The store goes on with the new one.

        Nobody else may have the file open: another process, or another store of this one. Calls of this store that are
        under way are waited for, and others wait for this one. On Linux nobody can open the file meanwhile; elsewhere
        let nobody try.

        Parameters
        ----------
        key : str, bytes or None
            A passphrase, 32 random bytes, or None: not encrypted any more.

        Raises
        ------
        LockedError
            Somebody else has the file open. Nothing was changed.
        ReadOnlyError
            The store was opened with `read_only`.
        StoreFullError
            There is no room for the copy. Nothing was changed.
        ValueError
            The key is an empty text or has not 32 bytes; or the store is ephemeral.

        Examples
        --------
        >>> import os, tempfile, ragstore
        >>> folder = tempfile.TemporaryDirectory()
        >>> with ragstore.open(os.path.join(folder.name, "kb.db"), key="correct horse") as store:
        ...     _ = store.create_collection("notes").add_texts(["Cats purr."])
        ...     store.rekey("battery staple")
        ...     store["notes"].search("cats").texts
        ['Cats purr.']
        >>> folder.cleanup()
        """
        self._raw.rekey(key)

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Queue writes on any collections and commit them as one. See `Transaction`."""
        return Transaction(self)

    # operations

    def checkpoint(self, mode: Literal["passive", "full", "restart", "truncate"] = "passive") -> None:
        """Move the write-ahead log into the file. Writes do it by themselves; nothing is lost without it.

        Parameters
        ----------
        mode : {"passive", "full", "restart", "truncate"}
            Passive moves what readers and other processes let be moved at this moment. Full waits, up to the timeout of
            the store, until all of it is moved; restart also until the next write can begin the log anew; truncate also
            empties it, so that the file alone is the store until the next write.

        Raises
        ------
        LockedError
            A reader, or a process that writes without pause, stayed in the way for longer than the timeout.
        ReadOnlyError
            The store was opened to be read only.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     _ = store.create_collection("pets")
        ...     store.checkpoint("truncate")
        ...     store.stats().log_bytes
        0
        """
        self._raw.operate("checkpoint", string("mode", mode), None)

    def optimize(self, *, progress: Progress = False) -> None:
        """Give back the space that deletes and replacements left, and put the indexes in order.

        Vectors move out of blocks with holes, the segments of each text index become one, changes that no follower
        would still ask for are forgotten, free pages leave the file, and the planner's statistics are renewed. All in
        small transactions: searches go on, other writers have their turns between two of them, and stopping it at any
        point, also by a crash, leaves what was done so far. No answer changes.

        Parameters
        ----------
        progress : bool or callable
            True shows a bar; a callable gets (done, total).

        Raises
        ------
        LockedError
            Another process wrote for longer than the timeout.
        StoreFullError
            The log has no room; some disk is needed before more of it is free.
        WalFullError
            A reader keeps the log from being moved.
        ReadOnlyError
            The store was opened to be read only.
        """
        with reporting(progress, "optimize") as report:
            self._raw.operate("optimize", None, report)

    def vacuum(self, *, progress: Progress = False) -> None:
        """Write the whole file anew, without a hole. `optimize` does nearly as well without a copy.

        It takes the time and the disk of a copy, in the temporary folder of SQLite (``SQLITE_TMPDIR``, ``TMPDIR``) and
        once more in the log, and writers wait meanwhile. Searches go on. Ctrl-C leaves the file as it was, until it is
        moved there.

        Parameters
        ----------
        progress : bool or callable
            True shows a bar; a callable gets (done, total) in pages, each of which is read, written and moved. The
            moving, and what is kept in memory until then, comes at once in the end.

        Raises
        ------
        StoreFullError
            There is no room for it; nothing was changed.
        LockedError
            Another process wrote for longer than the timeout.
        ReadOnlyError
            The store was opened to be read only.
        """
        with reporting(progress, "vacuum") as report:
            self._raw.operate("vacuum", None, report)

    def backup(self, path: str | os.PathLike[str], *, progress: Progress = False) -> None:
        """Write a copy of one moment to another file, while searches and writes go on in any process.

        The copy is made in a folder beside `path`, verified, synced and renamed: until then a file that is there stays
        as it is, also if the disk fills or the process is killed; the next backup removes what that left. The copy is
        one file, without a log, for its owner alone. To restore, close the store, remove its ``-wal`` and ``-shm``, and
        copy the backup to its path. It is another replica than the store it was made of.

        Parameters
        ----------
        path : str or PathLike
            The file; its folder must be there. A link is followed.
        progress : bool or callable
            True shows a bar; a callable gets (done, total) in pages.

        Raises
        ------
        ValueError
            It is a directory, a file of the store itself, or a name that the store gives to files beside it (``-wal``,
            ``-shm``, ``-journal``, ``-rekey``, ``-index``).
        NotFoundError
            Its folder is not there.
        LockedError
            It is open as a database.
        StoreFullError
            The disk is full; a file that was there is as it was.
        CorruptError
            The store is damaged, and so is the copy: a file that was there is as it was. `check` says what of it, and
            `repair` mends it.

        Examples
        --------
        >>> import os, ragstore, tempfile
        >>> with tempfile.TemporaryDirectory() as folder, ragstore.open() as store:
        ...     _ = store.create_collection("pets").add("Cats purr.")
        ...     store.backup(os.path.join(folder, "backup.db"))
        ...     with ragstore.open(os.path.join(folder, "backup.db"), read_only=True) as copy:
        ...         copy["pets"].count()
        1
        """
        name = string("path", os.fspath(path))
        if not name:
            raise ValueError("path is an empty string; give a file")
        with reporting(progress, "backup") as report:
            self._raw.backup(name, report)

    def stats(self) -> StoreStats:
        """Say what the store holds and what its file is made of.

        Rows are counted by walking an index of each table, tens of milliseconds for 200,000 chunks; the pages of
        declared fields are read. Nothing else is. Writers do not wait.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     _ = store.create_collection("pets").add(["Cats purr.", "Dogs bark."])
        ...     store.stats().documents
        2
        """
        numbers = self._raw.stats()
        indexes = tuple(IndexStats(**index) for index in numbers.pop("indexes"))
        return StoreStats(**numbers, indexes=indexes)

    def health(self) -> Health:
        """Say how the store fares, without reading what it holds. What it finds is returned, not raised.

        It looks at the writer, the length of the log and who keeps it long, the last checkpoint, the free space of the
        disk, the locks, whether the files are still in their place, and the header. `check` looks at everything else.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     for what, what_to_do in store.health().reasons:
        ...         print(f"{what}: {what_to_do}")
        """
        return Health._of(self._raw.health())


def _reopen(path: str, options: dict[str, Any]) -> Store:
    return open(path, **options)


def _close_all() -> None:
    """At the end of the process: ephemeral files go, and no log waits for the next one to open."""
    for store in list(_OPEN):
        if store._pid == os.getpid():
            with suppress(RagstoreError, OSError):
                store.close()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_ragstore.before_fork,
        after_in_parent=_ragstore.after_fork_in_parent,
        after_in_child=_ragstore.after_fork_in_child,
    )
