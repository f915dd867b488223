"""Fixtures for tests of code that uses ragstore; pytest finds them by itself.

``ragstore_store`` is an ephemeral store, new for each test. ``ragstore_embedder`` embeds without a model: the same text
gives the same vector anywhere, and texts that share words are near.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from . import store
from .store import Store

__all__ = ["HashEmbedder", "ragstore_embedder", "ragstore_store"]


class HashEmbedder:
    """Embeds a text as the normalised sum of one fixed random vector per word.

    Parameters
    ----------
    dimension : int
        Of the vectors.
    """

    def __init__(self, dimension: int = 64) -> None:
        self.dimension = dimension
        self._words: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed n texts; float32, shape (n, dimension), each of length 1."""
        out = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            # A text without words has a direction too.
            for word in re.findall(r"\w+", text.lower()) or [""]:
                out[row] += self._word(word)
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return out

    def _word(self, word: str) -> NDArray[np.float32]:
        if word not in self._words:
            # Bytes of a hash, not NumPy's generators: their streams are not promised between versions.
            data = hashlib.shake_128(word.encode("utf-8", "replace")).digest(2 * self.dimension)
            # Odd numbers: none is zero, and no sum of a few words is.
            self._words[word] = (np.frombuffer(data, "<i2") | 1).astype(np.float32)
        return self._words[word]


@pytest.fixture
def ragstore_store() -> Iterator[Store]:
    """An ephemeral store, closed after the test."""
    with store.open() as opened:
        yield opened


@pytest.fixture
def ragstore_embedder() -> HashEmbedder:
    """A deterministic embedder of 64 dimensions, without a model."""
    return HashEmbedder()
