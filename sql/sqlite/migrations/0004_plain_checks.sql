-- Format 4: the feed and the tombstones with checks that cost nothing. For `IN` with more than two values SQLite fills a
-- table of them whenever a row is written, which took more time than the row (docs/adr/0022). Rows stay as they are.

ALTER TABLE changes RENAME TO changes_of_format_3;

CREATE TABLE changes (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    commit_tag    INTEGER NOT NULL,
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    collection_id INTEGER,
    space_id      INTEGER,
    entity        TEXT NOT NULL CHECK (
        entity = 'document' OR entity = 'chunk' OR entity = 'embedding' OR entity = 'relation' OR entity = 'state'
        OR entity = 'collection'
    ),
    uid           TEXT,
    row_id        INTEGER,
    op            TEXT NOT NULL CHECK (op = 'put' OR op = 'delete' OR op = 'clear')
) STRICT;

INSERT INTO changes (seq, commit_tag, hlc, collection_id, space_id, entity, uid, row_id, op)
SELECT seq, commit_tag, hlc, collection_id, space_id, entity, uid, row_id, op FROM changes_of_format_3 ORDER BY seq;

-- The feed goes on from where it was, also where its last rows are not there any more.
DELETE FROM sqlite_sequence WHERE name = 'changes';
INSERT INTO sqlite_sequence (name, seq) SELECT 'changes', seq FROM sqlite_sequence WHERE name = 'changes_of_format_3';

DROP TABLE changes_of_format_3;

ALTER TABLE tombstones RENAME TO tombstones_of_format_3;

CREATE TABLE tombstones (
    collection_id INTEGER NOT NULL,
    entity        TEXT NOT NULL CHECK (
        entity = 'document' OR entity = 'relation' OR entity = 'state' OR entity = 'collection'
    ),
    uid           TEXT NOT NULL,
    hlc           BLOB NOT NULL CHECK (length(hlc) = 24),
    PRIMARY KEY (collection_id, entity, uid)
) STRICT, WITHOUT ROWID;

INSERT INTO tombstones (collection_id, entity, uid, hlc)
SELECT collection_id, entity, uid, hlc FROM tombstones_of_format_3 ORDER BY collection_id, entity, uid;

DROP TABLE tombstones_of_format_3;
