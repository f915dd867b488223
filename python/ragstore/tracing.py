"""Spans of OpenTelemetry around the calls of stores and collections.

Off, it costs nothing: the methods are those that were written. `instrument` puts others in their place, `uninstrument`
takes them away.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

from . import _ragstore
from .collection import Collection
from .logs import logger
from .results import AddResult, Hits
from .store import Store
from .transaction import Transaction

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ["instrument", "span", "uninstrument"]

SWITCH = "RAGSTORE_TRACING"

_OPERATIONS: dict[type, dict[str, str]] = {
    Store: {
        name: name
        for name in (
            *("create_collection", "delete_collection", "list_collections", "search", "clear_embedding_cache"),
            *("check", "repair", "optimize", "checkpoint", "vacuum", "backup", "rekey", "sync", "sync_folder"),
        )
    },
    Collection: {
        name: name
        for name in (
            *("add", "add_texts", "add_chunks", "set_embeddings", "delete_embeddings", "update_metadata", "delete"),
            *("clear", "forget", "set_tokenizer", "create_index", "drop_index", "create_space", "delete_space"),
            *("get", "get_document", "list_documents", "get_chunks", "neighbors", "get_embeddings"),
            *("count", "count_documents", "unchanged"),
            *("search", "vector_search", "keyword_search", "hybrid_search", "search_batch"),
        )
    },
    Transaction: {"__exit__": "commit"},
}
# Of the arguments of a call; `where` only as whether there is one.
_ARGUMENTS = ("k", "mode", "exact", "on_conflict", "syntax", "fusion")
# The strings among them. Others are mistakes, and may be anything.
_CHOICES = frozenset(
    (
        *("vector", "keyword", "hybrid", "error", "replace", "skip", "merge", "rrf", "weighted"),
        *("natural", "all", "phrase", "prefix", "fts5", "passive", "full", "restart", "truncate"),
    )
)

_lock = Lock()
_tracer: Tracer | None = None
_originals: list[tuple[type, str, Any]] = []
# A call inside another one is no span of its own: how a call does its work may change.
_inside: ContextVar[bool] = ContextVar("ragstore_inside", default=False)


def instrument(tracer_provider: TracerProvider | None = None) -> None:
    """Make a span of each call that reads or writes a store. Needs the package `opentelemetry-api`.

    Attributes are counts and modes, and nothing that is stored or asked: ``db.system.name`` ("ragstore"),
    ``db.operation.name``, ``db.response.returned_rows``, ``error.type``, and such as ``ragstore.k``, ``ragstore.mode``,
    ``ragstore.filtered``, ``ragstore.exact``, ``ragstore.documents``. With RAGSTORE_TRACING=1 in the environment it is
    called when the package is imported.

    Parameters
    ----------
    tracer_provider : TracerProvider, optional
        The global one when not given. A second call puts another in place.

    Raises
    ------
    ImportError
        Without `opentelemetry-api`.
    """
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise ImportError("instrument needs OpenTelemetry: pip install opentelemetry-api") from error
    global _tracer  # noqa: PLW0603
    with _lock:
        _tracer = trace.get_tracer("ragstore", _ragstore.__version__, tracer_provider)
        if _originals:
            return
        for owner, operations in _OPERATIONS.items():
            for name, operation in operations.items():
                method = getattr(owner, name, None)
                if method is not None:
                    _originals.append((owner, name, owner.__dict__.get(name)))
                    setattr(owner, name, _traced(method, operation))


def uninstrument() -> None:
    """Undo `instrument`; without it, do nothing."""
    global _tracer  # noqa: PLW0603
    with _lock:
        _tracer = None
        while _originals:
            owner, name, own = _originals.pop()
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)


@contextmanager
def span(operation: str, counts: Mapping[str, int]) -> Iterator[None]:
    """A span around a block, with the counts that it has when it ends."""
    if _tracer is None or _inside.get():
        yield
        return
    with _begun(_tracer, operation) as begun:
        yield
        begun.set_attributes({f"ragstore.{name}": count for name, count in counts.items()})


def _traced(method: Callable[..., Any], operation: str) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        tracer = _tracer
        if tracer is None or _inside.get():
            return method(*args, **kwargs)
        with _begun(tracer, operation) as begun:
            if begun.is_recording():
                begun.set_attributes(_asked(signature, args, kwargs))
            result = method(*args, **kwargs)
            if begun.is_recording():
                begun.set_attributes(_answered(result))
            return result

    return call


@contextmanager
def _begun(tracer: Tracer, operation: str) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind, StatusCode

    attributes = {"db.system.name": "ragstore", "db.operation.name": operation}
    with tracer.start_as_current_span(
        f"ragstore.{operation}",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        # A message may hold what was asked or stored.
        record_exception=False,
        set_status_on_exception=False,
    ) as begun:
        token = _inside.set(True)
        try:
            yield begun
        except BaseException as error:
            begun.set_attribute("error.type", type(error).__qualname__)
            begun.set_status(StatusCode.ERROR)
            raise
        finally:
            _inside.reset(token)


def _asked(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:
        # The call will say so.
        return {}
    asked = {
        f"ragstore.{name}": given[name]
        for name in _ARGUMENTS
        if isinstance(given.get(name), int) or (isinstance(given.get(name), str) and given[name] in _CHOICES)
    }
    if "where" in signature.parameters:
        asked["ragstore.filtered"] = given.get("where") is not None
    return asked


def _answered(result: object) -> dict[str, Any]:
    if isinstance(result, Hits):
        return {
            "db.response.returned_rows": len(result),
            "ragstore.exact": result.exact,
            "ragstore.complete": result.complete,
        }
    if isinstance(result, AddResult):
        counts = {"documents": len(result.document_ids), "chunks": len(result.chunk_ids)}
        counts |= {name: getattr(result, name) for name in ("added", "replaced", "unchanged", "skipped")}
        return {f"ragstore.{name}": count for name, count in counts.items()}
    if isinstance(result, list):
        return {"db.response.returned_rows": len(result)}
    if isinstance(result, int):
        return {"ragstore.count": result}
    return {}


def instrument_if_asked() -> None:
    """By the environment; what is missing is logged, since nobody called."""
    if os.environ.get(SWITCH, "") in {"", "0"}:
        return
    try:
        instrument()
    except ImportError:
        logger.warning("%s is set and opentelemetry-api is not installed: there are no spans", SWITCH)
