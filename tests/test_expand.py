"""Searches that add neighbors in the graph to their hits."""

import itertools
import math
from datetime import UTC, datetime, timedelta

import pytest
import ragstore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.replicas import clock

NEVER = (2**62, 2**62, True)
# From one row on, built anew for each change, and waited for.
ALWAYS = (0, 0, True)
# What ends between the building of a world and the searches in it.
SOON = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def store():
    with ragstore.open() as store:
        yield store


@pytest.fixture
def papers(store):
    """Papers of three chunks that say "alpha", "beta" and "gamma" of each."""
    papers = store.create_collection("papers")
    for number, id in enumerate(["a", "b", "d", "e"]):
        chunks = [
            ragstore.Chunk(f"{word} {id}", id=f"{id}{place}") for place, word in enumerate(["alpha", "beta", "gamma"])
        ]
        rows = [[math.cos(number + place / 4), math.sin(number + place / 4)] for place in range(3)]
        metadata = {"paper": id, "old": number < 2}
        papers.add(ragstore.Document(id=id, uri=f"{id}.pdf", metadata=metadata, chunks=chunks), rows)
    return papers


def told(hits):
    return [(hit.id, hit.path) for hit in hits]


def test_neighbors_come_beside_the_hits(papers):
    papers.relate("a", "d", "cites", strength=0.5)
    papers.relate("e1", "a0", "cites")
    plain = papers.search(vector=[1, 0], k=1)
    assert told(papers.search(vector=[1, 0], k=1, expand={})) == [("a0", None), ("e1", ("a0", "e1"))]
    hits = papers.search(vector=[1, 0], k=1, expand={"limit": 9})
    assert told(hits) == [("a0", None), ("e1", ("a0", "e1")), ("d0", ("a", "d"))]
    hit, *neighbors = hits
    assert (hit.score, hit.rank, hit.distance) == (plain[0].score, 1, plain[0].distance)
    assert [n.score for n in neighbors] == [0.3 * hit.score, 0.3 * 0.5 * hit.score]
    for n in neighbors:
        assert (n.rank, n.distance, n.vector_rank, n.vector_score, n.keyword_rank, n.keyword_score) == (None,) * 6
    assert [(n.text, n.document_id, n.uri, n.index) for n in neighbors] == [
        ("beta e", "e", "e.pdf", 1),
        ("alpha d", "d", "d.pdf", 0),
    ]
    assert neighbors[0].metadata == {"paper": "e", "old": False}
    assert papers.search(vector=[1, 0], k=1).ids == ["a0"]


def test_neighbors_are_merged_by_score(papers):
    papers.relate("a0", "e2", "next", strength=0.9)
    hits = papers.search(vector=[1, 0], k=4, expand={"weight": 1.0})
    assert hits.ids[:2] == ["a0", "a1"]
    assert list(hits.scores) == sorted(hits.scores, reverse=True)
    assert hits.ids.index("e2") == 2
    assert len(hits) == 5


def test_each_chunk_is_there_once_with_its_best_score(papers):
    # The second hit is the nearer one by its relations, the first passes more on.
    papers.relate("a0", "e0", "t", strength=0.5)
    papers.relate("a1", "e0", "t", strength=0.6)
    papers.relate("a1", "e", "t", strength=0.4)
    papers.relate("a0", "a1", "t")
    hits = papers.search(vector=[1, 0], k=2, expand={"weight": 1.0})
    assert told(hits) == [("a0", None), ("a1", None), ("e0", ("a1", "e0"))]
    assert hits[2].score == 0.6 * hits[1].score
    # A way may lead over a hit, and be the better for where it began.
    papers.unrelate("a0", "e0")
    hits = papers.search(vector=[1, 0], k=2, expand={"weight": 1.0, "depth": 2})
    assert told(hits)[2] == ("e0", ("a0", "a1", "e0"))
    assert hits[2].score == 0.6 * hits[0].score


def test_documents_of_hits_are_no_neighbors(papers):
    papers.relate("a", "b", "t")
    assert papers.search("beta", k=4, expand={"depth": 3}).ids == papers.search("beta", k=4).ids


def test_filters_hold_for_neighbors_and_not_for_what_leads_to_them(papers):
    papers.relate("a0", "d", "t")
    papers.relate("d", "b2", "t")
    papers.relate("d", "e", "t")
    hits = papers.search(vector=[1, 0], k=1, where={"old": True}, expand={"depth": 2})
    assert told(hits) == [("a0", None), ("b2", ("a0", "d", "b2"))]
    # A document stands for the first of its chunks that the filter lets through.
    hits = papers.search("beta", k=1, where={"index": {"$gte": 1}}, expand={"direction": "in", "types": ["u"]})
    assert len(hits) == 1
    papers.relate("b", "a", "u")
    hits = papers.search("beta", k=1, where={"index": {"$gte": 1}}, expand={"direction": "in", "types": ["u"]})
    assert told(hits) == [("a1", None), ("b1", ("a", "b"))]
    papers.create_index("old")
    hits = papers.search(vector=[1, 0], k=1, where={"old": True}, expand={"depth": 2, "direction": "out"})
    assert hits.ids == ["a0", "b2"]


def test_a_chunk_comes_before_a_document_of_its_name(store):
    names = store.create_collection("names")
    names.add(
        [
            ragstore.Document(id="one", chunks=[ragstore.Chunk("word", id="hit")]),
            ragstore.Document(id="two", chunks=[ragstore.Chunk("x", id="x1"), ragstore.Chunk("y", id="three")]),
            ragstore.Document(id="three", chunks=[ragstore.Chunk("z", id="z1")], metadata={"kind": "z"}),
        ]
    )
    names.relate("one", "three", "t")
    assert names.search("word", expand={}).ids == ["hit", "three"]
    assert names.search("word", where={"$or": [{"kind": "z"}, {"id": "hit"}]}, expand={}).ids == ["hit", "z1"]


def test_what_expired_or_was_deleted_is_no_neighbor_and_on_no_way(papers):
    papers.relate("a0", "b", "t")
    papers.relate("b", "d", "t")
    papers.relate("a0", "e", "t", strength=0.1)
    both = {"depth": 2, "limit": 5}
    assert papers.search(vector=[1, 0], k=1, expand=both).ids == ["a0", "b0", "d0", "e0"]
    chunks = [ragstore.Chunk("x", id="b0", expires_at=SOON), ragstore.Chunk("y", id="b1")]
    papers.add(ragstore.Document(id="b", chunks=chunks), on_conflict="replace")
    assert papers.search(vector=[1, 0], k=1, expand=both).ids == ["a0", "b0", "d0", "e0"]
    with clock(172_800):
        assert papers.search(vector=[1, 0], k=1, expand=both).ids == ["a0", "b1", "d0", "e0"]
    papers.add(ragstore.Document("gone", id="b", expires_at=SOON), on_conflict="replace")
    assert len(papers.search(vector=[1, 0], k=1, expand=both)) == 4
    with clock(172_800):
        assert papers.search(vector=[1, 0], k=1, expand=both).ids == ["a0", "e0"]
    papers.delete(document_ids=["b"])
    assert papers.search(vector=[1, 0], k=1, expand=both).ids == ["a0", "e0"]


def test_neighbors_are_those_of_what_is_given_in_the_end(papers):
    papers.relate("a2", "e0", "t")
    papers.relate("b0", "d0", "t")
    expand = {"weight": 0.5}

    def last(question, texts):
        assert question == "alpha beta gamma"
        return [{"gamma a": 2.0, "alpha b": -1.0}.get(text, -3.0) for text in texts]

    hits = papers.search("alpha beta gamma", k=2, rerank=last, fetch_k=12, expand=expand)
    assert told(hits) == [("a2", None), ("e0", ("a2", "e0")), ("b0", None), ("d0", ("b0", "d0"))]
    assert hits.scores.tolist() == [2.0, 1.0, -1.0, -1.5]
    assert papers.search(vector=[1, 0], k=2, mmr=1.0, fetch_k=5, expand=expand).ids == ["a0", "a1"]
    grouped = papers.search(vector=[1, 0], k=2, group_by="document", group_size=3, expand=expand)
    assert told(grouped)[-2:] == [("e0", ("a2", "e0")), ("d0", ("b0", "d0"))]
    least = papers.search(vector=[1, 0], k=3, min_score=0.85, expand={"weight": 0.1})
    assert told(least) == [("a0", None), ("a1", None), ("a2", None), ("e0", ("a2", "e0"))]


def test_groups_stay_together(papers):
    papers.relate("a0", "e0", "t", strength=0.9)
    papers.relate("a0", "d0", "t", strength=0.01)
    hits = papers.search(vector=[1, 0], k=2, group_by="document", group_size=3, expand={"weight": 1.0})
    assert hits.ids == ["a0", "a1", "a2", "e0", "b0", "b1", "b2", "d0"]
    # Among the hits that are not grouped its place is that of its score.
    hits = papers.search(vector=[1, 0], k=6, expand={"weight": 1.0})
    assert hits.ids == ["a0", "a1", "e0", "a2", "b0", "b1", "b2", "d0"]


def test_what_is_gone_after_rerank_is_left_out(papers):
    papers.relate("a0", "d", "t")
    papers.relate("a0", "e", "t")

    def meanwhile(question, texts):
        papers.delete(document_ids=["d"])
        return [float(text == "alpha a") for text in texts]

    assert papers.search("alpha", k=1, rerank=meanwhile, expand={}).ids == ["a0", "e0"]

    def all_of_it(question, texts):
        papers._store.delete_collection("papers")
        return [1.0] * len(texts)

    assert papers.search("alpha", k=1, rerank=all_of_it, expand={}).ids == ["a0"]


def test_parts_and_windows_are_those_of_hits(papers):
    papers.relate("a0", "d1", "t")
    hits = papers.search("alpha", vector=[1, 0], k=1, window=(1, 1), expand={})
    assert hits[1].text == "alpha d\nbeta d\ngamma d"
    assert hits[1].highlight() == "<b>alpha</b> d\nbeta d\ngamma d"
    bare = papers.search(vector=[1, 0], k=1, include=[], expand={})[1]
    assert (bare.id, bare.text, bare.metadata) == ("d1", None, {})


def test_hits_tell_their_paths(papers):
    papers.relate("a", "d1", "t")
    hits = papers.search(vector=[1, 0], k=1, expand={})
    assert repr(hits[1]).endswith(', path=("a", "d1"))')
    assert "path" not in repr(hits[0])
    assert "d.pdf#1 via a  beta d" in repr(hits)
    assert "d.pdf#1 via a<" in hits._repr_html_()
    frame = hits.to_pandas()
    assert [frame["path"][0], frame["path"][1]] == [None, ("a", "d1")]
    assert [frame[name].isna().tolist() for name in ("rank", "distance")] == [[False, True]] * 2
    assert hits.to_arrow()["path"].to_pylist() == [None, ["a", "d1"]]


def test_the_plan_has_a_stage(papers):
    papers.relate("a", "d1", "t")
    papers.relate("a0", "e", "t")
    papers.relate("d1", "b", "u")
    plan = papers.search(vector=[1, 0], k=1, where={"old": False, "paper": {"$ne": "a"}}, expand={}, explain=True).plan
    assert plan["expand"].keys() == {"seeds", "found", "added", "ms"}
    plan = papers.search(vector=[1, 0], k=1, expand={"limit": 1}, explain=True).plan
    assert (plan["expand"]["seeds"], plan["expand"]["found"], plan["expand"]["added"]) == (2, 2, 1)
    assert "expand" not in papers.search(vector=[1, 0], k=1, explain=True).plan


def test_without_relations_nothing_is_added(papers):
    plan = papers.search("alpha", expand={}, explain=True).plan["expand"]
    assert (plan["found"], plan["added"]) == (0, 0)
    assert papers.search("nothing", expand={}).ids == []


def test_a_hub_gives_its_neighbors_in_order(store):
    hub = store.create_collection("hub")
    hub.add_texts(["hub", *("spoke" for _ in range(300))], ids=["hub", *(f"s{999 - i}" for i in range(300))])
    with store.transaction() as tx:
        for i in range(300):
            tx["hub"].relate(f"s{999 - i}", "hub", "of")
    hits = hub.search("hub", expand={"limit": 200})
    assert hits.ids == ["hub", *(f"s{999 - i}" for i in range(200))]
    assert hub.search("hub", k=7, expand={}).ids == hits.ids[:8]


def test_a_timeout_leaves_what_was_ranked(store):
    """The scorer takes longer than the search may; what the graph would add is not looked for."""
    papers = store.create_collection("papers")
    papers.add_texts(["alpha", "beta"], ids=["a", "b"])
    papers.relate("a", "b", "t")

    def slow(question, texts):
        waited = datetime.now(UTC) + timedelta(seconds=0.5)
        while datetime.now(UTC) < waited:
            pass
        return [1.0] * len(texts)

    hits = papers.search("alpha", rerank=slow, timeout=0.5, expand={}, explain=True)
    assert (hits.ids, hits.complete, hits.plan["expand"]["added"]) == (["a"], False, 0)
    hits = papers.search("alpha", rerank=slow, timeout=60, expand={})
    assert (hits.ids, hits.complete) == (["a", "b"], True)


@pytest.mark.parametrize(
    ("expand", "error", "message"),
    [
        (3, TypeError, "expand is of type int"),
        ([("depth", 1)], TypeError, "expand is of type list"),
        ({"hops": 2}, ValueError, "expand has the key 'hops'; its keys are \"depth\""),
        ({"depth": 0}, ValueError, 'expand["depth"] is 0'),
        ({"depth": 33}, ValueError, 'expand["depth"] is 33; from 1 to 32'),
        ({"depth": 1.5}, TypeError, 'expand["depth"] is of type float'),
        ({"weight": 0}, ValueError, 'expand["weight"] is 0; it is more than 0'),
        ({"weight": 1.01}, ValueError, 'expand["weight"] is 1.01'),
        ({"weight": float("nan")}, ValueError, 'expand["weight"] is NaN'),
        ({"weight": "1"}, TypeError, 'expand["weight"] is of type str'),
        ({"types": "cites"}, TypeError, 'expand["types"] is of type str'),
        ({"types": [1]}, TypeError, 'expand["types"][0] is of type int'),
        ({"direction": "up"}, ValueError, 'expand: direction is "up"'),
        ({"direction": None}, TypeError, 'expand["direction"] is of type NoneType'),
        ({"min_strength": -0.1}, ValueError, 'expand["min_strength"] is -0.1; it is from 0 to 1'),
        ({"min_strength": None}, TypeError, 'expand["min_strength"] is of type NoneType'),
        ({"limit": 0}, ValueError, 'expand["limit"] is 0'),
        ({"limit": 4097}, ragstore.LimitError, 'expand["limit"] is 4097'),
        ({"limit": -1}, ValueError, 'expand["limit"] is -1'),
    ],
)
def test_arguments_are_checked_by_name(papers, expand, error, message):
    with pytest.raises(error) as caught:
        papers.search("alpha", expand=expand)
    assert message in str(caught.value)


# A small world: documents of some chunks, which may be gone, and relations between any two ids.

WORDS = ["fox", "dog", "cat"]
DOCUMENTS = {"A": ["a", "b"], "B": ["c"], "d": ["d"], "E": ["e", "f", "g"], "H": []}
IDS = list(dict.fromkeys([*DOCUMENTS, *itertools.chain(*DOCUMENTS.values())]))
ENDS = {"living": None, "expired": SOON}


@st.composite
def worlds(draw):
    """What is stored: of each chunk its text, its vector, its colour, and whether it has expired, and the relations."""
    chunks = {}
    for document, ids in DOCUMENTS.items():
        for id in ids:
            chunks[id] = {
                "document": document,
                "text": " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))),
                "vector": draw(st.sampled_from([(1, 0), (1, 1), (0, 1), (-1, 1), (-2, 0), (0.5, -1)])),
                "colour": draw(st.sampled_from(["red", "blue"])),
                "end": draw(st.sampled_from(["living"] * 5 + ["expired"])),
            }
    ends = {document: draw(st.sampled_from(["living"] * 7 + ["expired"])) for document in DOCUMENTS}
    strengths = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])
    pairs = st.tuples(st.sampled_from(IDS), st.sampled_from(IDS), st.sampled_from("tu"), strengths)
    made = draw(st.lists(pairs, max_size=16))
    return chunks, ends, {(s, t, kind): strength for s, t, kind, strength in made if s != t}


searches = st.fixed_dictionaries(
    {"k": st.integers(1, 4)},
    optional={
        "where": st.sampled_from([{"colour": "red"}, {"colour": {"$ne": "red"}}, {"index": {"$gte": 1}}]),
        "min_score": st.sampled_from([-0.5, 0.1]),
        "mmr": st.sampled_from([0.2, 0.8]),
        "group_by": st.just("document"),
        "group_size": st.integers(1, 2),
    },
)
modes = st.sampled_from(["vector", "keyword", "hybrid", "rerank"])
expansions = st.fixed_dictionaries(
    {},
    optional={
        "depth": st.integers(1, 3),
        "weight": st.sampled_from([0.3, 0.5, 1.0]),
        "types": st.sampled_from([["t"], ["t", "u"], []]),
        "direction": st.sampled_from(["both", "out", "in"]),
        "min_strength": st.sampled_from([0.0, 0.25, 0.4]),
        "limit": st.integers(1, 3),
    },
)


def signed(question, texts):
    """Scores of both signs, alike for some."""
    return [float(len(text) % 5 - 2) for text in texts]


class Model:
    """Neighbors by all ways there are, none of them over an id twice."""

    def __init__(self, world):
        self.chunks, self.ends, self.relations = world
        self.order = [id for ids in DOCUMENTS.values() for id in ids]

    def living(self, id):
        chunk = self.chunks.get(id)
        return (chunk is not None and chunk["end"] == self.ends[chunk["document"]] == "living") or (
            self.ends.get(id) == "living"
        )

    def matches(self, id, where):
        chunk = self.chunks[id]
        place = DOCUMENTS[chunk["document"]].index(id)
        if where is None:
            return True
        if "index" in where:
            return place >= 1
        return (chunk["colour"] == "red") == (where["colour"] == "red")

    def stands_for(self, id, where):
        """The chunk that an id is, or the first of its document's."""
        for chunk in [id, *DOCUMENTS.get(id, [])]:
            if chunk in self.chunks:
                own = self.chunks[chunk]
                gone = own["end"] == "expired" or self.ends[own["document"]] == "expired"
                if not gone and self.matches(chunk, where):
                    return chunk
        return None

    def steps(self, direction, types):
        found = {}
        for (source, target, kind), strength in self.relations.items():
            if types is None or kind in types:
                ways = {"out": [(source, target)], "in": [(target, source)]}
                for one, other in ways.get(direction, ways["out"] + ways["in"]):
                    if self.living(one) and self.living(other):
                        found[one, other] = max(strength, found.get((one, other), 0.0))
        return found

    def neighbors(
        self, hits, where, k, depth=1, weight=0.3, types=None, direction="both", min_strength=0.0, limit=None
    ):
        """Their names, scores and the lengths of their ways, best first."""
        steps = self.steps(direction, types)
        begins = {id for hit in hits for id in (hit.id, hit.document_id)}
        best = {}

        def go(path, strength, score):
            for (one, other), own in steps.items():
                if one != path[-1] or other in path or strength * own < min_strength:
                    continue
                share = weight * (strength * own)
                left = score * share if score >= 0 else score * (2 - share)
                if other not in begins:
                    best[other] = min(best.get(other, (math.inf, 0)), (-left, len(path)))
                if len(path) < depth:
                    go([*path, other], strength * own, score)

        for hit in hits:
            for id in {hit.id, hit.document_id}:
                go([id], 1.0, hit.score)
        chunks = {}
        for id, way in best.items():
            chunk = self.stands_for(id, where)
            if chunk is not None and chunk not in {hit.id for hit in hits}:
                chunks[chunk] = min(chunks.get(chunk, (math.inf, 0)), way)
        ordered = sorted((way, self.order.index(chunk)) for chunk, way in chunks.items())
        return [(self.order[row], -left, length) for (left, length), row in ordered][: k if limit is None else limit]


def build(store, world, metric):
    chunks, ends, relations = world
    collection = store.create_collection("world", metric=metric)
    for document, ids in DOCUMENTS.items():
        made = [
            ragstore.Chunk(
                chunks[id]["text"],
                id=id,
                metadata={"colour": chunks[id]["colour"]},
                expires_at=ENDS[chunks[id]["end"]],
            )
            for id in ids
        ]
        rows = [chunks[id]["vector"] for id in ids] if ids else None
        collection.add(ragstore.Document(id=document, chunks=made, expires_at=ENDS[ends[document]]), rows)
    for (source, target, kind), strength in relations.items():
        collection.relate(source, target, kind, strength=strength)
    return collection


@pytest.mark.parametrize("index_at", [NEVER, ALWAYS], ids=["tables", "indexes"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(world=worlds(), metric=st.sampled_from(["cosine", "l2", "ip"]), mode=modes, search=searches, expand=expansions)
def test_neighbors_are_those_by_all_ways(monkeypatch, index_at, world, metric, mode, search, expand):
    monkeypatch.setattr(ragstore.store, "_INDEX_AT", index_at)
    with ragstore.open() as store:
        collection = build(store, world, metric)
        asked = {
            "vector": {"vector": [1.0, 0.25], "mode": "vector"},
            "keyword": {"text": "fox dog"},
            "hybrid": {"text": "fox", "vector": [1.0, 0.25]},
            "rerank": {"text": "fox cat", "rerank": signed},
        }[mode]
        with clock(172_800):
            hits = collection.search(**asked, **search)
            both = collection.search(**asked, **search, expand=expand)
    model = Model(world)
    found = [hit for hit in both if hit.path is None]
    assert [(hit.id, hit.score, hit.rank) for hit in found] == [(hit.id, hit.score, hit.rank) for hit in hits]
    neighbors = [hit for hit in both if hit.path is not None]
    where, k = search.get("where"), search["k"]
    expected = model.neighbors(hits, where, k, **expand)
    assert [(hit.id, hit.score, len(hit.path) - 1) for hit in neighbors] == expected
    steps = model.steps(expand.get("direction", "both"), expand.get("types"))
    for hit in neighbors:
        assert model.living(hit.id)
        assert hit.path[-1] in {hit.id, hit.document_id}
        strength = math.prod(steps[step] for step in itertools.pairwise(hit.path))
        share = expand.get("weight", 0.3) * strength
        begun = [h.score for h in hits if hit.path[0] in {h.id, h.document_id}]
        assert any(hit.score == (score * share if score >= 0 else score * (2 - share)) for score in begun)
        # It stands before the first hit, or document, that scores less.
        after = both[list(both).index(hit) + 1 :]
        behind = next((h for h in after if h.path is None), None)
        assert behind is None or behind.score < hit.score
    if "mmr" not in search and "group_by" not in search:
        assert list(both.scores) == sorted(both.scores, reverse=True)
