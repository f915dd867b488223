"""Checking and repairing: files that do not open, and what is found in them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from . import _ragstore
from .arguments import string
from .display import reporting
from .types import Progress

if TYPE_CHECKING:
    from .rows import ProblemRow, RepairRow

__all__ = ["CheckReport", "Problem", "RepairReport", "check", "repair"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not hold.

    Attributes
    ----------
    area : str
        "format" (the file is of an older version, which is no damage), "file" (what SQLite's own check sees), "schema",
        "collections", "documents", "chunks", "text", "vectors", "fields", "feed", "embedding_cache", "relations" or
        "state".
    what : str
        A sentence that names the table and the row.
    repairable : bool
        `Store.repair` rebuilds it without loss.
    """

    area: str
    what: str
    repairable: bool


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found. It is true where everything holds.

    Attributes
    ----------
    problems : list of Problem
        By area; of each area the first 20, and one that counts the others.
    """

    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def _of(cls, rows: list[ProblemRow]) -> CheckReport:
        return cls([Problem(*row) for row in rows])

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """`ok` and the problems, as JSON takes them."""
        return {"ok": self.ok, **asdict(self)}

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        """A line for each problem."""
        if self.ok:
            return "ok"
        return "\n".join(f"{p.area}: {p.what}{' (repairable)' if p.repairable else ''}" for p in self.problems)


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did.

    Attributes
    ----------
    rebuilt : list of str
        What was made anew, a sentence each.
    salvaged : dict of str to int
        Rows that were read out of a damaged file, by what they are. Empty for a repair in place.
    lost : list of str
        What could not be kept, a sentence each: the first few by name, and how many more.
    problems : list of Problem
        What a check finds afterwards.
    path : str or None
        The file that was repaired or made; None for an ephemeral store.
    """

    rebuilt: list[str] = field(default_factory=list)
    salvaged: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    path: str | None = None

    @classmethod
    def _of(cls, row: RepairRow) -> RepairReport:
        rebuilt, salvaged, lost, problems, path = row
        return cls(rebuilt, dict(salvaged), lost, [Problem(*problem) for problem in problems], path)

    @property
    def ok(self) -> bool:
        """Whether everything holds afterwards."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """`ok` and the rest of it, as JSON takes them."""
        return {"ok": self.ok, **asdict(self)}


def check(
    path: str | os.PathLike[str], *, key: str | bytes | None = None, quick: bool = False, progress: Progress = False
) -> CheckReport:
    """Look at a file that may be too damaged to be opened. See `Store.check`.

    Parameters
    ----------
    path : str or PathLike
    key : str or bytes, optional
        Of an encrypted file, as `open` takes it.
    quick : bool
        Leave out what reads all content.
    progress : bool or callable
        True shows a bar; a callable gets (done, total).

    Returns
    -------
    CheckReport
        Also of what is no store at all: whatever the file holds is no error. Of a file of an older format one problem,
        of the area "format", says so, and what SQLite sees is looked at.

    Raises
    ------
    NotFoundError
        There is no file.
    SchemaTooNewError
        A newer version wrote it.
    OSError
        The system does not let it be read: SQLite's log needs to write in the file's folder, too.
    WrongKeyError
        The key is another one, or the first page is damaged: which of the two, cannot be told. Or there is none and the
        file looks encrypted, or there is one and the file is plain.

    Examples
    --------
    >>> import pathlib, ragstore, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "kb.db")
    >>> ragstore.open(path).close()
    >>> ragstore.check(path).ok
    True
    >>> folder.cleanup()
    """
    with reporting(progress, "check") as report:
        return CheckReport._of(_ragstore.check(_name("path", path), key, bool(quick), report))


def repair(
    path: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    key: str | bytes | None = None,
    progress: Progress = False,
) -> RepairReport:
    """Make a new store of what can be read of a file that may be too damaged to be opened. See `Store.repair`.

    The old file is not changed. The new one has its key, and the format of this version.

    Parameters
    ----------
    path : str or PathLike
        The damaged file.
    to : str or PathLike
        The new one, which must not be there. It appears when it is whole, checked and on the disk.
    key : str or bytes, optional
        Of an encrypted file, as `open` takes it.
    progress : bool or callable
        True shows a bar; a callable gets (done, total).

    Returns
    -------
    RepairReport

    Raises
    ------
    NotFoundError
        There is no file at `path`.
    ValueError
        There is one at `to`.
    CorruptError
        Nothing of a store can be read.
    SchemaTooNewError
        A newer version wrote it.
    WrongKeyError
        As of `check`.

    Examples
    --------
    >>> import pathlib, ragstore, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "kb.db")
    >>> with ragstore.open(path) as store:
    ...     _ = store.create_collection("notes").add_texts(["Cats purr."])
    >>> report = ragstore.repair(path, path.with_name("new.db"))
    >>> report.ok, report.lost, report.salvaged["chunks"]
    (True, [], 1)
    >>> folder.cleanup()
    """
    with reporting(progress, "repair") as report:
        return RepairReport._of(_ragstore.repair(_name("path", path), key, _name("to", to), report))


def _name(what: str, path: str | os.PathLike[str]) -> str:
    name = string(what, os.fspath(path))
    if not name:
        raise ValueError(f"{what} is an empty string; give a file")
    return name
