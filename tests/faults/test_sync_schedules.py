"""Five stores write, sync in part, meet old batches again, have clocks apart, and end: all become equal."""

import contextlib
import dataclasses
import json
import random
import select
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import ragstore

from tests.faults import losses, merged, record
from tests.faults.server import Server
from tests.helpers import replicas

pytestmark = pytest.mark.faults

SCHEDULES = record.size(12, 1000)
STORES, STEPS = 5, 60
WORDS = ["cat", "dog", "bird", "fish", "owl"]
COLLECTIONS = ["c", "d"]
TOKENIZERS = ["unicode61", "porter unicode61"]


def put(path: str, batch: str) -> None:
    """Applies a batch, in a process that may be killed."""
    with ragstore.open(path, durability="relaxed") as store:
        store.apply_changes(Path(batch).read_bytes())


def kept(before: merged.Stored, after: merged.Stored) -> bool:
    """No document and no state value is another one."""
    return (after.contents(), after.values()) == (before.contents(), before.values())


def without(stored: merged.Stored, gone: Callable[[merged.Name], bool]) -> dict[merged.Name, merged.Content]:
    return {name: content for name, content in stored.contents().items() if not gone(name)}


def added(before: merged.Stored, after: merged.Stored, collection: str, id: str | None, new: merged.Content) -> bool:
    """The document is there, by its id or in the place of that which had its uri; the others are as before."""
    found = after.contents()
    names = [name for name, content in found.items() if content == new and name[0] == collection]
    if id is not None and (collection, id) not in names:
        names = [name for name in names if new.uri is not None and name in before.contents()]
    expected = without(
        before,
        lambda name: name[0] == collection and new.uri is not None and before.contents()[name].uri == new.uri,
    )
    return any({**expected, name: new} == found for name in names)


def named(collection, id: str) -> merged.Name:
    """An id that merged into another by its uri is of that document."""
    found = collection.get_document(id)
    return collection.name, found.id if found else id


class Schedule:
    """One random history of several stores."""

    def __init__(self, folder: Path, seed: int, server: Server | None) -> None:
        self.chance = random.Random(seed)
        self.paths = [folder / f"{number}.db" for number in range(STORES)]
        self.stores = [ragstore.open(path, durability="relaxed", timeout=120) for path in self.paths]
        # Any two are at most a minute apart.
        self.clocks = [self.chance.uniform(0, 55) for _ in range(STORES)]
        self.sent: list[tuple[int, bytes]] = []
        self.counts: dict[str, int] = {}
        self.server, self.folder = server, folder
        # Every write that a store acknowledged, and what the one that is under way must do to its store.
        self.merged, self.losses = merged.Merged(), losses.Losses()
        self.files = [sqlite3.connect(path, isolation_level=None) for path in self.paths]
        self.intent: Callable[[merged.Stored, merged.Stored], bool] = kept

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def clock(self, number: int):
        return replicas.clock(self.clocks[number])

    def write(self, number: int) -> None:
        """Some change; one that is refused is none."""
        store, chance = self.stores[number], self.chance
        name = chance.choice(COLLECTIONS)
        before, known = merged.Stored.read(self.files[number]), store.watermark()
        self.intent = kept
        with self.clock(number):
            try:
                if name not in store:
                    store.create_collection(name, dimension=2, tokenizer=chance.choice(TOKENIZERS))
                self.change(store, name)
            except (ragstore.ConflictError, ragstore.NotFoundError):
                self.count("refused writes")
                self.intent = kept
            else:
                self.count("writes")
        after = merged.Stored.read(self.files[number])
        assert self.intent(before, after), f"acknowledged, and not what was written: {before}, {after}"
        self.merged.take(before, after)
        self.losses.take(before, after, known)

    def change(self, store, name: str) -> None:
        chance = self.chance
        collection, id = store[name], f"doc{chance.randrange(6)}"
        changes = {
            lambda: self.add(collection, id): 40,
            lambda: self.delete(collection, id): 9,
            lambda: self.update(collection, id): 7,
            lambda: self.embed(collection, id): 6,
            lambda: self.relate(collection): 8,
            lambda: self.note(store.state(chance.choice(["default", "other"]))): 8,
            lambda: self.empty(collection, lambda: store.delete_collection(name)): 4,
            lambda: self.empty(collection, collection.clear): 2,
            lambda: collection.set_tokenizer(chance.choice(TOKENIZERS)): 2,
            lambda: self.space(collection, id): 10,
            store.optimize: 4,
        }
        chance.choices(list(changes), list(changes.values()))[0]()

    def delete(self, collection, id: str) -> None:
        name = named(collection, id)
        self.intent = lambda before, after: after.contents() == without(before, lambda other: other == name)
        collection.delete(document_ids=[id])

    def update(self, collection, id: str) -> None:
        name, n = named(collection, id), self.chance.randrange(100)

        def done(before: merged.Stored, after: merged.Stored) -> bool:
            contents = before.contents()
            if name in contents:
                made = json.loads(contents[name].metadata) | {"n": n}
                contents[name] = dataclasses.replace(contents[name], metadata=json.dumps(made, separators=(",", ":")))
            return after.contents() == contents

        self.intent = done
        collection.update_metadata({"n": n}, document_ids=[id])

    def empty(self, collection, call: Callable[[], object]) -> None:
        here = collection.name
        self.intent = lambda before, after: after.contents() == without(before, lambda other: other[0] == here)
        call()

    def embed(self, collection, id: str) -> None:
        chunks = collection.get_chunks(id)
        collection.set_embeddings([chunk.id for chunk in chunks], [[self.chance.random(), 1.0] for _ in chunks])

    def relate(self, collection) -> None:
        chance = self.chance
        ids = [document.id for document in collection.list_documents()]
        ids += [chunk.id for document in ids for chunk in collection.get_chunks(document)]
        source, target = chance.sample(ids, 2) if len(ids) > 1 else ("x", "y")
        if chance.random() < 0.7:
            collection.relate(source, target, chance.choice(["a", "b"]), strength=chance.random())
        else:
            collection.unrelate(source, target)

    def note(self, state) -> None:
        key = self.chance.choice("xyz")
        new = {(state.namespace, key): self.chance.randrange(100)} if self.chance.random() < 0.7 else {}

        def done(before: merged.Stored, after: merged.Stored) -> bool:
            others = {name: value for name, value in before.values().items() if name != (state.namespace, key)}
            return after.values() == others | new and after.contents() == before.contents()

        self.intent = done
        if new:
            state[key] = new[state.namespace, key]
        else:
            state.pop(key, None)

    def space(self, collection, id: str) -> None:
        chance = self.chance
        if "alt" not in [space.name for space in collection.list_spaces()]:
            collection.create_space("alt", dimension=chance.choice([None, 3]), metric="l2")
        elif chance.random() < 0.3:
            collection.delete_space("alt")
        else:
            chunks = [chunk.id for chunk in collection.get_chunks(id)]
            collection.set_embeddings(chunks, [[1.0] * 3 for _ in chunks], space="alt")

    def add(self, collection, id: str) -> None:
        chance = self.chance
        text = " ".join(chance.choices(WORDS, k=6))
        chunks = None
        if chance.random() < 0.6:
            # Some come with ids that documents of other stores have too.
            named = [None, None, None, f"chunk{chance.randrange(3)}"]
            chunks = [ragstore.Chunk(start=at, end=at + 5, id=chance.choice(named)) for at in (0, 6)]
            if chunks[0].id is not None and chunks[0].id == chunks[1].id:
                chunks = chunks[:1]
        document = ragstore.Document(
            text,
            id=id if chance.random() < 0.8 else None,
            uri=chance.choice([None, "u1", "u2", "u3"]),
            metadata={"n": chance.randrange(3)},
            chunks=chunks,
            expires_at=chance.choice([None] * 5 + [datetime.now().astimezone() + timedelta(days=1)]),
        )
        count = 1 if chunks is None else len(chunks)
        vectors = [[chance.random(), 1.0] for _ in range(count)] if chance.random() < 0.8 else None
        texts = (text,) if chunks is None else tuple(text[chunk.start : chunk.end] for chunk in chunks)
        metadata = json.dumps(document.metadata, separators=(",", ":"))
        content = merged.Content(document.uri, text, metadata, texts)
        self.intent = lambda before, after: added(before, after, collection.name, document.id, content)
        collection.add(document, vectors, on_conflict="replace")

    def send(self, number: int, other: int, *, damage: bool = False) -> None:
        """Some of what the other lacks, perhaps later, perhaps twice, perhaps broken."""
        # A third one's mark makes a batch that may begin too late for this one.
        mark = self.stores[self.chance.choice([other] * 4 + [(other + 1) % STORES])].watermark()
        with self.clock(number):
            batch = self.stores[number].export_changes(mark)
        self.sent.append((other, batch))
        if damage:
            at = self.chance.randrange(len(batch))
            self.refused(other, batch[:at] + bytes([batch[at] ^ 1]) + batch[at + 1 :])
        elif self.chance.random() < 0.8:
            self.apply(other, batch)

    def refused(self, number: int, batch: bytes) -> None:
        with self.clock(number), pytest.raises((ragstore.SyncError, ragstore.WrongKeyError)):
            self.stores[number].apply_changes(batch)
        self.count("damaged batches")

    def apply(self, number: int, batch: bytes) -> None:
        with self.clock(number):
            try:
                self.stores[number].apply_changes(batch)
            except ragstore.SyncError as error:
                assert "begins after changes" in str(error), error
                self.count("batches out of order")
            else:
                self.count("batches")

    def killed(self, number: int, batch: bytes) -> None:
        """Another process applies the batch, and ends at any moment."""
        file = self.folder / "batch"
        file.write_bytes(batch)
        child = self.server.start(put, str(self.paths[number]), str(file))
        select.select([], [], [], self.chance.random() * 0.03)
        child.kill()
        if child.wait() == -9:
            self.count("processes killed")

    def step(self) -> None:
        number, other = self.chance.sample(range(STORES), 2)
        kind = self.chance.random()
        if kind < 0.6:
            self.write(number)
        elif kind < 0.8:
            self.send(number, other)
        elif kind < 0.84:
            self.send(number, other, damage=True)
        elif kind < 0.92 and self.sent:
            self.apply(*self.chance.choice(self.sent))
        elif kind < 0.94 and self.sent and self.server is not None:
            self.killed(*self.chance.choice(self.sent))
        else:
            # In one process there is one clock.
            with replicas.clock(max(self.clocks[number], self.clocks[other])):
                self.stores[number].sync(self.stores[other])
            self.count("syncs")

    def run(self) -> None:
        for _ in range(STEPS):
            self.step()
        with replicas.clock(60):
            for _ in range(2):
                for number in range(STORES):
                    self.stores[number].sync(self.stores[(number + 1) % STORES])

    def compare(self) -> None:
        marks = [store.watermark() for store in self.stores]
        assert set(marks[0]) == set().union(*marks)
        found = [replicas.answers(store, WORDS) for store in self.stores]
        problems = [store.check().problems for store in self.stores]
        self.close()
        for path in self.paths:
            self.merged.check(merged.Stored.of(path))
        self.losses.check(self.merged, self.paths)
        rows = [replicas.registers(path) for path in self.paths]
        assert not any(problems), problems
        for number in range(1, STORES):
            for table in rows[0]:
                assert rows[number][table] == rows[0][table], f"{table} of store {number}"
            assert found[number] == found[0]

    def close(self) -> None:
        for file in self.files:
            file.close()
        for store in self.stores:
            store.close()


def run(folder: Path, seed: int, server: Server | None) -> dict[str, int]:
    """One schedule."""
    folder.mkdir()
    schedule = Schedule(folder, seed, server)
    try:
        schedule.run()
        schedule.compare()
    except BaseException:
        print("schedule", seed)
        raise
    finally:
        schedule.close()
    return schedule.counts


LOSSES = {
    "a document": "DELETE FROM chunks; DELETE FROM documents WHERE uid = 'x'",
    "a text": "UPDATE documents SET raw_content = 'other' WHERE uid = 'y'",
    "metadata": "UPDATE documents SET metadata = '{}' WHERE uid = 'y'",
    "a uri": "UPDATE documents SET source_uri = NULL WHERE uid = 'y'",
    "a chunk": "DELETE FROM chunks WHERE document_id = (SELECT id FROM documents WHERE uid = 'y')",
    "a deletion": "UPDATE documents SET uid = 'gone' WHERE uid = 'x'",
    "a value": "UPDATE state SET value = '3' WHERE key = 'k'",
    "a state key": "DELETE FROM state",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_model_sees_what_all_stores_lost(tmp_path, loss):
    """The control: each store lacks the same."""
    model = merged.Merged()
    stores = [ragstore.open(tmp_path / f"{name}.db") for name in "ab"]

    def write(number: int, call: Callable[[ragstore.Store], object]) -> None:
        with contextlib.closing(sqlite3.connect(stores[number].path, isolation_level=None)) as connection:
            before = merged.Stored.read(connection)
            call(stores[number])
            model.take(before, merged.Stored.read(connection))

    write(0, lambda store: store.create_collection("c", dimension=2))
    stores[0].sync(stores[1])
    write(0, lambda store: store["c"].add(ragstore.Document("cat", id="x")))
    write(1, lambda store: store["c"].add(ragstore.Document("dog", id="lost", uri="u")))
    write(0, lambda store: store["c"].add(ragstore.Document("owl", id="y", uri="u", metadata={"n": 1})))
    write(1, lambda store: store["c"].add(ragstore.Document("fish", id="gone")))
    write(0, lambda store: store.state().update(k=1))
    stores[0].sync(stores[1])
    write(0, lambda store: store["c"].delete(document_ids=["gone"]))
    write(1, lambda store: store.state().update(k=2))
    stores[0].sync(stores[1])
    assert set(model.contents()) == {("c", "x"), ("c", "y")}
    assert model.values() == {("default", "k"): 2}
    for store in stores:
        store.close()
    for store in stores:
        model.check(merged.Stored.of(store.path))
        with contextlib.closing(sqlite3.connect(store.path)) as connection:
            connection.executescript(LOSSES[loss])
    for store in stores:
        with pytest.raises(AssertionError):
            model.check(merged.Stored.of(store.path))


LISTED = {
    "a document": "DELETE FROM sync_conflicts WHERE uid = 'x'",
    "a deletion": "DELETE FROM sync_conflicts WHERE uid = 'gone'",
    "a value": "DELETE FROM sync_conflicts WHERE entity = 'state'",
    "twice": "INSERT INTO sync_conflicts SELECT NULL, found_at, collection, entity, uid, kept, winner, loser"
    " FROM sync_conflicts",
    "what was known": "INSERT INTO sync_conflicts SELECT NULL, 0, 'c', 'document', 'known', 'own', d.hlc, c.hlc"
    " FROM documents d, documents c WHERE d.uid = 'known' AND c.uid = 'before'",
    "the same": "INSERT INTO sync_conflicts SELECT NULL, 0, NULL, 'state', '[\"default\",\"same\"]', 'own', hlc,"
    " (SELECT hlc FROM note) FROM state WHERE key = 'same'",
}


@pytest.mark.parametrize("wrong", LISTED)
def test_the_model_sees_what_is_not_listed_or_not_lost(tmp_path, wrong):
    """The control: one store lists what it must not, or not what it must."""
    model, judge = merged.Merged(), losses.Losses()
    stores = [ragstore.open(tmp_path / f"{name}.db") for name in "ab"]

    def write(number: int, call: Callable[[ragstore.Store], object]) -> None:
        with contextlib.closing(sqlite3.connect(stores[number].path, isolation_level=None)) as connection:
            before, known = merged.Stored.read(connection), stores[number].watermark()
            call(stores[number])
            after = merged.Stored.read(connection)
            model.take(before, after)
            judge.take(before, after, known)

    write(0, lambda store: store.create_collection("c", dimension=2))
    write(0, lambda store: store["c"].add([ragstore.Document("cat", id=id) for id in ("x", "gone", "before")]))
    stores[0].sync(stores[1])
    write(1, lambda store: store["c"].add(ragstore.Document("cat", id="known")))
    write(0, lambda store: store["c"].add(ragstore.Document("dog", id="x"), on_conflict="replace"))
    write(0, lambda store: store["c"].delete(document_ids=["gone"]))
    write(0, lambda store: store.state().update(k=1))
    write(0, lambda store: store.state().update(same=1))
    with contextlib.closing(sqlite3.connect(stores[0].path)) as connection:
        (first,) = connection.execute("SELECT hlc FROM state WHERE key = 'same'").fetchone()
    with replicas.clock(1):
        write(1, lambda store: store["c"].add(ragstore.Document("owl", id="x"), on_conflict="replace"))
        write(1, lambda store: store["c"].update_metadata({"n": 1}, document_ids=["gone"]))
        write(1, lambda store: store.state().update(k=2))
        write(1, lambda store: store.state().update(same=1))
        stores[0].sync(stores[1])
    for store in stores:
        store.close()
    paths = [Path(store.path) for store in stores]
    judge.check(model, paths)
    with contextlib.closing(sqlite3.connect(paths[0])) as connection, connection:
        connection.execute("CREATE TEMP TABLE note AS SELECT ? AS hlc", [first])
        assert connection.execute(LISTED[wrong]).rowcount > 0
    with pytest.raises(AssertionError):
        judge.check(model, paths)


def test_sync_schedules(tmp_path):
    with record.Suite("sync_schedules", tmp_path) as suite, Server(__name__) as server:
        for _ in range(SCHEDULES):
            seed = suite.chance.randrange(1 << 32)
            suite.counts["schedules"] += 1
            suite.counts.update(run(tmp_path / str(suite.counts["schedules"]), seed, server))
