"""What a search may ask for beyond the k best."""

import signal
import threading
import time

import numpy as np
import pytest
import ragstore

TEXT = "The fox runs. The dog sleeps. A cat purrs."


@pytest.fixture
def store():
    with ragstore.open() as store:
        yield store


@pytest.fixture
def collection(store):
    collection = store.create_collection("c")
    documents = [
        ragstore.Document(
            TEXT,
            id="story",
            metadata={"kind": "tale"},
            chunks=[
                ragstore.Chunk(start=0, end=13),
                ragstore.Chunk(start=14, end=29),
                ragstore.Chunk(start=30, end=42),
            ],
        ),
        ragstore.Document("Foxes are quick.", id="facts"),
        ragstore.Document("The fox and the fox and the hound.", id="film"),
    ]
    collection.add(documents, [[1, 0], [0.9, 0.1], [0, 1], [0.8, 0.3], [0.2, 0.9]])
    return collection


def names(hits):
    return [(hit.document_id, hit.index) for hit in hits]


def test_a_vector_hit_is_marked_where_its_text_has_the_words(collection):
    hit = collection.search("fox", vector=[1, 0], mode="vector", k=1)[0]
    assert hit.highlight() == "The <b>fox</b> runs."
    assert hit.keyword_rank is None
    assert hit.vector_rank == 1
    embedded = collection._store.get_collection("c", embedder=lambda texts: [[1.0, 0.0]] * len(texts))
    assert embedded.search("fox", mode="vector", k=1)[0].snippet() == "The <b>fox</b> runs."


def test_groups_hold_the_best_of_each_document(collection):
    hits = collection.search(vector=[1, 0], k=3, group_by="document")
    assert names(hits) == [("story", 0), ("facts", 0), ("film", 0)]
    hits = collection.search(vector=[1, 0], k=2, group_by="document", group_size=2)
    assert names(hits) == [("story", 0), ("story", 1), ("facts", 0)]


def test_a_window_is_one_passage_with_its_offsets(collection):
    hit = collection.search(vector=[0.9, 0.1], k=1, window=(1, 1))[0]
    assert (hit.index, hit.text, hit.start, hit.end) == (1, TEXT, 0, len(TEXT))
    assert TEXT[hit.start : hit.end] == hit.text
    hit = collection.search("purrs", k=1, window=(1, 0))[0]
    assert (hit.text, hit.start, hit.end) == (TEXT[14:42], 14, 42)
    assert hit.highlight("[", "]").endswith("A cat [purrs].")


def test_diversity_is_weighed_against_relevance(collection):
    assert names(collection.search(vector=[1, 0], k=2, mmr=1.0)) == [("story", 0), ("story", 1)]
    hits = collection.search(vector=[1, 0], k=2, mmr=0.3)
    assert names(hits) == [("story", 0), ("story", 2)]
    assert [hit.rank for hit in hits] == [1, 5]


def test_mmr_is_that_of_the_paper():
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    query = rng.standard_normal(8).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = unit @ query / np.linalg.norm(query)
    fetched = list(np.argsort(-relevance)[:30])
    chosen: list[int] = []
    while len(chosen) < 10:

        def marginal(i):
            return 0.4 * relevance[i] - 0.6 * max((float(unit[i] @ unit[j]) for j in chosen), default=0.0)

        best = max((i for i in fetched if i not in chosen), key=marginal)
        chosen.append(best)
    with ragstore.open() as store:
        collection = store.create_collection("c")
        collection.add_texts([f"t{i}" for i in range(60)], vectors, ids=[str(i) for i in range(60)])
        assert collection.search(vector=query, k=10, mmr=0.4, fetch_k=30).ids == [str(i) for i in chosen]


def test_a_rerank_reorders_and_keeps_the_old_ranks(collection):
    seen = []

    def shortest(query, texts):
        seen.append((query, len(texts)))
        return [-len(text) for text in texts]

    hits = collection.search("fox", k=2, rerank=shortest)
    assert seen == [("fox", 3)]
    assert [hit.text for hit in hits] == ["The fox runs.", "Foxes are quick."]
    assert hits.scores.tolist() == [-13, -16]
    by_rank = {hit.rank: hit.text for hit in collection.search("fox")}
    assert all(by_rank[hit.rank] == hit.text and hit.keyword_rank == hit.rank for hit in hits)
    few = collection.search("fox", k=1, fetch_k=2, rerank=lambda _query, texts: np.arange(len(texts))[:, None])
    assert few[0].rank == 2


@pytest.mark.parametrize(
    ("rerank", "error", "message"),
    [
        (lambda _q, _t: [1.0], ValueError, "rerank returned 1 scores for 3 texts"),
        (lambda _q, t: ["a"] * len(t), TypeError, "no numbers"),
        (lambda _q, t: [float("nan")] * len(t), ValueError, "NaN"),
        (lambda _q, _t: 1 / 0, ZeroDivisionError, "division"),
    ],
)
def test_what_a_rerank_does_wrong_is_said(collection, rerank, error, message):
    with pytest.raises(error, match=message):
        collection.search("fox", rerank=rerank)
    assert len(collection.search("fox")) == 3


def test_only_what_is_included_comes_back(collection):
    hit = collection.search("fox", k=1, include=[])[0]
    assert (hit.text, hit.metadata, hit.highlight(), hit.snippet()) == (None, {}, "", "")
    hit = collection.search(vector=[1, 0], k=1, include=["metadata"])[0]
    assert (hit.text, hit.metadata) == (None, {"kind": "tale"})
    assert collection.search(vector=[1, 0], k=1, include=("text",))[0].metadata == {}


def test_scores_below_the_least_are_left_out(collection):
    hits = collection.search(vector=[1, 0], min_score=0.9)
    assert names(hits) == [("story", 0), ("story", 1), ("facts", 0)]
    assert hits.complete
    assert not collection.search(vector=[1, 0], min_score=2)


def test_fusion_weighs_the_rankings(collection):
    def first(**options):
        return collection.hybrid_search("hound", [1, 0], k=1, **options)[0].document_id

    assert first(fusion="weighted", weights={"vector": 1}) == "story"
    assert first(fusion="weighted", weights={"keyword": 1}) == "film"
    assert first(weights={"vector": 0.1, "keyword": 3}) == "film"
    hit = collection.hybrid_search("hound", [0, 1], k=5, fusion="weighted")[0]
    assert (hit.document_id, hit.vector_rank, hit.keyword_rank) == ("film", 2, 1)
    vector, keyword = collection.vector_search([0, 1], 5), collection.keyword_search("hound", 5)
    low, high = vector.scores.min(), vector.scores.max()
    assert len(keyword) == 1
    assert hit.score == pytest.approx(0.5 * (hit.vector_score - low) / (high - low) + 0.5 * 1.0, rel=1e-5)


def test_a_plan_says_how(collection):
    assert collection.search("fox").plan is None
    plan = collection.search(
        "fox", vector=[1, 0], explain=True, where={"kind": "tale"}, mmr=0.5, rerank=lambda _q, t: [0.0] * len(t)
    ).plan
    assert plan["mode"] == "hybrid"
    assert plan["k"] == 10
    assert plan["filter"]["chunks"] == 3
    assert plan["vector"]["candidates"] == 3
    assert plan["vector"]["scan"] in {"rows", "blocks"}
    assert plan["keyword"]["expression"] == '"fox"'
    assert plan["keyword"]["dropped"] == 0
    assert plan["fusion"] | {"concurrent": None} == {
        "method": "rrf",
        "rrf_k": 60,
        "weights": {"vector": 1.0, "keyword": 1.0},
        "concurrent": None,
    }
    assert all(plan[stage]["ms"] >= 0 for stage in ("filter", "vector", "keyword", "read", "rerank", "mmr"))
    nowhere = " ".join(f"w{i}" for i in range(100))
    assert collection.hybrid_search(nowhere, [1, 0], explain=True).plan["keyword"]["expression"] == ""


def test_a_batch_answers_each_row(collection):
    queries = np.array([[1, 0], [0, 1], [0.8, 0.3]])
    batch = collection.search_batch(queries, 3)
    assert [hits.ids for hits in batch] == [collection.vector_search(query, 3).ids for query in queries]
    assert [len(hits) for hits in collection.search_batch(queries, 3, where={"kind": "tale"})] == [3, 3, 3]
    assert collection.search_batch(np.empty((0, 2))) == []
    with pytest.raises(ragstore.InvalidVectorError, match="row 1"):
        collection.search_batch([[1, 0], [0, 0]])


def test_a_store_is_searched_as_one(store, collection):
    other = store.create_collection("other")
    other.add_texts(["A fox in the snow."], [[0.95, 0.05]], ids=["snow"])
    store.create_collection("empty")
    hits = store.search(vector=[1, 0], k=3)
    assert [(hit.collection, hit.document_id) for hit in hits] == [("c", "story"), ("other", "snow"), ("c", "story")]
    assert hits.scores.tolist() == sorted(hits.scores.tolist(), reverse=True)
    hits = store.search("fox", collections=["other", "c", "other"], k=3)
    assert [(hit.collection, hit.score) for hit in hits] == [("c", 1.0), ("other", 1.0), ("c", 0.5)]
    assert hits[1].highlight("[", "]") == "A [fox] in the snow."
    assert store.search("fox", vector=[1, 0], k=1)[0].vector_rank is not None
    assert store.search("fox", collections=["empty"]).ids == []
    assert store.search("fox", collections=[]).ids == []
    store.create_collection("wide").add_texts(["x"], [[1, 0, 0]])
    with pytest.raises(ragstore.DimensionMismatchError, match=r"\"c\" \(2.*\"wide\" \(3"):
        store.search(vector=[1, 0])
    with pytest.raises(ragstore.CollectionNotFoundError):
        store.search("fox", collections=["nowhere"])
    with pytest.raises(TypeError, match="no embedder"):
        store.search("fox", mode="vector")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.search("a", include=["texts"]), ValueError, "include names 'texts'"),
        (lambda c: c.search("a", include="text"), TypeError, "include"),
        (lambda c: c.search("a", timeout=-1), ValueError, "timeout is -1"),
        (lambda c: c.search("a", timeout="1"), TypeError, "timeout is of type str"),
        (lambda c: c.search("a", recall=0), ValueError, "recall is 0"),
        (lambda c: c.search("a", mmr=1.5), ValueError, "mmr is 1.5"),
        (lambda c: c.search("a", mmr=0.5, fetch_k=2), ValueError, "fetch_k is 2"),
        (lambda c: c.search("a", group_by="uri"), ValueError, "group_by is 'uri'"),
        (lambda c: c.search("a", group_by="document", group_size=0), ValueError, "group_size"),
        (lambda c: c.search("a", window=3), TypeError, "window is 3"),
        (lambda c: c.search("a", window=(-1, 0)), ValueError, "window"),
        (lambda c: c.search("a", window=(10**6, 0)), ValueError, "window"),
        (lambda c: c.search("a", rerank=3), TypeError, "rerank is of type int"),
        (lambda c: c.search(vector=[1, 0], rerank=lambda _q, t: t), ValueError, "rerank takes a query text"),
        (lambda c: c.search("a", min_score=float("nan")), ValueError, "min_score is NaN"),
        (lambda c: c.hybrid_search("a", [1, 0], fusion="sum"), ValueError, "fusion is"),
        (lambda c: c.hybrid_search("a", [1, 0], weights={"text": 1}), ValueError, "weights name 'text'"),
        (lambda c: c.hybrid_search("a", [1, 0], weights={"vector": 0}), ValueError, "not both 0"),
        (lambda c: c.hybrid_search("a", [1, 0], weights={"vector": "1"}), TypeError, "weights"),
    ],
)
def test_arguments_are_checked_by_name(collection, call, error, message):
    with pytest.raises(error) as caught:
        call(collection)
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def large():
    """Large enough that one question takes a while: every text has every word of it."""
    rng = np.random.default_rng(1)
    with ragstore.open(derived="off") as store:
        collection = store.create_collection("c")
        words = [" ".join(rng.choice([f"w{i}" for i in range(60)], 60)) for _ in range(500)]
        collection.add_texts([words[i % 500] for i in range(20_000)], rng.standard_normal((20_000, 64)))
        yield collection


LONG = " ".join(f"w{i}" for i in range(60))


def test_a_timeout_is_typed_and_leaves_the_store_well(large):
    with pytest.raises(ragstore.QueryTimeoutError, match="nothing was ranked within"):
        large.search(LONG, timeout=0.001)
    with pytest.raises(TimeoutError):
        large.search(vector=np.ones(64), timeout=0)
    assert len(large.search("w1", timeout=60)) == 10


def test_what_was_ranked_in_time_is_given(large):
    vector = np.ones(64)
    begun = time.perf_counter()
    whole = large.hybrid_search(LONG, vector, explain=True)
    took = time.perf_counter() - begun
    if whole.plan["keyword"]["ms"] < 4 * whole.plan["vector"]["ms"]:
        pytest.skip("the words take no longer than the vectors here")
    hits = large.search(LONG, vector=vector, timeout=took / 2)
    assert not hits.complete
    assert hits.ids == large.vector_search(vector).ids
    assert "incomplete" in repr(hits)


def test_a_timeout_gives_the_best_of_all_or_nothing(large):
    """All chunks are of one document, but for a few at the end of every ranking: groups need all of it."""
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((20_001, 64)).astype(np.float32)
    many = large._store.create_collection("many")
    many.add([ragstore.Document(chunks=[ragstore.Chunk()] * 20_000, id="a"), ragstore.Document("x", id="b")], vectors)
    whole = many.search(vector=-vectors[-1], k=2, group_by="document", group_size=3)
    assert whole.complete
    assert [hit.document_id for hit in whole] == ["a", "a", "a", "b"]
    outcomes = set()
    for timeout in [0, *np.geomspace(0.0005, 1, 40), 60]:
        try:
            hits = many.search(vector=-vectors[-1], k=2, group_by="document", group_size=3, timeout=timeout)
        except ragstore.QueryTimeoutError:
            outcomes.add("nothing")
            continue
        outcomes.add("all" if hits.complete else "some")
        if hits.complete:
            assert hits.ids == whole.ids
        else:
            assert hits[0].rank == 1
            assert {hit.document_id for hit in hits} <= {"a", "b"}
    assert outcomes >= {"nothing", "all"}


def test_diversity_of_many_groups_can_be_interrupted(large):
    hits = large.search(vector=np.ones(64), k=4, mmr=0.5, fetch_k=4096, group_by="document", timeout=0.05)
    assert len(hits) == 4


def test_metadata_of_document_and_chunk_may_be_large_together(collection):
    half = {"a": "x" * 600_000}
    chunk = ragstore.Chunk("wide", metadata={"b": "y" * 600_000})
    collection.add([ragstore.Document(id="wide", chunks=[chunk], metadata=half)])
    assert len(collection.search("wide", k=1)[0].metadata) == 2


def test_a_key_of_the_chunk_hides_that_of_its_document(collection):
    chunk = ragstore.Chunk("lonely", metadata={"author": {"name": "Ann"}})
    both = {"author": {"email": "a@b"}, "year": 1}
    collection.add([ragstore.Document(id="hidden", chunks=[chunk], metadata=both)])
    for indexed in (False, True):
        if indexed:
            collection.create_index("author.email")
        assert collection.count({"author.email": "a@b"}) == 0
        assert collection.count({"author.name": "Ann", "year": 1}) == 1
    assert collection.search("lonely", k=1)[0].metadata == {"author": {"name": "Ann"}, "year": 1}


def test_diversity_of_words_compares_in_the_space_that_is_named(collection):
    collection.create_space("other", dimension=2)
    ids = [hit.id for hit in collection.keyword_search("fox", k=3)]
    with_none = collection.search("fox", mode="keyword", space="other", mmr=0.0, k=3)
    assert with_none.ids == ids
    with pytest.raises(ragstore.NotFoundError):
        collection.search("fox", mode="keyword", space="nowhere", mmr=0.0)


def test_signals_are_handled_while_a_search_runs(large):
    class EnoughError(Exception):
        pass

    handled = 0

    def handle(_number, _frame):
        nonlocal handled
        handled += 1
        # A search that looked at signals only when it is done would handle them once.
        if handled == 3:
            raise EnoughError

    stop = threading.Event()

    def press():
        while not stop.wait(0.02):
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, handle)
    presser = threading.Thread(target=press)
    presser.start()
    try:
        with pytest.raises(EnoughError):
            large.search_batch(np.ones((20_000, 64)))
    finally:
        stop.set()
        presser.join()
        signal.signal(signal.SIGINT, before)
    assert len(large.search("w1")) == 10
