"""Relations between chunks and documents, and walks over them."""

import itertools
import math

import networkx as nx
import pytest
import ragstore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture
def store():
    with ragstore.open() as store:
        yield store


@pytest.fixture
def collection(store):
    collection = store.create_collection("c")
    collection.add_texts(["one", "two", "three"], ids=["a", "b", "d"])
    return collection


def test_relations_are_listed_as_they_were_made(collection):
    collection.relate("a", "b", "cites", strength=0.5, metadata={"page": 1})
    collection.relate("b", "d", "cites")
    collection.relate("d", "a", "next")
    relation = collection.relations("a", direction="out")[0]
    assert (relation.source, relation.target, relation.type, relation.strength) == ("a", "b", "cites", 0.5)
    assert relation.metadata == {"page": 1}
    assert relation.created_at.tzinfo is not None
    assert [r.type for r in collection.relations("a")] == ["cites", "next"]
    assert [r.source for r in collection.relations("a", direction="in")] == ["d"]
    assert collection.relations("a", type="next") == collection.relations("a", direction="in")
    collection.relate("a", "b", "cites", strength=0.25)
    again = collection.relations("a", direction="out")[0]
    assert (again.strength, again.metadata, again.created_at) == (0.25, {}, relation.created_at)
    assert (collection.unrelate("a", "b"), collection.unrelate("a", "b")) == (1, 0)


def test_relations_go_with_what_they_relate(store, collection):
    collection.relate("a", "b", "t")
    collection.relate("b", "d", "t")
    collection.delete(["b"])
    assert collection.relations("a") == collection.relations("d") == []
    collection.add(
        [ragstore.Document("x", id="doc", chunks=[ragstore.Chunk("x", id="x1"), ragstore.Chunk("y", id="y1")])]
    )
    collection.relate("doc", "a", "t")
    collection.relate("x1", "y1", "t")
    collection.delete(["x1"])
    assert collection.relations("y1") == []
    assert len(collection.relations("doc")) == 1
    collection.delete(["y1"])
    assert collection.relations("a") == []


def test_a_transaction_relates(store, collection):
    with store.transaction() as tx:
        tx["c"].add_texts(["new"], ids=["n"])
        tx["c"].relate("n", "a", "t", strength=0.5)
        cut = tx["c"].unrelate("n", "b")
    assert [r.target for r in collection.relations("n")] == ["a"]
    assert cut.result == 0
    with pytest.raises(ragstore.NotFoundError, match='"nowhere"'), store.transaction() as tx:
        tx["c"].relate("a", "b", "t")
        tx["c"].relate("a", "nowhere", "t")
    assert collection.relations("b") == []


def test_networkx_has_all_of_it(collection):
    collection.relate("a", "b", "cites", strength=0.5, metadata={"page": 1})
    collection.relate("a", "b", "next")
    graph = collection.to_networkx()
    assert sorted(graph.edges(keys=True)) == [("a", "b", "cites"), ("a", "b", "next")]
    assert graph["a"]["b"]["cites"]["strength"] == 0.5
    assert graph["a"]["b"]["cites"]["page"] == 1
    names = {"key": 1, "u_for_edge": 2, "self": 3, "strength": 4}
    collection.relate("b", "a", "odd", metadata=names)
    edge = collection.to_networkx(type="odd")["b"]["a"]["odd"]
    assert {name: edge[name] for name in names} == names | {"strength": 1.0}
    collection.unrelate("b", "a")
    assert list(collection.to_networkx(type="next").edges(keys=True)) == [("a", "b", "next")]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.relate("a", "nowhere", "t"), ragstore.DocumentNotFoundError, '"nowhere"'),
        (lambda c: c.relate("a", "a", "t"), ValueError, "both"),
        (lambda c: c.relate("a", "b", ""), ValueError, "type"),
        (lambda c: c.relate("a", "b", "t", strength=1.5), ValueError, "strength is 1.5"),
        (lambda c: c.relate("a", "b", "t", strength="1"), TypeError, "strength"),
        (lambda c: c.relate("a", "b", "t", strength=10**400), ValueError, "strength is an int that no float holds"),
        (lambda c: c.relate("a", "b", "t", metadata=[]), TypeError, "metadata"),
        (lambda c: c.relate(1, "b", "t"), TypeError, "source"),
        (lambda c: c.relations("a", direction="up"), ValueError, "direction"),
        (lambda c: c.related("a"), TypeError, "ids"),
        (lambda c: c.related(["a"], depth=100), ValueError, "depth is 100"),
        (lambda c: c.related(["a"], min_strength=float("nan")), ValueError, "min_strength"),
        (lambda c: c.related(["a"], min_strength=1.5), ValueError, "min_strength is 1.5; it is from 0 to 1"),
        (lambda c: c.related(["a"], min_strength=-0.5), ValueError, "min_strength is -0.5"),
    ],
)
def test_arguments_are_checked(collection, call, error, message):
    with pytest.raises(error) as caught:
        call(collection)
    assert message in str(caught.value)
    assert collection.relations("a") == []


nodes = [f"n{i}" for i in range(7)]
strengths = st.sampled_from([0.0, 0.25, 0.5, 1.0])
edges = st.lists(
    st.tuples(st.sampled_from(nodes), st.sampled_from(nodes), st.sampled_from("tu"), strengths), max_size=18
).map(lambda made: {(s, t, k): strength for s, t, k, strength in made if s != t})


def steps_of(edges, direction, types):
    """The strongest relation from one id to another, as a walk follows it."""
    steps = {}
    for (source, target, kind), strength in edges.items():
        if types is None or kind in types:
            ways = {"out": [(source, target)], "in": [(target, source)], "both": [(source, target), (target, source)]}
            for way in ways[direction]:
                steps[way] = max(strength, steps.get(way, 0.0))
    return steps


def strength_of(path, steps):
    return math.prod(steps[way] for way in itertools.pairwise(path))


def reachable(steps, start, depth, least):
    """By all paths there are: strength, hops and id, the strongest first."""
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(steps)
    best = {}
    for first, node in itertools.product(start, set(nodes) - start):
        for path in nx.all_simple_paths(graph, first, node, cutoff=depth) if depth else []:
            if strength_of(path, steps) >= least:
                best[node] = max(best.get(node, (-1.0, 0)), (strength_of(path, steps), -(len(path) - 1)))
    return sorted((-strength, -hops, node) for node, (strength, hops) in best.items())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(
    edges=edges,
    start=st.sets(st.sampled_from(nodes), max_size=2),
    depth=st.integers(0, 4),
    direction=st.sampled_from(["out", "in", "both"]),
    types=st.sampled_from([None, ["t"], ["t", "u"], []]),
    least=st.sampled_from([0.0, 0.25, 0.3]),
)
def test_walks_are_those_over_all_paths(store, edges, start, depth, direction, types, least):
    collection = store.create_collection("g")
    try:
        collection.add_texts(nodes, ids=nodes)
        for (source, target, kind), strength in edges.items():
            collection.relate(source, target, kind, strength=strength)
        found = collection.related(sorted(start), depth=depth, types=types, min_strength=least, direction=direction)
    finally:
        store.delete_collection("g")
    steps = steps_of(edges, direction, types)
    assert [(-r.strength, r.depth, r.id) for r in found] == reachable(steps, start, depth, least)
    for r in found:
        assert (r.path[0] in start, r.path[-1], len(r.path)) == (True, r.id, r.depth + 1)
        assert strength_of(r.path, steps) == r.strength
