"""The private module behind the package. Positional, and without promises."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .document import Chunk, Document
from .rows import (
    ChangeRow,
    ChunkRow,
    CollectionRow,
    ConflictRow,
    DocumentRow,
    ExportedDocumentRow,
    ExportedEmbeddingsRow,
    ExportedRelationRow,
    ExportedStateRow,
    ForgetRow,
    HitsRow,
    NewRelationRow,
    NewStateRow,
    ProblemRow,
    RelationRow,
    RepairRow,
    SpaceRow,
    SyncRow,
)

__all__ = [
    "Hit",
    "Options",
    "State",
    "Store",
    "Sync",
    "Write",
    "__version__",
    "_batch_frames",
    "_batch_of",
    "_panic",
    "_shift_clock",
    "after_fork_in_child",
    "after_fork_in_parent",
    "before_fork",
    "check",
    "error_classes",
    "forget",
    "new_id",
    "open",
    "repair",
    "set_slow",
    "split",
]

__version__: str

def open(
    path: str | None,
    key: str | bytes | None,
    create: bool,
    read_only: bool,
    durability: str,
    timeout: float,
    readers: int | None,
    derived: str,
    memory_limit: int | None,
    network_filesystem: bool,
    index_at: tuple[int, int, bool] | None,
) -> Store: ...
def check(
    path: str, key: str | bytes | None, quick: bool, progress: Callable[[int, int], object] | None
) -> list[ProblemRow]: ...
def repair(path: str, key: str | bytes | None, to: str, progress: Callable[[int, int], object] | None) -> RepairRow: ...
def forget(
    store: Store,
    collection: str,
    document_ids: list[str] | None,
    where: Mapping[str, Any] | None,
    progress: Callable[[int, int], object] | None,
) -> ForgetRow: ...
def split(text: str, size: int, overlap: int, syntax: str) -> list[tuple[int, int]]: ...
def set_slow(micros: int) -> None: ...
def new_id() -> str: ...
def before_fork() -> None: ...
def after_fork_in_parent() -> None: ...
def after_fork_in_child() -> None: ...
def error_classes() -> dict[str, type[BaseException]]: ...
def _panic() -> None: ...
def _batch_frames(batch: bytes) -> list[bytes]: ...
def _batch_of(frames: list[bytes], count: int, last: bool) -> bytes: ...
def _shift_clock(micros: int) -> None: ...

@final
class Write:
    @staticmethod
    def add(
        collection: str,
        documents: list[Document],
        embeddings: NDArray[np.float32] | None,
        given: list[bool] | None,
        on_conflict: str,
        space: str,
        copy: bool,
    ) -> Write: ...
    @staticmethod
    def add_texts(
        collection: str,
        texts: list[str],
        embeddings: NDArray[np.float32] | None,
        ids: list[str] | None,
        metadatas: list[Mapping[str, Any]] | None,
        uris: list[str] | None,
        on_conflict: str,
        copy: bool,
    ) -> Write: ...
    @staticmethod
    def add_chunks(
        collection: str,
        document_id: str,
        chunks: list[Chunk],
        embeddings: NDArray[np.float32] | None,
        given: list[bool] | None,
        copy: bool,
    ) -> Write: ...
    @staticmethod
    def set_embeddings(
        collection: str, chunk_ids: list[str], embeddings: NDArray[np.float32], space: str, copy: bool
    ) -> Write | None: ...
    @staticmethod
    def cache_embeddings(model: str, texts: list[str], embeddings: NDArray[np.float32], limit: int) -> Write | None: ...
    @staticmethod
    def clear_embedding_cache(model: str | None, texts: list[str] | None) -> Write: ...
    @staticmethod
    def set_model(collection: str, model: str) -> Write: ...
    @staticmethod
    def delete_embeddings(collection: str, chunk_ids: list[str], space: str) -> Write: ...
    @staticmethod
    def update_metadata(
        collection: str,
        metadata: Mapping[str, Any],
        chunk_ids: list[str] | None,
        document_ids: list[str] | None,
        where: Mapping[str, Any] | None,
        mode: str,
    ) -> Write: ...
    @staticmethod
    def delete(
        collection: str,
        chunk_ids: list[str] | None,
        document_ids: list[str] | None,
        uris: list[str] | None,
        where: Mapping[str, Any] | None,
    ) -> Write: ...
    @staticmethod
    def clear(collection: str) -> Write: ...
    @staticmethod
    def create_index(collection: str, field: str) -> Write: ...
    @staticmethod
    def drop_index(collection: str, field: str) -> Write: ...
    @staticmethod
    def expire(collection: str) -> Write: ...
    @staticmethod
    def relate(
        collection: str, source: str, target: str, kind: str, strength: float, metadata: Mapping[str, Any] | None
    ) -> Write: ...
    @staticmethod
    def unrelate(collection: str, source: str, target: str, kind: str | None) -> Write: ...
    @staticmethod
    def import_relations(collection: str, relations: list[NewRelationRow], policy: str) -> Write: ...
    @staticmethod
    def import_state(entries: list[NewStateRow], policy: str) -> Write: ...
    @staticmethod
    def set_state(
        namespace: str,
        local: bool,
        entries: list[tuple[str, Any]],
        expires_at: datetime | None,
        expected_value: tuple[Any, ...] | None,
    ) -> Write: ...
    @staticmethod
    def delete_state(
        namespace: str, local: bool, keys: list[str] | None, expected_value: tuple[Any, ...] | None
    ) -> Write: ...
    @staticmethod
    def set_tokenizer(collection: str, tokenizer: str) -> Write: ...
    @staticmethod
    def create_collection(
        name: str,
        dimension: int | None,
        metric: str,
        tokenizer: str,
        description: str | None,
        settings: Mapping[str, Any] | None,
        model: str | None,
        exist_ok: bool,
    ) -> Write: ...
    @staticmethod
    def delete_collection(name: str) -> Write: ...
    @staticmethod
    def create_space(collection: str, name: str, dimension: int | None, metric: str, model: str | None) -> Write: ...
    @staticmethod
    def delete_space(collection: str, name: str) -> Write: ...

@final
class State:
    def __new__(cls, store: Store, namespace: str, local: bool) -> State: ...
    def get(self, key: str) -> tuple[str, str, int | None] | None: ...
    def scan(self, prefix: str, after: str | None, limit: int) -> list[tuple[str, str, int | None]]: ...
    def count(self) -> int: ...

@final
class Sync:
    def __new__(cls, store: Store) -> Sync: ...
    def changes(self, since: int, limit: int) -> list[ChangeRow]: ...
    def last_change(self) -> int: ...
    def watermark(self) -> tuple[str, dict[str, str]]: ...
    def export_changes(self, since: dict[str, str], secret: str | bytes | None) -> bytes: ...
    def apply_changes(self, batch: bytes, secret: str | bytes | None) -> SyncRow: ...
    def sync(self, other: Store) -> SyncRow: ...
    def sync_folder(self, path: str, secret: str | bytes | None) -> SyncRow: ...
    def renew_replica(self) -> None: ...
    def reclock(self) -> int: ...
    def add_peer(self, name: str, endpoint: str) -> None: ...
    def remove_peer(self, name: str) -> None: ...
    def peers(self) -> list[tuple[str, str, str | None, int, int | None]]: ...
    def sync_log(self, limit: int) -> list[tuple[int, int | None, SyncRow, str | None]]: ...
    def conflicts(self, limit: int) -> list[ConflictRow]: ...

@final
class Store:
    @property
    def path(self) -> str | None: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def encrypted(self) -> bool: ...
    def rekey(self, key: str | bytes | None) -> None: ...
    def close(self) -> None: ...
    def write(self, writes: list[Write], progress: Callable[[int, int], object] | None = None) -> list[Any]: ...
    def operate(self, operation: str, mode: str | None, progress: Callable[[int, int], object] | None) -> None: ...
    def backup(self, path: str, progress: Callable[[int, int], object] | None) -> None: ...
    def stats(self) -> dict[str, Any]: ...
    def health(self) -> tuple[str, list[tuple[str, str]]]: ...
    def check(self, quick: bool, progress: Callable[[int, int], object] | None) -> list[ProblemRow]: ...
    def repair(self, to: str | None, progress: Callable[[int, int], object] | None) -> RepairRow: ...
    def get_collection(self, name: str) -> CollectionRow: ...
    def list_collections(self) -> list[CollectionRow]: ...
    def get(self, collection: str, chunk_ids: list[str]) -> list[ChunkRow | None]: ...
    def get_document(self, collection: str, kind: str, key: str) -> DocumentRow | None: ...
    def list_documents(
        self, collection: str, where: Mapping[str, Any] | None, limit: int, after: str | None, offset: int
    ) -> list[DocumentRow]: ...
    def get_chunks(self, collection: str, document_id: str) -> list[ChunkRow]: ...
    def get_chunk_by_index(self, collection: str, document_id: str, index: int) -> ChunkRow | None: ...
    def neighbors(self, collection: str, chunk_id: str, before: int, after: int) -> list[ChunkRow]: ...
    def get_embeddings(self, collection: str, chunk_ids: list[str], space: str) -> NDArray[np.float32]: ...
    def count(self, collection: str, where: Mapping[str, Any] | None) -> int: ...
    def relations(self, collection: str, id: str | None, direction: str, kind: str | None) -> list[RelationRow]: ...
    def related(
        self,
        collection: str,
        ids: list[str],
        depth: int,
        kinds: list[str] | None,
        min_strength: float,
        direction: str,
        limit: int,
    ) -> list[tuple[str, list[str], float, int]]: ...
    def count_documents(self, collection: str, where: Mapping[str, Any] | None) -> int: ...
    def kept(self, collection: str, documents: list[Document], on_conflict: str) -> list[bool]: ...
    def cached_embeddings(
        self, collection: str, space: str, model: str | None, texts: list[str], dimension: int | None
    ) -> tuple[str | None, SpaceRow, list[int], NDArray[np.float32]]: ...
    def unchanged(self, collection: str, documents: list[Document]) -> list[bool]: ...
    def export(
        self,
        collections: list[str] | None,
        collection: Callable[[CollectionRow, list[str], int, int], object],
        page: Callable[[list[ExportedDocumentRow], list[ExportedEmbeddingsRow]], object],
        relations: Callable[[list[ExportedRelationRow]], object],
        state: Callable[[list[ExportedStateRow]], object],
    ) -> None: ...
    def search(
        self,
        collection: str,
        mode: str,
        text: str | None,
        vector: NDArray[np.float32] | None,
        space: str,
        k: int,
        where: Mapping[str, Any] | None,
        exact: bool,
        options: Options,
    ) -> HitsRow: ...
    def check_recall(
        self, collection: str, space: str, sample: int, k: int, recall: float
    ) -> tuple[float, tuple[float, float], int, int, float, float, str]: ...
    def search_batch(
        self,
        collection: str,
        vectors: NDArray[np.float32],
        space: str,
        k: int,
        where: Mapping[str, Any] | None,
        exact: bool,
    ) -> list[HitsRow]: ...
    def search_store(
        self,
        collections: list[str] | None,
        mode: str,
        text: str | None,
        vector: NDArray[np.float32] | None,
        k: int,
        where: Mapping[str, Any] | None,
        options: Options,
    ) -> HitsRow: ...

@final
class Options:
    def __new__(
        cls,
        *,
        syntax: str = "natural",
        fusion: str = "rrf",
        weights: tuple[float, float] | None = None,
        rrf_k: int = 60,
        candidates: int | None = None,
        timeout: float | None = None,
        recall: float = 0.99,
        include: tuple[bool, bool] | None = None,
        min_score: float | None = None,
        fetch_k: int | None = None,
        rerank: Callable[[str, list[str]], list[float]] | None = None,
        mmr: float | None = None,
        group_size: int | None = None,
        expand: tuple[int, float, list[str] | None, str, float, int | None] | None = None,
        window: tuple[int, int] | None = None,
        explain: bool = False,
    ) -> Options: ...

@final
class Hit:
    @property
    def collection(self) -> str: ...
    @property
    def rank(self) -> int | None: ...
    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str | None: ...
    @property
    def score(self) -> float: ...
    @property
    def distance(self) -> float | None: ...
    @property
    def document_id(self) -> str: ...
    @property
    def uri(self) -> str | None: ...
    @property
    def index(self) -> int: ...
    @property
    def start(self) -> int | None: ...
    @property
    def end(self) -> int | None: ...
    @property
    def metadata(self) -> dict[str, Any]: ...
    @property
    def vector_rank(self) -> int | None: ...
    @property
    def vector_score(self) -> float | None: ...
    @property
    def keyword_rank(self) -> int | None: ...
    @property
    def keyword_score(self) -> float | None: ...
    @property
    def path(self) -> tuple[str, ...] | None: ...
    def highlight(self, before: str = "<b>", after: str = "</b>") -> str: ...
    def snippet(self, words: int = 32, before: str = "<b>", after: str = "</b>") -> str: ...
