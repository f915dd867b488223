"""Fixtures that every test may use; `ragstore_store` and `ragstore_embedder` come from the package's own plugin."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ragstore

pytest_plugins = ["pytester"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet."""
    return tmp_path / "kb.db"


@pytest.fixture
def store(path: Path) -> Iterator[ragstore.Store]:
    """A store on disk, closed after the test."""
    with ragstore.open(path) as store:
        yield store


@pytest.fixture
def collection(ragstore_store: ragstore.Store) -> ragstore.Collection:
    """An empty collection of an ephemeral store."""
    return ragstore_store.create_collection("notes")
