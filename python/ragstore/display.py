"""Progress, shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from .types import Progress

__all__ = ["Bar", "Rising", "reporting"]

Report = Callable[[int, int], object]


class Rising:
    """Reports that never go back: the second half of the work begins where the first ended."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        """Report, unless it would say less or the same again."""
        if done > self._done or done == total:
            self._done = done
            self._report(done, total)


class Bar:
    """A bar on a terminal, one line at the end elsewhere."""

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._began = time.perf_counter()
        self._drawn = False
        self._last = (0, 0)

    def __call__(self, done: int, total: int) -> None:
        """Show where it stands."""
        self._last = (done, total)
        if self._terminal:
            self._write("\r" + self._line(done, total) + "\x1b[K")

    def close(self) -> None:
        """Leave the last state on its own line."""
        if self._terminal and self._drawn:
            self._write("\n")
        elif not self._terminal and self._last != (0, 0):
            self._write(self._line(*self._last) + "\n")

    def _line(self, done: int, total: int) -> str:
        share = done / total if total else 0.0
        filled = round(24 * min(share, 1.0))
        seconds = time.perf_counter() - self._began
        rate = f"{done / seconds:,.0f}/s" if seconds > 0 and done else ""
        bar = "#" * filled + "." * (24 - filled)
        return f"{self._label} [{bar}] {done:,}/{total:,} {100 * share:3.0f} % {seconds:.1f} s {rate}".rstrip()

    def _write(self, text: str) -> None:
        self._drawn = True
        self._stream.write(text)
        self._stream.flush()


class _Notebook:
    """A tqdm widget."""

    def __init__(self, label: str, factory: Any) -> None:
        self._bar = factory(desc=label, unit="")

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def _bar(label: str) -> Bar | _Notebook:
    if "ipykernel" in sys.modules:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            pass
        else:
            return _Notebook(label, tqdm)
    return Bar(label)


@contextmanager
def reporting(progress: Progress, label: str) -> Iterator[Report | None]:
    """The callable that a `progress` argument asks for; a bar is closed in the end."""
    if progress is False or progress is None:
        yield None
    elif progress is True:
        bar = _bar(label)
        try:
            yield bar
        finally:
            bar.close()
    elif callable(progress):
        yield progress
    else:
        raise TypeError(f"progress is of type {type(progress).__name__}; it must be a bool or a callable")
