"""From a folder to a store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import writes
from .._ragstore import Write
from ..arguments import string, strings
from ..display import Report, reporting
from ..exceptions import CollectionExistsError, CollectionNotFoundError, ConflictError, ReadOnlyError
from ..logs import maintained
from ..results import AddResult, CollectionInfo
from ..tracing import span
from ..types import OnConflict, Progress
from .manifest import NAME, CollectionEntry, LinesEntry, Manifest, SpaceEntry
from .reading import Batch, on_line, placed, read_collection
from .records import RelationCheck, read_relations, read_state

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["ImportResult", "import_"]

_POLICIES = ("error", "replace", "skip")


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did.

    Attributes
    ----------
    collections : int
    added, replaced, unchanged, skipped : int
        Documents.
    relations, state : int
        Relations and state values that were stored: not those that were there with the same content, and not those that
        were left out.
    """

    collections: int
    added: int
    replaced: int
    unchanged: int
    skipped: int
    relations: int
    state: int

    def to_dict(self) -> dict[str, int]:
        """The attributes by name."""
        return asdict(self)


def import_(
    store: Store,
    path: str | os.PathLike[str],
    *,
    collections: Sequence[str] | None = None,
    on_conflict: OnConflict = "error",
    progress: Progress = False,
) -> ImportResult:
    """Take in what `export` wrote.

    The export is read twice: first to check all of it, and only then to store it. Documents are committed a thousand
    at a time, each with all its embeddings; the relations of a collection follow its documents, and state comes last.
    Where the second part fails, what was committed stays, and the same call goes on where it ended: what is there with
    the same content is left as it is.

    A collection that is there gets what it lacks, and keeps its description, settings and tokenizer. `created_at` and
    `updated_at` are those of the import, and chunks are numbered without gaps. State values that have expired are left
    out, and so are relations of a document that has expired or that was left out.

    Parameters
    ----------
    store : Store
    path : str or PathLike
        The folder.
    collections : sequence of str, optional
        Of those in the export, by name, with their relations; all of them, and state, when not given.
    on_conflict : {"error", "replace", "skip"}
        For a document whose id or uri is taken by other content: the import ends; the old one goes; the old one stays,
        with its embeddings in every space. The same for a relation that has another strength or other metadata, and for
        a key of state that has another value.
    progress : bool or callable
        True shows a bar; a callable gets (done, total) on this thread, documents that are checked and documents that
        are stored, and what it raises ends the import.

    Returns
    -------
    ImportResult

    Raises
    ------
    NotFoundError
        There is no manifest at the path.
    CollectionNotFoundError
        The export has no such collection.
    CorruptError, LimitError, SchemaTooNewError
        The export is not what it must be, over a limit, or of a later version. The message names the file and the line,
        and nothing was stored.
    CollectionExistsError
        A collection or a space of that name has another dimension, metric or model; nothing was stored.
    ConflictError
        An id, a uri, a relation or a key is taken, under ``on_conflict="error"``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import ragstore
    >>> with tempfile.TemporaryDirectory() as folder, ragstore.open() as old, ragstore.open() as new:
    ...     path = pathlib.Path(folder, "out")
    ...     _ = old.create_collection("pets").add_texts(["Cats purr."], ids=["cat"])
    ...     _ = ragstore.export(old, path)
    ...     print(ragstore.import_(new, path))
    ...     new["pets"].get("cat").text
    ImportResult(collections=1, added=1, replaced=0, unchanged=0, skipped=0, relations=0, state=0)
    'Cats purr.'
    """
    if string("on_conflict", on_conflict) not in _POLICIES:
        raise ValueError(f'on_conflict is {on_conflict!r}; it is one of "error", "replace", "skip"')
    names = None if collections is None else strings("collections", collections)
    if store.read_only:
        raise ReadOnlyError("the store was opened with read_only=True; open it for writing")
    folder = Path(path)
    manifest = Manifest.read(folder)
    entries, state = _chosen(manifest.collections, names), manifest.state if names is None else None
    total = 2 * sum(entry.count for entry in entries)
    counts = {"collections": len(entries)}
    with maintained("import", counts), span("import", counts), reporting(progress, "import") as report:
        done = _check(folder, entries, state, report, total)
        _create(store, entries)
        result, relations, values = AddResult(), 0, 0
        for entry in entries:
            for batch in read_collection(folder, entry):
                result = result._with(_store(store, entry, batch, on_conflict))
                # The ids are many, and nobody asks.
                result.chunk_ids.clear()
                result.document_ids.clear()
                done += len(batch.documents)
                if report is not None:
                    report(done, total)
            for records in read_relations(folder, entry):
                relations += records.store(store._raw, on_conflict).count("stored")
            for field in entry.indexes:
                store[entry.name].create_index(field)
        for records in read_state(folder, state):
            values += records.store(store._raw, on_conflict).count("stored")
        counts |= {
            "added": result.added,
            "replaced": result.replaced,
            "unchanged": result.unchanged,
            "skipped": result.skipped,
            "relations": relations,
            "state": values,
        }
    return ImportResult(**counts)


def _chosen(entries: list[CollectionEntry], names: list[str] | None) -> list[CollectionEntry]:
    if names is None:
        return entries
    known = {entry.name: entry for entry in entries}
    for name in names:
        if name not in known:
            raise CollectionNotFoundError(f"the export has no collection {name!r}; it has {', '.join(known) or 'none'}")
    return [known[name] for name in dict.fromkeys(names)]


def _check(
    folder: Path, entries: list[CollectionEntry], state: LinesEntry | None, report: Report | None, total: int
) -> int:
    """Everything that a store would refuse, asked of one that is empty and goes with the answer."""
    from .. import store

    done = 0
    with store.open(embedding_cache=0) as scratch:
        for number, entry in enumerate(entries):
            for file in entry.files():
                file.verify(folder)
            with placed(f"{NAME}: collections[{number}]"):
                scratch._raw.write(_creating(entry, None))
                for field in entry.indexes:
                    scratch[entry.name].create_index(field)
            relations = RelationCheck(folder, entry, scratch._raw)
            for batch in read_collection(folder, entry):
                batch.check(scratch._raw, entry)
                relations.found(batch.ids())
                done += len(batch.documents)
                if report is not None:
                    report(done, total)
            relations.finish()
            scratch.delete_collection(entry.name)
        if state is not None:
            state.file.verify(folder)
            for records in read_state(folder, state):
                records.check(scratch._raw)
    return done


def _creating(entry: CollectionEntry, there: CollectionInfo | None) -> list[Write]:
    """What makes the collection and its spaces, where they are not there."""
    default, *others = entry.spaces
    creating = [
        Write.create_collection(
            entry.name,
            default.dimension,
            default.metric,
            entry.tokenizer if there is None else there.tokenizer,
            entry.description,
            entry.settings,
            default.model,
            there is not None,
        )
    ]
    known = {} if there is None else {space.name: space for space in there.spaces}
    for space in others:
        found = known.get(space.name)
        if found is None:
            creating.append(Write.create_space(entry.name, space.name, space.dimension, space.metric, space.model))
        elif not _alike(space, found.dimension, found.metric, found.model):
            raise CollectionExistsError(
                f"collection {entry.name!r} has a space {space.name!r} already, of dimension {found.dimension}, metric "
                f"{found.metric} and model {found.model!r}; that of the export has dimension {space.dimension}, metric "
                f"{space.metric} and model {space.model!r}: import into another store"
            )
    return creating


def _alike(space: SpaceEntry, dimension: int | None, metric: str, model: str | None) -> bool:
    same_dimension = dimension is None or space.dimension in {None, dimension}
    return same_dimension and space.metric == metric and (model is None or space.model in {None, model})


def _create(store: Store, entries: list[CollectionEntry]) -> None:
    """All collections as one transaction."""
    there = {info.name: info for info in store.list_collections()}
    creating = [write for entry in entries for write in _creating(entry, there.get(entry.name))]
    if creating:
        store._raw.write(creating)


def _store(store: Store, entry: CollectionEntry, batch: Batch, on_conflict: OnConflict) -> AddResult:
    """A batch, as one transaction."""
    raw, name = store._raw, entry.name
    kept = raw.kept(name, batch.documents, on_conflict)
    default, *others = batch.embeddings
    rows, given = (default.rows, default.given) if default.rows.shape[0] else (None, None)
    changes = [writes.add(name, batch.documents, rows, on_conflict, "default", copy=False, given=given)]
    # A document that stays as it is keeps its embeddings, unless all of it is to be replaced.
    wanted = [
        on_conflict == "replace" or not stays
        for document, stays in zip(batch.documents, kept, strict=True)
        for _ in range(writes.chunk_count(document))
    ]
    for embeddings in others:
        chosen = np.array([want for want, has in zip(wanted, embeddings.given, strict=True) if has], dtype=bool)
        ids = [
            id
            for id, want, has in zip(batch.chunk_ids, wanted, embeddings.given, strict=True)
            if want and has and id is not None
        ]
        write = writes.set_embeddings(name, ids, embeddings.rows[chosen], embeddings.space, copy=False) if ids else None
        if write is not None:
            changes.append(write)
    with on_line(batch.file, batch.lines, ConflictError):
        added, *_ = raw.write(changes)
    return AddResult._of(added)
