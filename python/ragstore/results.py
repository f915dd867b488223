"""What calls return."""

from __future__ import annotations

import html
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from ._ragstore import Hit
from .document import moment
from .types import Metric

if TYPE_CHECKING:
    from .rows import AddRow, CollectionRow

__all__ = ["AddResult", "CollectionInfo", "Hits", "RecallReport", "SpaceInfo"]

_COLUMNS = (
    "id",
    "text",
    "score",
    "distance",
    "document_id",
    "uri",
    "index",
    "start",
    "end",
    "metadata",
    "vector_rank",
    "vector_score",
    "keyword_rank",
    "keyword_score",
    "rank",
    "collection",
    "path",
)


@dataclass(frozen=True, slots=True)
class RecallReport:
    """How much of the true answer vector search gives on what is stored, and how long it takes.

    Attributes
    ----------
    recall : float
        The share of the true k nearest among those that a search gives, on average. What is as near as the k-th is as
        good.
    interval : tuple of float
        Between these two it lies, with a confidence of 95 %.
    sample, k : int
        Vectors that were asked, and neighbors of each.
    p50_ms, exact_p50_ms : float
        Milliseconds of ranking that half of the searches take at most, and half of the exact ones; texts are not read.
    scan : str
        How the searches went through the vectors: "graph" or "codes" of an index, or "blocks" or "rows" of the tables.
    """

    recall: float
    interval: tuple[float, float]
    sample: int
    k: int
    p50_ms: float
    exact_p50_ms: float
    scan: str


@dataclass(frozen=True, slots=True)
class AddResult:
    """What a call to add did.

    Attributes
    ----------
    chunk_ids, document_ids : list of str
        In the order of the documents; of those that were kept as they are, the ids they have.
    added, replaced, unchanged, skipped : int
        Documents.
    """

    chunk_ids: list[str] = field(default_factory=list)
    document_ids: list[str] = field(default_factory=list)
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    skipped: int = 0

    @classmethod
    def _of(cls, row: AddRow) -> AddResult:
        return cls(*row)

    def _with(self, other: AddResult) -> AddResult:
        """Both, one after the other; the lists of this one grow."""
        self.chunk_ids.extend(other.chunk_ids)
        self.document_ids.extend(other.document_ids)
        return AddResult(
            self.chunk_ids,
            self.document_ids,
            self.added + other.added,
            self.replaced + other.replaced,
            self.unchanged + other.unchanged,
            self.skipped + other.skipped,
        )

    def __repr__(self) -> str:
        return (
            f"AddResult(added={self.added}, replaced={self.replaced}, unchanged={self.unchanged}, "
            f"skipped={self.skipped}, chunks={len(self.chunk_ids)})"
        )


@dataclass(frozen=True, slots=True)
class SpaceInfo:
    """What an embedding space is.

    Attributes
    ----------
    name : str
    dimension : int or None
        None until the first embeddings.
    metric : {"cosine", "l2", "ip"}
    model : str or None
        Name of the embedding model.
    """

    name: str
    dimension: int | None
    metric: Metric
    model: str | None


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a collection is, without what it holds.

    Attributes
    ----------
    name : str
    description : str or None
    settings : dict
        The caller's own.
    tokenizer : str
    created_at : datetime
        Aware.
    spaces : tuple of SpaceInfo
        "default" first.
    """

    name: str
    description: str | None
    settings: dict[str, Any]
    tokenizer: str
    created_at: datetime
    spaces: tuple[SpaceInfo, ...]

    @classmethod
    def _of(cls, row: CollectionRow) -> CollectionInfo:
        name, description, settings, tokenizer, created_at, spaces = row
        return cls(name, description, settings, tokenizer, moment(created_at), tuple(SpaceInfo(*s) for s in spaces))

    @property
    def dimension(self) -> int | None:
        """Of the default space."""
        return self.spaces[0].dimension

    @property
    def metric(self) -> Metric:
        """Of the default space."""
        return self.spaces[0].metric

    @property
    def model(self) -> str | None:
        """Of the default space."""
        return self.spaces[0].model


class Hits(Sequence[Hit]):
    """The answers of a search, best first.

    A sequence of `Hit`; a slice of it is one too. In a notebook it shows as a table with the words of the query marked.

    Attributes
    ----------
    exact : bool
        These are the true top k.
    complete : bool
        False only where a limit or a timeout cut the search short.
    took_ms : float
        Milliseconds inside the store.
    plan : dict or None
        How they were found, with ``explain=True``.
    """

    __slots__ = ("_hits", "complete", "exact", "plan", "took_ms")

    exact: bool
    complete: bool
    took_ms: float
    plan: dict[str, Any] | None

    def __init__(
        self,
        hits: list[Hit],
        exact: bool = True,
        complete: bool = True,
        took_ms: float = 0.0,
        plan: dict[str, Any] | None = None,
    ) -> None:
        self._hits = hits
        self.exact = exact
        self.complete = complete
        self.took_ms = took_ms
        self.plan = plan

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Hits: ...
    def __getitem__(self, index: int | slice) -> Hit | Hits:
        if isinstance(index, slice):
            return Hits(self._hits[index], self.exact, self.complete, self.took_ms, self.plan)
        return self._hits[index]

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    @property
    def ids(self) -> list[str]:
        """Of the chunks."""
        return [hit.id for hit in self._hits]

    @property
    def texts(self) -> list[str | None]:
        """Of the chunks."""
        return [hit.text for hit in self._hits]

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32, shape (n,), descending."""
        return np.array([hit.score for hit in self._hits], dtype=np.float32)

    def _columns(self) -> dict[str, list[Any]]:
        return {name: [getattr(hit, name) for hit in self._hits] for name in _COLUMNS}

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row per hit and a column per attribute.

        Raises
        ------
        ImportError
            Without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install pandas") from error
        whole = dict.fromkeys(("index", "start", "end", "vector_rank", "keyword_rank", "rank"), "Int64")
        real = dict.fromkeys(("score", "distance", "vector_score", "keyword_score"), "float64")
        return pd.DataFrame(self._columns(), columns=list(_COLUMNS)).astype({**whole, **real})

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` with a row per hit and a column per attribute; metadata is JSON text.

        Raises
        ------
        ImportError
            Without pyarrow.
        """
        try:
            import pyarrow as pa
        except ImportError as error:
            raise ImportError("to_arrow needs pyarrow: pip install pyarrow") from error
        import json

        columns = self._columns()
        columns["metadata"] = [json.dumps(value, ensure_ascii=False) for value in columns["metadata"]]
        kinds = dict.fromkeys(_COLUMNS, pa.string())
        kinds.update(dict.fromkeys(("score", "distance", "vector_score", "keyword_score"), pa.float64()))
        kinds["path"] = pa.list_(pa.string())
        kinds.update(dict.fromkeys(("index", "start", "end", "vector_rank", "keyword_rank", "rank"), pa.int64()))
        return pa.table(columns, schema=pa.schema(list(kinds.items())))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface, by which Polars, pandas and pyarrow take it; needs pyarrow."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        flags = ", ".join(name for name, on in (("exact", self.exact), ("incomplete", not self.complete)) if on)
        lines = [f"Hits({len(self)}, {self.took_ms:.1f} ms{', ' if flags else ''}{flags})"]
        for place, hit in enumerate(self._hits[:10], 1):
            text = " ".join(hit.snippet(12, "", "").split())
            lines.append(f"{place:>3}. {hit.score:8.4f}  {_source(hit)}  {text[:100]}")
        if len(self) > 10:
            lines.append(f"     and {len(self) - 10} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        # Drawn anew each time, so that no stored text can hold them and pass for a mark.
        begin, end = (f"\ue000{secrets.token_hex(8)}\ue001" for _ in range(2))
        scores = [hit.score for hit in self._hits]
        low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)
        rows = []
        for place, hit in enumerate(self._hits, 1):
            width = 100.0 if high <= low else 8.0 + 92.0 * (hit.score - low) / (high - low)
            text = html.escape(hit.snippet(40, begin, end)).replace(begin, "<mark>").replace(end, "</mark>")
            rows.append(
                f"<tr><td>{place}</td>"
                f'<td style="min-width:7em">{hit.score:.4f}'
                f'<div style="background:#4c8bf5;height:4px;width:{width:.0f}%"></div></td>'
                f'<td style="text-align:left">{html.escape(_source(hit))}</td>'
                f'<td style="text-align:left">{text}</td></tr>'
            )
        notes = [f"{len(self)} hits", f"{self.took_ms:.1f} ms", "exact" if self.exact else "approximate"]
        if not self.complete:
            notes.append("incomplete")
        return (
            f"<table><caption>{', '.join(notes)}</caption>"
            "<thead><tr><th></th><th>score</th><th>source</th><th>text</th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )


def _source(hit: Hit) -> str:
    """Where it is, and over what a search came to it from a hit."""
    source = f"{hit.uri or hit.document_id}#{hit.index}"
    return source if hit.path is None else f"{source} via {' > '.join(hit.path[:-1])}"
