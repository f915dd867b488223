-- Format 3: what peers that exchange changes need to know. docs/storage.md states the invariants, docs/adr/0019 the rules
-- by which replicas merge.

-- The last change of a space's own properties. One from before has none, which is the first moment of all.
CREATE TABLE space_stamps (
    space_id INTEGER PRIMARY KEY,
    hlc      BLOB NOT NULL CHECK (length(hlc) = 24)
) STRICT;

-- An export reads what is newer than a moment. Without an index it would read every text: hlc stands behind it in a row.
CREATE INDEX documents_hlc ON documents (hlc);

-- The last moment at which a uri was of a document that is not there: a document that had it before is not its owner.
CREATE TABLE uri_tombstones (
    collection_id INTEGER NOT NULL,
    uri           TEXT NOT NULL CHECK (uri <> ''),
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    PRIMARY KEY (collection_id, uri)
) STRICT, WITHOUT ROWID;

CREATE TABLE space_tombstones (
    collection_id INTEGER NOT NULL,
    name          TEXT NOT NULL CHECK (name <> ''),
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    PRIMARY KEY (collection_id, name)
) STRICT, WITHOUT ROWID;

-- Ids of documents whose uri belongs to a later document. Each has a tombstone.
CREATE TABLE aliases (
    collection_id INTEGER NOT NULL,
    uid           TEXT NOT NULL CHECK (uid <> ''),
    uri           TEXT NOT NULL CHECK (uri <> ''),
    PRIMARY KEY (collection_id, uid)
) STRICT, WITHOUT ROWID;

-- Chunks that came with an id that a chunk of another document has: the id that they are given when it is free.
CREATE TABLE chunk_claims (
    chunk_id      INTEGER PRIMARY KEY,
    collection_id INTEGER NOT NULL,
    uid           TEXT NOT NULL CHECK (uid <> '')
) STRICT;
CREATE INDEX chunk_claims_uid ON chunk_claims (collection_id, uid);

-- Relations that came before an end of theirs, or stayed after it.
CREATE TABLE waiting_relations (
    collection_id INTEGER NOT NULL,
    source        TEXT NOT NULL CHECK (source <> ''),
    type          TEXT NOT NULL CHECK (type <> ''),
    target        TEXT NOT NULL CHECK (target <> ''),
    strength      REAL NOT NULL CHECK (strength BETWEEN 0 AND 1),
    metadata      TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    PRIMARY KEY (collection_id, source, type, target)
) STRICT, WITHOUT ROWID;

-- Collections that are gone, of which later deletions are remembered: under the number that they had.
CREATE TABLE past_collections (
    name          TEXT NOT NULL PRIMARY KEY CHECK (name <> ''),
    collection_id INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;

-- How much of each other replica's changes is here: all up to that moment.
CREATE TABLE replicas (
    replica_id BLOB NOT NULL PRIMARY KEY CHECK (length(replica_id) = 16),
    hlc        BLOB NOT NULL CHECK (length(hlc) = 24),
    -- By this store's own clock, when it first heard of that replica.
    met        BLOB NOT NULL CHECK (length(met) = 24)
) STRICT, WITHOUT ROWID;

-- The latest deletion by each replica that is not remembered any more: who does not know of it may hold what it deleted.
CREATE TABLE sync_horizons (
    replica_id BLOB NOT NULL PRIMARY KEY CHECK (length(replica_id) = 16),
    hlc        BLOB NOT NULL CHECK (length(hlc) = 24)
) STRICT, WITHOUT ROWID;

-- Moments of this replica up to which others were told that they have everything: by another they know a copied file.
CREATE TABLE sync_marks (
    hlc      BLOB NOT NULL PRIMARY KEY CHECK (length(hlc) = 24),
    -- The clock had run ahead, and what it stamped was given other moments: others must not know of this one.
    given_up INTEGER NOT NULL DEFAULT 0 CHECK (given_up IN (0, 1))
) STRICT, WITHOUT ROWID;

-- Batches that came of an export in parts, whose last is not here yet.
CREATE TABLE sync_parts (
    source BLOB NOT NULL PRIMARY KEY CHECK (length(source) = 16),
    export BLOB NOT NULL CHECK (length(export) = 16),
    parts  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What lost to a change that was made without knowing of it.
CREATE TABLE sync_conflicts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    found_at   INTEGER NOT NULL,
    collection TEXT,
    entity     TEXT NOT NULL,
    uid        TEXT NOT NULL,
    kept       TEXT NOT NULL CHECK (kept IN ('own', 'other')),
    winner     BLOB NOT NULL CHECK (length(winner) = 24),
    loser      BLOB NOT NULL CHECK (length(loser) = 24)
) STRICT;
