"""Every kind of error has its exception, and every exception is raised."""

import inspect
import sqlite3
import subprocess
import sys
import threading

import pytest
import ragstore
from ragstore import _ragstore, exceptions

BUILTINS = {"Argument": ValueError, "Io": OSError, "Cancelled": KeyboardInterrupt}

BASES = {
    "NotFoundError": (exceptions.RagstoreError, LookupError),
    "CollectionNotFoundError": (exceptions.NotFoundError,),
    "DocumentNotFoundError": (exceptions.NotFoundError,),
    "ConflictError": (exceptions.RagstoreError,),
    "CollectionExistsError": (exceptions.ConflictError,),
    "DimensionMismatchError": (exceptions.RagstoreError, ValueError),
    "InvalidVectorError": (exceptions.RagstoreError, ValueError),
    "FilterError": (exceptions.RagstoreError, ValueError),
    "QuerySyntaxError": (exceptions.RagstoreError, ValueError),
    "LimitError": (exceptions.RagstoreError, ValueError),
    "CorruptError": (exceptions.RagstoreError,),
    "SchemaTooNewError": (exceptions.RagstoreError,),
    "WrongKeyError": (exceptions.RagstoreError,),
    "LockedError": (exceptions.RagstoreError, TimeoutError),
    "QueryTimeoutError": (exceptions.RagstoreError, TimeoutError),
    "StoreFullError": (exceptions.RagstoreError, OSError),
    "WalFullError": (exceptions.RagstoreError,),
    "NetworkFilesystemError": (exceptions.RagstoreError, OSError),
    "ClockSkewError": (exceptions.RagstoreError,),
    "SyncError": (exceptions.RagstoreError,),
    "ForkError": (exceptions.RagstoreError,),
    "ClosedError": (exceptions.RagstoreError,),
    "ReadOnlyError": (exceptions.RagstoreError,),
    "InternalError": (exceptions.RagstoreError,),
}


def ours() -> dict[str, type]:
    """The classes of the module, without their base."""
    classes = dict(inspect.getmembers(exceptions, inspect.isclass))
    del classes["RagstoreError"]
    return classes


def test_kinds_and_exceptions_are_the_same_set():
    kinds = _ragstore.error_classes()
    assert len(kinds) == 27
    assert {name: kinds.pop(name) for name in BUILTINS} == BUILTINS
    assert set(kinds.values()) == set(ours().values())
    assert {f"{kind}Error" for kind in kinds} == set(ours())


def test_the_hierarchy_is_the_documented_one():
    assert {name: cls.__bases__ for name, cls in ours().items()} == BASES
    assert exceptions.RagstoreError.__bases__ == (Exception,)


def test_all_are_exported_and_documented():
    assert set(exceptions.__all__) == {*ours(), "RagstoreError"}
    for name, cls in ours().items():
        assert getattr(ragstore, name) is cls
        assert cls.__module__ == "ragstore.exceptions"
        assert cls.__doc__


@pytest.mark.parametrize("name", sorted(BASES))
def test_every_class_can_be_raised_and_caught_as_its_bases(name):
    for base in (*BASES[name], exceptions.RagstoreError):
        with pytest.raises(base, match="what happened"):
            raise getattr(exceptions, name)("what happened")


def add_two(collection):
    collection.add_texts(["a b", "c d"], [[1.0, 0.0], [0.0, 1.0]], ids=["x", "y"])


def closed(path):
    store = ragstore.open(path)
    store.close()
    len(store)


def read_only(path):
    ragstore.open(path).close()
    with ragstore.open(path, read_only=True) as store:
        store.create_collection("c")


def corrupt(path):
    path.write_bytes(b"no database at all, however long it may be" * 100)
    ragstore.open(path)


def newer(path):
    ragstore.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    ragstore.open(path)


HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
db.close()
"""


def locked(path):
    with ragstore.open(path, timeout=0.2) as store:
        # Another process: POSIX locks do not part two SQLite libraries of one.
        command = [sys.executable, "-c", HOLD, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout.readline() == b"held\n"
            try:
                store.create_collection("c")
            finally:
                other.stdin.close()


AT_A_PATH = {
    "NotFoundError": lambda path: ragstore.open(path, create=False),
    "CorruptError": corrupt,
    "SchemaTooNewError": newer,
    "LockedError": locked,
    "ClosedError": closed,
    "ReadOnlyError": read_only,
}


@pytest.mark.parametrize("name", sorted(AT_A_PATH))
def test_raised_by_a_store(name, path):
    with pytest.raises(getattr(exceptions, name)) as caught:
        AT_A_PATH[name](path)
    assert type(caught.value) is getattr(exceptions, name)
    assert str(caught.value)


IN_A_COLLECTION = {
    "CollectionNotFoundError": lambda c: c._store["nothing"],
    "CollectionExistsError": lambda c: c._store.create_collection("notes"),
    "DocumentNotFoundError": lambda c: c.add_chunks("nothing", [ragstore.Chunk("a")]),
    "NotFoundError": lambda c: c.delete_space("nothing"),
    "ConflictError": lambda c: c.add_texts(["other"], ids=["x"]),
    "DimensionMismatchError": lambda c: c.vector_search([1.0, 2.0, 3.0]),
    "InvalidVectorError": lambda c: c.vector_search([float("nan"), 1.0]),
    "FilterError": lambda c: c.count({"a": {"$near": 1}}),
    "LimitError": lambda c: c.vector_search([1.0, 0.0], k=5000),
}


@pytest.mark.parametrize("name", sorted(IN_A_COLLECTION))
def test_raised_by_a_collection(name, collection):
    add_two(collection)
    with pytest.raises(getattr(exceptions, name)) as caught:
        IN_A_COLLECTION[name](collection)
    assert type(caught.value) is getattr(exceptions, name)
    assert collection.count() == 2


def test_builtins_are_raised_as_they_are(ragstore_store, tmp_path):
    with pytest.raises(ValueError, match="metric") as caught:
        ragstore_store.create_collection("c", metric="manhattan")
    assert type(caught.value) is ValueError
    with pytest.raises(ValueError, match="is a directory"):
        ragstore.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:  # noqa: PT011  (what the system says differs)
        ragstore.open(tmp_path / "file" / "kb.db")
    assert str(caught.value)


def test_a_panic_becomes_an_internal_error_on_any_thread():
    caught = []

    def run():
        try:
            _ragstore._panic()
        except exceptions.InternalError as error:
            caught.append(str(error))

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(caught) == 2
    assert all("asked for" in message and "report" in message for message in caught)
