"""Checks that name the argument they refuse."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["count", "mapping_or_none", "number", "optional", "string", "strings"]


def string(name: str, value: object) -> str:
    """A str."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is of type {type(value).__name__}; it must be a str")
    return value


def optional(name: str, value: object) -> str | None:
    """A str or None."""
    return None if value is None else string(name, value)


def strings(name: str, value: object) -> list[str]:
    """A list of str; one str is not its characters."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is of type {type(value).__name__}; it must be a list of str")
    items = list(value)
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise TypeError(f"{name}[{index}] is of type {type(item).__name__}; it must be a str")
    return items


def count(name: str, value: object, least: int = 0) -> int:
    """An int from `least` on."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is of type {type(value).__name__}; it must be an int")
    number = operator.index(value)
    if not least <= number < 2**63:
        raise ValueError(
            f"{name} is {number}; it must be at least {least}" + (" and fit 63 bits" if number > 0 else "")
        )
    return number


def number(name: str, value: object) -> float:
    """A real number as a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"{name} is of type {type(value).__name__}; it must be a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is an int that no float holds; it must be smaller") from None


def mapping_or_none(name: str, value: object) -> Mapping[str, Any] | None:
    """A mapping or None."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} is of type {type(value).__name__}; it must be a mapping")
    return value
