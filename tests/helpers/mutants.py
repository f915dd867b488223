"""Damaged and crafted files, each made from a sound store by a seed."""

import contextlib
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import ragstore
from ragstore import Chunk, Document

PAGE = 8192
DIMENSION = 12
# The fields of the header: where they begin, and their bytes.
FIELDS = [
    (0, 16),
    (16, 2),
    (18, 1),
    (19, 1),
    (20, 1),
    (21, 3),
    (72, 20),
    *((at, 4) for at in (*range(24, 72, 4), 92, 96)),
]
WORDS = "cat dog house tree river stone light water mountain paper bread window letter garden".split()  # noqa: SIM905


def make_store(path: Path, seed: int) -> None:
    """Text, metadata, two spaces, deletes, fields and a cache."""
    chance = random.Random(seed)
    rows = np.random.default_rng(seed)
    with ragstore.open(path) as store:
        first = store.create_collection("first", dimension=DIMENSION, settings={"a": [1, 2]})
        first.create_space("other", dimension=5, metric="l2")
        documents, chunks = [], 0
        for number in range(24):
            text = " ".join(chance.choice(WORDS) for _ in range(chance.randint(1, 150)))
            cuts = ragstore.split(text, 300)
            own = [Chunk(id=f"d{number}-{i}", start=c.start, end=c.end, metadata={"n": i}) for i, c in enumerate(cuts)]
            documents.append(
                Document(text, id=f"d{number}", uri=f"file:{number}", chunks=own, metadata=metadata(chance, number))
            )
            chunks += len(own)
        first.add(documents, rows.standard_normal((chunks, DIMENSION), np.float32))
        first.create_index("year")
        first.create_index("tags")
        ids = [f"d{number}-0" for number in range(16)]
        first.set_embeddings(ids, rows.standard_normal((16, 5), np.float32), space="other")
        first.delete(document_ids=[f"d{number}" for number in range(0, 24, 7)])
        first.update_metadata({"year": 1999}, document_ids=["d1"])
        first.delete_embeddings(["d2-0"])
        second = store.create_collection(
            "second",
            tokenizer="trigram",
            metric="ip",
            model="m",
            embedder=lambda texts: [[1.0, len(t), 2] for t in texts],
        )
        second.add_texts([" ".join(chance.sample(WORDS, 3)) for _ in range(10)])
        third = store.create_collection("third")
        third.add_texts(["only text here", "x" * 20_000])


def metadata(chance: random.Random, number: int) -> dict:
    tags = chance.sample(WORDS, 2)
    return {"year": 2000 + number % 9, "tags": tags, "deep": {"a": {"b": number}}, "when": "2024-05-06T07:08:09Z"}


class Base:
    """A sound file, and the log of another."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.path = folder / f"base{seed}.db"
        make_store(self.path, seed)
        self.bytes = self.path.read_bytes()
        live = folder / f"live{seed}.db"
        shutil.copy(self.path, live)
        with ragstore.open(live) as store:
            store["first"].add_texts(["a text in the log"] * 20, np.ones((20, DIMENSION), np.float32))
            store["first"].delete(document_ids=["d3", "d4"])
            self.log = live.with_name(live.name + "-wal").read_bytes()
        with sqlite3.connect(self.path) as connection:
            rows = connection.execute("SELECT name, type, rootpage FROM sqlite_schema").fetchall()
        connection.close()
        self.tables = [name for name, kind, root in rows if kind == "table" and root]
        self.shadows = [name for name in self.tables if name.startswith(("fts_", "vec_"))]
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def mutate(base: Base, path: Path, seed: int) -> str:
    """Writes one mutant and says what kind it is."""
    chance = random.Random(seed)
    kind = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    KINDS[kind][1](chance, base, path)
    return kind


def bits(chance: random.Random, base: Base, path: Path) -> None:
    data = bytearray(base.bytes)
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def structures(chance: random.Random, base: Base, path: Path) -> None:
    """The heads of pages and the pointers after them, where trees are made of."""
    data = bytearray(base.bytes)
    for _ in range(chance.choice([1, 2, 4])):
        page = chance.randrange(len(data) // PAGE) * PAGE + (100 if chance.random() < 0.05 else 0)
        at = min(page + chance.randrange(64), len(data) - 1)
        data[at] = chance.choice([0, 1, 2, 5, 10, 13, 127, 128, 255, chance.randrange(256)])
    path.write_bytes(data)


def runs(chance: random.Random, base: Base, path: Path) -> None:
    data = bytearray(base.bytes)
    length = chance.choice([1, 4, 16, 512, PAGE, 3 * PAGE])
    at = chance.randrange(max(1, len(data) - length))
    fill = chance.choice([b"\0" * length, b"\xff" * length, chance.randbytes(length)])
    data[at : at + length] = fill
    path.write_bytes(data)


def swaps(chance: random.Random, base: Base, path: Path) -> None:
    data = bytearray(base.bytes)
    pages = len(data) // PAGE
    for _ in range(chance.choice([1, 1, 3])):
        a, b = chance.randrange(pages), chance.randrange(pages)
        one, two = bytes(data[a * PAGE : a * PAGE + PAGE]), bytes(data[b * PAGE : b * PAGE + PAGE])
        data[a * PAGE : a * PAGE + PAGE] = two
        if chance.random() < 0.6:
            data[b * PAGE : b * PAGE + PAGE] = one
    path.write_bytes(data)


def truncated(chance: random.Random, base: Base, path: Path) -> None:
    length = chance.choice([0, 1, 99, 100, 512, PAGE, PAGE + 1, chance.randrange(len(base.bytes))])
    data = base.bytes[:length]
    if chance.random() < 0.3:
        data += b"\0" * chance.randrange(4 * PAGE)
    path.write_bytes(data)


def header(chance: random.Random, base: Base, path: Path) -> None:
    data = bytearray(base.bytes)
    at, length = chance.choice(FIELDS)
    data[at : at + length] = chance.choice(
        [b"\0" * length, b"\xff" * length, chance.randbytes(length), (1).to_bytes(length, "big")]
    )
    path.write_bytes(data)


def logs(chance: random.Random, base: Base, path: Path) -> None:
    """A log of another file, one that is damaged, or one that is cut."""
    path.write_bytes(base.bytes)
    log = bytearray(base.log)
    how = chance.randrange(4)
    if how == 0:
        log = log[: chance.randrange(len(log))]
    elif how == 1:
        for _ in range(chance.choice([1, 10])):
            log[chance.randrange(len(log))] ^= 1 << chance.randrange(8)
    elif how == 2:
        log = bytearray(chance.randbytes(len(log)))
    if chance.random() < 0.3:
        bits(chance, base, path)
    path.with_name(path.name + "-wal").write_bytes(log)


def value(chance: random.Random):
    """What a column may be made to hold."""
    return chance.choice(
        [
            None, 0, -1, 1, 2**31, 2**62, -(2**63), 2**63 - 1, 1e300, float("inf"), "", "x", "{", "[]", "null",
            b"", b"\xff" * 7,
            b"\0" * 24, "{" + '"a":[' * 200, '{"a":' * 50 + "1" + "}" * 50, '{"n":' + "9" * 5000 + "}",
            '{"a":"\\ud800"}', '{"year":1e999}', "\0", "é" * 3000, chance.randbytes(100), "x" * 300_000,
            '{"a":1,"a":2}', '{"":{"":[[[]]]}}', "porter", "unicode61 separators '", "cosine", "l2",
        ]
    )  # fmt: skip


def rows(chance: random.Random, base: Base, path: Path) -> None:
    """Values that no write of the library stores, written by another SQLite."""
    path.write_bytes(base.bytes)
    with Edited(path) as connection:
        for _ in range(chance.choice([1, 1, 1, 4])):
            table = chance.choice([t for t in base.tables if not t.startswith("sqlite_stat")])
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            column = chance.choice(columns)
            where = chance.choice(["", f"WHERE random() % {chance.choice([2, 10, 50])} = 0"])
            tell(connection, f'UPDATE OR IGNORE {table} SET "{column}" = ? {where}', value(chance))


def shadows(chance: random.Random, base: Base, path: Path) -> None:
    """The blobs and rows of vec0's and FTS5's own tables."""
    path.write_bytes(base.bytes)
    with Edited(path) as connection:
        for _ in range(chance.choice([1, 2, 5])):
            table = chance.choice(base.shadows)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            column = chance.choice(columns)
            some = f"WHERE random() % {chance.choice([1, 2, 5])} = 0"
            how = chance.randrange(6)
            if how == 0:
                tell(connection, f"DELETE FROM {table} {some}")
            elif how == 1:
                tell(connection, f'UPDATE OR IGNORE {table} SET "{column}" = ? {some}', value(chance))
            elif how == 2:
                tell(
                    connection,
                    f'UPDATE OR IGNORE {table} SET "{column}" = substr("{column}", 1, ?) {some}',
                    chance.randrange(99),
                )
            elif how == 3:
                tell(connection, f'UPDATE OR IGNORE {table} SET "{column}" = "{column}" || "{column}" {some}')
            else:
                flip(chance, connection, table, column)


def flip(chance: random.Random, connection, table: str, column: str) -> None:
    found = connection.execute(f'SELECT "{column}" FROM {table} WHERE typeof("{column}") = \'blob\'').fetchall()
    if found:
        old = chance.choice(found)[0]
        if old:
            new = bytearray(old)
            for _ in range(chance.choice([1, 4, 32])):
                new[chance.randrange(len(new))] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
            tell(connection, f'UPDATE OR IGNORE {table} SET "{column}" = ? WHERE "{column}" = ?', bytes(new), old)


def schemas(chance: random.Random, base: Base, path: Path) -> None:
    """What the schema says, rewritten."""
    path.write_bytes(base.bytes)
    endless = (
        "WITH RECURSIVE r(i, c) AS (SELECT 1, 'cat' UNION ALL SELECT i + 1, 'cat' FROM r) SELECT i id, c content FROM r"
    )
    quoted = endless.replace("'", "''")
    of = "UPDATE sqlite_schema SET"
    hostile = [
        f"{of} sql = 'CREATE VIEW fts_src_1 AS {quoted}' WHERE name = 'fts_src_1'",
        "UPDATE sqlite_schema SET sql = replace(sql, 'float[12]', 'float[8192]') WHERE name LIKE 'vec_%'",
        "UPDATE sqlite_schema SET sql = replace(sql, 'float[12]', 'float[999999999]') WHERE name LIKE 'vec_%'",
        "UPDATE sqlite_schema SET sql = replace(sql, 'chunk_size=128', 'chunk_size=4096') WHERE name LIKE 'vec_%'",
        f"{of} sql = replace(sql, 'content=', 'contentless_delete=1, content=') WHERE name LIKE 'fts_1_%'",
        "UPDATE sqlite_schema SET sql = replace(sql, 'porter unicode61', 'trigram') WHERE name LIKE 'fts_1_%'",
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE chunks (x' WHERE name = 'chunks'",
        "UPDATE sqlite_schema SET sql = NULL WHERE name = 'documents'",
        "UPDATE sqlite_schema SET type = 'view' WHERE name = 'state'",
        f"{of} rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'chunks') WHERE name = 'documents'",
        f"UPDATE sqlite_schema SET rootpage = {chance.randrange(1 << 31)} WHERE random() % 9 = 0",
        f"UPDATE sqlite_schema SET rootpage = {chance.randrange(len(base.bytes) // PAGE)} WHERE random() % 9 = 0",
        "DELETE FROM sqlite_schema WHERE random() % 9 = 0",
        "UPDATE sqlite_schema SET name = 'x' || name WHERE random() % 9 = 0",
        "UPDATE sqlite_schema SET tbl_name = 'chunks' WHERE random() % 9 = 0",
        "CREATE TRIGGER t AFTER INSERT ON chunks BEGIN DELETE FROM documents; END",
        f"CREATE VIEW endless AS {endless}",
        "CREATE INDEX i ON chunks (length(replace(content, 'a', 'b')))",
        "CREATE TABLE notes (text)",
        "DROP TABLE state",
        "DROP VIEW fts_src_2",
        "PRAGMA user_version = 1",
        "PRAGMA user_version = 99",
        "PRAGMA user_version = 0",
        "PRAGMA application_id = 7",
        "UPDATE spaces SET dimension = 8192",
        "UPDATE spaces SET dimension = 1 << 40",
        "UPDATE spaces SET vec_generation = 9",
        "UPDATE collections SET fts_generation = -1",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807",
        "DELETE FROM sqlite_sequence",
        "UPDATE chunks SET byte_start = -5",
        "UPDATE chunks SET char_start = 9223372036854775807, char_end = -9223372036854775808",
        "UPDATE chunks SET id = id + 4611686018427387904 WHERE id % 2",
        "UPDATE chunks SET document_id = 1",
        "UPDATE chunks SET collection_id = 2 WHERE id % 3 = 0",
        "UPDATE documents SET created_at = 9223372036854775807",
        "UPDATE changes SET seq = seq + 4611686018427387904",
        "UPDATE meta SET value = zeroblob(24)",
        "UPDATE meta SET value = randomblob(24) WHERE key = 'hlc'",
        "DELETE FROM meta",
        "DELETE FROM migrations",
        "PRAGMA journal_mode = DELETE",
    ]
    with Edited(path) as connection:
        for statement in chance.sample(hostile, chance.choice([1, 1, 2])):
            tell(connection, statement)


class Edited:
    """Another SQLite on the file, which may write everything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> sqlite3.Connection:
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        for pragma in (
            "ignore_check_constraints = ON",
            "foreign_keys = OFF",
            "writable_schema = ON",
            "synchronous = OFF",
        ):
            self.connection.execute(f"PRAGMA {pragma}")
        return self.connection

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def tell(connection: sqlite3.Connection, statement: str, *values: object) -> None:
    # Some statements do not go together; what went before stays.
    with contextlib.suppress(sqlite3.Error):
        connection.execute(statement, values).fetchall()


KINDS = {
    "bits": (20, bits),
    "structures": (16, structures),
    "runs": (10, runs),
    "swaps": (10, swaps),
    "truncated": (5, truncated),
    "header": (7, header),
    "logs": (7, logs),
    "rows": (15, rows),
    "shadows": (15, shadows),
    "schemas": (15, schemas),
}
