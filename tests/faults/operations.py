"""Each operation that writes, on a store that was made for it: where faults are put at every system call."""

import contextlib
import dataclasses
import itertools
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.faults import oracle, record, tracing, workload
from tests.faults.server import Server
from tests.helpers import canaries, replicas
from tests.helpers.damages import damage
from tests.helpers.older import first_format

SEED = 7
BEFORE = 40
KEY, OTHER = bytes(range(32)), bytes(range(32, 64))


@dataclasses.dataclass
class Operation:
    """What a fault hits, and what makes the file before it."""

    run: Callable[[ragstore.Store], object]
    prepare: Callable[[Path], None]
    # Whether what is stored is other afterwards.
    changes: bool = True
    # What the operation makes beside the store, or mends in it: brings it to its end where it was cut off.
    end: Callable[[Path], None] | None = None
    # Reads what it made, as `contents` does.
    made: Callable[[Path], dict] | None = None
    # Looks at the files of a store in which it came to its end.
    proof: Callable[[Path], None] | None = None
    # What opens the file before it, and after it.
    keys: tuple[bytes | None, bytes | None] = (None, None)
    # From how many rows on there are derived indexes, as `record.INDEX_AT` says it.
    index_at: tuple[int, int, bool] | None = None


def nothing(path: Path) -> None:
    """There is no file."""


def filled(path: Path) -> None:
    with ragstore.open(path) as store:
        store.create_collection("c", dimension=workload.DIMENSION)
        workload.write(store, SEED, "a", {}, range(BEFORE), lambda _: None)


def killed(path: Path) -> None:
    """The log has commits that the file does not."""
    copy = path.with_name("copy.db")
    with ragstore.open(path) as store:
        store.create_collection("c", dimension=workload.DIMENSION)
        workload.write(store, SEED, "a", {}, range(BEFORE), lambda _: None)
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").replace(f"{path}{suffix}")
    Path(f"{path}-shm").unlink()


def encrypted(path: Path) -> None:
    killed(path)
    with ragstore.open(path) as store:
        store.rekey(KEY)


def older(path: Path) -> None:
    """What the first format made."""
    filled(path)
    first_format(path)


def related(path: Path) -> None:
    filled(path)
    with ragstore.open(path) as store:
        for source, target in itertools.pairwise(IDS):
            store["c"].relate(source, target, "next", strength=0.5, metadata={"from": source})
        store.state("crawl").update({"cursor": 3, "visits": [1, 2]})
        store.state("crawl", local=True)["lease"] = "mine"


def after(count: int) -> workload.State:
    made: workload.State = {}
    for number in range(count):
        workload.operation(made, SEED, "a", number)
    return made


IDS = sorted(after(BEFORE))


def one(store: ragstore.Store) -> None:
    store["c"].add_texts(["text of one"], np.ones((1, workload.DIMENSION)), ids=["one"])


def many(store: ragstore.Store) -> None:
    rows = np.arange(1, 2000 * workload.DIMENSION + 1, dtype=np.float32).reshape(2000, -1)
    texts = [f"text of many {number} " * 8 for number in range(2000)]
    store["c"].add_texts(texts, rows, ids=[f"many{number}" for number in range(2000)])


def replace(store: ragstore.Store) -> None:
    documents = [
        ragstore.Document("text new", id=id, chunks=[ragstore.Chunk("text new", id=f"{id}-new")]) for id in IDS[:3]
    ]
    store["c"].add(documents, np.eye(3, workload.DIMENSION), on_conflict="replace")


def transaction(store: ragstore.Store) -> None:
    state = after(BEFORE)
    with store.transaction() as tx:
        for number in range(BEFORE, BEFORE + 5):
            for step in workload.operation(state, SEED, "a", number):
                step.on_collection(tx["c"])


def embeddings(store: ragstore.Store) -> None:
    ids = [chunk.id for chunk in store["c"].get_chunks(IDS[0])]
    store["c"].set_embeddings(ids, np.full((len(ids), workload.DIMENSION), 3.0))


def contents(path: Path) -> dict:
    """Everything that was stored by name or id, with its answers checked, and the file after that."""
    with ragstore.open(path) as store:
        found = {}
        for info in store.list_collections():
            collection = store[info.name]
            state = workload.stored(collection)
            if info.tokenizer != "trigram":
                workload.check_answers(collection, state)
            found[info.name] = (info.tokenizer, state, collection.list_spaces(), collection.count({"n": 1000}))
    oracle.check_file(path)
    connection = sqlite3.connect(path)
    found["indexes"] = connection.execute("SELECT path FROM fields").fetchall()
    relations = "SELECT source, target, type, strength, metadata FROM relations ORDER BY source, target, type"
    state = "SELECT namespace, local, key, value FROM state ORDER BY namespace, local, key"
    found["relations"], found["state"] = (connection.execute(text).fetchall() for text in (relations, state))
    connection.close()
    return found


def sparse(path: Path) -> None:
    """Free pages, blocks with few vectors, and many segments of text."""
    filled(path)
    with ragstore.open(path) as store:
        many(store)
        store["c"].delete(document_ids=[f"many{number}" for number in range(1900)])


def damaged(path: Path) -> None:
    """What is derived is not what it is derived from."""
    filled(path)
    damage(
        path,
        "UPDATE meta SET value = 12345 WHERE key = 'embedding_cache_bytes'",
        "DELETE FROM fts_1_1_docsize WHERE id % 3 = 0",
    )


def mend(path: Path) -> None:
    with ragstore.open(path) as store:
        store.repair()


def target(path: Path | str) -> Path:
    return Path(path).with_name("made")


def backup(store: ragstore.Store) -> None:
    store.backup(target(store.path))


def export(store: ragstore.Store) -> None:
    shutil.rmtree(target(store.path), ignore_errors=True)
    ragstore.export(store, target(store.path))


def imported(path: Path) -> dict:
    """What an exported folder holds, as a store."""
    new = path.with_name("imported.db")
    with ragstore.open(new) as store:
        ragstore.import_(store, path)
    return contents(new)


FORGOTTEN = IDS[:5]
WORDS = [chunk.text.split()[0].encode() for id in FORGOTTEN for chunk in after(BEFORE)[id].chunks]


def remembered(path: Path) -> None:
    """The file has what is to be forgotten, the log has nothing."""
    filled(path)
    assert canaries.found(path.parent, WORDS) == set(WORDS)


def forget(store: ragstore.Store) -> None:
    assert store["c"].forget(FORGOTTEN)


def forgotten(path: Path) -> None:
    assert canaries.found(path.parent, WORDS) == set()


def behind(path: Path) -> None:
    """Beside it lies a batch of what another store did since both were the same."""
    filled(path)
    with ragstore.open(path) as store, ragstore.open() as other:
        store.sync(other)
        other["c"].delete(document_ids=IDS[:3])
        other["c"].update_metadata({"n": 1000}, document_ids=IDS[3:5])
        many(other)
        target(path).write_bytes(other.export_changes(store.watermark()))
    # Copies of it are to be the same replica.
    replicas.forget_file(path)


def apply(store: ragstore.Store) -> None:
    store.apply_changes(target(store.path).read_bytes())


OPERATIONS = {
    "create": Operation(lambda store: store.create_collection("c", dimension=3), nothing),
    "recover": Operation(one, killed),
    "migrate": Operation(one, older),
    "add": Operation(one, filled),
    "add many": Operation(many, filled),
    "replace": Operation(replace, filled),
    "transaction": Operation(transaction, filled),
    "delete": Operation(lambda store: store["c"].delete(document_ids=IDS), filled),
    "forget": Operation(forget, remembered, proof=forgotten),
    "apply changes": Operation(apply, behind),
    "update metadata": Operation(lambda store: store["c"].update_metadata({"n": 1000}, where={}), filled),
    "set embeddings": Operation(embeddings, filled),
    "create index": Operation(lambda store: store["c"].create_index("n"), filled),
    "set tokenizer": Operation(lambda store: store["c"].set_tokenizer("trigram"), filled),
    "create space": Operation(lambda store: store["c"].create_space("s", dimension=3), filled),
    "clear": Operation(lambda store: store["c"].clear(), filled),
    "delete collection": Operation(lambda store: store.delete_collection("c"), filled),
    "checkpoint": Operation(lambda store: store.checkpoint("truncate"), killed, changes=False),
    "optimize": Operation(lambda store: store.optimize(), sparse, changes=False),
    "vacuum": Operation(lambda store: store.vacuum(), sparse, changes=False),
    "repair": Operation(lambda store: store.repair(), damaged, changes=False, end=mend),
    "backup": Operation(backup, related, changes=False, made=contents),
    "export": Operation(export, related, changes=False, made=imported),
    "index": Operation(lambda store: store.optimize(), filled, changes=False, index_at=(1, 0, False)),
    "encrypt": Operation(lambda store: store.rekey(KEY), killed, changes=False, keys=(None, KEY)),
    "rekey": Operation(lambda store: store.rekey(OTHER), encrypted, changes=False, keys=(KEY, OTHER)),
    "decrypt": Operation(lambda store: store.rekey(None), encrypted, changes=False, keys=(KEY, None)),
    "add encrypted": Operation(one, encrypted, keys=(KEY, KEY)),
}


@contextlib.contextmanager
def indexed(name: str):
    """Stores that are opened here have the indexes that an operation wants."""
    before = ragstore.store._INDEX_AT
    ragstore.store._INDEX_AT = OPERATIONS[name].index_at or before
    try:
        yield
    finally:
        ragstore.store._INDEX_AT = before


KEYED = {name for name, operation in OPERATIONS.items() if operation.keys[0] != operation.keys[1]}


def opened(path: Path | str, name: str) -> ragstore.Store:
    """The store of an operation, with the key that the file has."""
    first, second = OPERATIONS[name].keys
    with indexed(name):
        try:
            return ragstore.open(path, key=first)
        except ragstore.WrongKeyError:
            return ragstore.open(path, key=second)


def decrypt(path: Path, name: str) -> list[bytes | None]:
    """The keys that open the file, which has none afterwards: SQLite is to judge it, too."""
    keys = dict.fromkeys(OPERATIONS[name].keys)
    if list(keys) == [None]:
        return [None]
    opens = []
    for key in keys:
        with contextlib.suppress(ragstore.WrongKeyError), ragstore.open(path, key=key, create=False):
            opens.append(key)
    assert not [file.name for file in path.parent.iterdir() if "rekey" in file.name]
    with opened(path, name) as store:
        store.rekey(None)
    return opens


class Bench:
    """One path on which operations run, each from its own file."""

    def __init__(self, folder: Path, names: Collection[str] = OPERATIONS) -> None:
        self.path = folder / "bench" / "kb.db"
        self.path.parent.mkdir()
        self.prepared, self.outcomes = {}, {}
        for number, name in enumerate(names):
            operation = OPERATIONS[name]
            kept = folder / f"prepared{number}"
            kept.mkdir()
            operation.prepare(kept / "kb.db")
            self.prepared[name] = kept
            self.restore(name)
            if operation.end:
                with pytest.raises(AssertionError):
                    oracle.check_file(self.path)
                operation.end(self.path)
            assert decrypt(self.path, name) == [operation.keys[0]]
            before = contents(self.path)
            self.restore(name)
            with opened(self.path, name) as store:
                operation.run(store)
            assert decrypt(self.path, name) == [operation.keys[1]]
            self.outcomes[name] = before, contents(self.path)
            assert (before != self.outcomes[name][1]) == operation.changes, f"{name} does not do what it says"
            if operation.made:
                assert operation.made(target(self.path)) == before
            if operation.index_at:
                assert any(self.path.with_name("kb.db-index").iterdir()), f"{name} makes no index"

    def restore(self, name: str) -> None:
        for old in self.path.parent.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for file in self.prepared[name].iterdir():
            # Indexes have a folder.
            (shutil.copytree if file.is_dir() else shutil.copy)(file, self.path.parent / file.name)

    def judge(self, name: str, acknowledged: bool) -> None:
        """All of the operation is there or nothing of it, and all if it was acknowledged."""
        with indexed(name):
            self.judge_files(name, acknowledged)

    def judge_files(self, name: str, acknowledged: bool) -> None:
        before, after = self.outcomes[name]
        operation = OPERATIONS[name]
        if operation.proof and acknowledged:
            operation.proof(self.path)
        if operation.end and not acknowledged:
            operation.end(self.path)
        if operation.made and (acknowledged or target(self.path).exists()):
            assert operation.made(target(self.path)) == before, f"what {name} made is not whole"
        opens = decrypt(self.path, name)
        assert len(opens) == 1, f"{len(opens)} keys open the file"
        assert opens[0] == operation.keys[1] or not acknowledged, (
            f"{name} was acknowledged, and the old key opens the file"
        )
        found = contents(self.path)
        if acknowledged:
            assert found == after, f"{name} was acknowledged and is not there"
        else:
            assert found in (before, after), f"{name} is there in part"
        if operation.proof and not acknowledged:
            with opened(self.path, name) as store:
                operation.run(store)
            assert contents(self.path) == after
            operation.proof(self.path)


def act(path: str, name: str, at: str, folder: str) -> None:
    """Opens, runs and closes, and says so after each. Waits at one of them."""
    gate = tracing.Gate(folder)
    if at == OPENING:
        gate.wait(at)
    with opened(path, name) as store:
        gate.say("opened")
        if at == RUNNING:
            gate.wait(at)
        OPERATIONS[name].run(store)
        gate.say("acknowledged")
    gate.say("closed")


# What a fault may hit.
OPENING, RUNNING = "opening", "running"
PHASES = [OPENING, RUNNING]


@dataclasses.dataclass(frozen=True)
class Point:
    """A system call that an operation makes."""

    name: str
    phase: str
    kind: str
    number: int
    place: str


def points(
    bench: Bench, server: Server, warden: tracing.Warden, name: str, kinds: list[str], by_path: Collection[str] = ()
) -> list[Point]:
    """Those that one run of it makes, without a fault, on what is the store's.

    Of some kinds only the calls on it are counted.
    """
    found = set()
    for phase in PHASES:
        bench.restore(name)
        status, _ = warden.run(server, act, str(bench.path), name, phase, at=phase, kinds=kinds)
        assert status == 0, f"{name} ended with {status}"
        counts: Counter = Counter()
        for call in warden.calls():
            if phase == OPENING and call.kind == tracing.SAY and '"opened' in call.text:
                break
            place = call.place(bench.path.parent)
            if call.kind in kinds and place:
                counts[call.thread, call.kind] += 1
                number = counts[call.thread, call.kind] if call.kind in by_path else call.number
                found.add(Point(name, phase, call.kind, number, place))
    return sorted(found, key=str)


def some(chance) -> list[str]:
    """Operations of which a sample takes its points: among them those that make files of their own."""
    if record.FULL:
        return list(OPERATIONS)
    own = ["backup", "export", "index", "vacuum", "rekey"]
    return chance.sample(own, 2) + chance.sample([name for name in OPERATIONS if name not in own], 3)
