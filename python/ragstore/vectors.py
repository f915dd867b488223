"""Anything that NumPy turns into floats, turned into float32 once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .exceptions import InvalidVectorError
from .types import Embedder, Metric

__all__ = ["as_matrix", "as_query", "embed"]

_FLOAT32 = np.dtype(np.float32)


def as_matrix(value: ArrayLike, name: str = "embeddings") -> NDArray[np.float32]:
    """An array of shape (n, d) that the core reads in place: the very memory of `value` where it fits.

    Parameters
    ----------
    value : ArrayLike
        Shape (n, d): an array, a list of vectors, an iterator of them, or what has ``__array__``.
    name : str
        Names it in errors.

    Returns
    -------
    ndarray of float32, shape (n, d)
        C-contiguous, aligned, in native byte order.

    Raises
    ------
    InvalidVectorError
        For another shape, for rows that differ in length, for values that are no real numbers, and for numbers beyond
        float32, naming the row. Whether d is that of the space is for the core to say.
    """
    array = value if _is_plain(value) else _as_array(value, name)
    if array.ndim != 2:
        if array.shape == (0,):
            return np.empty((0, 1), np.float32)
        raise InvalidVectorError(f"{name} has shape {array.shape}; it must be (n, d), one row per chunk")
    if array.shape[1] == 0 and array.shape[0]:
        raise InvalidVectorError(f"{name} has shape {array.shape}; a vector has at least one component")
    return _as_float32(array, name)


def as_query(value: ArrayLike) -> NDArray[np.float32]:
    """An array of shape (1, d) for a vector of shape (d,) or (1, d)."""
    array = value if _is_plain(value) else _as_array(value, "vector")
    if array.ndim == 1:
        array = array.reshape(1, -1)
    if array.ndim != 2 or array.shape[0] != 1:
        raise InvalidVectorError(f"vector has shape {array.shape}; it must be (d,) or (1, d)")
    return _as_float32(array, "vector")


def embed(embedder: Embedder, texts: list[str], metric: Metric) -> NDArray[np.float32]:
    """What an embedder makes of texts, one row each: its own array where that fits.

    Raises
    ------
    InvalidVectorError
        It is no array of real numbers with a row for each text, or a row cannot be ranked; the text is named.
    """
    made = embedder(texts)
    name = "the embedder's result"
    array = made if _is_plain(made) else _as_array(made, name)
    if array.ndim == 1 and len(texts) == 1:
        array = array.reshape(1, -1)
    matrix = as_matrix(array, name)
    if len(matrix) != len(texts):
        raise InvalidVectorError(f"the embedder returned {len(matrix)} vectors for {len(texts)} texts")
    return _rankable(matrix, texts, metric)


def _rankable(matrix: NDArray[np.float32], texts: list[str], metric: Metric) -> NDArray[np.float32]:
    """A copy of its own, whatever the embedder does with the memory it returned; with a message that names the text."""
    matrix = matrix.copy()
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise InvalidVectorError(
            f"the embedder's result row {row} holds NaN or infinity, for the text {shortened(texts[row])}; every "
            "component must be finite"
        )
    if metric == "cosine":
        length = np.einsum("ij,ij->i", matrix, matrix) >= np.finfo(np.float32).tiny
        if not length.all():
            row = int(np.argmin(length))
            raise InvalidVectorError(
                f"the embedder's result row {row} is zero, for the text {shortened(texts[row])}, and has no direction "
                "under cosine; leave that text out, or use l2 or ip"
            )
    return matrix


def shortened(text: str) -> str:
    """A text for a message."""
    return repr(text) if len(text) <= 60 else repr(text[:59] + "…")


def _is_plain(value: object) -> TypeGuard[NDArray[Any]]:
    return type(value) is np.ndarray and value.dtype != object


def _as_array(value: Any, name: str) -> NDArray[Any]:
    # Not `np.ma`, which is imported by being asked for: a fork by another thread meanwhile would leave a child that
    # waits for that import for ever. Without the module there are no masked arrays.
    masked_array = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    if masked_array is not None and isinstance(value, masked_array):
        masked = np.ma.getmaskarray(value)
        if masked.any():
            row = int(np.argwhere(masked)[0][0])
            raise InvalidVectorError(f"{name} row {row} is masked; every component must have a value")
        return np.asarray(value)
    if isinstance(value, (str, bytes, bytearray, dict, set, frozenset)) or value is None:
        raise InvalidVectorError(f"{name} is of type {type(value).__name__}; it must be an array of numbers")
    if not isinstance(value, Sequence) and not _has_array(value) and isinstance(value, Iterable):
        value = list(value)
    try:
        array = np.asarray(value)
    except Exception as error:
        _check_rows(value, name)
        raise InvalidVectorError(f"{name} does not become an array: {error}") from error
    if array.dtype == object and array.ndim == 1 and len(array):
        # A column of vectors, as of pandas or Arrow, is a list of rows.
        rows = list(array)
        if all(isinstance(row, (list, tuple, np.ndarray)) for row in rows):
            _check_rows(rows, name)
            return np.asarray(rows)
    return array


def _has_array(value: Any) -> bool:
    return any(hasattr(value, name) for name in ("__array__", "__array_interface__", "__array_struct__", "__buffer__"))


def _check_rows(value: Any, name: str) -> None:
    """Names the first row that differs from the others, or whose components do not make one vector."""
    if not isinstance(value, (list, tuple)):
        return
    wanted = None
    for row, vector in enumerate(value):
        try:
            shape = np.shape(vector)
        except ValueError:
            raise InvalidVectorError(f"{name} row {row} is no vector: its components differ in length") from None
        if len(shape) != 1:
            raise InvalidVectorError(f"{name} row {row} has shape {shape}; a row is one vector, (d,)")
        if wanted is None:
            wanted = shape[0]
        elif shape[0] != wanted:
            raise InvalidVectorError(f"{name} row {row} has dimension {shape[0]}; the rows before it have {wanted}")


def _as_float32(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    dtype = array.dtype
    if dtype == _FLOAT32 and dtype.isnative:
        flags = array.flags
        if flags.c_contiguous and flags.aligned:
            return array
        return _fresh(array)
    if dtype.kind not in "fiu":
        raise InvalidVectorError(_not_numbers(array, name))
    try:
        with np.errstate(over="raise"):
            return _fresh(array)
    except FloatingPointError:
        row = _overflow(array)
        where = name if row is None else f"{name} row {row}"
        raise InvalidVectorError(f"{where} holds a number beyond float32; scale the vectors down") from None


def _fresh(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.array(array, dtype=np.float32, order="C", copy=True, subok=False)


def _overflow(array: NDArray[Any]) -> int | None:
    for row, vector in enumerate(array):
        with np.errstate(over="ignore"):
            small = vector.astype(np.float32)
        if bool((np.isinf(small) & np.isfinite(vector)).any()):
            return row
    return None


def _not_numbers(array: NDArray[Any], name: str) -> str:
    """Says what the first row holds that is no real number."""
    advice = "give real numbers, as with .astype(numpy.float32)"
    if array.dtype.kind == "O":
        for row, vector in enumerate(array):
            for component, value in enumerate(vector):
                place = f"{name} row {row} component {component}"
                if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
                    return f"{place} is of type {type(value).__name__}; {advice}"
                if _beyond(value):
                    return f"{place} is too large; scale the vectors down"
        return f"{name} row 0 holds Python objects; {advice}"
    kinds = {
        "b": "booleans",
        "c": "complex numbers",
        "U": "strings",
        "S": "bytes",
        "M": "times",
        "m": "durations",
    }
    return f"{name} row 0 holds {kinds.get(array.dtype.kind, f'values of dtype {array.dtype}')}; {advice}"


def _beyond(number: Any) -> bool:
    return bool(abs(number) >= 2**64)
