"""State: a mapping that lives in the file."""

import json
import multiprocessing
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest
import ragstore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WEST, EAST = timezone(timedelta(hours=-14)), timezone(timedelta(hours=14))


@pytest.fixture
def store():
    with ragstore.open() as store:
        yield store


@pytest.fixture
def state(store):
    return store.state("n")


def test_it_is_a_mutable_mapping(state):
    state["a"] = 1
    state["b"] = {"c": [True, None, 2.5, "é"]}
    assert dict(state) == {"a": 1, "b": {"c": [True, None, 2.5, "é"]}}
    assert (len(state), list(state), "a" in state, 3 in state) == (2, ["a", "b"], True, False)
    del state["a"]
    with pytest.raises(KeyError, match="a"):
        state["a"]
    with pytest.raises(KeyError):
        del state["a"]
    assert state.get("a", 7) == 7
    assert state == {"b": {"c": [True, None, 2.5, "é"]}}
    state.clear()
    assert not state
    assert repr(state) == "State('n')"


def test_namespaces_are_apart(store, state):
    state["a"] = 1
    store.state("m")["a"] = 2
    local = store.state("n", local=True)
    local["a"] = 3
    assert [space["a"] for space in (state, store.state("m"), local)] == [1, 2, 3]
    assert repr(local) == "State('n', local=True)"


def test_values_outlive_the_store(tmp_path):
    with ragstore.open(tmp_path / "s.db") as store:
        store.state()["a"] = [1]
    with ragstore.open(tmp_path / "s.db", read_only=True) as store:
        assert store.state()["a"] == [1]
        with pytest.raises(ragstore.ReadOnlyError):
            store.state()["a"] = 2


def test_expired_values_are_not_there(state):
    past = datetime.now(UTC) - timedelta(seconds=1)
    state.set("old", 1, expires_at=past)
    assert "old" not in state
    assert list(state) == []
    assert state.setdefault("old", 2, expires_in=timedelta(hours=1)) == 2
    assert timedelta(minutes=59) < state.expires_at("old") - datetime.now(UTC) <= timedelta(hours=1)
    state["old"] = 3
    assert state.expires_at("old") is None
    with pytest.raises(KeyError):
        state.expires_at("never")
    state.set("past", 1, expires_in=-1)
    assert state.pop("past", None) is None


def test_changes_are_made_by_one(state):
    assert state.setdefault("a", 1) == 1
    assert state.setdefault("a", 2) == 1
    assert not state.compare_and_set("a", 2, 3)
    assert not state.compare_and_set("none", None, 3)
    assert state.compare_and_set("a", 1, {"x": 1, "y": 2})
    assert state.compare_and_set("a", {"y": 2, "x": 1}, 4)
    assert state.update("a", lambda old: old + 1) == 5
    assert state.update("b", lambda old: [*old, 1], default=[], expires_in=60) == [1]
    assert state.expires_at("b") is not None
    assert (state.pop("a"), state.pop("a", None), state.popitem()) == (5, None, ("b", [1]))
    with pytest.raises(KeyError):
        state.popitem()
    with pytest.raises(KeyError):
        state.pop("a")


@pytest.mark.parametrize("written", ["1.50", "1E2", "-0", '{"n": [1e2, -0, 0.10]}'])
def test_numbers_that_others_wrote_otherwise_are_those_numbers(tmp_path, written):
    path = tmp_path / "s.db"
    with ragstore.open(path) as store:
        store.state().update(dict.fromkeys("abc", 0))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE state SET value = ?", [written])
    with ragstore.open(path) as store:
        state, value, asked = store.state(), json.loads(written), []

        def once(old):
            asked.append(old)
            assert len(asked) == 1
            return "new"

        assert state.update("a", once) == "new"
        assert asked == [value]
        # What would be asked again and again.
        assert state.compare_and_set("b", value, 1)
        assert state.compare_and_set("b", 1, value)
        assert state.pop("c") == value
        assert not state.compare_and_set("a", 1.0, 1)


def test_a_namespace_without_a_name_is_refused_at_once(store):
    for name, message in [("", "namespace is an empty string"), ("x\ud800", "namespace holds a lone surrogate")]:
        with pytest.raises(ValueError, match=message):
            store.state(name)
    with pytest.raises(ragstore.LimitError, match="namespace"):
        store.state("x" * 10_000)


@pytest.mark.parametrize("key", ["\ud800", "a\udfff"])
def test_no_key_holds_a_lone_surrogate(state, key):
    state["a"] = 1
    assert key not in state
    calls = [
        lambda: state[key],
        lambda: state.get(key),
        lambda: state.set(key, 1),
        lambda: state.update({key: 1}),
        lambda: state.update(key, str),
        lambda: state.pop(key),
        lambda: state.__delitem__(key),
        lambda: state.expires_at(key),
        lambda: state.setdefault(key, 1),
        lambda: state.compare_and_set(key, 1, 2),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"key holds a lone surrogate at character {len(key) - 1}"):
            call()
    with pytest.raises(ValueError, match="prefix holds a lone surrogate"):
        list(state.scan(key))
    assert dict(state) == {"a": 1}


def test_an_update_that_lost_is_asked_again(state):
    state["a"] = 0
    asked = []

    def function(old):
        asked.append(old)
        if len(asked) == 1:
            state["a"] = 10
        return old + 1

    assert state.update("a", function) == 11
    assert (asked, state["a"]) == ([0, 10], 11)

    def broken(_old):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        state.update("a", broken)
    assert state["a"] == 11


def test_many_are_set_as_one(store, state):
    state.update({"a": 1, "b": 2}, c=3)
    state.update([("d", 4)])
    state.update()
    assert dict(state) == {"a": 1, "b": 2, "c": 3, "d": 4}
    with pytest.raises(TypeError, match=r"value is of type set"):
        state.update({"a": 9, "z": {1}})
    assert state["a"] == 1
    with pytest.raises(TypeError, match="'unknown'"):
        state.update("a", lambda old: old, unknown=1)


def test_a_scan_goes_by_prefix(state):
    state.update({f"k/{i:05}": i for i in range(2500)})
    state.update({"k": 0, "l": 0, "": -1, "k/\U0010ffff": 1})
    assert [key for key, _ in state.scan("k/0249")] == [f"k/0249{i}" for i in range(10)]
    assert sum(1 for _ in state.scan("k/")) == 2501
    assert len(list(state)) == len(state) == 2504
    assert next(iter(state)) == ""


def test_it_is_committed_with_documents(store, state):
    store.create_collection("c")
    state["gone"] = 1
    with store.transaction() as tx:
        tx["c"].add("text")
        tx.state("n")["cursor"] = 1
        there = tx.state("n").set("lease", 2, expires_in=60)
        del tx.state("n")["gone"]
        counted = tx.state("m").clear()
    assert (dict(state), there.result, counted.result) == ({"cursor": 1, "lease": 2}, True, 0)
    with pytest.raises(ragstore.CollectionNotFoundError), store.transaction() as tx:
        tx.state("n")["cursor"] = 2
        tx["nowhere"].add("text")
    assert state["cursor"] == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.set(1, 2), TypeError, "key is of type int"),
        (lambda s: s[1], TypeError, "key is of type int"),
        (lambda s: s.set("k", float("nan")), ValueError, "value is nan"),
        (lambda s: s.set("k", b"x"), TypeError, "value is of type bytes"),
        (lambda s: s.set("k" * 513, 1), ragstore.LimitError, "513 bytes"),
        (lambda s: s.set("k\0", 1), ValueError, "NUL"),
        (lambda s: s.set("k", "x" * 2**20), ragstore.LimitError, "1048576 bytes"),
        (lambda s: s.set("k", 1, expires_in="1"), TypeError, "expires_in is of type str"),
        (lambda s: s.set("k", 1, expires_in=1e300), ValueError, "year 10000"),
        (lambda s: s.set("k", 1, expires_in=1, expires_at=datetime.now(UTC)), ValueError, "both"),
        (lambda s: s.set("k", 1, expires_at=datetime(2030, 1, 1)), ValueError, "time zone"),  # noqa: DTZ001
        (lambda s: s.set("k", 1, expires_at=datetime.max.replace(tzinfo=WEST)), ValueError, "years 1 to 9999 in UTC"),
        (lambda s: s.set("k", 1, expires_at=datetime.min.replace(tzinfo=EAST)), ValueError, "years 1 to 9999 in UTC"),
        (lambda s: s._store.state(""), ValueError, "namespace"),
        (lambda s: s._store.state(1), TypeError, "namespace is of type int"),
    ],
)
def test_arguments_are_checked(state, call, error, message):
    with pytest.raises(error) as caught:
        given = call(state)
        len(given)
    assert message in str(caught.value)
    assert not state


def test_a_deep_value_is_refused(state):
    deep = value = []
    for _ in range(100):
        value.append([])
        value = value[0]
    with pytest.raises(ragstore.LimitError, match="deeper"):
        state["k"] = deep


def raise_counter(path, times):
    with ragstore.open(path) as store:
        state = store.state()
        for _ in range(times):
            state.update("count", lambda old: old + 1, default=0)


def test_no_change_of_threads_and_processes_is_lost(tmp_path):
    path = tmp_path / "s.db"
    with ragstore.open(path) as store:
        spawn = multiprocessing.get_context("spawn")
        processes = [spawn.Process(target=raise_counter, args=(path, 40)) for _ in range(3)]
        threads = [threading.Thread(target=raise_counter, args=(path, 40)) for _ in range(2)]
        for worker in [*processes, *threads]:
            worker.start()
        for worker in [*processes, *threads]:
            worker.join()
        assert store.state()["count"] == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
).filter(lambda value: "\\u0000" not in json.dumps(value) and "\\ud" not in json.dumps(value).lower())
keys = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
steps = st.lists(
    st.tuples(st.sampled_from(["set", "delete", "setdefault", "compare", "update", "pop"]), keys, json_values),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(steps=steps, prefix=keys)
def test_it_does_what_a_dictionary_does(state, steps, prefix):
    state.clear()
    model = {}
    for step, key, value in steps:
        if step == "set":
            state[key] = model[key] = value
        elif step == "delete":
            assert (state.pop(key, "none") == "none") == (model.pop(key, "none") == "none")
        elif step == "setdefault":
            assert state.setdefault(key, value) == model.setdefault(key, value)
        elif step == "compare":
            found = state.compare_and_set(key, value, [value])
            # JSON tells 1 from true, and Python does not.
            there, wanted = (json.dumps(item, sort_keys=True) for item in (model.get(key), value))
            assert found == (key in model and there == wanted)
            if found:
                model[key] = [value]
        elif step == "update":
            model[key] = state.update(key, lambda old: [old, 1])
        else:
            assert state.pop(key, value) == model.pop(key, value)
    assert dict(state) == model
    assert len(state) == len(model)
    assert [key for key, _ in state.scan(prefix)] == sorted(key for key in model if key.startswith(prefix))
