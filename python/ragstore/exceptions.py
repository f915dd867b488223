"""What can go wrong. Everything here is a `RagstoreError`; many are a builtin exception too.

Two builtins are raised as they are: `ValueError` for an argument outside what a call accepts, and `OSError` where the
operating system refused. A wrong type is a `TypeError`.
"""

__all__ = [
    "ClockSkewError",
    "ClosedError",
    "CollectionExistsError",
    "CollectionNotFoundError",
    "ConflictError",
    "CorruptError",
    "DimensionMismatchError",
    "DocumentNotFoundError",
    "FilterError",
    "ForkError",
    "InternalError",
    "InvalidVectorError",
    "LimitError",
    "LockedError",
    "NetworkFilesystemError",
    "NotFoundError",
    "QuerySyntaxError",
    "QueryTimeoutError",
    "RagstoreError",
    "ReadOnlyError",
    "SchemaTooNewError",
    "StoreFullError",
    "SyncError",
    "WalFullError",
    "WrongKeyError",
]


class RagstoreError(Exception):
    """The base of all of them."""


class NotFoundError(RagstoreError, LookupError):
    """Something that was named is not there."""


class CollectionNotFoundError(NotFoundError):
    """There is no collection of that name."""


class DocumentNotFoundError(NotFoundError):
    """There is no document or chunk of that id."""


class ConflictError(RagstoreError):
    """An id or a uri is taken by another document; nothing of the call was stored."""


class CollectionExistsError(ConflictError):
    """A collection or a space of that name exists, or exists with other properties."""


class DimensionMismatchError(RagstoreError, ValueError):
    """A vector has another dimension than its space."""


class InvalidVectorError(RagstoreError, ValueError):
    """A vector is not finite, has no direction under cosine, or is no vector; or rows and chunks differ in number."""


class FilterError(RagstoreError, ValueError):
    """A filter is not well formed; the message names the place inside it."""


class QuerySyntaxError(RagstoreError, ValueError):
    """A raw full-text query is not well formed."""


class LimitError(RagstoreError, ValueError):
    """Input is over one of the limits that guard the store."""


class CorruptError(RagstoreError):
    """The file, or a part of it, does not hold what it must."""


class SchemaTooNewError(RagstoreError):
    """A newer version of ragstore wrote the file; it was not touched."""


class WrongKeyError(RagstoreError):
    """The key does not open the file: it is another one, it is missing, or the file is not encrypted."""


class LockedError(RagstoreError, TimeoutError):
    """Another writer held the file for longer than the timeout."""


class QueryTimeoutError(RagstoreError, TimeoutError):
    """A search ran past its timeout."""


class StoreFullError(RagstoreError, OSError):
    """The disk or a quota is full; nothing of the call was stored."""


class WalFullError(RagstoreError):
    """The write-ahead log reached its cap, since a reader keeps it from being moved; nothing of the call was stored."""


class NetworkFilesystemError(RagstoreError, OSError):
    """The file is to be written on a network file system, which was not asked for by name."""


class ClockSkewError(RagstoreError):
    """A clock is too far ahead; nothing was applied."""


class SyncError(RagstoreError):
    """A batch of changes cannot be applied."""


class ForkError(RagstoreError):
    """The store was opened before a fork and used after it, in the child; open the path again there."""


class ClosedError(RagstoreError):
    """The store is closed."""


class ReadOnlyError(RagstoreError):
    """The store was opened to be read only."""


class InternalError(RagstoreError):
    """A defect of ragstore; please report it."""
