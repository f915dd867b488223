//! Documents with their chunks and embeddings, and what is remembered of their names.

use super::beside::{Beside, Twins};
use super::collections::Space;
use super::{Apply, damaged, time};
use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{ContentHash, ContentHasher, HashedChunk, Metadata, NewChunk, check_id, check_name, check_vector};
use crate::request::prepare_chunks;
use crate::sqlite::ops::shared;
use crate::sqlite::tables::changes::{self, Entity, Op};
use crate::sqlite::tables::chunks::{self, Place};
use crate::sqlite::tables::documents::{self, Received};
use crate::sqlite::tables::tombstones::{self, DocumentName};
use crate::sqlite::tables::{field_values, fts, vectors};
use crate::sync::Action;
use crate::sync::merge;
use crate::sync::record::{ChunkRecord, ChunkText, DocumentRecord};

/// A document whose chunks are coming.
pub(super) struct Pending {
    uid: String,
    left: u64,
    place: usize,
    /// With what has the same content, and its id or its uri.
    twins: Vec<Twins>,
    /// `None`: it is not stored.
    stored: Option<Stored>,
}

struct Stored {
    row: i64,
    stamp: Hlc,
    text: Option<String>,
    metadata: Metadata,
    content_hash: ContentHash,
    hasher: ContentHasher,
    next_index: u64,
    waiting: Vec<Waiting>,
    bytes: usize,
    /// When a space ended of which it has embeddings that are not stored.
    ended: Option<Hlc>,
}

/// A chunk that is prepared with others.
struct Waiting {
    chunk: NewChunk,
    index: u64,
    /// It has no text, although it has a span of one.
    bare: bool,
    vectors: Vec<(usize, Vec<f32>)>,
}

impl Apply<'_, '_> {
    pub(super) fn document(&mut self, record: &DocumentRecord<'_>) -> Result<()> {
        check_id("document id", record.uid)?;
        check_name("content_type", record.content_type)?;
        record.uri.map_or(Ok(()), |uri| check_name("uri", uri))?;
        check_text(record.text)?;
        let metadata = metadata(record.metadata)?;
        let news = self.is_news(record.stamp)?;
        let place = usize::try_from(record.collection).unwrap_or(usize::MAX);
        let floor = self.entry(record.collection)?.floor;
        self.done.received += 1;
        self.pending =
            Some(Pending { uid: record.uid.to_owned(), left: record.chunks, place, twins: Vec::new(), stored: None });
        let conn = self.txn.conn;
        if !news {
            return match &self.entries[place].target {
                Some(target) => self.same(tombstones::document(conn, target.id(), record.uid)?.as_ref(), record),
                None => Ok(()),
            };
        }
        let name = self.entries[place].name.clone();
        if let Some(floor) = floor.filter(|floor| record.stamp <= *floor) {
            return self.conflict(Some(&name), "document", record.uid, floor, record.stamp);
        }
        // Of a collection that is gone something may be remembered.
        let id = match &self.entries[place].target {
            Some(target) => Some(target.id()),
            None => tombstones::past(conn, &name)?,
        };
        let own = id.map(|id| tombstones::document(conn, id, record.uid)).transpose()?.flatten();
        let uri = id.zip(record.uri);
        let holder = uri.map(|(id, uri)| tombstones::uri(conn, id, uri)).transpose()?.flatten();
        let known = |found: &Option<DocumentName>| found.as_ref().map(|found| found.known);
        let stamp = record.stamp;
        let action = merge::document(stamp, floor, known(&own), known(&holder), record.uri.is_some());
        let other = holder.as_ref().filter(|holder| holder.row.as_ref().is_none_or(|row| row.1 != record.uid));
        match action {
            Action::Same => self.same(own.as_ref(), record),
            Action::Older | Action::OlderWithUri { .. } => {
                self.compare(place, own.as_ref(), record.uid, record)?;
                if let (Action::OlderWithUri { .. }, Some(uri)) = (action, record.uri) {
                    self.evict(place, other, stamp)?;
                    tombstones::end_uri(conn, stamp, self.number(place)?, uri)?;
                }
                Ok(())
            }
            Action::Alias => {
                let (Some(uri), Some(holder)) = (record.uri, &holder) else { return Ok(()) };
                self.compare(place, Some(holder), record.uid, record)?;
                if let Some(own) = own.as_ref().filter(|own| own.row.is_some()) {
                    self.compare(place, Some(own), record.uid, record)?;
                    self.remove(place, own, stamp)?;
                }
                let id = self.number(place)?;
                changes::bury(conn, self.txn.stamp_of(stamp), id, Entity::Document, record.uid)?;
                self.done.applied += 1;
                tombstones::set_alias(conn, id, record.uid, uri)
            }
            Action::Put { .. } => {
                self.compare(place, own.as_ref(), record.uid, record)?;
                if let Some((other, (_, uid, ..))) = other.and_then(|other| Some((other, other.row.as_ref()?))) {
                    self.compare(place, Some(other), uid, record)?;
                }
                if self.entries[place].target.is_none() {
                    self.make_collection(place)?;
                }
                self.displace(place, other, stamp)?;
                self.put(place, own.as_ref(), record, metadata)
            }
            Action::Drop | Action::Bury { .. } => Ok(()),
        }
    }

    /// Notes a conflict with what has the id or the uri of a document. Where only what comes with the chunks can differ,
    /// they tell.
    fn compare(
        &mut self,
        place: usize,
        own: Option<&DocumentName>,
        uid: &str,
        record: &DocumentRecord<'_>,
    ) -> Result<()> {
        let Some(own) = own.filter(|own| self.concurrent(own.known.stamp, record.stamp)) else { return Ok(()) };
        let (own_stamp, target) = (own.known.stamp, self.entries[place].target.as_ref());
        match own.row.as_ref().zip(target) {
            Some(((row, _, uri, hash), target)) if *hash == record.content_hash && uri.as_deref() == record.uri => {
                let stored = Beside::stored(self.txn.conn, target, *row)?;
                if let Some(pending) = &mut self.pending {
                    let twins = Twins::new(uid.to_owned(), stored, own_stamp, record.expires_at, record.stamp);
                    pending.twins.push(twins);
                }
                Ok(())
            }
            _ => {
                let name = self.entries[place].name.clone();
                self.conflict(Some(&name), "document", uid, own_stamp, record.stamp)
            }
        }
    }

    /// What has the same moment is the same change.
    fn same(&self, own: Option<&DocumentName>, record: &DocumentRecord<'_>) -> Result<()> {
        let other = own.is_some_and(|own| {
            own.known.stamp == record.stamp
                && own.row.as_ref().is_some_and(|(_, _, _, hash)| *hash != record.content_hash)
        });
        if other { Err(super::super::export_changes::twin()) } else { Ok(()) }
    }

    fn put(
        &mut self,
        place: usize,
        own: Option<&DocumentName>,
        record: &DocumentRecord<'_>,
        metadata: Metadata,
    ) -> Result<()> {
        let (txn, conn) = (self.txn, self.txn.conn);
        let Some(target) = &self.entries[place].target else { return Ok(()) };
        let (id, stamp) = (target.id(), txn.stamp_of(record.stamp));
        let old = own.and_then(|own| Some((own.known.stamp, own.row.as_ref()?)));
        if let Some((before, (row, _, uri, _))) = old {
            for chunk in chunks::of_document(conn, *row)? {
                shared::delete_chunk(txn, stamp, target, &chunk)?;
            }
            if let Some(ended) = uri.as_deref().filter(|uri| record.uri != Some(*uri)) {
                tombstones::end_uri(conn, before, id, ended)?;
            }
        } else {
            changes::unbury(conn, id, Entity::Document, record.uid)?;
            tombstones::forget_alias(conn, id, record.uid)?;
        }
        if let Some(uri) = record.uri {
            tombstones::begin_uri(conn, id, uri)?;
        }
        let content_hash = ContentHash(record.content_hash);
        let row = documents::receive(
            conn,
            stamp,
            old.map(|(_, row)| row.0),
            &Received {
                collection_id: id,
                uid: record.uid,
                uri: record.uri,
                content_hash,
                content_type: record.content_type,
                text: record.text,
                metadata: &metadata,
                created_at: time(record.created_at)?,
                updated_at: time(record.updated_at)?,
                expires_at: record.expires_at.map(time).transpose()?,
            },
        )?;
        shared::document_changed(txn, stamp, target, row, record.uid, Op::Put)?;
        self.done.applied += 1;
        let hasher = ContentHasher::new(record.text, record.content_type, &metadata, record.chunks)?;
        if let Some(pending) = &mut self.pending {
            pending.stored = Some(Stored {
                row,
                stamp: record.stamp,
                text: record.text.map(str::to_owned),
                metadata,
                content_hash,
                hasher,
                next_index: 0,
                waiting: Vec::new(),
                bytes: 0,
                ended: None,
            });
        }
        Ok(())
    }

    /// A living document goes whose uri was another's later, and it loses what that had.
    fn evict(&mut self, place: usize, holder: Option<&DocumentName>, by: Hlc) -> Result<()> {
        let Some(DocumentName { known, row: Some((_, uid, ..)) }) = holder else { return Ok(()) };
        let name = self.entries[place].name.clone();
        self.conflict(Some(&name), "document", uid, known.stamp, by)?;
        self.displace(place, holder, by)
    }

    /// A living document whose uri is another's now goes, and its id leads to the other.
    fn displace(&self, place: usize, holder: Option<&DocumentName>, by: Hlc) -> Result<()> {
        let Some(holder @ DocumentName { known, row: Some((_, uid, uri, _)) }) = holder else { return Ok(()) };
        self.remove(place, holder, by)?;
        let Some(target) = &self.entries[place].target else { return Ok(()) };
        let conn = self.txn.conn;
        changes::bury(conn, self.txn.stamp_of(known.stamp), target.id(), Entity::Document, uid)?;
        uri.as_deref().map_or(Ok(()), |uri| tombstones::set_alias(conn, target.id(), uid, uri))
    }

    /// Removes a living document; that its uri was its own until then is remembered.
    fn remove(&self, place: usize, name: &DocumentName, by: Hlc) -> Result<()> {
        let Some((row, uid, uri, _)) = &name.row else { return Ok(()) };
        let Some(target) = &self.entries[place].target else { return Ok(()) };
        shared::remove_document(self.txn, self.txn.stamp_of(by), target, *row, uid)?;
        match uri {
            Some(uri) => tombstones::end_uri(self.txn.conn, name.known.stamp, target.id(), uri),
            None => Ok(()),
        }
    }

    pub(super) fn document_tombstone(&mut self, place: u64, uid: &str, stamp: Hlc, alias: Option<&str>) -> Result<()> {
        check_id("document id", uid)?;
        alias.map_or(Ok(()), |uri| check_name("uri", uri))?;
        let news = self.is_news(stamp)?;
        let conn = self.txn.conn;
        let entry = self.entry(place)?;
        let (name, floor) = (entry.name.clone(), entry.floor);
        self.done.received += 1;
        if !news || floor.is_some_and(|floor| stamp <= floor) {
            return Ok(());
        }
        let id = self.number(place as usize)?;
        let own = tombstones::document(conn, id, uid)?;
        match merge::tombstone(stamp, floor, own.as_ref().map(|own| own.known)) {
            Action::Bury { .. } => {
                if let Some(own) = own.as_ref().filter(|own| own.row.is_some()) {
                    self.conflict(Some(&name), "document", uid, own.known.stamp, stamp)?;
                    self.remove(place as usize, own, stamp)?;
                }
                changes::bury(conn, self.txn.stamp_of(stamp), id, Entity::Document, uid)?;
                self.done.applied += 1;
                match alias {
                    Some(uri) => tombstones::set_alias(conn, id, uid, uri),
                    None => tombstones::forget_alias(conn, id, uid),
                }
            }
            Action::Older => match own.filter(|own| own.row.is_some()) {
                Some(own) => self.conflict(Some(&name), "document", uid, own.known.stamp, stamp),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    pub(super) fn uri_tombstone(&mut self, place: u64, uri: &str, stamp: Hlc) -> Result<()> {
        check_name("uri", uri)?;
        let news = self.is_news(stamp)?;
        let entry = self.entry(place)?;
        let floor = entry.floor;
        if !news || floor.is_some_and(|floor| stamp <= floor) {
            return Ok(());
        }
        let id = self.number(place as usize)?;
        let holder = tombstones::uri(self.txn.conn, id, uri)?;
        if let Action::Bury { .. } = merge::tombstone(stamp, floor, holder.as_ref().map(|holder| holder.known)) {
            self.evict(place as usize, holder.as_ref(), stamp)?;
            tombstones::end_uri(self.txn.conn, stamp, id, uri)?;
        }
        Ok(())
    }

    pub(super) fn chunk(&mut self, record: ChunkRecord<'_>) -> Result<()> {
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.left > 0) else {
            return Err(damaged("a chunk of no document"));
        };
        pending.left -= 1;
        let spaces = &self.entries[pending.place].spaces;
        for twins in &mut pending.twins {
            let (vectors, _) = vectors_of(&record, spaces, twins.other_stamp)?;
            let vectors = vectors.iter().map(|(space, bytes)| (spaces[*space].name.as_str(), *bytes)).collect();
            twins.chunk(record.expires_at, record.token_count, vectors);
        }
        let Some(stored) = &mut pending.stored else { return Ok(()) };
        check_id("chunk id", record.uid)?;
        // Ascending, and within what the file's numbers hold.
        if record.index < stored.next_index || record.index > i64::MAX as u64 / 2 {
            return Err(damaged("chunks that are not in order"));
        }
        stored.next_index = record.index + 1;
        if record.token_count.is_some_and(|count| count > i64::MAX as u64) {
            return Err(damaged("a number of tokens that is too large"));
        }
        let text = match record.text {
            ChunkText::Own(text) => Some(text),
            ChunkText::Span | ChunkText::None => None,
        };
        check_text(text)?;
        if record.text == ChunkText::Span && (record.chars.is_none() || stored.text.is_none()) {
            return Err(damaged("a chunk with a part of no text"));
        }
        if record.chars.is_some_and(|(_, end)| end > i64::MAX as u64) {
            return Err(damaged("a span that is too large"));
        }
        let (vectors, ended) = vectors_of(&record, spaces, stored.stamp)?;
        stored.ended = stored.ended.max(ended);
        stored.bytes += text.map_or(0, str::len) + vectors.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + 256;
        stored.waiting.push(Waiting {
            chunk: NewChunk {
                id: Some(record.uid.to_owned()),
                text: text.map(str::to_owned),
                metadata: metadata(record.metadata)?,
                chars: record.chars,
                token_count: record.token_count,
                expires_at: record.expires_at.map(time).transpose()?,
            },
            index: record.index,
            bare: record.text == ChunkText::None,
            vectors: vectors.into_iter().map(|(space, bytes)| (space, floats(bytes))).collect(),
        });
        if stored.bytes >= limits::SYNC_FRAME_FULL { self.store_chunks() } else { Ok(()) }
    }

    /// Stores the chunks that wait.
    fn store_chunks(&mut self) -> Result<()> {
        let Some(Pending { stored: Some(stored), place, .. }) = &mut self.pending else { return Ok(()) };
        let (waiting, place) = (std::mem::take(&mut stored.waiting), *place);
        stored.bytes = 0;
        for space in waiting.iter().flat_map(|waiting| &waiting.vectors).map(|(space, _)| *space) {
            let entry = &self.entries[place];
            let (Some(target), Some(wanted)) = (&entry.target, entry.spaces.get(space)) else { continue };
            if !target.spaces.iter().any(|here| here.name == wanted.name) {
                self.make_space(place, space)?;
            }
        }
        let Some(Pending { stored: Some(stored), .. }) = &mut self.pending else { return Ok(()) };
        let entry = &self.entries[place];
        let Some(target) = &entry.target else { return Ok(()) };
        let (conn, id, stamp) = (self.txn.conn, target.id(), self.txn.stamp_of(stored.stamp));
        let tables: Vec<_> = entry
            .spaces
            .iter()
            .map(|space| target.spaces.iter().find(|here| here.name == space.name).and_then(|here| here.table()))
            .collect();
        let (chunks, rest): (Vec<NewChunk>, Vec<_>) =
            waiting.into_iter().map(|Waiting { chunk, index, bare, vectors }| (chunk, (index, bare, vectors))).unzip();
        for (mut chunk, (index, bare, vectors)) in
            prepare_chunks(&chunks, stored.text.as_deref())?.into_iter().zip(rest)
        {
            if bare {
                (chunk.text, chunk.text_hash) = (None, None);
            }
            let wanted = chunk.id.unwrap_or_default();
            let taken = chunks::by_uid(conn, id, wanted)?;
            let name = match &taken {
                None => wanted.to_owned(),
                Some(other) if other.document_id == stored.row => {
                    return Err(damaged(format_args!("chunk {wanted:?} twice")));
                }
                Some(_) => chunks::stand_in(wanted, &documents::by_row(conn, stored.row)?.uid),
            };
            if taken.is_some() && chunks::by_uid(conn, id, &name)?.is_some() {
                return Err(damaged(format_args!("chunk {wanted:?}, which two documents have, and chunk {name:?}")));
            }
            stored.hasher.chunk(&HashedChunk {
                text: chunk.text,
                chars: chunk.span.map(|span| span.chars),
                metadata: &chunk.metadata,
            })?;
            let place = Place { document_id: stored.row, collection_id: id, uid: &name, index };
            let row = chunks::insert(conn, stamp, place, &chunk)?;
            fts::insert(conn, target.fts(), row, chunk.text)?;
            field_values::insert(conn, &target.fields, row, chunk.metadata.as_json(), stored.metadata.as_json())?;
            if taken.is_some() {
                chunks::claim(conn, row, id, wanted)?;
                self.names.push((id, wanted.to_owned()));
            }
            for (space, vector) in vectors {
                let Some(table) = tables.get(space).copied().flatten() else {
                    return Err(damaged("a vector of a space without a dimension"));
                };
                check_vector(&vector, table.metric)?;
                vectors::insert(conn, table, row, &vector)?;
            }
        }
        Ok(())
    }

    /// All chunks of the document came.
    pub(super) fn complete(&mut self) -> Result<()> {
        match &self.pending {
            None => return Ok(()),
            Some(pending) if pending.left > 0 => {
                return Err(damaged(format_args!("document {:?} without {} of its chunks", pending.uid, pending.left)));
            }
            Some(_) => {}
        }
        self.store_chunks()?;
        let Some(Pending { stored, uid, place, twins, .. }) = self.pending.take() else { return Ok(()) };
        let name = self.entries[place].name.clone();
        for twins in twins.iter().filter(|twins| twins.differ()) {
            self.conflict(Some(&name), "document", &twins.uid, twins.own_stamp, twins.other_stamp)?;
        }
        let Some(stored) = stored else { return Ok(()) };
        if let Some(ended) = stored.ended {
            self.conflict(Some(&name), "document", &uid, ended, stored.stamp)?;
        }
        if stored.hasher.finish() == stored.content_hash {
            return Ok(());
        }
        Err(damaged(format_args!("document {uid:?}, whose hash is that of another content")))
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Vectors by the place of their space, and the latest end of a space that took some away.
type Vectors<'a> = (Vec<(usize, &'a [u8])>, Option<Hlc>);

/// The vectors of a chunk.
fn vectors_of<'a>(record: &ChunkRecord<'a>, spaces: &[Space], stamp: Hlc) -> Result<Vectors<'a>> {
    let mut found: Vec<(usize, &[u8])> = Vec::with_capacity(record.vectors.len());
    let mut ended = None;
    for (space, bytes) in &record.vectors {
        let place = usize::try_from(*space).unwrap_or(usize::MAX);
        let Some(space) = spaces.get(place) else { return Err(damaged("a vector of a space that it does not name")) };
        if space.dimension.is_none_or(|dimension| bytes.len() != 4 * dimension) {
            return Err(damaged("a vector of another dimension than its space"));
        }
        if found.iter().any(|(other, _)| *other == place) {
            return Err(damaged("two vectors of one chunk in one space"));
        }
        // Of before the space was deleted.
        if space.floor.is_some_and(|floor| stamp <= floor) {
            ended = ended.max(space.floor);
            continue;
        }
        found.push((place, bytes));
    }
    Ok((found, ended))
}

fn check_text(text: Option<&str>) -> Result<()> {
    match text {
        Some(text) if text.len() > limits::TEXT_BYTES => Err(damaged("a text that is too long")),
        _ => Ok(()),
    }
}

/// Metadata within its limits.
pub(super) fn metadata(json: &str) -> Result<Metadata> {
    if json == "{}" {
        return Ok(Metadata::empty());
    }
    if json.len() > limits::METADATA_BYTES {
        return Err(damaged("metadata that is too large"));
    }
    let map = serde_json::from_str(json).map_err(|_| damaged("metadata that is no JSON object"))?;
    Metadata::from_map(&map).map_err(|error| Error::new(ErrorKind::Sync, error.message()))
}
