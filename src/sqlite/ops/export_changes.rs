//! Writes what is newer than a watermark, of one snapshot.

use std::collections::HashMap;
use std::io::{self, Write};

use rusqlite::{Connection, params};

use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Exported, Timestamp};
use crate::request::{ExportChanges, NoteExport};
use crate::sqlite::file_system;
use crate::sqlite::sql;
use crate::sqlite::tables::replicas::InFile;
use crate::sqlite::tables::spaces::SpaceRow;
use crate::sqlite::tables::vectors::Reader;
use crate::sqlite::tables::{chunks, documents, meta, replicas, spaces, tombstones};
use crate::store::Batches;
use crate::sync::batch::BatchWriter;
use crate::sync::record::{
    ChunkRecord, ChunkText, CollectionRecord, DocumentRecord, Header, Record, RelationRecord, SpaceRecord, StateRecord,
};
use crate::sync::{Watermark, ahead_of_clock, stale};

/// `go_on` is asked between two documents.
pub fn run(
    conn: &Connection,
    request: &ExportChanges,
    batches: &mut dyn Batches,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Exported> {
    let header = header(conn, request)?;
    let first = request.since.first_unknown(&replicas::watermark(conn)?);
    let catalog = Catalog::read(conn)?;
    let ahead = Timestamp::now().millis().saturating_add(limits::CLOCK_SKEW_MILLIS);
    let sink = Sink { batches, failure: None };
    let mut out =
        Out { request, header, catalog: &catalog, ahead, writer: None, sent: 0, records: 0, parts: 0, named: false };
    out.begin(sink)?;
    if let Some(first) = first {
        out.catalog()?;
        tombstones_of(conn, &mut out)?;
        documents_of(conn, &mut out, first, go_on)?;
        relations_of(conn, &mut out)?;
        state_of(conn, &mut out)?;
    }
    out.end(true)?;
    Ok(Exported { sent: out.sent, records: out.records, parts: out.parts })
}

fn header(conn: &Connection, request: &ExportChanges) -> Result<Header> {
    let (source, forgotten) = (replicas::own(conn)?, replicas::forgotten(conn)?);
    let marks = replicas::marks(conn, limits::SYNC_MARKS_SENT)?;
    // What was committed since it was noted goes along, and is not promised.
    let own = marks.last().copied().unwrap_or(Hlc::zero(source));
    let known = replicas::watermark(conn)?;
    let others = known.iter().filter(|stamp| stamp.replica != source);
    let upto: Watermark = others.chain([own]).collect();
    let old = replicas::met_before(conn, forgotten.iter().max())?;
    if stale(&request.since, &known, &forgotten, &|replica| old.contains(&replica)) {
        return Err(Error::new(
            ErrorKind::Sync,
            "the receiver has not synced for longer than deletions are remembered, so what was deleted could come back \
             by it; it must take a fresh copy: back up this store to a file, and use that in its place",
        ));
    }
    // Nothing is known of replicas that this one never heard of.
    let since = request.since.common(&upto);
    Ok(Header { source, since, upto, forgotten, old, marks, export: meta::random()?, part: 0 })
}

/// What is to be noted before an export. Refuses a receiver that knows of this replica what it was never told.
pub fn note(conn: &Connection, request: &ExportChanges) -> Result<NoteExport> {
    recognise(conn, &request.since, false)?;
    let known = request.since.get(replicas::own(conn)?);
    Ok(NoteExport { acknowledged: known.filter(|_| request.acknowledged) })
}

/// Refuses to go on in a copy of the file, and one that knows of this replica what it was never told. `itself`: it says
/// that it is this store.
pub fn recognise(conn: &Connection, known: &Watermark, itself: bool) -> Result<()> {
    if replicas::file(conn, file_system::number_of(conn))? == InFile::Another {
        return Err(Error::new(
            ErrorKind::Sync,
            "this file is a copy of the one that its replica is in, or was moved to another file system, and two files \
             that are one replica would hide each other's changes; nothing was applied: call renew_replica() on it once, \
             then sync again",
        ));
    }
    match known.get(replicas::own(conn)?) {
        Some(known) if !replicas::is_mark(conn, known, itself)? => Err(twin()),
        _ => Ok(()),
    }
}

/// Two stores that are one replica.
pub fn twin() -> Error {
    Error::new(
        ErrorKind::Sync,
        "two stores are the same replica: a file was copied by hand, or an older state of it restored, and both went on, or \
         reclock() gave up what another store had; nothing was applied: call renew_replica() on the copy, or on the store \
         that was restored or had reclock(), then sync again",
    )
}

struct Catalog {
    collections: Vec<CollectionRow>,
    /// Those that are gone, after them.
    past: Vec<String>,
    places: HashMap<i64, u64>,
}

struct CollectionRow {
    id: i64,
    name: String,
    stamp: Hlc,
    floor: Option<Hlc>,
    description: Option<String>,
    settings: String,
    tokenizer: String,
    created_at: i64,
    spaces: Vec<(SpaceRow, Hlc, i64, Option<Hlc>)>,
}

impl Catalog {
    fn read(conn: &Connection) -> Result<Self> {
        let text = "SELECT id, name, hlc, description, settings, tokenizer, created_at FROM collections ORDER BY name";
        let mut collections = sql::query_all(conn, text, [], |row| {
            Ok(CollectionRow {
                id: sql::part_of_name(row, 0)?,
                name: row.get(1)?,
                stamp: sql::hlc(row, 2)?,
                floor: None,
                description: row.get(3)?,
                settings: row.get(4)?,
                tokenizer: row.get(5)?,
                created_at: row.get(6)?,
                spaces: Vec::new(),
            })
        })?;
        for row in &mut collections {
            row.floor = tombstones::collection(conn, &row.name)?;
            for space in spaces::list(conn, row.id)? {
                let stamp = spaces::stamp(conn, space.id)?;
                let text = "SELECT created_at FROM spaces WHERE id = ?1";
                let made = sql::query_one(conn, text, [space.id], |row| row.get(0))?;
                let floor = tombstones::space(conn, row.id, &space.name)?;
                row.spaces.push((space, stamp, made, floor));
            }
        }
        let past = tombstones::all_past(conn)?;
        let ids = collections.iter().map(|row| row.id).chain(past.iter().map(|(_, id)| *id));
        let places = ids.zip(0..).collect();
        let past = past.into_iter().map(|(name, _)| name).collect();
        Ok(Self { collections, past, places })
    }
}

impl CollectionRow {
    fn record(&self) -> Record<'_> {
        Record::Collection(CollectionRecord {
            name: &self.name,
            stamp: self.stamp,
            floor: self.floor,
            description: self.description.as_deref(),
            settings: &self.settings,
            tokenizer: &self.tokenizer,
            created_at: self.created_at,
            spaces: self
                .spaces
                .iter()
                .map(|(space, stamp, created_at, floor)| SpaceRecord {
                    name: &space.name,
                    stamp: *stamp,
                    floor: *floor,
                    dimension: space.dimension.map(|dimension| dimension as u64),
                    metric: space.metric.as_str(),
                    model: space.model.as_deref(),
                    created_at: *created_at,
                })
                .collect(),
        })
    }

    fn stamps(&self) -> impl Iterator<Item = Hlc> + '_ {
        let spaces = self.spaces.iter().flat_map(|(_, stamp, _, floor)| [Some(*stamp), *floor]);
        [Some(self.stamp), self.floor].into_iter().chain(spaces).flatten()
    }
}

/// The batches, as a writer. What they fail with is not lost in an error of the operating system.
struct Sink<'a> {
    batches: &'a mut dyn Batches,
    failure: Option<Error>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.batches.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let message = error.message().to_owned();
                self.failure = Some(error);
                Err(io::Error::other(message))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Out<'a> {
    request: &'a ExportChanges,
    header: Header,
    catalog: &'a Catalog,
    /// Milliseconds that no change may pass.
    ahead: u64,
    writer: Option<BatchWriter<Sink<'a>>>,
    sent: u64,
    records: u64,
    parts: u64,
    /// The collections are in this batch.
    named: bool,
}

impl<'a> Out<'a> {
    fn begin(&mut self, sink: Sink<'a>) -> Result<()> {
        sink.batches.begin()?;
        let mut writer = BatchWriter::new(sink, self.request.key.as_deref(), self.request.salt)?;
        let header = Record::Header(Header { part: self.parts, ..self.header.clone() });
        let written = writer.record(&header);
        self.writer = Some(writer);
        self.named = false;
        self.parts += 1;
        self.explain(written)
    }

    /// What the caller's side failed with, in the place of what the writer said of it.
    fn explain<T>(&mut self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let failure = self.writer.as_mut().and_then(|writer| writer.output().failure.take());
            failure.unwrap_or(error)
        })
    }

    fn end(&mut self, last: bool) -> Result<Option<Sink<'a>>> {
        let Some(writer) = self.writer.take() else { return Ok(None) };
        let (sink, result) = writer.finish(last);
        result.map_err(|error| sink.failure.clone().unwrap_or(error))?;
        sink.batches.end(last)?;
        Ok(Some(sink))
    }

    /// Whether the receiver lacks a change.
    fn lacks(&self, stamp: Hlc) -> Result<bool> {
        if self.request.since.covers(stamp) {
            return Ok(false);
        }
        if stamp.millis <= self.ahead {
            return Ok(true);
        }
        Err(ahead_of_clock("this store", stamp, self.ahead - limits::CLOCK_SKEW_MILLIS))
    }

    /// Where one batch is full the next begins, never between a document and its chunks.
    fn entity(&mut self, record: &Record<'_>) -> Result<()> {
        let full = |writer: &BatchWriter<Sink<'_>>| self.request.part_bytes.is_some_and(|most| writer.bytes() >= most);
        if self.writer.as_ref().is_some_and(full)
            && let Some(sink) = self.end(false)?
        {
            self.begin(sink)?;
        }
        self.name_collections()?;
        // The end of a uri comes with a change of the document that had it.
        self.sent += u64::from(!matches!(record, Record::UriTombstone { .. }));
        self.records += 1;
        self.put(record)
    }

    fn put(&mut self, record: &Record<'_>) -> Result<()> {
        let written = match &mut self.writer {
            Some(writer) => writer.record(record),
            None => Err(Error::internal("an export went on after its end")),
        };
        self.explain(written)
    }

    fn name_collections(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.named, true) {
            for collection in &self.catalog.collections {
                self.put(&collection.record())?;
            }
            for name in &self.catalog.past {
                self.put(&Record::PastCollection { name })?;
            }
        }
        Ok(())
    }

    /// Where a collection itself changed, they are named although nothing in them did.
    fn catalog(&mut self) -> Result<()> {
        let mut changed = 0;
        for collection in &self.catalog.collections {
            let mut lacks = false;
            for stamp in collection.stamps() {
                lacks |= self.lacks(stamp)?;
            }
            changed += u64::from(lacks);
        }
        if changed > 0 {
            self.sent += changed;
            self.records += changed;
            self.name_collections()?;
        }
        Ok(())
    }
}

fn tombstones_of(conn: &Connection, out: &mut Out<'_>) -> Result<()> {
    let text = "SELECT t.collection_id, t.entity, t.uid, t.hlc, a.uri FROM tombstones t LEFT JOIN aliases a
                ON a.collection_id = t.collection_id AND a.uid = t.uid AND t.entity = 'document'";
    let mut statement = sql::prepare(conn, text)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let stamp = sql::hlc(row, 3)?;
        if !out.lacks(stamp)? {
            continue;
        }
        let (id, entity, uid): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (place, alias) = (out.catalog.places.get(&id).copied(), row.get::<_, Option<String>>(4)?);
        match (entity.as_str(), place) {
            ("collection", _) => out.entity(&Record::CollectionFloor { name: &uid, stamp })?,
            ("state", _) => out.entity(&Record::StateTombstone { uid: &uid, stamp })?,
            ("document", Some(collection)) => {
                out.entity(&Record::DocumentTombstone { collection, uid: &uid, stamp, alias: alias.as_deref() })?;
            }
            ("relation", Some(collection)) => {
                out.entity(&Record::RelationTombstone { collection, uid: &uid, stamp })?
            }
            _ => {}
        }
    }
    drop(rows);
    for (table, name) in [("uri_tombstones", "uri"), ("space_tombstones", "name")] {
        let mut statement = sql::prepare(conn, &format!("SELECT collection_id, {name}, hlc FROM {table}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (stamp, name) = (sql::hlc(row, 2)?, row.get::<_, String>(1)?);
            let Some(&collection) = out.catalog.places.get(&row.get(0)?) else { continue };
            if !out.lacks(stamp)? {
                continue;
            }
            match table {
                "uri_tombstones" => out.entity(&Record::UriTombstone { collection, uri: &name, stamp })?,
                _ => out.entity(&Record::SpaceFloor { collection, name: &name, stamp })?,
            }
        }
    }
    Ok(())
}

fn documents_of(conn: &Connection, out: &mut Out<'_>, first: Hlc, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
    // The index alone; what is not sent is not read.
    let text = "SELECT id, hlc FROM documents INDEXED BY documents_hlc WHERE hlc >= ?1 ORDER BY hlc";
    let mut statement = sql::prepare(conn, text)?;
    // Of a replica of which less is known, nothing earlier is lacked; moments of others have other bytes behind them.
    let mut rows = statement.query(params![Hlc { replica: [0; 16], ..first }.to_bytes()])?;
    let claims = chunks::any_claims(conn)?;
    while let Some(row) = rows.next()? {
        let (id, stamp) = (row.get::<_, i64>(0)?, sql::hlc(row, 1)?);
        if out.lacks(stamp)? {
            go_on()?;
            document(conn, out, id, stamp, claims)?;
        }
    }
    Ok(())
}

fn document(conn: &Connection, out: &mut Out<'_>, id: i64, stamp: Hlc, claims: bool) -> Result<()> {
    let text = format!(
        "SELECT {}, d.collection_id, (SELECT count(*) FROM chunks c WHERE c.document_id = d.id)
         FROM documents d WHERE d.id = ?1",
        documents::COLUMNS
    );
    let read = |row: &rusqlite::Row<'_>| Ok((documents::read(row)?, row.get::<_, i64>(9)?, row.get::<_, u64>(10)?));
    let (document, collection_id, count) = sql::query_one(conn, &text, [id], read)?;
    let Some(&collection) = out.catalog.places.get(&collection_id) else {
        return Err(Error::new(ErrorKind::Corrupt, format!("document {:?} is of no collection", document.id)));
    };
    out.entity(&Record::Document(DocumentRecord {
        collection,
        uid: &document.id,
        uri: document.uri.as_deref(),
        stamp,
        content_type: &document.content_type,
        text: document.text.as_deref(),
        metadata: document.metadata.as_json(),
        content_hash: document.content_hash.0,
        created_at: document.created_at.0,
        updated_at: document.updated_at.0,
        expires_at: document.expires_at.map(|at| at.0),
        chunks: count,
    }))?;
    let row = out.catalog.collections.get(collection as usize);
    let tables: Vec<_> = (0..)
        .zip(row.map_or(&[][..], |row| row.spaces.as_slice()))
        .filter_map(|(place, (space, ..))| Some((place, space.table()?)))
        .collect();
    let mut readers: Vec<_> =
        tables.iter().map(|(place, table)| (*place, Reader::new(conn, *table), vec![0f32; table.dimension])).collect();
    let uid = if claims { "coalesce((SELECT uid FROM chunk_claims WHERE chunk_id = c.id), c.uid)" } else { "c.uid" };
    let text = format!(
        "SELECT {}, c.id, {uid} FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.document_id = ?1
         ORDER BY c.chunk_index",
        chunks::COLUMNS
    );
    let mut statement = sql::prepare(conn, &text)?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let chunk = chunks::read(row)?;
        let (rowid, uid) = (row.get::<_, i64>(14)?, row.get::<_, String>(15)?);
        let mut given = Vec::with_capacity(readers.len());
        for (place, reader, vector) in &mut readers {
            if reader.read(rowid, vector)? {
                given.push(*place);
            }
        }
        let vectors = readers
            .iter()
            .filter(|(place, ..)| given.contains(place))
            .map(|(place, _, vector)| (*place, bytemuck::cast_slice::<f32, u8>(vector)))
            .collect();
        let bytes = chunk.span.and_then(|span| span.bytes);
        let part = document
            .text
            .as_deref()
            .zip(bytes)
            .and_then(|(text, (start, end))| text.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?));
        let text = match chunk.text.as_deref() {
            None => ChunkText::None,
            Some(text) if part == Some(text) => ChunkText::Span,
            Some(text) => ChunkText::Own(text),
        };
        out.put(&Record::Chunk(ChunkRecord {
            uid: &uid,
            index: chunk.index,
            text,
            chars: chunk.span.map(|span| span.chars),
            token_count: chunk.token_count,
            metadata: chunk.metadata.as_json(),
            expires_at: chunk.expires_at.map(|at| at.0),
            vectors,
        }))?;
    }
    Ok(())
}

fn relations_of(conn: &Connection, out: &mut Out<'_>) -> Result<()> {
    for table in ["relations", "waiting_relations"] {
        let text =
            format!("SELECT collection_id, hlc, source, target, type, strength, metadata, created_at FROM {table}");
        let mut statement = sql::prepare(conn, &text)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let stamp = sql::hlc(row, 1)?;
            let Some(&collection) = out.catalog.places.get(&row.get(0)?) else { continue };
            if !out.lacks(stamp)? {
                continue;
            }
            let [source, target, kind, metadata]: [String; 4] = [row.get(2)?, row.get(3)?, row.get(4)?, row.get(6)?];
            out.entity(&Record::Relation(RelationRecord {
                collection,
                stamp,
                source: &source,
                target: &target,
                kind: &kind,
                strength: row.get(5)?,
                metadata: &metadata,
                created_at: row.get(7)?,
            }))?;
        }
    }
    Ok(())
}

fn state_of(conn: &Connection, out: &mut Out<'_>) -> Result<()> {
    let text = "SELECT hlc, namespace, key, value, expires_at, updated_at FROM state WHERE local = 0";
    let mut statement = sql::prepare(conn, text)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let stamp = sql::hlc(row, 0)?;
        if out.lacks(stamp)? {
            let [namespace, key, value]: [String; 3] = [row.get(1)?, row.get(2)?, row.get(3)?];
            out.entity(&Record::State(StateRecord {
                stamp,
                namespace: &namespace,
                key: &key,
                value: &value,
                expires_at: row.get(4)?,
                updated_at: row.get(5)?,
            }))?;
        }
    }
    Ok(())
}
