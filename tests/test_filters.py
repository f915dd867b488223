"""Filters on a small shop, errors that name their place, and the indexes of metadata."""

import os
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
import ragstore

SHOP = {
    "kettle": {
        "title": "Cordless Kettle",
        "price": 49.5,
        "stock": 12,
        "sold": True,
        "since": "2023-04-01",
        "tags": ["kitchen", "steel"],
        "size": [20.0, 22.5],
    },
    "lamp": {
        "title": "Desk Lamp",
        "price": 80,
        "stock": 3,
        "sold": True,
        "since": "2023-11-20",
        "tags": ["office"],
        "specs": {"light": "LED", "hours": 900},
    },
    "mug": {"title": "Mug, 100% clay", "price": 9.0, "stock": 0, "sold": False, "since": "2024-02-29", "tags": []},
    "chair": {
        "title": "Office Chair",
        "price": 300.0,
        "stock": 5,
        "sold": True,
        "since": "2022-01-15T08:00:00+02:00",
        "tags": ["office", "wood"],
        "maker": None,
    },
}

# The shapes are those of the filter data in langchain-postgres' test suite, on other products; where the two languages
# differ (patterns with a backslash, arrays, dates, one operator beside another) these are the meanings of this one.
CASES = [
    ({}, "kettle lamp mug chair"),
    ({"title": "Desk Lamp"}, "lamp"),
    ({"sold": True}, "kettle lamp chair"),
    ({"sold": True, "stock": 3}, "lamp"),
    ({"stock": {"$eq": 5}}, "chair"),
    ({"stock": {"$eq": 5.0}}, "chair"),
    ({"stock": {"$ne": 0}}, "kettle lamp chair"),
    ({"stock": {"$gt": 5}}, "kettle"),
    ({"stock": {"$gte": 5}}, "kettle chair"),
    ({"stock": {"$lt": 3}}, "mug"),
    ({"stock": {"$lte": 3}}, "lamp mug"),
    ({"stock": {"$gt": 0, "$lt": 10}}, "lamp chair"),
    ({"title": {"$gt": "Mug, 100% clay"}}, "chair"),
    ({"title": {"$lte": "Desk Lamp"}}, "kettle lamp"),
    ({"sold": {"$ne": True}}, "mug"),
    ({"sold": 1}, ""),
    ({"price": {"$gt": 79.9}}, "lamp chair"),
    ({"price": {"$between": [9, 80]}}, "kettle lamp mug"),
    ({"price": {"$between": (300, 400)}}, "chair"),
    ({"$or": [{"stock": 0}, {"title": "Desk Lamp"}]}, "lamp mug"),
    ({"$or": [{"stock": 0}, {"price": {"$gt": 100}}]}, "mug chair"),
    ({"$and": [{"stock": 0}, {"stock": 3}]}, ""),
    ({"$not": {"stock": 0}}, "kettle lamp chair"),
    ({"$not": [{"stock": 0}]}, "kettle lamp chair"),
    ({"$not": [{"stock": 3}, {"sold": True}]}, "kettle mug chair"),
    ({"$not": {"price": {"$gt": 60}}}, "kettle mug"),
    ({"price": {"$not": {"$gt": 60}}}, "kettle mug"),
    ({"title": {"$in": ["Desk Lamp", "Office Chair", "None"]}}, "lamp chair"),
    ({"stock": {"$in": [0, 12]}}, "kettle mug"),
    ({"stock": {"$in": []}}, ""),
    ({"title": {"$nin": ["Desk Lamp"]}}, "kettle mug chair"),
    ({"stock": {"$nin": [0, 3, 5]}}, "kettle"),
    ({"title": {"$like": "Desk%"}}, "lamp"),
    ({"title": {"$like": "%ff%"}}, "chair"),
    ({"title": {"$like": "desk%"}}, ""),
    ({"title": {"$ilike": "desk%"}}, "lamp"),
    ({"title": {"$like": "%100\\%%"}}, "mug"),
    ({"title": {"$like": "_esk Lam_"}}, "lamp"),
    ({"$or": [{"title": {"$like": "D%"}}, {"title": {"$like": "C%"}}]}, "kettle lamp"),
    ({"specs": {"$exists": False}}, "kettle mug chair"),
    ({"specs": {"$exists": True}}, "lamp"),
    ({"maker": {"$exists": True}}, "chair"),
    ({"maker": None}, "chair"),
    ({"maker": {"$ne": None}}, "kettle lamp mug"),
    ({"specs.light": "LED"}, "lamp"),
    ({"specs.hours": {"$gte": 900}}, "lamp"),
    ({"tags": "office"}, "lamp chair"),
    ({"tags": {"$contains": "office"}}, "lamp chair"),
    ({"tags": {"$nin": ["office"]}}, "kettle mug"),
    ({"tags": {"$exists": True}}, "kettle lamp mug chair"),
    ({"title": {"$contains": "amp"}}, "lamp"),
    ({"size": {"$gt": 21}}, "kettle"),
    ({"since": {"$lt": "2023-04-02"}}, "kettle chair"),
    ({"since": {"$gte": "2022-01-15T06:00:00Z", "$lte": "2022-01-15T06:00:00Z"}}, "chair"),
    ({"since": {"$gte": datetime(2023, 11, 20, tzinfo=UTC)}}, "lamp mug"),
    ({"since": {"$lt": datetime(2022, 1, 15, 8, tzinfo=timezone(timedelta(hours=1)))}}, "chair"),
    ({"since": "2024-02-29"}, "mug"),
    ({"id": "mug"}, "mug"),
    ({"document_id": {"$in": ["mug", "lamp"]}}, "lamp mug"),
    ({"document_id": {"$ilike": "M%"}}, "mug"),
    ({"uri": {"$exists": False}}, "kettle lamp mug chair"),
    ({"uri": {"$ne": "x"}}, "kettle lamp mug chair"),
    ({"index": 0, "content_type": "text/plain"}, "kettle lamp mug chair"),
    ({"created_at": {"$gt": "2020-01-01"}}, "kettle lamp mug chair"),
]

WRONG = [
    ({"$nor": [{"stock": 0}]}, 'where["$nor"]'),
    ({"$and": {"stock": 0}}, 'where["$and"]'),
    ({"$and": {}}, 'where["$and"]'),
    ({"$and": []}, 'where["$and"]'),
    ({"$or": [{"stock": 0}, 3]}, 'where["$or"][1]'),
    ({"$not": True}, 'where["$not"]'),
    ({"stock": {"$and": True}}, 'where["stock"]["$and"]'),
    ({"in stock": {"$and": True}}, 'where["in stock"]["$and"]'),
    ({"stock": {"title": "a"}}, 'where["stock"]["title"]'),
    ({"stock": {"title": "a", "sold": True}}, 'where["stock"]["title"]'),
    ({"stock": {}}, 'where["stock"]'),
    ({"stock": []}, 'where["stock"]'),
    ({"stock": {"$gt": None}}, 'where["stock"]["$gt"]'),
    ({"stock": {"$between": [1, 2, 3]}}, 'where["stock"]["$between"]'),
    ({"$or": [{"$not": {"a.b": {"$in": [[1]]}}}]}, 'where["$or"][0]["$not"]["a.b"]["$in"][0]'),
    ({"created_at": {"$gt": "soon"}}, 'where["created_at"]["$gt"]'),
    ({"a..b": 1}, 'where["a..b"]'),
]

FIELDS = ["title", "price", "stock", "sold", "since", "tags", "size", "maker", "specs", "specs.light", "specs.hours"]


@pytest.fixture(scope="module", params=["no index", "indexed before", "indexed after"])
def shop(request):
    with ragstore.open() as store:
        shop = store.create_collection("shop")
        if request.param == "indexed before":
            for field in FIELDS:
                shop.create_index(field)
        chunks = [
            ragstore.Document(id=name, metadata=data, chunks=[ragstore.Chunk(f"thing {name}", id=name)])
            for name, data in SHOP.items()
        ]
        shop.add(chunks, np.eye(4))
        if request.param == "indexed after":
            for field in FIELDS:
                shop.create_index(field)
        yield shop


@pytest.mark.parametrize(("where", "names"), CASES, ids=[str(where) for where, _ in CASES])
def test_what_matches(shop, where, names):
    expected = set(names.split())
    assert shop.count(where) == shop.count_documents(where) == len(expected)
    assert {hit.id for hit in shop.keyword_search("thing", where=where)} == expected
    assert {hit.id for hit in shop.vector_search([1, 1, 1, 1], where=where)} == expected
    assert {document.id for document in shop.list_documents(where)} == expected


@pytest.mark.parametrize(("where", "place"), WRONG, ids=[str(where) for where, _ in WRONG])
def test_an_error_names_the_place(shop, where, place):
    with pytest.raises(ragstore.FilterError) as caught:
        shop.count(where)
    assert place in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_bulk_delete_by_filter_keeps_the_rest():
    with ragstore.open() as store:
        numbers = store.create_collection("numbers")
        numbers.create_index("n")
        numbers.add_texts(["t"] * 100, metadatas=[{"n": i} for i in range(100)])
        assert numbers.delete(where={"n": {"$gte": 90}}) == 10
        assert numbers.update_metadata({"n": -1}, where={"n": {"$lt": 10}}) == 10
        assert (numbers.count({"n": -1}), numbers.count({"n": {"$gte": 0}}), len(numbers)) == (10, 80, 90)
        numbers.clear()
        assert numbers.count({"n": {"$exists": True}}) == 0
        numbers.add_texts(["t"], metadatas=[{"n": 5}])
        assert numbers.count({"n": 5}) == 1


def test_indexes_are_made_and_dropped_by_name(tmp_path):
    path = tmp_path / "a.db"
    with ragstore.open(path) as store:
        notes = store.create_collection("notes")
        notes.add_texts(["a", "b"], metadatas=[{"x": {"y": 1}}, {"x": {"y": "1"}}])
        seen = []
        notes.create_index("x.y", progress=lambda done, total: seen.append((done, total)))
        notes.create_index("x.y")
        assert seen[-1] == (2, 2)
        for field in ("id", "$or", "a..b", "", "x" * 5000):
            with pytest.raises(ValueError, match="field is"):
                notes.create_index(field)
        with pytest.raises(ragstore.NotFoundError, match=r'no index of "z"; there are \["x.y"\]'):
            notes.drop_index("z")
    with ragstore.open(path) as store:
        notes = store["notes"]
        assert notes.count({"x.y": 1}) == 1
        notes.drop_index("x.y")
        assert notes.count({"x.y": 1}) == 1
        with pytest.raises(ragstore.NotFoundError):
            notes.drop_index("x.y")


HOSTILE = 200_000 if os.environ.get("RAGSTORE_FAULTS") == "full" else 1_000


def test_no_string_is_syntax(shop):
    rng = np.random.default_rng(int.from_bytes(os.urandom(4)) if HOSTILE > 1_000 else 3)
    pieces = [
        "'",
        '"',
        "\\",
        ";",
        "--",
        "$",
        ".",
        "?1",
        ")",
        "(",
        "[",
        "]",
        "{",
        "}",
        "%",
        "_",
        "\0",
        "\n",
        "a",
        "é",
        "😀",
        "\ud7ff",
    ]
    pieces += ["DROP TABLE chunks", "OR 1=1", "$ne", "json_extract", "chunks", "/*", "\u202e"]
    before = shop.count()
    for _ in range(HOSTILE):
        key, value = ("".join(rng.choice(pieces, rng.integers(1, 6))) for _ in range(2))
        for where in ({key: value}, {"title": {"$like": value}}, {"title": {"$in": [value, key]}}, {"uri": value}):
            try:
                assert shop.count(where) == 0 or "%" in value or set(value) <= {"_", "%"}
            except ragstore.FilterError:
                assert key.startswith("$") or "" in key.split(".")
    assert shop.count() == before
