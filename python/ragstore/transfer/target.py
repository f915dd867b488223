"""Files that appear at their name only when they are whole, and on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["made_whole"]

CONTENT = "content"


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """A name for a file or a folder, in a private folder beside `path`, that becomes `path` when the block ends well.

    Until then nothing is at `path`; where the block fails, nothing is left. What a process left that was killed in its
    block goes when the next one begins with the same path.

    Raises
    ------
    FileExistsError
        There is something at `path`.
    """
    _refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.partial-"
    _sweep(path.parent, prefix)
    # Mode 0700: what is stored is as private as the store.
    folder = Path(mkdtemp(prefix=prefix, dir=path.parent))
    lock = _lock(folder)
    try:
        content = folder / CONTENT
        yield content
        _sync(content)
        _refuse_existing(path)
        content.rename(path)
        _sync_one(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise FileExistsError(f"{path} is there already, and nothing is overwritten; give another path, or remove it")


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{_literal(prefix)}*"):
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _literal(text: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock, which ends with the process; None where another has it."""
    if fcntl is None:
        return None
    descriptor = None
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    if descriptor is not None:
        os.close(descriptor)
    return None


def _sync(content: Path) -> None:
    """A file, or a folder with everything in it."""
    if content.is_dir():
        for child in content.iterdir():
            _sync(child)
    _sync_one(content)


def _sync_one(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
