"""What a disk may hold after power was lost: images of a store's files, derived from a log of its system calls.

The log is strace's, with the data of every write. Replaying it keeps, for each file, what the kernel was told and what
it confirmed: a sync confirms the file's writes, and the sync of a folder the names in it. Whatever was not confirmed
may be on the disk or not, in any order and in pieces.
"""

import dataclasses
import random
import re
from collections.abc import Iterator
from pathlib import Path

CALLS = "openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink,rename"
LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)\)\s+= (-?\d+)", re.DOTALL)
UNFINISHED = re.compile(r"^(\d+)\s+(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+)\s+<\.\.\. \w+ resumed>(.*)$")
DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclasses.dataclass
class Event:
    """One system call that changed a file, confirmed one, or told the judge something."""

    kind: str
    path: str = ""
    at: int = 0
    data: bytes = b""


def command(log: Path, paths: list[Path]) -> list[str]:
    """strace with everything that is written, whole."""
    touching = [word for path in paths for word in ("-P", str(path))]
    return ["strace", "-f", "-qq", "-y", "-xx", "-s", str(1 << 26), "-o", str(log), *touching, "-e", f"trace={CALLS}"]


def lines(log: Path) -> Iterator[str]:
    """Calls in the order in which they returned; another thread's may stand between the halves of one."""
    begun: dict[str, str] = {}
    for line in log.read_text().splitlines():
        if found := UNFINISHED.match(line):
            begun[found[1]] = found[2]
        elif found := RESUMED.match(line):
            yield f"{found[1]} {begun.pop(found[1])}{found[2]}"
        else:
            yield line


def text(argument: str) -> bytes:
    found = STRING.search(argument)
    assert found is not None, argument[:100]
    assert not found[2], "the log has only a part of what was written"
    return bytes.fromhex(found[1].replace("\\x", ""))


def parse(log: Path, acks: Path) -> list[Event]:
    """The events of a log. What was written to `acks` is for the judge."""
    events = []
    for line in lines(log):
        found = LINE.match(line)
        if found is None or int(found[4]) < 0:
            continue
        call, arguments, result = found[2], found[3], int(found[4])
        if call in {"unlink", "rename"}:
            names = [bytes.fromhex(name[0].replace("\\x", "")).decode() for name in STRING.findall(arguments)]
            events.append(Event(call, names[0], data=names[-1].encode()))
            continue
        if call == "openat":
            if "O_CREAT" in arguments:
                events.append(Event("create", text(arguments).decode()))
            continue
        descriptor = DESCRIPTOR.match(arguments)
        if arguments[descriptor.end() :].startswith("(deleted)"):
            # Nobody will find it by this name.
            continue
        path = decoded(descriptor[1])
        if call == "write":
            # Nothing of the store is written where a file stands.
            assert path == str(acks), path
            events.append(Event("ack", data=text(arguments)))
        elif call == "pwrite64":
            data = text(arguments)
            assert result == len(data)
            events.append(Event("write", path, int(arguments.rsplit(", ", 1)[1], 0), data))
        elif call == "ftruncate":
            events.append(Event("truncate", path, int(arguments.rsplit(", ", 1)[1], 0)))
        else:
            events.append(Event("sync", path))
    return events


def decoded(path: str) -> str:
    """strace writes every byte of a name as a number, too."""
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path


class File:
    """One file: what was confirmed, and what was said since."""

    def __init__(self) -> None:
        self.synced = bytearray()
        self.pending: list[Event] = []
        self.now = bytearray()

    def apply(self, event: Event) -> None:
        self.pending.append(event)
        change(self.now, event)

    def sync(self) -> None:
        self.synced = bytearray(self.now)
        self.pending.clear()


def change(content: bytearray, event: Event) -> None:
    if event.kind == "truncate":
        del content[event.at :]
        content.extend(bytes(event.at - len(content)))
    else:
        content.extend(bytes(max(0, event.at - len(content))))
        content[event.at : event.at + len(event.data)] = event.data


Image = dict[str, bytes]


class Disk:
    """The files and their names, and the images that power loss may leave of them."""

    def __init__(self, keep: list[str]) -> None:
        self.keep = keep
        # Names as the kernel knows them, and as the folder on the disk does.
        self.names: dict[str, File] = {}
        self.durable: dict[str, File] = {}

    def apply(self, event: Event) -> bool:
        """Whether there is anything new that could be lost or kept."""
        if event.kind == "create":
            if event.path in self.names or event.path not in self.keep:
                return False
            self.names[event.path] = File()
        elif event.kind == "rename":
            self.names[event.data.decode()] = self.names.pop(event.path)
        elif event.kind == "unlink":
            self.names.pop(event.path, None)
        elif event.kind == "sync":
            if event.path in self.names:
                self.names[event.path].sync()
            elif any(Path(name).parent == Path(event.path) for name in [*self.names, *self.durable]):
                self.durable = dict(self.names)
        elif event.path in self.names:
            self.names[event.path].apply(event)
        else:
            return False
        return True

    def written(self) -> Image:
        """Everything that was said arrived."""
        return {name: bytes(file.now) for name, file in self.names.items()}

    def confirmed(self) -> Image:
        """Nothing arrived but what was confirmed, files and names."""
        return {name: bytes(file.synced) for name, file in self.durable.items()}

    def named(self) -> Image:
        """The names arrived, and of what is in the files only what was confirmed."""
        return {name: bytes(file.synced) for name, file in self.names.items()}

    def torn(self, chance: random.Random) -> Image:
        """Of the rest some pieces arrived, in no order; names like a journal keeps them, in theirs."""
        names = self.names if chance.random() < 0.7 else self.durable
        piece = chance.choice([512, 4096])
        share = chance.choice([0.1, 0.5, 0.9])
        return {name: self.file_in_pieces(file, piece, share, chance) for name, file in names.items()}

    @staticmethod
    def file_in_pieces(file: File, piece: int, share: float, chance: random.Random) -> bytes:
        content = bytearray(file.synced)
        for event in file.pending:
            if event.kind == "truncate":
                if chance.random() < share:
                    change(content, event)
                continue
            at, end = event.at, event.at + len(event.data)
            while at < end:
                stop = min(end, (at // piece + 1) * piece)
                if chance.random() < share:
                    change(content, Event("write", at=at, data=event.data[at - event.at : stop - event.at]))
                at = stop
        return bytes(content)
