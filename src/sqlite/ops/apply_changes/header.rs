use super::{Apply, damaged, skewed};
use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::sqlite::ops::export_changes::{recognise, twin};
use crate::sqlite::tables::replicas;
use crate::sync::record::Header;
use crate::sync::stale;

impl Apply<'_, '_> {
    /// Whether the batch may be merged at all.
    pub(super) fn header(&mut self, header: Header) -> Result<()> {
        let conn = self.txn.conn;
        self.done.source = header.source;
        let late = header.upto.iter().chain(header.forgotten.iter()).find(|stamp| stamp.millis > self.ahead);
        if let Some(stamp) = late.filter(|_| header.source != self.own) {
            return Err(skewed(stamp, self.ahead));
        }
        recognise(conn, &header.upto, header.source == self.own)?;
        if header.source == self.own {
            // It told of that moment itself.
            self.echo = true;
            self.header = Some(header);
            return Ok(());
        }
        let source = header.upto.get(header.source).ok_or_else(|| damaged("a source that does not know itself"))?;
        self.check_source(&header, source)?;
        if !self.known.includes(&header.since) {
            return Err(Error::new(
                ErrorKind::Sync,
                "the batch begins after changes that this store does not have; nothing was applied: apply those before it \
                 first, or export since this store's watermark()",
            ));
        }
        if stale(&self.known, &header.upto, &header.forgotten, &|replica| header.old.contains(&replica)) {
            return Err(Error::new(
                ErrorKind::Sync,
                "this store has not synced for longer than the source remembers deletions, so it may hold what was deleted; \
                 nothing was applied: take a fresh copy of the source with backup(), and use that in its place",
            ));
        }
        let forgotten = replicas::forgotten(conn)?;
        let met = replicas::met_before(conn, forgotten.iter().max())?;
        if stale(&header.upto, &self.known, &forgotten, &|replica| met.contains(&replica)) {
            return Err(Error::new(
                ErrorKind::Sync,
                "the source has not synced for longer than this store remembers deletions, so it may hold what was deleted; \
                 nothing was applied: it must take a fresh copy of this store, made with backup()",
            ));
        }
        let here = replicas::parts(conn, header.source)?.filter(|(export, _)| *export == header.export);
        if header.part > here.map_or(0, |(_, parts)| parts) {
            return Err(Error::new(
                ErrorKind::Sync,
                format!(
                    "it is batch {} of an export of which batch {} is not here; nothing was applied: apply them in order",
                    header.part + 1,
                    here.map_or(0, |(_, parts)| parts) + 1
                ),
            ));
        }
        if let Some(known) = header.upto.get(self.own) {
            replicas::acknowledge(conn, known)?;
        }
        self.header = Some(header);
        Ok(())
    }

    /// The source must know of every moment that it told others; an older export of it says less, and is no sign.
    fn check_source(&self, header: &Header, source: Hlc) -> Result<()> {
        if header.marks.iter().any(|mark| !header.upto.covers(*mark)) {
            return Err(damaged("a mark after its end"));
        }
        // Of one that it met, and has nothing of for sure, a salvaged store was told nothing.
        let told = |known: &Hlc| *known < source && known.millis > 0;
        let Some(known) = self.known.get(header.source).filter(told) else { return Ok(()) };
        let remembers = header.marks.contains(&known)
            || (header.marks.len() >= limits::SYNC_MARKS_SENT
                && header.marks.first().is_some_and(|first| known < *first));
        if remembers { Ok(()) } else { Err(twin()) }
    }

    /// Takes note of what is known now.
    pub(super) fn seen(&self, header: &Header, last: bool) -> Result<()> {
        let conn = self.txn.conn;
        let before = replicas::parts(conn, header.source)?.filter(|(export, _)| *export == header.export);
        let before = before.map_or(0, |(_, parts)| parts);
        // One that came before adds nothing.
        if header.part < before {
            return Ok(());
        }
        if !last {
            return replicas::set_parts(conn, header.source, header.export, Some(header.part + 1));
        }
        if header.part > 0 {
            replicas::set_parts(conn, header.source, header.export, None)?;
        }
        replicas::raise(conn, &header.upto, &header.old)?;
        // What the source forgot does not come to one that had nothing of it.
        match self.known.common(&header.upto).iter().all(|stamp| stamp.replica == self.own) {
            true => replicas::forget(conn, &header.forgotten),
            false => Ok(()),
        }
    }
}
