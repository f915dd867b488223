"""Writes whose content follows from their number, and a model of what they leave behind.

A writer makes its operations one after the other. What operation n does depends on the seed, the writer's name, n and
the state before it, so that judge and writer agree without a word: after a crash the writer's documents are those after
as many operations as were acknowledged, or one more.
"""

import copy
import dataclasses
import random
from collections.abc import Callable

import numpy as np
import ragstore
from ragstore import Chunk, Document

DIMENSION = 8
KEYS = 10
# Long enough for overflow pages now and then.
PADDING = [0, 5, 40, 2000]


@dataclasses.dataclass
class StoredChunk:
    id: str
    text: str
    vector: tuple[float, ...]


@dataclasses.dataclass
class StoredDocument:
    uri: str
    metadata: dict
    chunks: list[StoredChunk]


State = dict[str, StoredDocument]


def vector(chance: random.Random) -> tuple[float, ...]:
    """Components that float32 holds exactly, never all zero."""
    return (1.0, *(chance.randrange(-999, 1000) / 8 for _ in range(DIMENSION - 1)))


def new_document(key: str, name: str, chance: random.Random) -> StoredDocument:
    """Its chunks have a word that no other document ever has."""
    chunks = [
        StoredChunk(f"{key}-{number}", f"{name}c{number} text " + "padding " * chance.choice(PADDING), vector(chance))
        for number in range(chance.randint(1, 3))
    ]
    return StoredDocument(f"uri:{key}", {"by": name, "n": chance.randrange(100)}, chunks)


@dataclasses.dataclass
class Step:
    """One call, as arguments that both the store and the model take."""

    kind: str
    documents: dict[str, StoredDocument] = dataclasses.field(default_factory=dict)
    ids: list[str] = dataclasses.field(default_factory=list)
    value: object = None

    def on_state(self, state: State) -> None:
        if self.kind in {"add", "replace"}:
            state |= copy.deepcopy(self.documents)
        elif self.kind == "delete":
            for id in self.ids:
                del state[id]
        elif self.kind == "delete_chunk":
            document = state[self.ids[0]]
            document.chunks = [chunk for chunk in document.chunks if chunk.id != self.value]
        elif self.kind == "metadata":
            for id in self.ids:
                state[id].metadata |= self.value
        else:
            for chunk in state[self.ids[0]].chunks:
                if chunk.id == self.value[0]:
                    chunk.vector = self.value[1]

    def on_collection(self, collection) -> None:
        if self.kind in {"add", "replace"}:
            documents = [
                Document(id=id, uri=new.uri, metadata=new.metadata, chunks=[Chunk(c.text, id=c.id) for c in new.chunks])
                for id, new in self.documents.items()
            ]
            rows = np.array([c.vector for new in self.documents.values() for c in new.chunks], np.float32)
            collection.add(documents, rows, on_conflict="replace" if self.kind == "replace" else "error")
        elif self.kind == "delete":
            collection.delete(document_ids=self.ids)
        elif self.kind == "delete_chunk":
            collection.delete([self.value])
        elif self.kind == "metadata":
            collection.update_metadata(self.value, document_ids=self.ids)
        else:
            collection.set_embeddings([self.value[0]], np.array([self.value[1]], np.float32))


def step(state: State, writer: str, name: str, chance: random.Random) -> Step:
    """One step that is possible in this state."""
    there = sorted(state)
    missing = [key for key in (f"{writer}k{number}" for number in range(KEYS)) if key not in state]
    several = [id for id in there if len(state[id].chunks) > 1]
    kinds = ["add"] * 3 * bool(missing) + ["replace", "delete", "metadata", "embedding"] * bool(there)
    kind = chance.choice(kinds + ["delete_chunk"] * bool(several))
    if kind in {"add", "replace"}:
        keys = chance.sample(there if kind == "replace" else missing, 1)
        if kind == "add":
            keys = missing[: chance.randint(1, 3)]
        return Step(kind, {key: new_document(key, f"{name}{key}", chance) for key in keys})
    if kind in {"delete", "metadata"}:
        ids = chance.sample(there, min(len(there), chance.randint(1, 2)))
        return Step(kind, ids=ids, value={"n": chance.randrange(100), "last": name})
    if kind == "delete_chunk":
        id = chance.choice(several)
        return Step(kind, ids=[id], value=chance.choice(state[id].chunks).id)
    id = chance.choice(there)
    return Step(kind, ids=[id], value=(chance.choice(state[id].chunks).id, vector(chance)))


def operation(state: State, seed: int, writer: str, number: int) -> list[Step]:
    """The steps of operation `number`, which are one commit; the state is left after them."""
    chance = random.Random(f"{seed} {writer} {number}")
    steps = []
    for part in range(chance.choice([1, 1, 1, 2, 3])):
        made = step(state, writer, f"s{seed}o{number}p{part}", chance)
        made.on_state(state)
        steps.append(made)
    return steps


def run(store: ragstore.Store, steps: list[Step]) -> None:
    """Commits the steps as one."""
    if len(steps) == 1:
        steps[0].on_collection(store["c"])
        return
    with store.transaction() as tx:
        for one in steps:
            one.on_collection(tx["c"])


def write(store: ragstore.Store, seed: int, writer: str, state: State, numbers: range, said: Callable) -> None:
    """Makes operations and says the number of each when the store has acknowledged it."""
    for number in numbers:
        run(store, operation(state, seed, writer, number))
        said(number)


def stored(collection) -> State:
    """Everything that a collection holds, by the calls that read."""
    documents = collection.list_documents(limit=1 << 30)
    chunks = {document.id: collection.get_chunks(document.id) for document in documents}
    ids = [chunk.id for found in chunks.values() for chunk in found]
    rows = dict(zip(ids, collection.get_embeddings(ids).tolist(), strict=True)) if ids else {}
    return {
        document.id: StoredDocument(
            document.uri,
            document.metadata,
            [StoredChunk(chunk.id, chunk.text, tuple(rows[chunk.id])) for chunk in chunks[document.id]],
        )
        for document in documents
    }


def by_writer(state: State) -> dict[str, State]:
    """The documents of each writer, whose name its keys begin with."""
    found: dict[str, State] = {}
    for id, document in state.items():
        found.setdefault(id[: id.rindex("k")], {})[id] = document
    return found


def check_answers(collection, state: State) -> None:
    """Text index and vectors answer as the rows say."""
    assert len(collection) == sum(len(document.chunks) for document in state.values())
    chunks = [chunk for document in state.values() for chunk in document.chunks]
    if not chunks:
        return
    words = [chunk.text.split()[0] for chunk in chunks]
    assert sorted(collection.keyword_search("text", k=4096).ids) == sorted(chunk.id for chunk in chunks)
    for word in sorted(set(words))[:5]:
        found = {chunk.id for chunk, own in zip(chunks, words, strict=True) if own == word}
        assert set(collection.keyword_search(word, k=100).ids) == found
    rows = np.array([chunk.vector for chunk in chunks], np.float32)
    normal = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    best = (normal @ normal.T).max(axis=1)
    for row, hits in enumerate(collection.search_batch(rows[:20], k=1, exact=True)):
        nearest = next(number for number, chunk in enumerate(chunks) if chunk.id == hits.ids[0])
        assert normal[nearest] @ normal[row] > best[row] - 1e-5
