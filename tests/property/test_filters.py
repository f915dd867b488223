"""Any filter over any metadata, against a plain evaluator; with an index and without."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
import ragstore
from hypothesis import HealthCheck, given, settings

# What is stored and what is asked for come from the same few values, so that they meet.
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "straße",
    "STRASSE",
    "100%",
    "a_b",
    "é",
    "2024-01-01",
    "2024-01-01T01:00:00+01:00",
    "2023-12-31",
]
NUMBERS = [0, 1, -1, 1.0, 0.5, -0.5, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 1e300]
SCALARS = [None, True, False, *NUMBERS, *TEXTS]
KEYS = ["a", "ключ", 'it\'s "x"']

scalars = st.sampled_from(SCALARS)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.sampled_from(KEYS), st.one_of(scalars, st.lists(scalars, max_size=2)), max_size=2),
)
metadata = st.dictionaries(st.sampled_from(KEYS), values, max_size=2)
documents = st.lists(st.tuples(metadata, st.lists(metadata, min_size=1, max_size=3)), min_size=3, max_size=6)
ordered = st.sampled_from([*NUMBERS, *TEXTS])
paths = st.one_of(
    st.just("a"), st.sampled_from(KEYS), st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)).map(".".join)
)
tests = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne", "$contains"]), scalars),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(scalars, max_size=3)),
    st.tuples(
        st.just("$between"),
        st.one_of(*(st.tuples(x, x).map(list) for x in (st.sampled_from(NUMBERS), st.sampled_from(TEXTS[:7])))),
    ),
    st.tuples(
        st.sampled_from(["$like", "$ilike"]),
        st.sampled_from(["", "%", "a%", "%B", "_", "a\\_b", "100\\%", "STRASS%", "%ß%"]),
    ),
    st.tuples(st.just("$exists"), st.booleans()),
)
leaves = st.one_of(
    st.tuples(paths, scalars).map(lambda pair: {pair[0]: pair[1]}),
    st.tuples(paths, tests).map(lambda pair: {pair[0]: dict([pair[1]])}),
    st.tuples(paths, tests).map(lambda pair: {pair[0]: {"$not": dict([pair[1]])}}),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda all_: {"$and": all_}),
        st.lists(inner, min_size=1, max_size=3).map(lambda any_: {"$or": any_}),
        inner.map(lambda one: {"$not": one}),
    ),
    max_leaves=4,
)

MISSING = object()


def at(path, data):
    for key in path.split("."):
        if not isinstance(data, dict) or key not in data:
            return MISSING
        data = data[key]
    return data


def moment(text):
    """The moment of a text that is a date."""
    if not isinstance(text, str) or not re.match(r"\d{4}-\d{2}-\d{2}", text):
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def kind(value):
    return bool if isinstance(value, bool) else float if isinstance(value, (int, float)) else type(value)


def equal(value, wanted):
    return kind(value) is kind(wanted) and value == wanted


def in_order(value, operator, wanted):
    if moment(wanted) is not None:
        value, wanted = moment(value), moment(wanted)
        if value is None:
            return False
    elif kind(value) is not kind(wanted):
        return False
    return {"$gt": value > wanted, "$gte": value >= wanted, "$lt": value < wanted, "$lte": value <= wanted}[operator]


def like(text, pattern, *, fold):
    if not isinstance(text, str):
        return False
    if fold:
        text, pattern = ("".join(c.lower() for c in s.upper()) for s in (text, pattern))
    tokens = re.findall(r"\\.|.", pattern, re.DOTALL)
    parts = [".*" if t == "%" else "." if t == "_" else re.escape(t[-1]) for t in tokens]
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def passes(value, operator, operand):  # noqa: C901
    if operator == "$exists":
        return (value is not MISSING) == operand
    if operator == "$ne":
        return not passes(value, "$eq", operand)
    if operator == "$nin":
        return not passes(value, "$in", operand)
    if operator == "$not":
        return not all(passes(value, *item) for item in operand.items())
    if operator == "$contains":
        if isinstance(value, list):
            return any(equal(item, operand) for item in value)
        return isinstance(value, str) and isinstance(operand, str) and operand in value
    if value is MISSING or isinstance(value, dict):
        return False
    each = [item for item in value if not isinstance(item, (list, dict))] if isinstance(value, list) else [value]
    if operator == "$eq":
        return any(equal(item, operand) for item in each)
    if operator == "$in":
        return any(equal(item, wanted) for item in each for wanted in operand)
    if operator == "$between":
        return any(in_order(item, "$gte", operand[0]) and in_order(item, "$lte", operand[1]) for item in each)
    if operator in ("$like", "$ilike"):
        return any(like(item, operand, fold=operator == "$ilike") for item in each)
    return any(in_order(item, operator, operand) for item in each)


def matches(filter, chunk, document):
    def field(path, condition):
        value = at(path, document | chunk)
        if isinstance(condition, dict):
            return all(passes(value, *item) for item in condition.items())
        return passes(value, "$eq", condition)

    results = []
    for key, value in filter.items():
        if key == "$and":
            results.append(all(matches(part, chunk, document) for part in value))
        elif key == "$or":
            results.append(any(matches(part, chunk, document) for part in value))
        elif key == "$not":
            results.append(not matches(value, chunk, document))
        else:
            results.append(field(key, value))
    return all(results)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(
    data=documents,
    asked=st.lists(st.one_of(leaves, filters), min_size=6, max_size=16),
    indexed=st.sets(paths, max_size=3),
    change=metadata,
)
def test_filters_are_those_of_the_evaluator(store, data, asked, indexed, change):
    name = f"c{len(store)}"
    collection = store.create_collection(name)
    try:
        early = {path for path in indexed if len(path) % 2}
        for path in early:
            collection.create_index(path)
        collection.add(
            [
                ragstore.Document(
                    id=str(i),
                    metadata=whole,
                    chunks=[ragstore.Chunk("w", id=f"{i}.{j}", metadata=own) for j, own in enumerate(parts)],
                )
                for i, (whole, parts) in enumerate(data)
            ]
        )
        for path in indexed - early:
            collection.create_index(path)
        held = {f"{i}.{j}": (own, whole) for i, (whole, parts) in enumerate(data) for j, own in enumerate(parts)}
        compare(collection, held, asked)
        # After a change of both metadata, a deletion and the end of an index the answers are still true.
        collection.update_metadata(change, document_ids=["0"])
        collection.update_metadata(change, chunk_ids=["0.0"], mode="replace")
        held = {id: (own, whole | change if id.startswith("0.") else whole) for id, (own, whole) in held.items()}
        held["0.0"] = (change, held["0.0"][1])
        if len(data) > 1:
            collection.delete(document_ids=["1"])
            held = {id: both for id, both in held.items() if not id.startswith("1.")}
        if early:
            collection.drop_index(min(early))
        compare(collection, held, asked)
    finally:
        store.delete_collection(name)


def compare(collection, held, asked):
    for filter in asked:
        expected = {id for id, (own, whole) in held.items() if matches(filter, own, whole)}
        assert collection.count(filter) == len(expected), filter
        hits = collection.keyword_search("w", k=100, where=filter)
        assert set(hits.ids) == expected, filter
        documents = {document.id for document in collection.list_documents(filter)}
        assert documents == {id.split(".")[0] for id in expected}, filter


@pytest.fixture(scope="module")
def store():
    with ragstore.open() as store:
        yield store
