"""What a failed sync lost, by a log of system calls: a sync that fails is not made good by another one.

After it the system counts what it could not write as written. So it is there only if it is written again, and synced
after that.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.tracing import Call

SYNCS = {"fsync", "fdatasync"}
# What the log must have.
KINDS = [*SYNCS, "pwrite64", "write", "ftruncate", "openat", "rename", "renameat", "renameat2", "unlink", "unlinkat"]
RETURNED = re.compile(r"\) += (-?\d+)")
NUMBERS = re.compile(r"(\d+)(?:, (\d+))?\) += ")


@dataclass
class File:
    """Pieces as offset and length: written since the last sync, and those that one failed for."""

    dirty: set[tuple[int, int]] = field(default_factory=set)
    lost: set[tuple[int, int]] = field(default_factory=set)
    size: int = 0

    def write(self, offset: int, length: int) -> None:
        end = offset + length
        self.size = max(self.size, end)
        self.lost = {(at, size) for at, size in self.lost if not offset <= at <= at + size <= end}
        self.dirty.add((offset, length))

    def cut(self, size: int) -> None:
        self.size = min(size, self.size)
        self.dirty = {piece for piece in self.dirty if piece[0] < size}
        self.lost = {piece for piece in self.lost if piece[0] < size}

    def sync(self, failed: bool) -> None:
        self.lost |= self.dirty if failed else set()
        self.dirty = set()


class Disk:
    """What is on it, as far as calls say."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.files: dict[str, File] = {}
        # Names made in a folder since its last sync, and those that one failed for.
        self.names: dict[str, set[str]] = {}
        self.lost_names: set[str] = set()
        # Files of which the log went away while a checkpoint's sync of them had failed.
        self.gone_logs: set[str] = set()

    def take(self, calls: Iterable[Call]) -> None:
        for call in calls:
            answer = RETURNED.search(call.text)
            paths = [path for path in call.paths() if path.startswith(self.folder)]
            if paths and answer and (call.injected or int(answer[1]) >= 0):
                self.one(call, paths, int(answer[1]))

    def one(self, call: Call, paths: list[str], answer: int) -> None:  # noqa: C901
        path = paths[0]
        file = self.files.setdefault(path, File())
        if call.kind in SYNCS:
            file.sync(call.injected)
            made = self.names.pop(path, set())
            self.lost_names |= made if call.injected else set()
        elif call.injected:
            return
        elif call.kind in {"pwrite64", "write"}:
            at = int(NUMBERS.search(call.text)[2]) if call.kind == "pwrite64" else file.size
            file.write(at, answer)
            if at == 0:
                self.begun_anew(path)
        elif call.kind == "ftruncate":
            size = int(NUMBERS.search(call.text)[1])
            file.cut(size)
            if size == 0:
                self.begun_anew(path)
        elif call.kind == "openat" and "O_CREAT" in call.text:
            self.name(paths[-1])
        elif call.kind.startswith("rename") and len(paths) > 1:
            for old in [old for old in self.files if old == path or old.startswith(f"{path}/")]:
                self.files[paths[-1] + old.removeprefix(path)] = self.files.pop(old)
            self.forget(path)
            self.name(paths[-1])
        elif call.kind.startswith("unlink"):
            self.files.pop(paths[-1], None)
            self.forget(paths[-1])

    def name(self, path: str) -> None:
        self.names.setdefault(str(Path(path).parent), set()).add(path)

    def forget(self, path: str) -> None:
        for names in [*self.names.values(), self.lost_names]:
            names.discard(path)

    def begun_anew(self, path: str) -> None:
        database = path.removesuffix("-wal")
        if database != path and self.files.get(database, File()).lost:
            self.gone_logs.add(database)

    def lost(self) -> set[str]:
        """Files of which something is not on the disk, but for what a checkpoint could not sync: that is in the log, as
        long as that is not begun anew.
        """
        with_log = {path.removesuffix("-wal") for path in self.files if path.endswith("-wal")} - self.gone_logs
        return {path for path, file in self.files.items() if file.lost and path not in with_log}
