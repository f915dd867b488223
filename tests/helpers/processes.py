"""Processes that begin their work at one moment."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def race(code: str, path: Path, count: int, before: Callable[[], None] = lambda: None) -> list[str]:
    """Run Python code in so many processes at once, and say what each wrote to its standard error.

    The code gets the path and its own number, prints `ready` once it is, and reads a line before it begins.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, path, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * count
        before()
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        return [process.communicate()[1] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
