"""strace: faults at chosen system calls of a process, which it meets from a moment on at which it waits.

What calls there are is found out by runs without a fault. A call is named by its kind and by how many of that kind its
thread has made since the process waited: strace counts for each thread. No path is given to strace, since it only knows
exact ones and what an operation makes beside the store has a name of its own each time; the log says what was hit.
"""

import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SUFFIXES = ["", "-wal", "-shm", "-journal", "-rekey", "-rekey-wal", "-rekey-journal"]

# Allows every process to trace this one.
PR_SET_PTRACER, ANY = 0x59616D61, -1
# Names of a system call differ from machine to machine.
UNLESS_UNKNOWN = "?"
# Who says something to the other end uses these, of which no store makes use.
SAY = "writev"

LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
OPEN = re.compile(r"\d+<(/[^>]*)>")
NAMED = re.compile(r'(?:(?:AT_FDCWD|\d+)?<([^>]*)>, )?"([^"]*)"')
# Kinds of which strings are names.
NAMING = re.compile(r"open|rename|unlink|link|mkdir|rmdir")
PLACES = [
    (re.compile(r"\.ragstore-backup-"), "in the folder of a backup"),
    (re.compile(r"\.made\.partial-"), "in the folder of an export"),
    (re.compile(r"made"), "of what was made"),
    (re.compile(r"kb\.db-index"), "in the folder of indexes"),
    (re.compile(r"[^/]*rekey"), "of a file with another key"),
    (re.compile(r"kb\.db|copy\.db|$"), "of the store"),
]
# SQLite's, which it opens and removes at once.
TEMPORARY = "of temporary files"


def require() -> None:
    """Skips, with the reason, where no system call can be traced."""
    if sys.platform != "linux":
        pytest.skip("strace is Linux")
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: make faults installs it when run as root")
    done = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no process may be traced here: {done.stderr.strip()[:100]}")


def files(database: Path) -> list[Path]:
    """A database with what SQLite keeps beside it, and the folder."""
    return [database.with_name(database.name + suffix) for suffix in SUFFIXES] + [database.parent]


@dataclass(frozen=True)
class Call:
    """One system call of a log."""

    thread: str
    kind: str
    # The number of its kind, in its thread.
    number: int
    text: str
    injected: bool

    def paths(self) -> list[str]:
        """What it was about."""
        if not NAMING.match(self.kind):
            return OPEN.findall(self.text)[:1]
        found = [os.path.join(folder, name) for folder, name in NAMED.findall(self.text)]
        return [name for name in found if name.startswith("/")]

    def place(self, folder: Path) -> str | None:
        """What of a store in a folder it was about; nothing where it was about other things."""
        for path in map(Path, self.paths()):
            if path.is_relative_to(folder):
                inside = str(path.relative_to(folder)).removeprefix(".")
                inside = str(path.relative_to(folder)) if inside else ""
                return next((place for name, place in PLACES if name.match(inside)), "beside the store")
            if "etilqs_" in path.name:
                return TEMPORARY
        return None


def calls(log: str) -> list[Call]:
    """The calls of a log, in their order."""
    found, counts = [], Counter()
    for line in log.splitlines():
        if match := LINE.match(line):
            thread, kind, text = match.groups()
            counts[thread, kind] += 1
            found.append(Call(thread, kind, counts[thread, kind], text, "(INJECTED)" in text))
        elif resumed := re.match(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)", line):
            thread, kind, text = resumed.groups()
            place = next(
                (n for n in range(len(found) - 1, -1, -1) if (found[n].thread, found[n].kind) == (thread, kind)), None
            )
            if place is not None:
                old = found[place]
                text = old.text.replace(" <unfinished ...>", "") + text
                found[place] = Call(thread, kind, old.number, text, "(INJECTED)" in text)
    return found


class Gate:
    """The end of the process that is traced. It is told when to go on."""

    def __init__(self, folder: str) -> None:
        # Where only a process's parents may trace it.
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)
        self.out = os.open(f"{folder}/out", os.O_WRONLY)
        self.back = os.open(f"{folder}/back", os.O_RDONLY)

    def say(self, word: str) -> None:
        os.writev(self.out, [word.encode() + b"\n"])

    def wait(self, word: str) -> None:
        self.say(word)
        if not os.readv(self.back, [bytearray(1)]):
            os._exit(2)


class Warden:
    """The other end, in the process of the test: it attaches strace, and detaches it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "gate"
        self.folder.mkdir()
        self.log = self.folder / "strace"
        for name in ("out", "back"):
            os.mkfifo(self.folder / name)
        self.strace: subprocess.Popen | None = None

    def run(self, server, act, *arguments: object, at: str, end: str = "", **what: object) -> tuple[int, list[str]]:
        """Calls `act` with the folder of the gate, traces it from where it waits at `at` until it waits at `end`.

        Returns its status and what it said. The rest is that of `attach`.
        """
        self.log.write_text("")
        child = server.start(act, *arguments, str(self.folder))
        said = []
        with (self.folder / "out").open() as out, (self.folder / "back").open("wb", buffering=0) as back:
            try:
                for line in out:
                    word = line.strip()
                    said.append(word)
                    if word == at:
                        self.attach(child.pid, **what)
                    if word == end:
                        self.detach()
                    if word in {at, end}:
                        back.write(b"x")
                status = child.wait()
            finally:
                self.detach()
        return status, said

    def attach(self, pid: int, kinds: list[str], inject: str = "", paths: Collection[Path] = ()) -> None:
        """Puts a fault into a process; with paths, only where exactly they are touched, and what is said has none."""
        wanted = ",".join(UNLESS_UNKNOWN + kind for kind in [*kinds, SAY])
        command = ["strace", "-f", "-y", "-s", "16", "-o", str(self.log), "-e", f"trace={wanted}"]
        command += ["-e", f"inject={inject}"] if inject else []
        command += [word for path in paths for word in ("-P", str(path))]
        self.strace = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
        line = self.strace.stderr.readline()
        assert "attached" in line, f"strace: {line}"

    def detach(self) -> None:
        """Ends the fault, and the log."""
        if self.strace is not None:
            self.strace.send_signal(signal.SIGTERM)
            self.strace.communicate()
            self.strace = None

    def calls(self) -> list[Call]:
        return calls(self.log.read_text(errors="replace"))


def spread(points: list, chance, *keys) -> Iterator:
    """Each point once, in an order in which each value of the first key comes as often as the others, in that each of
    the second, and so on, as long as there are some.
    """
    if not keys:
        yield from chance.sample(points, len(points))
        return
    groups: dict[object, list] = {}
    for point in points:
        groups.setdefault(keys[0](point), []).append(point)
    names = chance.sample(list(groups), len(groups))
    missing = object()
    turns = itertools.zip_longest(*(spread(groups[name], chance, *keys[1:]) for name in names), fillvalue=missing)
    yield from (point for turn in turns for point in turn if point is not missing)
