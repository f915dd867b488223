"""Arrays: what is taken, what is refused and by which words, and that the memory in place cannot move."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import ragstore
from ragstore import DimensionMismatchError, InvalidVectorError, LimitError
from ragstore.vectors import as_matrix, as_query

RNG = np.random.default_rng(7)
VALUES = RNG.standard_normal((4, 3)).astype(np.float32)
# Above limits::SHARED_COMMIT_BYTES, so read in place.
ROWS, DIMENSION = 20_000, 64


def strided(values):
    wide = np.zeros((len(values), 2 * values.shape[1]), np.float32)
    wide[:, ::2] = values
    return wide[:, ::2]


def misaligned(values):
    raw = np.zeros(values.nbytes + 1, np.uint8)
    out = raw[1:].view(np.float32).reshape(values.shape)
    out[...] = values
    assert not out.flags.aligned
    return out


def column(values):
    rows = np.empty(len(values), dtype=object)
    rows[:] = list(values)
    return rows


class Torchlike:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


TAKEN = {
    "lists": lambda v: v.tolist(),
    "tuples": lambda v: tuple(map(tuple, v.tolist())),
    "rows": list,
    "iterator": iter,
    "generator": lambda v: (row for row in v),
    "float64": lambda v: v.astype(np.float64),
    "longdouble": lambda v: v.astype(np.longdouble),
    "big-endian": lambda v: v.astype(">f4"),
    "fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda v: v[::-1].copy()[::-1],
    "misaligned": misaligned,
    "read-only": lambda v: np.frombuffer(v.tobytes(), np.float32).reshape(v.shape),
    "subclass": np.ma.masked_array,
    "torch-like": Torchlike,
    "memoryview": memoryview,
    "column of rows": column,
}


@pytest.mark.parametrize("form", sorted(TAKEN))
def test_every_form_of_the_same_numbers_is_taken(form, collection):
    collection.add_texts(list("abcd"), TAKEN[form](VALUES), ids=list("abcd"))
    assert np.array_equal(collection.get_embeddings(list("abcd")), VALUES)


def test_float16_and_integers_are_converted(collection):
    half = VALUES.astype(np.float16)
    collection.add_texts(list("abcd"), half, ids=list("abcd"))
    assert np.array_equal(collection.get_embeddings(list("abcd")), half.astype(np.float32))
    whole = np.arange(1, 13, dtype=np.int64).reshape(4, 3)
    collection.set_embeddings(list("abcd"), whole)
    assert np.array_equal(collection.get_embeddings(list("dcba")), whole[::-1])


def test_arrow_and_pandas_columns_of_vectors_are_taken(collection):
    pa, pd = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    arrow = pa.FixedSizeListArray.from_arrays(pa.array(VALUES.ravel()), 3)
    for column in (arrow, pa.chunked_array([arrow]), pd.Series(list(VALUES))):
        collection.add_texts(list("abcd"), column, ids=list("abcd"), on_conflict="replace")
        assert np.array_equal(collection.get_embeddings(list("abcd")), VALUES)


def test_float32_is_not_copied_and_others_are_once():
    assert as_matrix(VALUES) is VALUES
    assert as_matrix(VALUES[1:]).base is VALUES
    assert as_matrix(Torchlike(VALUES)) is VALUES
    double = as_matrix(VALUES.astype(np.float64))
    assert double.dtype == np.float32
    assert double.flags.c_contiguous
    assert as_query(VALUES[0]).shape == as_query(VALUES[:1]).shape == (1, 3)


REFUSED = [
    ([[1.0, 2.0], [3.0]], "row 1 has dimension 1"),
    ([[1.0, 2.0], 3.0], "row 1 has shape"),
    ([[1.0, 2.0], [3.0, None]], "row 1 component 1 is of type NoneType"),
    ([[1.0, 2.0], ["x", 4.0]], "strings"),
    (np.array([[1.0, 2.0], [None, 1.0]], dtype=object), "row 1 component 0 is of type NoneType"),
    (np.array([["1", "2"]]), "strings"),
    (np.array([[b"1", b"2"]]), "bytes"),
    (np.array([[1 + 2j, 1.0]]), "complex"),
    (np.array([[True, False]]), "booleans"),
    (np.array([["2026-01-01"]], dtype="M8[s]"), "times"),
    (np.zeros((1, 2), [("a", "f4")]), "dtype"),
    ([[1.0, 2.0], [10**400, 1.0]], "row 1"),
    ([[1.0, 2.0], [1e300, 1.0]], "row 1 holds a number beyond float32"),
    (np.array([[1.0], [1e39]], np.float64), "row 1 holds a number beyond float32"),
    ([1.0, 2.0], "shape (2,)"),
    (1.0, "shape ()"),
    (np.ones((1, 1, 2), np.float32), "shape (1, 1, 2)"),
    (np.ones((2, 0), np.float32), "shape (2, 0)"),
    ("12", "of type str"),
    ({"a": 1}, "of type dict"),
    (np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[0, 0], [0, 1]]), "row 1 is masked"),
    (object(), ""),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_matrix_is_refused_by_row_and_reason(value, reason, collection):
    with pytest.raises(InvalidVectorError) as caught:
        collection.add_texts(["a", "b"], value)
    assert reason in str(caught.value)
    assert collection.count() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [3, ROWS])
def test_what_is_not_finite_names_its_row_and_nothing_is_stored(bad, rows, collection):
    values = np.ones((rows, DIMENSION), np.float32)
    values[-1, 5] = bad
    with pytest.raises(InvalidVectorError, match=rf"row {rows - 1}\b"):
        collection.add_texts(["x"] * rows, values)
    assert collection.count() == 0
    assert collection.info.dimension is None


def test_zero_has_no_direction_under_cosine(ragstore_store, collection):
    with pytest.raises(InvalidVectorError, match=r"row 1\b.*direction"):
        collection.add_texts(["a", "b"], [[1.0, 0.0], [0.0, 0.0]])
    other = ragstore_store.create_collection("l2", metric="l2")
    assert len(other.add_texts(["a", "b"], [[1.0, 0.0], [0.0, 0.0]])) == 2


def test_rows_and_dimensions_must_fit(collection):
    with pytest.raises(InvalidVectorError, match="1"):
        collection.add_texts(["a", "b"], VALUES[:1])
    with pytest.raises(InvalidVectorError, match="0 rows for 2 chunks"):
        collection.add_texts(["a", "b"], [])
    collection.add_texts(list("abcd"), VALUES, ids=list("abcd"))
    with pytest.raises(DimensionMismatchError, match=r"2.*3|3.*2"):
        collection.add_texts(["e"], [[1.0, 2.0]])
    with pytest.raises(DimensionMismatchError):
        collection.vector_search([1.0, 2.0])
    with pytest.raises(LimitError, match="8193"):
        collection.add_texts(["e"], np.ones((1, 8193), np.float32))
    for query in (VALUES, np.ones((1, 1, 3), np.float32), [[]]):
        with pytest.raises(InvalidVectorError):
            collection.vector_search(query)


def test_no_rows_for_no_chunks_is_legal(collection):
    assert collection.add([], []).added == 0
    assert collection.add([], np.empty((0, 3), np.float32)).added == 0
    collection.set_embeddings([], np.empty((0, 3), np.float32))
    assert collection.search_batch(np.empty((0, 3), np.float32)) == []


def attack(collection, values, during):
    """Adds rows from `values` in place and runs `during` while the core is at it."""
    ran = []

    def progress(done, total):
        if not ran:
            ran.append((done, total))
            during()

    texts = [f"text {i}" for i in range(len(values))]
    ids = collection.add_texts(texts, values, progress=progress)
    assert ran
    return ids, ran[0]


@pytest.mark.parametrize("view", ["itself", "slice", "view of a view", "reshaped"])
def test_no_array_of_the_chain_can_be_resized_while_it_is_read(view, collection):
    owner = np.ones((ROWS, DIMENSION), np.float32)
    if view == "reshaped":
        owner = np.ones(ROWS * DIMENSION, np.float32)
        values = owner.reshape(ROWS, DIMENSION)
    else:
        values = {"itself": owner, "slice": owner[100:], "view of a view": owner[10:].view()[10:]}[view]
    refused = []

    def resize():
        for array in (owner, values):
            with pytest.raises(ValueError, match="resize"):
                array.resize((1, 1), refcheck=False)
            refused.append(array.shape)

    _, (done, total) = attack(collection, values, resize)
    # The report came while rows were still to be read.
    assert done < total
    assert len(refused) == 2
    assert collection.count() == len(values)
    # Afterwards nothing holds it any more.
    owner.resize((2, 2), refcheck=False)
    assert owner.shape == (2, 2)


def test_the_last_reference_may_go_while_it_is_read(collection):
    held = [np.ones((ROWS, DIMENSION), np.float32)]
    ids, _ = attack(collection, held[0], held.clear)
    assert np.array_equal(collection.get_embeddings(ids[-3:]), np.ones((3, DIMENSION), np.float32))


def test_shape_and_dtype_may_change_while_it_is_read(collection):
    values = np.ones((ROWS, DIMENSION), np.float32)

    def change():
        view = values.view()
        view.shape = (DIMENSION, ROWS)
        values.flags.writeable = False

    ids, _ = attack(collection, values, change)
    assert len(ids) == ROWS


def test_another_thread_that_scribbles_can_only_store_what_it_wrote(collection):
    """Whatever was validated is what was stored: NaN never gets in, and rows are all refused or all there."""
    values = np.ones((ROWS, DIMENSION), np.float32)
    stop = threading.Event()

    def scribble():
        rng = np.random.default_rng(1)
        while not stop.is_set():
            values[rng.integers(ROWS)] = rng.choice([1.0, 2.0, np.nan])

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        for attempt in range(3):
            values[:] = 1.0
            before = collection.count()
            try:
                ids = collection.add_texts([f"{attempt} {i}" for i in range(ROWS)], values)
            except InvalidVectorError:
                assert collection.count() == before
            else:
                stored = collection.get_embeddings(ids)
                assert np.isin(stored, [1.0, 2.0]).all()
    finally:
        stop.set()
        thread.join()


def test_the_gil_is_free_while_rows_are_stored(collection):
    values = np.ones((ROWS, DIMENSION), np.float32)
    beats = []
    stop = threading.Event()

    def beat():
        while not stop.is_set():
            beats.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=beat)
    thread.start()
    began = time.perf_counter()
    write = ragstore.writes.Texts(["x"] * ROWS, None, None, None).write("notes", values, "error", copy=False)
    prepared = time.perf_counter()
    collection._raw.write([write])
    ended = time.perf_counter()
    stop.set()
    thread.join()
    inside = [beat for beat in beats if prepared < beat < ended]
    assert len(inside) > (ended - prepared) / 0.02, (began, prepared, ended)


def test_a_change_is_committed_once(collection):
    write = ragstore.writes.Texts(["x"], None, None, None).write("notes", None, "error", copy=False)
    collection._raw.write([write])
    with pytest.raises(ragstore.InternalError):
        collection._raw.write([write])


def test_the_private_module_checks_what_the_facade_promised(collection):
    copy = False
    for bad in (VALUES.astype(np.float64), np.asfortranarray(VALUES), VALUES[0], VALUES.astype(">f4"), [1.0], None):
        with pytest.raises(TypeError):
            ragstore._ragstore.Write.set_embeddings("notes", ["a"], bad, "default", copy)


def test_an_add_imports_nothing():
    """A fork during an import by another thread leaves a child that waits for it."""
    code = """
import sys
import ragstore
before = set(sys.modules)
with ragstore.open() as store:
    store.create_collection("c").add_texts(["text"], [[1.0, 2.0]])
    store["c"].search("text", vector=[1.0, 2.0])
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
