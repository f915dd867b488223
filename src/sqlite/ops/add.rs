use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::shared::{self, Incoming, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AddResult, OnConflict, Timestamp, new_id};
use crate::request::{Add, PreparedDocument};
use crate::sqlite::tables::changes::{self, Entity, Op};
use crate::sqlite::tables::chunks::{self, ChunkRow};
use crate::sqlite::tables::documents::{self, DocumentRow};
use crate::sqlite::tables::vectors::Reader;
use crate::sqlite::tables::{relations, tombstones};
use crate::sqlite::txn::{Progress, Txn};

/// Documents between two looks at the caller's wish and the lock.
const STRIDE: usize = 16;

pub fn run(
    txn: &mut Txn<'_>,
    request: &Add,
    prepared: &[PreparedDocument<'_>],
    progress: &Progress,
) -> Result<AddResult> {
    let mut target = Target::find(txn.conn, &request.collection)?;
    let stamp = txn.stamp();
    let chunks: usize = prepared.iter().map(|document| document.chunks.len()).sum();
    let mut incoming = match &request.embeddings {
        Some(embeddings) => Some(Incoming::new(txn.conn, stamp, &mut target, &request.space, embeddings, chunks)?),
        None if request.space == crate::request::DEFAULT_SPACE => None,
        None => {
            crate::sqlite::tables::spaces::require(txn.conn, target.id(), &request.space)?;
            None
        }
    };
    let ended_uris = tombstones::any_uri(txn.conn)?;
    let mut add = Adder { stamp, txn, target: &target, ended_uris, result: AddResult::default() };
    progress.done.store(0, Ordering::Relaxed);
    progress.total.store(prepared.len() as u64, Ordering::Relaxed);
    let mut row = 0;
    for (index, document) in prepared.iter().enumerate() {
        if index % STRIDE == 0 {
            add.txn.check(progress)?;
        }
        add.document(document, incoming.as_mut(), row, request.on_conflict)
            .map_err(|e| e.context(format!("document {index}")))?;
        row += document.chunks.len();
        progress.done.store(index as u64 + 1, Ordering::Relaxed);
    }
    Ok(add.result)
}

struct Adder<'a, 'c> {
    txn: &'a Txn<'c>,
    stamp: changes::Stamp,
    target: &'a Target,
    /// Some uri may be remembered as of no document.
    ended_uris: bool,
    result: AddResult,
}

impl Adder<'_, '_> {
    fn document(
        &mut self,
        new: &PreparedDocument<'_>,
        mut incoming: Option<&mut Incoming<'_>>,
        row: usize,
        on_conflict: OnConflict,
    ) -> Result<()> {
        let conn = self.txn.conn;
        let Some(old) = self.living(new)? else {
            let uid = new.id.map_or_else(new_id, str::to_owned);
            let id = documents::insert(conn, self.stamp, self.txn.now, self.target.id(), &uid, new)?;
            if new.id.is_some() {
                self.unbury(&uid)?;
            }
            self.begin_uri(new.uri)?;
            self.result.added += 1;
            return self.chunks(id, uid, new, incoming, row);
        };
        let stored = chunks::of_document(conn, old.id)?;
        if same_content(&old, &stored, new, self.txn.now)
            && self.same_embeddings(&stored, incoming.as_deref_mut(), row)?
        {
            self.result.unchanged += 1;
            self.keep(old, stored);
            return Ok(());
        }
        match on_conflict {
            OnConflict::Error => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "there is a document {:?}{} with other content already; nothing was stored: pass \
                     on_conflict=\"replace\" or \"skip\"",
                    old.uid,
                    old.uri.as_ref().map(|uri| format!(" (uri {uri:?})")).unwrap_or_default()
                ),
            )),
            OnConflict::Skip => {
                self.result.skipped += 1;
                self.keep(old, stored);
                Ok(())
            }
            OnConflict::Replace => {
                for chunk in &stored {
                    shared::delete_chunk(self.txn, self.stamp, self.target, chunk)?;
                }
                let uid = new.id.map_or_else(|| old.uid.clone(), str::to_owned);
                if uid != old.uid {
                    self.txn.deleted(self.target.id(), &old.uid);
                    changes::bury(conn, self.stamp, self.target.id(), Entity::Document, &old.uid)?;
                    shared::document_changed(self.txn, self.stamp, self.target, old.id, &old.uid, Op::Delete)?;
                    self.unbury(&uid)?;
                }
                if let Some(ended) = old.uri.as_deref().filter(|uri| new.uri != Some(uri)) {
                    tombstones::end_uri(conn, self.stamp.hlc, self.target.id(), ended)?;
                    self.ended_uris = true;
                }
                self.begin_uri(new.uri)?;
                documents::replace(conn, self.stamp, self.txn.now, old.id, &uid, new)?;
                self.result.replaced += 1;
                self.chunks(old.id, uid, new, incoming, row)
            }
        }
    }

    fn unbury(&self, uid: &str) -> Result<()> {
        changes::unbury(self.txn.conn, self.target.id(), Entity::Document, uid)?;
        tombstones::forget_alias(self.txn.conn, self.target.id(), uid)
    }

    fn begin_uri(&self, uri: Option<&str>) -> Result<()> {
        match uri.filter(|_| self.ended_uris) {
            Some(uri) => tombstones::begin_uri(self.txn.conn, self.target.id(), uri),
            None => Ok(()),
        }
    }

    /// The stored document that a new one meets. One that has expired is not there, and goes now.
    fn living(&mut self, new: &PreparedDocument<'_>) -> Result<Option<DocumentRow>> {
        loop {
            match existing(self.txn.conn, self.target, new, self.txn.now)? {
                Some(old) if old.expired(self.txn.now) => {
                    let names = chunks::of_document(self.txn.conn, old.id)?.into_iter().map(|chunk| chunk.uid);
                    let names: Vec<String> = names.chain([old.uid]).collect();
                    shared::expire_document(self.txn, self.stamp, self.target, old.id)?;
                    // What comes now is another of those names.
                    for name in names {
                        relations::delete_of(self.txn.conn, self.stamp, self.target.id(), &name)?;
                    }
                    self.ended_uris = true;
                }
                found => return Ok(found),
            }
        }
    }

    fn chunks(
        &mut self,
        id: i64,
        uid: String,
        new: &PreparedDocument<'_>,
        incoming: Option<&mut Incoming<'_>>,
        row: usize,
    ) -> Result<()> {
        let incoming = incoming.map(|incoming| (incoming, row));
        let ids =
            shared::insert_chunks(self.txn, self.stamp, self.target, (id, new.metadata), 0, &new.chunks, incoming)?;
        self.result.chunk_ids.extend(ids);
        shared::document_changed(self.txn, self.stamp, self.target, id, &uid, Op::Put)?;
        self.result.document_ids.push(uid);
        Ok(())
    }

    fn keep(&mut self, old: DocumentRow, stored: Vec<ChunkRow>) {
        self.result.chunk_ids.extend(stored.into_iter().map(|chunk| chunk.uid));
        self.result.document_ids.push(old.uid);
    }

    /// Whether the embeddings given are those that are stored; none given ask nothing.
    fn same_embeddings(&self, stored: &[ChunkRow], incoming: Option<&mut Incoming<'_>>, row: usize) -> Result<bool> {
        let Some(incoming) = incoming else { return Ok(true) };
        let mut reader = Reader::new(self.txn.conn, incoming.table);
        let mut vector = vec![0.0; incoming.table.dimension];
        for (offset, chunk) in stored.iter().enumerate() {
            if let Some(new) = incoming.staging.row(row + offset)?
                && (!reader.read(chunk.id, &mut vector)? || vector != new)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The stored document that a new one meets, by id or by uri; one that has expired before one that is there.
pub fn existing(
    conn: &Connection,
    target: &Target,
    new: &PreparedDocument<'_>,
    now: Timestamp,
) -> Result<Option<DocumentRow>> {
    let by_id = new.id.map(|id| documents::by_uid(conn, target.id(), id)).transpose()?.flatten();
    let by_uri = new.uri.map(|uri| documents::by_uri(conn, target.id(), uri)).transpose()?.flatten();
    match (by_id, by_uri) {
        (Some(expired), _) | (_, Some(expired)) if expired.expired(now) => Ok(Some(expired)),
        (Some(a), Some(b)) if a.id != b.id => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "its id is that of document {:?} and its uri that of document {:?}; delete one of them first",
                a.uid, b.uid
            ),
        )),
        (a, b) => Ok(a.or(b)),
    }
}

/// Whether the content is the same and all there, and so are the names it was given.
pub fn same_content(old: &DocumentRow, stored: &[ChunkRow], new: &PreparedDocument<'_>, now: Timestamp) -> bool {
    old.content_hash == new.content_hash
        && new.id.is_none_or(|id| id == old.uid)
        && new.uri == old.uri.as_deref()
        && stored.len() == new.chunks.len()
        && !stored.iter().any(|chunk| chunk.expired(now))
        && stored.iter().zip(&new.chunks).all(|(old, new)| new.id.is_none_or(|id| id == old.uid))
}
