//! Reads what can be read of a damaged file into a new one. Rows are taken as they are, by their rowids around pages that
//! are broken; what is derived is built anew, and what does not fit together is repaired as in place.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::lose;
use super::rows::{COPIED, Copied, Order, TOKENIZER, bound, describe, mend, statement, values};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContentHash, RepairReport};
use crate::sqlite::migrate;
use crate::sqlite::ops::check::{self, is_outside};
use crate::sqlite::schema;
use crate::sqlite::sql;
use crate::sqlite::tables;
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tokenizer::TokenizerSpec;
use crate::sqlite::txn::{Progress, Txn};

/// Ranges of rowids of one table that are tried before the rest of it is given up.
const RANGES: usize = 4096;

/// Fills a new store, in its open transaction, from a file that may be damaged anywhere.
pub fn run(source: &Connection, txn: &mut Txn<'_>, progress: &Progress) -> Result<RepairReport> {
    if !has_content(source)? {
        return Err(Error::new(ErrorKind::Corrupt, "nothing of a store can be read; restore a backup"));
    }
    let format = match migrate::older(source) {
        Err(error) if is_outside(&error) => return Err(error),
        // Of which format a file is that damaged is not to be known.
        found => found.ok().flatten(),
    };
    let mut salvage = Salvage { source, conn: txn.conn, progress, format, report: RepairReport::default() };
    let total = source.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap_or(0u64);
    progress.total.store(total, Ordering::Relaxed);
    for table in &COPIED {
        salvage.table(table)?;
    }
    salvage.identity()?;
    salvage.homeless()?;
    salvage.texts()?;
    salvage.spaces()?;
    salvage.sequences()?;
    let mut report = salvage.report;
    if let Some(latest) = super::latest(txn.conn)?.filter(|latest| *latest < super::LAST) {
        txn.raise_clock(latest);
        tables::meta::set_clock(txn.conn, txn.clock())?;
    }
    super::embedding_cache(txn.conn)?;
    let repaired = super::run(txn, progress)?;
    report.rebuilt.extend(repaired.rebuilt.into_iter().filter(|what| !what.starts_with("the text index of")));
    report.lost.extend(repaired.lost);
    rehash(txn, &mut report)?;
    tables::changes::renew_tags(txn.conn, txn.stamp())?;
    Ok(report)
}

/// Whether there is one of the tables that everything else is about.
pub fn has_content(source: &Connection) -> Result<bool> {
    for name in ["collections", "documents", "chunks"] {
        if schema::is_fixed_table(source, name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) struct Salvage<'a> {
    pub source: &'a Connection,
    pub conn: &'a Connection,
    pub progress: &'a Progress,
    /// That of a file that is older than this version.
    pub format: Option<usize>,
    pub report: RepairReport,
}

impl Salvage<'_> {
    pub fn keep_going(&self) -> Result<()> {
        if self.progress.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller; no file was made"));
        }
        self.progress.done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes every row of a table that can be read.
    fn table(&mut self, table: &Copied) -> Result<()> {
        let name = table.name;
        if !schema::is_fixed_table(self.source, name)? {
            if self.format.is_some_and(|format| migrate::is_later(format, name)) {
                // A file of that format has no such rows.
                return Ok(());
            }
            self.report.lost.push(format!("the table {name}: its definition is not there or not this format's"));
            return Ok(());
        }
        let insert = statement(table);
        let (mut taken, mut altered, mut refused) = (0, Vec::new(), Vec::new());
        let conn = self.conn;
        let mut sink = |mut values: Vec<Value>| -> Result<()> {
            let fits = |values: &[Value]| -> Result<bool> {
                match sql::execute(conn, &insert, params_from_iter(values)) {
                    Ok(rows) => Ok(rows > 0),
                    Err(error) if is_outside(&error) => Err(error),
                    // A constraint does not take it, or what a constraint asks.
                    Err(_) => Ok(false),
                }
            };
            let before = values.clone();
            // A second time with what can be made up.
            if bound(name, &mut values) && (fits(&values)? || (mend(name, &mut values) && fits(&values)?)) {
                taken += 1;
                if values != before {
                    altered.push(describe(&before));
                }
            } else {
                refused.push(describe(&values));
            }
            Ok(())
        };
        let whole = match table.order {
            Order::Id(id) => self.walk(table, id, &mut sink)?,
            Order::Key(columns) => self.scan(table, columns, &mut sink)?,
        };
        self.report.salvaged.push((name.to_owned(), taken));
        lose(&mut self.report, &format!("values of rows of {name} that no store has, of"), &altered);
        lose(&mut self.report, &format!("rows of {name} that are no rows of a store"), &refused);
        if !whole {
            self.missing(table)?;
        }
        Ok(())
    }

    /// By rowid, around what cannot be read. Says whether there was nothing of that.
    pub fn walk(&self, table: &Copied, id: &str, sink: &mut dyn FnMut(Vec<Value>) -> Result<()>) -> Result<bool> {
        let columns = table.columns.join(", ");
        let text = |order: &str| {
            format!("SELECT {id}, {columns} FROM {} WHERE {id} BETWEEN ?1 AND ?2 ORDER BY {id} {order}", table.name)
        };
        let (up, down) = (text("ASC"), text("DESC"));
        let mut ranges = vec![(1i64, i64::MAX)];
        let (mut tried, mut whole) = (0, true);
        while let Some((first, last)) = ranges.pop() {
            tried += 1;
            self.keep_going()?;
            let Some(first) = self.range(&up, first, last, false, sink)? else { continue };
            whole = false;
            let Some(last) = self.range(&down, first, last, true, sink)? else { continue };
            if first >= last || tried >= RANGES {
                continue;
            }
            let middle = first + (last - first) / 2;
            ranges.push((middle + 1, last));
            ranges.push((first, middle));
        }
        Ok(whole)
    }

    /// Reads from one end of a range; the rowid at which it could not go on.
    fn range(
        &self,
        text: &str,
        first: i64,
        last: i64,
        down: bool,
        sink: &mut dyn FnMut(Vec<Value>) -> Result<()>,
    ) -> Result<Option<i64>> {
        let mut next = if down { last } else { first };
        let mut statement = match sql::prepare(self.source, text) {
            Ok(statement) => statement,
            Err(error) if is_outside(&error) => return Err(error),
            Err(_) => return Ok(None),
        };
        let mut rows = statement.query([first, last])?;
        loop {
            match rows.next() {
                Ok(None) => return Ok(None),
                Ok(Some(row)) => {
                    let Ok(id) = row.get::<_, i64>(0) else { return Ok(Some(next)) };
                    // A tree that leads in a circle goes back.
                    if (down && id > next) || (!down && id < next) {
                        return Ok(Some(next));
                    }
                    sink(values(row)?)?;
                    if id == if down { first } else { last } {
                        return Ok(None);
                    }
                    next = if down { id - 1 } else { id + 1 };
                }
                Err(error) if refuses(&error) => return Err(error.into()),
                Err(_) => return Ok(Some(next)),
            }
        }
    }

    /// From both ends, for a table that has no rowids.
    fn scan(&self, table: &Copied, key: usize, sink: &mut dyn FnMut(Vec<Value>) -> Result<()>) -> Result<bool> {
        let columns = table.columns.join(", ");
        let mut seen = BTreeSet::new();
        for order in ["ASC", "DESC"] {
            let by: Vec<String> = table.columns.iter().take(key).map(|column| format!("{column} {order}")).collect();
            let text = format!("SELECT {columns} FROM {} ORDER BY {}", table.name, by.join(", "));
            let Ok(mut statement) = sql::prepare(self.source, &text) else { return Ok(false) };
            let mut rows = statement.query([])?;
            loop {
                match rows.next() {
                    Ok(None) => return Ok(order == "ASC"),
                    Ok(Some(row)) => {
                        let values = values(row)?;
                        if !seen.insert(format!("{:?}", &values[..key])) {
                            break;
                        }
                        sink(values)?;
                    }
                    Err(error) if refuses(&error) => return Err(error.into()),
                    Err(_) => break,
                }
            }
        }
        Ok(false)
    }

    /// What an index still names of the rows that could not be read.
    fn missing(&mut self, table: &Copied) -> Result<()> {
        let name = table.name;
        if !matches!(name, "documents" | "chunks") {
            self.report.lost.push(format!("rows of {name} on pages that cannot be read"));
            return Ok(());
        }
        let mut names = BTreeSet::new();
        for order in ["ASC", "DESC"] {
            let text = format!(
                "SELECT id, uid FROM {name} INDEXED BY sqlite_autoindex_{name}_1
                 ORDER BY collection_id {order}, uid {order}"
            );
            let Ok(mut statement) = sql::prepare(self.source, &text) else { break };
            let mut rows = statement.query([])?;
            let mut last = None;
            while let Ok(Some(row)) = rows.next() {
                let (Ok(id), Ok(uid)) = (row.get::<_, i64>(0), row.get::<_, String>(1)) else { continue };
                if last.replace(uid.clone()) == Some(uid.clone()) && names.contains(&uid) {
                    break;
                }
                let there = format!("SELECT EXISTS (SELECT 1 FROM {name} WHERE id = ?1)");
                if !sql::query_one(self.conn, &there, [id], |row| row.get::<_, bool>(0))? {
                    names.insert(uid);
                }
            }
        }
        let names: Vec<String> = names.into_iter().collect();
        if names.is_empty() {
            self.report.lost.push(format!("rows of {name} on pages that cannot be read"));
        }
        lose(&mut self.report, &format!("{name} on pages that cannot be read"), &names);
        Ok(())
    }

    /// The store is the one that it was, as another replica: what it lost, others may have.
    fn identity(&mut self) -> Result<()> {
        let text = "SELECT value FROM meta WHERE key = 'store_id'";
        let found = sql::query_optional(self.source, text, [], |row| row.get::<_, [u8; 16]>(0));
        match found {
            Ok(Some(id)) => {
                tables::meta::put(self.conn, "store_id", &id)?;
                super::origin(self.source, self.conn)
            }
            Err(error) if is_outside(&error) => Err(error),
            _ => {
                self.report.lost.push("the identity of the store; it has a new one".to_owned());
                Ok(())
            }
        }
    }

    /// Collections for rows whose collection is lost.
    fn homeless(&mut self) -> Result<()> {
        let mut lost: BTreeSet<i64> = BTreeSet::new();
        for table in ["documents", "chunks"] {
            let text = format!(
                "SELECT DISTINCT collection_id FROM {table} WHERE collection_id NOT IN (SELECT id FROM collections)"
            );
            lost.extend(sql::query_all(self.conn, &text, [], |row| row.get::<_, i64>(0))?);
        }
        let mut names = Vec::new();
        for id in lost {
            let name = format!("recovered-{id}");
            // What cannot be a number of a collection gets another.
            let own = (1..i64::MAX / 2).contains(&id).then_some(id);
            let text =
                "INSERT INTO collections (id, name, tokenizer, created_at, hlc) VALUES (?1, ?2, ?3, 0, zeroblob(24))";
            sql::execute(self.conn, text, rusqlite::params![own, name, TOKENIZER])?;
            let new = self.conn.last_insert_rowid();
            for table in ["documents", "chunks"].iter().filter(|_| own.is_none()) {
                let text = format!("UPDATE {table} SET collection_id = ?2 WHERE collection_id = ?1");
                sql::execute(self.conn, &text, [id, new])?;
            }
            names.push(name);
        }
        lose(&mut self.report, "the name and the settings of collections, which are now called", &names);
        for table in ["relations", "fields"] {
            let text = format!("DELETE FROM {table} WHERE collection_id NOT IN (SELECT id FROM collections)");
            sql::execute(self.conn, &text, [])?;
        }
        Ok(())
    }

    /// A text index for each collection.
    fn texts(&mut self) -> Result<()> {
        let mut unread = Vec::new();
        for collection in tables::collections::list(self.conn)? {
            let id = collection.id;
            let spec = match TokenizerSpec::parse(&collection.tokenizer) {
                Ok(spec) => spec,
                Err(_) => {
                    unread.push(collection.name.clone());
                    TokenizerSpec::parse(TOKENIZER)?
                }
            };
            tables::collections::set_tokenizer(self.conn, id, &spec.as_text(), 1)?;
            let table = FtsTable { collection_id: id, generation: 1 };
            fts::create_view(self.conn, id)?;
            fts::create(self.conn, table, &spec)?;
            for row in tables::chunks::rows_of_collection(self.conn, id)? {
                self.keep_going()?;
                fts::copy(self.conn, table, row)?;
            }
            self.report.rebuilt.push(format!("the text index of collection {:?}", collection.name));
        }
        lose(&mut self.report, &format!("the tokenizers of collections, which now have {TOKENIZER:?}"), &unread);
        Ok(())
    }

    /// Numbers that the old file gave are not given again.
    fn sequences(&mut self) -> Result<()> {
        let text = "SELECT name, seq FROM sqlite_sequence";
        let Ok(mut statement) = sql::prepare(self.source, text) else { return Ok(()) };
        let mut rows = statement.query([])?;
        while let Ok(Some(row)) = rows.next() {
            if let (Ok(name), Ok(seq)) = (row.get::<_, String>(0), row.get::<_, i64>(1)) {
                // One that leaves no number is no number that was given.
                if seq < i64::MAX / 2 && check::NUMBERED.iter().any(|(table, _)| *table == name) {
                    let text = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
                    sql::execute(self.conn, text, rusqlite::params![name, seq])?;
                }
            }
        }
        Ok(())
    }
}

/// Whether an error says nothing of the file.
fn refuses(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::OperationInterrupted
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
        )
    )
}

/// Hashes what is there, and says where it is not what was stored.
fn rehash(txn: &mut Txn<'_>, report: &mut RepairReport) -> Result<()> {
    let conn = txn.conn;
    let (mut texts, mut documents) = (Vec::new(), Vec::new());
    let rows: Vec<i64> = sql::query_all(conn, "SELECT id FROM chunks ORDER BY id", [], |row| row.get(0))?;
    for id in rows {
        let text = "SELECT uid, content, content_hash FROM chunks WHERE id = ?1";
        let (uid, content, stored): (String, Option<String>, Option<Vec<u8>>) =
            sql::query_one(conn, text, [id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let hash = content.as_deref().map(|text| ContentHash::of_text(text).0.to_vec());
        if hash != stored {
            sql::execute(conn, "UPDATE chunks SET content_hash = ?2 WHERE id = ?1", rusqlite::params![id, hash])?;
            texts.push(uid);
        }
    }
    let rows: Vec<i64> = sql::query_all(conn, "SELECT id FROM documents ORDER BY id", [], |row| row.get(0))?;
    for id in rows {
        if let Some(uid) = super::content::rehash(conn, id)? {
            documents.push(uid);
        }
    }
    lose(report, "the text, as it was stored, of chunks", &texts);
    lose(report, "the content, as it was stored, of documents", &documents);
    Ok(())
}
