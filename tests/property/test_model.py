"""A store against a plain model of it: dictionaries, lists and NumPy.

The model says what `ragstore.pyi` says, in the simplest words there are. It knows nothing of SQLite, but that a chunk
whose embedding is replaced or deleted counts as inserted anew in the order of equal scores.
"""

import copy
import dataclasses
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
import ragstore
import ragstore.store
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from ragstore import Chunk, Document

FULL = os.environ.get("RAGSTORE_FAULTS") == "full"

WORDS = ["amber", "birch", "copper", "dahlia"]
DOCUMENT_IDS = ["d0", "d1", "d2", "d3"]
# A document's id may be a chunk's too: they are different kinds.
CHUNK_IDS = ["c0", "c1", "c2", "c3", "c4", "d0"]
URIS = ["u0", "u1", "u2"]
# Their distances are exact in float32, and many are equal.
DIMENSIONS = {"default": 2, "s1": 3, "s2": 1}
METRICS = {"default": "l2", "s1": "l2", "s2": "ip"}
ALL = 4096


class RefusedError(Exception):
    """The model's word for a call that stores nothing."""

    def __init__(self, kind: type[Exception]) -> None:
        super().__init__(kind.__name__)
        self.kind = kind


@dataclasses.dataclass
class ModelChunk:
    id: str
    text: str | None
    span: tuple[int, int] | None
    metadata: dict
    index: int
    order: int
    vectors: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class ModelDocument:
    id: str
    uri: str | None
    text: str | None
    metadata: dict
    order: int
    chunks: list[ModelChunk] = dataclasses.field(default_factory=list)

    def content(self):
        return self.text, self.metadata, [(c.text, c.span, c.metadata) for c in self.chunks]


@dataclasses.dataclass
class Added:
    """What the model expects of a call to add; None stands for an id that the store draws."""

    chunk_ids: list = dataclasses.field(default_factory=list)
    document_ids: list = dataclasses.field(default_factory=list)
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    skipped: int = 0


def as_chunks(new: Document) -> list[tuple]:
    """Id, text, span and metadata of each chunk of a document that is to be added."""
    if new.chunks is None:
        return [(None, new.text, None if new.text is None else (0, len(new.text)), {})]
    return [as_chunk(chunk, new.text) for chunk in new.chunks]


def as_chunk(chunk: Chunk, whole: str | None) -> tuple:
    span = None if chunk.start is None else (chunk.start, chunk.end)
    text = chunk.text
    if text is None and whole is not None and span is not None:
        text = whole[span[0] : span[1]]
    return chunk.id, text, span, chunk.metadata


def matches(where: dict | None, metadata: dict) -> bool:
    """The filters that are drawn here, over the chunk's metadata before its document's."""
    for key, condition in (where or {}).items():
        if key == "$and":
            if not all(matches(part, metadata) for part in condition):
                return False
            continue
        if key not in metadata:
            return False
        value = metadata[key]
        for operator, operand in (condition if isinstance(condition, dict) else {"$eq": condition}).items():
            held = {
                "$eq": lambda value=value, operand=operand: value == operand,
                "$in": lambda value=value, operand=operand: value in operand,
                "$gte": lambda value=value, operand=operand: value >= operand,
                "$lt": lambda value=value, operand=operand: value < operand,
            }[operator]()
            if not held:
                return False
    return True


class Model:
    """One collection."""

    def __init__(self) -> None:
        self.documents: list[ModelDocument] = []
        self.spaces = {"default"}
        self.clock = 0

    # finding

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def document(self, **key) -> ModelDocument | None:
        ((name, value),) = key.items()
        return next((d for d in self.documents if value is not None and getattr(d, name) == value), None)

    def chunks(self) -> dict[str, tuple[ModelDocument, ModelChunk]]:
        return {chunk.id: (document, chunk) for document in self.documents for chunk in document.chunks}

    def chunk_matches(self, where, document, chunk) -> bool:
        return matches(where, {**document.metadata, **chunk.metadata})

    def document_matches(self, where, document) -> bool:
        if not document.chunks:
            return matches(where, document.metadata)
        return any(self.chunk_matches(where, document, chunk) for chunk in document.chunks)

    def existing(self, new: Document) -> ModelDocument | None:
        by_id, by_uri = self.document(id=new.id), self.document(uri=new.uri)
        if by_id is not None and by_uri is not None and by_id is not by_uri:
            raise RefusedError(ragstore.ConflictError)
        return by_id or by_uri

    def same_content(self, old: ModelDocument, new: Document) -> bool:
        chunks = as_chunks(new)
        return (
            old.content() == (new.text, new.metadata, [chunk[1:] for chunk in chunks])
            and new.id in {None, old.id}
            and new.uri == old.uri
            and all(chunk[0] in {None, stored.id} for chunk, stored in zip(chunks, old.chunks, strict=True))
        )

    def unchanged(self, new: Document) -> bool:
        try:
            old = self.existing(new)
        except RefusedError:
            return False
        return old is not None and self.same_content(old, new)

    # writing

    def add(self, documents: list[Document], vectors, policy: str, space: str, drawn: "Drawn") -> Added:
        self.require_space(space)
        result = Added()
        rows = iter([] if vectors is None else map(tuple, vectors.tolist()))
        for new in documents:
            mine = None if vectors is None else [next(rows) for _ in as_chunks(new)]
            old = self.existing(new)
            if old is not None:
                same = self.same_content(old, new) and (
                    mine is None or [chunk.vectors.get(space) for chunk in old.chunks] == mine
                )
                if same or policy == "skip":
                    result.unchanged += same
                    result.skipped += not same
                    result.document_ids.append(old.id)
                    result.chunk_ids += [chunk.id for chunk in old.chunks]
                    continue
                if policy == "error":
                    raise RefusedError(ragstore.ConflictError)
                old.id, old.uri, old.text, old.metadata = new.id or old.id, new.uri, new.text, dict(new.metadata)
                old.chunks = []
                result.replaced += 1
            else:
                old = ModelDocument(
                    new.id or drawn.document(result), new.uri, new.text, dict(new.metadata), self.tick()
                )
                self.documents.append(old)
                result.added += 1
            result.document_ids.append(old.id)
            for row, (id, text, span, metadata) in enumerate(as_chunks(new)):
                self.insert(
                    old, id or drawn.chunk(result), text, span, metadata, None if mine is None else mine[row], space
                )
                result.chunk_ids.append(old.chunks[-1].id)
        return result

    def insert(self, document, id, text, span, metadata, vector, space) -> None:
        if id in self.chunks():
            raise RefusedError(ragstore.ConflictError)
        index = document.chunks[-1].index + 1 if document.chunks else 0
        chunk = ModelChunk(id, text, span, dict(metadata), index, self.tick())
        if vector is not None:
            chunk.vectors[space] = vector
        document.chunks.append(chunk)

    def add_chunks(self, document_id: str, chunks: list[Chunk], vectors, drawn: "Drawn") -> list[str]:
        document = self.document(id=document_id)
        if document is None:
            raise RefusedError(ragstore.DocumentNotFoundError)
        ids = Added()
        for row, chunk in enumerate(chunks):
            id, text, span, metadata = as_chunk(chunk, document.text)
            vector = None if vectors is None else tuple(vectors[row].tolist())
            self.insert(document, id or drawn.chunk(ids), text, span, metadata, vector, "default")
            ids.chunk_ids.append(document.chunks[-1].id)
        return ids.chunk_ids

    def require_space(self, space: str) -> None:
        if space not in self.spaces:
            raise RefusedError(ragstore.NotFoundError)

    def require_chunks(self, ids: list[str]) -> list[ModelChunk]:
        known = self.chunks()
        if any(id not in known for id in ids):
            raise RefusedError(ragstore.DocumentNotFoundError)
        return [known[id][1] for id in ids]

    def set_embeddings(self, ids: list[str], vectors, space: str) -> None:
        self.require_space(space)
        for chunk, vector in zip(self.require_chunks(ids), vectors.tolist(), strict=True):
            old = chunk.vectors.get(space)
            if old is not None and old != tuple(vector):
                chunk.order = self.tick()
            chunk.vectors[space] = tuple(vector)

    def delete_embeddings(self, ids: list[str], space: str) -> int:
        self.require_space(space)
        known = self.chunks()
        named = {id: known[id][1] for id in ids if id in known}
        found = sorted((c for c in named.values() if space in c.vectors), key=lambda chunk: chunk.order)
        for chunk in found:
            del chunk.vectors[space]
            chunk.order = self.tick()
        return len(found)

    def update_metadata(self, metadata, chunk_ids, document_ids, where, mode) -> int:
        chunks = {} if chunk_ids is None else {chunk.id: chunk for chunk in self.require_chunks(chunk_ids)}
        documents = [self.document(id=id) for id in dict.fromkeys(document_ids or [])]
        if None in documents:
            raise RefusedError(ragstore.DocumentNotFoundError)
        if where is not None:
            known = self.chunks()
            if chunk_ids is None and document_ids is None:
                chunks = {id: chunk for id, (_, chunk) in known.items()}
            chunks = {id: chunk for id, chunk in chunks.items() if self.chunk_matches(where, known[id][0], chunk)}
            documents = [document for document in documents if self.document_matches(where, document)]
        for record in [*chunks.values(), *documents]:
            record.metadata = {**(record.metadata if mode == "merge" else {}), **metadata}
        return len(chunks) + len(documents)

    def delete(self, ids, document_ids, uris, where) -> int:
        known = self.chunks()
        named = not ids is document_ids is uris is None
        chunks = {id for id in (ids or [] if named else known) if id in known}
        documents = [d for d in self.documents if d.id in (document_ids or []) or d.uri in (uris or [])]
        if where is not None:
            chunks = {id for id in chunks if self.chunk_matches(where, *known[id])}
            documents = [d for d in documents if self.document_matches(where, d)]
        emptied = []
        for id in chunks:
            document, chunk = known[id]
            document.chunks.remove(chunk)
            if not document.chunks:
                emptied.append(document)
        self.documents = [d for d in self.documents if not any(d is gone for gone in documents + emptied)]
        return len(chunks) + len(documents)

    def clear(self) -> None:
        self.documents = []

    # searching

    def nearest(self, query, k: int, where, space: str) -> list[tuple[str, float]]:
        """Ids and distances of the true top k."""
        rows = [
            (chunk.order, chunk.id, chunk.vectors[space])
            for document, chunk in self.chunks().values()
            if space in chunk.vectors and self.chunk_matches(where, document, chunk)
        ]
        if not rows:
            return []
        matrix = np.array([row[2] for row in rows], np.float64)
        query = np.asarray(query, np.float64)
        distances = -(matrix @ query) if METRICS[space] == "ip" else np.linalg.norm(matrix - query, axis=1)
        ranked = np.lexsort((np.array([row[0] for row in rows]), distances))[:k]
        return [(rows[row][1], float(distances[row])) for row in ranked]

    def holding(self, words: list[str], where) -> set[str]:
        return {
            chunk.id
            for document, chunk in self.chunks().values()
            if set((chunk.text or "").split()) & set(words) and self.chunk_matches(where, document, chunk)
        }


class Drawn:
    """Ids that the store drew, taken from its answer place by place."""

    def __init__(self, chunk_ids: list[str] = (), document_ids: list[str] = ()) -> None:
        self.chunk_ids, self.document_ids = chunk_ids, document_ids

    def chunk(self, so_far: Added) -> str:
        return self._at(self.chunk_ids, len(so_far.chunk_ids))

    def document(self, so_far: Added) -> str:
        return self._at(self.document_ids, len(so_far.document_ids))

    def _at(self, ids: list[str], place: int) -> str:
        # The store refused: any new id will do for the model to refuse too.
        return ids[place] if place < len(ids) else f"drawn-{id(self)}-{place}"


texts = st.none() | st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)
metadata = st.fixed_dictionaries({}, optional={"n": st.integers(0, 3), "s": st.sampled_from(["x", "y"])})
full_metadata = st.fixed_dictionaries({"n": st.integers(0, 3), "s": st.sampled_from(["x", "y"])})
conditions = st.one_of(
    st.builds(lambda n: {"n": n}, st.integers(0, 3)),
    st.builds(lambda n: {"n": {"$gte": n}}, st.integers(0, 3)),
    st.builds(lambda n: {"n": {"$in": n}}, st.lists(st.integers(0, 3), max_size=2)),
    st.builds(lambda s: {"s": {"$eq": s}}, st.sampled_from(["x", "y"])),
    st.builds(lambda n, s: {"$and": [{"n": {"$lt": n}}, {"s": s}]}, st.integers(1, 4), st.sampled_from(["x", "y"])),
    st.just({}),
)
filters = st.none() | conditions
components = st.integers(-1, 1).map(float)
policies = st.sampled_from(["error", "replace", "skip"])
spaces = st.sampled_from(["default", "default", "s1", "s2"])
some_chunk_ids = st.lists(st.sampled_from([*CHUNK_IDS, *DOCUMENT_IDS]), min_size=1, max_size=3)
some_document_ids = st.lists(st.sampled_from(DOCUMENT_IDS), min_size=1, max_size=2)


@st.composite
def new_chunks(draw, whole: str | None):
    made = Chunk(draw(texts), id=draw(st.none() | st.sampled_from(CHUNK_IDS)), metadata=draw(metadata))
    if whole is not None and draw(st.booleans()):
        made.start, made.end = sorted((draw(st.integers(0, len(whole))), draw(st.integers(0, len(whole)))))
    return made


@st.composite
def new_documents(draw):
    text = draw(texts)
    chunks = draw(st.none() | st.lists(new_chunks(text), max_size=3))
    return Document(
        text,
        id=draw(st.none() | st.sampled_from(DOCUMENT_IDS)),
        uri=draw(st.none() | st.sampled_from(URIS)),
        metadata=draw(metadata),
        chunks=chunks,
    )


def matrix(draw, rows: int, space: str = "default"):
    """Embeddings for so many chunks, or none at all."""
    if rows == 0 or draw(st.booleans()):
        return None
    return vectors(draw, rows, space)


def vectors(draw, rows: int, space: str):
    width = DIMENSIONS[space]
    values = draw(st.lists(components, min_size=rows * width, max_size=rows * width))
    return np.array(values, np.float32).reshape(rows, width)


class StoreMachine(RuleBasedStateMachine):
    """Each rule makes one call on both, and compares what they say."""

    seen = Bundle("seen")
    # When derived indexes are built: not for so few rows, unless a subclass says so.
    index_at: tuple[int, int, bool] | None = None

    def __init__(self) -> None:
        super().__init__()
        ragstore.store._INDEX_AT = self.index_at
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "kb.db"
        self.model = Model()
        self.open()
        self.store.create_collection("c", dimension=DIMENSIONS["default"], metric=METRICS["default"])
        self.collection = self.store["c"]

    def open(self) -> None:
        self.store = ragstore.open(self.path, readers=2)
        if "c" in self.store:
            self.collection = self.store["c"]

    def teardown(self) -> None:
        try:
            self.store.close()
            check_file(self.path)
        finally:
            self.store.close()
            ragstore.store._INDEX_AT = None
            shutil.rmtree(self.folder)

    def both(self, real, model):
        """Runs both; where the model refuses, the store must with that error, and neither is changed."""
        before = copy.deepcopy(self.model)
        refused = result = expected = None
        try:
            result = real()
        except ragstore.RagstoreError as error:
            refused = error
        try:
            expected = model(result)
        except RefusedError as error:
            self.model = before
            wanted = error.kind
        else:
            wanted = None
        if wanted is not None:
            assert isinstance(refused, wanted), f"it must raise {wanted.__name__} and gave {refused or result!r}"
            return None
        if refused is not None:
            raise AssertionError(f"the store refused what it must take; it would be {expected}") from refused
        return result, expected

    # writing

    @initialize(target=seen, data=st.data())
    def begin(self, data):
        """Two documents of three chunks, whose metadata part of the chunks shadow: an empty store teaches little."""
        documents = [
            Document(
                "amber birch",
                id=f"d{number}",
                uri=f"u{number}",
                metadata=data.draw(full_metadata),
                chunks=[
                    Chunk(data.draw(texts), id=id, metadata=data.draw(metadata), start=0, end=number)
                    for id in CHUNK_IDS[3 * number : 3 * number + 3]
                ],
            )
            for number in range(2)
        ]
        given = vectors(data.draw, 6, "default")
        self.collection.add(documents, given)
        self.model.add(documents, given, "error", "default", Drawn())
        return multiple(*documents)

    @rule(
        target=seen,
        data=st.data(),
        documents=st.lists(new_documents(), min_size=1, max_size=3),
        policy=policies,
        space=spaces,
    )
    def add(self, data, documents, policy, space):
        if space not in self.model.spaces:
            space = "default"
        given = matrix(data.draw, sum(len(as_chunks(new)) for new in documents), space)
        both = self.both(
            lambda: self.collection.add(documents, given, on_conflict=policy, space=space),
            lambda r: self.model.add(
                documents, given, policy, space, Drawn(r.chunk_ids, r.document_ids) if r else Drawn()
            ),
        )
        if both is None:
            return multiple()
        assert dataclasses.asdict(both[0]) == dataclasses.asdict(both[1])
        return multiple(*documents)

    @rule(documents=st.lists(seen | new_documents(), min_size=1, max_size=3))
    def unchanged(self, documents):
        renamed = [copy.copy(new) for new in documents]
        for new in renamed:
            new.uri = None
        for asked in (documents, renamed):
            assert self.collection.unchanged(asked) == [self.model.unchanged(new) for new in asked]

    @rule(data=st.data(), document=consumes(seen), policy=policies)
    def add_again(self, data, document, policy):
        given = matrix(data.draw, len(as_chunks(document)))
        both = self.both(
            lambda: self.collection.add(document, given, on_conflict=policy),
            lambda r: self.model.add(
                [document], given, policy, "default", Drawn(r.chunk_ids, r.document_ids) if r else Drawn()
            ),
        )
        if both is not None:
            assert dataclasses.asdict(both[0]) == dataclasses.asdict(both[1])

    @rule(
        data=st.data(),
        rows=st.lists(st.tuples(texts.map(lambda t: t or ""), st.sampled_from(DOCUMENT_IDS), metadata), max_size=3),
        policy=policies,
    )
    def add_texts(self, data, rows, policy):
        given = matrix(data.draw, len(rows))
        documents = [
            Document(text, id=id, chunks=[Chunk(id=id, metadata=record, start=0, end=len(text))])
            for text, id, record in rows
        ]
        both = self.both(
            lambda: self.collection.add_texts(
                [row[0] for row in rows],
                given,
                ids=[row[1] for row in rows],
                metadatas=[row[2] for row in rows],
                on_conflict=policy,
            ),
            lambda _: self.model.add(documents, given, policy, "default", Drawn()),
        )
        if both is not None:
            assert both[0] == both[1].document_ids

    @rule(data=st.data(), document_id=st.sampled_from(DOCUMENT_IDS))
    def add_chunks(self, data, document_id):
        document = self.model.document(id=document_id)
        chunks = data.draw(st.lists(new_chunks(None if document is None else document.text), max_size=3))
        given = matrix(data.draw, len(chunks))
        both = self.both(
            lambda: self.collection.add_chunks(document_id, chunks, given),
            lambda r: self.model.add_chunks(document_id, chunks, given, Drawn(r or [])),
        )
        if both is not None:
            assert both[0] == both[1]

    @rule(data=st.data(), space=spaces)
    def set_embeddings(self, data, space):
        known = sorted(self.model.chunks())
        ids = data.draw(st.lists(st.sampled_from([*known, "c0"]), unique=True, min_size=1, max_size=3))
        given = vectors(data.draw, len(ids), space)
        self.both(
            lambda: self.collection.set_embeddings(ids, given, space=space),
            lambda _: self.model.set_embeddings(ids, given, space),
        )

    @precondition(lambda self: sum("default" in chunk.vectors for _, chunk in self.model.chunks().values()) > 1)
    @rule(data=st.data())
    def make_equal(self, data):
        """Chunks at one place: what was replaced last ranks last."""
        ids = sorted(id for id, (_, chunk) in self.model.chunks().items() if "default" in chunk.vectors)
        ids = data.draw(st.permutations(ids))
        for number, id in enumerate(ids):
            # Never what it was: the component is used nowhere else.
            given = np.array([[9.0, 9.0 + number % 2]], np.float32)
            self.collection.set_embeddings([id], given)
            self.model.set_embeddings([id], given, "default")
        hits = self.collection.vector_search([9.0, 9.5], ALL, exact=True)
        assert hits.ids == [id for id, _ in self.model.nearest([9.0, 9.5], ALL, None, "default")]

    @rule(data=st.data(), space=spaces)
    def delete_embeddings(self, data, space):
        ids = data.draw(st.lists(st.sampled_from([*sorted(self.model.chunks()), "none"]), max_size=3))
        both = self.both(
            lambda: self.collection.delete_embeddings(ids, space=space),
            lambda _: self.model.delete_embeddings(ids, space),
        )
        assert both is None or both[0] == both[1]

    @rule(
        new=metadata,
        chunk_ids=st.none() | some_chunk_ids,
        document_ids=st.none() | some_document_ids,
        where=filters,
        mode=st.sampled_from(["merge", "replace"]),
    )
    def update_metadata(self, new, chunk_ids, document_ids, where, mode):
        if chunk_ids is document_ids is where is None:
            with pytest.raises(TypeError):
                self.collection.update_metadata(new, mode=mode)
            return
        both = self.both(
            lambda: self.collection.update_metadata(
                new, chunk_ids=chunk_ids, document_ids=document_ids, where=where, mode=mode
            ),
            lambda _: self.model.update_metadata(new, chunk_ids, document_ids, where, mode),
        )
        assert both is None or both[0] == both[1]

    @rule(
        ids=st.none() | some_chunk_ids,
        document_ids=st.none() | some_document_ids,
        uris=st.none() | st.lists(st.sampled_from(URIS), max_size=2),
        where=filters,
    )
    def delete(self, ids, document_ids, uris, where):
        if ids is document_ids is uris is where is None:
            with pytest.raises(TypeError):
                self.collection.delete()
            return
        both = self.both(
            lambda: self.collection.delete(ids, document_ids=document_ids, uris=uris, where=where),
            lambda _: self.model.delete(ids, document_ids, uris, where),
        )
        assert both[0] == both[1]

    @precondition(lambda self: self.model.chunks())
    @rule(data=st.data(), document=st.booleans())
    def delete_some_or_the_last(self, data, document):
        """Chunks that are there: any of them, or all that a document has."""
        ids = data.draw(st.lists(st.sampled_from(sorted(self.model.chunks())), unique=True, min_size=1, max_size=2))
        if document:
            ids = [chunk.id for chunk in self.model.chunks()[ids[0]][0].chunks]
        assert self.collection.delete(ids) == self.model.delete(ids, None, None, None) == len(ids)

    @precondition(lambda self: any(document.chunks for document in self.model.documents))
    @rule(data=st.data())
    def delete_in_the_middle_and_append(self, data):
        """Gaps stay where chunks were deleted."""
        document = data.draw(st.sampled_from([d for d in self.model.documents if d.chunks]))
        kept = document.chunks[-1]
        gone = [chunk.id for chunk in document.chunks if chunk is not kept]
        assert self.collection.delete(gone) == self.model.delete(gone, None, None, None)
        chunks = [Chunk("birch")]
        drawn = self.collection.add_chunks(document.id, chunks)
        assert drawn == self.model.add_chunks(document.id, chunks, None, Drawn(drawn))

    @precondition(lambda self: len(self.model.documents) > 3)
    @rule()
    def clear(self):
        self.collection.clear()
        self.model.clear()

    @rule(space=st.sampled_from(["s1", "s2"]))
    def create_space(self, space):
        if space in self.model.spaces:
            with pytest.raises(ragstore.ConflictError):
                self.collection.create_space(space)
            return
        self.collection.create_space(space, metric=METRICS[space], model="m")
        self.model.spaces.add(space)

    @rule(space=st.sampled_from(["s1", "s2"]))
    def delete_space(self, space):
        def delete(_):
            self.model.require_space(space)
            self.model.spaces.remove(space)
            for _, chunk in self.model.chunks().values():
                chunk.vectors.pop(space, None)

        self.both(lambda: self.collection.delete_space(space), delete)

    @rule(
        documents=st.lists(new_documents().filter(lambda new: new.id and new.chunks == []), max_size=2),
        rows=st.lists(st.sampled_from(DOCUMENT_IDS), max_size=2),
        new=metadata,
        gone=some_document_ids,
        abandoned=st.booleans(),
    )
    def transaction(self, documents, rows, new, gone, abandoned):
        """Several writes that see each other and are one; or an exception, and none of them."""

        class AbandonedError(Exception):
            pass

        def real():
            with self.store.transaction() as tx:
                queued = tx["c"]
                pending = [
                    queued.delete(document_ids=gone),
                    queued.add(documents, on_conflict="replace"),
                    queued.add_texts(rows, ids=rows, on_conflict="skip"),
                    queued.update_metadata(new, document_ids=rows),
                ]
                if abandoned:
                    raise AbandonedError
            return [one.result for one in pending]

        def model(_):
            deleted = self.model.delete(None, gone, None, None)
            added = self.model.add(documents, None, "replace", "default", Drawn())
            texts = [Document(id, id=id, chunks=[Chunk(id=id, start=0, end=len(id))]) for id in rows]
            kept = self.model.add(texts, None, "skip", "default", Drawn()).document_ids
            return [deleted, added, kept, self.model.update_metadata(new, None, rows, None, "merge")]

        if abandoned:
            with pytest.raises(AbandonedError):
                real()
            return
        both = self.both(real, model)
        if both is not None:
            real_results, expected = both
            real_results[1], expected[1] = dataclasses.asdict(real_results[1]), dataclasses.asdict(expected[1])
            assert real_results == expected

    @rule()
    def reopen(self):
        self.store.close()
        self.open()

    @rule(operation=st.sampled_from(["optimize", "vacuum", "checkpoint"]))
    def operate(self, operation):
        getattr(self.store, operation)()

    # searching

    @rule(data=st.data(), k=st.sampled_from([1, 2, 5, ALL]), where=filters, space=spaces)
    def vector_search(self, data, k, where, space):
        query = vectors(data.draw, 1, space)[0]
        if space not in self.model.spaces:
            with pytest.raises(ragstore.NotFoundError):
                self.collection.vector_search(query, space=space)
            return
        hits = self.collection.vector_search(query, k, where=where, exact=True, space=space)
        expected = self.model.nearest(query, k, where, space)
        assert hits.ids == [id for id, _ in expected]
        assert hits.exact
        assert hits.complete
        np.testing.assert_allclose([hit.distance for hit in hits], [distance for _, distance in expected], atol=1e-5)
        assert list(hits.scores) == sorted(hits.scores, reverse=True)

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), where=filters, k=st.sampled_from([1, 3, ALL]))
    def keyword_search(self, words, where, k):
        hits = self.collection.keyword_search(" ".join(words), k, where=where)
        expected = self.model.holding(words, where)
        assert len(hits) == len(set(hits.ids)) == min(k, len(expected))
        assert set(hits.ids) <= expected
        assert hits.complete

    # reading

    @rule(where=filters, limit=st.integers(1, 4), offset=st.integers(0, 3))
    def list_documents(self, where, limit, offset):
        newest = sorted(self.model.documents, key=lambda document: -document.order)
        expected = [document.id for document in newest if self.model.document_matches(where, document)]
        listed = self.collection.list_documents(where, limit=limit, offset=offset)
        assert [document.id for document in listed] == expected[offset : offset + limit]
        pages, after = [], None
        while page := self.collection.list_documents(where, limit=limit, after=after):
            pages += [document.id for document in page]
            after = pages[-1]
        assert pages == expected

    @rule(where=filters)
    def count(self, where):
        chunks = self.model.chunks().values()
        assert self.collection.count(where) == sum(self.model.chunk_matches(where, *pair) for pair in chunks)
        documents = self.model.documents
        assert self.collection.count_documents(where) == sum(self.model.document_matches(where, d) for d in documents)

    @rule(data=st.data(), before=st.integers(0, 2), after=st.integers(0, 2))
    def neighbors(self, data, before, after):
        known = self.model.chunks()
        id = data.draw(st.sampled_from([*sorted(known), "none"]))
        expected = []
        if id in known:
            chunks = known[id][0].chunks
            at = chunks.index(known[id][1])
            expected = [chunk.id for chunk in chunks[max(0, at - before) : at + after + 1]]
        assert [chunk.id for chunk in self.collection.neighbors(id, before, after)] == expected

    @invariant()
    def holds_what_the_model_holds(self):
        known = self.model.chunks()
        assert (len(self.collection), self.collection.count_documents()) == (len(known), len(self.model.documents))
        assert {space.name for space in self.collection.list_spaces()} == self.model.spaces
        for id in CHUNK_IDS:
            assert (id in self.collection) == (id in known)
        for uri in URIS:
            found, expected = self.collection.get_document(uri=uri), self.model.document(uri=uri)
            assert (found and found.id) == (expected and expected.id)
        for expected in self.model.documents:
            document = self.collection.get_document(expected.id)
            assert (document.id, document.uri, document.text) == (expected.id, expected.uri, expected.text)
            assert document.metadata == expected.metadata
            chunks = self.collection.get_chunks(expected.id)
            stored = [
                ModelChunk(c.id, c.text, None if c.start is None else (c.start, c.end), c.metadata, c.index, 0)
                for c in chunks
            ]
            assert stored == [dataclasses.replace(c, order=0, vectors={}) for c in expected.chunks]
            assert all((c.document_id, c.uri) == (expected.id, expected.uri) for c in chunks)
        for space in self.model.spaces:
            having = [(id, chunk.vectors[space]) for id, (_, chunk) in known.items() if space in chunk.vectors]
            if having:
                stored = self.collection.get_embeddings([id for id, _ in having], space=space)
                np.testing.assert_array_equal(stored, np.array([vector for _, vector in having], np.float32))
            for id in [id for id, (_, chunk) in known.items() if space not in chunk.vectors][:1]:
                with pytest.raises(ragstore.NotFoundError):
                    self.collection.get_embeddings([id], space=space)


def check_file(path: Path) -> None:
    """Nothing is left behind in FTS5 or vec0. Only after close: SQLite may be in this process twice."""
    connection = sqlite3.connect(path)
    try:
        rows = lambda text: [row[0] for row in connection.execute(text)]  # noqa: E731
        assert rows("PRAGMA integrity_check") == ["ok"]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        chunks = set(rows("SELECT id FROM chunks"))
        for collection, generation in connection.execute("SELECT id, fts_generation FROM collections").fetchall():
            table = f"fts_{collection}_{generation}"
            connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")
            assert set(rows(f"SELECT id FROM {table}_docsize")) == chunks
        living = rows("SELECT printf('vec_%d_%d', id, vec_generation) FROM spaces WHERE vec_generation > 0")
        for table in living:
            assert set(rows(f"SELECT rowid FROM {table}_rowids")) <= chunks
        virtual = rows("SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE%' AND name LIKE 'vec%'")
        assert sorted(virtual) == sorted(living)
    finally:
        connection.close()


class IndexedMachine(StoreMachine):
    """Indexes answer, and are built anew after a few changes."""

    index_at = (1, 3, True)


SETTINGS = settings(
    max_examples=400 if FULL else 30, stateful_step_count=50 if FULL else 25, deadline=None, print_blob=True
)
TestStore = StoreMachine.TestCase
TestStore.settings = SETTINGS
TestIndexed = IndexedMachine.TestCase
TestIndexed.settings = SETTINGS
