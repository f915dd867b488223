-- Format 2: what embedders made of texts, kept so that no model sees the same text twice. docs/storage.md states the
-- invariants, docs/adr/0009 the choice of layout.

-- A copy of its own, bound to no collection. Newer rows have greater ids, and the oldest go first when there are too
-- many bytes; meta's embedding_cache_bytes is the sum of the lengths of embedding.
CREATE TABLE embedding_cache (
    id           INTEGER PRIMARY KEY,
    model        TEXT NOT NULL CHECK (model <> ''),
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    dimension    INTEGER NOT NULL CHECK (dimension BETWEEN 1 AND 8192),
    created_at   INTEGER NOT NULL,
    embedding    BLOB NOT NULL CHECK (length(embedding) = 4 * dimension),
    UNIQUE (model, content_hash, dimension)
) STRICT;

INSERT INTO meta (key, value) VALUES ('embedding_cache_bytes', 0);
