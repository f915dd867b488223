"""Documents, chunks and embeddings in one SQLite file, with keyword, vector and hybrid search.

>>> import ragstore
>>> with ragstore.open() as store:
...     notes = store.create_collection("notes")
...     _ = notes.add_texts(["The cat sat on the mat.", "Dogs bark at night."])
...     notes.search("which cat sat there?").texts
['The cat sat on the mat.']
"""

from . import exceptions
from ._ragstore import Hit, __version__
from .collection import Collection
from .document import Chunk, Document
from .exceptions import (
    ClockSkewError,
    ClosedError,
    CollectionExistsError,
    CollectionNotFoundError,
    ConflictError,
    CorruptError,
    DimensionMismatchError,
    DocumentNotFoundError,
    FilterError,
    ForkError,
    InternalError,
    InvalidVectorError,
    LimitError,
    LockedError,
    NetworkFilesystemError,
    NotFoundError,
    QuerySyntaxError,
    QueryTimeoutError,
    RagstoreError,
    ReadOnlyError,
    SchemaTooNewError,
    StoreFullError,
    SyncError,
    WalFullError,
    WrongKeyError,
)
from .graph import Related, Relation
from .operations import Health, Reason, StoreStats
from .results import AddResult, CollectionInfo, Hits, SpaceInfo
from .split import split
from .state import State, TransactionState
from .store import Store, open  # noqa: A004
from .transaction import Pending, Transaction, TransactionCollection
from .types import Embedder, Filter, Metric, Mode, OnConflict, Progress, Rerank, Syntax

__all__ = [
    "AddResult",
    "Chunk",
    "ClockSkewError",
    "ClosedError",
    "Collection",
    "CollectionExistsError",
    "CollectionInfo",
    "CollectionNotFoundError",
    "ConflictError",
    "CorruptError",
    "DimensionMismatchError",
    "Document",
    "DocumentNotFoundError",
    "Embedder",
    "Filter",
    "FilterError",
    "ForkError",
    "Health",
    "Hit",
    "Hits",
    "InternalError",
    "InvalidVectorError",
    "LimitError",
    "LockedError",
    "Metric",
    "Mode",
    "NetworkFilesystemError",
    "NotFoundError",
    "OnConflict",
    "Pending",
    "Progress",
    "QuerySyntaxError",
    "QueryTimeoutError",
    "RagstoreError",
    "ReadOnlyError",
    "Reason",
    "Related",
    "Relation",
    "Rerank",
    "SchemaTooNewError",
    "SpaceInfo",
    "State",
    "Store",
    "StoreFullError",
    "StoreStats",
    "SyncError",
    "Syntax",
    "Transaction",
    "TransactionCollection",
    "TransactionState",
    "WalFullError",
    "WrongKeyError",
    "__version__",
    "exceptions",
    "open",
    "split",
]
