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


# Modules whose tests of an ephemeral store run on an encrypted one too.
ENCRYPTED = {"test_filters", "test_keyword", "test_offsets", "test_search"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of those modules take both stores."""
    if "key" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in ENCRYPTED:
        metafunc.parametrize("key", [None, bytes(range(32))], ids=["plain", "encrypted"], indirect=True)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> bytes | None:
    """What encrypts the store of the test."""
    return getattr(request, "param", None)


@pytest.fixture
def store(path: Path) -> Iterator[ragstore.Store]:
    """A store on disk, closed after the test."""
    with ragstore.open(path) as store:
        yield store


@pytest.fixture
def ragstore_store(key: bytes | None) -> Iterator[ragstore.Store]:
    """As that of the package's plugin, with a key where there is one."""
    with ragstore.open(key=key) as store:
        yield store


@pytest.fixture
def collection(ragstore_store: ragstore.Store) -> ragstore.Collection:
    """An empty collection of an ephemeral store."""
    return ragstore_store.create_collection("notes")
