"""Python values to metadata and filters, and back."""

import enum
import math
import threading
import types
from collections import OrderedDict
from datetime import UTC, date, datetime

import numpy as np
import pytest
import ragstore
from ragstore import Chunk, Document, FilterError, LimitError


def stored(collection, metadata):
    """What a store makes of metadata."""
    result = collection.add(Document("x", metadata=metadata))
    return collection.get_document(result.document_ids[0]).metadata


SAME = [
    {},
    {"a": None, "b": True, "c": False, "d": "", "e": []},
    {"int": 0, "negative": -5, "i64": 2**63 - 1, "low": -(2**63), "u64": 2**64 - 1, "big": 10**400, "less": -(10**30)},
    {"float": 1.0, "small": 5e-324, "large": 1.7976931348623157e308, "tenth": 0.1, "third": 1 / 3, "minus": -0.0},
    {"text": 'äöü \u2028 \0 \x1f \\ " 😀 \uffff', "ключ": "значение", "": "empty key", "a.b": {"$x": 1}},
    {"deep": [[[{"a": [1, [2, {"b": "c"}]]}]]]},
    {str(i): i for i in range(1000)},
]


@pytest.mark.parametrize("metadata", SAME, ids=range(len(SAME)))
def test_json_values_come_back_as_they_were(collection, metadata):
    back = stored(collection, metadata)
    assert back == metadata
    assert list(back) == list(metadata)
    assert repr(back) == repr(metadata)


class Colour(enum.IntEnum):
    RED = 3


class Name(enum.StrEnum):
    ANN = "ann"


BECOME = [
    ((1, (2, 3)), [1, [2, 3]]),
    (np.float32(0.5), 0.5),
    (np.float64(0.1), 0.1),
    (np.int8(-3), -3),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.True_, True),
    (np.str_("s"), "s"),
    (Colour.RED, 3),
    (Name.ANN, "ann"),
    (OrderedDict(a=1), {"a": 1}),
    (types.MappingProxyType({"a": (1,)}), {"a": [1]}),
    (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
    (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),  # noqa: DTZ001
    (date(2026, 1, 2), "2026-01-02"),
]


@pytest.mark.parametrize(("given", "back"), BECOME, ids=range(len(BECOME)))
def test_values_near_json_become_json(collection, given, back):
    found = stored(collection, {"v": given})["v"]
    assert found == back
    assert type(found) is type(back)


REFUSED = [
    (math.nan, ValueError, "['v'] is nan"),
    ([1.0, math.inf], ValueError, "['v'][1] is inf"),
    ({"w": [-math.inf]}, ValueError, "['v']['w'][0] is -inf"),
    (np.float32("nan"), ValueError, "['v'] is nan"),
    (b"bytes", TypeError, "['v'] is of type bytes"),
    ({1, 2}, TypeError, "['v'] is of type set"),
    (object(), TypeError, "['v'] is of type object"),
    (1 + 2j, TypeError, "['v'] is of type complex"),
    (np.array([1]), TypeError, "['v'] is of type ndarray"),
    (np.datetime64("2026-01-01"), TypeError, "['v'] is of type datetime64"),
    (np.longdouble(1), TypeError, "['v'] is of type longdouble"),
    ({1: 2}, TypeError, "['v'] has a key of type int"),
    ([{"a": {None: 2}}], TypeError, "['v'][0]['a'] has a key of type NoneType"),
    ("\ud800", ValueError, "['v'] holds a lone surrogate at character 0"),
    ({"k\udfff": 1}, ValueError, "['v'] (a key) holds a lone surrogate at character 1"),
    (10**5000, ValueError, "['v'] is an integer that is not taken"),
]


@pytest.mark.parametrize(("value", "error", "message"), REFUSED, ids=range(len(REFUSED)))
def test_other_values_are_refused_by_place(collection, value, error, message):
    for call, place in (
        (lambda: collection.add(["x", Document("y", metadata={"v": value})]), "documents[1].metadata"),
        (
            lambda: collection.add(Document("y", chunks=[Chunk("y"), Chunk("z", metadata={"v": value})])),
            "documents[0].chunks[1].metadata",
        ),
        (lambda: collection.add_texts(["x"], metadatas=[{"v": value}]), "metadatas[0]"),
        (lambda: collection.update_metadata({"v": value}, where={}), "metadata"),
    ):
        with pytest.raises(error) as caught:
            call()
        assert f"{place}{message}".replace("'", '"') in str(caught.value)
    assert collection.count() == 0


def nested(depth, leaf=1):
    value = leaf
    for _ in range(depth):
        value = {"a": value}
    return value


def test_depth_is_bounded_before_it_is_walked(collection):
    assert stored(collection, nested(64)) == nested(64)
    loop = {}
    loop["loop"] = loop
    ring = []
    ring.append([ring, ring])
    for deep in (nested(65), nested(100_000), loop, {"ring": ring}):
        with pytest.raises(LimitError, match="64"):
            stored(collection, deep)


def test_size_is_bounded_before_it_is_built(collection):
    laughs = ["ha" * 50]
    for _ in range(40):
        laughs = [laughs] * 10
    for large in ({"text": "x" * (1 << 20)}, {"laughs": laughs}, {"long": list(range(1 << 20))}):
        with pytest.raises(LimitError, match="1048576"):
            stored(collection, large)
    assert len(stored(collection, {"text": "x" * ((1 << 20) - 20)})["text"]) == (1 << 20) - 20


def test_a_mapping_that_raises_is_heard(collection):
    class Broken(dict):
        def items(self):
            raise LookupError("broken")

    class Odd(types.SimpleNamespace):
        @property
        def text(self):
            raise LookupError("broken")

    assert stored(collection, Broken(a=1)) == {"a": 1}
    with pytest.raises(LookupError, match="broken"):
        collection._raw.unchanged("notes", [Odd(chunks=None, id=None, uri=None)])


def test_a_dictionary_that_changes_meanwhile_does_no_harm(collection):
    metadata = {str(i): i for i in range(500)}
    stop = threading.Event()

    def change():
        i = 0
        while not stop.is_set():
            metadata.pop(str(i % 500), None)
            metadata[f"{i % 500}"] = i
            i += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            document = Document("x")
            document.metadata = metadata
            collection.add(document)
    finally:
        stop.set()
        thread.join()
    assert collection.count() == 200


@pytest.mark.parametrize("place", ["text", "id", "uri", "content_type"])
def test_lone_surrogates_are_refused_everywhere(collection, place):
    with pytest.raises(ValueError, match=rf"documents\[0\]\.{place} holds a lone surrogate at character 2"):
        collection.add({"text": "x", place: "ab\udc80"})
    for call in (
        lambda: collection.search("\ud800"),
        lambda: collection.get("\ud800"),
        lambda: collection.add_texts(["\ud800"]),
        lambda: collection.add_texts(["a"], ids=["\ud800"]),
        lambda: collection.get_document(uri="\ud800"),
        lambda: collection.delete(["\ud800"]),
        lambda: collection._store.create_collection("\ud800"),
    ):
        with pytest.raises(ValueError, match="surrogate"):
            call()


BAD_FILTERS = [
    ({"a": math.nan}, 'where["a"] is nan'),
    ({"a": {"$gt": math.inf}}, 'where["a"]["$gt"] is inf'),
    ({"a": {1: 2}}, 'where["a"] has a key of type int'),
    ({"a": {1, 2}}, 'where["a"] is of type set'),
    ({"a": "\ud800"}, 'where["a"] holds a lone surrogate'),
    ({"$and": [{"a": {"$in": [1, b"x"]}}]}, 'where["$and"][0]["a"]["$in"][1] is of type bytes'),
    ({"a": {"$almost": 1}}, 'where["a"]["$almost"]'),
    ({"updated_at": datetime(2026, 1, 1)}, 'where["updated_at"] is datetime'),  # noqa: DTZ001
    (nested(70), "nested deeper than 32"),
    (nested(100_000), "nested deeper than 32"),
]


@pytest.mark.parametrize(("where", "message"), BAD_FILTERS, ids=range(len(BAD_FILTERS)))
def test_filters_are_refused_by_place(collection, where, message):
    for call in (
        lambda: collection.count(where),
        lambda: collection.search("a", where=where),
        lambda: collection.delete(where=where),
        lambda: collection.list_documents(where),
        lambda: collection.update_metadata({}, where=where),
    ):
        with pytest.raises(FilterError) as caught:
            call()
        assert message in str(caught.value)


def test_filters_take_what_metadata_takes(collection):
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    naive = datetime(2026, 1, 2)  # noqa: DTZ001
    metadata = {"m": moment, "n": naive, "d": date(2026, 1, 2), "f": np.float32(0.5), "i": np.int64(7), "e": Name.ANN}
    collection.add(Document("x", metadata=metadata))
    assert collection.count(metadata) == 1
    assert collection.count({"i": {"$in": np.arange(8).tolist()}}) == 1
    assert collection.count({"i": {"$in": (7,)}}) == 1
    assert collection.count(types.MappingProxyType({"i": {"$gte": np.int32(7)}})) == 1


def test_a_list_of_in_is_one_condition_however_long(collection):
    collection.add_texts(["x", "y"], ids=["1", "99999"], metadatas=[{"i": 7}, {"i": -1}])
    assert collection.count({"i": {"$in": list(range(100_000))}}) == 1
    assert collection.count({"id": {"$in": [str(i) for i in range(100_000)]}}) == 2


def test_the_metadata_of_a_hit_is_read_once(collection):
    collection.add(Document("cat", metadata={"n": 10**30, "f": 0.1}))
    (hit,) = collection.search("cat")
    assert hit.metadata == {"n": 10**30, "f": 0.1}
    assert hit.metadata is hit.metadata


def test_text_and_settings_are_kept_exactly(ragstore_store):
    notes = ragstore_store.create_collection("notes", settings={"big": 10**40, "f": 1.0})
    assert repr(notes.info.settings) == repr({"big": 10**40, "f": 1.0})
    text = "a\0b\r\n\t😀 e\u0301 \u200f"
    notes.add(Document(text, id="i", uri=text.replace("\0", "")))
    assert notes.get_document("i").text == text


def test_nothing_is_cut_silently(collection):
    with pytest.raises(LimitError, match="16777216"):
        collection.add("x" * ((16 << 20) + 1))
    with pytest.raises(LimitError, match="512"):
        collection.add(Document("x", id="i" * 513))
    with pytest.raises(ValueError, match="empty"):
        collection.add(Document("x", id=""))
    with pytest.raises(ragstore.LimitError, match="4096"):
        collection.search("x", k=4097)
