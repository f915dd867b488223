"""Documents, chunks and embeddings in one SQLite file, with keyword, vector and hybrid search.

>>> import ragstore
>>> with ragstore.open() as store:
...     notes = store.create_collection("notes")
...     _ = notes.add_texts(["The cat sat on the mat.", "Dogs bark at night."])
...     notes.search("which cat sat there?").texts
['The cat sat on the mat.']
"""

from . import exceptions, logs
from ._ragstore import Hit, __version__
from .check import CheckReport, Problem, RepairReport, check, repair
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
from .forget import ForgetReport, Residue
from .graph import Related, Relation
from .operations import Health, IndexStats, Reason, StoreStats
from .results import AddResult, CollectionInfo, Hits, RecallReport, SpaceInfo
from .split import split
from .state import State, TransactionState
from .store import Store, open  # noqa: A004
from .sync import Change, Conflict, Peer, SyncLogEntry, SyncReport
from .tracing import instrument, uninstrument
from .tracing import instrument_if_asked as _instrument_if_asked
from .transaction import Pending, Transaction, TransactionCollection
from .transfer import ExportResult, ImportResult, export, import_
from .types import Direction, Embedder, Expand, Filter, Metric, Mode, OnConflict, Progress, Rerank, Syntax

__all__ = [
    "AddResult",
    "Change",
    "CheckReport",
    "Chunk",
    "ClockSkewError",
    "ClosedError",
    "Collection",
    "CollectionExistsError",
    "CollectionInfo",
    "CollectionNotFoundError",
    "Conflict",
    "ConflictError",
    "CorruptError",
    "DimensionMismatchError",
    "Direction",
    "Document",
    "DocumentNotFoundError",
    "Embedder",
    "Expand",
    "ExportResult",
    "Filter",
    "FilterError",
    "ForgetReport",
    "ForkError",
    "Health",
    "Hit",
    "Hits",
    "ImportResult",
    "IndexStats",
    "InternalError",
    "InvalidVectorError",
    "LimitError",
    "LockedError",
    "Metric",
    "Mode",
    "NetworkFilesystemError",
    "NotFoundError",
    "OnConflict",
    "Peer",
    "Pending",
    "Problem",
    "Progress",
    "QuerySyntaxError",
    "QueryTimeoutError",
    "RagstoreError",
    "ReadOnlyError",
    "Reason",
    "RecallReport",
    "Related",
    "Relation",
    "RepairReport",
    "Rerank",
    "Residue",
    "SchemaTooNewError",
    "SpaceInfo",
    "State",
    "Store",
    "StoreFullError",
    "StoreStats",
    "SyncError",
    "SyncLogEntry",
    "SyncReport",
    "Syntax",
    "Transaction",
    "TransactionCollection",
    "TransactionState",
    "WalFullError",
    "WrongKeyError",
    "__version__",
    "check",
    "exceptions",
    "export",
    "import_",
    "instrument",
    "logs",
    "open",
    "repair",
    "split",
    "uninstrument",
]

_instrument_if_asked()
