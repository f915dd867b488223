"""Keyword search: its syntaxes, its tokenizers, and its ranking beside FTS5's own."""

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
from pydoc_data.topics import topics

import pytest
import ragstore

FULL = os.environ.get("RAGSTORE_FAULTS") == "full"
SAFE = ["natural", "all", "phrase", "prefix"]
TOKENIZERS = ["porter unicode61", "unicode61 remove_diacritics 2 tokenchars '-_'", "ascii", "trigram"]
PETS = {
    "a": "The quick brown fox jumps over the lazy dog.",
    "b": "A brown and quick dog; foxes bark.",
    "d": "Foxgloves are brown, quickly said.",
}


@pytest.fixture
def pets(collection):
    collection.add_texts(list(PETS.values()), ids=list(PETS))
    return collection


@pytest.fixture(scope="module")
def paragraphs():
    """Python's own documentation, repeated paragraphs too, so that there are ties."""
    found = [part.strip() for _, text in sorted(topics.items()) for part in text.split("\n\n")]
    return [part for part in found if part][:3000]


# syntaxes


@pytest.mark.parametrize(
    ("syntax", "text", "expected"),
    [
        ("natural", "does the FOX jump?", "ab"),
        ("natural", "unicorn", ""),
        ("all", "fox quick", "ab"),
        ("all", "quick fox unicorn", ""),
        ("phrase", "Quick -- brown (fox)", "a"),
        ("phrase", "brown quick", ""),
        ("prefix", "brown foxgl", "d"),
        ("prefix", "br fox", ""),
        ("prefix", "b", "abd"),
        ("fts5", "fox NOT lazy", "b"),
        ("fts5", "NEAR(brown fox, 1)", "a"),
        ("fts5", 'content : "quick brown" OR foxgl*', "ad"),
        ("fts5", "", ""),
    ],
)
def test_syntaxes(pets, syntax, text, expected):
    found = pets.keyword_search(text, syntax=syntax)
    assert "".join(sorted(found.ids)) == expected
    assert pets.keyword_search(text, syntax=syntax, where={}).ids == found.ids


def test_operators_are_words_but_in_fts5(pets):
    pets.add_texts(["or not and near"], ids=["words"])
    for syntax in SAFE:
        assert pets.keyword_search("NOT OR", syntax=syntax).ids == (["words"] if syntax != "phrase" else [])
    assert pets.keyword_search('"fox" NOT "jumps"', syntax="all").ids == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"open', "unterminated string"),
        ("fox AND", 'syntax error near ""'),
        ("uid : fox", "no such column: uid"),
        ("fox\0", "NUL"),
        ("*reads", "begins with *"),
        (" *id", "begins with *"),
        ("(" * 4096, "fts5"),
        ("what's this?", 'syntax error near "\'"'),
    ],
)
def test_a_wrong_expression_is_a_typed_error(pets, text, says):
    with pytest.raises(ragstore.QuerySyntaxError, match=re.escape(says)) as caught:
        pets.keyword_search(text, syntax="fts5")
    assert "natural" in str(caught.value)
    assert "fts_" not in str(caught.value)
    for syntax in SAFE:
        pets.keyword_search(text, syntax=syntax)


def test_arguments_are_checked(pets):
    with pytest.raises(ragstore.LimitError, match="4096"):
        pets.keyword_search("ä" * 2049, syntax="fts5")
    with pytest.raises(ValueError, match='syntax is "any"; it is one of "natural", "all"'):
        pets.keyword_search("fox", syntax="any")
    with pytest.raises(TypeError, match="syntax is of type NoneType"):
        pets.keyword_search("fox", syntax=None)


@pytest.mark.parametrize("syntax", SAFE)
def test_a_text_of_any_length_is_answered(pets, syntax):
    text = " ".join(f"w{i}" for i in range(5000))
    pets.add_texts([text], ids=["long"])
    assert pets.keyword_search(text, syntax=syntax).ids == ["long"]
    assert set(pets.keyword_search("fox " * 100_000, syntax=syntax).ids) <= PETS.keys()


def test_the_rarest_words_of_a_long_text_decide(collection):
    common = " ".join(f"c{i}" for i in range(100))
    collection.add_texts([common] * 20 + ["rare " + common, "c1"])
    found = collection.keyword_search("c0 " + common + " rare")
    assert found.texts[0].startswith("rare")


@pytest.mark.parametrize(
    ("syntax", "text", "marked"),
    [
        ("natural", "jumping foxes", ["fox", "jumps"]),
        ("all", "dog fox", ["fox", "dog"]),
        ("phrase", "lazy dog", ["lazy", "dog"]),
        ("prefix", "quick ju", ["quick", "jumps"]),
        ("fts5", "content : fox AND (laz* OR cat) NOT unicorn", ["fox", "lazy"]),
    ],
)
def test_what_was_looked_for_is_marked(pets, syntax, text, marked):
    (hit,) = [hit for hit in pets.keyword_search(text, syntax=syntax) if hit.id == "a"]
    assert re.findall("<b>(.*?)</b>", hit.highlight()) == marked
    assert hit.snippet(3).count("<b>") >= 1


# ranking


def fts5(texts, tokenizer="porter unicode61"):
    """The same texts in a table of FTS5."""
    conn = sqlite3.connect(":memory:")
    conn.execute(f'CREATE VIRTUAL TABLE f USING fts5(content, tokenize="{tokenizer}")')
    conn.executemany("INSERT INTO f (rowid, content) VALUES (?, ?)", enumerate(texts))
    return conn


@pytest.mark.parametrize("tokenizer", ["porter unicode61", "unicode61", "trigram"])
def test_the_ranking_is_that_of_fts5(ragstore_store, paragraphs, tokenizer):
    collection = ragstore_store.create_collection("docs", tokenizer=tokenizer)
    collection.add_texts(paragraphs, ids=[str(row) for row in range(len(paragraphs))])
    reference = fts5(paragraphs, tokenizer)
    rng = random.Random(7)
    compared = 0
    for _ in range(60):
        words = rng.sample(re.findall(r"[a-z]{3,}", rng.choice(paragraphs).lower()) or ["the"], 1)
        words += rng.sample([w for w in ("value", "class", "import", "statement", "while") if w not in words], 2)
        quoted = [f'"{word}"' for word in words]
        raw = f"({quoted[0]} OR {quoted[1]}) AND {quoted[2]}*"
        for syntax, text, expression in [
            ("natural", " ".join(words), " OR ".join(quoted)),
            ("all", " ".join(words), " AND ".join(quoted)),
            ("phrase", " ".join(words[:2]), f'"{words[0]} {words[1]}"'),
            ("prefix", " ".join(words)[:-1], " AND ".join(quoted[:-1]) + f' AND "{words[2][:-1]}"*'),
            ("fts5", raw, raw),
        ]:
            expected = reference.execute(
                "SELECT rowid, -rank FROM f WHERE f MATCH ? ORDER BY rank, rowid LIMIT 50", (expression,)
            ).fetchall()
            hits = collection.keyword_search(text, 50, syntax=syntax)
            assert [int(hit.id) for hit in hits] == [row for row, _ in expected], (syntax, text)
            assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], rel=1e-12)
            compared += len(hits)
    assert compared > 4000


def test_ties_are_by_insertion(collection):
    collection.add_texts(["same words"] * 50, ids=[str(row) for row in range(50)])
    for syntax in SAFE:
        assert collection.keyword_search("same words", 30, syntax=syntax).ids == [str(row) for row in range(30)]


def test_each_word_is_stemmed_once(collection, paragraphs):
    words = sorted(set(re.findall(r"[^\W_]+", " ".join(topics.values()))))
    conn = sqlite3.connect(":memory:")
    conn.execute("CREATE VIRTUAL TABLE f USING fts5(content, tokenize='porter unicode61')")
    conn.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(f, row)")

    def stems(texts):
        conn.execute("DELETE FROM f")
        conn.executemany("INSERT INTO f VALUES (?)", [(text,) for text in texts])
        return {term for (term,) in conn.execute("SELECT term FROM terms")}

    once = stems(words)
    # Porter's stem of a stem is another one: a query made of stems would miss these.
    assert len(once - stems(once)) > 50
    collection.add_texts(words)
    for word in words:
        assert word in collection.keyword_search(word, 200).texts


# tokenizers


def test_trigrams_find_substrings_in_any_script(ragstore_store):
    code = ragstore_store.create_collection("code", tokenizer="trigram")
    texts = [
        "向量数据库的索引结构",
        "def keyword_search(text)",
        "std::io in C++",
        "ภาษาไทยไม่มีช่องว่าง",
        "데이터베이스를 검색",
    ]
    code.add_texts(texts, ids=["zh", "py", "cpp", "th", "ko"])
    for text, expected in [
        ("关系型数据库怎么建立索引?", ["zh"]),
        ("word_sea", ["py"]),
        ("(search)", ["py"]),
        ("STD::IO", ["cpp"]),
        ("C++", ["cpp"]),
        ("มีช่องว่าง", ["th"]),
        ("데이터베이스의", ["ko"]),
    ]:
        assert code.keyword_search(text).ids == expected, text
    assert code.keyword_search("数据库 索引结", syntax="all").ids == ["zh"]
    assert code.keyword_search("关系型数据库", syntax="all").ids == []
    assert code.keyword_search("数据库的索", syntax="phrase").ids == ["zh"]
    # Fewer than three characters are not in the index; beside longer words they are left out.
    for syntax in SAFE:
        assert code.keyword_search("索引", syntax=syntax).ids == []
    assert code.keyword_search("ab 数据库", syntax="all").ids == ["zh"]
    (hit,) = code.keyword_search("关系型数据库")
    assert hit.highlight("[", "]") == "向量[数据库]的索引结构"


def test_options_of_a_tokenizer_decide_what_a_word_is(ragstore_store):
    collection = ragstore_store.create_collection("c", tokenizer="unicode61 remove_diacritics 0 tokenchars '-'")
    collection.add_texts(["state-of-the-art café"])
    assert len(collection.keyword_search("state-of-the-art")) == 1
    for miss in ["state", "cafe", "art"]:
        assert len(collection.keyword_search(miss)) == 0


def feed(path):
    conn = sqlite3.connect(path)
    rows = conn.execute("SELECT entity, uid, op FROM changes ORDER BY seq").fetchall()
    conn.close()
    return rows


def test_set_tokenizer_indexes_anew(path, store):
    notes = store.create_collection("notes")
    notes.add_texts(["indexes of cafés", "an index"], [[1.0, 0.0], [0.0, 1.0]], ids=["a", "b"])
    notes.add(ragstore.Document(id="bare"))
    assert notes.keyword_search("indexing").ids == ["b", "a"]
    seen = []
    notes.set_tokenizer("trigram", progress=lambda *done: seen.append(done))
    assert seen[-1] == (3, 3)
    assert notes.info.tokenizer == "trigram"
    assert feed(path)[-1] == ("collection", "notes", "put")
    assert notes.keyword_search("ndex").ids == ["b", "a"]
    assert notes.keyword_search("indexing").ids == []
    assert notes.vector_search([1.0, 0.0], 1).ids == ["a"]
    before = feed(path)
    notes.set_tokenizer(" trigram ")
    assert feed(path) == before
    notes.delete(["a"])
    notes.add_texts(["codex"], ids=["c"])
    store.close()
    with ragstore.open(path) as again:
        assert again["notes"].info.tokenizer == "trigram"
        assert set(again["notes"].keyword_search("dex").ids) == {"b", "c"}
        names = {name for (name,) in sqlite3.connect(path).execute("SELECT name FROM sqlite_schema")}
        assert {name for name in names if name.startswith("fts_1_")} == {
            f"fts_1_2{part}" for part in ("", "_config", "_data", "_docsize", "_idx")
        }


@pytest.mark.parametrize("tokenizer", ["", "snowball", "unicode61 drop 1", "trigram case_sensitive 7", "trigram '"])
def test_a_tokenizer_that_is_not_there_changes_nothing(path, store, tokenizer):
    notes = store.create_collection("notes")
    notes.add("indexes")
    before = feed(path)
    with pytest.raises(ValueError, match="tokenizer"):
        notes.set_tokenizer(tokenizer)
    with pytest.raises(ValueError, match="tokenizer"):
        store.create_collection("other", tokenizer=tokenizer)
    assert feed(path) == before
    assert notes.info.tokenizer == "porter unicode61"
    assert len(notes.keyword_search("index")) == 1


def test_set_tokenizer_refuses_what_every_write_refuses(path, store):
    store.create_collection("notes")
    with pytest.raises(ragstore.CollectionNotFoundError):
        ragstore.Collection(store, "none").set_tokenizer("trigram")
    with pytest.raises(TypeError, match="tokenizer is of type NoneType"):
        store["notes"].set_tokenizer(None)
    with ragstore.open(path, read_only=True) as reader, pytest.raises(ragstore.ReadOnlyError):
        reader["notes"].set_tokenizer("trigram")


def test_what_progress_raises_cancels_set_tokenizer(store):
    notes = store.create_collection("notes")
    notes.add_texts(["many words of text, over and over " * 20] * 20_000)

    def stop(done, total):
        assert total == 20_000
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        notes.set_tokenizer("trigram", progress=stop)
    assert not getattr(caught.value, "__notes__", [])
    assert notes.info.tokenizer == "porter unicode61"
    assert len(notes.keyword_search("word")) == 10


def test_other_processes_search_the_new_index_at_once(path, store):
    notes = store.create_collection("notes")
    notes.add_texts(["indexes"])
    server = """
import json, sys, ragstore
with ragstore.open(sys.argv[1], read_only=True) as store:
    for line in sys.stdin:
        print(len(store["notes"].keyword_search(json.loads(line))), flush=True)
"""
    command = [sys.executable, "-c", server, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def there(text):
            process.stdin.write(json.dumps(text) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        for _ in range(5):
            assert (there("index"), there("dexe")) == (1, 0)
            notes.set_tokenizer("trigram")
            assert (there("indexing"), there("dexe")) == (0, 1)
            notes.set_tokenizer("porter unicode61")
        process.stdin.close()
    assert process.returncode == 0


# hostile text

PIECES = [
    *('"', "'", "(", ")", "*", "+", "-", "^", ":", "{", "}", ",", "\\", ";", "--", "/*", "%", "_", "?1", "\0", "\x1a"),
    *("AND", "OR", "NOT", "NEAR", "NEAR(", "content:", "rank:", "rowid", "{content}:", "fts_1_1", "uid :", "*reads"),
    *("'; DROP TABLE chunks; --", '" OR 1=1', "') UNION SELECT 1 --", "x'00'", "fox", "brown", "the"),
    *("北京", "naïve", "e\u0301", "\u202e", "\ufeff", "\ud7ff", "\U0010ffff", "ß", "İ", "ǆ", "\u0300\u0301"),
]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_hostile_queries_do_no_harm(ragstore_store, tokenizer):
    collection = ragstore_store.create_collection("notes", tokenizer=tokenizer)
    collection.add_texts(list(PETS.values()), ids=list(PETS))
    rng = random.Random(11)
    refused = 0
    for _ in range(200_000 // len(TOKENIZERS) if FULL else 500):
        text = rng.choice(["", " "]).join(rng.choices(PIECES, k=rng.randint(1, 9)))
        for syntax in [rng.choice(SAFE), "fts5"]:
            try:
                hits = collection.keyword_search(text, syntax=syntax)
            except ragstore.QuerySyntaxError as error:
                assert syntax == "fts5", text
                assert "fts_1_1" not in str(error) or "fts_1_1" in text
                refused += 1
                continue
            assert set(hits.ids) <= PETS.keys()
            for hit in hits:
                assert hit.text == PETS[hit.id]
                assert hit.highlight("", "") == hit.text
    assert refused > 100
    assert collection.count() == len(PETS)
    assert ragstore_store["notes"].keyword_search("brown fox").ids
