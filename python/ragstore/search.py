"""The searches of collections and stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._ragstore import Options
from .arguments import count, mapping_or_none, number, optional, string, strings
from .results import Hits, RecallReport
from .types import Expand, Filter, Mode, Rerank, Syntax
from .vectors import as_matrix, as_query

if TYPE_CHECKING:
    from . import _ragstore
    from .embedding import Embedding

__all__ = ["Searching", "choose_mode", "fusion_options"]

_PARTS = ("text", "metadata")


class Searching:
    """The searches of a collection."""

    __slots__ = ("_embedding", "_raw", "name")

    _raw: _ragstore.Store
    _embedding: Embedding | None
    name: str

    def search(
        self,
        text: str | None = None,
        *,
        vector: ArrayLike | None = None,
        k: int = 10,
        where: Filter | None = None,
        mode: Mode | None = None,
        space: str = "default",
        exact: bool = False,
        include: Sequence[str] | None = None,
        min_score: float | None = None,
        timeout: float | None = None,
        recall: float = 0.99,
        mmr: float | None = None,
        fetch_k: int | None = None,
        group_by: Literal["document"] | None = None,
        group_size: int = 1,
        window: tuple[int, int] | None = None,
        rerank: Rerank | None = None,
        expand: Expand | Mapping[str, Any] | None = None,
        explain: bool = False,
    ) -> Hits:
        """Find the chunks that answer a question.

        What is asked for applies in this order: `where`, the ranking, `rerank`, `min_score`, `mmr`, `group_by`, `k`,
        `expand`, `window`.

        Parameters
        ----------
        text : str, optional
            A question in natural language, in any script.
        vector : ArrayLike of float32, shape (d,) or (1, d), optional
            The embedding of the question.
        k : int
            Hits, at most 4,096; documents with `group_by`.
        where : Filter, optional
            Applied before ranking: k hits come back if k chunks match.
        mode : {"vector", "keyword", "hybrid"}, optional
            Without it, what the arguments allow: text and vector, or text alone with an embedder, are hybrid; text
            alone without one is keyword; a vector alone is vector. Text that goes with a vector under "vector" is for
            highlights and `rerank`.
        space : str
            Whose embeddings are compared, by the ranking or by `mmr`.
        exact : bool
            Ask for the true top k, where an index would find nearly that; `Hits.exact` says what it was.
        include : sequence of {"text", "metadata"}, optional
            What hits carry beyond names and scores; both when not given. What is not included is not read.
        min_score : float, optional
            Hits with a lower score are left out; with `rerank`, of its scores.
        timeout : float, optional
            Seconds. When they have passed, the search ends with what it ranked, and `Hits.complete` is False.
        recall : float
            The share of the true top k that may be relied on where `exact` is not asked for; more than 0, at most 1.
        mmr : float, optional
            Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the weight of relevance against
            diversity, from 0 to 1. Hits come in the order in which they were chosen; each keeps its score.
        fetch_k : int, optional
            Hits that `mmr` and `rerank` choose from; at least k, at most 4,096; five for each of k and at least 50 when
            not given. With `group_by` at least k times `group_size`, and of one document no more than an even share
            of k documents.
        group_by : {"document"}, optional
            At most `group_size` hits of one document, those of one document together.
        group_size : int
            With `group_by`.
        window : tuple of int, optional
            Chunks before and after each hit that widen its text to one passage, with its offsets.
        rerank : callable, optional
            Gets the text and the texts of n hits, and returns n finite scores, the higher the better. They become
            the scores of the hits; `rank`, `vector_rank` and `keyword_rank` stay those of the ranking.
        expand : Expand, optional
            Add neighbors of the hits in the graph, beside the k hits: chunks that relations lead to from a hit or its
            document, and for a document the first of its chunks. `where` and expiry hold for them; a way may lead over
            what does not match the filter. A mapping of any of these keys; ``{}`` takes all as they are:

            ``"depth"`` : int
                Relations on the way, at most 32. 1.
            ``"weight"`` : float
                More than 0, at most 1. 0.3. A neighbor has the score s of its hit times `weight` times the strength of
                the way, which is the product of its relations: with f for that product, ``f * s``, and where s is
                negative ``(2 - f) * s``. The best of its ways counts.
            ``"types"`` : list of str
                Follow only relations of these types. All.
            ``"direction"`` : {"both", "out", "in"}
                "both".
            ``"min_strength"`` : float
                Weaker ways are not followed; from 0 to 1. 0.
            ``"limit"`` : int
                Neighbors, the best of them; at most 4,096. As many as `k`.

            A neighbor stands before the first hit that scores less, and has a `Hit.path`; its `rank`, its distance and
            its ranks and scores in either ranking are None. `min_score` and `group_size` are not asked of it.
        explain : bool
            Give `Hits.plan`: what was asked of the indexes, candidates, and milliseconds of each stage.

        Returns
        -------
        Hits
            By score, then by insertion.

        Raises
        ------
        TypeError
            When `mode` needs what is not there, or would not use what is; or something is of a wrong type.
        ValueError
            A number is out of its range, or `expand` has another key.
        InvalidVectorError, DimensionMismatchError
            The vector cannot be compared.
        FilterError
            The filter is not well formed.
        QueryTimeoutError
            Nothing was ranked within `timeout`.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     pets = store.create_collection("pets")
        ...     _ = pets.add_texts(["Cats purr.", "Dogs bark."], [[1.0, 0.0], [0.0, 1.0]], ids=["cat", "dog"])
        ...     pets.search("who barks?").ids, pets.search(vector=[0.9, 0.1], k=1).ids
        (['dog'], ['cat'])

        With what the graph says of the hits:

        >>> with ragstore.open() as store:
        ...     pets = store.create_collection("pets")
        ...     _ = pets.add_texts(["Cats purr.", "Cats chase mice.", "Cheese."], ids=["cats", "mice", "cheese"])
        ...     pets.relate("mice", "cheese", "like", strength=0.5)
        ...     [(hit.id, hit.path) for hit in pets.search("who purrs or chases?", expand={"depth": 1, "weight": 0.3})]
        [('cats', None), ('mice', None), ('cheese', ('mice', 'cheese'))]
        """
        mode = choose_mode(optional("text", text), vector, mode, embedder=self._embedding is not None)
        if vector is None and mode != "keyword":
            vector = self._query(text or "", space)
        if not 0 < number("recall", recall) <= 1:
            raise ValueError(f"recall is {recall}; it is more than 0, and at most 1")
        if group_by not in (None, "document"):
            raise ValueError(f'group_by is {group_by!r}; it is "document" or None')
        if rerank is not None and not callable(rerank):
            raise TypeError(f"rerank is of type {type(rerank).__name__}; it must be callable with a text and texts")
        options = Options(
            timeout=None if timeout is None else number("timeout", timeout),
            recall=float(recall),
            include=_included(include),
            min_score=None if min_score is None else number("min_score", min_score),
            fetch_k=None if fetch_k is None else count("fetch_k", fetch_k),
            rerank=None if rerank is None else _scorer(rerank),
            mmr=None if mmr is None else number("mmr", mmr),
            group_size=None if group_by is None else count("group_size", group_size, 1),
            expand=None if expand is None else _expansion(expand),
            window=None if window is None else _window(window),
            explain=bool(explain),
        )
        query = None if vector is None else as_query(vector)
        return self._search(mode, text, query, k, where, options, space, exact=exact)

    def vector_search(
        self,
        vector: ArrayLike,
        k: int = 10,
        *,
        where: Filter | None = None,
        exact: bool = False,
        space: str = "default",
    ) -> Hits:
        """Find the chunks whose embeddings are nearest to a vector, of shape (d,) or (1, d). See `search`."""
        return self._search("vector", None, as_query(vector), k, where, Options(), space, exact=exact)

    def keyword_search(
        self, text: str, k: int = 10, *, where: Filter | None = None, syntax: Syntax = "natural"
    ) -> Hits:
        """Find the chunks that hold words of a text, by BM25. See `search`.

        Words are those of the collection's tokenizer: under ``"porter unicode61"`` "indexes" finds "indexing". Under
        ``"trigram"`` they are found anywhere inside other words, from three characters on.

        Parameters
        ----------
        text : str
            Any text, in any script, but for ``syntax="fts5"``. Nothing in it is an operator.
        k : int
            Hits, at most 4,096.
        where : Filter, optional
            Applied before ranking.
        syntax : {"natural", "all", "phrase", "prefix", "fts5"}
            Any word may match; every word must; the words must stand together in this order; every word must, and the
            last may go on, as for a search while it is typed; or an expression in SQLite's own syntax, of at most
            4 KiB.
            Of more than 64 words, the 64 that are in the fewest chunks are looked up.

        Returns
        -------
        Hits
            By score, then by insertion.

        Raises
        ------
        ValueError
            There is no such syntax.
        QuerySyntaxError
            Under ``"fts5"``, with what SQLite said.
        LimitError
            Under ``"fts5"``, when the expression is too long.
        FilterError
            The filter is not well formed.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     pets = store.create_collection("pets")
        ...     _ = pets.add_texts(["Cats purr at night.", "Dogs bark at night."], ids=["cat", "dog"])
        ...     pets.keyword_search("cats at night").ids, pets.keyword_search("night cat", syntax="all").ids
        (['cat', 'dog'], ['cat'])
        """
        options = Options(syntax=string("syntax", syntax))
        return self._search("keyword", string("text", text), None, k, where, options)

    def hybrid_search(
        self,
        text: str,
        vector: ArrayLike | None = None,
        k: int = 10,
        *,
        where: Filter | None = None,
        fusion: Literal["rrf", "weighted"] = "rrf",
        weights: Mapping[Literal["vector", "keyword"], float] | None = None,
        rrf_k: int = 60,
        candidates: int | None = None,
        explain: bool = False,
    ) -> Hits:
        """Find chunks by words and by vector, as one ranking of two. See `search`.

        Both rankings are made at the same time, on one snapshot. Each hit has its rank and its score in either.

        Parameters
        ----------
        text : str
        vector : ArrayLike of float32, shape (d,) or (1, d), optional
            Without it the text is embedded, if there is an embedder.
        k : int
        where : Filter, optional
        fusion : {"rrf", "weighted"}
            Reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009): a chunk scores the sum of
            ``weight / (rrf_k + rank)`` over both rankings. Or the weighted mean of the scores, those of each ranking
            brought to [0, 1] by their least and their greatest.
        weights : mapping, optional
            Of "vector" and of "keyword", from 0 to 1,000,000; one that is not named is 0. Equal when not given.
        rrf_k : int
            At most 2**32 - 1.
        candidates : int, optional
            Hits of each ranking that are fused; at least k, and 100 when not given.
        explain : bool
            Give `Hits.plan`.
        """
        string("text", text)
        query = as_query(self._query(text, "default") if vector is None else vector)
        options = Options(**fusion_options(fusion, weights, rrf_k, candidates), explain=bool(explain))
        return self._search("hybrid", text, query, k, where, options)

    def search_batch(
        self,
        vectors: ArrayLike,
        k: int = 10,
        *,
        where: Filter | None = None,
        exact: bool = False,
        space: str = "default",
    ) -> list[Hits]:
        """Find the nearest chunks for each row of an array of shape (n, d), in one snapshot. See `vector_search`."""
        filter = mapping_or_none("where", where)
        matrix = as_matrix(vectors, "vectors")
        found = self._raw.search_batch(self.name, matrix, string("space", space), count("k", k), filter, bool(exact))
        return [Hits(*hits) for hits in found]

    def check_recall(
        self, sample: int = 200, *, k: int = 10, recall: float = 0.99, space: str = "default"
    ) -> RecallReport:
        """Measure how much of the true answer vector search gives on what is stored, and how long it takes.

        Stored vectors, drawn at random, are asked for their neighbors, themselves left out: once as `vector_search`
        does and once exactly, in one snapshot.

        Parameters
        ----------
        sample : int
            Vectors to ask.
        k : int
            Neighbors of each.
        recall : float
            What is asked of the searches that are measured, as in `search`.
        space : str

        Returns
        -------
        RecallReport

        Raises
        ------
        NotFoundError
            There are fewer than two embeddings.
        ValueError
            A number is out of its range.

        Examples
        --------
        >>> import ragstore
        >>> with ragstore.open() as store:
        ...     pets = store.create_collection("pets")
        ...     _ = pets.add_texts(["a", "b", "c"], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        ...     pets.check_recall(k=2).recall
        1.0
        """
        if not 0 < number("recall", recall) <= 1:
            raise ValueError(f"recall is {recall}; it is more than 0, and at most 1")
        space, sample, k = string("space", space), count("sample", sample, 1), count("k", k, 1)
        found = self._raw.check_recall(self.name, space, sample, k, float(recall))
        return RecallReport(*found)

    def _query(self, text: str, space: str) -> NDArray[np.float32]:
        if self._embedding is None:
            raise TypeError("there is no vector and no embedder to make one; give vector=, or the collection embedder=")
        return self._embedding.query(text, string("space", space))

    def _search(
        self,
        mode: Mode,
        text: str | None,
        vector: NDArray[np.float32] | None,
        k: int,
        where: Filter | None,
        options: Options,
        space: str = "default",
        *,
        exact: bool = False,
    ) -> Hits:
        filter = mapping_or_none("where", where)
        name, k = string("space", space), count("k", k)
        return Hits(*self._raw.search(self.name, mode, text, vector, name, k, filter, bool(exact), options))


def choose_mode(text: str | None, vector: ArrayLike | None, mode: Mode | None, *, embedder: bool) -> Mode:
    """The mode that is asked for, or else the one that the arguments allow; nothing given goes unused."""
    if mode is None:
        if text is None and vector is None:
            raise TypeError("search takes text, vector or both")
        if text is None:
            return "vector"
        return "keyword" if vector is None and not embedder else "hybrid"
    if mode == "keyword":
        fits, needs = text is not None and vector is None, "text and no vector"
    elif mode == "vector":
        fits, needs = text is not None or vector is not None, "vector, or text with an embedder"
    elif mode == "hybrid":
        fits, needs = text is not None, "text, and vector or an embedder"
    else:
        raise ValueError(f'mode is {mode!r}; it is one of "vector", "keyword", "hybrid"')
    if not fits:
        raise TypeError(f'mode="{mode}" takes {needs}')
    return mode


def fusion_options(fusion: str, weights: Mapping[Any, float] | None, rrf_k: int, candidates: int | None) -> Any:
    """The options of a hybrid search, checked."""
    rrf_k = count("rrf_k", rrf_k)
    if rrf_k >= 2**32:
        raise ValueError(f"rrf_k is {rrf_k}; it must be less than 2**32")
    pair = None
    if mapping_or_none("weights", weights) is not None:
        others = [name for name in weights or () if name not in ("vector", "keyword")]
        if others:
            raise ValueError(f'weights name {others[0]!r}; they are of "vector" and "keyword"')
        pair = tuple(number(f"weights[{leg!r}]", (weights or {}).get(leg, 0.0)) for leg in ("vector", "keyword"))
    return {
        "fusion": string("fusion", fusion),
        "weights": pair,
        "rrf_k": rrf_k,
        "candidates": None if candidates is None else count("candidates", candidates, 1),
    }


def _included(include: Sequence[str] | None) -> tuple[bool, bool] | None:
    if include is None:
        return None
    parts = strings("include", include)
    for part in parts:
        if part not in _PARTS:
            raise ValueError(f'include names {part!r}; it may name "text" and "metadata"')
    return "text" in parts, "metadata" in parts


def _expansion(expand: Expand | Mapping[str, Any]) -> Any:
    """What the core takes: each key in its place."""
    given: dict[str, Any] = dict(mapping_or_none("expand", expand) or {})
    row = (
        count('expand["depth"]', given.pop("depth", 1)),
        number('expand["weight"]', given.pop("weight", 0.3)),
        None if (types := given.pop("types", None)) is None else strings('expand["types"]', types),
        string('expand["direction"]', given.pop("direction", "both")),
        number('expand["min_strength"]', given.pop("min_strength", 0.0)),
        None if (limit := given.pop("limit", None)) is None else count('expand["limit"]', limit),
    )
    if given:
        keys = ", ".join(f'"{key}"' for key in Expand.__annotations__)
        raise ValueError(f"expand has the key {next(iter(given))!r}; its keys are {keys}")
    return row


def _window(window: tuple[int, int]) -> tuple[int, int]:
    if isinstance(window, (str, bytes)) or not isinstance(window, Sequence) or len(window) != 2:
        raise TypeError(f"window is {window!r}; it is a pair of ints: chunks before and chunks after")
    return count("window[0]", window[0]), count("window[1]", window[1])


def _scorer(rerank: Rerank) -> Any:
    """What the core calls: a list of float, whatever the caller's function returns."""

    def scores(text: str, texts: list[str]) -> list[float]:
        made = rerank(text, texts)
        try:
            array = np.asarray(made, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"rerank returned no numbers: {error}") from error
        if array.size != len(texts):
            raise ValueError(f"rerank returned {array.size} scores for {len(texts)} texts; give one number per text")
        result: list[float] = array.ravel().tolist()
        return result

    return scores
