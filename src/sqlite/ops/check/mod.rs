//! Everything that must hold in a file. Each area is looked at by itself: what SQLite says of a broken page is a problem
//! of the area that met it, and ends that area alone.

mod catalog;
mod feed;
mod fields;
mod file;
mod rows;
mod text;
mod vectors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use rusqlite::Connection;

use self::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Area, CheckReport, Problem, check_numbers};
use crate::request::Check;
use crate::sqlite::migrate;
use crate::sqlite::pulse::cancelled;
use crate::sqlite::sql;
use crate::sqlite::txn::Progress;

pub use self::feed::{LIVING, NUMBERED, sound_vector};
pub use self::rows::Places;
pub use self::vectors::chunk_rows;

/// Problems of one area that are named; the others are counted.
const NAMED: usize = 20;

/// What repair does about a problem, in this order: each works on what those before it leave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// Make the indexes anew.
    Reindex,
    /// Make a table or an index of the format.
    Make(String),
    /// Give chunks that have no document in their collection one.
    Orphans,
    /// Put an object in the place of metadata that is none.
    DocumentMetadata(i64),
    ChunkMetadata(i64),
    /// Compute the places of a chunk in its document's text, or forget them.
    Places(i64),
    /// Forget that documents were deleted that are there.
    Tombstones,
    /// Let relations wait whose ends are not there.
    Relations,
    /// Make the view of a collection.
    View(i64),
    /// Build the next generation of the text index of a collection.
    Text(i64),
    /// Build the next generation of the vectors of a space.
    Vectors(i64),
    /// Read the fields of a collection from its metadata.
    Fields(i64),
    /// Remove values of fields or of chunks that are not there.
    FieldsOfNothing,
    /// Remove cached vectors that are none, and count the others.
    EmbeddingCache,
    /// Move the numbers of new rows up to those that were given.
    Sequences,
    /// Move the clock up to what it has stamped.
    Clock,
    /// Drop a numbered table that belongs to nothing. After what may still read it.
    Drop(String),
    /// A new file takes it; in place it cannot be done.
    Salvage,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Findings {
    problems: Vec<Problem>,
    counts: BTreeMap<Area, usize>,
    unnamed: BTreeMap<Area, (usize, bool)>,
    /// What helps, also against what is not named.
    pub remedies: BTreeSet<Remedy>,
}

impl Findings {
    /// A problem that nothing but its owner can solve.
    pub fn broken(&mut self, area: Area, what: impl Into<String>) {
        self.push(Problem { area, what: what.into(), repairable: false });
    }

    /// A problem that is solved without loss.
    pub fn repairable(&mut self, area: Area, what: impl Into<String>, remedy: Remedy) {
        self.remedies.insert(remedy);
        self.push(Problem { area, what: what.into(), repairable: true });
    }

    /// A problem that is solved, and something is lost.
    pub fn lossy(&mut self, area: Area, what: impl Into<String>, remedy: Remedy) {
        self.remedies.insert(remedy);
        self.push(Problem { area, what: what.into(), repairable: false });
    }

    fn push(&mut self, problem: Problem) {
        let count = self.counts.entry(problem.area).or_default();
        *count += 1;
        if *count <= NAMED {
            self.problems.push(problem);
        } else {
            let (more, repairable) = self.unnamed.entry(problem.area).or_insert((0, true));
            *more += 1;
            *repairable &= problem.repairable;
        }
    }

    /// As callers see it.
    pub fn report(mut self) -> CheckReport {
        for (area, (more, repairable)) in self.unnamed {
            self.problems.push(Problem { area, what: format!("and {more} more of this kind"), repairable });
        }
        self.problems.sort_by_key(|problem| problem.area);
        CheckReport { problems: self.problems }
    }
}

/// Looks at everything in the snapshot of `conn`.
///
/// # Errors
/// What says nothing of the file: `Cancelled`, `Locked`.
pub fn run(conn: &Connection, request: &Check, progress: &Progress) -> Result<CheckReport> {
    let keep_going = || wanted(progress);
    let checker =
        Checker { conn, quick: request.quick, progress, keep_going: &keep_going, findings: Findings::default() };
    Ok(checker.run()?.report())
}

/// Looks at what a copy of every page has of the damage of the file that it was made of, and what is quick to find: SQLite's
/// pages, the tables of the format, the rows of the text indexes, and the vectors. The tables of an older format are not
/// compared.
///
/// # Errors
/// As of [`run`].
pub fn copy(conn: &Connection, progress: &Progress) -> Result<CheckReport> {
    let keep_going = || wanted(progress);
    let mut checker = Checker { conn, quick: true, progress, keep_going: &keep_going, findings: Findings::default() };
    checker.area(Area::File, file::pages)?;
    if migrate::older(conn)?.is_none() {
        let mut catalog = Catalog::default();
        checker.area(Area::Schema, |checker| catalog::read(checker, &mut catalog))?;
        checker.area(Area::Text, |checker| text::indexes(checker, &catalog))?;
        // Reading every vector takes little beside the trees.
        checker.quick = false;
        for space in &catalog.spaces {
            checker.area(Area::Vectors, |checker| vectors::space(checker, space))?;
        }
    }
    Ok(checker.findings.report())
}

fn wanted(progress: &Progress) -> Result<()> {
    match progress.cancelled.load(Ordering::Relaxed) {
        true => Err(cancelled()),
        false => Ok(()),
    }
}

/// What a check looks at, and how far it is.
pub struct Checker<'a> {
    pub conn: &'a Connection,
    pub quick: bool,
    pub progress: &'a Progress,
    /// Fails where the caller wants no more of it.
    pub keep_going: &'a dyn Fn() -> Result<()>,
    pub findings: Findings,
}

impl Checker<'_> {
    /// Looks at everything. Of an older format, whose tables are others, at what SQLite sees alone.
    ///
    /// # Errors
    /// `Cancelled`, and what else says nothing of the file.
    pub fn run(mut self) -> Result<Findings> {
        self.count()?;
        self.area(Area::File, file::pages)?;
        if self.is_older()? {
            self.area(Area::File, file::foreign_keys)?;
            return Ok(self.findings);
        }
        let mut catalog = Catalog::default();
        self.area(Area::Schema, |checker| catalog::read(checker, &mut catalog))?;
        self.area(Area::Collections, |checker| catalog::collections(checker, &catalog))?;
        self.area(Area::File, file::foreign_keys)?;
        self.area(Area::Documents, rows::documents)?;
        self.area(Area::Chunks, rows::chunks)?;
        self.area(Area::Text, |checker| text::indexes(checker, &catalog))?;
        for space in &catalog.spaces {
            self.area(Area::Vectors, |checker| vectors::space(checker, space))?;
        }
        self.area(Area::Fields, |checker| fields::values(checker, &catalog))?;
        self.area(Area::Feed, feed::changes)?;
        self.area(Area::Feed, feed::clock)?;
        self.area(Area::Feed, feed::sequences)?;
        self.area(Area::EmbeddingCache, feed::embedding_cache)?;
        self.area(Area::Relations, feed::relations)?;
        self.area(Area::State, feed::state)?;
        Ok(self.findings)
    }

    /// Whether the file has an older format, which is said.
    fn is_older(&mut self) -> Result<bool> {
        match migrate::older(self.conn) {
            Ok(None) => Ok(false),
            Ok(Some(format)) => {
                self.findings.push(Problem {
                    area: Area::Format,
                    what: format!(
                        "the file has format {format}, and this version {}: that is no damage, but what this version \
                         checks is not all there yet; open it for writing once, which brings it forward, and check again",
                        migrate::FORMAT
                    ),
                    repairable: true,
                });
                Ok(true)
            }
            Err(error) if is_outside(&error) => Err(error),
            Err(error) => {
                self.findings.broken(Area::File, sql::plain(&error));
                Ok(false)
            }
        }
    }

    /// Looks at one area; what it meets is its problem, unless it says nothing of the file.
    fn area(&mut self, area: Area, look: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        (self.keep_going)()?;
        match look(self) {
            Ok(()) => Ok(()),
            Err(error) if is_outside(&error) => Err(error),
            Err(error) => {
                self.findings.broken(area, format!("reading ended early: {}", sql::plain(&error)));
                Ok(())
            }
        }
    }

    /// So many units of the total are done.
    pub fn done(&self, units: u64) -> Result<()> {
        self.progress.done.fetch_add(units, Ordering::Relaxed);
        (self.keep_going)()
    }

    /// What is to be done: a unit for each page, and one for each row by each pass over it.
    fn count(&mut self) -> Result<()> {
        let mut total = self.pages();
        let passes: &[(&str, u64)] = if self.quick {
            &[("documents", 1), ("chunks", 1)]
        } else {
            &[("documents", 1), ("chunks", 3), ("changes", 1), ("embedding_cache", 1)]
        };
        for (table, passes) in passes {
            // The greatest rowid is found at once and is no less than the number of rows.
            let text = format!("SELECT coalesce(max(rowid), 0) FROM {table}");
            match sql::query_one(self.conn, &text, [], |row| row.get::<_, i64>(0)) {
                Ok(rows) => total += passes * u64::try_from(rows).unwrap_or(0),
                Err(error) if is_outside(&error) => return Err(error),
                // The area says it.
                Err(_) => {}
            }
        }
        self.progress.done.store(0, Ordering::Relaxed);
        self.progress.total.store(total, Ordering::Relaxed);
        Ok(())
    }

    fn pages(&self) -> u64 {
        self.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap_or(0)
    }
}

/// Whether an error is of the call or the system, not of what is stored.
pub fn is_outside(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Cancelled | ErrorKind::Locked | ErrorKind::Closed | ErrorKind::Fork | ErrorKind::StoreFull
    )
}

/// Rows between two looks at the caller's wish.
const STRIDE: u64 = 256;

/// Counts rows, and passes them on in strides.
#[derive(Default)]
struct Stride(u64);

impl Stride {
    fn row(&mut self, checker: &Checker<'_>) -> Result<()> {
        self.0 += 1;
        if self.0.is_multiple_of(STRIDE) { checker.done(STRIDE) } else { Ok(()) }
    }
}

/// A JSON object of no more than the stored size; why it is none.
pub fn is_object(text: &str) -> std::result::Result<(), String> {
    if text == "{}" {
        return Ok(());
    }
    let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    check_numbers(map.values()).map_err(|e| e.to_string())
}
