"""Keyword search takes any text, but for FTS5's own syntax, and answers with the chunks that hold it."""

import os

import pytest
import ragstore
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

FULL = os.environ.get("RAGSTORE_FAULTS") == "full"
RUNS = settings(
    max_examples=2000 if FULL else 150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

SAFE = ["natural", "all", "phrase", "prefix"]
TOKENIZERS = ["porter unicode61", "unicode61 remove_diacritics 0 tokenchars '-'", "ascii", "trigram"]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
# Words that no stemmer makes equal, and none of them an operator of FTS5.
WORDS = ["amber", "birch", "copper", "dahlia", "ember", "fjord", "北京", "москва", "λόγος"]
NOISE = ['"', "'", "AND", "OR", "NOT", "NEAR(", ")", "(", "*", "^", ":", "col:", "-", "+", "{", "}", "\x00", ";--", "?"]

QUERIES = st.lists(st.sampled_from(WORDS + NOISE), max_size=12).flatmap(
    lambda parts: st.sampled_from([" ", "  ", "\n", "\u3000"]).map(lambda space: space.join(parts))
)
TEXTS = st.lists(st.sets(st.sampled_from(WORDS), max_size=4), min_size=1, max_size=8)


def fill(collection, texts):
    collection.clear()
    collection.add_texts(texts, ids=[str(row) for row in range(len(texts))])


@pytest.fixture(params=TOKENIZERS)
def tokenized(request, ragstore_store):
    return ragstore_store.create_collection("tokenized", tokenizer=request.param)


@RUNS
@given(texts=st.lists(ANY_TEXT, max_size=4), query=ANY_TEXT, syntax=st.sampled_from([*SAFE, "fts5"]))
@example(texts=["a"], query="", syntax="phrase")
@example(texts=["\x00", "a\x00b"], query="a\x00b", syntax="natural")
@example(texts=["\u202e\ufffe\uffff"], query="\ud7ff\U0010ffff", syntax="prefix")
@example(texts=["fts5"], query='"unclosed AND (NEAR/3 col:* ^x -y', syntax="all")
@example(texts=["x"], query="' OR 1=1; DROP TABLE chunks; --", syntax="natural")
@example(texts=["*id"], query="*id", syntax="fts5")
def test_nothing_raises(tokenized, texts, query, syntax):
    fill(tokenized, texts)
    try:
        hits = tokenized.keyword_search(query, k=10, syntax=syntax)
    except ragstore.QuerySyntaxError:
        assert syntax == "fts5"
        return
    assert hits.complete
    assert len(set(hits.ids)) == len(hits) <= len(texts)
    assert list(hits.scores) == sorted(hits.scores, reverse=True)
    for hit in hits:
        assert hit.text == texts[int(hit.id)]
        # Marks and snippets are cut on whole characters, and change nothing else.
        assert hit.highlight("", "") == hit.text
        hit.snippet()
        if syntax != "fts5":
            assert hit.highlight("\ue000", "") != hit.text
    assert syntax != "natural" or tokenized.search(query).ids == hits.ids


@RUNS
@given(
    texts=st.lists(
        ANY_TEXT.filter(lambda text: any(c.isascii() and c.isalnum() for c in text)), min_size=1, max_size=4
    ),
    syntax=st.sampled_from(SAFE),
)
@example(texts=["0\x85"], syntax="phrase")
def test_a_text_finds_itself(tokenized, texts, syntax):
    fill(tokenized, texts)
    for row, text in enumerate(texts):
        found = tokenized.keyword_search(text, k=10, syntax=syntax).ids
        # A trigram tokenizer has no word for a text of two characters.
        assert str(row) in found or (tokenized.info.tokenizer == "trigram" and not found)
        if tokenized.info.tokenizer == "trigram" and len(text.replace("\0", "").strip()) >= 3 and syntax == "phrase":
            assert str(row) in found


@RUNS
@given(texts=TEXTS, query=QUERIES)
def test_hits_are_the_texts_that_hold_a_word(collection, texts, query):
    fill(collection, [" ".join(sorted(words)) for words in texts])
    asked = {word for word in WORDS if word in query}
    expected = {str(row) for row, words in enumerate(texts) if words & asked}
    assert set(collection.keyword_search(query, k=100).ids) == expected


@RUNS
@given(texts=TEXTS, query=QUERIES, k=st.integers(1, 8))
def test_k_and_a_filter_narrow_the_same_ranking(collection, texts, query, k):
    collection.clear()
    collection.add_texts(
        [" ".join(sorted(words)) for words in texts],
        ids=[str(row) for row in range(len(texts))],
        metadatas=[{"even": row % 2 == 0} for row in range(len(texts))],
    )
    whole = collection.keyword_search(query, k=100).ids
    assert collection.keyword_search(query, k=k).ids == whole[:k]
    narrowed = collection.keyword_search(query, k=k, where={"even": True}).ids
    assert narrowed == [id for id in whole if int(id) % 2 == 0][:k]
