"""A process that has everything imported and forks a child for each call, so that a fault costs milliseconds.

It never opens a store, so the children are as good as new processes. It may run under strace, which counts the system
calls of each child anew. Commands come as lines of JSON on stdin: a number, a module, a function of it and arguments;
or a number and null, to kill that child. What goes out says the process of each child, and its status when it ended.
"""

import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """The other end, in the process of the test."""

    def __init__(self, *modules: str, prefix: list[str] = ()) -> None:
        command = [*prefix, sys.executable, "-m", __name__, *modules]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ended: dict[int, int] = {}
        self.last = 0
        self.read()

    def start(self, call: Callable, *args: object) -> "Child":
        """Calls a function of a module in a child; the arguments are JSON."""
        self.last += 1
        self.tell(self.last, call.__module__, call.__name__, args)
        return Child(self, self.last, self.read_pid())

    def tell(self, *message: object) -> None:
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def run(self, call: Callable, *args: object) -> int:
        """The status with which the child ended: 0, an exit code, or minus a signal."""
        return self.start(call, *args).wait()

    def read(self) -> list:
        line = self.process.stdout.readline()
        assert line, "the server ended"
        return json.loads(line)

    def read_pid(self) -> int:
        while True:
            kind, number, value = self.read()
            if kind == "pid":
                return value
            self.ended[number] = value

    def wait(self, number: int) -> int:
        while number not in self.ended:
            _, other, value = self.read()
            self.ended[other] = value
        return self.ended.pop(number)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Child:
    """A call in a process of its own."""

    def __init__(self, server: Server, number: int, pid: int) -> None:
        self.server, self.number, self.pid = server, number, pid

    def kill(self) -> None:
        """Unless it ended by itself. The server kills: it knows which numbers are still its children's."""
        self.server.tell(self.number, None)

    def wait(self) -> int:
        return self.server.wait(self.number)


def serve() -> None:  # noqa: C901
    for module in sys.argv[1:]:
        importlib.import_module(module)
    out = os.dup(1)
    os.dup2(2, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    children: dict[int, int] = {}

    def say(*message: object) -> None:
        os.write(out, json.dumps(message).encode() + b"\n")

    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    say("ready", 0, 0)
    buffer = b""
    while True:
        for key, _ in selector.select():
            some = os.read(key.fd, 1 << 16)
            if key.fd == wake_read:
                while children:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    say("end", children.pop(pid), os.waitstatus_to_exitcode(status))
                continue
            if not some:
                return
            buffer += some
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                number, module, *call = json.loads(line)
                if module is None:
                    for pid in [pid for pid, own in children.items() if own == number]:
                        os.kill(pid, signal.SIGKILL)
                    continue
                pid = os.fork()
                if pid == 0:
                    child(module, *call)
                children[pid] = number
                say("pid", number, pid)


def child(module: str, name: str, args: list) -> None:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        getattr(importlib.import_module(module), name)(*args)
        code = 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
