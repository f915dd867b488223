-- Format 1. docs/storage.md states the invariants.
-- Times are microseconds since 1970-01-01T00:00:00Z. An hlc is 24 bytes that order as memcmp does: milliseconds (6,
-- big-endian), counter (2, big-endian), replica (16). Tables that are named by number (fts_src_<c>, fts_<c>_<gen>,
-- vec_<space>_<gen>) are created with their collection or space and are not part of a migration.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE migrations (
    version    INTEGER PRIMARY KEY,
    sha256     TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

-- AUTOINCREMENT: the ids are part of table names and of snapshots, so none is ever used twice.
CREATE TABLE collections (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT NOT NULL UNIQUE CHECK (name <> ''),
    description    TEXT,
    settings       TEXT NOT NULL DEFAULT '{}' CHECK (json_type(settings) = 'object'),
    tokenizer      TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    hlc            BLOB NOT NULL CHECK (length(hlc) = 24),
    fts_generation INTEGER NOT NULL DEFAULT 1
) STRICT;

-- dimension and vec_generation: NULL and 0 until the first embeddings fix the dimension and create the vec0 table.
CREATE TABLE spaces (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id  INTEGER NOT NULL REFERENCES collections (id) ON DELETE RESTRICT,
    name           TEXT NOT NULL CHECK (name <> ''),
    dimension      INTEGER CHECK (dimension BETWEEN 1 AND 8192),
    metric         TEXT NOT NULL CHECK (metric IN ('cosine', 'l2', 'ip')),
    model          TEXT,
    created_at     INTEGER NOT NULL,
    vec_generation INTEGER NOT NULL DEFAULT 0,
    UNIQUE (collection_id, name),
    CHECK ((dimension IS NULL) = (vec_generation = 0))
) STRICT;

CREATE TABLE documents (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE RESTRICT,
    uid           TEXT NOT NULL CHECK (uid <> ''),
    source_uri    TEXT CHECK (source_uri <> ''),
    content_hash  BLOB NOT NULL CHECK (length(content_hash) = 32),
    content_type  TEXT NOT NULL,
    raw_content   TEXT,
    metadata      TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    expires_at    INTEGER,
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    UNIQUE (collection_id, uid)
) STRICT;
CREATE UNIQUE INDEX documents_source_uri ON documents (collection_id, source_uri) WHERE source_uri IS NOT NULL;
CREATE INDEX documents_content_hash ON documents (content_hash, collection_id);
CREATE INDEX documents_expires_at ON documents (expires_at) WHERE expires_at IS NOT NULL;

-- Deleting a document never cascades to its chunks: an FTS5 row must go before the chunk row that it indexes.
CREATE TABLE chunks (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    document_id   INTEGER NOT NULL REFERENCES documents (id) ON DELETE RESTRICT,
    collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE RESTRICT,
    uid           TEXT NOT NULL CHECK (uid <> ''),
    chunk_index   INTEGER NOT NULL CHECK (chunk_index >= 0),
    content       TEXT,
    content_hash  BLOB CHECK (length(content_hash) = 32),
    token_count   INTEGER,
    char_start    INTEGER,
    char_end      INTEGER,
    byte_start    INTEGER,
    byte_end      INTEGER,
    line_start    INTEGER,
    line_end      INTEGER,
    metadata      TEXT NOT NULL,
    expires_at    INTEGER,
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    UNIQUE (collection_id, uid),
    UNIQUE (document_id, chunk_index),
    CHECK ((content IS NULL) = (content_hash IS NULL))
) STRICT;
CREATE INDEX chunks_expires_at ON chunks (expires_at) WHERE expires_at IS NOT NULL;

-- Declared metadata fields and their typed values, one row per chunk and element of an array.
CREATE TABLE fields (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE RESTRICT,
    path          TEXT NOT NULL CHECK (path <> ''),
    created_at    INTEGER NOT NULL,
    UNIQUE (collection_id, path)
) STRICT;

CREATE TABLE field_values (
    field_id INTEGER NOT NULL,
    type     INTEGER NOT NULL,
    value    ANY NOT NULL,
    chunk_id INTEGER NOT NULL,
    PRIMARY KEY (field_id, type, value, chunk_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX field_values_chunk ON field_values (chunk_id, field_id);

CREATE TABLE relations (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE RESTRICT,
    source        TEXT NOT NULL CHECK (source <> ''),
    target        TEXT NOT NULL CHECK (target <> ''),
    type          TEXT NOT NULL CHECK (type <> ''),
    strength      REAL NOT NULL CHECK (strength BETWEEN 0 AND 1),
    metadata      TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    UNIQUE (collection_id, source, type, target)
) STRICT;
CREATE INDEX relations_target ON relations (collection_id, target, type, source);

-- A local namespace is never synced; it may share its name with one that is.
CREATE TABLE state (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace  TEXT NOT NULL CHECK (namespace <> ''),
    local      INTEGER NOT NULL CHECK (local IN (0, 1)),
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    expires_at INTEGER,
    updated_at INTEGER NOT NULL,
    hlc        BLOB NOT NULL CHECK (length(hlc) = 24),
    UNIQUE (namespace, local, key)
) STRICT;
CREATE INDEX state_expires_at ON state (expires_at) WHERE expires_at IS NOT NULL;

-- The change feed. row_id is the rowid of the entity; commit_tag is drawn anew for every commit.
CREATE TABLE changes (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    commit_tag    INTEGER NOT NULL,
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    collection_id INTEGER,
    space_id      INTEGER,
    entity        TEXT NOT NULL CHECK (entity IN ('collection', 'document', 'chunk', 'embedding', 'relation', 'state')),
    uid           TEXT,
    row_id        INTEGER,
    op            TEXT NOT NULL CHECK (op IN ('put', 'delete', 'clear'))
) STRICT;

-- What was deleted, for peers; outlives the feed. collection_id 0: the entity is a collection or belongs to none.
CREATE TABLE tombstones (
    collection_id INTEGER NOT NULL,
    entity        TEXT NOT NULL CHECK (entity IN ('collection', 'document', 'relation', 'state')),
    uid           TEXT NOT NULL,
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    PRIMARY KEY (collection_id, entity, uid)
) STRICT, WITHOUT ROWID;

CREATE TABLE sync_peers (
    id             INTEGER PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE CHECK (name <> ''),
    endpoint       TEXT NOT NULL,
    replica_id     BLOB CHECK (length(replica_id) = 16),
    watermark      TEXT NOT NULL DEFAULT '{}',
    added_at       INTEGER NOT NULL,
    last_synced_at INTEGER
) STRICT;

CREATE TABLE sync_log (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    peer        TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    sent        INTEGER NOT NULL DEFAULT 0,
    received    INTEGER NOT NULL DEFAULT 0,
    applied     INTEGER NOT NULL DEFAULT 0,
    conflicts   INTEGER NOT NULL DEFAULT 0,
    error       TEXT
) STRICT;
