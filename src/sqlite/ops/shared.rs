//! What several writes do to a document, its chunks and their embeddings.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::staging::Staging;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::model::{ContentHash, Embeddings, HashedChunk, Imported, Metadata, OnConflict, Timestamp, check_id, new_id};
use crate::request::PreparedChunk;
use crate::sqlite::filter_sql::{self, Documents, Indexes};
use crate::sqlite::sql;
use crate::sqlite::tables::changes::{self, Change, Entity, Op, Stamp};
use crate::sqlite::tables::chunks::{self, ChunkRow, Place};
use crate::sqlite::tables::collections::{self, CollectionRow};
use crate::sqlite::tables::documents;
use crate::sqlite::tables::expiry::chunk_alive;
use crate::sqlite::tables::field_values;
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::relations;
use crate::sqlite::tables::spaces::{self, SpaceRow};
use crate::sqlite::tables::tombstones;
use crate::sqlite::tables::vectors::{self, Reader, VectorTable};
use crate::sqlite::txn::Txn;

/// A collection with the tables of its spaces, looked up once per write.
pub struct Target {
    pub collection: CollectionRow,
    pub spaces: Vec<SpaceRow>,
    /// The metadata fields that have an index.
    pub fields: Indexes,
}

impl Target {
    /// Looks up a collection.
    pub fn find(conn: &Connection, name: &str) -> Result<Self> {
        let collection = collections::require(conn, name)?;
        let spaces = spaces::list(conn, collection.id)?;
        let fields = filter_sql::indexes(conn, collection.id)?;
        Ok(Self { collection, spaces, fields })
    }

    /// The collection's rowid.
    pub fn id(&self) -> i64 {
        self.collection.id
    }

    /// The living FTS5 table.
    pub fn fts(&self) -> FtsTable {
        FtsTable { collection_id: self.collection.id, generation: self.collection.fts_generation }
    }

    /// The vec0 tables there are, each with its space.
    pub fn vector_tables(&self) -> impl Iterator<Item = VectorTable> + '_ {
        self.spaces.iter().filter_map(SpaceRow::table)
    }

    /// The table of a space that is to take vectors of this dimension; the first ones make it.
    pub fn table_for(
        &mut self,
        conn: &Connection,
        stamp: Stamp,
        space: &str,
        embeddings: &Embeddings,
    ) -> Result<VectorTable> {
        let wanted = self.spaces.iter_mut().find(|candidate| candidate.name == space);
        let Some(space) = wanted else {
            return Err(match spaces::require(conn, self.collection.id, space) {
                Err(error) => error,
                Ok(_) => Error::internal("a space appeared within a transaction"),
            });
        };
        space.check_dimension(embeddings.dimension())?;
        match space.table() {
            Some(table) => Ok(table),
            None => spaces::set_dimension(conn, stamp, space, embeddings.dimension()),
        }
    }
}

/// The embeddings of one write with the table they go to.
pub struct Incoming<'e> {
    pub table: VectorTable,
    pub staging: Staging<'e>,
}

impl<'e> Incoming<'e> {
    /// Checks the embeddings against their space and their number.
    pub fn new(
        conn: &Connection,
        stamp: Stamp,
        target: &mut Target,
        space: &str,
        embeddings: &'e Embeddings,
        chunks: usize,
    ) -> Result<Self> {
        let table = target.table_for(conn, stamp, space, embeddings)?;
        Ok(Self { table, staging: Staging::new(embeddings, table.metric, chunks)? })
    }
}

/// Stores chunks at the end of a document, from `index` on, with their text index rows and embeddings, whose rows begin
/// at `row`. Returns the ids.
pub fn insert_chunks(
    txn: &Txn<'_>,
    stamp: Stamp,
    target: &Target,
    (document_id, metadata): (i64, &Metadata),
    index: u64,
    new: &[PreparedChunk<'_>],
    mut incoming: Option<(&mut Incoming<'_>, usize)>,
) -> Result<Vec<String>> {
    let conn = txn.conn;
    let mut uids = Vec::with_capacity(new.len());
    for (offset, chunk) in new.iter().enumerate() {
        let uid = match chunk.id {
            Some(id) => {
                let there = chunks::by_uid(conn, target.id(), id)?;
                if let Some(expired) = there.as_ref().filter(|chunk| chunk.expired(txn.now)) {
                    delete_chunk(txn, stamp, target, expired)?;
                    if expired.document_id != document_id {
                        document_touched(txn, stamp, target, expired.document_id)?;
                    }
                } else if there.is_some() {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!("there is a chunk {id:?} already; chunk ids are unique in a collection: give another"),
                    ));
                }
                id.to_owned()
            }
            None => new_id(),
        };
        let place = Place { document_id, collection_id: target.id(), uid: &uid, index: index + offset as u64 };
        let row = chunks::insert(conn, stamp, place, chunk)?;
        fts::insert(conn, target.fts(), row, chunk.text)?;
        field_values::insert(conn, &target.fields, row, chunk.metadata.as_json(), metadata.as_json())?;
        if let Some((incoming, first)) = &mut incoming
            && let Some(vector) = incoming.staging.row(*first + offset)?
        {
            vectors::insert(conn, incoming.table, row, vector)?;
        }
        uids.push(uid);
    }
    Ok(uids)
}

/// Removes a chunk from everywhere: text index first, chunk row last.
pub fn delete_chunk(txn: &Txn<'_>, stamp: Stamp, target: &Target, chunk: &ChunkRow) -> Result<()> {
    let conn = txn.conn;
    fts::delete(conn, target.fts(), chunk.id)?;
    for table in target.vector_tables() {
        vectors::delete(conn, table, chunk.id)?;
    }
    chunks::delete(conn, chunk.id)?;
    txn.deleted(target.id(), &chunk.uid);
    changes::append(
        conn,
        stamp,
        Change {
            collection_id: Some(target.id()),
            space_id: None,
            entity: Entity::Chunk,
            uid: Some(&chunk.uid),
            row_id: Some(chunk.id),
            op: Op::Delete,
        },
    )
}

/// Removes a document with its chunks and leaves a tombstone.
pub fn delete_document(txn: &Txn<'_>, stamp: Stamp, target: &Target, id: i64, uid: &str) -> Result<()> {
    if let Some(uri) = documents::by_row(txn.conn, id)?.uri {
        tombstones::end_uri(txn.conn, stamp.hlc, target.id(), &uri)?;
    }
    changes::bury(txn.conn, stamp, target.id(), Entity::Document, uid)?;
    remove_document(txn, stamp, target, id, uid)
}

/// Removes a document that has expired. It was there until its own last change: what another replica changed since then,
/// and this one has not seen, is later.
pub fn expire_document(txn: &Txn<'_>, stamp: Stamp, target: &Target, id: i64) -> Result<()> {
    let last = documents::stamp(txn.conn, id)?;
    let document = documents::by_row(txn.conn, id)?;
    if let Some(uri) = &document.uri {
        tombstones::end_uri(txn.conn, last, target.id(), uri)?;
    }
    changes::bury(txn.conn, Stamp { hlc: last, ..stamp }, target.id(), Entity::Document, &document.uid)?;
    remove_document(txn, stamp, target, id, &document.uid)
}

/// Removes a document with its chunks, and leaves no trace of its names.
pub fn remove_document(txn: &Txn<'_>, stamp: Stamp, target: &Target, id: i64, uid: &str) -> Result<()> {
    empty_document(txn, stamp, target, id)?;
    documents::delete(txn.conn, id)?;
    txn.deleted(target.id(), uid);
    document_changed(txn, stamp, target, id, uid, Op::Delete)
}

/// Removes the chunks of a document. Who removes many documents empties all of them first: SQLite opens a savepoint for a
/// row that others may refer to, and at each FTS5 writes out what it holds in memory, unless that is nothing.
pub fn empty_document(txn: &Txn<'_>, stamp: Stamp, target: &Target, id: i64) -> Result<()> {
    chunks::of_document(txn.conn, id)?.iter().try_for_each(|chunk| delete_chunk(txn, stamp, target, chunk))
}

/// Deletes the relations of what a write deleted, and did not make anew.
pub fn cut_relations(txn: &mut Txn<'_>) -> Result<()> {
    let gone = txn.take_deleted();
    settle(txn, &gone)?;
    if gone.is_empty() || !relations::any(txn.conn)? {
        return Ok(());
    }
    let stamp = txn.stamp();
    for (collection_id, uid) in gone {
        if !is_there(txn.conn, collection_id, &uid, txn.now)? {
            relations::delete_of(txn.conn, stamp, collection_id, &uid)?;
        }
    }
    Ok(())
}

/// Whether a collection has a chunk or a document of that id.
pub fn is_there(conn: &Connection, collection_id: i64, id: &str, now: Timestamp) -> Result<bool> {
    Ok(chunks::by_uid(conn, collection_id, id)?.is_some_and(|chunk| !chunk.expired(now))
        || documents::by_uid(conn, collection_id, id)?.is_some_and(|document| !document.expired(now)))
}

/// Moves a chunk to a new rowid with its text index row and the vectors of every space but `without`: a rowid never
/// comes to mean another text or vector.
pub fn renumber_chunk(
    txn: &Txn<'_>,
    stamp: Stamp,
    target: &Target,
    chunk: &ChunkRow,
    without: VectorTable,
) -> Result<ChunkRow> {
    let conn = txn.conn;
    let mut kept = Vec::new();
    for table in target.vector_tables() {
        let mut vector = vec![0.0; table.dimension];
        let found = Reader::new(conn, table).read(chunk.id, &mut vector)?;
        if found {
            vectors::delete(conn, table, chunk.id)?;
            if table != without {
                kept.push((table, vector));
            }
        }
    }
    fts::delete(conn, target.fts(), chunk.id)?;
    let row = chunks::renumber(conn, stamp, chunk.id)?;
    fts::insert(conn, target.fts(), row, chunks::content(conn, row)?.as_deref())?;
    for (table, vector) in kept {
        vectors::insert(conn, table, row, &vector)?;
    }
    changes::append(
        conn,
        stamp,
        Change {
            collection_id: Some(target.id()),
            space_id: None,
            entity: Entity::Chunk,
            uid: Some(&chunk.uid),
            row_id: Some(chunk.id),
            op: Op::Delete,
        },
    )?;
    Ok(ChunkRow { id: row, ..chunk.clone() })
}

/// Removes a collection with all it holds. What was remembered of it at a later moment than the stamp stays.
pub fn drop_collection(txn: &Txn<'_>, stamp: Stamp, target: &Target) -> Result<()> {
    let conn = txn.conn;
    fts::drop_table(conn, target.fts())?;
    fts::drop_view(conn, target.id())?;
    for space in &target.spaces {
        spaces::delete(conn, space)?;
    }
    chunks::delete_all(conn, target.id())?;
    documents::delete_all(conn, target.id())?;
    relations::suspend_all(conn, target.id())?;
    sql::execute(conn, "DELETE FROM fields WHERE collection_id = ?1", [target.id()])?;
    let name = target.collection.name.as_str();
    tombstones::leave(conn, name, target.id(), stamp.hlc)?;
    collections::delete(conn, target.id())?;
    collection_changed(txn, stamp, target, name, Op::Delete)
}

/// Appends a collection to the feed.
pub fn collection_changed(txn: &Txn<'_>, stamp: Stamp, target: &Target, name: &str, op: Op) -> Result<()> {
    changes::append(
        txn.conn,
        stamp,
        Change {
            collection_id: Some(target.id()),
            space_id: None,
            entity: Entity::Collection,
            uid: Some(name),
            row_id: Some(target.id()),
            op,
        },
    )
}

/// Gives names back to chunks that wait for them, where chunks of these names went, and relations to ids that are there
/// again.
pub fn settle(txn: &Txn<'_>, gone: &[(i64, String)]) -> Result<()> {
    if chunks::any_claims(txn.conn)? {
        let related = relations::any(txn.conn)?;
        for (collection_id, uid) in gone {
            if let Some(before) = chunks::settle_name(txn.conn, *collection_id, uid)?.filter(|_| related) {
                relations::suspend(txn.conn, txn.stamp_of(txn.clock()), *collection_id, &before)?;
            }
        }
    }
    if relations::any_waiting(txn.conn)? {
        relations::restore(txn.conn, txn.stamp_of(txn.clock()))?;
    }
    Ok(())
}

/// Appends a document to the feed.
pub fn document_changed(txn: &Txn<'_>, stamp: Stamp, target: &Target, id: i64, uid: &str, op: Op) -> Result<()> {
    changes::append(
        txn.conn,
        stamp,
        Change {
            collection_id: Some(target.id()),
            space_id: None,
            entity: Entity::Document,
            uid: Some(uid),
            row_id: Some(id),
            op,
        },
    )
}

/// Hashes and stamps a document whose chunks, metadata or embeddings changed, and appends it to the feed.
pub fn document_touched(txn: &Txn<'_>, stamp: Stamp, target: &Target, id: i64) -> Result<()> {
    let conn = txn.conn;
    let hash = hash_of(conn, id)?;
    documents::touch(conn, stamp, txn.now, id, hash)?;
    let uid = documents::by_row(conn, id)?.uid;
    document_changed(txn, stamp, target, id, &uid, Op::Put)
}

/// The hash of a document as it is stored.
pub fn hash_of(conn: &Connection, id: i64) -> Result<ContentHash> {
    let text = format!("SELECT {} FROM documents d WHERE d.id = ?1", documents::COLUMNS);
    let document = sql::query_one(conn, &text, [id], documents::read)?;
    let text = format!(
        "SELECT {} FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.document_id = ?1 ORDER BY c.chunk_index",
        chunks::COLUMNS
    );
    let all = sql::query_all(conn, &text, [id], chunks::read)?;
    ContentHash::of(
        document.text.as_deref(),
        &document.content_type,
        &document.metadata,
        all.iter().map(HashedChunk::from),
    )
}

/// The rows of chunks named by id, in that order; `None` where there is no such chunk.
pub fn find_chunks(
    conn: &Connection,
    target: &Target,
    uids: &[String],
    now: Timestamp,
) -> Result<Vec<Option<ChunkRow>>> {
    uids.iter()
        .map(|uid| {
            check_id("chunk id", uid)?;
            Ok(chunks::by_uid(conn, target.id(), uid)?.filter(|chunk| !chunk.expired(now)))
        })
        .collect()
}

/// The same, where each must be there.
pub fn require_chunks(conn: &Connection, target: &Target, uids: &[String], now: Timestamp) -> Result<Vec<ChunkRow>> {
    let found = find_chunks(conn, target, uids, now)?;
    let missing: Vec<&String> = uids.iter().zip(&found).filter(|(_, row)| row.is_none()).map(|(uid, _)| uid).collect();
    if missing.is_empty() { Ok(found.into_iter().flatten().collect()) } else { Err(no_such("chunk", &missing)) }
}

/// Names what is missing, the first few of it.
pub fn no_such(what: &str, missing: &[&String]) -> Error {
    Error::new(ErrorKind::DocumentNotFound, format!("there is no {what} {}; nothing was changed", few(missing)))
}

/// The first few names, and how many more there are.
pub fn few(names: &[impl std::fmt::Debug]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Whether a chunk of a document matches; a document without chunks is judged by its own metadata.
pub fn document_matches(conn: &Connection, id: i64, filter: &Filter, now: Timestamp) -> Result<bool> {
    let condition = filter_sql::condition(filter, &Indexes::new(), Documents::Joined, 3);
    let text = format!(
        "SELECT EXISTS (SELECT 1 FROM documents d LEFT JOIN chunks c ON c.document_id = d.id AND {}
                        WHERE d.id = ?1 AND {})",
        chunk_alive(2),
        condition.sql
    );
    let mut values = vec![Value::Integer(id), Value::Integer(now.0)];
    values.extend(condition.values);
    sql::query_one(conn, &text, params_from_iter(values), |row| row.get(0))
}

/// What is to become of what is imported where the store has it with other content; `what` says of which.
pub fn on_other_content(on_conflict: OnConflict, what: impl FnOnce() -> String) -> Result<Imported> {
    match on_conflict {
        OnConflict::Replace => Ok(Imported::Stored),
        OnConflict::Skip => Ok(Imported::Skipped),
        OnConflict::Error => {
            Err(Error::new(ErrorKind::Conflict, format!("{}; pass on_conflict=\"replace\" or \"skip\"", what())))
        }
    }
}
