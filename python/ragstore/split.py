"""Cutting texts into chunks."""

from __future__ import annotations

from typing import Literal

from . import _ragstore
from .arguments import count, string
from .document import Chunk

__all__ = ["split"]


def split(
    text: str, size: int = 1000, *, overlap: int = 0, syntax: Literal["text", "markdown"] = "text"
) -> list[Chunk]:
    """Cut a text into chunks of at most `size` characters, at the highest boundary that fits.

    Parameters
    ----------
    text : str
    size : int
        Characters of a chunk at most.
    overlap : int
        Characters at most that a chunk repeats of the one before it.
    syntax : {"text", "markdown"}
        The boundaries that are looked for: blank lines, sentences and words, or first the blocks of CommonMark.

    Returns
    -------
    list of Chunk
        With text, `start` and `end`: ``chunk.text == text[chunk.start:chunk.end]``. White space around a chunk is left
        out.

    Raises
    ------
    ValueError
        When `size` is 0 or `overlap` is not smaller than it.

    Examples
    --------
    >>> [chunk.text for chunk in split("One sentence. And another one.", 16)]
    ['One sentence.', 'And another one.']
    """
    pieces = _ragstore.split(string("text", text), count("size", size), count("overlap", overlap), syntax)
    return [Chunk(text[start:end], start=start, end=end) for start, end in pieces]
