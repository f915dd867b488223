//! Every file of a store, byte by byte. The database and its log are read through SQLite's own descriptors: one of ours
//! would drop the locks of this process when it closes. Of an encrypted store the pages are read as SQLite decrypts
//! them: that is what the holder of the key could find.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use rusqlite::Connection;

use super::living;
use crate::error::Result;
use crate::model::Residue;
use crate::sqlite::derived;
use crate::sqlite::ffi::{self, Part};
use crate::sqlite::log;
use crate::sqlite::pulse::cancelled;
use crate::sqlite::sql;
use crate::sqlite::txn::Progress;
use crate::traces::{Finder, Kind, Piece, Traces};

/// Bytes read at once.
const BLOCK: usize = 1 << 20;

/// What a search found.
pub struct Searched {
    pub files: u64,
    pub bytes: u64,
    /// Traces that are of other content, too.
    pub shared: u64,
    pub remains: Vec<Residue>,
    /// The traces that remain.
    pub left: Traces,
}

/// What is in the files, whosever it is.
pub struct Found {
    files: Vec<PathBuf>,
    bytes: u64,
    words: usize,
    /// The traces that are in a file.
    traces: Traces,
    /// By file and piece, how often.
    places: HashMap<(usize, Piece), (Kind, u64), RandomState>,
}

/// Searches the files of a store for traces.
pub fn run(conn: &Connection, file: &Path, encrypted: bool, traces: &Traces, progress: &Progress) -> Result<Found> {
    // The log is open once something was read.
    conn.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    let words = living::words(conn, traces, progress)?;
    let traces = &traces.without(&words);
    let mut search =
        Search { conn, finder: Finder::new(traces), progress, files: Vec::new(), found: HashMap::default(), bytes: 0 };
    let snapshots = derived::files(file);
    let sizes = snapshots.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len());
    let own = ffi::length(conn, Part::Database)? + ffi::length(conn, Part::Log)?;
    progress.total.store(own + sizes.sum::<u64>(), Ordering::Relaxed);
    search.database(file, encrypted)?;
    let mut looked_at = BTreeSet::new();
    // Until there is none that came meanwhile.
    while let Some(path) = derived::files(file).into_iter().find(|path| !looked_at.contains(path)) {
        search.snapshot(path.clone())?;
        looked_at.insert(path);
    }
    let Search { files, found, bytes, .. } = search;
    let traces = traces.only(found.keys().map(|(_, piece)| *piece));
    Ok(Found { files, bytes, words: words.len(), traces, places: found })
}

/// Drops what is of content that is there. To be called on a later snapshot than that of the search: what came meanwhile
/// is content, too.
pub fn judge(conn: &Connection, found: Found, progress: &Progress) -> Result<Searched> {
    let Found { files, bytes, words, traces, places } = found;
    let living = living::find(conn, &traces, progress)?;
    let left = traces.without(&living);
    let mut counts: HashMap<(usize, Kind), u64> = HashMap::new();
    for ((file, piece), (kind, count)) in places {
        if !living.contains(&piece) {
            *counts.entry((file, kind)).or_default() += count;
        }
    }
    let mut remains: Vec<Residue> = counts
        .into_iter()
        .map(|((at, kind), count)| Residue { file: files[at].clone(), kind: kind.as_str(), count })
        .collect();
    remains.sort_by(|a, b| (&a.file, a.kind).cmp(&(&b.file, b.kind)));
    Ok(Searched { files: files.len() as u64, bytes, shared: (words + living.len()) as u64, remains, left })
}

struct Search<'s> {
    conn: &'s Connection,
    finder: Finder<'s>,
    progress: &'s Progress,
    files: Vec<PathBuf>,
    /// By file and piece, how often.
    found: HashMap<(usize, Piece), (Kind, u64), RandomState>,
    bytes: u64,
}

impl Search<'_> {
    fn begin(&mut self, path: PathBuf) {
        self.finder.begin();
        self.files.push(path);
    }

    fn block(&mut self, bytes: &[u8]) -> Result<()> {
        let at = self.files.len().saturating_sub(1);
        let found = &mut self.found;
        self.finder.block(bytes, &mut |piece, kind| found.entry((at, piece)).or_insert((kind, 0)).1 += 1);
        self.bytes += bytes.len() as u64;
        self.progress.done.store(self.bytes, Ordering::Relaxed);
        if self.progress.cancelled.load(Ordering::Relaxed) { Err(cancelled()) } else { Ok(()) }
    }

    fn database(&mut self, file: &Path, encrypted: bool) -> Result<()> {
        self.begin(file.to_owned());
        if encrypted {
            return self.pages();
        }
        self.part(Part::Database)?;
        self.begin(log::path(file));
        self.part(Part::Log)
    }

    fn part(&mut self, part: Part) -> Result<()> {
        let mut buffer = vec![0; BLOCK];
        let (mut at, length) = (0, ffi::length(self.conn, part)?);
        while at < length {
            let bytes = usize::try_from(length - at).map_or(BLOCK, |left| left.min(BLOCK));
            // What was cut off meanwhile is zeros.
            ffi::read_at(self.conn, part, at, &mut buffer[..bytes])?;
            self.block(&buffer[..bytes])?;
            at += bytes as u64;
        }
        Ok(())
    }

    /// Every page, free ones too, as it is in the file or in the log.
    fn pages(&mut self) -> Result<()> {
        let conn = self.conn;
        let mut statement = sql::prepare(conn, "SELECT data FROM sqlite_dbpage ORDER BY pgno")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            self.block(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, path: PathBuf) -> Result<()> {
        let header = derived::header_length(&path).unwrap_or(0);
        let mut file = match File::open(&path) {
            // Another took its place.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        self.begin(path);
        self.bytes += file.seek(SeekFrom::Start(header))?;
        let mut buffer = vec![0; BLOCK];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                bytes => self.block(&buffer[..bytes])?,
            }
        }
    }
}
