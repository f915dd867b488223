"""Hits: as a sequence, in a notebook, as a frame."""

import builtins
import html.parser
import io
import sys

import numpy as np
import pytest
from ragstore import Document, Hits, display


@pytest.fixture
def notes(collection):
    collection.add(
        [
            Document("The cat sat on the mat.", uri="cats.txt", metadata={"n": 1}),
            Document("A cat <b>& a \"dog\"</b> <script>alert('cat')</script>", uri="<img src=x onerror=cat>"),
            Document("word " * 100 + "running cats run " + "word " * 100, id="long"),
            Document("nothing of it", id="none"),
        ],
        np.eye(4, dtype=np.float32) + 0.1,
    )
    return collection


def test_hits_are_a_sequence(notes):
    hits = notes.search("cat")
    assert len(hits) == 3
    assert isinstance(hits, Hits)
    assert hits[0].id == hits.ids[0] == next(iter(hits)).id
    assert hits[-1] is list(hits)[-1]
    assert hits[0] in hits
    assert hits.index(hits[1]) == 1
    part = hits[1:]
    assert isinstance(part, Hits)
    assert part.ids == hits.ids[1:]
    assert (part.exact, part.complete, part.took_ms) == (hits.exact, hits.complete, hits.took_ms)
    assert [h.id for h in reversed(hits)] == hits.ids[::-1]
    assert hits.texts == [h.text for h in hits]
    assert hits.scores.dtype == np.float32
    assert hits.scores.tolist() == sorted(hits.scores.tolist(), reverse=True)
    assert hits.took_ms > 0
    with pytest.raises(IndexError):
        hits[3]
    empty = notes.search("zebra")
    assert (len(empty), empty.ids, empty.scores.shape) == (0, [], (0,))


def test_words_are_marked_as_the_tokenizer_sees_them(notes):
    hits = {h.document_id if h.uri is None else h.uri: h for h in notes.search("running CATS")}
    assert hits["cats.txt"].highlight() == "The <b>cat</b> sat on the mat."
    assert hits["cats.txt"].snippet(3, "[", "]") == "The [cat] sat…"
    long = hits[next(k for k, h in hits.items() if h.text.startswith("word"))]
    assert long.snippet(5) == "…word <b>running</b> <b>cats</b> <b>run</b> word…"
    assert len(long.snippet().split()) == 32
    assert long.highlight("", "") == long.text


def test_a_search_without_text_marks_nothing(notes):
    hit = notes.vector_search(np.eye(4)[0], k=1)[0]
    assert hit.highlight() == hit.snippet() == hit.text
    with pytest.raises(OverflowError):
        hit.snippet(-1)


def test_a_hit_without_text_has_no_snippet(collection):
    collection.add(Document(metadata={"a": 1}), [[1.0, 0.0]])
    (hit,) = collection.vector_search([1.0, 0.0])
    assert hit.text is None
    assert hit.highlight() == hit.snippet() == ""
    assert "text=None" in repr(hit)
    assert collection.vector_search([1.0, 0.0])._repr_html_()


def test_hits_show_themselves(notes):
    hits = notes.search("cat")
    lines = repr(hits).splitlines()
    assert lines[0].startswith("Hits(3, ")
    assert "exact" in lines[0]
    assert len(lines) == 4
    assert "cats.txt#0" in repr(hits)
    assert repr(hits[0]).startswith("Hit(id=")
    assert len(repr(hits[-1])) < 200
    many = Hits(list(hits) * 5, took_ms=1.0, complete=False)
    assert "incomplete" in repr(many)
    assert repr(many).endswith("and 5 more")


class Checker(html.parser.HTMLParser):
    """Collects what a browser would see."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text, self.marked = set(), [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open.append(tag)
        assert {name for name, _ in attrs} <= {"style"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "mark" in self.open:
            self.marked.append(data)


def test_html_is_escaped_and_marked(notes):
    page = Checker()
    page.feed(notes.search("cat")._repr_html_())
    assert page.open == []
    assert page.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "div", "mark"}
    assert set(page.marked) == {"cat", "cats"}
    whole = "".join(page.text)
    assert "<img src=x onerror=cat>#0" in whole
    assert "<script>alert('cat')</script>" in whole
    assert "3 hits" in whole


def test_stored_text_cannot_pass_for_a_mark(collection):
    collection.add("cat \ue000 0123456789abcdef \ue001 <mark>dog</mark>")
    page = Checker()
    page.feed(collection.search("cat")._repr_html_())
    assert page.marked == ["cat"]


def test_html_of_no_hits(notes):
    assert "0 hits" in notes.search("zebra")._repr_html_()


COLUMNS = [
    "id",
    "text",
    "score",
    "distance",
    "document_id",
    "uri",
    "index",
    "start",
    "end",
    "metadata",
    "vector_rank",
    "vector_score",
    "keyword_rank",
    "keyword_score",
    "rank",
    "collection",
    "path",
]


@pytest.mark.parametrize("query", ["cat", "zebra"])
def test_to_pandas(notes, query):
    pytest.importorskip("pandas")
    hits = notes.search(query)
    frame = hits.to_pandas()
    assert list(frame.columns) == COLUMNS
    assert frame["id"].tolist() == hits.ids
    assert frame["score"].tolist() == [h.score for h in hits]
    assert frame["index"].dtype == "Int64"
    assert frame["distance"].dtype == "float64"
    assert frame["metadata"].tolist() == [h.metadata for h in hits]


@pytest.mark.parametrize("query", ["cat", "zebra"])
def test_to_arrow(notes, query):
    pa = pytest.importorskip("pyarrow")
    hits = notes.search(query, vector=np.eye(4)[0]) if query == "cat" else notes.search(query)
    table = hits.to_arrow()
    assert table.column_names == COLUMNS
    assert table["id"].to_pylist() == hits.ids
    assert table["vector_rank"].to_pylist() == [h.vector_rank for h in hits]
    assert table.schema == notes.search("zebra").to_arrow().schema
    assert pa.table(hits) == table
    assert pa.RecordBatchReader.from_stream(hits).read_all() == table


@pytest.mark.parametrize(("method", "package"), [("to_pandas", "pandas"), ("to_arrow", "pyarrow")])
def test_a_missing_package_is_named(notes, monkeypatch, method, package):
    original = builtins.__import__

    def missing(name, *rest, **options):
        if name == package:
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        getattr(notes.search("cat"), method)()


# progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_redraws_on_a_terminal():
    stream = Terminal()
    bar = display.Bar("add", stream)
    bar(1, 4)
    bar(4, 4)
    bar.close()
    lines = stream.getvalue().split("\r")
    assert lines[1].startswith("add [######..................] 1/4  25 %")
    assert lines[2].startswith("add [########################] 4/4 100 %")
    assert stream.getvalue().endswith("\n")


def test_a_bar_is_one_line_elsewhere(collection, capsys):
    collection.add([f"text {i}" for i in range(1200)], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("add [########################] 1,200/1,200 100 %")
    assert err.count("\n") == 1
    collection.add([])
    assert capsys.readouterr().err == ""


def test_a_notebook_gets_the_bar_of_tqdm(collection, monkeypatch):
    calls = []

    class Tqdm:
        n = 0

        def __init__(self, desc, unit):
            calls.append((desc, unit))

        def update(self, by):
            self.n += by

        def close(self):
            calls.append((self.n, self.total))

    module = type(sys)("tqdm.auto")
    module.tqdm = Tqdm
    monkeypatch.setitem(sys.modules, "ipykernel", type(sys)("ipykernel"))
    monkeypatch.setitem(sys.modules, "tqdm", type(sys)("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    collection.add(["a", "b"], progress=True)
    assert calls == [("add", ""), (2, 2)]
