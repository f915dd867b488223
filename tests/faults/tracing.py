"""strace: faults at chosen system calls of chosen files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUFFIXES = ["", "-wal", "-shm", "-journal", "-rekey", "-rekey-wal", "-rekey-journal"]


def require() -> None:
    """Skips, with the reason, where no system call can be traced."""
    if sys.platform != "linux":
        pytest.skip("strace is Linux")
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: make faults installs it when run as root")
    done = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no process may be traced here: {done.stderr.strip()[:100]}")


def prefix(calls: str, fault: str, when: str, paths: list[Path], log: Path = Path("/dev/null")) -> list[str]:
    """A command that runs another with a fault in the calls that touch one of the paths.

    Each thread counts its own calls; with `--seccomp-bpf` they are not counted at all. `when` is strace's: `3` is the
    third alone, `3+` that and all later ones.
    """
    touching = [word for path in paths for word in ("-P", str(path))]
    inject = f"inject={calls}:{fault}:when={when}"
    return ["strace", "-f", "-qq", "-A", "-o", str(log), *touching, "-e", f"trace={calls}", "-e", inject]


def files(database: Path) -> list[Path]:
    """A database with what SQLite keeps beside it, and the folder."""
    return [database.with_name(database.name + suffix) for suffix in SUFFIXES] + [database.parent]
