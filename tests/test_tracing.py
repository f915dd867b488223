"""Spans of OpenTelemetry."""

import subprocess
import sys

import pytest
import ragstore
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode


@pytest.fixture
def spans(collection):
    """What was finished since the collection was made."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    ragstore.instrument(provider)
    yield exporter.get_finished_spans
    ragstore.uninstrument()


def test_a_call_is_a_span_of_counts_and_modes(spans, collection):
    collection.add(["Cats purr.", "Dogs bark."], [[1.0, 0.0], [0.0, 1.0]], on_conflict="skip")
    collection.search("cats", vector=[1.0, 0.0], k=1, mode="hybrid", where={"secret": "value"})
    add, search = spans()
    assert (add.name, add.kind) == ("ragstore.add", SpanKind.CLIENT)
    assert dict(add.attributes) == {
        "db.system.name": "ragstore",
        "db.operation.name": "add",
        "ragstore.on_conflict": "skip",
        "ragstore.documents": 2,
        "ragstore.chunks": 2,
        "ragstore.added": 2,
        "ragstore.replaced": 0,
        "ragstore.unchanged": 0,
        "ragstore.skipped": 0,
    }
    assert dict(search.attributes) == {
        "db.system.name": "ragstore",
        "db.operation.name": "search",
        "ragstore.k": 1,
        "ragstore.mode": "hybrid",
        "ragstore.filtered": True,
        "db.response.returned_rows": 0,
        "ragstore.exact": True,
        "ragstore.complete": True,
    }


def test_a_failure_says_its_kind_alone(spans, collection):
    with pytest.raises(ValueError, match="sideways"):
        collection.search("secret", mode="sideways")
    with pytest.raises(TypeError):
        collection.search("secret", no_such_argument="secret")
    for span in spans():
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] in {"ValueError", "TypeError"}
        assert "secret" not in span.to_json()
        assert "sideways" not in span.to_json()


def test_a_call_inside_another_is_no_span(spans, collection, tmp_path):
    collection.keyword_search("cats")
    collection.add_texts(["a"])
    with collection._store.transaction() as transaction:
        transaction["notes"].add("b")
    ragstore.export(collection._store, tmp_path / "out", progress=lambda *_: None)
    with ragstore.open() as other:
        ragstore.import_(other, tmp_path / "out")
    names = ["keyword_search", "add_texts", "commit", "export", "import"]
    assert [span.name for span in spans()] == [f"ragstore.{name}" for name in names]
    assert spans()[-1].attributes["ragstore.added"] == 2


def methods():
    """What each class has of its own."""
    return [dict(vars(owner)) for owner in (ragstore.Collection, ragstore.Store, ragstore.Transaction)]


def test_switched_off_the_methods_are_what_was_written():
    before = methods()
    # It is inherited, and what a test before left would stand here.
    assert "search" not in before[0]
    ragstore.instrument()
    assert methods() != before
    assert "search" in vars(ragstore.Collection)
    ragstore.instrument()
    ragstore.uninstrument()
    ragstore.uninstrument()
    assert methods() == before


def environment(code, monkeypatch, value):
    monkeypatch.setenv("RAGSTORE_TRACING", value)
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return ended.stdout.strip(), ended.stderr


def test_the_environment_switches_it_on(monkeypatch):
    code = "import ragstore; print(hasattr(ragstore.Collection.add, '__wrapped__'))"
    assert environment(code, monkeypatch, "1") == ("True", "")
    assert environment(code, monkeypatch, "0") == ("False", "")
    missing = "import sys, logging; logging.basicConfig(); sys.modules['opentelemetry'] = None; " + code
    on, logged = environment(missing, monkeypatch, "1")
    assert on == "False"
    assert "opentelemetry-api is not installed" in logged
    asked = "import sys; sys.modules['opentelemetry'] = None; import ragstore\n"
    asked += "try: ragstore.instrument()\nexcept ImportError as error: print(error)"
    assert "pip install opentelemetry-api" in environment(asked, monkeypatch, "")[0]
