"""The types of arguments that several calls share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from numpy.typing import ArrayLike

__all__ = ["Direction", "Embedder", "Expand", "Filter", "Metric", "Mode", "OnConflict", "Progress", "Rerank", "Syntax"]

Metric: TypeAlias = Literal["cosine", "l2", "ip"]
"""How two vectors are compared."""

Mode: TypeAlias = Literal["vector", "keyword", "hybrid"]
"""What a search ranks by."""

Syntax: TypeAlias = Literal["natural", "all", "phrase", "prefix", "fts5"]
"""How the text of a keyword search is read."""

Direction: TypeAlias = Literal["out", "in", "both"]
"""Which way relations are followed: from an id, to it, or both."""

OnConflict: TypeAlias = Literal["error", "replace", "skip"]
"""What happens to a document whose id or uri is taken."""

Filter: TypeAlias = Mapping[str, Any]
"""Conditions on metadata and columns, as ``{"year": {"$gte": 2020}, "lang": "en"}``."""

Progress: TypeAlias = bool | Callable[[int, int], object]
"""True shows a bar; a callable gets (done, total) on the caller's thread."""

Embedder: TypeAlias = Callable[[list[str]], ArrayLike]
"""Gets n texts and returns n vectors, (n, d): sentence-transformers' encode, model2vec's, an API client's."""

Rerank: TypeAlias = Callable[[str, list[str]], ArrayLike]
"""Gets a question and n texts and returns n scores, the higher the better: a cross-encoder's predict, wrapped."""


class Expand(TypedDict, total=False):
    """Which neighbors in the graph a search adds to its hits; each key may be left out.

    A way is as strong as the product of its relations.

    Attributes
    ----------
    depth : int
        Relations on the way, at most 32; 1 when not given.
    weight : float
        The share of its score that a hit passes on over a way of strength 1; at most 1, 0.3 when not given.
    types : sequence of str
        Follow only relations of these types; of all when not given.
    direction : {"both", "out", "in"}
        "both" when not given.
    min_strength : float
        Weaker ways are not followed; from 0 to 1, 0 when not given.
    limit : int
        Neighbors, the best of them; at most 4,096, as many as `k` when not given.
    """

    depth: int
    weight: float
    types: Sequence[str] | None
    direction: Direction
    min_strength: float
    limit: int | None
