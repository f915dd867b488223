"""`manifest.json`: what an export holds, and where."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, NoReturn, cast

from ..exceptions import CorruptError, LimitError, NotFoundError, SchemaTooNewError
from ..types import Metric

__all__ = [
    "CollectionEntry",
    "EmbeddingsEntry",
    "FileEntry",
    "LinesEntry",
    "Manifest",
    "SpaceEntry",
    "create",
    "parse_json",
]

NAME = "manifest.json"
FORMAT = "ragstore-export"
# A reader of 1 knows of no relations and no state, and would lose them.
VERSION = 2

# Bytes of the manifest: it holds names and settings, and nothing that grows with the documents.
_BYTES = 64 << 20
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True)
class FileEntry:
    """A file of an export. Size and digest, where they are given, are those of the whole file."""

    file: str
    bytes: int | None
    sha256: str | None

    @classmethod
    def of(cls, folder: Path, file: str) -> FileEntry:
        """A file that is written."""
        with (folder / file).open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            return cls(file, opened.tell(), digest)

    @classmethod
    def read(cls, given: object, place: str) -> FileEntry:
        """As a manifest has it; it names a file inside of the folder."""
        entry = _object(given, place)
        file = _text(entry, "file", place)
        if not all(_PART.fullmatch(part) for part in file.split("/")):
            _refuse(f"{place}.file is {file!r}; it is a path inside the folder, of plain names with / between them")
        digest = _optional_text(entry, "sha256", place)
        if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", digest):
            _refuse(f"{place}.sha256 is {digest!r}; it has 64 hexadecimal digits, in lower case")
        return cls(file, None if entry.get("bytes") is None else _count(entry, "bytes", place), digest)

    def open(self, folder: Path) -> BufferedReader:
        """The file, which is a regular one and reached through no link."""
        path = folder
        for part in self.file.split("/"):
            path = path / part
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                raise CorruptError(f"{self.file}: the manifest names it, and it is not there; export again") from None
            if stat.S_ISLNK(mode):
                raise CorruptError(f"{self.file}: it is a symbolic link; put the file itself there")
        if not stat.S_ISREG(mode):
            raise CorruptError(f"{self.file}: it is no regular file; export again")
        return path.open("rb")

    def verify(self, folder: Path) -> None:
        """Compare with what the manifest says of it."""
        with self.open(folder) as opened:
            size = os.fstat(opened.fileno()).st_size
            if self.bytes is not None and size != self.bytes:
                raise CorruptError(f"{self.file}: it has {size} bytes, and {self.bytes} by the manifest; export again")
            if self.sha256 is not None and hashlib.file_digest(opened, "sha256").hexdigest() != self.sha256:
                raise CorruptError(
                    f"{self.file}: its content is not what the manifest says; export again, or, if it was edited on "
                    "purpose, remove bytes and sha256 of this file from the manifest"
                )

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"file": self.file, "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True)
class LinesEntry:
    """A file of so many lines."""

    file: FileEntry
    count: int

    @classmethod
    def read(cls, given: object, place: str) -> LinesEntry | None:
        """As a manifest has it, where it has it."""
        if given is None:
            return None
        return cls(FileEntry.read(given, place), _count(_object(given, place), "count", place))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**self.file.to_dict(), "count": self.count}


@dataclass(frozen=True)
class EmbeddingsEntry:
    """The embeddings of one space: an array, and the ids of its rows' chunks."""

    vectors: FileEntry
    ids: FileEntry
    count: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"vectors": self.vectors.to_dict(), "ids": self.ids.to_dict(), "count": self.count}


@dataclass(frozen=True)
class SpaceEntry:
    """An embedding space."""

    name: str
    dimension: int | None
    metric: Metric
    model: str | None
    embeddings: EmbeddingsEntry | None

    @classmethod
    def read(cls, given: object, place: str) -> SpaceEntry:
        """As a manifest has it."""
        entry = _object(given, place)
        embeddings = None
        if entry.get("embeddings") is not None:
            inner, where = _object(entry["embeddings"], f"{place}.embeddings"), f"{place}.embeddings"
            embeddings = EmbeddingsEntry(
                FileEntry.read(inner.get("vectors"), f"{where}.vectors"),
                FileEntry.read(inner.get("ids"), f"{where}.ids"),
                _count(inner, "count", where),
            )
        dimension = None if entry.get("dimension") is None else _count(entry, "dimension", place)
        if embeddings is not None and dimension is None:
            _refuse(f"{place} has embeddings and no dimension")
        # The store that it is imported into refuses other metrics.
        metric = cast("Metric", _text(entry, "metric", place))
        return cls(_text(entry, "name", place), dimension, metric, _optional_text(entry, "model", place), embeddings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        embeddings = None if self.embeddings is None else self.embeddings.to_dict()
        return {
            "name": self.name,
            "dimension": self.dimension,
            "metric": self.metric,
            "model": self.model,
            "embeddings": embeddings,
        }


@dataclass(frozen=True)
class CollectionEntry:
    """A collection; `documents` holds as many documents and chunks as are said."""

    name: str
    description: str | None
    settings: dict[str, Any]
    tokenizer: str
    created_at: str | None
    indexes: list[str]
    documents: FileEntry
    count: int
    chunks: int
    spaces: list[SpaceEntry]
    relations: LinesEntry | None

    @classmethod
    def read(cls, given: object, place: str) -> CollectionEntry:
        """As a manifest has it."""
        entry = _object(given, place)
        documents = _object(entry.get("documents"), f"{place}.documents")
        spaces = [
            SpaceEntry.read(space, f"{place}.spaces[{index}]")
            for index, space in enumerate(_list(entry, "spaces", place))
        ]
        if not spaces or spaces[0].name != "default" or len({space.name for space in spaces}) < len(spaces):
            _refuse(f'{place}.spaces begins with "default" and names each space once')
        indexes = _list(entry, "indexes", place)
        if not all(isinstance(field, str) for field in indexes):
            _refuse(f"{place}.indexes is a list of str")
        return cls(
            _text(entry, "name", place),
            _optional_text(entry, "description", place),
            _object(entry.get("settings", {}), f"{place}.settings"),
            _text(entry, "tokenizer", place),
            _optional_text(entry, "created_at", place),
            indexes,
            FileEntry.read(documents, f"{place}.documents"),
            _count(documents, "count", f"{place}.documents"),
            _count(documents, "chunks", f"{place}.documents"),
            spaces,
            LinesEntry.read(entry.get("relations"), f"{place}.relations"),
        )

    def files(self) -> list[FileEntry]:
        """Every file of it."""
        spaces = [space.embeddings for space in self.spaces if space.embeddings is not None]
        relations = [] if self.relations is None else [self.relations.file]
        return [self.documents, *(file for space in spaces for file in (space.vectors, space.ids)), *relations]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "description": self.description,
            "settings": self.settings,
            "tokenizer": self.tokenizer,
            "created_at": self.created_at,
            "indexes": self.indexes,
            "documents": {**self.documents.to_dict(), "count": self.count, "chunks": self.chunks},
            "spaces": [space.to_dict() for space in self.spaces],
            "relations": None if self.relations is None else self.relations.to_dict(),
        }


@dataclass(frozen=True)
class Manifest:
    """A whole export."""

    ragstore: str
    created_at: str
    collections: list[CollectionEntry]
    state: LinesEntry | None

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Of an export that may be anything.

        Raises
        ------
        NotFoundError
            There is no manifest.
        CorruptError, SchemaTooNewError, LimitError
            It is not what it must be, of a later version, or too large.
        """
        if not os.path.lexists(folder / NAME):
            raise NotFoundError(f"there is no {NAME} in {folder}; give the folder that export made")
        with FileEntry(NAME, None, None).open(folder) as opened:
            data = opened.read(_BYTES + 1)
        if len(data) > _BYTES:
            raise LimitError(f"{NAME} has more than {_BYTES} bytes")
        entry = _object(parse_json(data, NAME), "the manifest")
        if entry.get("format") != FORMAT:
            _refuse(f"format is {entry.get('format')!r}; that of an export is {FORMAT!r}")
        version = _count(entry, "version", "the manifest")
        if version > VERSION:
            raise SchemaTooNewError(
                f"{NAME}: its version is {version}, this one reads up to {VERSION}; upgrade ragstore"
            )
        collections = [
            CollectionEntry.read(collection, f"collections[{index}]")
            for index, collection in enumerate(_list(entry, "collections", "the manifest"))
        ]
        if len({collection.name for collection in collections}) < len(collections):
            _refuse("collections names one twice")
        ragstore, created_at = (_text(entry, key, "the manifest") for key in ("ragstore", "created_at"))
        return cls(ragstore, created_at, collections, LinesEntry.read(entry.get("state"), "state"))

    def write(self, folder: Path) -> None:
        """The last file of an export."""
        has_more = self.state is not None or any(entry.relations is not None for entry in self.collections)
        entry = {
            "format": FORMAT,
            "version": VERSION if has_more else 1,
            "ragstore": self.ragstore,
            "created_at": self.created_at,
            "collections": [collection.to_dict() for collection in self.collections],
            "state": None if self.state is None else self.state.to_dict(),
        }
        text = json.dumps(entry, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        with create(folder / NAME) as opened:
            opened.write(text.encode())


def create(path: Path) -> BufferedWriter:
    """A new file, as private as the store."""
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def parse_json(data: bytes, place: str) -> object:
    """Strict JSON in UTF-8, that names its place where it is none."""
    try:
        return _DECODER.decode(data.decode())
    except RecursionError:
        raise LimitError(f"{place}: it is nested too deep") from None
    except ValueError as error:
        raise CorruptError(f"{place}: it is not JSON in UTF-8: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _refuse(message: str) -> NoReturn:
    raise CorruptError(f"{NAME}: {message}")


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(f"{place} is of type {type(value).__name__}; it is an object")
    return value


def _list(entry: dict[str, Any], key: str, place: str) -> list[Any]:
    value = entry.get(key)
    if not isinstance(value, list):
        _refuse(f"{place}.{key} is of type {type(value).__name__}; it is a list")
    return value


def _text(entry: dict[str, Any], key: str, place: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        _refuse(f"{place}.{key} is of type {type(value).__name__}; it is a string")
    return value


def _optional_text(entry: dict[str, Any], key: str, place: str) -> str | None:
    return None if entry.get(key) is None else _text(entry, key, place)


def _count(entry: dict[str, Any], key: str, place: str) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        _refuse(f"{place}.{key} is {value!r}; it is a number from 0 on")
    return value
