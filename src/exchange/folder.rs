//! A folder that any number of stores reach, by whatever copies its files: a disk of the network, a service, a stick.
//!
//! ```text
//! <replica>.mark                                    what a replica knows: a batch without a change
//! <replica>.<number>-<random>.<part>of<parts>.batch an export, since what the replicas that need it know
//! ```
//!
//! A replica writes and removes its own files alone. It applies every export that begins within what it knows, then looks
//! what the others can reach by the files that are there, and writes what they lack.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::files::{Files, Name, TEMPORARY, persist};
use super::{add, count, endpoint, log};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{Applied, SyncReport, Timestamp};
use crate::request::{ApplyChanges, BatchSource, ExportChanges};
use crate::store::{Store, Watch};
use crate::sync::record::Header;
use crate::sync::{BatchKey, ReplicaId, Watermark, batch, hex, stale};

/// Exports of one replica from which on they become one.
const EXPORTS: usize = 16;
/// What a process left that ended while it wrote is removed after so long.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Takes what others left in a folder, and leaves what they lack.
///
/// # Errors
/// `WrongKey` where the folder's files are encrypted with another. Of files that cannot be applied the first error, after
/// everything else is done.
pub fn sync_folder(
    store: &dyn Store,
    path: &Path,
    key: Option<Arc<BatchKey>>,
    watch: &mut dyn Watch,
) -> Result<SyncReport> {
    let started_at = Timestamp::now();
    let mut report = SyncReport { peer: endpoint(path), ..SyncReport::default() };
    let result = Folder::open(store, path, key).and_then(|folder| folder.sync(&mut report, watch));
    log(store, &report, started_at, (Some(endpoint(path)), None), result.as_ref().err());
    result.map(|()| report)
}

/// The batches of one export, by their part.
#[derive(Default)]
struct Export {
    parts: BTreeMap<u64, PathBuf>,
    of: u64,
    header: Option<Header>,
}

impl Export {
    fn complete(&self) -> bool {
        self.of > 0 && self.parts.keys().copied().eq(0..self.of)
    }
}

struct Folder<'a> {
    store: &'a dyn Store,
    path: &'a Path,
    key: Option<Arc<BatchKey>>,
    salt: Option<[u8; 16]>,
    own: ReplicaId,
    /// What each other replica says of itself.
    marks: BTreeMap<ReplicaId, Header>,
    own_mark: Option<Header>,
    exports: BTreeMap<(ReplicaId, String), Export>,
    failures: Vec<Error>,
}

impl<'a> Folder<'a> {
    fn open(store: &'a dyn Store, path: &'a Path, key: Option<Arc<BatchKey>>) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| Error::from(error).context(path.display()))?;
        let (own, _) = store.watermark()?;
        let mut folder = Self {
            store,
            path,
            key,
            salt: None,
            own,
            marks: BTreeMap::new(),
            own_mark: None,
            exports: BTreeMap::new(),
            failures: Vec::new(),
        };
        folder.read()?;
        Ok(folder)
    }

    /// What there is, by its names and headers.
    fn read(&mut self) -> Result<()> {
        self.marks.clear();
        self.exports.clear();
        let mut marks = Vec::new();
        for file in fs::read_dir(self.path)? {
            let file = file?.path();
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match Name::parse(name) {
                Some(Name::Mark(replica)) => marks.push((replica, file)),
                Some(Name::Batch { replica, export, part, parts }) => {
                    let found = self.exports.entry((replica, export)).or_default();
                    found.of = parts;
                    found.parts.insert(part, file);
                }
                None => self.remove_abandoned(name, &file),
            }
        }
        for (replica, file) in marks {
            match self.header(&file)? {
                Some(header) if replica == self.own => self.own_mark = Some(header),
                Some(header) if header.source == replica => drop(self.marks.insert(replica, header)),
                _ => {}
            }
        }
        let firsts: Vec<_> = self
            .exports
            .iter()
            .filter(|(_, export)| export.complete())
            .filter_map(|(name, export)| Some((name.clone(), export.parts.get(&0)?.clone())))
            .collect();
        for (name, file) in firsts {
            let header = self.header(&file)?.filter(|header| header.source == name.0);
            if let Some(export) = self.exports.get_mut(&name) {
                export.header = header;
            }
        }
        Ok(())
    }

    /// Of a batch; `None` for one that is gone or damaged, which is a failure of the sync in the end.
    fn header(&mut self, file: &Path) -> Result<Option<Header>> {
        let open = |path: &Path| Ok::<_, Error>(BufReader::new(fs::File::open(path)?));
        let read = || -> Result<(Header, Option<[u8; 16]>)> {
            let salt = batch::salt(&mut open(file)?)?;
            Ok((batch::header(Box::new(open(file)?), self.key.as_deref())?, salt))
        };
        match read() {
            Ok((header, salt)) => {
                self.salt = self.salt.or(salt);
                Ok(Some(header))
            }
            Err(error) if error.kind() == ErrorKind::WrongKey => Err(error.context(file.display())),
            // Its owner removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let mark = file.extension().is_some_and(|ending| ending == "mark");
                let error = if mark && error.kind() == ErrorKind::Sync {
                    Error::new(
                        ErrorKind::Sync,
                        "the mark is damaged; its owner writes it anew when it syncs, and if that store is gone, the file \
                         may be removed",
                    )
                } else {
                    error
                };
                self.failures.push(error.context(file.display()));
                Ok(None)
            }
        }
    }

    fn remove_abandoned(&self, name: &str, file: &Path) {
        let own = format!("{TEMPORARY}{}-", hex(&self.own));
        let age = || SystemTime::now().duration_since(file.metadata().ok()?.modified().ok()?).ok();
        if name.starts_with(&own) && age().is_some_and(|age| age > ABANDONED) {
            // Its time comes again.
            let _ = fs::remove_file(file);
        }
    }

    fn sync(mut self, report: &mut SyncReport, watch: &mut dyn Watch) -> Result<()> {
        if self.own_mark.is_some() {
            // A copy of this store that goes on by itself would leave its files under the same names.
            let mark = self.path.join(Name::Mark(self.own).text());
            self.apply(&mark, watch)?;
            self.withdraw()?;
        }
        self.receive(report, watch)?;
        self.check_clock()?;
        self.leave_behind()?;
        if self.is_current()? {
            self.send(report)?;
        }
        self.clean();
        self.write_mark()?;
        match self.failures.len() {
            0 => Ok(()),
            more => {
                let first = self.failures.swap_remove(0);
                let others =
                    if more > 1 { format!(" ({} more could not be applied)", more - 1) } else { String::new() };
                Err(Error::new(
                    first.kind(),
                    format!("{}{others}; everything else in the folder was applied", first.message()),
                ))
            }
        }
    }

    /// What this store says of itself.
    fn own_header(&self) -> Result<Header> {
        let (_, since) = self.store.watermark()?;
        let mut bytes = Vec::new();
        self.store.export_changes(&ExportChanges { since, ..ExportChanges::default() }, &mut bytes)?;
        batch::header(Box::new(bytes.as_slice()), None)
    }

    /// Who was away for longer than deletions are remembered must take a fresh copy: nobody waits for it. It is told when
    /// it comes.
    fn leave_behind(&mut self) -> Result<()> {
        if self.marks.is_empty() {
            return Ok(());
        }
        let own = self.own_header()?;
        self.marks.retain(|_, header| !is_stale(&header.upto, &own));
        Ok(())
    }

    /// False where this store is the one that was away; others would refuse what it sends.
    fn is_current(&mut self) -> Result<bool> {
        let (_, known) = self.store.watermark()?;
        if self.marks.values().all(|header| !is_stale(&known, header)) {
            return Ok(true);
        }
        self.failures.push(Error::new(
            ErrorKind::Sync,
            "this store has not synced for longer than another one in the folder remembers deletions, so it may hold what \
             was deleted; take a fresh copy of that one with backup(), and use it in its place",
        ));
        Ok(false)
    }

    /// What others would refuse is no success of this one.
    fn check_clock(&mut self) -> Result<()> {
        let (_, known) = self.store.watermark()?;
        let ahead = known.get(self.own).map_or(0, |own| own.millis.saturating_sub(Timestamp::now().millis()));
        if ahead > limits::CLOCK_SKEW_MILLIS {
            self.failures.push(Error::new(
                ErrorKind::ClockSkew,
                format!(
                    "this store's clock is {} seconds ahead of this machine's, and no peer takes what it stamps; set the \
                     machine's clock right, and where it ran ahead before, call reclock()",
                    ahead / 1000
                ),
            ));
        }
        Ok(())
    }

    /// Own exports of moments that were given up, for the clock had run ahead: nobody takes them.
    fn withdraw(&mut self) -> Result<()> {
        let (_, known) = self.store.watermark()?;
        let own = self.own;
        self.exports.retain(|(replica, _), export| {
            let past =
                export.header.as_ref().is_some_and(|header| header.upto.get(own).is_some_and(|end| !known.covers(end)));
            if *replica == own && past {
                remove(export);
            }
            *replica != own || !past
        });
        Ok(())
    }

    fn apply(&self, file: &Path, watch: &mut dyn Watch) -> Result<Applied> {
        let batch = BatchSource::File(file.to_owned());
        self.store.apply_changes(ApplyChanges { batch, key: self.key.clone() }, watch)
    }

    /// Applies what begins within what is known, until nothing does.
    fn receive(&mut self, report: &mut SyncReport, watch: &mut dyn Watch) -> Result<()> {
        let mut failed = BTreeSet::new();
        let own = self.own_header()?;
        loop {
            let (_, known) = self.store.watermark()?;
            let next = self.exports.iter().find(|(name, export)| {
                name.0 != self.own
                    && !failed.contains(*name)
                    && export.header.as_ref().is_some_and(|header| {
                        known.includes(&header.since)
                            && !known.includes(&without(&header.upto, self.own))
                            && !is_stale(&header.upto, &own)
                    })
            });
            let Some((name, export)) = next else { return Ok(()) };
            let (name, parts) = (name.clone(), export.parts.values().cloned().collect::<Vec<_>>());
            // Also one that did not bring what it says is not tried twice.
            failed.insert(name);
            let mut sum = Applied::default();
            for part in parts {
                match self.apply(&part, watch) {
                    Ok(applied) => sum = add(sum, applied),
                    // Its owner removed it.
                    Err(error) if error.kind() == ErrorKind::NotFound => break,
                    Err(error) if matches!(error.kind(), ErrorKind::Sync | ErrorKind::ClockSkew) => {
                        self.failures.push(error.context(part.display()));
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            count(report, &sum);
        }
    }

    /// What a replica that knows this would know of the files that are there.
    fn reach(&self, mark: &Watermark) -> Watermark {
        let mut reached = mark.clone();
        loop {
            let mut headers = self.exports.values().filter_map(|export| export.header.as_ref());
            let next = headers.find(|header| reached.includes(&header.since) && !reached.includes(&header.upto));
            match next {
                Some(header) => reached = reached.joined(&header.upto),
                None => return reached,
            }
        }
    }

    fn send(&mut self, report: &mut SyncReport) -> Result<()> {
        let (_, known) = self.store.watermark()?;
        // Where nobody else came yet, somebody may.
        let mut others: Vec<_> = self.marks.values().map(|header| header.upto.clone()).collect();
        if others.is_empty() {
            others.push(Watermark::default());
        }
        let all = |marks: Vec<Watermark>| marks.into_iter().reduce(|one, other| one.common(&other));
        let own = self.exports.keys().filter(|(replica, _)| *replica == self.own).count();
        let lacking: Vec<_> =
            others.iter().map(|mark| self.reach(mark)).filter(|mark| !mark.includes(&known)).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let merge = own >= EXPORTS;
        let Some(since) = all(if merge { others } else { lacking }) else { return Ok(()) };
        let request = ExportChanges {
            since,
            acknowledged: !self.marks.is_empty(),
            key: self.key.clone(),
            salt: self.salt,
            part_bytes: Some(limits::SYNC_PART_BYTES),
        };
        let mut files = Files::new(self.path, self.own);
        let exported = match self.store.export_changes(&request, &mut files) {
            Err(error) if error.kind() == ErrorKind::ClockSkew => {
                self.failures.push(error);
                return Ok(());
            }
            other => other?,
        };
        if exported.records == 0 {
            return Ok(());
        }
        let number = self
            .exports
            .keys()
            .filter(|(replica, _)| *replica == self.own)
            .filter_map(|(_, export)| export.split_once('-').and_then(|(number, _)| number.parse::<u64>().ok()));
        let number = number.max().unwrap_or(0) + 1;
        files.publish(number)?;
        report.sent += exported.sent;
        if merge {
            let old: Vec<_> = self.exports.iter().filter(|((replica, _), _)| *replica == self.own).collect();
            old.into_iter().for_each(|(_, export)| remove(export));
        }
        self.read()?;
        self.leave_behind()
    }

    /// Own exports that every other replica has, and those that were never finished.
    fn clean(&mut self) {
        for ((replica, _), export) in &self.exports {
            let had = export.header.as_ref().is_some_and(|header| {
                !self.marks.is_empty() && self.marks.values().all(|mark| mark.upto.includes(&header.upto))
            });
            if *replica == self.own && (had || !export.complete()) {
                remove(export);
            }
        }
    }

    /// Says what is known now, if that is more than before.
    fn write_mark(&self) -> Result<()> {
        let (_, known) = self.store.watermark()?;
        let forgotten = self.own_header()?.forgotten;
        if self.own_mark.as_ref().is_some_and(|header| header.upto == known && header.forgotten == forgotten) {
            return Ok(());
        }
        let request =
            ExportChanges { since: known, key: self.key.clone(), salt: self.salt, ..ExportChanges::default() };
        let mut files = Files::new(self.path, self.own);
        self.store.export_changes(&request, &mut files)?;
        match files.written.pop() {
            Some(file) => persist(file, &self.path.join(Name::Mark(self.own).text())),
            None => Err(Error::internal("an export without a batch")),
        }
    }
}

/// Whether a replica that knows this may hold what another one does not remember as deleted.
fn is_stale(known: &Watermark, other: &Header) -> bool {
    stale(known, &other.upto, &other.forgotten, &|replica| other.old.contains(&replica))
}

fn without(mark: &Watermark, replica: ReplicaId) -> Watermark {
    mark.iter().filter(|stamp| stamp.replica != replica).collect()
}

/// What others have read they do not need; what cannot be removed is tried again.
fn remove(export: &Export) {
    for file in export.parts.values() {
        let _ = fs::remove_file(file);
    }
}
