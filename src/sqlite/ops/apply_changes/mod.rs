//! Merges a batch, frame by frame, in one transaction: what is wrong with any part of it undoes all of it.

mod beside;
mod collections;
mod documents;
mod ends;
mod header;
mod others;

use std::collections::HashSet;

use self::collections::Entry;
use self::documents::Pending;
use super::note_export::note_file;
use super::shared;
use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Applied, Conflict, Timestamp};
use crate::request::ApplyChanges;
use crate::sqlite::tables::{relations, replicas, sync_peers};
use crate::sqlite::txn::{Progress, Txn};
use crate::sync::Watermark;
use crate::sync::encoding::Decoder;
use crate::sync::merge;
use crate::sync::record::{Header, Record};

pub fn run(txn: &mut Txn<'_>, request: &ApplyChanges, progress: &Progress) -> Result<Applied> {
    let known = replicas::watermark(txn.conn)?;
    let ahead = txn.now.millis().saturating_add(limits::CLOCK_SKEW_MILLIS);
    let mut reader = request.open()?;
    let mut apply = Apply {
        txn,
        progress,
        ahead,
        latest: Hlc::zero([0; 16]),
        own: replicas::own(txn.conn)?,
        known,
        header: None,
        echo: false,
        entries: Vec::new(),
        pending: None,
        names: Vec::new(),
        revived: Vec::new(),
        richer: Vec::new(),
        listed: None,
        records: 0,
        done: Applied::default(),
    };
    let result = (|| {
        while let Some(frame) = reader.frame()? {
            apply.txn.check(progress)?;
            let mut decoder = Decoder::new(&frame);
            while let Some(record) = decoder.record()? {
                apply.record(record)?;
            }
        }
        let (count, last) = reader.end().ok_or_else(|| damaged("it has no end"))?;
        apply.finish(count, last)
    })();
    result.map_err(refused)?;
    note_file(txn.conn)?;
    let (latest, done) = (apply.latest, apply.done);
    let (revived, richer) = (std::mem::take(&mut apply.revived), std::mem::take(&mut apply.richer));
    if latest > txn.clock() {
        txn.raise_clock(latest);
    }
    for (collection, space) in revived {
        collections::revive(txn, &collection, space.as_deref())?;
    }
    for (collection, space) in richer {
        collections::restamp(txn, &collection, &space)?;
    }
    Ok(done)
}

/// What an honest store does not send.
fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Sync, format!("the batch holds what no store has: {what}; nothing was applied"))
}

/// What is wrong with an argument elsewhere is wrong with the batch here.
fn refused(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Argument
        | ErrorKind::Limit
        | ErrorKind::InvalidVector
        | ErrorKind::DimensionMismatch
        | ErrorKind::CollectionExists
        | ErrorKind::Conflict => damaged(error.message()),
        _ => error,
    }
}

/// A conflict by what it is: collection, entity, id, winner and loser.
type Lost = (Option<String>, String, String, Hlc, Hlc);

struct Apply<'a, 'c> {
    txn: &'a Txn<'c>,
    progress: &'a Progress,
    /// Milliseconds that no change may pass.
    ahead: u64,
    /// The latest moment that came.
    latest: Hlc,
    own: [u8; 16],
    known: Watermark,
    header: Option<Header>,
    /// It is this store's own export.
    echo: bool,
    entries: Vec<Entry>,
    /// The document whose chunks are coming.
    pending: Option<Pending>,
    /// Ids of chunks that more than one document has, by collection.
    names: Vec<(i64, String)>,
    /// Collections, and spaces of them, that are there again although they were deleted, for what is in them is later.
    revived: Vec<(String, Option<String>)>,
    /// Spaces that have a dimension or a model which a later change of them does not know of.
    richer: Vec<(String, String)>,
    /// The conflicts that are listed: what comes again, with another batch of the same export or of a later one, finds no
    /// others.
    listed: Option<HashSet<Lost>>,
    records: u64,
    done: Applied,
}

impl Apply<'_, '_> {
    fn record(&mut self, record: Record<'_>) -> Result<()> {
        /// Records between two looks at the caller's wish and the lock.
        const STRIDE: u64 = 64;
        if self.records.is_multiple_of(STRIDE) {
            self.txn.check(self.progress)?;
        }
        self.records += 1;
        match (&record, self.header.is_some()) {
            (Record::Header(_), true) => return Err(damaged("two headers")),
            (Record::Header(_), false) | (_, true) => {}
            _ => return Err(damaged("no header")),
        }
        if self.echo {
            return Ok(());
        }
        if let Record::Chunk(chunk) = record {
            return self.chunk(chunk);
        }
        self.complete()?;
        match record {
            Record::Header(header) => self.header(header),
            Record::Collection(record) => self.collection(&record),
            Record::PastCollection { name } => self.past_collection(name),
            Record::CollectionFloor { name, stamp } => self.collection_floor(name, stamp),
            Record::SpaceFloor { collection, name, stamp } => self.space_floor(collection, name, stamp),
            Record::Document(record) => self.document(&record),
            // Above.
            Record::Chunk(_) => Ok(()),
            Record::DocumentTombstone { collection, uid, stamp, alias } => {
                self.document_tombstone(collection, uid, stamp, alias)
            }
            Record::UriTombstone { collection, uri, stamp } => self.uri_tombstone(collection, uri, stamp),
            Record::Relation(record) => self.relation(&record),
            Record::RelationTombstone { collection, uid, stamp } => self.relation_tombstone(collection, uid, stamp),
            Record::State(record) => self.state(&record),
            Record::StateTombstone { uid, stamp } => self.state_tombstone(uid, stamp),
        }
    }

    /// Looks at the moment of a change: false where it is known already.
    fn is_news(&mut self, stamp: Hlc) -> Result<bool> {
        self.moment(stamp)?;
        Ok(!self.known.covers(stamp))
    }

    /// Refuses a moment that no right clock can have given.
    fn moment(&mut self, stamp: Hlc) -> Result<()> {
        if stamp.millis > self.ahead {
            return Err(skewed(stamp, self.ahead));
        }
        // What this replica wrote it knows.
        if stamp.replica == self.own && !self.known.covers(stamp) {
            return Err(super::export_changes::twin());
        }
        self.latest = self.latest.max(stamp);
        Ok(())
    }

    /// Whether neither side knew of the other's change.
    fn concurrent(&self, own: Hlc, other: Hlc) -> bool {
        let known_to_source = self.header.as_ref().is_some_and(|header| header.upto.covers(own));
        merge::concurrent(own, known_to_source, other, self.known.covers(other))
    }

    /// Notes what lost, if neither side knew of the other, and once.
    fn conflict(&mut self, collection: Option<&str>, entity: &str, id: &str, own: Hlc, other: Hlc) -> Result<()> {
        if !self.concurrent(own, other) {
            return Ok(());
        }
        let conn = self.txn.conn;
        let listed = match &mut self.listed {
            Some(listed) => listed,
            none => none.insert(
                sync_peers::conflicts(conn, limits::SYNC_HISTORY)?
                    .into_iter()
                    .map(|lost| (lost.collection, lost.entity, lost.id, lost.winner, lost.loser))
                    .collect(),
            ),
        };
        let (collection, winner, loser) = (collection.map(str::to_owned), own.max(other), own.min(other));
        if !listed.insert((collection.clone(), entity.to_owned(), id.to_owned(), winner, loser)) {
            return Ok(());
        }
        self.done.conflicts += 1;
        sync_peers::add_conflict(
            conn,
            &Conflict {
                found_at: self.txn.now,
                collection,
                entity: entity.to_owned(),
                id: id.to_owned(),
                kept_own: own > other,
                winner,
                loser,
            },
        )
    }

    fn finish(&mut self, count: u64, last: bool) -> Result<()> {
        self.complete()?;
        if count != self.records {
            return Err(damaged(format_args!("{count} records by its end, and {} before it", self.records)));
        }
        let Some(header) = self.header.take() else { return Err(damaged("no header")) };
        if self.echo {
            return Ok(());
        }
        let conn = self.txn.conn;
        let mut gone = self.txn.take_deleted();
        if relations::any(conn)? {
            for (collection_id, uid) in &gone {
                relations::suspend(conn, self.txn.stamp_of(self.latest), *collection_id, uid)?;
            }
        }
        gone.append(&mut self.names);
        shared::settle(self.txn, &gone)?;
        sync_peers::trim_conflicts(conn)?;
        self.seen(&header, last)
    }
}

fn skewed(stamp: Hlc, ahead: u64) -> Error {
    Error::new(
        ErrorKind::ClockSkew,
        format!(
            "a change is {} seconds ahead of this machine's clock, at most {} are allowed; nothing was applied: set the \
             clocks right, and call reclock() on the store whose clock ran ahead",
            (stamp.millis - ahead + limits::CLOCK_SKEW_MILLIS) / 1000,
            limits::CLOCK_SKEW_MILLIS / 1000
        ),
    )
}

/// A time that callers can be given.
fn time(micros: i64) -> Result<Timestamp> {
    let time = Timestamp(micros);
    if time.is_datetime() { Ok(time) } else { Err(damaged(format_args!("{micros} microseconds are no time"))) }
}
