"""The graph over the chunks and documents of a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ._ragstore import Write
from .arguments import count, mapping_or_none, number, optional, string, strings
from .document import moment
from .types import Direction

if TYPE_CHECKING:
    from . import _ragstore

__all__ = ["Graph", "Related", "Relation", "relate", "unrelate"]


@dataclass(frozen=True, slots=True)
class Relation:
    """A directed relation between two chunks or documents of a collection.

    Attributes
    ----------
    source, target : str
        Ids.
    type : str
    strength : float
        From 0 to 1.
    metadata : dict
    created_at : datetime
        Aware.
    """

    source: str
    target: str
    type: str
    strength: float
    metadata: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Related:
    """What a walk over relations came to.

    Attributes
    ----------
    id : str
        Of a chunk or a document.
    path : tuple of str
        The ids on the way, from the one that the walk began with to this one.
    strength : float
        The product of the strengths on the way, of the strongest way there is.
    depth : int
        Relations on the way.
    """

    id: str
    path: tuple[str, ...]
    strength: float
    depth: int


class Graph:
    """The graph of a collection."""

    __slots__ = ()

    _raw: _ragstore.Store
    name: str

    def relate(
        self,
        source: str,
        target: str,
        type: str,
        *,
        strength: float = 1.0,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Relate a chunk or document to another, or change the strength and metadata of a relation.

        It goes with the first of the two that is deleted; a document that is replaced keeps the relations of ids that
        it has again.

        Parameters
        ----------
        source, target : str
            Ids of chunks or documents; two different ones.
        type : str
            Any name: "cites", "next", "similar".
        strength : float
            From 0 to 1. It decays along the ways of `related`.
        metadata : mapping, optional

        Raises
        ------
        NotFoundError
            There is no chunk or document of that id.
        ValueError
            Both ids are the same, or `strength` is out of range.
        """
        self._raw.write([relate(self.name, source, target, type, strength, metadata)])

    def unrelate(self, source: str, target: str, type: str | None = None) -> int:
        """Delete the relations from one id to another, of a type or of any, and say how many there were."""
        return int(self._raw.write([unrelate(self.name, source, target, type)])[0])

    def relations(self, id: str, *, direction: Direction = "both", type: str | None = None) -> list[Relation]:
        """List the relations of a chunk or document in the order in which they were made; none for an unknown id.

        Parameters
        ----------
        id : str
        direction : {"out", "in", "both"}
            Those from it, those to it, or both.
        type : str, optional
            Only those of that type.
        """
        kind = optional("type", type)
        rows = self._raw.relations(self.name, string("id", id), string("direction", direction), kind)
        return [Relation(*row[:5], moment(row[5])) for row in rows]

    def to_networkx(self, *, type: str | None = None) -> Any:
        """Give all relations as a `networkx.MultiDiGraph`, whose keys are types; needs networkx.

        Edges have `strength`, `created_at` and the keys of their metadata that are neither of those; nodes are the ids
        that are related.
        """
        try:
            import networkx as nx
        except ImportError:
            raise ImportError("to_networkx needs networkx; pip install 'ragstore[graph]'") from None
        graph = nx.MultiDiGraph()
        for source, target, kind, strength, metadata, created_at in self._raw.relations(
            self.name, None, "both", optional("type", type)
        ):
            own = {"strength": strength, "created_at": moment(created_at)}
            # Not as arguments: metadata may have the names of parameters.
            graph.add_edge(source, target, key=kind)
            graph.edges[source, target, kind].update(metadata | own)
        return graph

    def related(
        self,
        ids: Sequence[str],
        *,
        depth: int = 1,
        types: Sequence[str] | None = None,
        min_strength: float = 0.0,
        direction: Direction = "out",
        limit: int = 100,
    ) -> list[Related]:
        """Walk over relations and list what can be reached.

        Parameters
        ----------
        ids : sequence of str
            Where the walk begins; these are not in the result.
        depth : int
            Relations on the way, at most 32.
        types : sequence of str, optional
            Follow only relations of these types.
        min_strength : float
            Weaker ways are not followed. From 0 to 1.
        direction : {"out", "in", "both"}
        limit : int

        Returns
        -------
        list of Related
            The strongest first, then the nearest, then by id. Each is there once, with its strongest way: its strength
            is the product of those along the way.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     papers = store.create_collection("papers")
        ...     _ = papers.add_texts(["A", "B", "C"], ids=["a", "b", "c"])
        ...     papers.relate("a", "b", "cites", strength=0.5)
        ...     papers.relate("b", "c", "cites")
        ...     [(found.id, found.path, found.strength) for found in papers.related(["a"], depth=2)]
        [('b', ('a', 'b'), 0.5), ('c', ('a', 'b', 'c'), 0.5)]
        """
        found = self._raw.related(
            self.name,
            strings("ids", ids),
            count("depth", depth),
            None if types is None else strings("types", types),
            number("min_strength", min_strength),
            string("direction", direction),
            count("limit", limit),
        )
        return [Related(id, tuple(path), strength, hops) for id, path, strength, hops in found]


def relate(
    collection: str, source: str, target: str, type: str, strength: float, metadata: Mapping[str, Any] | None
) -> Write:
    """The change, for a collection and for a transaction alike."""
    mapping_or_none("metadata", metadata)
    ends = string("source", source), string("target", target)
    return Write.relate(collection, *ends, string("type", type), number("strength", strength), metadata)


def unrelate(collection: str, source: str, target: str, type: str | None) -> Write:
    """The change, for a collection and for a transaction alike."""
    return Write.unrelate(collection, string("source", source), string("target", target), optional("type", type))
