//! Which traces are of content that is there: a sentence that another document has, too, is no residue.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::error::Result;
use crate::sqlite::pulse::cancelled;
use crate::sqlite::sql;
use crate::sqlite::tables::fts::FtsTable;
use crate::sqlite::tables::vectors::{VectorTable, Walk};
use crate::sqlite::tables::{collections, fts_terms, spaces};
use crate::sqlite::txn::Progress;
use crate::traces::{Finder, Kind, Piece, Traces};
use crate::vector_index::CodesBuilder;

/// Vectors between two looks at the caller's wish.
const OFTEN: usize = 4_096;
/// The first bytes of a database.
const FILE_HEADER: &[u8] = b"SQLite format 3\0";

/// Those of the traces that any row of the store has: of tables, of vectors, and of the words of text indexes.
pub fn find(conn: &Connection, traces: &Traces, progress: &Progress) -> Result<HashSet<Piece, RandomState>> {
    let mut living = Living::new(conn, traces, progress);
    if traces.is_empty() {
        return Ok(living.found);
    }
    living.value(FILE_HEADER);
    living.tables()?;
    if living.all_found() {
        return Ok(living.found);
    }
    living.terms()?;
    let mut of_codes = traces.any(Kind::Code).then(|| Finder::new(traces));
    for collection in collections::list(conn)? {
        for table in spaces::list(conn, collection.id)?.iter().filter_map(spaces::SpaceRow::table) {
            living.vectors(table, of_codes.as_mut())?;
        }
    }
    Ok(living.found)
}

/// Those of the traces that are in words of text indexes: a common word would be found everywhere.
pub fn words(conn: &Connection, traces: &Traces, progress: &Progress) -> Result<HashSet<Piece, RandomState>> {
    let mut living = Living::new(conn, traces, progress);
    if traces.any(Kind::Term) {
        living.terms()?;
    }
    Ok(living.found)
}

struct Living<'l> {
    wanted: usize,
    conn: &'l Connection,
    finder: Finder<'l>,
    progress: &'l Progress,
    found: HashSet<Piece, RandomState>,
}

fn note(finder: &mut Finder<'_>, bytes: &[u8], found: &mut HashSet<Piece, RandomState>) {
    finder.block(bytes, &mut |piece, _| {
        found.insert(piece);
    });
}

impl<'l> Living<'l> {
    fn new(conn: &'l Connection, traces: &'l Traces, progress: &'l Progress) -> Self {
        Self { wanted: traces.len(), conn, finder: Finder::new(traces), progress, found: HashSet::default() }
    }

    fn value(&mut self, bytes: &[u8]) {
        self.finder.begin();
        note(&mut self.finder, bytes, &mut self.found);
    }

    /// There is no more to look for.
    fn all_found(&self) -> bool {
        self.found.len() == self.wanted
    }

    fn check(&self) -> Result<()> {
        if self.progress.cancelled.load(Ordering::Relaxed) { Err(cancelled()) } else { Ok(()) }
    }

    /// Every value of every table, with the schema, but for statistics and for what virtual tables are made of: there
    /// may be something in it that is nobody's. Their settings are words of SQLite's.
    fn tables(&mut self) -> Result<()> {
        let text = "SELECT name FROM pragma_table_list
                    WHERE schema = 'main' AND type = 'table' AND name NOT GLOB 'sqlite_stat*'
                    AND (name NOT GLOB 'vec_[0-9]*_[0-9]*_*' OR name GLOB '*_info')
                    AND (name NOT GLOB 'fts_[0-9]*_[0-9]*_*' OR name GLOB '*_config')";
        let names: Vec<String> = sql::query_all(self.conn, text, [], |row| row.get(0))?;
        for name in names {
            // Of the schema itself, not a caller's.
            let quoted = name.replace('"', "\"\"");
            let mut statement = self.conn.prepare(&format!("SELECT * FROM main.\"{quoted}\""))?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                for column in 0..columns {
                    if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(column)? {
                        self.value(bytes);
                    }
                }
                self.check()?;
                if self.all_found() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn terms(&mut self) -> Result<()> {
        for collection in collections::list(self.conn)? {
            let table = FtsTable { collection_id: collection.id, generation: collection.fts_generation };
            fts_terms::living(self.conn, table, &mut |term| {
                self.value(term);
                self.check()
            })?;
        }
        Ok(())
    }

    /// Codes are asked of vectors only where one was found: it takes longer. Vectors lie one behind the other, and so do
    /// codes: of vectors of a few numbers, a trace may lie across two of them.
    fn vectors(&mut self, table: VectorTable, mut of_codes: Option<&mut Finder<'_>>) -> Result<()> {
        let mut walk = Walk::new(self.conn, table);
        let mut after = i64::MIN;
        self.finder.begin();
        if let Some(finder) = &mut of_codes {
            finder.begin();
        }
        loop {
            let read = walk.range((after, i64::MAX), OFTEN, &mut |row, vector| {
                after = row;
                note(&mut self.finder, bytemuck::cast_slice(vector), &mut self.found);
                if let Some(finder) = &mut of_codes {
                    let mut coded = CodesBuilder::new(table.dimension, table.metric, 1);
                    coded.push(vector)?;
                    note(finder, &coded.finish()?.components()[..table.dimension], &mut self.found);
                }
                Ok(())
            })?;
            self.check()?;
            if read == 0 || self.all_found() {
                return Ok(());
            }
        }
    }
}
