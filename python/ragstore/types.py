"""The types of arguments that several calls share."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from numpy.typing import ArrayLike

__all__ = ["Embedder", "Filter", "Metric", "Mode", "OnConflict", "Progress", "Rerank", "Syntax"]

Metric: TypeAlias = Literal["cosine", "l2", "ip"]
"""How two vectors are compared."""

Mode: TypeAlias = Literal["vector", "keyword", "hybrid"]
"""What a search ranks by."""

Syntax: TypeAlias = Literal["natural", "all", "phrase", "prefix", "fts5"]
"""How the text of a keyword search is read."""

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
