"""The package: its stub, its pytest plugin, its examples, its types."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ragstore
from ragstore import _ragstore
from ragstore.pytest_plugin import HashEmbedder

MODULES = sorted(m.name for m in pkgutil.iter_modules(ragstore.__path__, "ragstore.") if m.name != "ragstore._ragstore")


def test_the_examples_run():
    attempted = 0
    for name in ["ragstore", *MODULES]:
        results = doctest.testmod(importlib.import_module(name))
        assert results.failed == 0, name
        attempted += results.attempted
    assert attempted >= 15


def test_importing_it_imports_no_more_than_numpy():
    code = "import sys, ragstore; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"numpy", "ragstore"} <= loaded
    assert loaded & {"pandas", "pyarrow", "tqdm", "pytest", "IPython"} == set()


def test_the_package_is_typed():
    root = Path(ragstore.__file__).parent
    assert (root / "py.typed").exists()
    stub = (root / "_ragstore.pyi").read_text(encoding="utf-8")
    for name in dir(_ragstore):
        if not name.startswith("__"):
            assert f'"{name}"' in stub, name


def test_every_module_says_what_it_exports():
    assert len(MODULES) > 10
    for name in MODULES:
        module = importlib.import_module(name)
        assert module.__doc__, name
        for exported in module.__all__:
            assert hasattr(module, exported), f"{name}.{exported}"


def test_the_surface_is_the_agreed_one():
    """Names of a later version are not there at all, rather than there and empty."""
    public = {
        name
        for cls in (ragstore.Store, ragstore.Collection, ragstore.Hits)
        for name in dir(cls)
        if not name.startswith("_")
    }
    assert {"create_collection", "transaction", "search_batch", "neighbors", "to_arrow", "sync", "forget"} <= public


# the plugin


def test_the_embedder_is_deterministic_and_knows_shared_words(ragstore_embedder):
    texts = ["The cat sat on the mat", "cat on a MAT", "Stock markets fell sharply today", "", "!?"]
    vectors = ragstore_embedder(texts)
    assert vectors.shape == (5, 64)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0] @ vectors[1] > 0.4 > abs(vectors[0] @ vectors[2])
    assert np.array_equal(vectors, HashEmbedder()(texts))
    assert HashEmbedder(8)(["a b", "b a"])[0] == pytest.approx(HashEmbedder(8)(["b a"])[0])
    # The same on every machine and with every version.
    assert HashEmbedder(4)._word("cat").tolist() == [-29501.0, 17609.0, 8549.0, -22957.0]
    assert ragstore_embedder([]).shape == (0, 64)


def test_the_fixtures_come_with_the_package(pytester):
    pytester.makepyfile(
        """
        import ragstore

        stores = []

        def test_one(ragstore_store, ragstore_embedder):
            stores.append(ragstore_store)
            notes = ragstore_store.create_collection("notes", embedder=ragstore_embedder)
            notes.add(["the cat sat", "stocks fell"])
            assert notes.search("a cat", k=1).texts == ["the cat sat"]

        def test_two(ragstore_store):
            assert ragstore_store is not stores[0]
            assert stores[0].closed
            assert len(ragstore_store) == 0
            assert ragstore_store.path is None
        """
    )
    pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-W", "error").assert_outcomes(passed=2)


def test_a_second_interpreter_is_refused():
    # As a module of its own: the package imports NumPy first, which refuses by itself.
    load = """
import importlib.util
spec = importlib.util.spec_from_file_location("_ragstore", PATH)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""
    code = f"""
PATH = {_ragstore.__file__!r}
{load}
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
number = interpreters.create()
try:
    failure = interpreters.run_string(number, "PATH = " + repr(PATH) + {load!r})
except interpreters.RunFailedError as error:
    failure = error
print(failure)
interpreters.destroy(number)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ImportError" in done.stdout
    assert "sub-interpreter" in done.stdout or sys.version_info >= (3, 12)
