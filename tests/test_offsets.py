"""Offsets name the same part of a text by character, by byte and by line, as Python counts them."""

import os

import pytest
import ragstore
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ragstore import Chunk, Document

FULL = os.environ.get("RAGSTORE_FAULTS") == "full"
RUNS = settings(
    max_examples=1000 if FULL else 100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Lone surrogates are no text: UTF-8 has no bytes for them.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
PROSE = st.lists(
    st.sampled_from(
        ["word", "naïve", "北京", "🦀", "é", " ", "  ", "\n", "\n\n", "\r\n", "\r", "\t", ". ", "# ", "- ", "`",
         "```\n", "\u2028", "\u200d", "\x00", "\x85", "ﬁ"]
    ),
    max_size=80,
).map("".join)  # fmt: skip
TEXTS = ANY_TEXT | PROSE


def lines(text: str, start: int, end: int) -> tuple[int, int]:
    """The first and the last line on which a part stands; the newline that ends a line is on it."""
    first = 1 + text.count("\n", 0, start)
    return first, first + text[start:end].removesuffix("\n").count("\n")


def check(text: str, chunk: Chunk) -> None:
    """Everything that a stored chunk says of its place."""
    assert chunk.text == text[chunk.start : chunk.end]
    before, inside = text[: chunk.start].encode(), text[chunk.start : chunk.end].encode()
    assert (chunk.byte_start, chunk.byte_end) == (len(before), len(before) + len(inside))
    assert text.encode()[chunk.byte_start : chunk.byte_end] == inside
    assert (chunk.line_start, chunk.line_end) == lines(text, chunk.start, chunk.end)


@RUNS
@given(text=TEXTS, size=st.integers(1, 60), data=st.data(), syntax=st.sampled_from(["text", "markdown"]))
@example(text="a\r\nb 🦀\n\n北京 naïve\x00 end", size=5, data=None, syntax="text")
def test_pieces_of_a_split(collection, text, size, data, syntax):
    overlap = 0 if data is None else data.draw(st.integers(0, size - 1))
    pieces = ragstore.split(text, size, overlap=overlap, syntax=syntax)
    for piece in pieces:
        assert piece.text == text[piece.start : piece.end]
        assert 0 < len(piece.text) <= size
    starts, ends = [piece.start for piece in pieces], [piece.end for piece in pieces]
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    # Only white space may lie between the pieces.
    at = 0
    for start, end in [*zip(starts, ends, strict=True), (len(text), len(text))]:
        assert not text[at:start].strip(), f"lost {text[at:start]!r}"
        at = max(at, end)
    collection.clear()
    collection.add(Document(text, id="d", chunks=pieces))
    stored = collection.get_chunks("d")
    assert [(c.text, c.start, c.end) for c in stored] == [(p.text, p.start, p.end) for p in pieces]
    for chunk in stored:
        check(text, chunk)


@RUNS
@given(text=TEXTS, data=st.data())
def test_spans_in_any_order(collection, text, data):
    place = st.integers(0, len(text))
    spans = data.draw(st.lists(st.tuples(place, place).map(sorted), max_size=12))
    collection.clear()
    collection.add(Document(text, id="d", chunks=[Chunk(start=start, end=end) for start, end in spans]))
    stored = collection.get_chunks("d")
    assert [[chunk.start, chunk.end] for chunk in stored] == spans
    more = data.draw(st.tuples(place, place).map(sorted))
    if spans:
        collection.add_chunks("d", [Chunk(start=more[0], end=more[1])])
        stored = collection.get_chunks("d")
    for chunk in stored:
        check(text, chunk)


@RUNS
@given(text=TEXTS)
def test_a_text_without_chunks_is_one(collection, text):
    collection.clear()
    collection.add_texts([text], ids=["t"])
    collection.add(Document(text, id="d"))
    for chunk in (collection.get("t"), collection.get_chunk_by_index("d", 0)):
        assert (chunk.start, chunk.end, chunk.text) == (0, len(text), text)
        check(text, chunk)
    assert collection.get_document("d").text == text


@RUNS
@given(text=TEXTS, past=st.integers(1, 3), data=st.data())
def test_a_span_past_the_end_is_refused(collection, text, past, data):
    collection.clear()
    end = len(text) + past
    start = data.draw(st.integers(0, end))
    with pytest.raises(ValueError, match="passes the end"):
        collection.add(Document(text, chunks=[Chunk(start=start, end=end)]))
    assert collection.count_documents() == 0
